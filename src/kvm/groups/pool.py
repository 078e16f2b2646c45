"""Storage pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, Unpack, overload

from kvm import text, xml
from kvm.errors import NotFoundError
from kvm.events import LIFECYCLE, NOTHING, Details, EventOptions, Events, Kinds, OfLibvirt
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.built_xml import has_markup
from kvm.virsh.command import Command
from kvm.virsh.plan import Lookup, Plan, checked
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundPool


class ListedPool(TypedDict):
    """A pool in a list.

    `state` is ``'running'``, ``'inactive'``, ``'building'``, ``'degraded'`` or ``'inaccessible'``; None is for what
    the driver does not tell. `capacity`, `allocation` and `available` are there if they were asked for, in bytes, None
    for a pool that is not running.
    """

    state: str
    autostart: bool | None
    persistent: bool | None
    capacity: NotRequired[Quantity | None]
    allocation: NotRequired[Quantity | None]
    available: NotRequired[Quantity | None]


class PoolInfo(TypedDict):
    """A pool's basic figures.

    `state` as in `ListedPool`; `capacity`, `allocation` and `available` in bytes, not there if it is not running.
    """

    name: str
    uuid: str
    state: str
    persistent: bool | None
    autostart: bool | None
    capacity: NotRequired[Quantity]
    allocation: NotRequired[Quantity]
    available: NotRequired[Quantity]


class Pool(Group):
    """Storage pools."""

    _key = ("pool",)

    def __getitem__(self, pool: str) -> BoundPool:
        """One pool: the methods about it, without `pool`."""
        one: BoundPool = self._one(pool)
        return one

    def autostart(self, pool: str, **options: Unpack[options.PoolAutostartOptions]) -> Result:
        """Have a pool started with the host; ``disable=True``: no longer. virsh: ``pool-autostart``."""
        return self._act("pool-autostart", pool=pool, **options)

    def build(self, pool: str, **options: Unpack[options.PoolBuildOptions]) -> Result:
        """Make what a pool is to be in: its directory, file system, volume group, ... virsh: ``pool-build``.

        ``overwrite=True`` formats a device whatever is on it, ``no_overwrite=True`` only one with nothing on it.
        """
        return self._act("pool-build", pool=pool, **options)

    @overload
    def capabilities(self, *, xpath: None = None) -> xml.Conf: ...
    @overload
    def capabilities(self, *, xpath: str) -> list[xml.Node]: ...
    def capabilities(self, *, xpath: str | None = None) -> xml.Conf | list[xml.Node]:
        """Which types of pools libvirt can have here, as a dict of libvirt's XML. virsh: ``pool-capabilities``.

        ``{'pool': [{'@type': 'dir', '@supported': 'yes', 'volOptions': {...}}, ...]}``. With
        ``xpath='//pool[@supported="yes"]/@type'`` a list of what that finds.
        """
        return self._read("pool-capabilities", xml.asked(xpath))

    @overload
    def conf(self, pool: str, *, xpath: None = None, **options: Unpack[options.PoolDumpxmlOptions]) -> xml.Conf: ...
    @overload
    def conf(self, pool: str, *, xpath: str, **options: Unpack[options.PoolDumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, pool: str, *, xpath: str | None = None, **options: Unpack[options.PoolDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """A pool's configuration, as a dict of libvirt's XML. virsh: ``pool-dumpxml``.

        As it is now, or with ``inactive=True`` as its next start takes it. With ``xpath='//target/path/text()'`` a list
        of what that finds.
        """
        return self._read("pool-dumpxml", xml.asked(xpath), pool=pool, **xml.unwrapped(options))

    def create(self, file: xml.Document, **options: Unpack[options.PoolCreateOptions]) -> Result:
        """Start a pool that lives until it is stopped (a transient one). virsh: ``pool-create``.

        `file`: its configuration as a dict of ``<pool>``, XML, an element or the path of a file on the hypervisor.
        ``build=True`` builds it first; `overwrite` and `no_overwrite` do so as with `build`.
        """
        return self._act("pool-create", file=xml.document("pool", file), **options)

    @overload
    def create_as(
        self, name: str, type: str, *, print_xml: Literal[False] = False, **options: Unpack[options.PoolCreateAsOptions]
    ) -> Result: ...
    @overload
    def create_as(
        self, name: str, type: str, *, print_xml: Literal[True], **options: Unpack[options.PoolCreateAsOptions]
    ) -> xml.Conf: ...
    def create_as(
        self, name: str, type: str, *, print_xml: bool = False, **options: Unpack[options.PoolCreateAsOptions]
    ) -> Result | xml.Conf:
        """Start a transient pool of a type (``'dir'``, ``'netfs'``, ...) without XML. virsh: ``pool-create-as``.

        Where it is: `target`; what it is made of: `source_host`, `source_path`, `source_dev`, `source_name`,
        `source_format`, `source_initiator`, `source_protocol_ver`; who may use that: `auth_type`, `auth_username`, and
        `secret_usage` or `secret_uuid`; a SCSI adapter: `adapter_name`, or `adapter_wwnn` and `adapter_wwpn`, with
        `adapter_parent`, or `adapter_parent_wwnn` and `adapter_parent_wwpn`, or `adapter_parent_fabric_wwn`. `build`,
        `overwrite` and `no_overwrite` as with `create`. With ``print_xml=True`` nothing is created: the dict that
        `create` would take comes back. virsh puts the texts into XML as they are: where one has a ``&``, ``<`` or
        ``'``, use `create`.
        """
        return self._act_or_print(xml.conf, "pool-create-as", print_xml, name=name, type=type, **options)

    def define(self, file: xml.Document, **options: Unpack[options.PoolDefineOptions]) -> Result:
        """Define a pool, or change the definition of the one with its UUID. It is not started. virsh: ``pool-define``.

        `file` as with `create`; ``validate=True`` checks it against libvirt's schema.
        """
        return self._act("pool-define", file=xml.document("pool", file, options.get("validate")), **options)

    @overload
    def define_as(
        self, name: str, type: str, *, print_xml: Literal[False] = False, **options: Unpack[options.PoolDefineAsOptions]
    ) -> Result: ...
    @overload
    def define_as(
        self, name: str, type: str, *, print_xml: Literal[True], **options: Unpack[options.PoolDefineAsOptions]
    ) -> xml.Conf: ...
    def define_as(
        self, name: str, type: str, *, print_xml: bool = False, **options: Unpack[options.PoolDefineAsOptions]
    ) -> Result | xml.Conf:
        """Define a pool of a type without XML. It is not started. virsh: ``pool-define-as``.

        The options are those of `create_as` but `build`, `overwrite` and `no_overwrite`.
        """
        return self._act_or_print(xml.conf, "pool-define-as", print_xml, name=name, type=type, **options)

    def delete(self, pool: str) -> Result:
        """Remove what an inactive pool is in, as `build` made it; data in it may be lost. virsh: ``pool-delete``.

        Its definition stays. A directory that is not empty is not removed.
        """
        return self._act("pool-delete", pool=pool)

    def destroy(self, pool: str) -> Result:
        """Stop a pool; its volumes stay as they are. virsh: ``pool-destroy``."""
        return self._act("pool-destroy", pool=pool)

    def edit(self, pool: str, function: xml.Editor) -> Result:
        """Change the configuration that a pool's next start takes. virsh: ``pool-edit``.

        `function` is given the configuration as a dict, and changes it or returns another one, as with `define`.
        Nothing is defined if nothing changes. `ChangedMeanwhileError` if another program has changed it.
        """
        read = Command("pool-dumpxml", {"pool": pool, "inactive": True})
        return self._edit("pool", read, "pool-define", function)

    @overload
    def event(
        self,
        pool: str | None = None,
        *,
        event: str = "lifecycle",
        list: Literal[False] = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details]: ...
    @overload
    def event(self, pool: str | None = None, *, list: Literal[True]) -> Kinds: ...
    def event(
        self,
        pool: str | None = None,
        *,
        event: str = "lifecycle",
        list: bool = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details] | Kinds:
        """What happens from now on to a pool, or to all, as it happens. virsh: ``pool-event``.

        As `Domain.event`, also `timeout` and `loop`, but of one kind at a time: ``'lifecycle'`` (`LifecycleEvent`:
        ``'Defined'``, ``'Undefined'``, ``'Started'``, ``'Stopped'``, ``'Created'``, ``'Deleted'``) or ``'refresh'``.
        With ``list=True`` the names of all kinds.
        """
        which = {"pool": pool, "event": event}
        return self._listen_or_list("pool-event", _EVENTS, "pool-list", which, options, list=list)

    def find_sources(self, type: str, srcSpec: xml.Document | None = None) -> xml.Conf:  # noqa: N803 (virsh's name)
        """What there is on the host to make pools of a type from. virsh: ``find-storage-pool-sources``.

        ``{'source': [{'name': ['vg0'], 'format': {'@type': 'lvm2'}, 'device': [{'@path': '/dev/sda2'}]}]}``: each is
        a ``<source>`` for a pool's configuration. `srcSpec`: where to look, as a dict of ``<source>``, XML, an element
        or a path.
        """
        source = None if srcSpec is None else xml.document("source", srcSpec)
        return self._read("find-storage-pool-sources", _sources, type=type, srcSpec=source)

    def find_sources_as(self, type: str, **options: Unpack[options.FindStoragePoolSourcesAsOptions]) -> xml.Conf:
        """As `find_sources`, asking `host` (at `port`, as `initiator`). virsh: ``find-storage-pool-sources-as``."""
        host, port, initiator = (options.get(name) for name in ("host", "port", "initiator"))
        if host is not None and any(has_markup(str(each)) for each in (host, port, initiator)):
            source = {
                "host": {"@name": host, "@port": port},
                "initiator": None if initiator is None else {"iqn": {"@name": initiator}},
            }
            return self.find_sources(type, srcSpec=xml.to_xml("source", source))
        return self._read("find-storage-pool-sources-as", _sources, type=type, **options)

    def info(self, pool: str, **options: Unpack[options.PoolInfoOptions]) -> PoolInfo:
        """A pool's basic figures, see `PoolInfo`. virsh: ``pool-info``.

        ``{'name': 'images', 'uuid': ..., 'state': 'running', 'persistent': True, 'autostart': True, 'capacity': ...,
        'allocation': ..., 'available': ...}``, the last three in bytes, exactly; ``bytes=True`` makes no difference.
        """
        return self._read("pool-info", text.fields(PoolInfo), **{**options, "pool": pool, "bytes": True})

    def list(self, **options: Unpack[options.PoolListOptions]) -> dict[str, ListedPool]:
        """The active pools by name; with ``all=True`` all, with ``inactive=True`` the others. virsh: ``pool-list``.

        ``{'images': {'state': 'running', 'autostart': True, 'persistent': True}}``. More filters: `persistent`,
        `transient`, `autostart`, `no_autostart`, ``type='dir,logical'``. ``details=True`` adds `capacity`,
        `allocation` and `available`, in bytes. `uuid` makes no difference.
        """
        return self._caller.call(_listing(options))

    def name(self, pool: str) -> str:
        """The name of the pool with a UUID. virsh: ``pool-name``."""
        return self._read("pool-name", text.line, pool=pool)

    def refresh(self, pool: str) -> Result:
        """Look anew which volumes a pool has. virsh: ``pool-refresh``."""
        return self._act("pool-refresh", pool=pool)

    def start(self, pool: str, **options: Unpack[options.PoolStartOptions]) -> Result:
        """Start a pool that is defined. virsh: ``pool-start``.

        ``build=True`` builds it first; `overwrite` and `no_overwrite` do so as with `build`.
        """
        return self._act("pool-start", pool=pool, **options)

    def undefine(self, pool: str) -> Result:
        """Remove the definition of an inactive pool; its volumes stay as they are. virsh: ``pool-undefine``."""
        return self._act("pool-undefine", pool=pool)

    def uuid(self, pool: str) -> str:
        """The UUID of the pool with a name. virsh: ``pool-uuid``."""
        return self._read("pool-uuid", text.line, pool=pool)


def _sources(output: str) -> xml.Conf:
    sources = xml.root(output)
    sources.tag = "pool"  # there is no schema of sources, but each is one of a pool
    found = xml.from_xml(sources)["pool"]
    source = found.get("source", []) if isinstance(found, dict) else []
    return {"source": source if isinstance(source, list) else [source]}


# virsh's own table rounds its figures, and its lines of names are padded before virsh 11, as if the blanks were theirs.
# UUIDs are exact, and so is what is said of the pool that has one.


def _listing(options: Mapping[str, object]) -> Plan[dict[str, ListedPool]]:
    filters = {name: value for name, value in options.items() if name not in ("details", "name")}
    uuids = Command("pool-list", {**filters, "uuid": True})
    (result,) = yield Lookup((uuids,))
    asked = tuple(
        Command("pool-info", {"pool": uuid.strip(), "bytes": True})
        for uuid in text.lines(checked(uuids, result).stdout)
    )
    listed: dict[str, ListedPool] = {}
    for command, result in zip(asked, (yield asked) if asked else (), strict=True):
        try:
            info = text.fields(PoolInfo)(checked(command, result).stdout)
        except NotFoundError:  # it has gone in between
            continue
        listed[info["name"]] = _row(info, details=bool(options.get("details")))
    return listed


def _row(info: PoolInfo, *, details: bool) -> ListedPool:
    row: ListedPool = {"state": info["state"], "autostart": info["autostart"], "persistent": info["persistent"]}
    if details:
        row["capacity"] = info.get("capacity")
        row["allocation"] = info.get("allocation")
        row["available"] = info.get("available")
    return row


_EVENTS = OfLibvirt[Any]("storage pool", {"lifecycle": LIFECYCLE, "refresh": NOTHING})
