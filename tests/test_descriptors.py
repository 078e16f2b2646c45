"""Descriptors have one owner: no thread reads, writes or closes a number that another one has closed.

What goes wrong otherwise goes wrong in a few instructions, so threads are switched after every few of them here.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, BinaryIO

import pytest

import kvm
import unix
from kvm import Hypervisor
from libvirtd import Libvirtd
from sshd import Sshd
from waiting import wait_until

if TYPE_CHECKING:
    from kvm.console import Console
    from unix.connection import Connection
    from unix.process import Process


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads are switched as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Strangers:
    """Pipes, which get the numbers that others have closed. Only their owner may read, write or close them."""

    def __init__(self, count: int = 32) -> None:
        self._pipes = [os.pipe() for _ in range(count)]
        self._files = [os.fstat(end) for pipe in self._pipes for end in pipe]
        for _, writing in self._pipes:
            os.write(writing, b"theirs")

    def check(self) -> None:
        """See that they are as they were, and close them."""
        ends = [end for pipe in self._pipes for end in pipe]
        assert all(os.path.samestat(os.fstat(end), file) for end, file in zip(ends, self._files, strict=True))
        for reading, writing in self._pipes:
            assert select.select([reading], [], [], 0)[0], "somebody has read what is not theirs"
            assert os.read(reading, 100) == b"theirs"
            os.close(reading)
            os.close(writing)


def children(word: str) -> list[int]:
    """The processes that this one has started with `word` in their command lines."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                if word.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def race(*racers: Callable[[], object]) -> None:
    """Have all of them begin at once, in threads, and end; what they raise is raised."""
    start = threading.Barrier(len(racers))
    errors: list[BaseException] = []

    def run(racer: Callable[[], object]) -> None:
        start.wait()
        try:
            racer()
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=[racer]) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def strangers_come(until: Callable[[], bool], left: list[Strangers]) -> Callable[[], None]:
    """Opens pipes as long as something goes on, which take each number that is closed meanwhile."""

    def come() -> None:
        while not until():
            if len(left) > 20:
                left.pop(0).check()
            left.append(Strangers(2))

    return come


def test_a_stream_that_was_lost_is_closed_and_writes_nowhere() -> None:
    events = Hypervisor(unix.Local(), "test:///default").domain.event()
    os.kill(events._stream._process.pid, signal.SIGKILL)
    with pytest.raises(kvm.ConnectionLostError):
        next(events)
    events._stream._thread.join()
    strangers = Strangers()
    events.close()
    strangers.check()


def raced(is_over: Callable[[], bool], *racers: Callable[[], object]) -> None:
    """Have racers race beside strangers, and see that these are as they were."""
    left: list[Strangers] = []
    race(*racers, strangers_come(is_over, left))
    for each in left:
        each.check()


def test_a_stream_is_closed_between_the_ends_of_its_pipe() -> None:
    events = Hypervisor(unix.Local(), "test:///default").domain.event()
    stream = events._stream
    wake, errors = stream._wake, list[BaseException]()

    def close() -> None:
        try:
            stream.close()
        except OSError as error:
            errors.append(error)

    closing = threading.Thread(target=close)

    class Wake:
        def close(self) -> None:
            if not wake.closed:
                wake.close()
                closing.start()
                closing.join(0.3)  # it waits until the other end is closed as well

    stream._wake = Wake()  # type: ignore[assignment]
    os.kill(stream._process.pid, signal.SIGKILL)
    stream._thread.join()
    closing.join()
    assert not errors
    events.close()


@pytest.mark.usefixtures("switching")
def test_a_stream_is_closed_while_it_is_lost() -> None:
    for _ in range(15):
        events = Hypervisor(unix.Local(), "test:///default").domain.event()
        virsh = events._stream._process.pid
        raced(
            partial(has_died, events._stream._thread),
            partial(kill, virsh),
            events.close,
            events._stream.close,
        )


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it was ended before
        os.kill(pid, signal.SIGKILL)


def has_died(thread: threading.Thread) -> bool:
    return not thread.is_alive()


@pytest.mark.usefixtures("switching")
def test_a_connection_is_looked_at_while_it_is_closed(sshd: Sshd) -> None:
    for _ in range(8):
        with sshd.connect() as remote:
            connection = remote._connection
            assert connection
            is_over = threading.Event()
            raced(is_over.is_set, *close_and_look(remote.disconnect, connection, is_over))
            assert not connection.is_alive


def close_and_look(
    close: Callable[[], object], connection: Connection, is_over: threading.Event
) -> Iterator[Callable[[], None]]:
    def disconnect() -> None:
        try:
            close()
        finally:
            is_over.set()

    def look() -> None:
        while not is_over.is_set():
            connection.lost() if connection.is_alive else connection._ssh_said()

    yield from (disconnect, look, look)


@pytest.mark.usefixtures("switching")
def test_a_process_there_is_ended_while_others_wait_for_it(sshd: Sshd) -> None:
    with sshd.connect() as remote:
        for _ in range(10):
            process = remote.popen(["sleep", "1000"])
            has_ended = partial(has_return_code, process)
            raced(has_ended, process.end, process.wait, process.end, process.wait)


def has_return_code(process: Process) -> bool:
    return process.returncode is not None


@pytest.mark.usefixtures("switching")
def test_a_file_there_is_closed_while_it_is_written(sshd: Sshd, tmp_path: Path) -> None:
    with sshd.connect() as remote:
        for number in range(6):
            file = remote.open(tmp_path / str(number), "w")
            raced(partial(getattr, file, "closed"), partial(write_until_closed, file), file.close)
            assert (tmp_path / str(number)).read_bytes().replace(b"ours", b"") == b""


def write_until_closed(file: BinaryIO) -> None:
    with pytest.raises(ValueError, match="closed"):
        while True:
            file.write(b"ours")


@pytest.mark.usefixtures("switching")
def test_a_console_is_closed_while_it_is_read(libvirtd: Libvirtd) -> None:
    conf = {"@type": "qemu", "name": "silent", "memory": 8192, "os": {"type": {"@arch": "x86_64", "#text": "hvm"}}}
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        hypervisor.domain.create({**conf, "devices": {"console": {"@type": "pty"}}})
        try:
            for _ in range(6):
                console = hypervisor.domain.open_console("silent", force=True)
                raced(
                    partial(getattr, console, "closed"),
                    partial(read_until_closed, console),
                    console.close,
                    console.close,
                )
                with pytest.raises(ValueError, match="closed"):
                    console.fileno()
        finally:
            hypervisor.domain.destroy("silent")


def read_until_closed(console: Console) -> None:
    while not console.closed:
        console.read()


def test_a_file_closed_in_a_transfer_costs_no_other_file(libvirtd: Libvirtd, tmp_path: Path) -> None:
    """virsh opens our file by its number: it may have been closed, and the number be another file's, when it does."""
    late = tmp_path / "virsh"
    late.write_text(f'#!/bin/sh\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.01; done\nexec {which("virsh")} "$@"\n')
    late.chmod(0o755)
    (tmp_path / "images").mkdir()
    ours, other = (tmp_path / "ours").open("wb", 0), tmp_path / "other"
    other.write_bytes(b"")

    def close() -> None:
        wait_until(lambda: children("vol-download"))
        number = ours.fileno()
        ours.close()
        with other.open("wb", 0) as another:
            assert another.fileno() == number
            (tmp_path / "go").touch()
            wait_until(lambda: not children("vol-download"))

    def download() -> None:
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        with hypervisor.set_controls(envs=path), pytest.raises(ValueError, match="closed file"):
            hypervisor.volume.download("disk", ours, pool="images")

    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        hypervisor.pool.create_as("images", "dir", target=str(tmp_path / "images"))
        try:
            hypervisor.volume.create_as("images", "disk", 1024**2)
            (tmp_path / "images" / "disk").write_bytes(b"x" * 1024**2)
            race(close, download)
        finally:
            hypervisor.pool.destroy("images")
    assert other.read_bytes() == b""
    assert (tmp_path / "ours").read_bytes() == b"x" * 1024**2
