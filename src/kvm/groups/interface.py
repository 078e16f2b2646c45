"""The host's network interfaces, as netcf or udev tells of them.

An interface is given by its name or, if no other has the same, its MAC address. Where libvirt is built without netcf,
as most are today, interfaces can be looked at but not changed: that raises `NotSupportedError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack, overload

from kvm import table, text, xml
from kvm.errors import UnreadableOutputError
from kvm.groups.group import Group
from kvm.virsh.command import Command
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundInterface


class ListedInterface(TypedDict):
    """An interface in a list. `state` is ``'active'`` or ``'inactive'``, `mac_address` None if it has none."""

    state: str
    mac_address: str | None


class Interface(Group):
    """The host's network interfaces, as netcf or udev tells of them."""

    _key = ("interface",)

    def __getitem__(self, interface: str) -> BoundInterface:
        """One interface: the methods about it, without `interface`."""
        one: BoundInterface = self._one(interface)
        return one

    def begin(self) -> Result:
        """Remember how the interfaces are, until `commit` or `rollback`. virsh: ``iface-begin``."""
        return self._act("iface-begin")

    def bridge(self, interface: str, bridge: str, **options: Unpack[options.IfaceBridgeOptions]) -> Result:
        """Make a bridge of the name `bridge`, start it, and move an interface into it. virsh: ``iface-bridge``.

        ``no_start=True`` does not start it, ``no_stp=True`` leaves the spanning tree protocol off; ``delay``: seconds
        before a new port of the bridge forwards.
        """
        return self._act("iface-bridge", interface=interface, bridge=bridge, **options)

    def commit(self) -> Result:
        """Keep what was changed since `begin`. virsh: ``iface-commit``."""
        return self._act("iface-commit")

    @overload
    def conf(
        self, interface: str, *, xpath: None = None, **options: Unpack[options.IfaceDumpxmlOptions]
    ) -> xml.Conf: ...
    @overload
    def conf(self, interface: str, *, xpath: str, **options: Unpack[options.IfaceDumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, interface: str, *, xpath: str | None = None, **options: Unpack[options.IfaceDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """An interface's configuration, as a dict of libvirt's XML. virsh: ``iface-dumpxml``.

        How it is now, or with ``inactive=True`` how it is defined. With ``xpath='//ip'`` a list of what that finds.
        """
        return self._read("iface-dumpxml", xml.asked(xpath), interface=interface, **xml.unwrapped(options))

    def define(self, file: xml.Document, **options: Unpack[options.IfaceDefineOptions]) -> Result:
        """Define an interface, or change the definition of the one with its name. virsh: ``iface-define``.

        `file`: its configuration as a dict of ``<interface>``, XML, an element or the path of a file on the hypervisor.
        ``validate=True`` checks it against libvirt's schema.
        """
        return self._act("iface-define", file=xml.document("interface", file, options.get("validate")), **options)

    def destroy(self, interface: str) -> Result:
        """Take an interface down. virsh: ``iface-destroy``."""
        return self._act("iface-destroy", interface=interface)

    def edit(self, interface: str, function: xml.Editor) -> Result:
        """Change the configuration that an interface's next start takes. virsh: ``iface-edit``.

        `function` is given the configuration as a dict, and changes it or returns another one, as with `define`.
        Nothing is defined if nothing changes. `ChangedMeanwhileError` if another program has changed it.
        """
        read = Command("iface-dumpxml", {"interface": interface, "inactive": True})
        return self._edit("interface", read, "iface-define", function)

    def list(self, **options: Unpack[options.IfaceListOptions]) -> dict[str, ListedInterface]:
        """The active interfaces by name; with ``all=True`` all, with ``inactive=True`` the others.

        ``{'eth0': {'state': 'active', 'mac_address': '52:54:00:6b:3c:58'}}``. virsh: ``iface-list``.
        """
        return self._read("iface-list", _listed, **options)

    def mac(self, interface: str) -> str:
        """The MAC address of the interface with a name. virsh: ``iface-mac``."""
        return self._read("iface-mac", text.line, interface=interface)

    def name(self, interface: str) -> str:
        """The name of the interface with a MAC address. virsh: ``iface-name``."""
        return self._read("iface-name", text.line, interface=interface)

    def rollback(self) -> Result:
        """Make the interfaces what they were when `begin` was called. virsh: ``iface-rollback``."""
        return self._act("iface-rollback")

    def start(self, interface: str) -> Result:
        """Bring an interface up. virsh: ``iface-start``."""
        return self._act("iface-start", interface=interface)

    def unbridge(self, bridge: str, **options: Unpack[options.IfaceUnbridgeOptions]) -> Result:
        """Remove a bridge, and start the one interface that was in it. virsh: ``iface-unbridge``.

        ``no_start=True`` does not start it.
        """
        return self._act("iface-unbridge", bridge=bridge, **options)

    def undefine(self, interface: str) -> Result:
        """Remove an interface from the host's configuration. virsh: ``iface-undefine``."""
        return self._act("iface-undefine", interface=interface)


def _listed(output: str) -> dict[str, ListedInterface]:
    """Interfaces by name. The kernel allows no blanks in names, so cells end where they seem to."""
    listed = table.by_name(ListedInterface, output)
    if any(table.NOT_SHOWN in name for name in listed):
        raise UnreadableOutputError(f"virsh cannot print the name of an interface: {output!r}")
    return listed
