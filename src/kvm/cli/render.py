"""Values -> JSON, YAML, tables. Pure, but for what a terminal is.

JSON and YAML are exact and the same on every day: a quantity is its number in its base unit (bytes, Hz, nanoseconds),
a date ISO 8601, bytes base64, nothing null, and an action the four fields of its result. Tables are for people: sizes
and times are rounded, numbers stand to the right, and on a terminal rows are cut to fit and states have colours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from kvm.values import Quantity

_COLOURS = {
    "32": {"running", "active", "online", "up", "ok", "idle", "no state"},
    "33": {"paused", "pmsuspended", "in shutdown", "blocked", "degraded", "building", "saved"},
    "31": {"crashed", "inaccessible", "error", "dying", "down"},
    "2": {"shut off", "inactive", "offline"},
}  # fmt: skip

_NARROWEST = 4
"""Columns of a terminal below which a column of a table is not cut."""

_STATES = {"state", "link_state"}
"""The columns that hold states."""


class Screen:
    """Where a table goes: how wide it may be (None: as wide as it is), and whether there are colours."""

    def __init__(self, width: int | None = None, *, colours: bool = False) -> None:
        self.width = width
        self.colours = colours

    @classmethod
    def of_stdout(cls) -> Screen:
        """The terminal, or, where standard output is none, just lines."""
        if not sys.stdout.isatty():
            return cls()
        bare = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        try:
            width = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):
            width = 80
        return cls(width or 80, colours=not bare)


def is_result(value: object) -> bool:
    """Whether a value is what an action returns."""
    return isinstance(value, tuple) and hasattr(value, "return_code")


def plain(value: Any) -> Any:
    """A value as JSON and YAML have it."""
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no infinity
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if is_result(value):
        return {
            "status": value.status, "return_code": value.return_code, "stdout": value.stdout, "stderr": value.stderr,
        }  # fmt: skip
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    return str(value)


def to_json(value: object, *, on_one_line: bool = False) -> str:
    """A value as JSON."""
    from kvm.cli.json import dump

    return dump(plain(value), on_one_line=on_one_line) + "\n"


def to_yaml(value: object) -> str:
    """A value as YAML."""
    from kvm.cli.yaml import dump

    return dump(_in_unicode(plain(value)))


def to_table(value: object, screen: Screen, *, host: bool = False) -> str:
    """A value for people. With `host` it is a mapping from hosts to values."""
    if host:
        return _of_hosts(cast(Mapping[str, object], value), screen)
    if is_result(value):
        return _text_of(value, screen)
    if isinstance(value, Mapping):
        return _of_mapping(value, screen)
    if isinstance(value, list | tuple):
        if value and all(isinstance(each, Mapping) for each in value) and _is_flat(value):
            return _grid(_columns(value), [dict(each) for each in value], screen)
        return "".join(_tree(each, "") if _is_nested(each) else f"{cell(each)}\n" for each in value)
    return _state(cell(value), screen) + "\n"


def document(value: object) -> str:
    """A value as one of several documents of YAML."""
    return f"---\n{to_yaml(value)}"


class Styled(str):
    """Text for people: its values are escaped already, and it may have colours."""

    __slots__ = ()


def _text_of(result: object, screen: Screen) -> str:
    """Return the output of an action: exactly, or escaped on a terminal."""
    text = cast(Any, result).stdout.strip("\n")
    if screen.width is not None:
        from unix.errors import printable

        text = printable(text)
    return f"{text}\n" if text else ""


def cell(value: object) -> str:
    """A value in the place of one cell, or line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, int):
        return _measured(cast("Quantity", value)) if type(value) is not int else str(value)
    if isinstance(value, str):
        return "".join(each if each.isprintable() or each == " " else _escaped(each) for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(each)}" for name, each in value.items()) or "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(each) for each in value) or "-"
    if isinstance(value, bytes):
        return str(plain(value))
    if hasattr(value, "isoformat"):
        return str(value.isoformat(" "))
    return str(value)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _in_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_in_unicode(name): _in_unicode(each) for name, each in value.items()}
    return [_in_unicode(each) for each in value] if isinstance(value, list) else value


# -- sizes and times ----------------------------------------------------------------------------------------------


def _measured(quantity: Quantity) -> str:
    """A quantity, in the unit that makes it readable; virsh gives bytes without one."""
    unit = str(quantity).lstrip("+-0123456789. ")
    if unit.endswith("Hz"):
        return _scaled(int(quantity), 1000, ("Hz", "kHz", "MHz", "GHz", "THz"))
    if unit in ("ns", "us", "ms", "s", "min", "h"):
        return _time(int(quantity) / 1e9)
    return size(int(quantity)) + ("/s" if unit.endswith("/s") else "")


def size(number: int) -> str:
    """A number of bytes, in the unit that makes it readable."""
    return _scaled(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def _scaled(number: int, base: int, units: tuple[str, ...]) -> str:
    power, figure = 0, float(number)
    while abs(figure) >= base and power < len(units) - 1:
        figure, power = figure / base, power + 1
    digits = f"{figure:.0f}" if figure == int(figure) or abs(figure) >= 100 else f"{figure:.1f}"
    return f"{digits} {units[power]}"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes} min {rest:02} s"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02} h" if days else f"{hours} h {minutes:02} min"


# -- tables -------------------------------------------------------------------------------------------------------


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(_is_nested(each) for each in value))


def _is_flat(rows: Iterable[object]) -> bool:
    return all(not _is_nested(each) for row in rows for each in cast(Mapping[str, object], row).values())


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _of_mapping(value: Mapping[Any, Any], screen: Screen) -> str:
    rows = list(value.values())
    if rows and all(isinstance(row, Mapping) for row in rows) and any(rows) and _is_flat(rows):
        return _grid(
            ["name", *_columns(rows)], [{"name": name, **row} for name, row in value.items()], screen, name="name"
        )
    if any(_is_nested(row) for row in rows):
        return _tree(value, "")
    width = max((width_of(cell(name)) for name in value), default=0)
    return "".join(
        f"{_padded(str(cell(name)), width)}  {_coloured(str(name), cell(each), screen)}\n"
        for name, each in value.items()
    )


def _of_hosts(values: Mapping[str, object], screen: Screen) -> str:
    """Rows of all hosts in one table, if they are rows; otherwise what each says, below its name."""
    each = list(values.values())
    rows: list[dict[str, object]] = []
    if all(isinstance(value, Mapping) and _is_rows(value) for value in each):
        for host, value in values.items():
            named = cast(Mapping[str, Mapping[str, object]], value)
            rows += [{"host": host, "name": name, **row} for name, row in named.items()]
    elif all(isinstance(value, list) and all(isinstance(row, Mapping) for row in value) for value in each):
        for host, value in values.items():
            rows += [{"host": host, **row} for row in cast(list[Mapping[str, object]], value)]
    elif not any(_is_nested(value) or isinstance(value, list) or is_result(value) for value in each):
        rows = [{"host": host, "value": value} for host, value in values.items()]
    elif all(isinstance(value, Mapping) for value in each) and _is_flat(each):
        rows = [{"host": host, **cast(Mapping[str, object], value)} for host, value in values.items()]
    else:
        told = ((host, to_table(value, screen)) for host, value in values.items())
        return "".join(
            f"{host}: {text}" if text.count("\n") <= 1 else f"{host}:\n{_indented(text)}" for host, text in told if text
        )
    return _grid(_columns(rows), rows, screen, name="name") if rows else ""


def _is_rows(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(row, Mapping) for row in value.values()) and _is_flat(value.values())


def _indented(text: str) -> str:
    lines = text.removesuffix("\n").split("\n")
    return "".join(f"  {line}\n" for line in lines)


def _tree(value: Any, indent: str) -> str:
    """What is nested, a line for each value below the name that it has."""
    lines = []
    for name, each in value.items() if isinstance(value, Mapping) else ((None, each) for each in value):
        label = f"{indent}-" if name is None else f"{indent}{cell(name)}"
        if _is_nested(each) and each:
            lines.append(f"{label}\n{_tree(each, indent + '  ')}")
        elif isinstance(each, Mapping | list):
            lines.append(f"{label}  {cell(each)}\n" if each else f"{label}\n")
        else:
            lines.append(f"{label}  {cell(each)}\n")
    return "".join(lines)


def _grid(columns: list[str], rows: list[dict[str, object]], screen: Screen, *, name: str | None = None) -> str:
    """A table with a heading; what there is nothing of in a row is a dash."""
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    if not rows:
        return ""
    right = [
        column != name and all(isinstance(row.get(column), int | float | None) for row in rows)
        and not all(isinstance(row.get(column), bool | None) for row in rows)
        for column in columns
    ]  # fmt: skip
    heading = [column.upper() for column in columns]
    widths = [max(map(width_of, each)) for each in zip(heading, *cells, strict=True)]
    if screen.width is not None:
        room = screen.width - 2 * (len(columns) - 1)
        if room < sum(min(width, _NARROWEST) for width in widths):
            return _records(heading, cells, screen)
        _fit(widths, room)
    shown = [_row([(cut, cut) for cut in map(cut, heading, widths)], widths, right)]
    for row in cells:
        texts = [cut(text, width) for text, width in zip(row, widths, strict=True)]
        coloured = [_coloured(column, text, screen) for column, text in zip(columns, texts, strict=True)]
        shown.append(_row(list(zip(texts, coloured, strict=True)), widths, right))
    return "".join(f"{line.rstrip()}\n" for line in shown)


def _records(heading: list[str], rows: list[list[str]], screen: Screen) -> str:
    """The rows below each other, a line for each cell, where there is no room beside each other."""
    width = max(map(width_of, heading))
    blocks = (
        "".join(
            f"{_padded(name, width)}  {_coloured(name.lower(), text, screen)}\n"
            for name, text in zip(heading, row, strict=True)
        )
        for row in rows
    )
    return "\n".join(blocks)


def _row(cells: list[tuple[str, str]], widths: list[int], right: list[bool]) -> str:
    """One line, of texts and what is shown of them, colours included."""
    parts = []
    for (text, shown), width, is_right in zip(cells, widths, right, strict=True):
        blanks = " " * (width - width_of(text))
        parts.append(blanks + shown if is_right else shown + blanks)
    return "  ".join(parts)


def _fit(widths: list[int], room: int) -> None:
    """Take from the widest columns until all of them have room."""
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def cut(text: str, width: int) -> str:
    """A text that takes no more than so many columns."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _coloured(column: str, text: str, screen: Screen) -> str:
    return _state(text, screen) if column in _STATES else text


def _state(text: str, screen: Screen) -> str:
    code = colour_of(text) if screen.colours else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def colour_of(state: str) -> str | None:
    """The colour of a state, as a terminal is told it."""
    return next((code for code, states in _COLOURS.items() if state in states), None)
