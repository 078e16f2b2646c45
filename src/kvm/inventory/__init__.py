"""Files that name hosts and how to connect to them: TOML, an ssh config, or an inventory of Ansible.

Each format has a module that reads it into the common form of `_model`, which finds the settings of each host. Reading
connects to no host. The only program that it runs is ``ansible-inventory``, for Ansible inventories, if installed.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from kvm.errors import InvalidArgumentError
from kvm.inventory import _ansible, _ssh_config, _toml
from kvm.inventory._model import Connecting, File, Format, Inventory, InventoryError, Path, Settings, similar

T = TypeVar("T")

__all__ = [
    "Connecting",
    "Format",
    "Inventory",
    "InventoryError",
    "Path",
    "Settings",
    "connect_arguments",
    "merged",
    "narrowed",
    "read",
]


def read(path: Path, format: Format | None = None) -> Inventory:
    """Read the hosts and groups in a file.

    Args:
        path: the file. With Ansible installed, a directory or a program that Ansible accepts as an inventory as well.
        format: the format of the file; without it the name of the file or its content decides.

    Returns:
        The settings of the hosts by name, the groups, and the hosts that cannot be used.

    Raises:
        InventoryError: the file is not an inventory; the message has the place and what to do.
        OSError: the file cannot be read.
    """
    if format is not None and format not in _READERS:
        raise InvalidArgumentError(f"format must be one of {', '.join(_READERS)}, not {format!r}")
    name = os.fspath(path)
    file = File(name)
    if os.path.isdir(name):
        if found := _ansible.through_ansible(name):
            return found
        raise file.error("", f"this is a directory; name a file in it, or {_ansible.EXPORT}")
    text = file.text()
    format = format or _format(name, text)
    if format in ("ini", "yaml") and os.path.isfile(name) and (found := _ansible.through_ansible(name)):
        return found
    if text.startswith("#!"):
        raise file.error("line 1", f"this is a program, and only Ansible runs it; {_ansible.EXPORT}")
    return _READERS[format](text, file)


_READERS: dict[Format, Callable[[str, File], Inventory]] = {
    "toml": _toml.read, "ssh": _ssh_config.read,
    "ini": _ansible.read_ini, "yaml": _ansible.read_yaml, "json": _ansible.read_json,
}  # fmt: skip


def _format(name: str, text: str) -> Format:
    """Return the format of a file, by its suffix or its first lines."""
    known: dict[str, Format] = {
        ".toml": "toml", ".ini": "ini", ".cfg": "ini", ".yml": "yaml", ".yaml": "yaml", ".json": "json",
    }  # fmt: skip
    if found := known.get(os.path.splitext(name)[1].lower()):
        return found
    if text.lstrip().startswith("{"):
        return "json"
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;"]
    if lines and (lines[0].startswith("---") or re.fullmatch(r"[\w.-]+:\s*(#.*)?", lines[0])):
        return "yaml"
    if any(re.match(r"\s*(Host|Match|Include)[\s=]", line, re.IGNORECASE) for line in lines):
        return "ssh"
    return "ini"


def connect_arguments(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `unix.Remote.connect` for the host `name`.

    A user or a port that is written with the host overrides another setting: it is the most specific.
    """
    from unix.ssh import Address

    arguments = {key: value for key, value in settings.items() if key not in ("uri", "connection", "connect_timeout")}
    arguments.setdefault("host", name)
    address = Address.parse(arguments["host"])
    for key in ("username", "port"):
        if getattr(address, key) is not None:
            arguments.pop(key, None)
    return {**arguments, "timeout": settings.get("connect_timeout", 10)}


def merged(inventories: Mapping[str, Inventory]) -> Inventory:
    """Return several inventories, given by the names of their files, as one.

    Raises `InventoryError` for a host that has different settings in two of them.
    """
    described_in: dict[str, str] = {}
    hosts: dict[str, Settings] = {}
    refused: dict[str, InventoryError] = {}
    groups: dict[str, dict[str, None]] = {}
    for file, inventory in inventories.items():
        for name in inventory.names:
            other = described_in.setdefault(name, file)
            if other != file and (name not in hosts or hosts[name] != inventory.hosts.get(name)):
                raise InventoryError(f"{other} and {file} have different settings for the host {name!r}; remove one")
        hosts |= inventory.hosts
        refused |= inventory.refused
        for group, members in inventory.groups.items():
            groups.setdefault(group, {}).update(dict.fromkeys(members))
    return Inventory(hosts, {group: list(members) for group, members in groups.items()}, refused)


def narrowed(inventory: Inventory, groups: Sequence[str], hosts: Sequence[str], file: str) -> Inventory:
    """Return the part of an inventory that is in one of the groups, and matches one of the hosts' names or patterns.

    An empty `groups` or `hosts` selects everything. Raises `InventoryError`, which calls the inventory `file`, for an
    unknown group, and for a pattern that matches no host.
    """
    chosen = dict.fromkeys(inventory.names)
    if groups and "all" not in groups:
        for group in groups:
            if group not in inventory.groups:
                raise InventoryError(f"{file}: there is no group {group!r}: {similar(group, inventory.groups)}")
        chosen = dict.fromkeys(name for group in groups for name in inventory.groups[group])
    if hosts:
        matching = [(pattern, fnmatch.filter(chosen, pattern)) for pattern in hosts]
        for pattern, found in matching:
            if not found and pattern not in chosen:
                among = f"in {', '.join(groups)} of {file}" if groups else f"in {file}"
                raise InventoryError(f"there is no host {pattern!r} {among}: {similar(pattern, chosen)}")
        chosen = dict.fromkeys(name for pattern, found in matching for name in (found or [pattern]))
    return _part(inventory, chosen.keys())


def _part(inventory: Inventory, names: Collection[str]) -> Inventory:
    groups = {group: [name for name in members if name in names] for group, members in inventory.groups.items()}
    return Inventory(
        _of(inventory.hosts, names),
        {group: members for group, members in groups.items() if members},
        _of(inventory.refused, names),
    )


def _of(values: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    return {name: value for name, value in values.items() if name in names}
