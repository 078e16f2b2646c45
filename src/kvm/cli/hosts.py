"""Which hypervisors a command is for, and a call on all of them at once."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import unix
from kvm.cli.arguments import Invocation, UsageError
from kvm.cli.ending import Asked, EndedError
from kvm.hypervisor import Hypervisor

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

T = TypeVar("T")

AT_ONCE = 32
"""How many hosts are asked at the same time."""

PATIENCE = 5
"""Seconds for which the end of what has been interrupted is waited for."""

_FOR_JOBS = 15
"""Seconds that jobs have to be cancelled; whoever asks a second time does not wait for them."""

_GLANCE = 0.05
"""Seconds between two looks at whether all has ended."""


class Target:
    """A hypervisor that is opened when its turn comes: its name, and how to open it.

    `opened` is given what takes note of a Remote before that connects.
    """

    def __init__(self, name: str, opened: Callable[..., AbstractContextManager[Hypervisor]]) -> None:
        self.name = name
        self.opened = opened


Note = Callable[[unix.Remote], object]


def unnoted(_: unix.Remote) -> None:
    """What takes no note."""


def targets(asked: Invocation) -> tuple[list[Target], bool]:
    """The hypervisors, and whether they are told apart by name in what is printed."""
    if asked.inventory is not None:
        import kvm

        try:
            fleet = kvm.Fleet.from_inventory(asked.inventory, asked.group, asked.connect)
        except OSError as error:
            raise UsageError(f"cannot read {asked.inventory}: {error.strerror}") from error
        except (kvm.KvmError, unix.UnixError) as error:
            raise UsageError(str(error)) from error
        return [Target(name, _lent(fleet[name])) for name in fleet], True
    if asked.group is not None:
        raise UsageError("-g GROUP needs -i INVENTORY")
    if not asked.hosts:
        return [Target("", _lent(Hypervisor(unix.Local(), asked.connect)))], False
    names = list(dict.fromkeys(asked.hosts))
    return [Target(name, _reached(name, asked)) for name in names], len(names) > 1


def _lent(hypervisor: Hypervisor) -> Callable[..., AbstractContextManager[Hypervisor]]:
    @contextmanager
    def opened(note: Note = unnoted) -> Iterator[Hypervisor]:
        if isinstance(hypervisor.host, unix.Remote):
            note(hypervisor.host)
        with hypervisor:
            yield hypervisor

    return opened


def _reached(place: str, asked: Invocation) -> Callable[..., AbstractContextManager[Hypervisor]]:
    """How to reach the hypervisor at ``[USER@]HOST[:PORT]``, as ssh would."""
    user, _, rest = place.rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not (colon and port.isdecimal() and ("[" in host or ":" not in host)):
        host, port = rest, ""

    @contextmanager
    def opened(note: Note = unnoted) -> Iterator[Hypervisor]:
        remote = unix.Remote()
        note(remote)
        remote.connect(
            host.strip("[]"), username=user or None, port=int(port) if port else None, config=asked.ssh_config
        )
        with remote, Hypervisor(remote, asked.connect) as hypervisor:
            yield hypervisor

    return opened


def on_one(target: Target, call: Callable[[Target, Hypervisor], T]) -> T | Exception:
    """What `call` returns or raises, in this thread: for what takes the terminal."""
    return _called(target, call, unnoted)


def _called(target: Target, call: Callable[[Target, Hypervisor], T], note: Note) -> T | Exception:
    try:
        with target.opened(note) as hypervisor:
            return call(target, hypervisor)
    except Exception as error:  # noqa: BLE001  # whoever asked for it tells them apart
        return error


class Calls:
    """A call on several hypervisors, in threads. What it is interrupted by never is in the middle of a call.

    `cancelled` is set when the program is asked to end. Calls that look at it (jobs) have time to end by themselves,
    those of others are ended.
    """

    def __init__(self, found: list[Target], *, jobs: bool = False) -> None:
        self.cancelled = threading.Event()
        self._found = found
        self._jobs = jobs
        self._remotes: list[unix.Remote] = []

    def run(self, call: Callable[[Target, Hypervisor], T]) -> Iterator[tuple[str, T | Exception]]:
        """What `call` returns or raises for each, by name, as it comes. Leaving the iterator leaves nothing running.

        `EndedError` if the program was asked to end, when what was under way has ended and was told.
        """
        said: queue.SimpleQueue[tuple[str, T | Exception] | int] = queue.SimpleQueue()
        waiting = deque(self._found)

        def unless_over(target: Target, hypervisor: Hypervisor) -> T:
            if self.cancelled.is_set():
                raise UsageError("it is over")
            return call(target, hypervisor)

        def work() -> None:
            while not self.cancelled.is_set():
                try:
                    target = waiting.popleft()
                except IndexError:
                    return
                said.put((target.name, _called(target, unless_over, self._remotes.append)))

        threads = [threading.Thread(target=work, daemon=True) for _ in self._found[:AT_ONCE]]
        with Asked(said.put):
            try:
                for thread in threads:
                    thread.start()
                for _ in self._found:
                    told = _next(said)
                    if isinstance(told, int):
                        yield from self._ended(threads, said)
                        raise EndedError(told)
                    yield told
                for thread in (*threads, *self._enders()):
                    thread.join()
            finally:
                self._end(threads)

    def _ended(
        self, threads: list[threading.Thread], said: queue.SimpleQueue[tuple[str, T | Exception] | int]
    ) -> Iterator[tuple[str, T | Exception]]:
        """End what is under way; how it has ended."""
        self.cancelled.set()
        told = [said.get() for _ in range(said.qsize())]
        deadline = time.monotonic() + (_FOR_JOBS if self._jobs else 0)
        while _live(threads) and time.monotonic() < deadline and not any(isinstance(each, int) for each in told):
            with suppress(queue.Empty):
                told.append(said.get(timeout=_GLANCE))
        self._end(threads)
        told += [said.get() for _ in range(said.qsize())]
        yield from (each for each in told if not isinstance(each, int))

    def _enders(self) -> list[threading.Thread]:
        """Threads that end the connections, started."""
        enders = [threading.Thread(target=each.disconnect, daemon=True) for each in list(self._remotes)]
        for thread in enders:
            thread.start()
        return enders

    def _end(self, threads: list[threading.Thread]) -> None:
        """End all that runs for us, there and here."""
        self.cancelled.set()
        deadline = time.monotonic() + PATIENCE
        while _live(threads) and time.monotonic() < deadline:
            enders = self._enders()
            while _live(enders) and time.monotonic() < deadline:
                time.sleep(_GLANCE)
            _end_children()
            for thread in _live(threads):
                thread.join(_GLANCE)


def _next(said: queue.SimpleQueue[T]) -> T:
    """The next one. A signal that comes right before a wait begins does not end it, so no wait is long."""
    while True:
        with suppress(queue.Empty):
            return said.get(timeout=_GLANCE)


def _live(threads: Iterable[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threads if thread.is_alive()]


def children() -> set[int]:
    """The processes that this one has started and that have not ended."""
    found: set[int] = set()
    with suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
    return found


def _end_children() -> None:
    """Ask what this program has started on this machine to end; each has a process group of its own."""
    for child in children():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGTERM)


def end(hypervisor: Hypervisor) -> None:
    """End all that runs on a hypervisor's host for us."""
    if isinstance(hypervisor.host, unix.Remote):
        hypervisor.host.disconnect()
    hypervisor.close()
