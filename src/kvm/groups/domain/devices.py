"""Devices and network interfaces of domains.

A device is given as a dict of its tag, ``{'disk': {...}}``, which is also how one is returned. Where a change goes is
said by the same options everywhere: ``live=True`` to the running domain, ``config=True`` to its definition, both to
both, ``current=True`` or none of them to the running domain, or to the definition of one that is not running.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, Unpack, overload

from kvm import table, text, units, xml
from kvm.errors import UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.built_xml import refuse_in_attribute
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options

LinkState: TypeAlias = Literal["up", "down"]


class ListedInterface(TypedDict):
    """A network interface of a domain, None for what it has not.

    `interface` is its name on the host, which it only has while the domain runs; `source` a network, a bridge, a
    device of the host or a socket.
    """

    interface: str | None
    type: str
    source: str | None
    model: str | None
    mac: str | None


class InterfaceStats(TypedDict, total=False):
    """What went through an interface since its domain started, as far as it is counted."""

    rx_bytes: int
    rx_packets: int
    rx_errs: int
    rx_drop: int
    tx_bytes: int
    tx_packets: int
    tx_errs: int
    tx_drop: int


class Address(TypedDict):
    """An IP address: ``{'type': 'ipv4', 'address': '192.0.2.10', 'prefix': 24}``."""

    type: str
    address: str
    prefix: int


class InterfaceAddresses(TypedDict):
    """An interface's hardware address, None if it is not known, and its IP addresses."""

    hwaddr: str | None
    addresses: list[Address]


class Bandwidth(TypedDict, total=False):
    """The limits of one direction, 0 for none: `average`, `peak` and the guaranteed `floor` in bytes a second, `burst`
    in bytes."""

    average: Quantity
    peak: Quantity
    burst: Quantity
    floor: Quantity


class BandwidthLimits(TypedDict, total=False):
    """The limits to set for one direction, as ints or with units.

    `average`, `peak` and `floor` are in bytes a second, whole numbers of kB/s; `burst` is in bytes, a whole number of
    KiB.
    """

    average: int | str
    peak: int | str
    burst: int | str
    floor: int | str


class InterfaceTune(TypedDict):
    """The limits of an interface: what its domain receives and what it sends."""

    inbound: Bandwidth
    outbound: Bandwidth


class Devices(Group):
    """Devices and network interfaces of domains."""

    def attach_device(
        self, domain: str | int, file: xml.Document, **options: Unpack[options.AttachDeviceOptions]
    ) -> Result:
        """Give a domain another device. virsh: ``attach-device``.

        `file`: the device as a dict of its tag (``{'disk': {...}}``), XML, an element or the path of a file on the
        hypervisor. Where to: ``live=True`` to the running domain, ``config=True`` to what its next start takes, both
        together to both; ``current=True``, or nothing, to the running domain if it runs and to its definition
        otherwise. ``persistent=True``: to the definition, and to the domain if it runs.
        """
        return self._act("attach-device", domain=domain, file=xml.device(file), **options)

    @overload
    def attach_disk(
        self,
        domain: str | int,
        source: str,
        target: str,
        *,
        print_xml: Literal[False] = False,
        **options: Unpack[options.AttachDiskOptions],
    ) -> Result: ...
    @overload
    def attach_disk(
        self,
        domain: str | int,
        source: str,
        target: str,
        *,
        print_xml: Literal[True],
        **options: Unpack[options.AttachDiskOptions],
    ) -> xml.Conf: ...
    def attach_disk(
        self,
        domain: str | int,
        source: str,
        target: str,
        *,
        print_xml: bool = False,
        **options: Unpack[options.AttachDiskOptions],
    ) -> Result | xml.Conf:
        """Give a domain another disk. virsh: ``attach-disk``.

        `source`: a file or a block device (which of them: ``sourcetype='file'`` or ``'block'``), the name of a network
        disk with `source_protocol` and `source_host_name` (`source_host_transport`, `source_host_socket`), or ``''``
        for an empty drive; `target`: its name in the domain, ``'vdb'``. What kind: ``type='cdrom'``,
        ``mode='readonly'`` or ``'shareable'``; its format: ``driver='qemu', subdriver='qcow2'``, without which it is
        read as raw; more: `targetbus`, `address` (``multifunction=True``), `cache`, `io`, `iothread` (a number),
        `serial`, `wwn`, `alias`, ``rawio=True``, `throttle_groups`. Where to: as with `attach_device`.
        ``print_xml=True`` returns the device that this would attach.
        """
        return self._act_or_print(
            xml.printed_device, "attach-disk", print_xml, domain=domain, source=source, target=target, **options
        )

    @overload
    def attach_interface(
        self,
        domain: str | int,
        type: str,
        source: str,
        *,
        print_xml: Literal[False] = False,
        **options: Unpack[options.AttachInterfaceOptions],
    ) -> Result: ...
    @overload
    def attach_interface(
        self,
        domain: str | int,
        type: str,
        source: str,
        *,
        print_xml: Literal[True],
        **options: Unpack[options.AttachInterfaceOptions],
    ) -> xml.Conf: ...
    def attach_interface(
        self,
        domain: str | int,
        type: str,
        source: str,
        *,
        print_xml: bool = False,
        **options: Unpack[options.AttachInterfaceOptions],
    ) -> Result | xml.Conf:
        """Give a domain another network interface. virsh: ``attach-interface``.

        `type` and `source`: ``'network'`` and its name, ``'bridge'`` and its name, ``'direct'`` and a device of the
        host (``source_mode='bridge'``), ``'hostdev'`` and a PCI address (``managed=True`` takes it from the host's
        driver meanwhile), ``'vhostuser'`` and a socket. More: `mac`, `model`, `target`, `alias`, `script`,
        ``inbound='average,peak,burst,floor'`` and `outbound`, as virsh has them: in kB a second, the burst in KiB.
        Where to: as with `attach_device`. ``print_xml=True`` returns the device that this would attach.
        """
        return self._act_or_print(
            xml.printed_device, "attach-interface", print_xml, domain=domain, type=type, source=source, **options
        )

    @overload
    def change_media(
        self,
        domain: str | int,
        path: str,
        *,
        print_xml: Literal[False] = False,
        **options: Unpack[options.ChangeMediaOptions],
    ) -> Result: ...
    @overload
    def change_media(
        self, domain: str | int, path: str, *, print_xml: Literal[True], **options: Unpack[options.ChangeMediaOptions]
    ) -> xml.Conf: ...
    def change_media(
        self,
        domain: str | int,
        path: str,
        *,
        print_xml: bool = False,
        **options: Unpack[options.ChangeMediaOptions],
    ) -> Result | xml.Conf:
        """Change what is in a CD or floppy drive. virsh: ``change-media``.

        `path`: the drive's target (``'sda'``) or its medium. ``eject=True``, or `source` with ``insert=True`` into an
        empty drive or ``update=True`` (the default) in any case; ``block=True`` if the source is a block device,
        ``force=True`` even if the guest has locked the drive. Where to: `live`, `config`, `current`.
        ``print_xml=True`` returns the device as it would become.
        """
        refuse_in_attribute("change-media", "source", options.get("source"))
        return self._act_or_print(xml.printed_device, "change-media", print_xml, domain=domain, path=path, **options)

    def fd_associate(
        self,
        domain: str | int,
        name: str,
        pass_fds: int | Sequence[int],
        **options: Unpack[options.DomFdAssociateOptions],
    ) -> Result:
        """Give a domain open files under a name that its disks' sources can tell. virsh: ``dom-fd-associate``.

        `pass_fds`: the numbers that they have in virsh, which does not inherit the files of this process. The
        association lasts as long as virsh's connection does. ``seclabel_writable=True`` labels them for writing,
        ``seclabel_restore=True`` gives them back their labels afterwards.
        """
        return self._act("dom-fd-associate", domain=domain, name=name, pass_fds=_joined(pass_fds), **options)

    def if_getlink(
        self, domain: str | int, interface: str, **options: Unpack[options.DomifGetlinkOptions]
    ) -> LinkState:
        """Whether an interface's link is ``'up'`` or ``'down'``. virsh: ``domif-getlink``.

        `interface`: its name on the host or its MAC address; ``config=True`` as in the definition.
        """
        return self._read("domif-getlink", text.one_of(_LINKS), domain=domain, interface=interface, **options)

    @overload
    def if_setlink(
        self,
        domain: str | int,
        interface: str,
        state: LinkState,
        *,
        print_xml: Literal[False] = False,
        **options: Unpack[options.DomifSetlinkOptions],
    ) -> Result: ...
    @overload
    def if_setlink(
        self,
        domain: str | int,
        interface: str,
        state: LinkState,
        *,
        print_xml: Literal[True],
        **options: Unpack[options.DomifSetlinkOptions],
    ) -> xml.Conf: ...
    def if_setlink(
        self,
        domain: str | int,
        interface: str,
        state: LinkState,
        *,
        print_xml: bool = False,
        **options: Unpack[options.DomifSetlinkOptions],
    ) -> Result | xml.Conf:
        """Set an interface's link ``'up'`` or ``'down'``. virsh: ``domif-setlink``.

        `interface`: its name on the host or its MAC address; ``config=True`` in the definition instead of the running
        domain. ``print_xml=True`` returns the device as it would become.
        """
        return self._act_or_print(
            xml.printed_device, "domif-setlink", print_xml, domain=domain, interface=interface, state=state, **options
        )

    def ifaddr(
        self,
        domain: str | int,
        interface: str | None = None,
        *,
        source: Literal["lease", "agent", "arp"] | None = None,
        full: bool = True,  # noqa: ARG002
    ) -> dict[str, InterfaceAddresses]:
        """The IP addresses of a running domain, by interface. virsh: ``domifaddr``.

        ``{'vnet0': {'hwaddr': '52:54:00:...', 'addresses': [{'type': 'ipv4', 'address': '192.0.2.10', 'prefix':
        24}]}}``. Who knows them: the DHCP servers of libvirt's networks (``source='lease'``, the default), the guest's
        agent (``'agent'``, with the guest's own names), or the ARP table of the host (``'arp'``, which tells no
        prefix: 0). `interface`: only this one.
        """
        return self._read("domifaddr", _addresses, domain=domain, interface=interface, source=source, full=True)

    def ifannounce(self, domain: str | int, **options: Unpack[options.DomifannounceOptions]) -> Result:
        """Have a running domain tell the network where its interfaces are. virsh: ``domifannounce``.

        `interface` for one only; `rounds` announcements, the first after `initial`, each `step` later than the one
        before but never more than `max`, in milliseconds. Needs virsh 12.
        """
        return self._act("domifannounce", domain=domain, **options)

    def iflist(self, domain: str | int, **options: Unpack[options.DomiflistOptions]) -> list[ListedInterface]:
        """The network interfaces of a domain. virsh: ``domiflist``.

        ``[{'interface': 'vnet0', 'type': 'network', 'source': 'default', 'model': 'virtio', 'mac': '52:54:00:...'}]``;
        ``inactive=True`` those of the definition.
        """
        # virsh makes its table of the same XML, where a blank or a `-` in a name is itself
        return self._read("dumpxml", _interfaces, domain=domain, **options)

    def ifstat(self, domain: str | int, interface: str) -> InterfaceStats:
        """What went through an interface of a running domain, as the domain sees it. virsh: ``domifstat``.

        ``{'rx_bytes': ..., 'rx_packets': ..., 'rx_errs': ..., 'rx_drop': ..., 'tx_bytes': ..., ...}``, of which there
        is what is counted. `interface`: its name on the host or its MAC address.
        """
        return self._read("domifstat", text.figures(InterfaceStats), domain=domain, interface=interface)

    @overload
    def iftune(
        self,
        domain: str | int,
        interface: str,
        *,
        config: bool = False,
        live: bool = False,
        current: bool = False,
    ) -> InterfaceTune: ...
    @overload
    def iftune(
        self,
        domain: str | int,
        interface: str,
        *,
        inbound: str | BandwidthLimits,
        outbound: str | BandwidthLimits | None = None,
        config: bool = False,
        live: bool = False,
        current: bool = False,
    ) -> Result: ...
    @overload
    def iftune(
        self,
        domain: str | int,
        interface: str,
        *,
        inbound: str | BandwidthLimits | None = None,
        outbound: str | BandwidthLimits,
        config: bool = False,
        live: bool = False,
        current: bool = False,
    ) -> Result: ...
    def iftune(
        self,
        domain: str | int,
        interface: str,
        *,
        inbound: str | BandwidthLimits | None = None,
        outbound: str | BandwidthLimits | None = None,
        **where: bool,
    ) -> InterfaceTune | Result:
        """Read or set the limits of an interface. virsh: ``domiftune``.

        `interface`: its name on the host or its MAC address. Without limits, the current ones: ``{'inbound':
        {'average': ..., 'peak': ..., 'burst': ..., 'floor': ...}, 'outbound': {...}}``, in bytes a second, the burst in
        bytes, 0 for none. Otherwise they are set: `inbound` and `outbound` as such dicts
        (``{'average': '10 MB/s', 'burst': '64 KiB'}``), see `BandwidthLimits`, or as virsh has them, in kilobytes:
        ``'1000,5000,1024'``. An average of 0 removes them. Where: `live`, `config`, `current`.
        """
        given = {"inbound": _rate(inbound), "outbound": _rate(outbound)}
        return self._set_or_read("domiftune", _rates, given, domain=domain, interface=interface, **where)

    def update_device(
        self, domain: str | int, file: xml.Document, **options: Unpack[options.UpdateDeviceOptions]
    ) -> Result:
        """Change a device of a domain. virsh: ``update-device``.

        `file` and where: as with `attach_device`; the device as it is to become, as complete as `conf` gives it.
        ``force=True``: even if the guest has locked it.
        """
        return self._act("update-device", domain=domain, file=xml.device(file), **options)

    @overload
    def update_memory_device(
        self,
        domain: str | int,
        *,
        print_xml: Literal[False] = False,
        **options: Unpack[options.UpdateMemoryDeviceOptions],
    ) -> Result: ...
    @overload
    def update_memory_device(
        self, domain: str | int, *, print_xml: Literal[True], **options: Unpack[options.UpdateMemoryDeviceOptions]
    ) -> xml.Conf: ...
    def update_memory_device(
        self, domain: str | int, *, print_xml: bool = False, **options: Unpack[options.UpdateMemoryDeviceOptions]
    ) -> Result | xml.Conf:
        """Change a memory device of a domain. virsh: ``update-memory-device``.

        `requested_size`: how much of a virtio-mem device the guest is to have, in bytes or with a unit
        (``'1 GiB'``).
        Which device, if there are several: its `alias`, or the number of its NUMA `node`. Where: `live`, `config`,
        `current`. Of a running domain this is a request to the guest: in `conf`, the device's ``current`` is how much
        it has, and an event ``memory-device-size-change`` reports each change. ``print_xml=True`` returns the changed
        device.
        """
        return self._act_or_print(xml.printed_device, "update-memory-device", print_xml, domain=domain, **options)


_LINKS: dict[LinkState, str] = {"up": ".* up", "down": ".* down"}


def _joined(numbers: int | Sequence[int]) -> str:
    return str(numbers) if isinstance(numbers, int) else ",".join(map(str, numbers))


_BANDWIDTH_UNITS = {"average": "kB/s", "peak": "kB/s", "burst": "KiB", "floor": "kB/s"}
"""libvirt's units of the limits of an interface, in virsh's order."""


def _rate(given: str | BandwidthLimits | None) -> str | None:
    """The limits of one direction as virsh has them."""
    if not isinstance(given, Mapping):
        return given
    if unknown := given.keys() - _BANDWIDTH_UNITS.keys():
        raise TypeError(f"the keys of a bandwidth are {', '.join(_BANDWIDTH_UNITS)}, not {', '.join(sorted(unknown))}")
    limits: Mapping[str, int | str] = dict(given)  # type: ignore[arg-type]
    return ",".join(
        str(units.converted(f"the {name} of a bandwidth", limits[name], unit)) if name in limits else ""
        for name, unit in _BANDWIDTH_UNITS.items()
    )


def _rates(output: str) -> InterfaceTune:
    raw: dict[str, dict[str, str]] = {"inbound": {}, "outbound": {}}
    for label, figure in text.pairs(output):
        direction, _, name = label.strip().partition(".")
        raw.setdefault(direction, {})[name] = f"{figure} {_BANDWIDTH_UNITS.get(name, '')}"
    return {"inbound": text.typed(Bandwidth, raw["inbound"]), "outbound": text.typed(Bandwidth, raw["outbound"])}


def _interfaces(output: str) -> list[ListedInterface]:
    return [
        {
            "interface": xml.attribute(each, "target", "dev"),
            "type": each.get("type", ""),
            "source": xml.attribute(each, "source", "bridge", "dev", "network", "name", "path"),
            "model": xml.attribute(each, "model", "type"),
            "mac": xml.attribute(each, "mac", "address"),
        }
        for each in xml.root(output).iterfind("devices/interface")
    ]


# Before virsh 12 the addresses are no table, but lines of their own form: a name is padded to ten bytes and a hardware
# address to seventeen, so that what is longer can be told, blanks and all.
_HEADING = " Name       MAC address          Protocol     Address"
_ADDRESS = re.compile(rb" (.{10,}) ( {17}|(?=.{17})\S+ *)    (ipv4 {8}|ipv6 {8}|N/A {9}) (\S+)", re.DOTALL)
_UNKNOWN = ("", "-", "N/A")


def _addresses(output: str) -> dict[str, InterfaceAddresses]:
    heading, *below = text.lines(output) or [""]
    value: dict[str, InterfaceAddresses] = {}
    for row in map(_address, below[1:]) if heading == _HEADING else table.rows(output):
        if table.NOT_SHOWN in row["name"]:
            raise UnreadableOutputError(f"virsh does not show the name of an interface in the guest: {output!r}")
        hwaddr = None if row["mac_address"] in _UNKNOWN else row["mac_address"]
        found = value.setdefault(row["name"], {"hwaddr": hwaddr, "addresses": []})
        if row["address"] not in _UNKNOWN:
            address, _, prefix = row["address"].rpartition("/")
            found["addresses"].append({"type": row["protocol"], "address": address, "prefix": text.number(prefix)})
    return value


def _address(line: str) -> dict[str, str]:
    """The cells of a line that is not of a table."""
    row = _ADDRESS.fullmatch(line.encode("utf-8", "surrogateescape"))
    if not row:
        raise UnreadableOutputError(f"cannot read {line!r} in the addresses of a domain")
    name, hwaddr, protocol, address = (table.decoded(cell) for cell in row.groups())
    return {
        "name": name if len(row[1]) > 10 else name.rstrip(" "),
        "mac_address": hwaddr.rstrip(" "),
        "protocol": protocol.rstrip(" "),
        "address": address,
    }
