"""The common form of all inventories: hosts and groups with their settings, and the place in a file of each setting.

Each format is read into a `Draft`. `resolve` finds the variables of each host, `checked` turns settings into values of
the right types. Everything here is bounded: a file is at most 16 MiB, an inventory has at most 100,000 hosts.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import reprlib
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast

from kvm.errors import InvalidArgumentError

Format = Literal["toml", "ssh", "ini", "yaml", "json"]
"""The format of a file: TOML, an ssh config, or an Ansible inventory in its INI, YAML or JSON form."""

Path = str | os.PathLike[str]

MAX_FILE_BYTES = 16 << 20
"""The largest file that is read; known inventories of 100,000 hosts have less than half of this size."""

MAX_HOSTS = 100_000
"""The number of hosts, and of entries for groups, that an inventory may have."""


class InventoryError(InvalidArgumentError):
    """A file of hosts, or one host in it, cannot be used; the message has the file, the place and what to do."""


class Connecting(TypedDict, total=False):
    """How to connect to hosts, as `unix.Remote.connect` takes it; `connect_timeout`, in seconds, is its `timeout`."""

    username: str
    port: int
    key_filename: Path
    password: str
    connect_timeout: float
    config: Path
    known_hosts: Path
    host_key: Literal["known", "accept-new"]
    options: Mapping[str, str]
    keepalive: float


class Settings(Connecting):
    """The settings of a host: its name or address for ssh, its libvirt URI, or that it is the local machine."""

    host: NotRequired[str]
    uri: NotRequired[str]
    connection: NotRequired[Literal["ssh", "local"]]


class Inventory(NamedTuple):
    """The hosts and groups of a file.

    `hosts` has the settings of each host by its name, in the order of the file; `groups` the names of the hosts of each
    group. `refused` has the hosts that this package cannot connect to (over WinRM, or with a variable that only Ansible
    can evaluate), and the reason for each; they are in `groups`, but not in `hosts`.
    """

    hosts: dict[str, Settings]
    groups: dict[str, list[str]]
    refused: Mapping[str, InventoryError] = {}

    @property
    def names(self) -> list[str]:
        """The names of all hosts, those that are refused included."""
        return [*self.hosts, *self.refused]


class File(NamedTuple):
    """The file that is read, for error messages."""

    name: str

    def error(self, place: str, message: str) -> InventoryError:
        """An error at a place in the file ("line 3", or "" for the file as a whole)."""
        return InventoryError(f"{self.name}{f', {place}' if place else ''}: {message}")

    def text(self) -> str:
        """Read the file. `InventoryError` if it is too large or is not UTF-8; an `OSError` if it cannot be read."""
        with open(self.name, "rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise self.error("", f"the file is larger than {MAX_FILE_BYTES >> 20} MiB; is it an inventory?")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:  # its message includes the file, with passwords
            line = content.count(b"\n", 0, error.start) + 1
        raise self.error(f"line {line}", "the file is not UTF-8; save it as UTF-8")


# -- hosts and groups, before their settings are put together ----------------------------------------------------


class Located(NamedTuple):
    """A value, and the place in the file that sets it."""

    value: object
    place: str


Variables = dict[str, Located]


@dataclass
class Scope:
    """The variables of a host or a group: those in the inventory itself, and those in files beside it.

    `refusal` is set if the variables of a file beside it cannot be read.
    """

    variables: Variables = field(default_factory=dict)
    file_variables: Variables = field(default_factory=dict)
    refusal: InventoryError | None = None


@dataclass
class Group(Scope):
    """A group: the names of its hosts and of the groups in it."""

    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)


@dataclass
class Draft:
    """The content of a file. The variables of the group ``all`` are those of every host."""

    file: File
    hosts: dict[str, Scope] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=lambda: {"all": Group()})
    entries: int = 0

    def group(self, name: str) -> Group:
        """The group of this name, made if it is new."""
        self._count()
        return self.groups.setdefault(name, Group())

    def host(self, name: str, variables: Variables, group: str | None = None) -> None:
        """Add a host, or variables to one, and make it a member of a group."""
        self._count()
        self.hosts.setdefault(name, Scope()).variables.update(variables)
        if group is not None:
            self.group(group).hosts[name] = None

    def _count(self) -> None:
        """Count an entry, up to a limit: aliases in YAML can make a short file stand for billions of groups."""
        self.entries += 1
        if self.entries > 4 * MAX_HOSTS:
            raise self.file.error("", f"the inventory has more than {4 * MAX_HOSTS:,} entries; split it")
        if len(self.hosts) > MAX_HOSTS:
            raise self.file.error("", f"the inventory has more than {MAX_HOSTS:,} hosts; split it")


class Resolved(NamedTuple):
    """The variables of each host, the hosts of each group, and the hosts whose files cannot be read, with why."""

    hosts: dict[str, Variables]
    groups: dict[str, list[str]]
    refused: dict[str, InventoryError]


def resolve(draft: Draft) -> Resolved:
    """Merge the variables of each host.

    Later ones override earlier ones, in the order of Ansible: the group ``all``, other groups (inner ones override
    outer ones), the files of ``all``, those of other groups, the host, its files.
    """
    file, groups = draft.file, draft.groups
    depths = _depths(groups, file)
    members: dict[str, set[str]] = {}
    for name in sorted(groups, key=lambda name: -depths[name]):
        members[name] = set(groups[name].hosts).union(*(members[child] for child in groups[name].children))
    members["all"] = set(draft.hosts)
    if "ungrouped" in members:  # the hosts that are in no group but Ansible's all
        members["ungrouped"] -= set().union(*(members[name] for name in members if name not in ("all", "ungrouped")))

    def order(name: str) -> tuple[bool, int, int, str]:
        priority = groups[name].variables.get("ansible_group_priority", Located(1, "")).value
        is_number = isinstance(priority, int) or re.fullmatch("[0-9]{1,9}", str(priority))
        return name != "all", depths[name], int(str(priority)) if is_number else 1, name

    ordered = sorted(groups, key=order)
    hosts: dict[str, Variables] = {}
    refused: dict[str, InventoryError] = {}
    for host, its_own in draft.hosts.items():
        scopes = [groups[name] for name in ordered if host in members[name]]
        layers = [*(scope.variables for scope in scopes), *(scope.file_variables for scope in scopes)]
        hosts[host] = {}
        for layer in (*layers, its_own.variables, its_own.file_variables):
            hosts[host] |= layer
        if refusal := next((scope.refusal for scope in (its_own, *scopes) if scope.refusal), None):
            refused[host] = refusal
    if not hosts:
        raise file.error("", "there is no host in this inventory")
    found = {name: [host for host in hosts if host in members[name]] for name in groups if name != "all"}
    return Resolved(hosts, {name: names for name, names in found.items() if names}, refused)


def _depths(groups: Mapping[str, Group], file: File) -> dict[str, int]:
    """Return the nesting depth of each group (0: in no other). A group that contains itself is an error."""
    outer: dict[str, list[str]] = {name: [] for name in groups}
    for name, group in groups.items():
        for child in group.children:
            outer[child].append(name)
    left = {name: len(names) for name, names in outer.items()}
    depths = dict.fromkeys(groups, 0)
    ready = [name for name, number in left.items() if not number]
    for name in ready:  # grows in the loop
        for child in groups[name].children:
            depths[child] = max(depths[child], depths[name] + 1)
            left[child] -= 1
            if not left[child]:
                ready.append(child)
    if rest := [name for name, number in left.items() if number]:
        path = rest[:1]
        while path.count(path[-1]) < 2:
            path.append(next(name for name in outer[path[-1]] if left[name]))
        path = path[path.index(path[-1]) :]
        shown_path = " in ".join(path if len(path) < 8 else [*path[:3], "...", *path[-2:]])
        raise file.error(f"group {path[0]}", f"the group contains itself: {shown_path}")
    return depths


# -- settings -----------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """The values that a setting can have: a converter (None: not valid), and their description for messages."""

    convert: Callable[[object], object]
    wanted: str


def is_word(value: object) -> bool:
    """Return whether a value can be a host's or user's name: text without blanks that does not begin with a dash."""
    return isinstance(value, str) and bool(re.fullmatch(r"[^\x00-\x20\x7f-][^\x00-\x20\x7f]*", value))


def _word(value: object) -> object:
    return value if is_word(value) else None


def _text(value: object) -> object:
    return value if isinstance(value, str) and value and "\0" not in value else None


def _port(value: object) -> object:
    is_digits = isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value)
    number: object = int(cast(str, value)) if is_digits else value
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536 else None


def _seconds(value: object) -> object:
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < 1_000_000 else None


def _one_of(*words: str) -> _Kind:
    return _Kind(lambda value: value if value in words else None, " or ".join(map(repr, words)))


def _ssh_options(value: object) -> object:
    if not isinstance(value, Mapping):
        return None
    words = {name: {True: "yes", False: "no"}[each] if isinstance(each, bool) else each for name, each in value.items()}
    fits = all(re.fullmatch(r"\w+", name) and isinstance(each, str | int) for name, each in words.items())
    return {name: str(each) for name, each in words.items()} if fits else None


KINDS: dict[str, _Kind] = {
    "host": _Kind(_word, "a name or an address without blanks, such as 'hv1.example.org' or 'root@10.0.0.1'"),
    "uri": _Kind(_text, "a connection URI such as 'qemu:///system'"),
    "connection": _one_of("ssh", "local"),
    "username": _Kind(_word, "a user's name"),
    "port": _Kind(_port, "a number from 1 to 65535"),
    "key_filename": _Kind(_text, "the path of a private key"),
    "password": _Kind(_text, "a text"),
    "connect_timeout": _Kind(_seconds, "a number of seconds"),
    "config": _Kind(_text, "the path of an ssh config"),
    "known_hosts": _Kind(_text, "the path of a file with host keys"),
    "host_key": _one_of("known", "accept-new"),
    "options": _Kind(_ssh_options, "a table of options of ssh_config(5), such as ProxyJump = 'gate'"),
    "keepalive": _Kind(_seconds, "a number of seconds"),
}


def checked(settings: Variables, file: File) -> Settings:
    """Return the values of settings, converted. `InventoryError` for one that is not valid."""
    values: dict[str, object] = {}
    for name, (value, place) in settings.items():
        kind = KINDS[name]
        values[name] = kind.convert(value)
        if values[name] is None:
            given = "the value there" if name == "password" else shown(value)
            raise file.error(place, f"{name} must be {kind.wanted}, not {given}")
    return cast(Settings, values)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


def shown(value: object) -> str:
    """Return a value for a message: at most a few hundred characters, on one line."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python does not print a number of more than 4300 digits
        return f"a value of type {type(value).__name__}"


# -- names --------------------------------------------------------------------------------------------------------


def names(patterns: Iterable[str], place: str, file: File) -> Iterator[str]:
    """The names that patterns stand for."""
    for pattern in patterns:
        try:
            yield from expanded(pattern)
        except ValueError as error:
            raise file.error(place, str(error)) from None


def expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for: web01 to web03 for ``web[01:03]``. A ValueError says what is wrong."""
    parts = re.split(r"\[([^\[\]]*)\]", pattern)
    if any(bracket in part for part in parts[::2] for bracket in "[]"):
        raise ValueError(f"a bracket in {shown(pattern)} is open; a range is written web[01:10]")
    choices: list[Iterable[str]] = []
    total = 1
    for index, part in enumerate(parts):
        number, choice = _range(part, pattern) if index % 2 else (1, [part])
        total *= number
        if total > MAX_HOSTS:
            raise ValueError(f"{shown(pattern)} stands for more than {MAX_HOSTS:,} hosts")
        choices.append(choice)
    return ["".join(each) for each in itertools.product(*choices)]


_RANGE = re.compile(r"(?:([0-9]{1,12}):([0-9]{1,12})|([A-Za-z]):([A-Za-z]))(?::([1-9][0-9]{0,11}))?", re.ASCII)


def _range(written: str, pattern: str) -> tuple[int, Iterable[str]]:
    """Return the number of texts in a bracketed range, and a lazy iterable of them: there can be billions."""
    numbers = range(0)
    texts: Iterable[str] = ()
    if match := _RANGE.fullmatch(written):
        step, letters = int(match[5] or 1), string.ascii_letters
        if match[1]:
            width = len(match[1]) if match[1].startswith("0") else 0
            numbers = range(int(match[1]), int(match[2]) + 1, step)
            texts = (f"{number:0{width}}" for number in numbers)
        else:
            numbers = range(letters.index(match[3]), letters.index(match[4]) + 1, step)
            texts = (letters[number] for number in numbers)
    if not numbers:
        expected = "one is written web[01:10], web[1:9:2] or db-[a:f]"
        raise ValueError(f"{shown(pattern)} contains an invalid range; {expected}")
    return len(numbers), texts


def similar(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for an unknown name."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    some = [*sorted(known)[:10], *(["..."] if len(known) > 10 else [])]
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(some) or 'none'}"


def table(value: object, place: str, file: File) -> Mapping[str, Any]:
    """A value that must be a mapping."""
    if not isinstance(value, Mapping):
        raise file.error(place, f"this must be a table, as in [{place}], not {shown(value)}")
    return value


def only(given: Mapping[str, object], known: Iterable[str], place: str, file: File) -> None:
    """Raise an error if a mapping has another key than the known ones."""
    known = list(known)
    for name in given:
        if name not in known:
            raise file.error(f"{place}.{name}" if place else name, f"no such key here: {similar(name, known)}")
