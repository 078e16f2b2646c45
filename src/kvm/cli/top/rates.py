"""What guests do: two looks at their counters -> rates, and rates -> rows in an order. Pure.

A figure is None where nobody tells it: at the first look, where a guest has no such thing, where the hypervisor does
not count it, and where a counter has gone back, as all do when a guest starts anew. No rate is ever negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Figures(NamedTuple):
    """A guest at one look: bytes, nanoseconds of CPUs, and what its disks and interfaces have counted so far.

    `disks` and `interfaces` are their names: with others the sums are those of other things.
    """

    state: str
    cpu: int | None = None
    memory: int | None = None
    rss: int | None = None
    used: int | None = None
    disks: tuple[str, ...] = ()
    read: int | None = None
    write: int | None = None
    read_requests: int | None = None
    write_requests: int | None = None
    interfaces: tuple[str, ...] = ()
    rx: int | None = None
    tx: int | None = None


class Sample(NamedTuple):
    """A host at one look: when that was, in seconds, its guests by name, and its own figures.

    `cpus` is how many it has; `busy` and `idle` are nanoseconds of all of them so far, memory is in bytes; `took` is
    how many seconds the answer took.
    """

    time: float
    guests: Mapping[str, Figures]
    cpus: int | None = None
    busy: int | None = None
    idle: int | None = None
    memory: int | None = None
    memory_used: int | None = None
    took: float | None = None


class Row(NamedTuple):
    """What a guest does: percentages, bytes, bytes and requests a second."""

    host: str
    name: str
    state: str
    cpu: float | None
    host_cpu: float | None
    memory: int | None
    rss: int | None
    used: int | None
    read: float | None
    write: float | None
    read_requests: float | None
    write_requests: float | None
    rx: float | None
    tx: float | None


class Summary(NamedTuple):
    """A host: its guests and those of them that run, its CPUs and memory, seconds it took; or why nothing is known."""

    host: str
    guests: int | None = None
    running: int | None = None
    cpu: float | None = None
    cpus: int | None = None
    memory: int | None = None
    memory_used: int | None = None
    took: float | None = None
    error: str | None = None


def rate(before: int | None, now: int | None, seconds: float) -> float | None:
    """How much a counter goes on in a second; None if that is not known."""
    if before is None or now is None or now < before or seconds <= 0:
        return None
    return (now - before) / seconds


_NOTHING = Figures("no state")


def rows(host: str, before: Sample | None, now: Sample) -> list[Row]:
    """What the guests of a host have done between two looks at it."""
    earlier = before.guests if before else {}
    seconds = now.time - before.time if before else 0.0
    return [
        _row(host, name, earlier.get(name, _NOTHING), guest, seconds, now.cpus) for name, guest in now.guests.items()
    ]


def _row(host: str, name: str, before: Figures, now: Figures, seconds: float, cpus: int | None) -> Row:
    cpu = rate(before.cpu, now.cpu, seconds)
    if cpu is None and before.cpu is not None and now.cpu is not None:  # another run of the guest: all counters are new
        before = _NOTHING
    cpu = None if cpu is None else cpu / 1e7
    same_disks, same_interfaces = before.disks == now.disks, before.interfaces == now.interfaces
    return Row(
        host,
        name,
        now.state,
        cpu,
        cpu / cpus if cpu is not None and cpus else None,
        now.memory,
        now.rss,
        now.used,
        rate(before.read, now.read, seconds) if same_disks else None,
        rate(before.write, now.write, seconds) if same_disks else None,
        rate(before.read_requests, now.read_requests, seconds) if same_disks else None,
        rate(before.write_requests, now.write_requests, seconds) if same_disks else None,
        rate(before.rx, now.rx, seconds) if same_interfaces else None,
        rate(before.tx, now.tx, seconds) if same_interfaces else None,
    )


INACTIVE = "shut off"

_RUNNING = {"running", "idle", "no state", "in shutdown"}


def summary(host: str, before: Sample | None, now: Sample) -> Summary:
    """A host between two looks at it. Its CPUs are in percent of all of them."""
    running = sum(guest.state in _RUNNING for guest in now.guests.values())
    busy = idle = None
    if before:
        busy, idle = rate(before.busy, now.busy, 1), rate(before.idle, now.idle, 1)
    cpu = 100 * busy / (busy + idle) if busy is not None and idle is not None and busy + idle > 0 else None
    return Summary(host, len(now.guests), running, cpu, now.cpus, now.memory, now.memory_used, now.took)


# -- which rows, and in which order -------------------------------------------------------------------------------

SORTS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu",),
    "memory": ("rss", "memory"),
    "disk": ("read", "write"),
    "network": ("rx", "tx"),
    **{each: (each,) for each in Row._fields if each not in ("cpu", "memory")},
}
"""What rows may be ordered by, and the figures that count: of memory the first that is known, of others the sum."""


def in_order(found: Iterable[Row], by: str, *, backwards: bool = False) -> list[Row]:
    """Rows with the greatest first, texts from A to Z; what is not known comes last, and what is equal by its name."""
    by_name = sorted(found, key=lambda row: (row.name, row.host))
    if by in ("name", "host", "state"):
        return sorted(by_name, key=lambda row: str(getattr(row, by)), reverse=backwards)
    weights = [_weight(row, by) for row in by_name]
    known = [place for place, weight in enumerate(weights) if weight is not None]
    known.sort(key=lambda place: weights[place] or 0.0, reverse=not backwards)
    return [by_name[place] for place in known] + [
        row for row, weight in zip(by_name, weights, strict=True) if weight is None
    ]


def _weight(row: Row, by: str) -> float | None:
    """What counts of a row; None if that is not known."""
    told = [figure for field in SORTS[by] if (figure := getattr(row, field)) is not None]
    return None if not told else told[0] if by == "memory" else sum(told)


def chosen(found: Iterable[Row], text: str = "", *, inactive: bool = False) -> list[Row]:
    """The rows that have each word of `text` in host, name or state, in whatever case; of active guests, or of all."""
    words = text.casefold().split()
    return [
        row
        for row in found
        if (inactive or row.state != INACTIVE)
        and (not words or all(word in f"{row.host}\0{row.name}\0{row.state}".casefold() for word in words))
    ]


# -- what is known of several hosts ---------------------------------------------------------------------------------


class Host:
    """What is known of one host: its last two samples, or why there are none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []
        self.summary = Summary(name)
        self.heard: float | None = None
        self._last: Sample | None = None

    def tell(self, sample: Sample) -> None:
        """What a new look has shown."""
        self.rows = rows(self.name, self._last, sample)
        self.summary = summary(self.name, self._last, sample)
        self._last = sample
        self.heard = sample.time

    def fail(self, error: str) -> None:
        """It could not be looked at. What guests have counted until it can be is theirs all the same."""
        self.rows = []
        self.summary = Summary(self.name, error=error)
        self.heard = None
