"""Events: from a real libvirtd as they happen, and every kind as virsh prints it."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvm
import unix
from kvm import Hypervisor
from kvm.events import Event, Events, OfLibvirt, OfQemu
from kvm.groups.domain.events import KINDS, READER
from kvm.groups.network import _EVENTS as OF_NETWORKS
from kvm.groups.nodedev import _EVENTS as OF_DEVICES
from kvm.groups.pool import _EVENTS as OF_POOLS
from kvm.groups.secret import _EVENTS as OF_SECRETS
from libvirtd import Libvirtd
from sshd import Sshd
from waiting import wait_until

HOSTILE = [
    "a': Started Booted",
    "event 'lifecycle' for domain 'b': Stopped Destroyed",
    "' disk vda: a -> b: changed",
    "x\u2028\x85 日本 ''",
    "--loop",
    "7",
]

LIFE = [
    ("Resumed", "Unpaused"),
    ("Started", "Booted"),
    ("Shutdown", "Finished after host request"),
    ("Stopped", "Destroyed"),
]


def guest(name: str) -> dict[str, Any]:
    return {"@type": "qemu", "name": name, "memory": 8192, "os": {"type": {"@arch": "x86_64", "#text": "hvm"}}}


def listeners(uri: str | None) -> list[int]:
    """The virshes that listen to a hypervisor."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            words = (each / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if each.name.isdecimal() and "virsh" in words[0] and f"--connect={uri}" in words:
                found += [int(each.name)] if any(re.search("(^|; )(net-)?event ", word) for word in words) else []
    return found


def events_until(events: Events[Any], kind: str) -> Iterator[Event[Any]]:
    """The events up to the first of a kind."""
    for event in events:
        yield event
        if event.kind == kind:
            return
    raise AssertionError(kind)


@pytest.fixture
def domain(hypervisor: Hypervisor) -> Iterator[str]:
    """A domain that runs, without an operating system."""
    hypervisor.domain.create(guest("events"))
    yield "events"
    with suppress(kvm.NotFoundError):
        hypervisor.domain.destroy("events")


# -- from libvirt -----------------------------------------------------------------------------------------------------


def test_what_happens_after_the_call_is_told_with_names_as_they_are(hypervisor: Hypervisor) -> None:
    before = datetime.now(UTC)
    with hypervisor.domain.event(event="lifecycle") as events:
        for name in HOSTILE[:3]:
            hypervisor.domain.create(guest(name))
            uuid = hypervisor.domain.uuid(name)
            hypervisor.domain.destroy(uuid)
        told = [next(events) for _ in range(12)]
    assert [event.name for event in told] == [name for name in HOSTILE[:3] for _ in range(4)]
    assert [(event.details["event"], event.details["detail"]) for event in told] == LIFE * 3
    assert {event.kind for event in told} == {"lifecycle"}
    assert before.replace(microsecond=0) <= min(event.time for event in told)
    assert max(event.time for event in told) <= datetime.now(UTC)


def test_an_event_does_not_wait_for_others(hypervisor: Hypervisor, domain: str) -> None:
    with hypervisor.domain.event(domain, timeout=60) as events:
        hypervisor.domain.suspend(domain)
        assert next(events).details == {"event": "Suspended", "detail": "Paused"}
        hypervisor.domain.desc(domain, "new", title=True, live=True)
        told = next(events)
        assert (told.kind, told.details) == ("metadata-change", {"type": "title", "uri": None})
        hypervisor.domain.vcpupin(domain, 0, "0", live=True)
        assert next(events)[1:] == ("tunable", domain, {"cputune.vcpupin0": "0"})
        hypervisor.domain.resume(domain)
        assert next(events).details == {"event": "Resumed", "detail": "Unpaused"}


def test_only_the_domain_that_was_asked_for_is_told_of(hypervisor: Hypervisor, domain: str) -> None:
    with hypervisor.domain.event(domain, timeout=60, loop=False) as events:
        hypervisor.domain.create(guest("another"))
        hypervisor.domain.destroy("another")
        hypervisor.domain.suspend(domain)
        assert [(event.name, event.details["event"]) for event in events] == [(domain, "Suspended")]


def test_thousands_of_events_wait_for_who_is_slow(hypervisor: Hypervisor, domain: str) -> None:
    many = 2000 if isinstance(hypervisor.host, unix.Local) else 500
    with hypervisor.domain.event(domain, event="metadata-change") as events:
        with hypervisor.pipeline() as pipe:
            for number in range(many):
                pipe.domain.desc(domain, f"title {number}", title=True, live=True)
            pipe.execute()
        told = [next(events) for _ in range(many)]
        assert {(event.name, event.details["type"]) for event in told} == {(domain, "title")}
        assert [event.time for event in told] == sorted(event.time for event in told)


def test_it_ends_when_the_time_is_up(hypervisor: Hypervisor) -> None:
    assert list(hypervisor.domain.event(timeout=0.2)) == []
    wait_until(lambda: not listeners(hypervisor.uri))


def test_another_thread_ends_it(hypervisor: Hypervisor) -> None:
    events = hypervisor.domain.event()
    threading.Timer(0.2, events.close).start()
    assert list(events) == []
    assert list(events) == []


def test_nothing_is_left_of_it_when_nobody_has_it_any_more(hypervisor: Hypervisor) -> None:
    events = hypervisor.domain.event()
    assert listeners(hypervisor.uri)
    del events
    gc.collect()
    wait_until(lambda: not listeners(hypervisor.uri))

    def consume() -> None:
        with hypervisor.network.event(timeout=0.1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    wait_until(lambda: not listeners(hypervisor.uri))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("virsh ")]


def test_a_limit_that_is_no_number_leaves_no_listener(host: unix.Host, tmp_path: Path) -> None:
    description = tmp_path / "node.xml"
    description.write_text("<node/>")
    uri = f"test://{description}"
    with Hypervisor(host, uri) as hypervisor:
        with pytest.raises(TypeError):
            hypervisor.domain.event(timeout=[1])  # type: ignore[call-overload]
        gc.collect()
        wait_until(lambda: not listeners(uri))


def test_a_forked_child_leaves_it_to_its_parent(hypervisor: Hypervisor, domain: str) -> None:
    with hypervisor.domain.event(domain, timeout=60) as events:
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                events.close()
            os._exit(0)
        os.waitpid(child, 0)
        hypervisor.domain.suspend(domain)
        assert next(events).details["event"] == "Suspended"


def test_what_came_before_virsh_was_killed_is_told_and_then_that(hypervisor: Hypervisor, domain: str) -> None:
    with hypervisor.domain.event(domain) as events:
        hypervisor.domain.suspend(domain)
        wait_until(lambda: events._stream._records)
        for pid in listeners(hypervisor.uri):
            os.kill(pid, signal.SIGKILL)
        assert next(events).details["event"] == "Suspended"
        for _ in range(2):
            with pytest.raises(kvm.ConnectionLostError, match="virsh event: "):
                next(events)


def test_the_end_of_libvirtd_is_an_error(host: unix.Host) -> None:
    daemon = Libvirtd()
    try:
        with Hypervisor(host, daemon.uri) as hypervisor:
            events = hypervisor.domain.event()
            daemon.stop()
            with pytest.raises(kvm.ConnectionLostError, match="Disconnected from"):
                next(events)
            wait_until(lambda: not listeners(daemon.uri))
            with pytest.raises(kvm.CannotConnectError):
                hypervisor.domain.event()
    finally:
        daemon.stop()


def test_the_end_of_the_connection_to_the_host_is_an_error(libvirtd: Libvirtd) -> None:
    sshd = Sshd()
    try:
        with sshd.connect() as host:
            events = Hypervisor(host, libvirtd.uri).domain.event()
            sshd.stop()
            with pytest.raises(kvm.ConnectionLostError, match="lost the connection to"):
                next(events)
    finally:
        sshd.remove()


@contextmanager
def nothing_but_virsh(hypervisor: Hypervisor, directory: Path) -> Iterator[None]:
    """A host that has no program but virsh."""
    virsh = which("virsh")
    assert virsh
    (directory / "virsh").symlink_to(virsh)
    with hypervisor.set_controls(envs={"PATH": str(directory)}):
        yield


def test_a_host_without_stdbuf_lends_a_terminal(hypervisor: Hypervisor, domain: str, tmp_path: Path) -> None:
    with nothing_but_virsh(hypervisor, tmp_path), hypervisor.domain.event(domain, timeout=60) as events:
        hypervisor.domain.suspend(domain)
        assert next(events).details["event"] == "Suspended"
    wait_until(lambda: not listeners(hypervisor.uri))


def test_what_is_not_there_cannot_be_listened_to(hypervisor: Hypervisor) -> None:
    for listen in (
        hypervisor.domain.event,
        hypervisor.domain.qemu_monitor_event,
        hypervisor.network.event,
        hypervisor.pool.event,
        hypervisor.nodedev.event,
    ):
        with pytest.raises(kvm.NotFoundError):
            listen("nothing")
    with pytest.raises(kvm.NotFoundError):
        hypervisor.secret.event(kvm.gen_uuid())
    with pytest.raises(kvm.InvalidArgumentError, match="unknown event type"):
        hypervisor.domain.event(event="nothing")
    with pytest.raises(TypeError, match="tiemout"):
        hypervisor.domain.event(tiemout=3)  # type: ignore[call-overload]
    assert not listeners(hypervisor.uri)


def test_a_pipeline_cannot_listen(hypervisor: Hypervisor) -> None:
    with hypervisor.pipeline() as pipe:
        for call in (
            pipe.domain.event,
            pipe.network.event,
            lambda: pipe.domain.stop("x"),
            lambda: pipe.domain.await_("x", "domain-inactive"),
            lambda: pipe.domain.console("x"),
            lambda: pipe.domain.open_console("x"),
        ):
            with pytest.raises(TypeError, match="cannot be in a Pipeline"):
                call()
        assert not len(pipe)


def test_networks_pools_and_secrets_tell_what_happens_to_them(hypervisor: Hypervisor, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    network = {"name": "it's: Started", "bridge": {"@name": "evbr0"}}
    pool = {"@type": "dir", "name": "p: Defined", "target": {"path": str(tmp_path)}}
    secret = {"@ephemeral": "no", "@private": "no", "uuid": kvm.gen_uuid()}
    with hypervisor.network.event() as networks:
        hypervisor.network.define(network)
        hypervisor.network.undefine(network["name"])  # type: ignore[arg-type]
        told = [next(networks) for _ in range(2)]
    assert [(event.name, event.details["event"]) for event in told] == [
        (network["name"], "Defined"),
        (network["name"], "Undefined"),
    ]
    with hypervisor.pool.event() as pools, hypervisor.pool.event(event="refresh") as refreshes:
        hypervisor.pool.create(pool)
        hypervisor.pool.refresh("p: Defined")
        hypervisor.pool.destroy("p: Defined")
        lives = [next(pools) for _ in range(2)]
        assert next(refreshes)[1:] == ("refresh", "p: Defined", {})
    assert [(event.name, event.details["event"]) for event in lives] == [
        ("p: Defined", "Started"),
        ("p: Defined", "Stopped"),
    ]
    with hypervisor.secret.event() as secrets, hypervisor.secret.event(event="value-changed") as values:
        hypervisor.secret.define(secret)
        hypervisor.secret.set_value(secret["uuid"], "x")
        hypervisor.secret.undefine(secret["uuid"])
        assert [next(secrets)[1:] for _ in range(2)] == [
            ("lifecycle", secret["uuid"], {"event": "Defined"}),
            ("lifecycle", secret["uuid"], {"event": "Undefined"}),
        ]
        assert next(values)[1:] == ("value-changed", secret["uuid"], {})


def test_devices_can_be_listened_to(hypervisor: Hypervisor) -> None:
    assert list(hypervisor.nodedev.event(timeout=0.1)) == []
    assert list(hypervisor.nodedev.event(event="update", timeout=0.1)) == []


def test_qemu_tells_what_happens_at_its_own_time(hypervisor: Hypervisor) -> None:
    name = 'q\': {"a": 1}'
    with hypervisor.domain.qemu_monitor_event(timeout=60) as events:
        hypervisor.domain.create(guest(name))
        hypervisor.domain.destroy(name)
        told = {event.kind: event for event in events_until(events, "SHUTDOWN")}
    assert {event.name for event in told.values()} == {name}
    assert told["SHUTDOWN"].details == {"guest": False, "reason": "host-signal"}
    assert abs((datetime.now(UTC) - told["SHUTDOWN"].time).total_seconds()) < 60
    with hypervisor.domain.qemu_monitor_event(event="^re", regex=True, no_case=True, loop=False) as events:
        hypervisor.domain.create(guest(name))
        assert [event.kind for event in events] == ["RESUME"]
    hypervisor.domain.destroy(name)


def test_a_driver_inside_virsh_is_listened_to_however_named(test_driver: Hypervisor) -> None:
    assert list(test_driver.domain.event(timeout=0.1)) == []
    with test_driver.set_controls(envs={"LIBVIRT_DEFAULT_URI": "test:///default"}):
        assert list(Hypervisor(test_driver.host).domain.event(timeout=0.1)) == []
    with pytest.raises(kvm.NotSupportedError):
        test_driver.secret.event()


def test_event_returns_late_when_libvirtd_answers_late(libvirtd: Libvirtd) -> None:
    listening: list[Events[Any]] = []
    with Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        listener = threading.Thread(target=lambda: listening.append(hypervisor.domain.event(event="lifecycle")))
        with libvirtd.stopped():
            listener.start()
            wait_until(lambda: listeners(libvirtd.uri))
            listener.join(2.5)
            assert listener.is_alive()
        listener.join(30)
        with listening[0] as events:
            hypervisor.domain.create(guest("late"))
            assert next(events)[1:] == ("lifecycle", "late", {"event": "Resumed", "detail": "Unpaused"})
        hypervisor.domain.destroy("late")


def test_event_raises_when_libvirtd_does_not_answer_in_time(libvirtd: Libvirtd) -> None:
    hypervisor = Hypervisor(unix.Local(timeout=0.5), libvirtd.uri)
    with libvirtd.stopped(), pytest.raises(kvm.CommandTimeoutError, match=r"no registration for events within 0\.5 s"):
        hypervisor.network.event()
    assert not listeners(libvirtd.uri)


def test_event_raises_when_registration_cannot_be_observed(libvirtd: Libvirtd, tmp_path: Path) -> None:
    silent = tmp_path / "virsh"
    silent.write_text(f'#!/bin/sh\nunset LIBVIRT_LOG_FILTERS\nexec {which("virsh")} "$@"\n')
    silent.chmod(0o755)
    host = unix.Local(envs={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=60)
    with pytest.raises(kvm.NotSupportedError, match="does not log its calls"):
        Hypervisor(host, libvirtd.uri).pool.event()
    assert not listeners(libvirtd.uri)


@pytest.mark.parametrize("flood", ["yes", "yes >&2", "cat /dev/zero"])
def test_listener_that_prints_without_end_is_ended(libvirtd: Libvirtd, tmp_path: Path, flood: str) -> None:
    virsh, go = tmp_path / "virsh", tmp_path / "go"
    begin = "2026-11-22 15:47:14.163+0000: event 'odd' for domain 'x': much"
    virsh.write_text(
        f'#!/bin/sh\n{which("virsh")} "$@" &\nwhile [ ! -e {go} ]; do sleep 0.05; done\necho "{begin}"\nexec {flood}\n'
    )
    virsh.chmod(0o755)
    host = unix.Local(envs={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=60)
    with Hypervisor(host, libvirtd.uri).domain.event() as events:
        go.touch()
        with pytest.raises(kvm.KvmError, match=r"printed (an event|errors|a line) of more than 16 MiB and was ended"):
            for _ in range(2):  # an event of one line may come before the errors
                events.within(30)
    assert not listeners(libvirtd.uri)


def test_event_raises_when_credentials_are_asked_for(host: unix.Host) -> None:
    with host.set_controls(timeout=30), pytest.raises(kvm.AuthenticationRequiredError):
        Hypervisor(host, "esx://root@127.0.0.1:1/?no_verify=1").domain.event()


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_for_a_domain_to_be_inactive(hypervisor: Hypervisor, domain: str) -> None:
    with pytest.raises(kvm.CommandTimeoutError, match="within"):
        hypervisor.domain.await_(domain, "domain-inactive", 0.2)
    number = hypervisor.domain.id(domain)
    assert number is not None
    timer = threading.Timer(0.3, lambda: hypervisor.domain.destroy(domain))
    timer.start()
    assert hypervisor.domain.await_(number, "domain-inactive", 20).status
    timer.join()
    with pytest.raises(kvm.NotFoundError):
        hypervisor.domain.await_(domain, "domain-inactive")
    hypervisor.domain.define(guest(domain))
    assert hypervisor.domain.await_(domain, "domain-inactive", 20).status
    hypervisor.domain.undefine(domain)


def test_there_are_two_conditions(hypervisor: Hypervisor, domain: str) -> None:
    with pytest.raises(kvm.InvalidArgumentError):
        hypervisor.domain.await_(domain, "sunshine")  # type: ignore[arg-type]
    with pytest.raises(kvm.CommandTimeoutError):
        hypervisor.domain.await_(domain, "guest-agent-available", 0.1)


def test_a_guest_that_does_not_listen_is_stopped_by_force_only(hypervisor: Hypervisor, domain: str) -> None:
    with pytest.raises(kvm.CommandTimeoutError, match="within"):
        hypervisor.domain.stop(domain, 0.2)
    unchecked = Hypervisor(hypervisor.host, hypervisor.uri, check=False)
    assert "Timed out" in unchecked.domain.stop(domain, 0.2).stderr
    assert hypervisor.domain.state(domain) == "running"
    result = hypervisor.domain.stop(domain, 0.2, force=True)
    assert "was destroyed" in result.stdout
    with pytest.raises(kvm.NotFoundError):
        hypervisor.domain.stop(domain)


def test_waiting_methods_are_bounded_by_the_control(libvirtd: Libvirtd, domain: str) -> None:
    with Hypervisor(unix.Local(), libvirtd.uri) as watching, Hypervisor(unix.Local(timeout=1), libvirtd.uri) as limited:
        watchdog = threading.Timer(60, watching.domain.destroy, [domain])
        watchdog.start()
        try:
            for condition in ("domain-inactive", "guest-agent-available"):
                with pytest.raises(kvm.CommandTimeoutError, match="within 1 s"):
                    limited.domain.await_(domain, condition)
            with pytest.raises(kvm.CommandTimeoutError, match="within 1 s"):
                limited.domain.stop(domain)
        finally:
            watchdog.cancel()


def test_start_that_waits_is_bounded_by_the_control(hypervisor: Hypervisor) -> None:
    hypervisor.domain.define(guest("unaddressed"))
    try:
        with (
            hypervisor.set_controls(timeout=3),
            pytest.raises(kvm.CommandTimeoutError, match="within 3 s"),
        ):
            hypervisor.domain.start("unaddressed", wait="address")
    finally:
        hypervisor.domain.destroy("unaddressed")
        hypervisor.domain.undefine("unaddressed")


def test_explicit_timeout_wins_over_a_shorter_control(libvirtd: Libvirtd) -> None:
    with (
        Hypervisor(unix.Local(timeout=1), libvirtd.uri) as limited,
        libvirtd.stopped(),
        pytest.raises(kvm.CommandTimeoutError, match=r"within [2-4](\.\d)? s$"),
    ):
        limited.domain.stop("any", timeout=4)


def test_explicit_timeout_bounds_requests_without_a_control(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local(), libvirtd.uri) as unlimited, libvirtd.stopped():
        watchdog = threading.Timer(60, libvirtd.go_on)
        watchdog.start()
        try:
            with pytest.raises(kvm.CommandTimeoutError, match=r"within [56](\.\d)? s$"):
                unlimited.domain.stop("any", timeout=6)
        finally:
            watchdog.cancel()
    assert not listeners(libvirtd.uri)


# -- every kind, as virsh prints it -----------------------------------------------------------------------------------

STAMP = "2026-11-22 15:47:14.163+0000"
JOB = "\n\toperation: 5\n\ttime_elapsed: 1500\n\tmemory_total: 1024\n\tsuccess: 1"

PRINTED: list[tuple[str, str, Mapping[str, Any]]] = [
    (
        "lifecycle",
        ": Shutdown Finished after guest request",
        {"event": "Shutdown", "detail": "Finished after guest request"},
    ),
    ("lifecycle", ": Suspended I/O Error", {"event": "Suspended", "detail": "I/O Error"}),
    ("lifecycle", ": Suspended Post-copy Error", {"event": "Suspended", "detail": "Post-copy Error"}),
    ("reboot", "", {}),
    ("rtc-change", ": -3600", {"utc_offset": -3600}),
    ("watchdog", ": inject-nmi", {"action": "inject-nmi"}),
    (
        "io-error",
        ": /a (b) c.img (virtio-disk0) pause",
        {"source": "/a (b) c.img", "alias": "virtio-disk0", "action": "pause"},
    ),
    (
        "graphics",
        ": connect local[IPv4 127.0.0.1 5900] remote[IPv6 ::1 4711] vnc\n\tx509dname=CN=a b\n\tsaslUsername=me",
        {
            "phase": "connect",
            "local": {"family": "IPv4", "node": "127.0.0.1", "service": "5900"},
            "remote": {"family": "IPv6", "node": "::1", "service": "4711"},
            "auth": "vnc",
            "subject": [("x509dname", "CN=a b"), ("saslUsername", "me")],
        },
    ),
    (
        "graphics",
        ": disconnect local[unix /run/spice ] remote[unix  ] ",
        {
            "phase": "disconnect",
            "local": {"family": "unix", "node": "/run/spice", "service": ""},
            "remote": {"family": "unix", "node": "", "service": ""},
            "auth": "",
            "subject": [],
        },
    ),
    (
        "io-error-reason",
        ": /a due to b (virtio-disk0) report due to enospc",
        {"source": "/a due to b", "alias": "virtio-disk0", "action": "report", "reason": "enospc"},
    ),
    ("io-error-reason", ": /a (vda) none due to ", {"source": "/a", "alias": "vda", "action": "none", "reason": None}),
    ("control-error", "", {}),
    (
        "block-job",
        ": Active Block Commit for /a for b completed",
        {"job": "Active Block Commit", "disk": "/a for b", "status": "completed"},
    ),
    ("block-job-2", ": Block Pull for vda canceled", {"job": "Block Pull", "disk": "vda", "status": "canceled"}),
    (
        "disk-change",
        " disk ide0-0-1: /a: b -> <null>: changed",
        {"alias": "ide0-0-1", "old": "/a: b", "new": None, "reason": "changed"},
    ),
    ("tray-change", " disk ua-cd: opened", {"alias": "ua-cd", "reason": "opened"}),
    ("pm-wakeup", "", {}),
    ("pm-suspend", "", {}),
    ("pm-suspend-disk", "", {}),
    ("balloon-change", ": 1024KiB", {"actual": 1048576}),
    ("device-removed", ": net0", {"alias": "net0"}),
    ("device-added", ": net0", {"alias": "net0"}),
    ("device-removal-failed", ": net0", {"alias": "net0"}),
    (
        "tunable",
        ":\n\tcputune.vcpupin0: 0\n\tcputune.vcpu_quota: -1\n\tblkdeviotune.disk: 7\n\tblkdeviotune.group_name: a: b",
        {
            "cputune.vcpupin0": "0",
            "cputune.vcpu_quota": -1,
            "blkdeviotune.disk": "7",
            "blkdeviotune.group_name": "a: b",
        },
    ),
    (
        "agent-lifecycle",
        ": state: 'connected' reason: 'channel event'",
        {"state": "connected", "reason": "channel event"},
    ),
    (
        "channel-lifecycle",
        ": channel name: 'org.a' state: 'b' state: 'disconnected' reason: 'unknown'",
        {"channel": "org.a' state: 'b", "state": "disconnected", "reason": "unknown"},
    ),
    ("migration-iteration", ": iteration: '3'", {"iteration": 3}),
    (
        "job-completed",
        f":{JOB}",
        {"operation": "outgoing migration", "time_elapsed": 1_500_000_000, "memory_total": 1024, "success": True},
    ),
    ("job-completed", ":\n\toperation: 2\n\terrmsg: a\nb: c", {"operation": "save", "errmsg": "a\nb: c"}),
    ("metadata-change", ": type element, uri http://a, uri b", {"type": "element", "uri": "http://a, uri b"}),
    ("metadata-change", ": type description, uri <null>", {"type": "description", "uri": None}),
    ("block-threshold", ": dev: vda[1]((null)) 10 5", {"disk": "vda[1]", "path": None, "threshold": 10, "excess": 5}),
    ("block-threshold", ": dev: vda(/a) 1 2) 10 5", {"disk": "vda", "path": "/a) 1 2", "threshold": 10, "excess": 5}),
    (
        "memory-failure",
        ":\nrecipient: guest\naction: inject\nflags:\n\taction required: 1\n\trecursive: 0",
        {"recipient": "guest", "action": "inject", "action_required": True, "recursive": False},
    ),
    ("memory-device-size-change", ":\nalias: ua-virtiomem\nsize: 1024", {"alias": "ua-virtiomem", "size": 1048576}),
    (
        "nic-mac-change",
        ":\nalias: net0\noldMAC: 52:54:00:00:00:01\nnewMAC: 52:54:00:00:00:02",
        {"alias": "net0", "old": "52:54:00:00:00:01", "new": "52:54:00:00:00:02"},
    ),
    ("vcpu-removed", ": vcpu 3", {"vcpu": 3}),
    ("weather-change", ": sunny\nwarm", {"text": "sunny\nwarm"}),
]  # fmt: skip


def test_every_kind_is_among_what_is_tested_here(hypervisor: Hypervisor) -> None:
    assert {kind for kind, _, _ in PRINTED} == {*KINDS, "weather-change"}
    assert hypervisor.domain.event(list=True) == hypervisor.virsh("event", list=True).stdout.split()  # type: ignore[union-attr]
    assert set(hypervisor.domain.event(list=True)) <= set(KINDS)
    for group in (hypervisor.network, hypervisor.pool, hypervisor.nodedev, hypervisor.secret):
        assert group.event(list=True)[0] == "lifecycle"
        with pytest.raises(TypeError, match="about no events"):
            group.event(list=True, loop=False)  # type: ignore[call-overload]


@given(
    st.sampled_from(PRINTED), st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1)
)
def test_every_kind_is_read_whatever_the_name(printed: tuple[str, str, Mapping[str, Any]], name: str) -> None:
    kind, rest, details = printed
    event = READER.read(f"{STAMP}: event '{kind}' for domain '{name}'{rest}", lambda: [name])
    assert event == Event(datetime(2026, 11, 22, 15, 47, 14, 163000, UTC), kind, name, details)


@pytest.mark.parametrize("printed", PRINTED, ids=lambda printed: printed[0])
def test_names_that_look_like_events_are_read(printed: tuple[str, str, Mapping[str, Any]]) -> None:
    kind, rest, details = printed
    for name in [*HOSTILE, *(f"x'{each}" for _, each, _ in PRINTED if "\n" not in each)]:
        event = READER.read(f"{STAMP}: event '{kind}' for domain '{name}'{rest}", lambda name=name: [name])  # type: ignore[misc]
        assert (event.kind, event.name, event.details) == (kind, name, details)


def test_newer_releases_tell_reasons_under_another_name() -> None:
    line = f"{STAMP}: event 'io-error' for domain 'a': /b (vda) pause due to enospc"
    assert READER.read(line, list).kind == "io-error-reason"


def test_what_could_be_the_event_of_two_domains_is_nobodys() -> None:
    line = f"{STAMP}: event 'block-job' for domain 'a': Backup for /x': Backup for /y ready"
    names = ["a", "a': Backup for /x"]
    assert READER.read(line, lambda: names[:1]).name == "a"
    assert READER.read(line, lambda: names[1:]).name == names[1]
    for known in (names, []):
        with pytest.raises(kvm.UnreadableOutputError):
            READER.read(line, lambda known=known: known)  # type: ignore[misc]
    for line in ("", "x", f"{STAMP}: event 'lifecycle' for domain 'a': What is this?"):
        with pytest.raises(kvm.UnreadableOutputError):
            READER.read(line, list)


def test_where_an_event_ends_is_told_unless_more_could_come() -> None:
    for kind, rest, _ in PRINTED:
        whole = READER.is_whole(f"{STAMP}: event '{kind}' for domain 'a'{rest}")
        assert whole == (kind not in ("graphics", "tunable", "job-completed", "weather-change"))
        if "\n" in rest:
            assert not READER.is_whole(f"{STAMP}: event '{kind}' for domain 'a'{rest.partition(chr(10))[0]}")


@pytest.mark.parametrize(
    ("reader", "line", "event"),
    [
        (OF_NETWORKS, "'lifecycle' for network a: b: Started", ("lifecycle", "a: b", {"event": "Started"})),
        (
            OF_NETWORKS,
            "'metadata-change' for network a: type element, uri u: v",
            ("metadata-change", "a", {"type": "element", "uri": "u: v"}),
        ),
        (
            OF_POOLS,
            "'lifecycle' for storage pool a: Stopped: Stopped",
            ("lifecycle", "a: Stopped", {"event": "Stopped"}),
        ),
        (OF_POOLS, "'refresh' for storage pool a: Stopped", ("refresh", "a: Stopped", {})),
        (OF_DEVICES, "'lifecycle' for node device pci_0000: Created", ("lifecycle", "pci_0000", {"event": "Created"})),
        (OF_DEVICES, "'update' for node device mdev_1", ("update", "mdev_1", {})),
        (OF_SECRETS, "'value-changed' for secret 1-2", ("value-changed", "1-2", {})),
    ],
)
def test_what_happens_to_other_objects_is_read(reader: OfLibvirt[Any], line: str, event: tuple[Any, ...]) -> None:
    assert reader.read(f"{STAMP}: event {line}", list)[1:] == event


@given(st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1))
def test_qemus_events_are_read_whatever_the_name(name: str) -> None:
    line = f"event RTC_CHANGE at 1700000000.000042 for domain '{name}': {{\"offset\": -1}}"
    time = datetime(2023, 11, 14, 22, 13, 20, 42, UTC)
    assert OfQemu().read(line, lambda: [name]) == Event(time, "RTC_CHANGE", name, {"offset": -1})
    assert OfQemu().read(f"event STOP at 1.000000 for domain '{name}': <null>", list).details == {}
