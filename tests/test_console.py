"""Consoles: talking to the shell that a real guest has on its serial port, and handing over the terminal."""

from __future__ import annotations

import gc
import os
import re
import select
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pexpect import fdpexpect

import kvm
import tinyguest
import unix
from kvm import Hypervisor
from libvirtd import Libvirtd
from waiting import wait_until

PROMPT = b"tiny# "


@pytest.fixture(scope="module")
def booted(tiny: tinyguest.TinyGuest, libvirtd: Libvirtd) -> Iterator[str]:
    """A guest that has come to its shell."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        hypervisor.domain.define(tiny.conf("console"))
        hypervisor.domain.start("console")
        with hypervisor.domain.open_console("console") as console:
            console.read_until(PROMPT, timeout=90)
        yield "console"
        with suppress(kvm.InvalidStateError):
            hypervisor.domain.destroy("console")
        hypervisor.domain.undefine("console")


def consoles(uri: str | None) -> list[int]:
    """The virshes that are connected to consoles."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            words = (each / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if "virsh" in words[0] and f"--connect={uri}" in words and "console" in words:
                found.append(int(each.name))
    return found


def idle(name: str) -> dict[str, Any]:
    """A guest without an operating system, and with a console."""
    os_type = {"type": {"@arch": "x86_64", "#text": "hvm"}}
    return {"@type": "qemu", "name": name, "memory": 8192, "os": os_type, "devices": {"console": {"@type": "pty"}}}


def test_a_program_talks_to_the_guest(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        console.write(b"echo $((6 * 7))\n")
        answer = console.read_until(re.compile(rb"\r\n(\d+)\r\n.*" + PROMPT, re.DOTALL), timeout=60)
        assert b"\r\n42\r\n" in answer
        console.write(b"printf 'a\\377\\000b\\n'; sleep 0.1\n")
        assert console.read_until(b"a\xff\x00b\r\n", timeout=60)
        console.read_until(PROMPT, timeout=60)
        with pytest.raises(kvm.CommandTimeoutError):
            console.read_until(b"never", timeout=0.2)
        console.write(b"echo one two\n")
        assert console.read_until(b"\r\n", timeout=60).endswith(b"echo one two\r\n")
        assert console.read_until(b"one", timeout=60) == b"one"
        console.read_until(PROMPT, timeout=60)
    assert console.closed
    wait_until(lambda: not consoles(hypervisor.uri))


def test_what_nobody_reads_yet_is_not_lost(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        console.write(b"seq 1 3000\n")
        console.read_until(b"seq 1 3000\r\n", timeout=60)
        time.sleep(0.5)
        console.write(b"echo e''nd\n", timeout=20)  # which the guest echoes between the numbers
        printed = console.read_until(b"\nend\r\n", timeout=60).replace(b"\x1b[6n", b"")
        console.read_until(PROMPT, timeout=60)
    assert re.sub(rb"[^0-9]", b"", printed) == b"".join(b"%d" % number for number in range(1, 3001))


def test_the_byte_that_would_end_it_is_not_written(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        with pytest.raises(kvm.InvalidArgumentError):
            console.write(b"\xff")
        console.write(b"\x1d\x03\n")  # Ctrl-] and Ctrl-C are the guest's
        console.read_until(PROMPT, timeout=60)


def test_others_can_use_the_descriptor(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        os.write(console.fileno(), b"echo by $((1 + 1))\n")
        read = b""
        while b"by 2\r\n" not in read:
            assert select.select([console.fileno()], [], [], 60)[0]
            read += os.read(console.fileno(), 4096)


def test_pexpect_logs_in_and_runs_a_command(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        shell = fdpexpect.fdspawn(console, timeout=60)
        shell.send(b"echo 'user:open sesame' | chpasswd; login\n")
        for question, answer in ((b"tiny login: ", b"user\n"), (b"Password: ", b"open sesame\n")):
            shell.expect_exact(question)
            shell.send(answer)
        shell.expect_exact(PROMPT)
        shell.send(b"echo $(whoami) $((6 * 7))\n")
        shell.expect_exact(b"\r\nuser 42\r\n")
        shell.expect_exact(PROMPT)
        shell.send(b"exit\n")
        shell.expect_exact(PROMPT)


def test_one_is_connected_at_a_time_unless_forced(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        with pytest.raises(kvm.InvalidStateError, match="Active console session"):
            hypervisor.domain.open_console(booted)
        with hypervisor.domain.open_console(booted, force=True) as another:
            with pytest.raises(kvm.ConnectionLostError):
                console.read_until(b"never", timeout=60)
            with pytest.raises(kvm.ConnectionLostError):
                console.write(b"x")
            another.write(b"\n")
            another.read_until(PROMPT, timeout=60)


def test_what_cannot_be_connected_to_is_an_error(hypervisor: Hypervisor) -> None:
    with pytest.raises(kvm.NotFoundError):
        hypervisor.domain.open_console("nothing")
    hypervisor.domain.define(idle("idle"))
    try:
        with pytest.raises(kvm.InvalidStateError, match="not running"):
            hypervisor.domain.open_console("idle")
        hypervisor.domain.start("idle")
        with pytest.raises(kvm.KvmError, match="nowhere"):
            hypervisor.domain.open_console("idle", devname="nowhere")
        with hypervisor.domain.open_console("idle", devname="serial0") as console:
            hypervisor.domain.destroy("idle")
            assert console.read(timeout=60).strip() == b""
            assert console.read(timeout=60) == b""
    finally:
        hypervisor.domain.undefine("idle")
    wait_until(lambda: not consoles(hypervisor.uri))


def test_nothing_is_left_of_it_when_nobody_has_it_any_more(hypervisor: Hypervisor, booted: str) -> None:
    console = hypervisor.domain.open_console(booted)
    assert consoles(hypervisor.uri)
    del console
    gc.collect()
    wait_until(lambda: not consoles(hypervisor.uri))


def test_a_person_gets_the_terminal(hypervisor: Hypervisor, booted: str) -> None:
    master, slave = os.openpty()
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            os.setsid()
            for descriptor in (0, 1, 2):
                os.dup2(slave, descriptor)
            host = unix.Local()  # a connection is not for a forked child
            result = Hypervisor(host, hypervisor.uri).domain.console(booted)
            code = 0 if result.status else 2
        os._exit(code)
    os.close(slave)
    seen = b""

    def until(awaited: bytes) -> None:
        nonlocal seen
        while awaited not in seen:
            assert select.select([master], [], [], 60)[0], seen
            seen += os.read(master, 4096)

    until(b"Escape character is ^]")
    wait_until(lambda: not termios.tcgetattr(master)[3] & termios.ICANON)
    os.write(master, b"echo $((5 * 5))\n")
    until(b"\r\n25\r\n")
    os.write(master, b"\x1d")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(master)


def test_without_a_terminal_there_is_no_console_for_people(hypervisor: Hypervisor, booted: str) -> None:
    nowhere, kept = os.open(os.devnull, os.O_RDWR), os.dup(0)
    os.dup2(nowhere, 0)
    try:
        with pytest.raises(kvm.KvmError):
            hypervisor.domain.console(booted)
        unchecked = Hypervisor(hypervisor.host, hypervisor.uri, check=False)
        assert not unchecked.domain.console(booted).status
    finally:
        os.dup2(kept, 0)
        os.close(nowhere)
        os.close(kept)


def test_only_containers_can_be_entered(hypervisor: Hypervisor, booted: str) -> None:
    with pytest.raises(kvm.KvmError):
        hypervisor.domain.lxc_enter_namespace(booted, "/bin/true", "--help")


def test_a_guest_is_waited_for_and_stopped(hypervisor: Hypervisor, booted: str) -> None:
    if hypervisor.domain.state(booted) != "running":
        hypervisor.domain.start(booted)
    assert hypervisor.domain.await_(booted, "guest-agent-available", 90).status
    assert hypervisor.domain.await_(booted, "guest-agent-available", 90).status
    with hypervisor.domain.event(booted, event="lifecycle") as events:
        result = hypervisor.domain.stop(booted, 60, mode="agent" if isinstance(hypervisor.host, unix.Local) else "acpi")
        assert "was shut down" in result.stdout
        told = [next(events).details for _ in range(2)]
    assert told == [
        {"event": "Shutdown", "detail": "Finished after guest request"},
        {"event": "Stopped", "detail": "Shutdown"},
    ]
    with pytest.raises(kvm.InvalidStateError):
        hypervisor.domain.stop(booted)
    hypervisor.domain.start(booted)
    with hypervisor.domain.open_console(booted) as console:
        console.read_until(PROMPT, timeout=90)


def test_open_console_is_bounded_by_the_control(libvirtd: Libvirtd, booted: str) -> None:
    with (
        Hypervisor(unix.Local(timeout=2), libvirtd.uri) as limited,
        libvirtd.stopped(),
        pytest.raises(kvm.CommandTimeoutError, match=r"no output within 2 s$"),
    ):
        limited.domain.open_console(booted)
    assert not consoles(libvirtd.uri)


def test_read_until_is_bounded_while_the_guest_writes_without_end(hypervisor: Hypervisor, booted: str) -> None:
    with hypervisor.domain.open_console(booted) as console:
        watchdog = threading.Timer(60, console.close)
        watchdog.start()
        try:
            console.write(b"yes aaaaaaaaaaaaaaaaaaaa & sleep 4; kill $!\n")
            with pytest.raises(kvm.CommandTimeoutError, match=r"within 1 s$"):
                console.read_until(re.compile(b"never"), timeout=1)
            console.write(b"echo $((6*7))end\n")
            assert console.read_until(b"42end", timeout=60).count(b"aaaa") > 1
        finally:
            watchdog.cancel()


def test_read_until_refuses_more_than_its_bound(
    hypervisor: Hypervisor, booted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm.console, "_MAX_BYTES", 1000)
    with hypervisor.domain.open_console(booted) as console:
        console.write(b"i=0; while [ $i -lt 200 ]; do echo 0123456789; i=$((i+1)); done; echo en''d\n")
        with pytest.raises(kvm.KvmError, match="is not in the first 0 MiB: read these first"):
            console.read_until(b"never", timeout=60)
        rest = b""
        while b"end\r" not in rest:
            rest += console.read(timeout=60)
