"""Ansible's inventories: read through ``ansible-inventory`` where it is installed, otherwise from the file itself.

``ansible-inventory`` knows everything that Ansible would use: scripts, plugins, directories, ``group_vars``, vaults
whose password it has. Without it, files in INI, YAML or JSON are read here, with the ``group_vars`` and ``host_vars``
beside them. If the variables of a host cannot be used (a connection other than ssh, a template, a vault), only this
host is refused: using it raises an error.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import unix
from kvm.inventory._model import (
    Draft,
    File,
    Inventory,
    InventoryError,
    Located,
    Scope,
    Variables,
    checked,
    names,
    resolve,
    shown,
    similar,
)

EXPORT = "have Ansible write all it knows to a file: ansible-inventory -i INVENTORY --list > FILE.json"

PROGRAM_TIMEOUT_S = 120
"""The time for ``ansible-inventory``, which may ask a cloud for its hosts."""


def through_ansible(path: str) -> Inventory | None:
    """The inventory as Ansible reads it; None if Ansible is not installed, or cannot read it.

    In the second case our own reader explains what is wrong, or succeeds without what Ansible lacks, such as the
    password of a vault that these hosts do not need.
    """
    program = shutil.which("ansible-inventory")
    if program is None or "," in path:  # a path with a comma is a list of hosts for Ansible
        return None
    envs = {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    host = unix.Local(timeout=PROGRAM_TIMEOUT_S, envs=envs)
    file = File(path)
    try:
        result = host.run([program, "-i", os.path.abspath(path), "--list"])
    except unix.CommandTimeoutError as error:
        raise file.error("", str(error)) from None
    if result.status:
        return read_json(result.stdout, file)
    lines = [line for line in result.stderr.splitlines() if "ERROR" in line] or [f"exit status {result.return_code}"]
    message = f"ansible-inventory cannot read it: {lines[-1]}"
    if os.path.isdir(path) or _is_program(path):
        raise file.error("", message)
    from unix.log import warn

    warn("kvm", "%s: %s; reading the file without Ansible", path, message)
    return None


def _is_program(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


# -- variables ----------------------------------------------------------------------------------------------------

_VARIABLES = {
    "ansible_host": "host", "ansible_ssh_host": "host",
    "ansible_user": "username", "ansible_ssh_user": "username",
    "ansible_port": "port", "ansible_ssh_port": "port",
    "ansible_private_key_file": "key_filename", "ansible_ssh_private_key_file": "key_filename",
    "ansible_password": "password", "ansible_ssh_pass": "password", "ansible_ssh_password": "password",
    "ansible_timeout": "connect_timeout", "ansible_ssh_timeout": "connect_timeout",
    "ansible_connection": "connection",
    "ansible_ssh_args": "options", "ansible_ssh_common_args": "options", "ansible_ssh_extra_args": "options",
    "kvm_uri": "uri",
}  # fmt: skip
"""Ansible's variables about connecting, and one of this package. A later one overrides an earlier one.

The arguments for ssh are in the order in which Ansible gives them to it: ssh takes the first value of an option.
"""

_CONNECTIONS = {
    "ssh": "ssh", "smart": "ssh", "paramiko": "ssh", "paramiko_ssh": "ssh", "local": "local",
}  # fmt: skip
"""Ansible's connection plugins that are supported; a name may include its collection."""


class Unreadable(NamedTuple):
    """A value that only Ansible can read: its tag in YAML."""

    tag: str


class Literal(str):
    """A text that is no template, whatever is in it."""

    __slots__ = ()


def _settings(variables: Variables, file: File) -> Variables:
    """Convert Ansible's variables to settings; ignore variables about anything else."""
    settings: Variables = {}
    options: Variables = {}
    for variable, name in _VARIABLES.items():
        if variable not in variables or variables[variable].value is None:
            continue
        value, place = variables[variable]
        is_template = isinstance(value, str) and not isinstance(value, Literal) and re.search(r"\{\{|\{%", value)
        if isinstance(value, Unreadable) or is_template:
            what = f"a value with {value.tag}" if isinstance(value, Unreadable) else f"the template {shown(value)}"
            if name == "password":
                what = "the value there"
            raise file.error(place, f"{variable}: only Ansible can read {what}; write the value, or {EXPORT}")
        if name == "options":
            for option, argument in _ssh_options(variable, value, place, file):
                options.setdefault(option, Located(argument, place))
            continue
        if name == "connection":
            known = re.fullmatch(r"(?:ansible\.(?:builtin|legacy|netcommon)\.)?(\w+)", str(value))
            if not known or known[1] not in _CONNECTIONS:
                expected = "hosts are connected to by 'ssh', or are 'local'"
                raise file.error(place, f"{variable}: {expected}, not {shown(value)}")
            value = _CONNECTIONS[known[1]]
        elif name in ("username", "password") and isinstance(value, int):
            value = str(value)
        settings[name] = Located(value, place)
    if config := options.pop(_CONFIG, None):
        settings["config"] = config
    if options:
        place = next(iter(options.values())).place
        settings["options"] = Located({option: located.value for option, located in options.items()}, place)
    return settings


_SSH_FLAGS = {
    "-4": ("AddressFamily", "inet"), "-6": ("AddressFamily", "inet6"), "-A": ("ForwardAgent", "yes"),
    "-a": ("ForwardAgent", "no"), "-C": ("Compression", "yes"), "-K": ("GSSAPIAuthentication", "yes"),
    "-k": ("GSSAPIDelegateCredentials", "no"), "-X": ("ForwardX11", "yes"), "-x": ("ForwardX11", "no"),
    "-Y": ("ForwardX11Trusted", "yes"),
}  # fmt: skip
"""ssh's flags that set an option of ssh_config(5)."""

_SSH_IGNORED = {"-f", "-G", "-g", "-M", "-N", "-n", "-q", "-s", "-T", "-t", "-V", "-v", "-y"}
"""ssh's flags that concern a terminal, messages, forwarded ports or a shared connection, which are chosen here."""

_CONFIG = "-F"
"""In the place of an option's name: another file of options."""

_SSH_ARGUMENTS = {
    "-B": "BindInterface", "-b": "BindAddress", "-c": "Ciphers", "-F": _CONFIG, "-I": "PKCS11Provider",
    "-i": "IdentityFile", "-J": "ProxyJump", "-l": "User", "-m": "MACs", "-p": "Port",
}  # fmt: skip
"""ssh's flags with an argument that set an option."""

_SSH_IGNORED_ARGUMENTS = {"-D", "-E", "-e", "-L", "-O", "-R", "-S", "-w"}
"""The same as `_SSH_IGNORED`, with an argument."""


def _ssh_options(variable: str, value: object, place: str, file: File) -> Iterator[tuple[str, str]]:
    """Convert arguments of ssh to options of ssh_config(5), in their order."""
    unreadable = file.error(place, f"{variable}: cannot read {shown(value)}; an option is written -o ProxyJump=gate")
    try:
        words = iter(shlex.split(str(value)))
    except ValueError:
        raise unreadable from None
    for word in words:
        if not word.startswith("-"):
            raise unreadable
        letters = word[1:]
        while letters:
            flag, letters = f"-{letters[0]}", letters[1:]
            if flag in _SSH_FLAGS:
                yield _SSH_FLAGS[flag]
            elif flag == "-o" or flag in _SSH_ARGUMENTS or flag in _SSH_IGNORED_ARGUMENTS:
                argument, letters = letters or next(words, ""), ""
                if not argument:
                    raise unreadable
                if flag in _SSH_ARGUMENTS:
                    yield _SSH_ARGUMENTS[flag], argument
                elif flag == "-o":
                    option = re.fullmatch(r"(\w+)\s*[=\s]\s*(.+)", argument)
                    if not option:
                        raise unreadable
                    yield option[1], option[2]
            elif flag not in _SSH_IGNORED:
                raise file.error(place, f"{variable}: ssh has no flag {flag}; an option is written -o ProxyJump=gate")


def _inventory(draft: Draft) -> Inventory:
    """Make the inventory of a draft with Ansible's variables; a host whose variables cannot be used is refused."""
    file = draft.file
    resolved = resolve(draft)
    refused = dict(resolved.refused)
    hosts = {}
    for host, variables in resolved.hosts.items():
        if host not in refused:
            try:
                hosts[host] = checked(_settings(variables, file), file)
            except InventoryError as error:
                refused[host] = error
    return Inventory(hosts, resolved.groups, refused)


# -- variables in files beside the inventory -----------------------------------------------------------------------

_EXTENSIONS = ("", ".yml", ".yaml", ".json")


def _read_files(draft: Draft) -> None:
    """Add the variables in ``group_vars`` and ``host_vars`` beside the file."""
    directory = os.path.dirname(os.path.realpath(draft.file.name))
    scopes: tuple[tuple[str, Mapping[str, Scope]], ...] = (("group_vars", draft.groups), ("host_vars", draft.hosts))
    for folder, members in scopes:
        if not os.path.isdir(os.path.join(directory, folder)):
            continue
        for name, scope in members.items():
            if "/" in name or name in (".", ".."):
                continue
            for path in _files(os.path.join(directory, folder, name)):
                try:
                    scope.file_variables |= _file_variables(File(path))
                except (InventoryError, OSError) as error:
                    scope.refusal = error if isinstance(error, InventoryError) else File(path).error("", str(error))


def _files(path: str) -> list[str]:
    """The files with the variables of one host or group, as Ansible looks for them."""
    for extension in _EXTENSIONS:
        if os.path.isdir(path + extension):
            return list(_files_in(path + extension, set()))
        if os.path.exists(path + extension):
            return [path + extension]
    return []


def _files_in(directory: str, above: set[str]) -> Iterator[str]:
    real = os.path.realpath(directory)
    if real in above:  # a symbolic link to a directory that contains it
        return
    for name in sorted(os.listdir(directory)):
        path, extension = os.path.join(directory, name), os.path.splitext(name)[1]
        if name.startswith(".") or name.endswith("~"):
            continue
        if os.path.isdir(path) and not extension:
            yield from _files_in(path, {*above, real})
        elif os.path.isfile(path) and extension in _EXTENSIONS:
            yield path


def _file_variables(file: File) -> Variables:
    text = file.text()
    if text.startswith("$ANSIBLE_VAULT"):
        raise file.error("", f"only Ansible can read an encrypted file; {EXPORT}")
    document = _json(text, file) if file.name.endswith(".json") else _yaml(text, file)
    return {name: Located(value, f"in {file.name}") for name, value in _mapping(document, "", file).items()}


# -- INI ----------------------------------------------------------------------------------------------------------


def read_ini(text: str, file: File) -> Inventory:
    """An Ansible inventory in its INI form: hosts, ``[group]``, ``[group:children]``, ``[group:vars]``, ranges."""
    draft, group, kind = Draft(file), "ungrouped", "hosts"
    used: dict[str, str] = {}
    defined = {"all", "ungrouped"}
    for number, raw in enumerate(text.splitlines(), 1):
        line, place = raw.strip(), f"line {number}"
        if not line or line[0] in "#;":
            continue
        if section := re.fullmatch(r"\[([^:\]\s]+)(?::([^\]\s]*))?\]\s*([#;].*)?", line):
            group, kind = section[1], section[2] or "hosts"
            if kind not in ("hosts", "children", "vars"):
                expected = f"[{group}], [{group}:children] or [{group}:vars]"
                raise file.error(place, f"a section must be {expected}, not {section[0]}")
            draft.group(group)
            if kind == "vars":
                used.setdefault(group, place)
            else:
                defined.add(group)
        elif kind == "hosts":
            for name, variables in _ini_hosts(line, place, file):
                draft.host(name, variables, group if group != "all" else "ungrouped")
        elif kind == "children":
            child = re.split(r"\s*[#;]", line)[0]
            if not re.fullmatch(r"[^:\[\]\s=]+", child):
                raise file.error(place, f"in [{group}:children] a line must be the name of a group, not {shown(line)}")
            used.setdefault(child, place)
            draft.group(child)
            draft.group(group).children[child] = None
        else:
            name, equals, value = line.partition("=")
            if not equals:
                raise file.error(place, f"in [{group}:vars] a line must be name=value, not {_without_password(line)}")
            draft.group(group).variables[name.strip()] = Located(_literal(value.strip()), place)
    for name, place in used.items():
        if name not in defined:
            raise file.error(place, f"there is no group {name!r}: {similar(name, defined)}")
    _read_files(draft)
    return _inventory(draft)


def _ini_hosts(line: str, place: str, file: File) -> Iterator[tuple[str, Variables]]:
    """The hosts in a line such as ``web[01:10]:2222 ansible_user=root``."""
    try:
        pattern, *words = shlex.split(line, comments=True)
    except ValueError:
        raise file.error(place, f"a quote in {_without_password(line)} is open; close it") from None
    variables = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise file.error(place, f"the words after a host must be name=value, not {_without_password(line, word)}")
        variables[name] = Located(_literal(value), place)
    yield from _hosts(pattern, variables, place, file)


def _without_password(line: str, word: str | None = None) -> str:
    """Return a line, or a word of it, for a message; hide it if the line sets a password."""
    return "the text there" if "pass" in line.lower() else shown(line if word is None else word)


def _hosts(pattern: str, variables: Variables, place: str, file: File) -> Iterator[tuple[str, Variables]]:
    """The hosts that a pattern with or without a port stands for, and the variables of each."""
    pattern, port = _name_and_port(pattern)
    if port:
        variables = {"ansible_port": Located(port, place), **variables}
    for host in [pattern] if _is_address(pattern) else names([pattern], place, file):
        yield host, variables


def _name_and_port(pattern: str) -> tuple[str, str | None]:
    """Split ``web1:22`` and ``[::1]:22``; the port is None if there is none."""
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


# -- YAML and JSON ------------------------------------------------------------------------------------------------


def read_yaml(text: str, file: File) -> Inventory:
    """An Ansible inventory in its YAML form: groups with ``hosts``, ``children`` and ``vars``."""
    return _of_groups(_yaml(text, file), file)


def read_json(text: str, file: File) -> Inventory:
    """The output of ``ansible-inventory --list`` or of an inventory script; also the YAML form written as JSON."""
    document = _json(text, file)
    groups = document.items() if isinstance(document, dict) else ()
    if any(name == "_meta" or isinstance(group, list) or _has_lists(group) for name, group in groups):
        return _of_lists(_mapping(document, "", file), file)
    return _of_groups(document, file)


def _has_lists(group: object) -> bool:
    return isinstance(group, dict) and any(isinstance(group.get(key), list) for key in ("hosts", "children"))


def _of_lists(document: Mapping[str, Any], file: File) -> Inventory:
    """Groups with lists of hosts and children, and the variables of hosts under ``_meta``."""
    draft = Draft(file)
    meta = _mapping(document.get("_meta"), "_meta", file)
    variables = _mapping(meta.get("hostvars"), "_meta.hostvars", file)

    def its_own(host: str) -> Variables:
        place = f"host {host}"
        return _located(_mapping(variables.get(host), place, file), place)

    for name, value in document.items():
        if name == "_meta":
            continue
        group = _mapping({"hosts": value} if isinstance(value, list) else value, name, file)
        made = draft.group(name)
        made.variables |= _located(_mapping(group.get("vars"), f"{name}.vars", file), f"group {name}")
        for key in ("hosts", "children"):
            members = group.get(key) or []
            if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
                raise file.error(f"{name}.{key}", f"this must be a list of names, not {shown(members)}")
            for member in members:
                if key == "hosts":
                    draft.host(member, its_own(member), name if name != "all" else "ungrouped")
                elif name != "all":
                    draft.group(member)
                    made.children[member] = None
    return _inventory(draft)


def _located(variables: Mapping[str, Any], place: str) -> Variables:
    return {name: Located(value, place) for name, value in variables.items()}


def _json(text: str, file: File) -> object:
    def plain(value: dict[str, object]) -> object:
        if list(value) == ["__ansible_vault"]:
            return Unreadable("!vault")
        if list(value) == ["__ansible_unsafe"]:
            unsafe = value["__ansible_unsafe"]
            return Literal(unsafe) if isinstance(unsafe, str) else unsafe
        return value

    try:
        return json.loads(text, object_hook=plain)
    except json.JSONDecodeError as error:  # its message includes the document, with passwords
        place, reason = f"line {error.lineno}", f"this is not JSON: {error.msg}"
    except (RecursionError, ValueError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else "a number in it is too long"
        place, reason = "", f"this JSON cannot be read: {why}"
    raise file.error(place, reason)


def _yaml(text: str, file: File) -> object:
    try:
        import yaml
    except ImportError:
        raise file.error("", "reading YAML needs PyYAML: pip install 'python-kvm[yaml]'") from None

    class Loader(yaml.SafeLoader):
        """Plain values; a value with a tag of Ansible's own is left to Ansible."""

    def tagged(_: yaml.SafeLoader, tag: str, node: yaml.Node) -> object:
        is_unsafe = tag == "unsafe" and isinstance(node, yaml.ScalarNode)
        return Literal(node.value) if is_unsafe else Unreadable(f"!{tag}")

    yaml.add_multi_constructor("!", tagged, Loader=Loader)
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:  # its message includes the line, which may have a password
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}" if mark else ""
        problem = re.sub(r"(alias|tag) '.*'", r"\1", error.problem or error.context or "")
        reason = f"this is not YAML: {problem}"
    except RecursionError:
        place, reason = "", "this YAML cannot be read: it is nested too deeply"
    except (yaml.YAMLError, ValueError) as error:
        place, reason = "", f"this is not YAML: {' '.join(str(error).split())}"
    raise file.error(place, reason)


def _of_groups(document: object, file: File) -> Inventory:
    """Groups with mappings of hosts, children and variables."""
    draft = Draft(file)
    for name, group in _mapping(document, "", file).items():
        _group(draft, name, group, (name,))
    _read_files(draft)
    return _inventory(draft)


_MAX_DEPTH = 100
"""The deepest nesting of groups in YAML; Ansible itself recurses, too."""


def _group(draft: Draft, name: str, group: object, path: tuple[str, ...]) -> None:
    file, place = draft.file, ".".join(path)
    if len(path) > 2 * _MAX_DEPTH:
        raise file.error(f"group {name}", f"groups are nested more than {_MAX_DEPTH} deep")
    made = draft.group(name)
    content = _mapping(group, place, file)
    for key in content:
        if key not in ("hosts", "children", "vars"):
            known = ("hosts", "children", "vars")
            raise file.error(f"{place}.{key}", f"a group has hosts, children and vars: {similar(key, known)}")
    for variable, value in _mapping(content.get("vars"), f"{place}.vars", file).items():
        made.variables[variable] = Located(value, f"{place}.vars.{variable}")
    for pattern, variables in _mapping(content.get("hosts"), f"{place}.hosts", file).items():
        where = f"{place}.hosts.{pattern}"
        its_own = {
            variable: Located(value, f"{where}.{variable}")
            for variable, value in _mapping(variables, where, file).items()
        }
        for host, with_port in _hosts(pattern, its_own, where, file):
            draft.host(host, with_port, name if name != "all" else "ungrouped")
    for child, its_group in _mapping(content.get("children"), f"{place}.children", file).items():
        if name != "all":
            made.children[child] = None
        _group(draft, child, its_group, (*path, "children", child))


def _mapping(value: object, place: str, file: File) -> Mapping[str, Any]:
    """Return a value that must be a mapping by names; None or a single name is converted to one."""
    if value is None:
        return {}
    if isinstance(value, str) and place.endswith((".hosts", ".children")):
        return {value: None}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        given = type(value).__name__ if not isinstance(value, dict) else "one with a key that is not text (quote it)"
        what = "a mapping, with a colon behind each name" if place else "a mapping of groups, such as all: and below it"
        raise file.error(place, f"this must be {what}, not {given}")
    return value
