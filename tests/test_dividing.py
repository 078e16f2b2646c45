"""Many questions, which several live virshes are asked: the values of one, at any fault, and nobody waits for it."""

from __future__ import annotations

import gc
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import cast

import pytest

import unix
from kvm import CommandTimeoutError, Hypervisor
from kvm.virsh.command import Command
from kvm.virsh.plan import each_left
from libvirtd import Libvirtd
from sshd import Sshd
from test_live import virshes
from waiting import wait_until

QUESTIONS = [Command("domid", {"domain": f"nobody {number}"}) for number in range(200)]
ANSWERS = [f"error: failed to get domain 'nobody {number}'\n" for number in range(200)]


def answers(hypervisor: Hypervisor, questions: Sequence[Command] = QUESTIONS) -> list[str]:
    return [result.stderr for result in hypervisor._virsh.run(questions)]


def used(pids: Sequence[int]) -> list[int]:
    """Of processes, how much each has written."""
    told = [Path(f"/proc/{pid}/io").read_text() for pid in pids]
    return [int(each.partition("wchar: ")[2].split()[0]) for each in told]


def asked(pids: Sequence[int], ask: Callable[[], object]) -> list[int]:
    """Those of some virshes that were asked."""
    before = used(pids)
    ask()
    return [pid for pid, earlier, later in zip(pids, before, used(pids), strict=True) if later > earlier + 1000]


def several(hypervisor: Hypervisor) -> list[int]:
    """The virshes, once there are as many as answer many questions."""
    before = set(virshes())

    def found() -> list[int]:
        return sorted(set(virshes()) - before)

    answers(hypervisor)
    wait_until(lambda: len(asked(found(), lambda: answers(hypervisor))) == 3)
    return found()


@pytest.fixture(autouse=True)
def alone() -> None:
    """No virsh of a test before."""
    gc.collect()


@pytest.fixture
def wide(host: unix.Host, libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(host, libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture
def wrapped(libvirtd: Libvirtd, tmp_path: Path) -> Iterator[Callable[[str], Hypervisor]]:
    """A Hypervisor whose first virsh is one, and whose others are a shell script."""
    made = []

    def hypervisor(others: str) -> Hypervisor:
        once = f"if ! mkdir {tmp_path}/one 2> /dev/null; then {others}; fi"
        (tmp_path / "virsh").write_text(f'#!/bin/sh\necho >> {tmp_path}/starts\n{once}\nexec {which("virsh")} "$@"\n')
        (tmp_path / "virsh").chmod(0o755)
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        made.append(Hypervisor(unix.Local(timeout=60, envs=path), libvirtd.uri))
        return made[0]

    yield hypervisor
    made[0].close()


# -- who answers


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(99, 4, 1), (100, 4, 2), (200, 4, 3), (200, 3, 2), (200, 2, 1), (200, 1, 1)]
)
def test_many_questions_are_divided_among_virshes_of_which_one_is_left(
    host: unix.Host, libvirtd: Libvirtd, count: int, most: int, expected: int
) -> None:
    before = set(virshes())
    with Hypervisor(host, libvirtd.uri, sessions=most) as hypervisor:
        assert answers(hypervisor, QUESTIONS[:count]) == ANSWERS[:count]
        assert len(set(virshes()) - before) == 1
        wait_until(lambda: answers(hypervisor, QUESTIONS[:count]) and len(set(virshes()) - before) == expected)
        pids = sorted(set(virshes()) - before)
        wait_until(lambda: asked(pids, lambda: answers(hypervisor, QUESTIONS[:count])) == pids)
        for _ in range(5):
            assert answers(hypervisor, QUESTIONS[:count]) == ANSWERS[:count]
            time.sleep(0.1)
        assert sorted(set(virshes()) - before) == pids
    assert set(virshes()) == before


def test_values_are_those_of_the_things_that_were_asked_about(wide: Hypervisor) -> None:
    guest = {"@type": "qemu", "memory": 65536, "os": {"type": {"@arch": "x86_64", "#text": "hvm"}}}
    names = [f"guest{number}" for number in range(120)]
    with wide.pipeline() as pipe:
        for name in names:
            pipe.domain.define({**guest, "name": name})
        pipe.execute()
    try:
        several(wide)
        uuids = {name: wide.domain.uuid(name) for name in names}
        commands = {name: Command("domuuid", {"domain": name}) for name in names}
        with wide.pipeline() as pipe:
            for name in names:
                pipe.domain.name(uuids[name])
            pipe.call(each_left({"nobody": Command("domuuid", {"domain": "nobody"}), **commands}, str.strip))
            pipe.call(each_left(commands, str.strip))
            *told, _, at_once = pipe.execute(raise_on_error=False)
        assert told == names
        assert at_once == uuids
    finally:
        with wide.pipeline() as pipe:
            for name in names:
                pipe.domain.undefine(name)
            pipe.execute()


def test_what_acts_is_asked_of_one_virsh_in_its_order(wide: Hypervisor) -> None:
    pids = several(wide)
    acting = Command("destroy", {"domain": "nobody 1"}, reads=False)
    found: list[str] = []
    assert len(asked(pids, lambda: found.extend(answers(wide, [*QUESTIONS, acting, *QUESTIONS])))) == 1
    assert found == [*ANSWERS, ANSWERS[1], *ANSWERS]


def test_what_is_told_of_one_thing_is_told_in_the_order_in_which_it_was_asked(wide: Hypervisor) -> None:
    several(wide)
    counters = Command("nodecpustats", {})
    for _ in range(3):
        results = wide._virsh.run([each for question in QUESTIONS for each in (question, counters)])
        told = [int(result.stdout.partition("idle:")[2].split()[0]) for result in results[1::2]]
        assert told == sorted(told)


@pytest.fixture
def alias() -> Iterator[dict[str, str]]:
    """The environment of a user whose libvirt.conf has names for URIs."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "libvirt").mkdir()
        (Path(home) / "libvirt" / "libvirt.conf").write_text('uri_aliases = [ "mine=test:///default" ]\n')
        os.chmod(home, 0o755)
        yield {"XDG_CONFIG_HOME": home}


@pytest.mark.parametrize("uri", [None, "mine"])
def test_a_hypervisor_that_may_live_in_virsh_is_asked_through_one(uri: str | None, alias: dict[str, str]) -> None:
    envs = {**alias, "LIBVIRT_DEFAULT_URI": "test:///default"}
    user = "nobody" if os.geteuid() == 0 else None  # root's aliases are those of the whole machine
    before = set(virshes())
    with Hypervisor(unix.Local(timeout=60, envs=envs, su=user), uri) as hypervisor:
        hypervisor.domain.destroy("test")
        for _ in range(3):
            results = hypervisor._virsh.run([Command("domstate", {"domain": "test"}), *QUESTIONS])
            assert results[0].stdout.strip() == "shut off"
            time.sleep(0.2)
        assert len(set(virshes()) - before) == 1


# -- who waits


def test_other_threads_have_a_virsh_while_many_questions_are_asked(wide: Hypervisor) -> None:
    pids = several(wide)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    asking = threading.Thread(target=lambda: answers(wide))
    asking.start()
    time.sleep(0.1)
    try:
        with wide.set_controls(timeout=60):
            assert wide.generic.uri() == wide.uri
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        asking.join()


@pytest.mark.parametrize("others", ["sleep 1000", "echo 'error: failed to connect to the hypervisor' >&2; exit 1"])
def test_nobody_waits_for_a_virsh_that_does_not_come_to_its_prompt(
    others: str, wrapped: Callable[[str], Hypervisor], tmp_path: Path
) -> None:
    """As with libvirtd's limit of clients."""
    before = set(virshes())
    hypervisor = wrapped(others)
    starts = tmp_path / "starts"

    def answered() -> bool:
        with hypervisor.set_controls(timeout=60):
            return answers(hypervisor) == ANSWERS

    wait_until(lambda: answered() and len(starts.read_text()) == 3)
    for _ in range(10):
        assert answered()
        time.sleep(0.1)
    assert len(starts.read_text()) == 3  # not again and again
    hypervisor.close()
    wait_until(lambda: set(virshes()) <= before)


@pytest.mark.parametrize("way", ["killed", "stopped", "another thread"])
def test_nobody_is_given_a_virsh_that_does_not_come_to_its_prompt(
    way: str, wrapped: Callable[[str], Hypervisor]
) -> None:
    before = set(virshes())
    hypervisor = wrapped("exec sleep 1000")
    with hypervisor.set_controls(timeout=60):
        answers(hypervisor)
        (first,) = set(virshes()) - before
        answers(hypervisor)
        time.sleep(0.2)
    os.rmdir(Path(cast(dict[str, str], hypervisor.get_control("envs"))["PATH"].partition(":")[0], "one"))
    if way == "another thread":
        os.kill(first, signal.SIGSTOP)
        asking = threading.Thread(target=lambda: answers(hypervisor))
        asking.start()
        time.sleep(0.1)
    elif way == "stopped":
        os.kill(first, signal.SIGSTOP)
        with hypervisor.set_controls(timeout=0.5), pytest.raises(CommandTimeoutError):
            hypervisor.generic.uri()
    else:
        os.kill(first, signal.SIGKILL)
    with hypervisor.set_controls(timeout=60):
        assert hypervisor.generic.uri() == hypervisor.uri
    if way == "another thread":
        os.kill(first, signal.SIGCONT)
        asking.join()


@pytest.mark.parametrize("room", [2, 3])
def test_sshd_s_room_is_for_what_has_to_run(libvirtd: Libvirtd, room: int) -> None:
    sshd = Sshd(f"MaxSessions {room}")  # one is the connection's own
    try:
        with sshd.connect({"timeout": 20}) as host, Hypervisor(host, libvirtd.uri) as hypervisor:
            for _ in range(3):
                assert answers(hypervisor) == ANSWERS
                time.sleep(0.5)
            with host.set_controls(timeout=60):
                assert host.execute("true")
            assert answers(hypervisor) == ANSWERS
            assert host.execute("true")
    finally:
        sshd.remove()


def test_the_last_open_files_are_for_what_has_to_run(wide: Hypervisor) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = set(virshes())
    answers(wide)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) * 2 - 2, limits[1]))
    try:
        for _ in range(5):
            assert answers(wide) == ANSWERS
            time.sleep(0.1)
        assert len(set(virshes()) - before) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_virshes_that_are_being_started_end_with_the_others(host: unix.Host, libvirtd: Libvirtd) -> None:
    before = set(virshes())
    for _ in range(10):
        with Hypervisor(host, libvirtd.uri) as hypervisor:
            answers(hypervisor)
            answers(hypervisor)
        assert set(virshes()) == before


# -- faults


@pytest.mark.parametrize("killed", [1, 3])
@pytest.mark.parametrize("after", [None, 0.003, 0.03])
def test_virshes_that_are_killed_are_asked_again(wide: Hypervisor, killed: int, after: float | None) -> None:
    chosen = several(wide)[:killed]

    def kill() -> None:
        for virsh in chosen:
            os.kill(virsh, signal.SIGKILL)

    timer = threading.Timer(after or 0, kill)
    timer.start()
    if after is None:
        timer.join()
    assert answers(wide) == ANSWERS
    timer.join()
    assert answers(wide) == ANSWERS


def test_questions_that_are_not_answered_are_timeouts(wide: Hypervisor) -> None:
    os.kill(min(several(wide)), signal.SIGSTOP)
    with wide.set_controls(timeout=4):
        found = answers(wide)
    late = [place for place, answer in enumerate(found) if "within 4 s" in answer]
    assert late in ([*range(first, 200, 3)] for first in range(3))
    assert [found[place] for place in range(200) if place not in late] == [
        ANSWERS[place] for place in range(200) if place not in late
    ]
    assert answers(wide) == ANSWERS


def test_an_interrupted_run_leaves_nothing_and_the_next_is_right(wide: Hypervisor) -> None:
    before = set(virshes())
    several(wide)

    class StoppedError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        wide._virsh.run([*QUESTIONS, Command("uri", {})], stop)
    assert set(virshes()) == before
    assert answers(wide) == ANSWERS


def test_many_outputs_that_fill_all_pipes(wide: Hypervisor) -> None:
    several(wide)
    capabilities = Command("capabilities", {})
    size = len(wide._virsh.run([capabilities])[0].stdout)
    results = wide._virsh.run([each for one in QUESTIONS for each in (capabilities, one, capabilities)] * 5)
    assert {len(result.stdout) for result in results[::3]} == {size}
    assert [result.stderr for result in results[1::3]] == ANSWERS * 5
