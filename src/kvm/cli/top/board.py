"""Rows and summaries -> lines of a terminal that is so many columns wide. Pure.

A line is pieces of text with the name of their colour, or none. What does not fit is left out column by column, the
least important first; the name takes the room that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from kvm.cli.render import cell, colour_of, cut, width_of
from kvm.cli.top.rates import Row, Summary

Piece = tuple[str, str | None]
Line = tuple[Piece, ...]


def size(number: float | None) -> str:
    """Bytes in five places: ``512``, ``9.5K``, ``1023M``."""
    return "-" if number is None else _short(number, 1024)


def count(number: float | None) -> str:
    """A number in five places: ``512``, ``9.5k``."""
    return "-" if number is None else _short(number, 1000).lower()


def percent(number: float | None) -> str:
    """A percentage in five places."""
    return "-" if number is None else f"{number:.1f}" if number < 999.95 else f"{number:.0f}"


def _short(number: float, base: int) -> str:
    figure = float(number)
    for unit in ("", "K", "M", "G", "T", "P"):
        if round(figure) < base or unit == "P":
            break
        figure /= base
    return f"{figure:.1f}{unit}" if unit and round(figure, 1) < 10 else f"{figure:.0f}{unit}"


class Column(NamedTuple):
    """A column of figures: the field of a row, heading, width, how it is written, and what a click orders by."""

    field: str
    heading: str
    width: int
    write: Callable[[float | None], str]
    sort: str


FIGURES = (
    Column("cpu", "CPU%", 6, percent, "cpu"),
    Column("host_cpu", "HOST%", 6, percent, "host_cpu"),
    Column("rss", "RSS", 5, size, "memory"),
    Column("memory", "MEM", 5, size, "memory"),
    Column("used", "USED", 5, size, "used"),
    Column("read", "READ/s", 7, size, "read"),
    Column("write", "WRIT/s", 7, size, "write"),
    Column("read_requests", "RREQ/s", 7, count, "read_requests"),
    Column("write_requests", "WREQ/s", 7, count, "write_requests"),
    Column("rx", "RX/s", 6, size, "rx"),
    Column("tx", "TX/s", 6, size, "tx"),
)

_LEFT_OUT = (
    ("used",), ("host_cpu",), ("read_requests", "write_requests"), ("memory",), ("state",), ("rx", "tx"),
    ("read", "write"), ("host",), ("rss",),
)  # fmt: skip
"""The columns that are left out where there is no room, in this order."""

_NAME = 12
"""How wide a column of names is at least, before anything is left out for it."""

_MARKED = {"memory": {"rss"}, "disk": {"read", "write"}, "network": {"rx", "tx"}}
"""The headings of an order that is not by the figure of its name."""


class Board:
    """How rows are shown in so many columns: which of their figures, and how wide texts are."""

    def __init__(self, width: int, rows: Sequence[Row], *, with_host: bool) -> None:
        name = _widest((row.name for row in rows), 5)
        widths = {
            **({"host": min(_widest((row.host for row in rows), 5), 20)} if with_host else {}),
            "state": _widest((row.state for row in rows), 7),
            **{column.field: column.width for column in FIGURES},
        }

        def room() -> int:
            return width - sum(widths.values()) - len(widths)

        for fields in _LEFT_OUT:
            if room() >= min(name, _NAME):
                break
            for field in fields:
                widths.pop(field, None)
        widths["name"] = max(min(name, room()), 1)
        self.width = width
        self.texts = [(field, widths[field]) for field in ("host", "name", "state") if field in widths]
        self.figures = [column for column in FIGURES if column.field in widths]
        self._first = [(Row._fields.index(field), width) for field, width in self.texts if field != "state"]
        self._state = widths.get("state", 0)
        self._rest = [(Row._fields.index(each.field), each.width, each.write) for each in self.figures]

    def heading(self, sort: str, *, backwards: bool) -> Line:
        """The heading, with a mark where the order comes from."""
        marked = _MARKED.get(sort, {sort})
        mark = "▲" if backwards else "▼"
        titles = [
            *(f"{field.upper() + mark * (field in marked):{width}}" for field, width in self.texts),
            *(f"{each.heading + mark * (each.field in marked):>{each.width}}" for each in self.figures),
        ]
        return filled([(" ".join(titles), "heading")], self.width, "heading")

    def sort_at(self, place: int) -> str | None:
        """What a click at this place of the heading orders by."""
        for sort, width in [*self.texts, *((each.sort, each.width) for each in self.figures)]:
            if place <= width:
                return sort
            place -= width + 1
        return None

    def line(self, row: Row) -> Line:
        """One row."""
        texts = " ".join([fitted(str(row[place]), width) for place, width in self._first])
        figures = "".join([f" {write(row[place]):>{width}}" for place, width, write in self._rest])  # type: ignore[arg-type]
        if not self._state:
            return ((texts + figures, None),)
        return ((f"{texts} ", None), (fitted(row.state, self._state), colour_of(row.state)), (figures, None))


def summaries(hosts: Sequence[Summary], width: int, lines: int, notes: dict[str, str]) -> list[Line]:
    """A line for each host, at most so many; where there are more, for those that fail and the busiest.

    With several hosts the first line is for all of them. `notes` are remarks about hosts, such as that they are silent.
    """
    several = len(hosts) > 1
    shown: list[Line] = []
    if several:
        shown.append(_line_of_all(hosts, width))
    room = max(lines - len(shown), 1)
    named = _widest((host.host for host in hosts), 0) if several else 0
    first = list(hosts)
    if len(first) > room:
        first.sort(key=lambda host: (host.error is None and host.host not in notes, -(host.cpu or 0)))
        first = first[: max(room - 1, 1)]
    shown += [_line_of_host(host, min(named, 24), width, notes.get(host.host, "")) for host in first]
    if len(first) < len(hosts):
        shown.append(filled([(f"and {len(hosts) - len(first)} more", "faint")], width))
    return shown[: max(lines, 1)]


def _line_of_all(hosts: Sequence[Summary], width: int) -> Line:
    failed = sum(host.error is not None for host in hosts)
    told = [host for host in hosts if host.guests is not None]
    guests = f"{sum(host.running or 0 for host in told)}/{sum(host.guests or 0 for host in told)} guests running"
    pieces: list[Piece] = [(f"{len(hosts)} hosts", "bold"), (f"  {guests}", None)]
    if failed:
        pieces.append((f"  {failed} failed", "31"))
    return filled(pieces, width)


def _line_of_host(host: Summary, named: int, width: int, note: str) -> Line:
    pieces: list[Piece] = [(f"{fitted(host.host, named)}  ", "bold")] if named else []
    if host.error is not None:
        return filled([*pieces, (cell(host.error), "31")], width)
    if host.guests is None:
        return filled([*pieces, (note or "asking ...", "33" if note else "faint")], width)
    known = [f"{host.running}/{host.guests} guests running"]
    if host.cpus is not None:
        known.append(f"CPU {percent(host.cpu):>5} % of {host.cpus}")
    if host.memory is not None:
        used = "" if host.memory_used is None else f"{size(host.memory_used)} of "
        known.append(f"memory {used}{size(host.memory)}")
    if note:
        pieces.append((f"{note}   ", "33"))
    return filled([*pieces, ("   ".join(known), None)], width)


def filled(pieces: Iterable[Piece], width: int, colour: str | None = None) -> Line:
    """Pieces in exactly so many columns."""
    left, shown = width, []
    for whole, each in pieces:
        text = cut(whole, left) if left > 0 else ""
        left -= width_of(text)
        shown.append((text, each))
    return (*shown, (" " * left, colour)) if left > 0 else tuple(shown)


@lru_cache(4096)
def fitted(text: str, width: int) -> str:
    """A text in exactly so many columns, with nothing in it that a terminal would act upon."""
    if width <= 0:
        return ""
    text = cut(cell(text), width)
    return text + " " * (width - width_of(text))


def _widest(texts: Iterable[str], least: int) -> int:
    return max([least, *map(_cells, texts)])


@lru_cache(4096)
def _cells(text: str) -> int:
    return width_of(cell(text))
