"""What people note about a domain or a network, its title, description and metadata, changed by a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from kvm import xml
from kvm.errors import InvalidArgumentError
from kvm.virsh.command import Command
from kvm.virsh.plan import Lookup, Plan, checked, printed, resolved, revising
from unix.result import Result


def revised_text(
    setting: Command,
    conf: Command,
    path: str,
    function: Callable[[str], str],
    *,
    alone: AbstractContextManager[object],
    check: bool,
) -> Plan[Result]:
    """The text at a `path` of the XML that `conf` prints, changed by `function`, and set by `setting`."""

    if setting.options["new_desc"] is not None:
        raise InvalidArgumentError(f"virsh {setting.name}: it is edited, or set to a text")

    def part(command: Command, result: Result) -> Plan[str]:
        return str(xml.nodes((yield from printed(command, result)), f"string({path})")[0])

    def edited(told: str) -> str:
        if not isinstance(wanted := function(told), str):
            raise TypeError(f"virsh {setting.name}: a function that edits a text returns one, not {wanted!r}")
        return wanted

    def write(_: str, wanted: str) -> Command:
        return Command(setting.name, {**setting.options, "new_desc": wanted}, reads=False)

    what = path.rpartition("/")[2]
    return revising(what, conf, part, str, write, edited, alone=alone, check=check)


def revised_metadata(
    read: Command,
    conf: Command,
    key: str | None,
    parse: Callable[[str], dict[str, Any]],
    function: Callable[[dict[str, Any]], object],
    *,
    alone: AbstractContextManager[object],
    check: bool,
) -> Plan[Result]:
    """Change the element that `read` prints, by `function`.

    If the XML that `conf` prints has no such element, the function is given an empty dict. An empty result removes it.
    """

    def part(command: Command, result: Result) -> Plan[str]:
        if result.status:
            return result.stdout.strip()
        (whole,) = yield Lookup(((yield from resolved(conf)),))  # libvirtd's message may be in any language
        if _has_metadata(checked(conf, whole).stdout, str(read.options["uri"])):
            checked(command, result)
        return ""

    def write(told: str, wanted: Any) -> Command:
        if told and isinstance(wanted, Mapping) and len(wanted) == 1:
            wanted = xml.revised_element(told, wanted)
        change = {"key": key, "set": xml.on_one_line(wanted)} if wanted else {"remove": True}
        return Command(read.name, {**read.options, **change}, reads=False)

    def value(said: str) -> dict[str, Any]:
        return parse(said) if said else {}

    return revising("metadata", read, part, value, write, function, alone=alone, check=check)


def _has_metadata(document: str, uri: str) -> bool:
    """Return whether a document of libvirt's has metadata in the namespace `uri`."""
    return any(str(element.tag).startswith(f"{{{uri}}}") for element in xml.root(document).iterfind("metadata/*"))
