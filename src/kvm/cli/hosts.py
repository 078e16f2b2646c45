"""Which hypervisors a command is for, and a call on all of them at once."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import unix
from kvm.cli.arguments import Invocation, UsageError
from kvm.cli.ending import Asked, EndedError
from kvm.hypervisor import Hypervisor

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

T = TypeVar("T")

AT_ONCE = 32
"""How many hosts are asked at the same time."""

_CONNECT_TIMEOUT = 10
"""Seconds for connecting to a host that no inventory describes."""

PATIENCE = 5
"""Seconds for which the end of what has been interrupted is waited for."""

_FOR_JOBS = 15
"""Seconds that jobs have to be cancelled; whoever asks a second time does not wait for them."""

_GRACE = 2
"""Seconds between a command's own time limit and giving up its host."""

_GLANCE = 0.05
"""Seconds between two looks at whether all has ended."""


class Target:
    """A hypervisor to be opened later: its name, its URI (None: virsh's default), and how to open it.

    `opened` is given a function that it calls with the Remote before that connects.
    """

    def __init__(self, name: str, uri: str | None, opened: Callable[..., AbstractContextManager[Hypervisor]]) -> None:
        self.name = name
        self.uri = uri
        self.opened = opened


Note = Callable[[unix.Remote], object]


def unnoted(_: unix.Remote) -> None:
    """Ignore a Remote: the default for `note`."""


def targets(asked: Invocation) -> tuple[list[Target], bool]:
    """The hypervisors, and whether the output names them.

    -H and -g select hosts of inventories; without an inventory -H names hosts for ssh. -c and -F override what an
    inventory says.
    """
    if asked.inventories:
        return _of_inventories(asked), True
    if asked.groups:
        raise UsageError("-g GROUP needs -i INVENTORY")
    if not asked.hosts:
        if asked.ssh_config is not None:
            raise UsageError("-F FILE needs -H HOST or -i INVENTORY")
        return [Target("", asked.connect, _local(asked.connect))], False
    from kvm.cli.messages import of_error
    from unix.ssh import Address

    names = list(dict.fromkeys(asked.hosts))
    for name in names:
        try:
            Address.parse(name)
        except unix.ArgumentError as error:
            raise UsageError(f"-H: {of_error(error)}") from error
    found = [_over_ssh(name, asked.connect, {"host": name, "timeout": _CONNECT_TIMEOUT}, asked) for name in names]
    return found, len(names) > 1


def _of_inventories(asked: Invocation) -> list[Target]:
    from kvm import inventory
    from kvm.errors import KvmError

    try:
        read = {}
        for path in dict.fromkeys(asked.inventories):
            read[path] = inventory.read(path)
        all_hosts = inventory.merged(read)
        chosen = inventory.narrowed(all_hosts, asked.groups, asked.hosts, ", ".join(read))
        found = {name: _target(name, settings, asked) for name, settings in chosen.hosts.items()}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (KvmError, unix.UnixError) as error:
        raise UsageError(str(error)) from error
    found |= {name: Target(name, asked.connect, _refused(str(error))) for name, error in chosen.refused.items()}
    return [found[name] for name in all_hosts.names if name in found]


def _target(name: str, settings: Mapping[str, Any], asked: Invocation) -> Target:
    uri = settings.get("uri") if asked.connect is None else asked.connect
    if settings.get("connection") == "local":
        return Target(name, uri, _local(uri))
    from kvm.inventory import connect_arguments

    return _over_ssh(name, uri, connect_arguments(name, settings), asked)


def _over_ssh(name: str, uri: str | None, arguments: dict[str, Any], asked: Invocation) -> Target:
    if asked.ssh_config is not None:
        arguments["config"] = asked.ssh_config
    if asked.timeout is not None:
        arguments["timeout"] = min(arguments["timeout"], asked.timeout)

    @contextmanager
    def opened(note: Note = unnoted) -> Iterator[Hypervisor]:
        remote = unix.Remote()
        note(remote)
        remote.connect(**arguments)
        with remote, Hypervisor(remote, uri) as hypervisor:
            yield hypervisor

    return Target(name, uri, opened)


def _local(uri: str | None) -> Callable[..., AbstractContextManager[Hypervisor]]:
    return lambda note=unnoted: Hypervisor(unix.Local(), uri)  # noqa: ARG005


def _refused(reason: str) -> Callable[..., AbstractContextManager[Hypervisor]]:
    def opened(note: Note = unnoted) -> AbstractContextManager[Hypervisor]:  # noqa: ARG001
        from kvm.inventory import InventoryError

        raise InventoryError(reason)

    return opened


def on_one(target: Target, call: Callable[[Target, Hypervisor], T]) -> T | Exception:
    """Return the value or the exception of `call` in this thread, for commands that take the terminal."""
    return _called(target, call, unnoted, None)


def _called(
    target: Target, call: Callable[[Target, Hypervisor], T], note: Note, deadline: float | None
) -> T | Exception:
    try:
        with target.opened(note) as hypervisor:
            if deadline is None:
                return call(target, hypervisor)
            with hypervisor.set_controls(timeout=max(deadline - time.monotonic(), 0.1)):
                return call(target, hypervisor)
    except Exception as error:  # noqa: BLE001  # an error of one host is its result
        return error


class Calls:
    """A call on several hypervisors, in threads. What it is interrupted by never is in the middle of a call.

    `cancelled` is set when the program is asked to end. Calls that look at it (jobs) have time to end by themselves,
    those of others are ended. A host that has not answered `timeout` seconds after its call began is given up.
    """

    def __init__(self, found: list[Target], *, jobs: bool = False, timeout: float | None = None) -> None:
        self.cancelled = threading.Event()
        self._found = found
        self._jobs = jobs
        self._timeout = timeout
        self._late = False
        self._begun: dict[str, float] = {}
        self._remotes: dict[str, unix.Remote] = {}

    def run(self, call: Callable[[Target, Hypervisor], T]) -> Iterator[tuple[str, T | Exception]]:
        """Yield the name of each host, with the value or the exception of `call`, as soon as it is there.

        Closing the iterator ends all running calls. `EndedError` if a signal has asked the program to end, after the
        running calls have ended and their results were yielded.
        """
        messages: queue.SimpleQueue[tuple[str, T | Exception] | int] = queue.SimpleQueue()
        waiting = deque(self._found)
        unanswered = {target.name for target in self._found}

        def unless_over(target: Target, hypervisor: Hypervisor) -> T:
            if self.cancelled.is_set():
                raise UsageError("already finished")
            return call(target, hypervisor)

        def work() -> None:
            while not self.cancelled.is_set():
                try:
                    target = waiting.popleft()
                except IndexError:
                    return
                begun = self._begun[target.name] = time.monotonic()
                deadline = None if self._timeout is None else begun + self._timeout
                note = partial(self._remotes.__setitem__, target.name)
                messages.put((target.name, _called(target, unless_over, note, deadline)))

        threads = [threading.Thread(target=work, daemon=True) for _ in self._found[:AT_ONCE]]
        with Asked(messages.put):
            try:
                for thread in threads:
                    thread.start()
                while unanswered:
                    message = _next(messages)
                    if isinstance(message, int):
                        yield from self._ended(threads, messages)
                        raise EndedError(message)
                    for name, answer in (message,) if message else self._given_up(unanswered):
                        if name in unanswered:
                            unanswered.remove(name)
                            yield name, answer
                if self._late:
                    self._end(threads)
                else:
                    for thread in (*threads, *self._enders()):
                        thread.join()
            finally:
                self._end(threads)

    def _given_up(self, unanswered: set[str]) -> list[tuple[str, Exception]]:
        """Return the hosts that have exceeded the deadline, with an error for each."""
        if self._timeout is None:
            return []
        from kvm.errors import CommandTimeoutError

        late = time.monotonic() - self._timeout - (_FOR_JOBS if self._jobs else _GRACE)
        names = [name for name, begun in list(self._begun.items()) if name in unanswered and begun < late]
        self._late = self._late or bool(names)
        for name in names:
            if remote := self._remotes.get(name):
                threading.Thread(target=remote.disconnect, daemon=True).start()
        message = f"no answer within {self._timeout:g} s; what has begun there may still complete"
        return [(name, CommandTimeoutError(message)) for name in names]

    def _ended(
        self, threads: list[threading.Thread], messages: queue.SimpleQueue[tuple[str, T | Exception] | int]
    ) -> Iterator[tuple[str, T | Exception]]:
        """End the running calls, and yield their results."""
        self.cancelled.set()
        last = [messages.get() for _ in range(messages.qsize())]
        deadline = time.monotonic() + (_FOR_JOBS if self._jobs else 0)
        while _live(threads) and time.monotonic() < deadline and not any(isinstance(each, int) for each in last):
            with suppress(queue.Empty):
                last.append(messages.get(timeout=_GLANCE))
        self._end(threads)
        last += [messages.get() for _ in range(messages.qsize())]
        yield from (each for each in last if not isinstance(each, int))

    def _enders(self) -> list[threading.Thread]:
        """Threads that end the connections, started."""
        enders = [threading.Thread(target=each.disconnect, daemon=True) for each in list(self._remotes.values())]
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


def _next(messages: queue.SimpleQueue[T]) -> T | None:
    """Return the next message, or None after a while: a signal just before the wait begins would not end it."""
    try:
        return messages.get(timeout=_GLANCE)
    except queue.Empty:
        return None


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
