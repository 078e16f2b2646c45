"""What happens on a hypervisor, as it happens: the events that virsh prints, as values.

virsh's line says the kind of an event, quotes the object's name as it is, and ends with what the kind has to tell. So
names are found from both sides: a name ends where what follows can be read to the end. Where a name, a path or a URI
looks like a part of the line, there are several such places, and the hypervisor is asked which name it has.
"""

from __future__ import annotations

import json
import re
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Generic, NamedTuple, NotRequired, Self, TypeAlias, TypedDict, TypeVar

from kvm import text, units
from kvm.errors import UnreadableOutputError
from kvm.virsh.stream import Stream
from unix.controls import Deadline

D = TypeVar("D", covariant=True)


Kinds: TypeAlias = "list[str]"
"""The names of the kinds of events that there are."""


class EventOptions(TypedDict, total=False):
    """How long to listen: until the first event with ``loop=False``, for `timeout` seconds, or until it is closed.

    `timestamp` makes no difference: every event has its time.
    """

    loop: bool
    timeout: float | None
    timestamp: bool


Details = Mapping[str, Any]
"""What an event tells, where it can be of any kind: text, numbers, booleans, by name."""


class Event(NamedTuple, Generic[D]):
    """Something that has happened to the object named `name`, a domain or a pool or whatever was listened to.

    `time` is when virsh, or QEMU for its own events, saw it; `kind` is virsh's word, and `details` depends on it.
    """

    time: datetime
    kind: str
    name: str
    details: D


Known = Callable[[], Collection[str]]
"""Tells the names that the hypervisor has."""


class Events(Generic[D]):
    """Events as they come: an iterator that waits for the next one.

    What happens from the moment it was made is among them, however slow they are taken. It ends when it is closed, by
    any thread, or its time is up, or, with ``loop=False``, with the first event. `ConnectionLostError` if virsh, its
    connection to libvirt or the host's connection has come to an end; then all that came before has been taken.
    virsh ends with it, and with a block of which it is the context manager.

    >>> with hypervisor.domain.event(event="lifecycle") as events:
    ...     for event in events:
    ...         print(event.time, event.name, event.details["event"])
    """

    def __init__(self, stream: Stream, reader: Reader[D], known: Known, *, timeout: float | None, loop: bool) -> None:
        self._close = weakref.finalize(self, stream.close)  # also after an error in what follows
        self._stream = stream
        self._reader = reader
        self._known = known
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._loop = loop

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event[D]:
        record = self._stream.take(self._deadline)
        if record is None:
            self.close()
            raise StopIteration
        if not self._loop:
            self.close()
        return self._reader.read(record, self._known)

    def within(self, seconds: float) -> Event[D] | None:
        """The next event, or None if there is none in so many seconds, or none any more."""
        moment = time.monotonic() + units.seconds("within", seconds)
        record = self._stream.take(moment if self._deadline is None else min(moment, self._deadline))
        return None if record is None else self._reader.read(record, self._known)

    def until(self, deadline: Deadline) -> Iterator[Event[D]]:
        """The events that come before `deadline`."""
        while (record := self._stream.take(deadline.end)) is not None:
            yield self._reader.read(record, self._known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and virsh. Who waits for the next event is told that there is none."""
        self._close()


# -- reading ----------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of event: the TypedDict that it tells, and the pattern of what follows the name, with a group for each.

    If it is `open`, more lines can follow, and what was printed does not tell. `convert` changes texts before they are
    read into the shape, or makes something else of them.
    """

    shape: type[Any]
    pattern: re.Pattern[str]
    open: bool = False
    convert: Callable[[dict[str, str]], Any] | None = None

    def read(self, rest: str) -> Any:
        """The details in what follows the name; None if they are not of this kind."""
        found = self.pattern.fullmatch(rest)
        if found is None:
            return None
        raw = {name: "" if each in _NULL else each for name, each in found.groupdict(default="").items()}
        return self.convert(raw) if self.convert else text.typed(self.shape, raw)


_NULL = ("<null>", "(null)")


def kind(shape: type[Any], pattern: str = "", *, open: bool = False, convert: Any = None) -> Kind:
    return Kind(shape, re.compile(pattern, re.DOTALL), open, convert)


class Nothing(TypedDict):
    """What an event tells that has happened, and that is all."""


class LifecycleEvent(TypedDict):
    """``{'event': 'Started', 'detail': 'Booted'}``.

    `event` is ``'Defined'``, ``'Undefined'``, ``'Started'``, ``'Suspended'``, ``'Resumed'``, ``'Stopped'``,
    ``'Shutdown'`` (the guest has, QEMU not yet), ``'PMSuspended'`` or ``'Crashed'``; `detail` is why or how.
    """

    event: str
    detail: NotRequired[str]


class MetadataChange(TypedDict):
    """What was changed, ``'description'``, ``'title'`` or ``'element'``, and of an element the namespace."""

    type: str
    uri: str | None


def _without_nothing(raw: dict[str, str]) -> LifecycleEvent:
    return text.typed(LifecycleEvent, {name: each for name, each in raw.items() if each})


NOTHING = kind(Nothing)
LIFECYCLE = kind(LifecycleEvent, r": (?P<event>\w+)(?: (?P<detail>[\w/ -]+))?", convert=_without_nothing)
METADATA_CHANGE = kind(MetadataChange, r": type (?P<type>\w+(?: value)?), uri (?P<uri>.*)")


class Reader(ABC, Generic[D]):
    """Reads what virsh prints of events, an event a record."""

    header: re.Pattern[str]
    """What a record begins with, up to the name; its group `kind`."""

    begins: re.Pattern[bytes]

    stamped: bool
    """Whether virsh is to print the time of each."""

    def read(self, record: str, known: Known) -> Event[D]:
        """The event in a record. `UnreadableOutputError` if it is none, or if it is not clear whose it is."""
        events = self._readings(record)
        if len(events) > 1:
            names = known()
            events = [event for event in events if event.name in names]
        if len(events) != 1:
            raise UnreadableOutputError(f"virsh printed an event that cannot be read, or in two ways: {record!r}")
        return events[0]

    def is_whole(self, record: str) -> bool:
        """Whether nothing can follow what virsh has printed of an event."""
        events = self._readings(record)
        return bool(events) and not any(self.is_open(event.kind) for event in events)

    @abstractmethod
    def is_open(self, kind: str) -> bool:
        """Whether events of a kind have an end that cannot be told."""

    @abstractmethod
    def _readings(self, record: str) -> list[Event[D]]:
        """All the events that a record can be read as."""


class OfLibvirt(Reader[D]):
    """Reads events of libvirt's about an `object` as virsh calls it, such as ``storage pool``."""

    stamped = True

    def __init__(self, object: str, kinds: Mapping[str, Kind], *, quote: str = "") -> None:
        self._kinds = kinds
        self._quote = quote
        start = r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000): event '"
        self.begins = re.compile(start.encode())
        self.header = re.compile(rf"{start}(?P<kind>[^']+)' for {object} {quote}", re.ASCII)

    def is_open(self, kind: str) -> bool:
        return kind not in self._kinds or self._kinds[kind].open

    def _readings(self, record: str) -> list[Event[D]]:
        found = self.header.match(record)
        if found is None:
            return []
        try:
            moment, body = datetime.fromisoformat(found["time"]), record[found.end() :]
        except ValueError:
            return []
        readings = []
        for place in self._ends(body):
            rest = body[place + len(self._quote) :]
            for name, each in self._candidates(found["kind"]):
                try:
                    details = each.read(rest)
                except UnreadableOutputError:  # it only looked like that
                    continue
                if details is not None:
                    readings.append(Event(moment, name, body[:place], details))
                    break
        return readings

    def _ends(self, body: str) -> list[int]:
        """Where the name can end."""
        if self._quote:
            return [found.start() for found in re.finditer(self._quote, body)]
        return [*(found.start() for found in re.finditer(":", body)), len(body)]

    def _candidates(self, name: str) -> list[tuple[str, Kind]]:
        """What an event can be that virsh calls `name`: newer releases call two kinds ``io-error``."""
        known = [(each, self._kinds[each]) for each in (name, f"{name}-reason") if each in self._kinds]
        return known or [(name, _UNKNOWN)]


_UNKNOWN = kind(dict, r"(?:: ?| |(?=\n)|\Z)(?P<text>.*)", open=True, convert=dict)
"""What a newer libvirt tells: text."""


class OfQemu(Reader[dict[str, Any]]):
    """Reads events of QEMU's monitor."""

    stamped = False  # QEMU's own time is better
    begins = re.compile(rb"event \S+ at -?\d+\.\d{6} for domain '")
    header = re.compile(r"event (?P<kind>\S+) at (?P<seconds>-?\d{1,11})\.(?P<micros>\d{6}) for domain '", re.ASCII)

    def is_open(self, kind: str) -> bool:  # noqa: ARG002
        return False

    def _readings(self, record: str) -> list[Event[dict[str, Any]]]:
        found = self.header.match(record)
        if found is None:
            return []
        elapsed = timedelta(seconds=int(found["seconds"]), microseconds=int(found["micros"]))
        moment, body = datetime.fromtimestamp(0, UTC) + elapsed, record[found.end() :]
        return [
            Event(moment, found["kind"], body[: end.start()], details)
            for end in re.finditer("': ", body)
            if (details := _json(body[end.end() :])) is not None
        ]


def _json(data: str) -> dict[str, Any] | None:
    """The object that a text is in JSON; an empty one for none at all."""
    if data == "<null>":
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
