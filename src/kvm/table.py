"""virsh's tables as values. Pure functions.

A table is a line of headings, a line of dashes, and then a row a line. A column is as wide as its widest cell, counted
in the columns of a terminal, and three blanks are left to the next. So cells are cut where the headings begin, which is
exact but for blanks at a cell's end, and for characters whose width this Python and virsh's C library disagree about.

Where that matters, in names, there are exact lines as well (``--name``), in the same order, and the first cell of a row
is the name that the row begins with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from kvm import text
from kvm.errors import UnreadableOutputError

T = TypeVar("T")

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_NOT_SHOWN = 0xFF
"""What virsh shows for each byte that it cannot print, were it ASCII or not; no byte of UTF-8."""

NOT_SHOWN = bytes([_NOT_SHOWN]).decode("utf-8", "surrogateescape")
"""The same in text: a cell that holds it is not what virsh was to show."""


class Row(dict[str, str]):
    """The texts of a row by the keys of its columns' headings; a column that is not there is an error of virsh."""

    def __missing__(self, column: str) -> str:
        raise UnreadableOutputError(f"virsh printed a table without a column for {column}: {', '.join(self)}")


def rows(output: str, names: Sequence[str] = ()) -> list[Row]:
    """The rows of a table: the text of each cell by the key of its column's heading.

    `names` are the exact texts of cells in the first column, most likely in the order of the rows.
    """
    heading, *below = text.lines(output) or [""]
    labels = re.findall(r"[^ ]+(?: [^ ]+)*", heading)
    if not output.strip():
        return []
    if not labels or not heading.startswith(" ") or (below and below[0].strip("-")):
        raise UnreadableOutputError(f"virsh printed no table: {output!r}")
    starts = [heading.index(f" {label}") + 1 for label in labels]
    keys = [text.key(label) for label in labels]
    in_order = list(names)
    return [
        Row(zip(keys, _cells(row, starts, [*in_order[place : place + 1], *in_order]), strict=True))
        for place, row in enumerate(below[1:])
    ]


def listed(shape: type[T]) -> Callable[[str], list[T]]:
    """A reader of a table into a list of the TypedDict `shape`."""
    return lambda output: [text.typed(shape, row) for row in rows(output)]


def by_name(shape: type[T], output: str, names: Sequence[str] = (), column: str = "name") -> dict[str, T]:
    """A table as TypedDicts `shape` by what is in the `column`."""
    return {
        row[column]: text.typed(shape, {key: cell for key, cell in row.items() if key != column})
        for row in rows(output, names)
    }


def shown(cell: str) -> bytes:
    """The bytes that virsh has shown in a cell."""
    return _ESCAPED.sub(lambda code: bytes.fromhex(code[1].decode()), cell.encode("utf-8", "surrogateescape"))


def decoded(cell: bytes) -> str:
    """The text of a cell."""
    return cell.decode("utf-8", "surrogateescape")


def shown_length(name: str, cell: bytes) -> int:
    """How many bytes at the beginning of `cell` are `name`; 0 if they are not."""
    exact = name.encode("utf-8", "surrogateescape")
    if cell.startswith(exact):
        return len(exact)
    same = all(s == e or (s == _NOT_SHOWN and e > 0x7F) for s, e in zip(cell, exact, strict=False))
    return len(exact) if same and len(cell) > len(exact) else 0


def _cells(row: str, starts: Sequence[int], candidates: Iterable[str]) -> list[str]:
    """The texts of a row's cells; the first is one of `candidates`, if one fits."""
    cell = shown(row[starts[0] :])
    for name in candidates:
        length = shown_length(name, cell)
        if length and (length == len(cell) or cell[length:].startswith(b"   ")):
            rest = decoded(cell[length:]).lstrip(" ")
            if (others := _cut(rest, [start - starts[1] for start in starts[1:]])) is not None:
                return [name, *others]
    if (cut := _cut(row, starts)) is None:
        raise UnreadableOutputError(f"cannot tell the columns of {row!r} apart")
    return [decoded(shown(each)) for each in cut]


def _cut(row: str, starts: Sequence[int]) -> list[str] | None:
    """The parts of a row that begin at `starts`, in columns of a terminal; None if something is across a beginning."""
    places = {0: 0}
    column = 0
    for place, character in enumerate(row, 1):
        column += _width(character)
        places[column] = place
    bounds = [places.get(start, len(row) if start > column else -1) for start in starts]
    if -1 in bounds or any(row[bound - 1] != " " for bound in bounds if bound):
        return None
    return [row[begin:end].rstrip(" ") for begin, end in zip(bounds, [*bounds[1:], len(row)], strict=True)]


def _width(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if character.isascii():
        return 1
    import unicodedata

    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
