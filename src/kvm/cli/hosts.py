"""Which hypervisors a command is for, and a call on all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import unix
from kvm.cli.arguments import Invocation, UsageError
from kvm.hypervisor import Hypervisor

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

T = TypeVar("T")

AT_ONCE = 32
"""How many hosts are asked at the same time."""

PATIENCE = 5
"""Seconds for which the end of what has been interrupted is waited for."""


class Target:
    """A hypervisor that is opened when its turn comes: its name, and how to open it."""

    def __init__(self, name: str, opened: Callable[[], AbstractContextManager[Hypervisor]]) -> None:
        self.name = name
        self.opened = opened


def targets(asked: Invocation) -> tuple[list[Target], bool]:
    """The hypervisors, and whether they are told apart by name in what is printed."""
    if asked.inventory is not None:
        import kvm

        fleet = kvm.Fleet.from_inventory(asked.inventory, asked.group, asked.connect)
        return [Target(name, _lent(fleet[name])) for name in fleet], True
    if asked.group is not None:
        raise UsageError("-g GROUP needs -i INVENTORY")
    if not asked.hosts:
        return [Target("", lambda: Hypervisor(unix.Local(), asked.connect))], False
    names = list(dict.fromkeys(asked.hosts))
    return [Target(name, _reached(name, asked)) for name in names], len(names) > 1


def _lent(hypervisor: Hypervisor) -> Callable[[], AbstractContextManager[Hypervisor]]:
    return lambda: hypervisor


def _reached(place: str, asked: Invocation) -> Callable[[], AbstractContextManager[Hypervisor]]:
    """How to reach the hypervisor at ``[USER@]HOST[:PORT]``, as ssh would."""
    user, _, rest = place.rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not (colon and port.isdecimal() and ("[" in host or ":" not in host)):
        host, port = rest, ""

    @contextmanager
    def opened() -> Iterator[Hypervisor]:
        with (
            unix.connect(
                host.strip("[]"), username=user or None, port=int(port) if port else None, config=asked.ssh_config
            ) as remote,
            Hypervisor(remote, asked.connect) as hypervisor,
        ):
            yield hypervisor

    return opened


def on_all(found: list[Target], call: Callable[[Hypervisor], T]) -> Iterator[tuple[str, T | Exception]]:
    """What `call` returns, or raises, for each hypervisor, in their order. Leaving the iterator leaves nothing running.

    One is asked here, several in threads. A Fleet can take its place.
    """
    if len(found) == 1:
        yield found[0].name, _called(found[0], call, [])
        return
    import queue
    import threading

    results: list[queue.SimpleQueue[T | Exception]] = [queue.SimpleQueue() for _ in found]
    waiting = list(reversed(list(zip(found, results, strict=True))))
    opened: list[Hypervisor] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                target, result = waiting.pop()
            except IndexError:
                return
            result.put(_called(target, call, opened, ended.is_set))

    threads = [threading.Thread(target=work, daemon=True) for _ in found[:AT_ONCE]]
    for thread in threads:
        thread.start()
    try:
        for target, result in zip(found, results, strict=True):
            yield target.name, result.get()
    finally:
        ended.set()
        enders = [threading.Thread(target=end, args=(each,), daemon=True) for each in list(opened)]
        for thread in enders:
            thread.start()
        for thread in (*enders, *threads):
            thread.join(PATIENCE)


def _called(
    target: Target, call: Callable[[Hypervisor], T], opened: list[Hypervisor], is_over: Callable[[], bool] = bool
) -> T | Exception:
    """What `call` returns or raises; meanwhile the hypervisor is among those that are `opened`."""
    try:
        with target.opened() as hypervisor:
            opened.append(hypervisor)
            try:
                return UsageError("it is over") if is_over() else call(hypervisor)
            finally:
                opened.remove(hypervisor)
    except Exception as error:  # noqa: BLE001  # whoever asked for it tells them apart
        return error


def end(hypervisor: Hypervisor) -> None:
    """End all that runs on a hypervisor's host for us."""
    if isinstance(hypervisor.host, unix.Remote):
        hypervisor.host.disconnect()
    hypervisor.close()
