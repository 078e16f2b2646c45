"""Actions whose virsh, or whose libvirtd, is killed while they are under way: the outcome is reported as unknown.

virsh is connected by a socket of the tests', which notes the calls that it has passed on, so that a test knows the
moment when libvirtd has the action.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

import kvm
import unix
from kvm import (
    CannotConnectError,
    CommandTimeoutError,
    ConnectionLostError,
    Hypervisor,
    InvalidStateError,
    NotFoundError,
)
from kvm.values import Outcome
from kvm.virsh.command import failure
from kvm.virsh.outcome import classify
from kvm.virsh.terminal import MarkedOutput, new_mark
from libvirtd import Libvirtd
from waiting import wait_until

T = TypeVar("T")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only a system daemon can be stopped and killed here")

NAME = "outcome"
GUEST = {
    "@type": "qemu",
    "name": NAME,
    "memory": {"@unit": "MiB", "#text": 32},
    "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
}


class Wire:
    """A socket in front of libvirtd's, which notes the calls that it has passed on."""

    def __init__(self, path: Path, uri: str) -> None:
        self.uri = f"qemu:///system?socket={path}"
        self._path = path
        self._libvirtd = uri.partition("socket=")[2]
        self._calls: set[int] = set()
        self._socket = socket.create_server(str(path), family=socket.AF_UNIX)
        self._opened = [self._socket]
        threading.Thread(target=self._accept, daemon=True).start()

    def has_passed(self, procedure: int) -> bool:
        """Whether libvirtd has been sent a call of this number, as libvirt's protocol has it."""
        return procedure in self._calls

    def kill(self) -> int:
        """Kill the virsh processes that are connected by it; return how many there were."""
        processes = self.processes()
        for process in processes:
            os.kill(process, signal.SIGKILL)
        return len(processes)

    def processes(self) -> set[int]:
        found = set()
        for process in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if b"virsh" in words[0] and f"--connect={self.uri}".encode() in words:
                    found.add(int(process))
        return found

    def close(self) -> None:
        for each in self._opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                libvirtd = socket.socket(socket.AF_UNIX)
                self._opened += [client, libvirtd]
                try:
                    libvirtd.connect(self._libvirtd)
                except OSError:  # it is down
                    client.close()
                    continue
                for source, target, calls in ((client, libvirtd, self._calls), (libvirtd, client, set())):
                    threading.Thread(target=self._pass, args=(source, target, calls), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, calls: set[int]) -> None:
        """Pass messages on: each begins with its length, and has the number of its procedure as its fourth word."""
        with suppress(OSError):
            while (head := source.recv(16, socket.MSG_WAITALL)) and len(head) == 16:
                length, _, _, procedure = struct.unpack(">4I", head)
                target.sendall(head + source.recv(length - 16, socket.MSG_WAITALL))
                calls.add(procedure)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(daemon: Libvirtd) -> Iterator[Wire]:
    wire = Wire(daemon.home / "wire", daemon.uri)
    yield wire
    wire.close()
    (daemon.home / "wire").unlink()


@pytest.fixture
def wired(wire: Wire) -> Iterator[Hypervisor]:
    """The hypervisor by the wire."""
    with Hypervisor(unix.Local(timeout=60), wire.uri) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def daemon() -> Iterator[Libvirtd]:
    """A libvirtd to stop and kill."""
    daemon = Libvirtd()
    yield daemon
    daemon.stop()


@pytest.fixture
def hypervisor(daemon: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(unix.Local(timeout=60), daemon.uri) as hypervisor:
        yield hypervisor


@pytest.fixture
def guest(hypervisor: Hypervisor) -> Iterator[str]:
    """A guest without an operating system, defined."""
    hypervisor.domain.define(GUEST)
    yield NAME
    with suppress(InvalidStateError):
        hypervisor.domain.destroy(NAME)
    hypervisor.domain.undefine(NAME, managed_save=True)


@contextmanager
def calling(call: Callable[[], T]) -> Iterator[Future[T]]:
    """Have another thread make a call for the duration of a block."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(call)


class Held:
    """A file of XML that holds up a virsh, once it has connected, until it is `fed`."""

    def __init__(self, path: Path, tag: str, conf: Mapping[str, Any]) -> None:
        os.mkfifo(path)
        self.path = path
        self._document = kvm.to_xml(tag, conf)

    @contextmanager
    def fed(self, daemon: Libvirtd, wire: Wire, procedure: int) -> Iterator[None]:
        """Have libvirtd be stopped, and have been sent what virsh was held up with, for the duration of a block."""
        with self.path.open("w") as file:  # which waits until virsh reads it
            os.kill(daemon.pid, signal.SIGSTOP)
            file.write(self._document)
        wait_until(lambda: wire.has_passed(procedure))
        yield


CREATE, DEFINE, CORE_DUMP, SECRET_DEFINE, UPLOAD = 10, 11, 53, 142, 208
"""The numbers of calls, as libvirt's protocol has them."""

SECRET = {"@ephemeral": "no", "@private": "no", "description": "of unknown outcome"}


@pytest.fixture
def created(tmp_path: Path, hypervisor: Hypervisor) -> Iterator[Held]:
    """A guest to be created."""
    yield Held(tmp_path / "guest", "domain", GUEST)
    with suppress(NotFoundError):
        hypervisor.domain.destroy(NAME)


@pytest.fixture
def running(hypervisor: Hypervisor, guest: str) -> str:
    hypervisor.domain.start(guest)
    return guest


@contextmanager
def standing_still(daemon: Libvirtd, name: str) -> Iterator[None]:
    """Have the QEMU of a guest not answer for the duration of a block."""
    (qemu,) = daemon.qemu(name)
    os.kill(qemu, signal.SIGSTOP)
    yield
    os.kill(qemu, signal.SIGCONT)


# -- virsh is killed


def test_killed_one_shot_action_has_unknown_outcome(
    hypervisor: Hypervisor, wired: Hypervisor, daemon: Libvirtd, wire: Wire, created: Held
) -> None:
    with calling(lambda: wired.domain.create(created.path)) as call:
        with created.fed(daemon, wire, CREATE):
            assert wire.kill() == 1
            error = call.exception()
        daemon.go_on()
    assert isinstance(error, ConnectionLostError)
    assert str(error).endswith("by SIGKILL; the outcome of create is unknown")
    assert error.outcome_unknown
    wait_until(lambda: NAME in hypervisor.domain.list(state_running=True))  # libvirt has done it


def test_killed_session_leaves_unknown_outcome(
    hypervisor: Hypervisor, wired: Hypervisor, daemon: Libvirtd, wire: Wire, tmp_path: Path
) -> None:
    held = Held(tmp_path / "defined", "domain", {**GUEST, "name": "defined"})
    with calling(lambda: wired.domain.define(held.path)) as call:
        with held.fed(daemon, wire, DEFINE):
            assert wire.kill() == 1
            error = call.exception()
        daemon.go_on()
    assert isinstance(error, ConnectionLostError)
    assert error.outcome_unknown
    wait_until(lambda: "defined" in hypervisor.domain.list(all=True))
    hypervisor.domain.undefine("defined")


def test_killed_job_has_unknown_outcome(
    hypervisor: Hypervisor, wired: Hypervisor, daemon: Libvirtd, wire: Wire, running: str, tmp_path: Path
) -> None:
    core = tmp_path / "core"
    with (
        calling(lambda: wired.domain.coredump(running, core)) as call,
        standing_still(daemon, running),
    ):
        wait_until(lambda: wire.has_passed(CORE_DUMP))
        assert wire.kill() == 1
        error = call.exception()
    assert isinstance(error, ConnectionLostError)
    assert str(error).endswith("by SIGKILL; the outcome of dump is unknown")
    assert error.outcome_unknown
    wait_until(lambda: hypervisor.domain.jobinfo(running) is None and hypervisor.domain.state(running) == "running")
    assert core.stat().st_size


def test_killed_upload_has_unknown_outcome(
    hypervisor: Hypervisor, wired: Hypervisor, wire: Wire, tmp_path: Path
) -> None:
    (tmp_path / "pool").mkdir()
    os.mkfifo(tmp_path / "source")
    hypervisor.pool.create_as("outcomes", "dir", target=str(tmp_path / "pool"))
    try:
        hypervisor.volume.create_as("outcomes", "disk", "1M")
        with (
            calling(lambda: wired.volume.upload("disk", tmp_path / "source", pool="outcomes")) as call,
            (tmp_path / "source").open("wb") as source,
        ):
            source.write(b"x" * 1000)
            source.flush()
            wait_until(lambda: wire.has_passed(UPLOAD))
            assert wire.kill() == 1
        error = call.exception()
    finally:
        hypervisor.pool.destroy("outcomes")
    assert isinstance(error, ConnectionLostError)
    assert error.outcome_unknown
    assert str(error).endswith(
        "the outcome of vol-upload is unknown: there may be a part of what was sent in volume 'disk'"
    )


def test_killed_one_shot_read_is_retried(wired: Hypervisor, daemon: Libvirtd, wire: Wire) -> None:
    cpu = "<cpu><arch>x86_64</arch><model>qemu64</model></cpu>"
    with calling(lambda: wired.generic.cpu_baseline(cpu)) as call:
        with daemon.stopped():
            wait_until(wire.processes)
            first = wire.processes()
            wire.kill()
            wait_until(lambda: wire.processes() - first)
        assert call.result()["model"]["#text"] == "qemu64"


# -- libvirtd is killed, which virsh itself reports


@pytest.mark.parametrize("check", [True, False])
def test_loss_that_virsh_reports_leaves_unknown_outcome(
    daemon: Libvirtd, wire: Wire, tmp_path: Path, check: bool
) -> None:
    held = Held(tmp_path / "secret", "secret", SECRET)
    with Hypervisor(unix.Local(timeout=60), wire.uri, check=check) as wired:
        wired.generic.uri()
        with (
            calling(lambda: wired.secret.define(held.path)) as call,
            held.fed(daemon, wire, SECRET_DEFINE),
        ):
            daemon.kill()
            error = call.exception()
        daemon.up()
        if check:
            assert isinstance(error, ConnectionLostError)
            assert str(error).endswith("the outcome of secret-define is unknown")
            assert error.outcome_unknown
        else:
            result = call.result()
            assert (result.status, result.value, result.outcome_unknown) == (False, None, True)
            assert result.stderr.endswith("error: the outcome of secret-define is unknown\n")


def test_one_shot_reports_lost_daemon_as_unknown(
    wired: Hypervisor, daemon: Libvirtd, wire: Wire, created: Held
) -> None:
    with (
        calling(lambda: wired.domain.create(created.path)) as call,
        created.fed(daemon, wire, CREATE),
    ):
        daemon.kill()
        error = call.exception()
    assert isinstance(error, ConnectionLostError)
    assert error.outcome_unknown
    daemon.up()


def test_action_without_a_connection_has_known_outcome(hypervisor: Hypervisor, daemon: Libvirtd, guest: str) -> None:
    daemon.down()
    hypervisor.close()
    try:
        with pytest.raises(CannotConnectError) as raised:
            hypervisor.domain.autostart(guest)
    finally:
        daemon.up()
    assert not raised.value.outcome_unknown


def test_action_that_could_not_reconnect_has_known_outcome() -> None:
    lost = b"error: Disconnected from qemu:///system due to keepalive timeout\n"
    stderr = lost + b"error: Failed to reconnect to the hypervisor\nerror: Failed to connect socket to '/run/x'\n"
    assert not classify("destroy", b"\n", stderr, reads=False).outcome_unknown
    stderr = lost + b"error: Failed to destroy domain 'x'\nerror: internal error: client socket is closed\n"
    assert classify("destroy", b"\n", stderr, reads=False).outcome_unknown


# -- consoles


@pytest.fixture
def with_console(host: unix.Host, daemon: Libvirtd) -> Iterator[Hypervisor]:
    """A hypervisor with a guest that has a console, and writes nothing to it."""
    with Hypervisor(host, daemon.uri) as hypervisor:
        hypervisor.domain.create({**GUEST, "devices": {"console": {"@type": "pty"}}})
        yield hypervisor
        with suppress(NotFoundError):
            hypervisor.domain.destroy(NAME)


def test_console_of_restarted_daemon_raises_a_loss(with_console: Hypervisor, daemon: Libvirtd) -> None:
    with with_console.domain.open_console(NAME) as console:
        daemon.kill()
        with pytest.raises(ConnectionLostError, match="Disconnected from"):
            console.read(timeout=20)
        with pytest.raises(ConnectionLostError, match="Disconnected from"):
            console.write(b"shutdown\n")
        with pytest.raises(ConnectionLostError, match="Disconnected from"):
            console.read_until(b"login: ", timeout=20)
    daemon.up()


def test_console_whose_virsh_is_killed_raises_a_loss(with_console: Hypervisor, wire: Wire) -> None:
    with Hypervisor(with_console.host, wire.uri).domain.open_console(NAME) as console:
        assert wire.kill() == 1
        with pytest.raises(ConnectionLostError, match="virsh ended unexpectedly"):
            console.read_until(b"login: ", timeout=20)


def test_console_sorts_a_mark_that_comes_in_pieces() -> None:
    mark = new_mark()
    stream = b"login: \x1f" + f"{mark}error: one\r\n{mark}two\n".encode() + b"\x1f\x1fx" + mark[:9].encode() + b"y\x1f"
    for size in range(1, len(stream)):
        output = MarkedOutput(mark)
        guest = b"".join(output.feed(stream[at : at + size]) for at in range(0, len(stream), size))
        assert output.may_be_mark
        assert guest + output.release() == b"login: \x1f\x1f\x1fx" + mark[:9].encode() + b"y\x1f"
        assert output.stderr == b"error: one\ntwo\n"


# -- what virsh leaves behind


@pytest.mark.parametrize(
    ("return_code", "stdout", "stderr", "is_unknown"),
    [
        (-15, b"", b"", True),
        (137, b"", b"Killed\n", True),  # as a shell or sudo says it
        (1, b"\n", b"", True),
        (-9, b"", b"error: Failed to sa", True),
        (1, b"", b"error: Failed to save domain x\n", False),
        (-6, b"", b"error: Failed to save domain x\nerror: Requested operation is not valid\n", False),
        (1, b"\nsave aborted\n", b"", False),
        (126, b"", b"virsh: Permission denied\n", False),
    ],
)
def test_end_without_an_answer_is_a_loss(return_code: int, stdout: bytes, stderr: bytes, is_unknown: bool) -> None:
    action = classify("save", stdout, stderr, reads=False, return_code=return_code)
    assert (action.return_code, action.outcome_unknown) == (return_code, is_unknown)
    read = classify("save", stdout, stderr, reads=True, return_code=return_code)
    assert not read.outcome_unknown
    for result in (action, read):
        assert isinstance(failure(["save"], result), ConnectionLostError) is is_unknown


def test_cpu_that_the_guest_keeps_has_unknown_outcome() -> None:
    inspect = b"Unplug result must be manually inspected in the domain"
    stderr = b"error: Timed out during operation: vcpu unplug request timed out. " + inspect + b"\n"
    result = classify("setvcpus", b"\n", stderr, reads=False)
    assert result.outcome_unknown
    assert isinstance(failure(["setvcpus"], result), CommandTimeoutError)
    busy = b"error: Timed out during operation: cannot acquire state change lock (held by monitor=x)\n"
    assert not classify("setvcpus", b"\n", busy, reads=False).outcome_unknown


def test_unknown_outcome_survives_pickling() -> None:
    result = classify("save", b"", b"", reads=False, return_code=-9)
    assert pickle.loads(pickle.dumps(result)).outcome_unknown
    assert pickle.loads(pickle.dumps(Outcome(result, None))).outcome_unknown
    assert pickle.loads(pickle.dumps(failure(["save"], result))).outcome_unknown
    assert "outcome_unknown" in repr(result)
