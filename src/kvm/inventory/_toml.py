"""Inventories in TOML: hosts, groups and defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from kvm.inventory._model import (
    KINDS,
    Draft,
    File,
    Inventory,
    Located,
    Variables,
    checked,
    names,
    only,
    resolve,
    similar,
    table,
)


def read(text: str, file: File) -> Inventory:
    """Hosts, groups and defaults, in TOML.

    ::

        [defaults]                      # for every host: any of the settings below
        uri = "qemu:///system"
        username = "root"

        [hosts.hv1]                     # a host's settings; none is needed
        host = "10.0.0.1"               # the name or address for ssh; without it the name
        port = 2222

        [hosts."hv[02:10]"]             # a range: hv02, hv03, ... hv10

        [groups.rack1]                  # settings for its hosts may follow
        hosts = ["hv1", "hv[02:04]"]
        key_filename = "~/.ssh/rack1"

        [groups]
        berlin = ["rack1", "hv05"]      # hosts and groups

    The settings are those of `Settings`. Paths are relative to the file. The settings of a host override those of its
    groups, those of an inner group those of an outer one, and all of them the defaults.
    """
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at (line \d+), column \d+\)", str(error))
        raise file.error(found[1] if found else "at its end", f"this is not TOML: {error}") from None
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number in it is too long"
        raise file.error("", f"this TOML cannot be read: {reason}") from None
    only(document, ("defaults", "hosts", "groups"), "", file)
    draft = Draft(file)
    draft.groups["all"].variables = _settings(table(document.get("defaults", {}), "defaults", file), "defaults", file)
    hosts = document.get("hosts", {})
    by_pattern = {name: {} for name in hosts} if _is_names(hosts) else table(hosts, "hosts", file)
    for pattern, its_own in by_pattern.items():
        where = f"hosts.{pattern}"
        variables = _settings(table(its_own, where, file), where, file)
        for name in names([pattern], where, file):
            draft.host(name, variables)
    groups = table(document.get("groups", {}), "groups", file)
    for name, group in groups.items():
        _group(draft, name, group, groups, file)
    resolved = resolve(draft)
    return Inventory({host: checked(given, file) for host, given in resolved.hosts.items()}, resolved.groups)


def _group(draft: Draft, name: str, group: object, groups: Mapping[str, object], file: File) -> None:
    place = f"groups.{name}"
    if name in draft.hosts or name == "all":
        raise file.error(place, f"{'every host' if name == 'all' else 'a host'} has this name; give the group another")
    if _is_names(group):
        group = {"hosts": group}
    settings = dict(table(group, place, file))
    members = settings.pop("hosts", [])
    if not _is_names(members):
        raise file.error(f"{place}.hosts", 'this must be a list of names, such as ["hv1", "hv[02:10]"]')
    made = draft.group(name)
    made.variables = _settings(settings, place, file)
    for member in names(members, place, file):
        if member not in draft.hosts and member not in groups:
            known = [*draft.hosts, *groups]
            raise file.error(place, f"there is no host or group {member!r}: {similar(member, known)}")
        if member in draft.hosts:
            made.hosts[member] = None
        else:
            made.children[member] = None


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _settings(given: Mapping[str, object], place: str, file: File) -> Variables:
    """The settings in a table; paths are relative to the file."""
    only(given, KINDS, place, file)
    settings = {name: Located(value, f"{place}.{name}") for name, value in given.items()}
    for name in ("key_filename", "config", "known_hosts"):
        if name in settings and isinstance(path := settings[name].value, str) and path and not path.startswith("~"):
            directory = os.path.dirname(os.path.abspath(file.name))
            settings[name] = settings[name]._replace(value=os.path.join(directory, path))
    return settings
