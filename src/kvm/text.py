"""virsh's text as values. Pure functions of their input, each for one form that virsh prints.

The shape of a value is declared once, as a TypedDict, and read from there: `fields(NodeInfo)` is a function that
turns ``Label: value`` lines into a NodeInfo, each value converted to the type declared for its key. What does not
fit what was declared raises `UnreadableOutputError`; it never becomes a wrong value.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import (
    TYPE_CHECKING,
    Any,
    NotRequired,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from kvm.errors import UnreadableOutputError
from kvm.values import MAX_DIGITS, Quantity

if TYPE_CHECKING:
    from datetime import datetime

S = TypeVar("S", bound=str)
T = TypeVar("T")

_INTEGER = re.compile(rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}\s*", re.ASCII).fullmatch
_FLOAT = re.compile(rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}(\.[0-9]+)?%?\s*", re.ASCII).fullmatch

_TRUE = frozenset({"yes", "enable", "enabled", "on"})
_FALSE = frozenset({"no", "disable", "disabled", "off"})
_NONE = frozenset({"", "-", "unknown", "no limit", "no autostart", "-nan%", "nan%"})


@cache
def key(label: str) -> str:
    """The key of a label: ``Core(s) per socket`` -> ``cores_per_socket``."""
    return re.sub(r"[\W_]+", "_", label.lower().replace("(", "").replace(")", "")).strip("_")


def lines(text: str) -> list[str]:
    """The lines of an output, without the empty ones that virsh ends it with.

    Only a newline ends a line: names may hold every other character that Unicode calls a line end.
    """
    return text.rstrip("\n").split("\n") if text.rstrip("\n") else []


def line(text: str) -> str:
    """The only line of an output."""
    found = lines(text)
    if len(found) != 1:
        raise UnreadableOutputError(f"expected one line of output, not {text!r}")
    return found[0]


def number(text: str) -> int:
    """The whole number that an output consists of."""
    return cast(int, _converted(int, line(text)))


def optional_number(text: str) -> int | None:
    """The whole number that an output consists of, or None for ``-``."""
    return cast(int | None, _converted(int | None, line(text)))


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """The ``Label: value`` lines of an output as ``(label, value)``; a line without a label has an empty one.

    virsh pads labels to a common width, so values begin in one column, or right behind a label that is longer.
    Blanks behind that belong to the value. A line that begins with a blank goes on with the value above.
    """
    split = [each.partition(":") for each in lines(text)]
    labelled = [(label, rest) for label, _, rest in split if not label[:1].isspace() and rest.strip()]
    column = min((len(label) + 1 + len(rest) - len(rest.lstrip()) for label, rest in labelled), default=0)
    for label, colon, rest in split:
        if label[:1].isspace() or not colon:
            yield "", f"{label}{colon}{rest}".strip()
        else:
            yield label, rest[max(column - len(label) - 1, 1) :]


def quantities(text: str) -> dict[str, Quantity]:
    """``Label: quantity`` lines, labels indented or not, by the key of their label."""
    split = [each.partition(":") for each in lines(text)]
    return {key(label): _converted(Quantity, raw, label) for label, colon, raw in split if colon}


def fields(shape: type[T]) -> Callable[[str], T]:
    """A reader of ``Label: value`` lines into the TypedDict `shape`.

    Keys that `shape` does not know (a newer virsh may print more) stay text. Lines without a label continue a
    list, or are remarks of virsh that no value is lost with.
    """

    def read(text: str) -> T:
        kinds, required = _declared(cast(Any, shape))
        value: dict[str, Any] = {}
        last = ""
        for label, raw in pairs(text):
            name = key(label)
            kind = kinds.get(name or last)
            if name:
                value[name] = [raw] if kind == list[str] else _converted(kind, raw, name)
                last = name
            elif kind == list[str]:
                value[last].append(raw)
        return cast(T, _complete(value, required, text))

    return read


def typed(shape: type[T], raw: Mapping[str, str]) -> T:
    """The TypedDict `shape` of texts by key; what `shape` does not know stays text."""
    kinds, required = _declared(cast(Any, shape))
    value = {name: _converted(kinds.get(name), each, name) for name, each in raw.items()}
    return cast(T, _complete(value, required, str(dict(raw))))


def settings(shape: type[T]) -> Callable[[str], T]:
    """A reader of ``name value`` lines, indented below a heading, into the TypedDict `shape`."""

    def read(text: str) -> T:
        kinds, required = _declared(cast(Any, shape))
        value: dict[str, Any] = {}
        for each in lines(text):
            name, _, raw = each.strip().partition(" ")
            if each[:1].isspace() and name:
                value[key(name)] = _converted(kinds.get(key(name)), raw.strip(), name)
        return cast(T, _complete(value, required, text))

    return read


def domains(text: str) -> Iterator[tuple[str, int | None, str]]:
    """The UUID, id (None if it is not active) and name of each domain, as ``list --uuid --id --name`` prints them."""
    for each in lines(text):
        try:
            uuid, number, name = each.split(" ", 2)
        except ValueError:
            raise UnreadableOutputError(f"expected UUID, id and name, not {each!r}") from None
        yield uuid, cast(int | None, _converted(int | None, number)), name


def stats(text: str) -> dict[str, dict[str, Any]]:
    """Figures by domain, as ``domstats`` prints them.

    ``cpu.time=5`` becomes ``{'cpu': {'time': 5}}``. Where members are numbered or counted there is a list of those that
    virsh printed, and what else there is beside it: ``block.count=1`` and ``block.0.name=vda`` become
    ``{'block': [{'name': 'vda'}], 'block_count': 1}``. A virtual CPU or I/O thread has its number as ``id``. Memory is
    in bytes. A figure that cannot be read stays text, so that one guest does not hide the figures of the others.
    """
    value: dict[str, dict[str, Any]] = {}
    for block in f"\n{text}".split("\nDomain: '")[1:]:
        domain, *said = block.split("\n")
        pairs = [each.split("=", 1) for each in said if "=" in each]
        if block.count("\n  ") + said.count("") < len(said):  # others than figures and blank lines
            pairs = _with_all_lines(said)
        convert, ids, tree = _layout(tuple([name for name, _ in pairs]))
        figures: list[Any] = [
            int(raw) if kind is _number_or_word and raw.isdecimal() and len(raw) <= MAX_DIGITS else kind(raw)
            for kind, (_, raw) in zip(convert, pairs, strict=True)
        ]
        value[domain[:-1]] = _filled(tree, figures + ids)
    return value


def _with_all_lines(said: Iterable[str]) -> list[list[str]]:
    """The names and texts in lines of ``  name=text``, where a path with a newline goes on in the next."""
    pairs: list[list[str]] = []
    for each in said:
        if each[:2] == "  " and "=" in each:
            pairs.append(each.split("=", 1))
        elif each and pairs:
            pairs[-1][1] += f"\n{each}"
    return pairs


_IN_KIB = {"current", "maximum", "swap_in", "swap_out", "unused", "available", "usable", "rss", "disk_caches"}
"""The figures of a balloon that libvirt documents to be in KiB."""

_WORDS = {"name", "path", "vcpus", "alias"}
"""The last parts of what is a text, also if it looks like a number."""


_WITH_ID = re.compile(r"(?:.*\.)?(?:vcpu|iothread)\.(0|[1-9][0-9]{0,17})(?=\.)")
"""Members whose number is an id: it is not a position, and numbers may be missing."""


@lru_cache(256)
def _layout(names: tuple[str, ...]) -> tuple[list[Callable[[str], Any]], list[int], dict[str, Any]]:
    """Return a converter for each figure, the ids of members, and the nested value that they form.

    In the value are the indexes of the figures, followed by those of the ids. Hundreds of domains print the same names
    in the same order, so what follows from the names is found once.
    """
    found = dict.fromkeys((match[0], int(match[1])) for match in map(_WITH_ID.match, map(str.strip, names)) if match)
    tree: dict[str, Any] = {}
    for index, (member, _) in enumerate(found, len(names)):
        _add(tree, f"{member}.id", index)
    for index, name in enumerate(names):
        _add(tree, name.strip(), index)
    return [_figure(name.strip()) for name in names], [number for _, number in found], _with_lists(tree)


_MAX_DEPTH = 50
"""The deepest nesting of sections; no name in libvirt has more parts, and recursion must end."""


def _add(tree: dict[str, Any], name: str, index: int) -> None:
    """Add the index of a figure at its place; a figure that has parts as well is their ``value``."""
    section = tree
    *path, last = name.split(".", _MAX_DEPTH)
    for part in path:
        inner = section.setdefault(part, {})
        if not isinstance(inner, dict):
            inner = section[part] = {"value": inner}
        section = inner
    if isinstance(inner := section.get(last), dict):
        inner["value"] = index
    else:
        section[last] = index


def _figure(name: str) -> Callable[[str], Any]:
    """What converts the figure of a name."""
    *_, last = path = name.split(".")
    if last in _WORDS:
        return str
    return _kib if path[0] == "balloon" and len(path) == 2 and last in _IN_KIB else _number_or_word


def _number_or_word(raw: str) -> int | bool | str:
    if raw.isascii() and raw.removeprefix("-").isdecimal() and len(raw) <= MAX_DIGITS:
        return int(raw)
    return _boolean(raw) if raw in _TRUE | _FALSE else raw


def _kib(raw: str) -> Quantity | str:
    is_number = raw.isascii() and raw.isdecimal() and len(raw) <= MAX_DIGITS
    return Quantity.counted(int(raw), "KiB") if is_number else raw


def _filled(tree: dict[str, Any], figures: list[Any]) -> dict[str, Any]:
    """`tree` with figures in their places."""
    return {
        name: figures[part]
        if type(part) is int
        else _filled(part, figures)
        if type(part) is dict
        else [_filled(member, figures) if type(member) is dict else figures[member] for member in part]
        for name, part in tree.items()
    }


def _section(section: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    """The `part` of a section that the figure called `name` is in."""
    inner = section.setdefault(part, {})
    if not isinstance(inner, dict):
        raise UnreadableOutputError(f"{name!r} is part of what is a figure itself")
    return inner


_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
_MAX_CPUS = 2**16
"""The longest list of CPUs; no host has more, and memory is limited."""


def _with_lists(section: dict[str, Any]) -> dict[str, Any]:
    """A section in whose parts what is numbered or counted is a list in the order of the numbers, the rest beside."""
    value: dict[str, Any] = {}
    for name, part in section.items():
        if not isinstance(part, dict):
            value[key(name)] = part
            continue
        numbered = {int(each): part[each] for each in part if _NUMBER.fullmatch(each)}
        inner = _with_lists({each: member for each, member in part.items() if not _NUMBER.fullmatch(each)})
        if numbered or "count" in inner:
            members = [numbered[number] for number in sorted(numbered)]
            value[key(name)] = [_with_lists(member) if isinstance(member, dict) else member for member in members]
            value.update({f"{key(name)}_{each}": member for each, member in inner.items()})
        else:
            value[key(name)] = inner
    return value


def pages(cell: int | str | None) -> Callable[[str], dict[int, dict[int, int]]]:
    """A reader of ``4KiB: 19`` lines below ``Node 0:`` headings, or of those of one `cell` without a heading."""

    def read(text: str) -> dict[int, dict[int, int]]:
        value: dict[int, dict[int, int]] = {}
        current = value.setdefault(_converted(int, str(cell)), {}) if cell is not None else {}
        for each in lines(text):
            label, _, raw = each.partition(":")
            if label.startswith("Node "):
                current = value.setdefault(_converted(int, label.removeprefix("Node ")), {})
            elif label:
                current[int(_converted(Quantity, label))] = _converted(int, raw)
        return value

    return read


def _integer(raw: str) -> int:
    if not _INTEGER(raw):
        raise ValueError("not a whole number")
    return int(raw)


def _float(raw: str) -> float:
    if not _FLOAT(raw):
        raise ValueError("not a number")
    return float(raw.strip().removesuffix("%"))


def _cpus(raw: str) -> list[int]:
    """The CPUs in ``0-3,8`` or in ``y-y-``, in order."""
    marks = raw.strip()
    if not marks.strip("y-"):
        return [cpu for cpu, flag in enumerate(marks) if flag == "y"]
    found: list[int] = []
    for part in marks.split(","):
        first, dash, last = part.partition("-")
        among = range(_integer(first), _integer(last if dash else first) + 1)
        if not among or among[-1] >= _MAX_CPUS:
            raise ValueError("no CPUs")
        found += among
    return found


def one_of(answers: Mapping[S, str]) -> Callable[[str], S]:
    """A reader of an answer in words: the name of the one among `answers` whose pattern the output fits."""

    def read(text: str) -> S:
        for name, pattern in answers.items():
            if re.fullmatch(pattern, text.strip("\n"), re.DOTALL):
                return name
        raise UnreadableOutputError(f"expected {' or '.join(answers)}, not {text!r}")

    return read


def _complete(value: dict[str, Any], required: frozenset[str], text: str) -> dict[str, Any]:
    if missing := required - value.keys():
        raise UnreadableOutputError(f"virsh did not print {', '.join(sorted(missing))}: {text!r}")
    return value


def _converted(kind: Any, raw: str, name: str = "the output") -> Any:
    convert = _converter(kind)
    try:
        return convert(raw)
    except (ValueError, KeyError) as error:
        raise UnreadableOutputError(f"cannot read {name} from {raw[:200]!r}: {error}") from error


@cache
def _converter(kind: Any) -> Callable[[str], Any]:
    """From the text of a value to the type declared for it."""
    if kind is None or kind is str:
        return str
    if get_origin(kind) in (Union, types.UnionType):
        inner = _converter(next(part for part in get_args(kind) if part is not type(None)))
        return lambda raw: None if raw.strip() in _NONE else inner(raw)
    converters: dict[Any, Callable[[str], Any]] = {
        int: _integer,
        float: _float,
        bool: _boolean,
        Quantity: Quantity,
        list[int]: _cpus,
    }
    if kind not in converters:
        from datetime import datetime

        converters[datetime] = _moment
    return converters[kind]


def _boolean(raw: str) -> bool:
    word = raw.strip()
    if word not in _TRUE | _FALSE:
        raise ValueError("neither yes nor no")
    return word in _TRUE


@cache
def _declared(shape: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The types that `shape` declares by key, and the keys that must be there."""
    hints = get_type_hints(shape, include_extras=True)
    marked = {name for name, kind in hints.items() if get_origin(kind) is NotRequired}
    kinds = {name: get_args(kind)[0] if name in marked else kind for name, kind in hints.items()}
    return kinds, frozenset(kinds) - marked if shape.__total__ else frozenset()


def values(kind: type[T]) -> Callable[[str], dict[str, T]]:
    """A reader of ``Label: value`` lines whose values are all of one `kind`, by the key of their label."""
    return lambda text: {key(label): _converted(kind, raw, label) for label, raw in pairs(text)}


def since_1970(**passed: int) -> datetime:
    """The moment so many ``seconds`` or ``milliseconds`` after the beginning of 1970, as libvirt tells time."""
    from datetime import UTC, datetime, timedelta

    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(**passed)
    except OverflowError as error:
        raise UnreadableOutputError(f"no date: {passed}") from error


def _moment(raw: str) -> datetime:
    """The moment in ``2026-11-22 14:53:21 +0100``."""
    from datetime import datetime

    return datetime.strptime(raw.strip(), "%Y-%m-%d %H:%M:%S %z")


Tree: TypeAlias = "dict[str, Tree]"
"""Names, each with those below it: ``{'computer': {'scsi_host1': {'scsi_host11': {}}}}``."""

_BRANCH = r"  ((?:[| ]   )*)\+- (.*)"


def tree(text: str) -> Tree:
    """The names in a drawing of a tree: each branch, ``+- name``, is four columns to the right of the one it is on."""
    value: Tree = {}
    path = [value]
    for each in lines(text):
        if not each.strip(" |"):
            continue
        branch = re.fullmatch(_BRANCH, each)
        depth, name = (len(branch[1]) // 4 + 1, branch[2]) if branch else (0, each)
        if depth >= len(path):
            raise UnreadableOutputError(f"cannot tell what {each!r} is a branch of")
        path[depth + 1 :] = [path[depth].setdefault(name, {})]
    return value


def figures(shape: type[T]) -> Callable[[str], T]:
    """A reader of ``thing figure 5`` lines, each beginning with what was asked about, into the TypedDict `shape`."""

    def read(text: str) -> T:
        split = [each.rsplit(" ", 2) for each in lines(text)]
        if any(len(words) != 3 for words in split):
            raise UnreadableOutputError(f"expected a name and a figure in each line of {text!r}")
        return typed(shape, {key(name): raw for _, name, raw in split})

    return read


def padded(text: str, width: int) -> Iterator[tuple[str, str]]:
    """The lines of an output that are a name, padded to a `width`, a colon, and a value, as ``(name, value)``.

    A line that is not goes on with the value above.
    """
    name, value = "", ""
    for each in lines(text):
        found = re.match(r"([\w.-]+) *: ", each, re.ASCII)
        if found and found.end() - 2 == max(width, len(found[1])):
            if name:
                yield name, value
            name, value = found[1], each[found.end() :]
        elif name:
            value += f"\n{each}"
        else:
            raise UnreadableOutputError(f"expected a name and a value, not {each!r}")
    if name:
        yield name, value


def nested(figures: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Values by names such as ``disk.0.name`` as dicts in dicts; where members are numbered or counted there is a list.

    A list has the members that there are, in the order of their numbers. ``disk.count`` and what else there is beside
    the members becomes ``disk_count``.
    """
    tree: dict[str, Any] = {}
    for name, value in figures:
        section = tree
        *path, last = name.split(".")
        for part in path:
            section = _section(section, part, name)
        section[last] = value
    return _with_lists(tree)
