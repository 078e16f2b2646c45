"""What a domain is called, and what others have noted about it: its name, title, description and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack, overload

from kvm import xml
from kvm.errors import NotFoundError
from kvm.groups.domain.affected import Affected
from kvm.groups.group import Group
from kvm.groups.notes import revised_metadata, revised_text
from kvm.virsh.command import Command
from kvm.virsh.plan import Plan, checked, reading, resolved
from unix.result import Result

if TYPE_CHECKING:
    from lxml import etree

Metadata: TypeAlias = "Mapping[str, Any] | str | bytes | etree._Element"
"""One element: as a dict of its tag, as XML, or as an lxml element."""


class Labels(Group):
    """What a domain is called, and what others have noted about it."""

    @overload
    def desc(
        self, domain: str | int, new_desc: None = None, *, title: bool = False, **options: Unpack[Affected]
    ) -> str: ...
    @overload
    def desc(self, domain: str | int, new_desc: str, *, title: bool = False, **options: Unpack[Affected]) -> Result: ...
    @overload
    def desc(
        self, domain: str | int, *, title: bool = False, edit: Callable[[str], str], **options: Unpack[Affected]
    ) -> Result: ...
    def desc(
        self,
        domain: str | int,
        new_desc: str | None = None,
        *,
        title: bool = False,
        edit: Callable[[str], str] | None = None,
        **options: Unpack[Affected],
    ) -> str | Result:
        """A domain's description, or with `title` its title; with `new_desc`, set it. virsh: ``desc``.

        Exactly as it is, with its lines and blanks; empty if there is none, and to remove it. A title has one line.
        `edit` is a function that is given it and returns another; `ChangedMeanwhileError` as with `edit`, the method.
        """
        if edit is not None:
            setting = Command("desc", {"domain": domain, "new_desc": new_desc, "title": title, **options})
            conf = Command("dumpxml", {"domain": domain, "inactive": options.get("config")})
            path = "/domain/title" if title else "/domain/description"
            return self._caller.call(revised_text(setting, conf, path, edit, **self._carefully()))
        if new_desc is None:
            return self._caller.call(_description(domain, {"title": title, **options}))
        return self._act("desc", domain=domain, new_desc=new_desc, title=title, **options)

    @overload
    def metadata(self, domain: str | int, uri: str, **options: Unpack[Affected]) -> dict[str, Any]: ...
    @overload
    def metadata(
        self, domain: str | int, uri: str, *, key: str, set: Metadata, **options: Unpack[Affected]
    ) -> Result: ...
    @overload
    def metadata(
        self,
        domain: str | int,
        uri: str,
        *,
        key: str,
        edit: Callable[[dict[str, Any]], Metadata | None],
        **options: Unpack[Affected],
    ) -> Result: ...
    @overload
    def metadata(
        self, domain: str | int, uri: str, *, remove: Literal[True], **options: Unpack[Affected]
    ) -> Result: ...
    def metadata(
        self,
        domain: str | int,
        uri: str,
        *,
        key: str | None = None,
        set: Metadata | None = None,
        edit: Callable[[dict[str, Any]], Metadata | None] | None = None,
        remove: bool = False,
        **options: Unpack[Affected],
    ) -> dict[str, Any] | Result:
        """The element that a domain keeps for the namespace `uri`; with `set`, set it. virsh: ``metadata``.

        A dict of its tag, ``{'app': {'@tier': 'web', 'owner': 'me'}}``; a list only where an element does repeat, and
        ``#order`` where elements of different names alternate (`kvm.from_xml`). `set` is such a dict, XML or an lxml
        element, and `key` the prefix of the namespace in libvirt's XML. ``remove=True`` removes it. `NotFoundError` if
        there is no such element. `edit` is a function that changes such a dict, empty for none, or returns another; it
        is removed if that is empty.
        """
        if edit is not None and set is None and not remove:
            read = Command("metadata", {"domain": domain, "uri": uri, **options})
            conf = Command("dumpxml", {"domain": domain, "inactive": options.get("config")})
            parse = _metadata(domain, uri)
            return self._caller.call(revised_metadata(read, conf, key, parse, edit, **self._carefully()))
        element = None if set is None else xml.on_one_line(set)
        given = {"key": key, "set": element, "remove": remove or None, "edit": edit}
        return self._set_or_read("metadata", _metadata(domain, uri), given, domain=domain, uri=uri, **options)

    def rename(self, domain: str | int, new_name: str) -> Result:
        """Give a domain that does not run another name. virsh: ``domrename``."""
        return self._act("domrename", domain=domain, new_name=new_name)


def _description(domain: str | int, which: Mapping[str, object]) -> Plan[str]:
    command = yield from resolved(Command("desc", {"domain": domain, **which}))
    (result,) = yield (command,)
    said = checked(command, result).stdout.removesuffix("\n")
    label = "title" if which["title"] else "description"
    if not said.startswith(f"No {label} for domain: "):
        return said
    # there is none, or that is what it says
    of_domain = Command("dumpxml", {"domain": command.options["domain"], "inactive": which.get("config")})
    return (yield from reading(of_domain, lambda output: str(xml.nodes(output, f"string(/domain/{label})")[0])))


def _metadata(domain: str | int, uri: str) -> Callable[[str], dict[str, Any]]:
    def read(output: str) -> dict[str, Any]:
        if not output.strip():  # newer virsh; an older one says itself that it has found none
            raise NotFoundError(f"virsh metadata: {domain!r} has no metadata of {uri!r}", command=["metadata"])
        return xml.element(output)

    return read
