"""Which hosts there are and how to reach them, read from a file that a user has: TOML, an ssh config, Ansible's.

Each format is read into the same plain form, settings by host and by group with the place in the file that each comes
from; what they come to for a host, and what is wrong with them, is found in one place for all formats. Nothing is
connected to, and nothing in a file is run.
"""

from __future__ import annotations

import ast
import difflib
import glob
import ipaddress
import itertools
import os
import pwd
import re
import shlex
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast

from kvm.errors import InvalidArgumentError

Format = Literal["toml", "ssh", "ini", "yaml"]
"""What a file is: TOML, an ssh config, or an Ansible inventory in its INI or its YAML form."""

Path = str | os.PathLike[str]


class InventoryError(InvalidArgumentError):
    """A file that should tell which hosts there are cannot be read; the message says where and what to do."""


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
    """What there is to say of a host: its name or address for ssh, libvirt's URI on it, or that it is this machine."""

    host: NotRequired[str]
    uri: NotRequired[str]
    connection: NotRequired[Literal["ssh", "local"]]


class Inventory(NamedTuple):
    """The settings of each host, by its name, and the names of the hosts of each group."""

    hosts: dict[str, Settings]
    groups: dict[str, list[str]]


def read(path: Path, format: Format | None = None) -> Inventory:
    """The hosts and groups in a file; without a `format` it is told by the file's name, or else by what is in it.

    Raises `InventoryError`, or an `OSError` if the file cannot be read at all.
    """
    name = os.fspath(path)
    file = _File(name)
    if os.path.isdir(name):
        raise file.error("", f"this is a directory; name a file in it, or {_EXPORT}")
    with open(name, "rb") as opened:
        content = opened.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise file.error(f"line {line}", "this is not UTF-8; save the file in that encoding") from None
    if format is not None and format not in _READERS:
        raise InvalidArgumentError(f"the format of an inventory is {', '.join(_READERS)}, not {format!r}")
    if format is None and text.startswith("#!"):
        raise file.error("line 1", f"this is a program, and none is run here; {_EXPORT}")
    return _READERS[format or _format(name, text)](text, file)


_EXPORT = "have Ansible write all it knows into one: ansible-inventory -i INVENTORY --list --export --yaml > FILE.yaml"


class _File(NamedTuple):
    """The file that is read, for errors."""

    name: str

    def error(self, place: str, said: str) -> InventoryError:
        return InventoryError(f"{self.name}{f', {place}' if place else ''}: {said}")


def _format(name: str, text: str) -> Format:
    """What a file is: by its suffix, or by its first lines."""
    known: dict[str, Format] = {
        ".toml": "toml", ".ini": "ini", ".cfg": "ini", ".yml": "yaml", ".yaml": "yaml", ".json": "yaml",
    }  # fmt: skip
    if found := known.get(os.path.splitext(name)[1].lower()):
        return found
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;"]
    if lines and (lines[0].startswith(("---", "{")) or re.fullmatch(r"[\w.-]+:\s*(#.*)?", lines[0])):
        return "yaml"
    if any(re.match(r"\s*(Host|Match|Include)[\s=]", line, re.IGNORECASE) for line in lines):
        return "ssh"
    return "ini"


# -- what all formats come to -------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """A value, and the place in the file where it is given."""

    value: object
    place: str


_Given_ = dict[str, _Given]


@dataclass
class _Group:
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    given: _Given_ = field(default_factory=dict)


@dataclass
class _Draft:
    """What a file says, before it is known what that comes to. The group ``all`` has what holds for every host."""

    hosts: dict[str, _Given_] = field(default_factory=dict)
    groups: dict[str, _Group] = field(default_factory=lambda: {"all": _Group()})

    def group(self, name: str) -> _Group:
        return self.groups.setdefault(name, _Group())

    def host(self, name: str, given: _Given_, group: str | None = None) -> None:
        self.hosts.setdefault(name, {}).update(given)
        if group is not None and name not in (members := self.group(group).hosts):
            members.append(name)


def _inventory(draft: _Draft, file: _File, settings: Callable[[_Given_], _Given_]) -> Inventory:
    """What a draft comes to. What is given for a host counts before its groups, an inner group before an outer one.

    `settings` translates what the file gives into settings.
    """
    depths = {name: _depth(draft, name, file) for name in draft.groups}
    members = {name: _members(draft, name) for name in draft.groups}
    if "ungrouped" in members:  # those that are in no other group than Ansible's all
        members["ungrouped"] -= set().union(*(members[name] for name in members if name not in ("all", "ungrouped")))

    def order(name: str) -> tuple[int, int, str]:
        priority = draft.groups[name].given.get("ansible_group_priority", _Given(1, "")).value
        return depths[name], int(str(priority)) if str(priority).isdecimal() else 1, name

    ordered = [name for name in sorted(draft.groups, key=order) if name != "all"]
    hosts: dict[str, Settings] = {}
    for host, its_own in draft.hosts.items():
        given = dict(draft.groups["all"].given)
        for name in ordered:
            if host in members[name]:
                given |= draft.groups[name].given
        hosts[host] = _checked(settings(given | its_own), file)
    if not hosts:
        raise file.error("", "there is no host in this inventory")
    groups = {name: [host for host in hosts if host in members[name]] for name in draft.groups if name != "all"}
    return Inventory(hosts, {name: found for name, found in groups.items() if found})


def _depth(draft: _Draft, name: str, file: _File, below: tuple[str, ...] = ()) -> int:
    """How deep a group is within others; a group in itself is an error."""
    if name in below:
        raise file.error(f"group {name}", f"it is in itself: {' in '.join([*below[below.index(name) :], name])}")
    outer = [other for other, group in draft.groups.items() if name in group.children]
    return max((_depth(draft, other, file, (*below, name)) + 1 for other in outer), default=0)


def _members(draft: _Draft, name: str) -> set[str]:
    group = draft.groups[name]
    return {*group.hosts, *itertools.chain.from_iterable(_members(draft, child) for child in group.children)}


class _Kind(NamedTuple):
    """What a setting can be: how to get it from what is given (None if that is impossible), and how that reads."""

    convert: Callable[[object], object]
    wanted: str


def _word(value: object) -> object:
    return value if isinstance(value, str) and re.fullmatch(r"[^\x00-\x20\x7f-][^\x00-\x20\x7f]*", value) else None


def _text(value: object) -> object:
    return value if isinstance(value, str) and value and "\0" not in value else None


def _port(value: object) -> object:
    number: object = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536 else None


def _seconds(value: object) -> object:
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0
    except ValueError:
        return None
    return seconds if 0 < seconds < 1_000_000 else None


def _one_of(*words: str) -> _Kind:
    return _Kind(lambda value: value if value in words else None, " or ".join(map(repr, words)))


def _ssh_options(value: object) -> object:
    if not isinstance(value, Mapping):
        return None
    said = {name: {True: "yes", False: "no"}[each] if isinstance(each, bool) else each for name, each in value.items()}
    fits = all(re.fullmatch(r"\w+", name) and isinstance(each, str | int) for name, each in said.items())
    return {name: str(each) for name, each in said.items()} if fits else None


_KINDS: dict[str, _Kind] = {
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


def _checked(given: _Given_, file: _File) -> Settings:
    found: dict[str, object] = {}
    for name, (value, place) in given.items():
        kind = _KINDS[name]
        found[name] = kind.convert(value)
        if found[name] is None:
            shown = "what is there" if name == "password" else repr(value)
            raise file.error(place, f"{name} is {kind.wanted}, not {shown}")
    return cast(Settings, found)


def _expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for, web01 to web03 for ``web[01:03]``; a ValueError says what is wrong."""
    parts = re.split(r"\[([^\[\]]*)\]", pattern)
    if any(bracket in part for part in parts[::2] for bracket in "[]"):
        raise ValueError(f"a bracket in {pattern!r} is open; a range is written web[01:10]")
    choices = [_range(part, pattern) if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(each) for each in itertools.product(*choices)]


_RANGE = re.compile(r"(?:([0-9]+):([0-9]+)|([A-Za-z]):([A-Za-z]))(?::([1-9][0-9]*))?", re.ASCII)


def _range(written: str, pattern: str) -> Sequence[str]:
    names: Sequence[str] = ()
    if found := _RANGE.fullmatch(written):
        step, letters = int(found[5] or 1), string.ascii_letters
        if found[1]:
            width = len(found[1]) if found[1].startswith("0") else 0
            names = [str(number).zfill(width) for number in range(int(found[1]), int(found[2]) + 1, step)]
        else:
            names = letters[letters.index(found[3]) : letters.index(found[4]) + 1 : step]
    if not names:
        raise ValueError(f"{pattern!r} has a range that is none; one is written web[01:10], web[1:9:2] or db-[a:f]")
    return names


def _similar(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known)) or 'none'}"


# -- TOML ---------------------------------------------------------------------------------------------------------


def _toml(text: str, file: _File) -> Inventory:
    """Hosts, groups and defaults, in TOML.

    ::

        [defaults]                      # for every host: any of the settings below
        uri = "qemu:///system"
        username = "root"

        [hosts.hv1]                     # a host's settings; none is needed
        host = "10.0.0.1"               # what ssh is told; without it the name
        port = 2222

        [hosts."hv[02:10]"]             # a range: hv02, hv03, ... hv10

        [groups.rack1]                  # settings for its hosts may follow
        hosts = ["hv1", "hv[02:04]"]
        key_filename = "~/.ssh/rack1"

        [groups]
        berlin = ["rack1", "hv05"]      # hosts and groups

    The settings are those of `Settings`. Paths are relative to the file. What is set for a host counts before what is
    set for its groups, an inner group before an outer one, and all of them before the defaults.
    """
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at (line \d+), column \d+\)", str(error))
        raise file.error(found[1] if found else "at its end", f"this is not TOML: {error}") from None
    _only(document, ("defaults", "hosts", "groups"), "", file)
    draft = _Draft()
    draft.groups["all"].given = _given(_table(document.get("defaults", {}), "defaults", file), "defaults", file)
    hosts = document.get("hosts", {})
    by_pattern = {name: {} for name in hosts} if _is_names(hosts) else _table(hosts, "hosts", file)
    for pattern, its_own in by_pattern.items():
        where = f"hosts.{pattern}"
        given = _given(_table(its_own, where, file), where, file)
        for name in _names([pattern], where, file):
            draft.host(name, given)
    groups = _table(document.get("groups", {}), "groups", file)
    for name, group in groups.items():
        _toml_group(draft, name, group, groups, file)
    return _inventory(draft, file, dict)


def _toml_group(draft: _Draft, name: str, group: object, groups: Mapping[str, object], file: _File) -> None:
    place = f"groups.{name}"
    if name in draft.hosts or name == "all":
        raise file.error(place, f"{'every host' if name == 'all' else 'a host'} has this name; give the group another")
    if _is_names(group):
        group = {"hosts": group}
    table = dict(_table(group, place, file))
    members = table.pop("hosts", [])
    if not _is_names(members):
        raise file.error(f"{place}.hosts", 'this is a list of names, such as ["hv1", "hv[02:10]"]')
    made = draft.group(name)
    made.given = _given(table, place, file)
    for member in _names(members, place, file):
        if member not in draft.hosts and member not in groups:
            known = [*draft.hosts, *groups]
            raise file.error(place, f"there is no host or group {member!r}: {_similar(member, known)}")
        (made.hosts if member in draft.hosts else made.children).append(member)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _names(patterns: Iterable[str], place: str, file: _File) -> Iterator[str]:
    for pattern in patterns:
        try:
            yield from _expanded(pattern)
        except ValueError as error:
            raise file.error(place, str(error)) from None


def _table(value: object, place: str, file: _File) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise file.error(place, f"this is a table, as in [{place}], not {value!r}")
    return value


def _only(table: Mapping[str, object], known: Iterable[str], place: str, file: _File) -> None:
    known = list(known)
    for name in table:
        if name not in known:
            raise file.error(f"{place}.{name}" if place else name, f"no such key here: {_similar(name, known)}")


def _given(table: Mapping[str, object], place: str, file: _File) -> _Given_:
    """The settings in a table; paths are relative to the file."""
    _only(table, _KINDS, place, file)
    given = {name: _Given(value, f"{place}.{name}") for name, value in table.items()}
    for name in ("key_filename", "config", "known_hosts"):
        if name in given and isinstance(path := given[name].value, str) and path and not path.startswith("~"):
            given[name] = given[name]._replace(value=os.path.join(os.path.dirname(os.path.abspath(file.name)), path))
    return given


# -- an ssh config ------------------------------------------------------------------------------------------------

_DEEPEST = 16
"""How many files ssh lets include one another."""


def _ssh(text: str, file: _File) -> Inventory:
    """The hosts that an ssh config names, without those that are patterns. ssh itself reads how to reach them."""
    own = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".ssh")
    path = os.path.abspath(file.name)
    is_default = os.path.realpath(path) == os.path.realpath(os.path.join(own, "config"))
    settings: Settings = {} if is_default else {"config": path}
    hosts = dict.fromkeys(_ssh_hosts(text, file, own, 1), settings)
    if not hosts:
        raise file.error("", "no Host entry in it names a host without wildcards")
    return Inventory({name: settings.copy() for name in hosts}, {})


def _ssh_hosts(text: str, file: _File, own: str, depth: int) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*(Host|Include)(?:\s*=\s*|\s+)(.*)", line, re.IGNORECASE)
        if not found:
            continue
        keyword, rest = found.groups()
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:
            raise file.error(f"line {number}", f"a quote in {rest!r} is open; close it") from None
        if not words:
            raise file.error(f"line {number}", f"{keyword} needs a name behind it")
        if keyword.lower() == "host":
            yield from (word for word in words if _word(word) and not re.search(r"[*?!]", word))
            continue
        if depth == _DEEPEST:
            raise file.error(f"line {number}", "files include one another without end; take this Include away")
        for word in words:
            pattern = os.path.join(os.path.dirname(own), word[2:]) if word.startswith("~/") else os.path.join(own, word)
            for path in sorted(glob.glob(pattern)):
                with open(path, encoding="utf-8", errors="replace") as included:
                    yield from _ssh_hosts(included.read(), _File(path), own, depth + 1)


# -- Ansible ------------------------------------------------------------------------------------------------------

_VARIABLES = {
    "ansible_host": "host", "ansible_ssh_host": "host",
    "ansible_user": "username", "ansible_ssh_user": "username",
    "ansible_port": "port", "ansible_ssh_port": "port",
    "ansible_private_key_file": "key_filename", "ansible_ssh_private_key_file": "key_filename",
    "ansible_password": "password", "ansible_ssh_pass": "password", "ansible_ssh_password": "password",
    "ansible_timeout": "connect_timeout", "ansible_ssh_timeout": "connect_timeout",
    "ansible_connection": "connection",
    "ansible_ssh_common_args": "options", "ansible_ssh_extra_args": "options",
    "kvm_uri": "uri",
}  # fmt: skip
"""Ansible's variables that are about connecting, of which a later one counts before an earlier one, and one of ours."""


class _Unreadable(NamedTuple):
    """A value in YAML that only Ansible can read."""

    tag: str


def _of_ansible(file: _File) -> Callable[[_Given_], _Given_]:
    """What translates Ansible's variables into settings; others are nobody's business here."""

    def settings(given: _Given_) -> _Given_:
        found: _Given_ = {}
        options: dict[str, str] = {}
        for variable, name in _VARIABLES.items():
            if variable not in given or given[variable].value is None:
                continue
            value, place = given[variable]
            if isinstance(value, _Unreadable) or (isinstance(value, str) and re.search(r"\{\{|\{%", value)):
                what = f"a value with {value.tag}" if isinstance(value, _Unreadable) else f"the template {value!r}"
                raise file.error(place, f"{variable}: only Ansible can read {what}; write the value, or {_EXPORT}")
            if name == "options":
                options = {**_ssh_arguments(variable, value, place, file), **options}  # ssh takes what it finds first
                value = options
            if name == "connection":
                if value not in ("ssh", "smart", "paramiko", "paramiko_ssh", "local"):
                    raise file.error(place, f"{variable}: hosts are reached by 'ssh' or are 'local', not {value!r}")
                value = "local" if value == "local" else "ssh"
            if name in ("username", "password") and isinstance(value, int):
                value = str(value)
            found[name] = _Given(value, place)
        return found

    return settings


def _ssh_arguments(variable: str, value: object, place: str, file: _File) -> dict[str, str]:
    """The options of ssh_config(5) in arguments for ssh."""
    unreadable = file.error(place, f"{variable}: cannot read {value!r}; an option is written -o ProxyJump=gate")
    try:
        words = iter(shlex.split(str(value)))
    except ValueError:
        raise unreadable from None
    options: dict[str, str] = {}
    for word in words:
        flag, argument = word[:2], word[2:] or next(words, "")
        if flag not in ("-o", "-J"):
            said = f"of ssh's arguments -o and -J are understood here, not {word!r}; say it with -o"
            raise file.error(place, f"{variable}: {said}")
        found = re.fullmatch(r"(\w+)\s*[=\s]\s*(.+)", argument if flag == "-o" else f"ProxyJump={argument}")
        if not found:
            raise unreadable
        options.setdefault(found[1], found[2])
    return options


def _ini(text: str, file: _File) -> Inventory:
    """An Ansible inventory in its INI form: hosts, ``[group]``, ``[group:children]``, ``[group:vars]``, ranges."""
    draft, group, kind = _Draft(), "ungrouped", "hosts"
    used: dict[str, str] = {}
    defined = {"all", "ungrouped"}
    for number, raw in enumerate(text.splitlines(), 1):
        line, place = raw.strip(), f"line {number}"
        if not line or line[0] in "#;":
            continue
        if found := re.fullmatch(r"\[([^:\]\s]+)(?::([^\]\s]*))?\]\s*([#;].*)?", line):
            group, kind = found[1], found[2] or "hosts"
            if kind not in ("hosts", "children", "vars"):
                raise file.error(place, f"a section is [{group}], [{group}:children] or [{group}:vars], not {found[0]}")
            draft.group(group)
            if kind == "vars":
                used.setdefault(group, place)
            else:
                defined.add(group)
        elif kind == "hosts":
            for name, given in _ini_hosts(line, place, file):
                draft.host(name, given, group if group != "all" else "ungrouped")
        elif kind == "children":
            child = re.split(r"\s*[#;]", line)[0]
            if not re.fullmatch(r"[^:\[\]\s=]+", child):
                raise file.error(place, f"in [{group}:children] each line is the name of a group, not {line!r}")
            used.setdefault(child, place)
            draft.group(group).children.append(child)
        else:
            name, equals, value = line.partition("=")
            if not equals:
                raise file.error(place, f"in [{group}:vars] each line is name=value, not {line!r}")
            draft.group(group).given[name.strip()] = _Given(_literal(value.strip()), place)
    for name, place in used.items():
        if name not in defined:
            raise file.error(place, f"there is no group {name!r}: {_similar(name, defined)}")
    return _inventory(draft, file, _of_ansible(file))


def _ini_hosts(line: str, place: str, file: _File) -> Iterator[tuple[str, _Given_]]:
    """The hosts in a line such as ``web[01:10]:2222 ansible_user=root``."""
    try:
        pattern, *words = shlex.split(line, comments=True)
    except ValueError:
        raise file.error(place, f"a quote in {line!r} is open; close it") from None
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise file.error(place, f"behind a host everything is name=value, not {word!r}")
        given[name] = _Given(_literal(value), place)
    pattern, port = _name_and_port(pattern)
    if port:
        given = {"ansible_port": _Given(port, place), **given}
    for host in [pattern] if _is_address(pattern) else _names([pattern], place, file):
        yield host, given


def _name_and_port(pattern: str) -> tuple[str, str | None]:
    """``web1:22``, ``[::1]:22``, and what has no port."""
    if (found := re.fullmatch(r"\[([^\]]*)\](?::([0-9]+))?", pattern)) and _is_address(found[1]):
        return found[1], found[2]
    found = re.fullmatch(r"((?:[^:\[\]]|\[[^\]]*\])+):([0-9]+)", pattern)
    return (found[1], found[2]) if found else (pattern, None)


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(name))
    except ValueError:
        return False


def _literal(value: str) -> object:
    """A value as Ansible reads it: a Python literal if it is one, otherwise text."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _yaml(text: str, file: _File) -> Inventory:
    """An Ansible inventory in its YAML form: groups with ``hosts``, ``children`` and ``vars``."""
    try:
        import yaml
    except ImportError:
        raise file.error("", "reading YAML needs PyYAML: pip install 'python-kvm[yaml]'") from None

    class Loader(yaml.SafeLoader):
        """Plain values; a value with a tag of Ansible's own is left to Ansible."""

    def tagged(_: yaml.SafeLoader, tag: str, node: yaml.Node) -> object:
        return node.value if tag == "unsafe" and isinstance(node, yaml.ScalarNode) else _Unreadable(f"!{tag}")

    yaml.add_multi_constructor("!", tagged, Loader=Loader)
    try:
        document = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}" if mark else ""
        raise file.error(place, f"this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise file.error("", f"this is not YAML: {error}") from None
    draft = _Draft()
    for name, group in _mapping(document, "", file).items():
        _yaml_group(draft, name, group, name, file)
    return _inventory(draft, file, _of_ansible(file))


def _yaml_group(draft: _Draft, name: str, group: object, place: str, file: _File) -> None:
    made = draft.group(name)
    table = _mapping(group, place, file)
    for key in table:
        if key not in ("hosts", "children", "vars"):
            known = ("hosts", "children", "vars")
            raise file.error(f"{place}.{key}", f"a group has hosts, children and vars: {_similar(key, known)}")
    for variable, value in _mapping(table.get("vars"), f"{place}.vars", file).items():
        made.given[variable] = _Given(value, f"{place}.vars.{variable}")
    for pattern, variables in _mapping(table.get("hosts"), f"{place}.hosts", file).items():
        where = f"{place}.hosts.{pattern}"
        its_own = {
            variable: _Given(value, f"{where}.{variable}")
            for variable, value in _mapping(variables, where, file).items()
        }
        bare, port = _name_and_port(pattern)
        if port:
            its_own = {"ansible_port": _Given(port, where), **its_own}
        for host in [bare] if _is_address(bare) else _names([bare], where, file):
            draft.host(host, its_own, name if name != "all" else "ungrouped")
    for child, its_group in _mapping(table.get("children"), f"{place}.children", file).items():
        if child not in made.children and name != "all":
            made.children.append(child)
        _yaml_group(draft, child, its_group, f"{place}.children.{child}", file)


def _mapping(value: object, place: str, file: _File) -> Mapping[str, Any]:
    """A mapping by names; nothing, or one name, will do for one."""
    if value is None:
        return {}
    if isinstance(value, str) and place.endswith((".hosts", ".children")):
        return {value: None}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        shown = type(value).__name__ if not isinstance(value, dict) else "one with a key that is no text (quote it)"
        what = "a mapping, with a colon behind each name" if place else "a mapping of groups, such as all: and below it"
        raise file.error(place, f"this is {what}, not {shown}")
    return value


_READERS: dict[Format, Callable[[str, _File], Inventory]] = {"toml": _toml, "ssh": _ssh, "ini": _ini, "yaml": _yaml}


def chosen(inventory: Inventory, group: str | None, path: Path) -> Inventory:
    """The part of an inventory that is in a group."""
    if group is None or group == "all":
        return inventory
    if group not in inventory.groups:
        said = f"there is no group {group!r}: {_similar(group, inventory.groups)}"
        raise InventoryError(f"{os.fspath(path)}: {said}")
    return Inventory(
        {name: inventory.hosts[name] for name in inventory.groups[group]}, _within(inventory, inventory.groups[group])
    )


def _within(inventory: Inventory, hosts: Sequence[str]) -> dict[str, list[str]]:
    kept = {name: [host for host in members if host in hosts] for name, members in inventory.groups.items()}
    return {name: members for name, members in kept.items() if members}
