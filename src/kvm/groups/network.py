"""Virtual networks and their ports.

A network is given by its name or UUID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias, TypedDict, TypeVar, Unpack, get_args, overload

from kvm import table, text, xml
from kvm.errors import UnreadableOutputError
from kvm.events import LIFECYCLE, METADATA_CHANGE, Details, EventOptions, Events, Kinds, OfLibvirt
from kvm.groups.group import Group
from kvm.groups.notes import revised_metadata, revised_text
from kvm.values import Outcome
from kvm.virsh.command import Command
from kvm.virsh.plan import Plan, before_others, checked, each_left, listing
from unix.result import Result

if TYPE_CHECKING:
    from lxml import etree

    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundNetwork

T = TypeVar("T")


class ListedNetwork(TypedDict):
    """A network in a list. `state` is ``'active'`` or ``'inactive'``, `autostart` None if the driver knows of none.

    `title` (empty for none) and `uuid` are there if they were asked for.
    """

    state: str
    autostart: bool | None
    persistent: bool
    title: NotRequired[str]
    uuid: NotRequired[str]


class NetworkInfo(TypedDict):
    """A network's basic facts; None for what the driver does not know, no `bridge` for a network without one."""

    name: str
    uuid: NotRequired[str]
    active: NotRequired[bool]
    persistent: bool | None
    autostart: bool | None
    bridge: NotRequired[str]


class DhcpLease(TypedDict):
    """An address that a network has leased to a guest.

    `expiry` is when the lease ends, to the second, or None for never; `protocol` is ``'ipv4'`` or ``'ipv6'``, `prefix`
    the length of the address's prefix in bits. `mac`, `hostname` and `client_id` (for IPv6 the DUID) are None if they
    are not known.
    """

    expiry: datetime | None
    mac: str | None
    protocol: str | None
    address: str
    prefix: int
    hostname: str | None
    client_id: str | None


class Affected(TypedDict, total=False):
    """Whether it is about the running network (`live`), its definition (`config`), or what it is now (`current`)."""

    live: bool
    config: bool
    current: bool


UpdateCommand = Literal["add", "add-first", "add-last", "delete", "modify"]

Section = Literal[
    "bridge",
    "domain",
    "ip",
    "ip-dhcp-host",
    "ip-dhcp-range",
    "forward",
    "forward-interface",
    "forward-pf",
    "portgroup",
    "dns-host",
    "dns-txt",
    "dns-srv",
]

Metadata: TypeAlias = "Mapping[str, Any] | str | bytes | etree._Element"
"""An element with its tag: a dict with that one key, XML as text, or an lxml element."""

Nodes: TypeAlias = list[xml.Node]
Uuids: TypeAlias = list[str]
"""Lists, for where ``list`` is a method."""


class Network(Group):
    """Virtual networks and their ports."""

    _key = ("network",)

    def __getitem__(self, network: str) -> BoundNetwork:
        """One network: the methods about it, without `network`."""
        one: BoundNetwork = self._one(network)
        return one

    def autostart(self, network: str, **options: Unpack[options.NetAutostartOptions]) -> Result:
        """Have a network started with the host; ``disable=True``: no longer. virsh: ``net-autostart``."""
        return self._act("net-autostart", network=network, **options)

    @overload
    def conf(self, network: str, *, xpath: None = None, **options: Unpack[options.NetDumpxmlOptions]) -> xml.Conf: ...
    @overload
    def conf(self, network: str, *, xpath: str, **options: Unpack[options.NetDumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, network: str, *, xpath: str | None = None, **options: Unpack[options.NetDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """A network's configuration, as a dict of libvirt's XML. virsh: ``net-dumpxml``.

        The running one, or with ``inactive=True`` the one that its next start takes. With ``xpath='//dhcp/host'`` a
        list of what that finds.
        """
        return self._read("net-dumpxml", xml.asked(xpath), network=network, **xml.unwrapped(options))

    def create(self, file: xml.Document, **options: Unpack[options.NetCreateOptions]) -> Result:
        """Start a network that lives as long as it runs (a transient one). virsh: ``net-create``.

        `file`: its configuration as a dict of ``<network>``, XML, an element or the path of a file on the hypervisor.
        ``validate=True`` checks it against libvirt's schema.
        """
        return self._act("net-create", file=xml.document("network", file, options.get("validate")), **options)

    def define(self, file: xml.Document, **options: Unpack[options.NetDefineOptions]) -> Result:
        """Define a network, or change the one with its UUID. It is not started. virsh: ``net-define``.

        `file` as with `create`; ``validate=True`` checks it against libvirt's schema.
        """
        return self._act("net-define", file=xml.document("network", file, options.get("validate")), **options)

    @overload
    def desc(
        self, network: str, new_desc: None = None, *, title: bool = False, **affected: Unpack[Affected]
    ) -> str: ...
    @overload
    def desc(
        self, network: str, new_desc: str | Sequence[str], *, title: bool = False, **affected: Unpack[Affected]
    ) -> Result: ...
    @overload
    def desc(
        self, network: str, *, title: bool = False, edit: Callable[[str], str], **affected: Unpack[Affected]
    ) -> Result: ...
    def desc(
        self,
        network: str,
        new_desc: str | Sequence[str] | None = None,
        *,
        title: bool = False,
        edit: Callable[[str], str] | None = None,
        **affected: Unpack[Affected],
    ) -> str | Result:
        """A network's description, or with `title` its title; empty for none. virsh: ``net-desc``.

        With `new_desc` (several are joined with blanks) it is set, or removed if that is empty; `edit` is a function
        that is given it and returns another. About the running network with ``live=True``, its definition with
        ``config=True``, whichever there is with ``current=True``. Needs virsh 11.
        """
        if edit is not None:
            setting = Command("net-desc", {"network": network, "new_desc": new_desc, "title": title, **affected})
            conf = Command("net-dumpxml", {"network": network, "inactive": affected.get("config")})
            path = "/network/title" if title else "/network/description"
            return self._caller.call(revised_text(setting, conf, path, edit, **self._carefully()))
        if new_desc is None:
            return self._caller.call(_description(network, title, affected))
        return self._act("net-desc", network=network, title=title, new_desc=new_desc, **affected)

    def destroy(self, network: str) -> Result:
        """Stop a network at once, whoever uses it. virsh: ``net-destroy``."""
        return self._act("net-destroy", network=network)

    def dhcp_leases(self, network: str, **options: Unpack[options.NetDhcpLeasesOptions]) -> list[DhcpLease]:
        """The addresses that a network has leased, see `DhcpLease`. virsh: ``net-dhcp-leases``.

        ``[{'expiry': datetime, 'mac': '52:54:00:...', 'protocol': 'ipv4', 'address': '192.0.2.10', 'prefix': 24,
        'hostname': 'web1', 'client_id': None}]``; the expiry is in UTC. ``mac='52:54:00:..'``: those of one network
        card.
        """
        return self._read("net-dhcp-leases", _leases, network=network, **options)

    def edit(self, network: str, function: xml.Editor) -> Result:
        """Change the configuration that a network's next start takes. virsh: ``net-edit``.

        `function` is given the configuration as a dict, and changes it or returns another one, as with `define`.
        Nothing is defined if nothing changes. `ChangedMeanwhileError` if another program has changed it.
        """
        read = Command("net-dumpxml", {"network": network, "inactive": True})
        return self._edit("network", read, "net-define", function)

    @overload
    def event(
        self,
        network: str | None = None,
        *,
        event: str = "lifecycle",
        list: Literal[False] = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details]: ...
    @overload
    def event(self, network: str | None = None, *, list: Literal[True]) -> Kinds: ...
    def event(
        self,
        network: str | None = None,
        *,
        event: str = "lifecycle",
        list: bool = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details] | Kinds:
        """What happens from now on to a network, or to all, as it happens. virsh: ``net-event``.

        As `Domain.event`, also `timeout` and `loop`, but of one kind at a time: ``'lifecycle'`` (`LifecycleEvent`:
        ``'Defined'``, ``'Undefined'``, ``'Started'``, ``'Stopped'``) or, since virsh 9.8, ``'metadata-change'``
        (`MetadataChange`). With ``list=True`` the names of all kinds.
        """
        which = {"network": network, "event": event}
        return self._listen_or_list("net-event", _EVENTS, "net-list", which, options, list=list)

    def info(self, network: str) -> NetworkInfo:
        """A network's basic facts, see `NetworkInfo`. virsh: ``net-info``.

        ``{'name': 'default', 'uuid': ..., 'active': True, 'persistent': True, 'autostart': True, 'bridge': 'virbr0'}``.
        """
        return self._read("net-info", text.fields(NetworkInfo), network=network)

    def list(self, **options: Unpack[options.NetListOptions]) -> dict[str, ListedNetwork]:
        """The active networks by name; with ``all=True`` all, with ``inactive=True`` the others. virsh: ``net-list``.

        ``{'default': {'state': 'active', 'autostart': True, 'persistent': True}}``. More filters: `persistent`,
        `transient`, `autostart`, `no_autostart`. ``title=True`` adds `title`, ``uuid=True`` adds `uuid`.
        """
        return self._caller.call(_listing(options))

    @overload
    def metadata(self, network: str, uri: str, **affected: Unpack[Affected]) -> dict[str, Any] | None: ...
    @overload
    def metadata(self, network: str, uri: str, *, key: str, set: Metadata, **affected: Unpack[Affected]) -> Result: ...
    @overload
    def metadata(
        self,
        network: str,
        uri: str,
        *,
        key: str,
        edit: Callable[[dict[str, Any]], Metadata | None],
        **affected: Unpack[Affected],
    ) -> Result: ...
    @overload
    def metadata(self, network: str, uri: str, *, remove: Literal[True], **affected: Unpack[Affected]) -> Result: ...
    def metadata(
        self,
        network: str,
        uri: str,
        *,
        key: str | None = None,
        set: Metadata | None = None,
        edit: Callable[[dict[str, Any]], Metadata | None] | None = None,
        remove: bool | None = None,
        **affected: Unpack[Affected],
    ) -> dict[str, Any] | Result | None:
        """What somebody keeps with a network: an element in the XML namespace `uri`. virsh: ``net-metadata``.

        A dict of its tag, ``{'owner': {'@team': 'web'}}``, or None if there is none. With `set` it is set to such a
        dict, XML or an element, and `key` is the prefix that its namespace gets; ``remove=True`` removes it. `edit` is
        a function that changes such a dict, empty for none, or returns another; it is removed if that is empty. About
        the running network with ``live=True``, its definition with ``config=True``, whichever there is with
        ``current=True``. Needs virsh 11.
        """
        if edit is not None and set is None and not remove:
            read = Command("net-metadata", {"network": network, "uri": uri, **affected})
            conf = Command("net-dumpxml", {"network": network, "inactive": affected.get("config")})
            plan = revised_metadata(read, conf, key, xml.element, edit, **self._carefully())
            return self._caller.call(plan)
        element = None if set is None else xml.on_one_line(set)
        given = {"key": key, "set": element, "remove": remove or None, "edit": edit}
        return self._set_or_read("net-metadata", _metadata, given, network=network, uri=uri, **affected)

    def name(self, network: str) -> str:
        """The name of the network with a UUID. virsh: ``net-name``."""
        return self._read("net-name", text.line, network=network)

    @overload
    def port_conf(
        self, network: str, port: str, *, xpath: None = None, **options: Unpack[options.NetPortDumpxmlOptions]
    ) -> xml.Conf: ...
    @overload
    def port_conf(
        self, network: str, port: str, *, xpath: str, **options: Unpack[options.NetPortDumpxmlOptions]
    ) -> Nodes: ...
    def port_conf(
        self, network: str, port: str, *, xpath: str | None = None, **options: Unpack[options.NetPortDumpxmlOptions]
    ) -> xml.Conf | Nodes:
        """The configuration of the port with a UUID, as a dict of libvirt's XML. virsh: ``net-port-dumpxml``.

        `xpath` as with `conf`.
        """
        return self._read("net-port-dumpxml", xml.asked(xpath), network=network, port=port, **xml.unwrapped(options))

    def port_create(
        self, network: str, file: xml.Document, **options: Unpack[options.NetPortCreateOptions]
    ) -> Outcome[str]:
        """Make a port in an active network, as starting a guest does. virsh: ``net-port-create``.

        `file`: a dict of ``<networkport>``, with its ``uuid``, XML, an element or the path of a file on the hypervisor.
        ``validate=True`` checks it against libvirt's schema. The `value` of the result is its UUID.
        """
        document = xml.document("networkport", file, options.get("validate"))
        return self._act_and_tell("net-port-create", str, network=network, file=document, **options)

    def port_delete(self, network: str, port: str) -> Result:
        """Remove the port with a UUID from its network. virsh: ``net-port-delete``."""
        return self._act("net-port-delete", network=network, port=port)

    def port_list(self, network: str, **options: Unpack[options.NetPortListOptions]) -> Uuids:
        """The UUIDs of the ports of an active network. virsh: ``net-port-list``. `uuid` makes no difference."""
        return self._read("net-port-list", text.lines, network=network, **{**options, "uuid": True, "table": None})

    def start(self, network: str) -> Result:
        """Start a network that is defined. virsh: ``net-start``."""
        return self._act("net-start", network=network)

    def undefine(self, network: str) -> Result:
        """Remove a network's definition; an active one goes on until it is destroyed. virsh: ``net-undefine``."""
        return self._act("net-undefine", network=network)

    def update(
        self,
        network: str,
        command: UpdateCommand,
        section: Section,
        xml: xml.Document,
        **options: Unpack[options.NetUpdateOptions],
    ) -> Result:
        """Change one element of a network, without a restart if it is active. virsh: ``net-update``.

        `command`: what to do with the element, ``'add-last'``, ``'add-first'``, ``'modify'`` or ``'delete'``;
        `section`: where it is, ``'ip-dhcp-host'`` for instance; `xml`: the element itself as a dict (of ``<host>``
        then: the last part of `section`), XML, an element, or the path of a file on the hypervisor. ``live=True``
        changes the running network, ``config=True`` its definition, both together both; ``current=True``, or neither,
        the running network if it runs and its definition otherwise. ``parent_index``: the number of the ``<ip>`` that
        is meant, from 0.
        """
        return self._act(
            "net-update", network=network, command=command, section=section, xml=_element(section, xml), **options
        )

    def uuid(self, network: str) -> str:
        """The UUID of the network with a name. virsh: ``net-uuid``."""
        return self._read("net-uuid", text.line, network=network)


def _element(section: str, given: xml.Document) -> bytes | str:
    """What to hand to virsh for an element of a section; the section ends with the element's tag."""
    if section not in get_args(Section):  # virsh says so
        return xml.document(section, given, validate=False)
    return xml.part(("network", *section.split("-")), given)


def _listing(options: Mapping[str, object]) -> Plan[dict[str, ListedNetwork]]:
    filters = {name: value for name, value in options.items() if name not in ("name", "table", "title", "uuid")}
    plain = listing(Command("net-list", filters), Command("net-list", {**filters, "name": True}), ListedNetwork)
    if not options.get("title") and not options.get("uuid"):
        return (yield from plain)
    listed = yield from before_others(plain)
    uuids = yield from each_left({name: Command("net-uuid", {"network": name}) for name in listed}, text.line)
    listed = {name: listed[name] for name in uuids}
    if options.get("title"):  # a table may not be able to show them
        confs = {name: Command("net-dumpxml", {"network": uuid}) for name, uuid in uuids.items()}
        titles = yield from each_left(confs, _text_of("title"))
        listed = {name: {**listed[name], "title": title} for name, title in titles.items()}
    if options.get("uuid"):
        listed = {name: {**network, "uuid": uuids[name]} for name, network in listed.items()}
    return listed


def _description(network: str, title: bool, affected: Affected) -> Plan[str]:
    """A description from the XML: what ``net-desc`` prints may also mean that there is none."""
    asked = Command("net-desc", {"network": network, "title": title, **affected})
    conf = Command("net-dumpxml", {"network": network, "inactive": affected.get("config")})
    said, printed = yield (asked, conf)
    checked(asked, said)
    return _text_of("title" if title else "description")(checked(conf, printed).stdout)


def _text_of(tag: str) -> Callable[[str], str]:
    """A reader of the text that a network has in an element; empty if it has none."""

    def read(output: str) -> str:
        (found,) = xml.nodes(output, f"string(/network/{tag})")
        return str(found)

    return read


def _metadata(output: str) -> dict[str, Any] | None:
    return xml.element(output) if output.strip() else None


# -- net-dhcp-leases ----------------------------------------------------------------------------------------------
#
# The table has local time and does not say of which zone: it is read as UTC, so virsh must be run in that. A lease
# without end is shown to end at the epoch, less than a day from it in any zone.

_EPOCH = datetime.fromtimestamp(0, UTC)


def _leases(output: str) -> list[DhcpLease]:
    return [_lease(row) for row in table.rows(output)]


def _lease(row: Mapping[str, str]) -> DhcpLease:
    try:
        expiry = datetime.strptime(row["expiry_time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        address, _, prefix = row["ip_address"].partition("/")
        return {
            "expiry": None if abs(expiry - _EPOCH) <= timedelta(days=1) else expiry,
            "mac": _known(row["mac_address"]),
            "protocol": _known(row["protocol"]),
            "address": address,
            "prefix": int(prefix),
            "hostname": _known(row["hostname"]),
            "client_id": _known(row["client_id_or_duid"]),
        }
    except (KeyError, ValueError) as error:
        raise UnreadableOutputError(f"cannot read the lease {dict(row)!r}: {error}") from error


def _known(cell: str) -> str | None:
    return None if cell == "-" else cell


_EVENTS = OfLibvirt[Any]("network", {"lifecycle": LIFECYCLE, "metadata-change": METADATA_CHANGE})
