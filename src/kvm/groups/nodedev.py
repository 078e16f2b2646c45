"""Devices of the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from kvm import text, xml
from kvm.events import LIFECYCLE, NOTHING, Details, EventOptions, Events, Kinds, OfLibvirt
from kvm.groups.group import Group
from kvm.values import Outcome
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundNodedev


class NodedevInfo(TypedDict):
    """What a device is to libvirt. `autostart` is None if that cannot be said of it."""

    name: str
    parent: str | None
    active: bool
    persistent: bool
    autostart: bool | None


class Nodedev(Group):
    """Devices of the host.

    A device is given by its name; an adapter of a storage network also as ``'wwnn,wwpn'``, its two world wide names.
    """

    _key = ("device",)

    def __getitem__(self, device: str) -> BoundNodedev:
        """One device: the methods about it, without `device`."""
        one: BoundNodedev = self._one(device)
        return one

    def autostart(self, device: str, **options: Unpack[options.NodedevAutostartOptions]) -> Result:
        """Have a device started with the host; ``disable=True``: no longer. virsh: ``nodedev-autostart``.

        Needs virsh 9.
        """
        return self._act("nodedev-autostart", device=device, **options)

    @overload
    def conf(
        self, device: str, *, xpath: None = None, **options: Unpack[options.NodedevDumpxmlOptions]
    ) -> xml.Conf: ...
    @overload
    def conf(self, device: str, *, xpath: str, **options: Unpack[options.NodedevDumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, device: str, *, xpath: str | None = None, **options: Unpack[options.NodedevDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """What a device is and can do, as a dict of libvirt's XML. virsh: ``nodedev-dumpxml``.

        With ``inactive=True`` how it is defined, also while it is active. With ``xpath='//capability/@type'`` a list
        of what that finds.
        """
        return self._read("nodedev-dumpxml", xml.asked(xpath), device=device, **xml.unwrapped(options))

    def create(self, file: xml.Document, **options: Unpack[options.NodedevCreateOptions]) -> Outcome[str]:
        """Create a device that lives until it is destroyed (a transient one). virsh: ``nodedev-create``.

        `file`: a mediated device or a virtual adapter, as a dict of ``<device>``, XML, an element or the path of a
        file on the hypervisor. ``validate=True`` checks it against libvirt's schema.
        The `value` of the result is its name.
        """
        document = xml.document("device", file, options.get("validate"))
        return self._act_and_tell("nodedev-create", str, file=document, **options)

    def define(self, file: xml.Document, **options: Unpack[options.NodedevDefineOptions]) -> Outcome[str]:
        """Define a mediated device. It is not started. virsh: ``nodedev-define``.

        `file` and ``validate`` as with `create`. Needs virsh 9.
        The `value` of the result is its name.
        """
        document = xml.document("device", file, options.get("validate"))
        return self._act_and_tell("nodedev-define", str, file=document, **options)

    def destroy(self, device: str) -> Result:
        """Remove a mediated device or a virtual adapter from the host. virsh: ``nodedev-destroy``.

        One that is defined stays so, inactive.
        """
        return self._act("nodedev-destroy", device=device)

    def detach(self, device: str, **options: Unpack[options.NodedevDetachOptions]) -> Result:
        """Take a PCI device from the host's driver, so that a domain can have it. virsh: ``nodedev-detach``.

        ``driver='vfio'``: the driver that gets it instead of the default.
        """
        return self._act("nodedev-detach", device=device, **options)

    @overload
    def event(
        self,
        device: str | None = None,
        *,
        event: str = "lifecycle",
        list: Literal[False] = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details]: ...
    @overload
    def event(self, device: str | None = None, *, list: Literal[True]) -> Kinds: ...
    def event(
        self,
        device: str | None = None,
        *,
        event: str = "lifecycle",
        list: bool = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details] | Kinds:
        """What happens from now on to a device, or to all, as it happens. virsh: ``nodedev-event``.

        As `Domain.event`, also `timeout` and `loop`, but of one kind at a time: ``'lifecycle'`` (`LifecycleEvent`:
        ``'Created'``, ``'Deleted'``, ``'Defined'``, ``'Undefined'``) or ``'update'``. With ``list=True`` the names of
        all kinds.
        """
        which = {"device": device, "event": event}
        return self._listen_or_list("nodedev-event", _EVENTS, "nodedev-list", which, options, list=list)

    def info(self, device: str) -> NodedevInfo:
        """What a device is to libvirt, see `NodedevInfo`. virsh: ``nodedev-info``.

        ``{'name': 'mdev_...', 'parent': 'pci_...', 'active': True, 'persistent': True, 'autostart': False}``. Needs
        virsh 9.
        """
        return self._read("nodedev-info", text.fields(NodedevInfo), device=device)

    @overload
    def list(
        self,
        *,
        cap: str | Sequence[str] | None = None,
        tree: Literal[False] = False,
        **options: Unpack[options.NodedevListOptions],
    ) -> list[str]: ...
    @overload
    def list(self, *, tree: Literal[True], **options: Unpack[options.NodedevListOptions]) -> text.Tree: ...
    def list(
        self,
        *,
        cap: str | Sequence[str] | None = None,
        tree: bool = False,
        **options: Unpack[options.NodedevListOptions],
    ) -> list[str] | text.Tree:
        """The names of the active devices. virsh: ``nodedev-list``.

        `cap`: only those with a capability (``'net'``), or with one of several (``['net', 'pci']``). ``inactive=True``:
        those that are only defined, ``all=True``: both; ``persistent=True``, ``transient=True``: as they say. With
        ``tree=True`` each below its parent: ``{'computer': {'scsi_host1': {'scsi_host11': {}}}}``.
        """
        if tree:
            return self._read("nodedev-list", text.tree, cap=_joined(cap), tree=True, **options)
        return self._read("nodedev-list", text.lines, cap=_joined(cap), **options)

    def reattach(self, device: str) -> Result:
        """Give a PCI device back to the host's driver. virsh: ``nodedev-reattach``."""
        return self._act("nodedev-reattach", device=device)

    def reset(self, device: str) -> Result:
        """Reset a PCI device, before or after a domain has it. virsh: ``nodedev-reset``."""
        return self._act("nodedev-reset", device=device)

    def start(self, device: str) -> Result:
        """Start a device that is defined. virsh: ``nodedev-start``.

        Needs virsh 9.
        """
        return self._act("nodedev-start", device=device)

    def undefine(self, device: str) -> Result:
        """Remove a device's definition; an active one goes on until it is destroyed. virsh: ``nodedev-undefine``.

        Needs virsh 9.
        """
        return self._act("nodedev-undefine", device=device)

    def update(self, device: str, file: xml.Document, **options: Unpack[options.NodedevUpdateOptions]) -> Result:
        """Change a mediated device. virsh: ``nodedev-update``.

        `file` as with `create`. ``live=True`` changes the active device, ``config=True`` its definition; without
        either, or with ``current=True``, the active device if it is active. Needs virsh 11.
        """
        return self._act("nodedev-update", device=device, file=xml.document("device", file), **options)


def _joined(cap: str | Sequence[str] | None) -> str | None:
    return cap if cap is None or isinstance(cap, str) else ",".join(cap)


_EVENTS = OfLibvirt[Any]("node device", {"lifecycle": LIFECYCLE, "update": NOTHING})
