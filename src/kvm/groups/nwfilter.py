"""Network filters and their bindings to interfaces of guests.

A filter is given by its name or UUID, a binding by the name of the interface on the host (its port device).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

from kvm import table, text, xml
from kvm.errors import UnreadableOutputError
from kvm.groups.group import Group
from kvm.virsh.command import Command
from kvm.virsh.plan import Lookup, Plan, checked, each_left
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundNwfilter


class ListedFilter(TypedDict):
    """A network filter in a list."""

    uuid: str


class ListedBinding(TypedDict):
    """A binding in a list: the name of its `filter`."""

    filter: str


class Nwfilter(Group):
    """Network filters and their bindings to interfaces of guests."""

    _key = ("nwfilter",)

    def __getitem__(self, nwfilter: str) -> BoundNwfilter:
        """One filter: the methods about it, without `nwfilter`."""
        one: BoundNwfilter = self._one(nwfilter)
        return one

    @overload
    def binding_conf(
        self, binding: str, *, xpath: None = None, **options: Unpack[options.NwfilterBindingDumpxmlOptions]
    ) -> xml.Conf: ...
    @overload
    def binding_conf(
        self, binding: str, *, xpath: str, **options: Unpack[options.NwfilterBindingDumpxmlOptions]
    ) -> list[xml.Node]: ...
    def binding_conf(
        self, binding: str, *, xpath: str | None = None, **options: Unpack[options.NwfilterBindingDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """A binding's configuration, as a dict of libvirt's XML. virsh: ``nwfilter-binding-dumpxml``.

        Whose interface it is (``owner``, ``portdev``, ``mac``), its filter and the filter's parameters. With
        ``xpath='//parameter'`` a list of what that finds.
        """
        return self._read("nwfilter-binding-dumpxml", xml.asked(xpath), binding=binding, **xml.unwrapped(options))

    def binding_create(self, file: xml.Document, **options: Unpack[options.NwfilterBindingCreateOptions]) -> Result:
        """Bind a filter to an interface, as starting a guest does. virsh: ``nwfilter-binding-create``.

        `file`: a dict of ``<filterbinding>``, XML, an element or the path of a file on the hypervisor.
        ``validate=True`` checks it against libvirt's schema.
        """
        document = xml.document("filterbinding", file, options.get("validate"))
        return self._act("nwfilter-binding-create", file=document, **options)

    def binding_delete(self, binding: str) -> Result:
        """Remove the binding of an interface: nothing filters it then. virsh: ``nwfilter-binding-delete``."""
        return self._act("nwfilter-binding-delete", binding=binding)

    def binding_list(self) -> dict[str, ListedBinding]:
        """The bindings by the names of their interfaces: ``{'vnet0': {'filter': 'clean-traffic'}}``.

        virsh: ``nwfilter-binding-list``.
        """
        return self._caller.call(_bindings())

    @overload
    def conf(
        self, nwfilter: str, *, xpath: None = None, **options: Unpack[options.NwfilterDumpxmlOptions]
    ) -> xml.Conf: ...
    @overload
    def conf(
        self, nwfilter: str, *, xpath: str, **options: Unpack[options.NwfilterDumpxmlOptions]
    ) -> list[xml.Node]: ...
    def conf(
        self, nwfilter: str, *, xpath: str | None = None, **options: Unpack[options.NwfilterDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """A filter's rules, as a dict of libvirt's XML. virsh: ``nwfilter-dumpxml``.

        ``rule`` and ``filterref`` are lists, and ``#order`` has the names of both in the order in which libvirt applies
        them: ``['uuid', 'rule', 'filterref', 'rule']``. With ``xpath='//filterref/@filter'`` a list of what that finds.
        """
        return self._read("nwfilter-dumpxml", xml.asked(xpath), nwfilter=nwfilter, **xml.unwrapped(options))

    def define(self, file: xml.Document, **options: Unpack[options.NwfilterDefineOptions]) -> Result:
        """Define a filter, or change the one with its name, for running guests as well. virsh: ``nwfilter-define``.

        `file`: a dict of ``<filter>``, XML, an element or the path of a file on the hypervisor. ``validate=True``
        checks it against libvirt's schema. A dict without ``#order`` is written in the order that it has.
        """
        return self._act("nwfilter-define", file=xml.document("filter", file, options.get("validate")), **options)

    def edit(self, nwfilter: str, function: xml.Editor) -> Result:
        """Change a network filter, also where guests are under it already. virsh: ``nwfilter-edit``.

        `function` is given the configuration as a dict, and changes it or returns another one, as with `define`. To add
        or remove one of several rules with references between them, change ``#order`` as well (see `conf`); otherwise
        `InvalidArgumentError`. Nothing is defined if nothing changes. `ChangedMeanwhileError` if another program
        has changed it while `function` ran.
        """
        read = Command("nwfilter-dumpxml", {"nwfilter": nwfilter})
        return self._edit("filter", read, "nwfilter-define", function)

    def list(self) -> dict[str, ListedFilter]:
        """The filters by name: ``{'clean-traffic': {'uuid': ...}}``. virsh: ``nwfilter-list``."""
        return self._caller.call(_filters())

    def undefine(self, nwfilter: str) -> Result:
        """Remove a filter; `InvalidStateError` while it is used. virsh: ``nwfilter-undefine``."""
        return self._act("nwfilter-undefine", nwfilter=nwfilter)


# -- nwfilter-list, nwfilter-binding-list -------------------------------------------------------------------------
#
# There are no lines of names alone. But nothing is behind the last cell of a row, and what is before it has a known
# width, so that cell is exact, unless it holds what virsh's C library cannot print. Then the XML is asked.

_FILTER = re.compile(r" ([0-9a-f-]{36})   (.*)", re.DOTALL)

_BINDING = re.compile(r" ([!-\[\]-~]+) {3,}([!-\[\]-~]+(?: +[!-\[\]-~]+)*)")
"""A row of ASCII, each character a column wide and shown as it is."""


def _filters() -> Plan[dict[str, ListedFilter]]:
    command = Command("nwfilter-list", {})
    (result,) = yield Lookup((command,))
    names: dict[str, str] = {}
    for row in _rows(checked(command, result).stdout):
        if not (found := _FILTER.fullmatch(row)):
            raise UnreadableOutputError(f"virsh printed no UUID and name of a filter: {row!r}")
        names[found[1]] = table.decoded(table.shown(found[2]))
    hidden = [uuid for uuid, name in names.items() if table.NOT_SHOWN in name]
    asked = {uuid: Command("nwfilter-dumpxml", {"nwfilter": uuid}) for uuid in hidden}
    told = yield from each_left(asked, _attribute("/filter/@name"))
    return {told.get(uuid, name): {"uuid": uuid} for uuid, name in names.items() if uuid in told or uuid not in asked}


def _bindings() -> Plan[dict[str, ListedBinding]]:
    command = Command("nwfilter-binding-list", {})
    (result,) = yield Lookup((command,))
    output = checked(command, result).stdout
    listed: dict[str, ListedBinding] = {}
    hidden: list[str] = []
    for row in _rows(output):
        found = _BINDING.fullmatch(row)
        if found and found.start(2) == output.find("Filter"):
            listed[found[1]] = {"filter": found[2]}
        else:
            hidden.append(_device(row))
    asked = {device: Command("nwfilter-binding-dumpxml", {"binding": device}) for device in hidden}
    told = yield from each_left(asked, _attribute("/filterbinding/filterref/@filter"))
    return {**listed, **{device: {"filter": name} for device, name in told.items()}}


def _rows(output: str) -> list[str]:
    """The rows of a table, without its heading and the line below."""
    return text.lines(output)[2:]


def _device(row: str) -> str:
    """The interface in a row of bindings; the kernel allows no blanks in its name."""
    device = table.decoded(table.shown(row[1:].partition(" ")[0]))
    if table.NOT_SHOWN in device:
        raise UnreadableOutputError(f"virsh cannot print the name of the interface in {row!r}")
    return device


def _attribute(xpath: str) -> Callable[[str], str]:
    """A reader of the one attribute that an XPath finds."""

    def read(output: str) -> str:
        found = xml.nodes(output, xpath)
        if len(found) != 1:
            raise UnreadableOutputError(f"expected one {xpath} in {output!r}")
        return str(found[0])

    return read
