"""Disks of domains: their figures, their jobs, their limits, their backups.

A disk is given by its target (``'vda'``) or by its source (``'/images/web1.qcow2'``). The bandwidth of a job is an
int in bytes a second, or a text with a unit (``'500 KiB/s'``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, Unpack, overload

from kvm import table, text, units, xml
from kvm.errors import NotFoundError, UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.built_xml import refuse_in_attribute
from kvm.virsh.jobs import Cancel, Job, Progress
from unix.result import Result

if TYPE_CHECKING:
    from lxml import etree

    from kvm.groups import options_generated as options


class BlockInfo(TypedDict):
    """The size of a disk in bytes: what the guest sees, what the image takes up, and how long the image is.

    Among all disks an empty drive is one with None; asked for by itself, it raises.
    """

    capacity: Quantity | None
    allocation: Quantity | None
    physical: Quantity | None


class ListedDisk(TypedDict):
    """A disk of a domain.

    `type` of its source (``'file'``, ``'block'``, ``'network'``), `device` that the guest sees (``'disk'``,
    ``'cdrom'``), `target`, its name there, and `source`, None for an empty drive.
    """

    type: str
    device: str
    target: str
    source: str | None


class BlockStats(TypedDict, total=False):
    """What went through a disk since its domain started, as far as it is counted; times in nanoseconds."""

    rd_req: int
    rd_bytes: int
    wr_req: int
    wr_bytes: int
    errs: int
    flush_operations: int
    rd_total_times: int
    wr_total_times: int
    flush_total_times: int


class BlockJob(TypedDict):
    """A job on a disk.

    `type`: ``'Block Copy'``, ``'Block Commit'``, ``'Active Block Commit'``, ``'Block Pull'`` or ``'Backup'``;
    `bandwidth` in bytes a second, 0 for no limit; `cur` of `end` are done. A copy or an active commit of which all is
    done follows the guest until it is concluded.
    """

    type: str
    bandwidth: Quantity
    cur: int
    end: int


class Throttling(TypedDict, total=False):
    """The limits of a disk or of a group of disks, 0 for none.

    What may pass in a second on average, in bytes or operations; with ``_max`` in a burst, which may last the seconds
    that ``_max_length`` says. Operations longer than `size_iops_sec` bytes count as several.
    """

    total_bytes_sec: int
    read_bytes_sec: int
    write_bytes_sec: int
    total_iops_sec: int
    read_iops_sec: int
    write_iops_sec: int
    total_bytes_sec_max: int
    read_bytes_sec_max: int
    write_bytes_sec_max: int
    total_iops_sec_max: int
    read_iops_sec_max: int
    write_iops_sec_max: int
    size_iops_sec: int
    total_bytes_sec_max_length: int
    read_bytes_sec_max_length: int
    write_bytes_sec_max_length: int
    total_iops_sec_max_length: int
    read_iops_sec_max_length: int
    write_iops_sec_max_length: int


class BlockIoTune(Throttling, total=False):
    """The limits of a disk, see `Throttling`; disks with the same `group_name` share them (``''``: none is said)."""

    group_name: str


class BlkioTune(TypedDict, total=False):
    """A domain's weight in the competition for disks, and its weights and limits by the path of a disk of the host."""

    weight: int
    device_weight: dict[str, int]
    device_read_iops_sec: dict[str, int]
    device_write_iops_sec: dict[str, int]
    device_read_bytes_sec: dict[str, int]
    device_write_bytes_sec: dict[str, int]


ByPath: TypeAlias = "Mapping[str, int] | str"
"""Figures by the path of a disk of the host: ``{'/dev/sda': 500}``, or as virsh has them: ``'/dev/sda,500'``."""


class Blocks(Group):
    """Disks of domains: their figures, their jobs, their limits, their backups."""

    def backup_begin(
        self,
        domain: str | int,
        backupxml: xml.Document | None = None,
        checkpointxml: xml.Document | None = None,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        reuse_external: bool = False,
        preserve_domain_on_shutdown: bool = False,
    ) -> Result:
        """Begin to back up the disks of a running domain. virsh: ``backup-begin``.

        `backupxml`: what to put where, as a dict of ``<domainbackup>``, XML, an element or the path of a file on the
        hypervisor; without it each disk into a file beside it. `checkpointxml`: a checkpoint to make with it, of which
        the same holds. ``reuse_external=True``: into files that are there; ``preserve_domain_on_shutdown=True`` (virsh
        12): a guest that shuts down stays until it is done.

        Returns before it is: `backup_conf` and `jobinfo` tell of it. With ``wait=True`` when it is done, and raises if
        it has failed; `progress` and `cancel` as with `migrate`, and either waits as well. A backup that others pull
        goes on until `jobabort`, so it is not waited for.
        """
        flags = {"reuse_external": reuse_external, "preserve_domain_on_shutdown": preserve_domain_on_shutdown}
        job = Job(progress, cancel, waits=wait)
        return self._act_long("backup-begin", job, domain=domain, **_backup(backupxml, checkpointxml), **flags)

    @overload
    def backup_conf(
        self, domain: str | int, *, xpath: None = None, **options: Unpack[options.BackupDumpxmlOptions]
    ) -> xml.Conf: ...
    @overload
    def backup_conf(
        self, domain: str | int, *, xpath: str, **options: Unpack[options.BackupDumpxmlOptions]
    ) -> list[xml.Node]: ...
    def backup_conf(
        self, domain: str | int, *, xpath: str | None = None, **options: Unpack[options.BackupDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """The backup that a domain is making, as a dict of libvirt's XML. virsh: ``backup-dumpxml``.

        With ``xpath='//disk'`` a list of what that finds. `NotFoundError` if there is no backup.
        """
        return self._read("backup-dumpxml", xml.asked(xpath), domain=domain, **xml.unwrapped(options))

    @overload
    def blkdeviotune(
        self, domain: str | int, device: str, *, config: bool = False, live: bool = False, current: bool = False
    ) -> BlockIoTune: ...
    @overload
    def blkdeviotune(
        self, domain: str | int, device: str, **options: Unpack[options.BlkdeviotuneOptions]
    ) -> BlockIoTune | Result: ...
    def blkdeviotune(
        self, domain: str | int, device: str, **options: Unpack[options.BlkdeviotuneOptions]
    ) -> BlockIoTune | Result:
        """Read or set the limits of a disk. virsh: ``blkdeviotune``.

        Without limits, the current ones, a dict of all by these names, 0 for none (`BlockIoTune`). With any, they are
        set: `total_bytes_sec`, `read_bytes_sec`, `write_bytes_sec` (bytes, or with a unit, ``'10MiB'``),
        `total_iops_sec`, `read_iops_sec`, `write_iops_sec` (operations), each on average; with ``_max`` behind the name
        in a burst, with ``_max_length`` the seconds of that. `size_iops_sec`: operations longer than so many bytes
        count as several. Disks with the same `group_name` share them. `device`: the disk's target or source. Where:
        `live`, `config`, `current`.
        """
        where, given = _parted(options)
        return self._set_or_read("blkdeviotune", text.fields(BlockIoTune), given, domain=domain, device=device, **where)

    def blkerror(self, domain: str | int) -> dict[str, str]:
        """The disks of a running domain that have had an error, by target. virsh: ``domblkerror``.

        ``{'vda': 'no space'}`` or ``'unspecified error'``; those that stopped the guest, see the disk's error policy.
        """
        return self._read("domblkerror", _errors, domain=domain)

    @overload
    def blkinfo(self, domain: str | int, device: str, *, human: bool = ...) -> BlockInfo: ...
    @overload
    def blkinfo(
        self, domain: str | int, device: None = None, *, all: Literal[True], human: bool = ...
    ) -> dict[str, BlockInfo]: ...
    def blkinfo(
        self,
        domain: str | int,
        device: str | None = None,
        *,
        all: bool = False,
        human: bool = False,  # noqa: ARG002
    ) -> BlockInfo | dict[str, BlockInfo]:
        """The size of a disk, in bytes. virsh: ``domblkinfo``.

        ``{'capacity': ..., 'allocation': ..., 'physical': ...}``: what the guest sees, what the image takes up, and how
        long it is. ``all=True`` instead of a `device` (its target or source) gives all by target, an empty drive with
        None; ``human=True`` makes no difference.
        """
        if all:
            return self._read("domblkinfo", _infos, domain=domain, device=device, all=True)
        return self._read("domblkinfo", text.fields(BlockInfo), domain=domain, device=device)

    @overload
    def blkiotune(
        self, domain: str | int, *, config: bool = False, live: bool = False, current: bool = False
    ) -> BlkioTune: ...
    @overload
    def blkiotune(
        self,
        domain: str | int,
        *,
        weight: int | None = None,
        device_weights: ByPath | None = None,
        device_read_iops_sec: ByPath | None = None,
        device_write_iops_sec: ByPath | None = None,
        device_read_bytes_sec: ByPath | None = None,
        device_write_bytes_sec: ByPath | None = None,
        config: bool = False,
        live: bool = False,
        current: bool = False,
    ) -> BlkioTune | Result: ...
    def blkiotune(
        self, domain: str | int, *, weight: int | None = None, **options: ByPath | bool | None
    ) -> BlkioTune | Result:
        """Read or set what a domain gets of the disks of the host. virsh: ``blkiotune``.

        Without values, the current ones: ``{'weight': 500, 'device_weight': {'/dev/sda': 500}, 'device_read_iops_sec':
        {}, ...}``. Otherwise they are set: `weight` as libvirt's cgroups have it, and ``device_weights={'/dev/sda':
        500}`` (with an s, read without), `device_read_iops_sec`, `device_write_iops_sec`, `device_read_bytes_sec`,
        `device_write_bytes_sec`, operations or bytes a second, a disk's 0 for none. Where: `live`, `config`, `current`.
        """
        where, given = _parted(options)
        values = {"weight": weight, **{name: _by_path(name, each) for name, each in given.items()}}
        return self._set_or_read("blkiotune", _tuned, values, domain=domain, **where)

    def blklist(self, domain: str | int, **options: Unpack[options.DomblklistOptions]) -> list[ListedDisk]:
        """The disks of a domain. virsh: ``domblklist``.

        ``[{'type': 'file', 'device': 'disk', 'target': 'vda', 'source': '/images/web1.qcow2'}]``, None for the source
        of an empty drive; ``inactive=True`` those of the definition. ``details=True`` makes no difference.
        """
        # virsh makes its table of the same XML, where a blank or a `-` in a path is itself
        return self._read("dumpxml", _disks, domain=domain, **_without(options, "details"))

    def blkstat(self, domain: str | int, device: str | None = None, *, human: bool = False) -> BlockStats:  # noqa: ARG002
        """What went through a disk of a running domain, or, without `device`, through all. virsh: ``domblkstat``.

        ``{'rd_req': 5, 'rd_bytes': 20480, 'rd_total_times': 812345, 'wr_req': 0, 'wr_bytes': 0, 'wr_total_times': 0,
        'flush_operations': 0, 'flush_total_times': 0, 'errs': 0}`` as far as it is counted, times in nanoseconds.
        `device`: the disk's target or source; ``human=True`` makes no difference.
        """
        return self._read("domblkstat", text.figures(BlockStats), domain=domain, device=device)

    def blkthreshold(self, domain: str | int, dev: str, threshold: int | str) -> Result:
        """Have libvirt tell when a running domain has written beyond a place in an image. virsh: ``domblkthreshold``.

        `dev`: the disk's target, or with an index a file of its backing chain (``'vda[1]'``); `threshold` in bytes, or
        with a unit; 0 for none. It is told as an event, once.
        """
        return self._act("domblkthreshold", domain=domain, dev=dev, threshold=threshold)

    def blockcommit(
        self,
        domain: str | int,
        path: str,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.BlockcommitOptions],
    ) -> Result:
        """Move what changed from an image down into one that it is based on. virsh: ``blockcommit``.

        `path`: the disk's target or source. From `top` (the image in use) to `base` (the lowest), or, with
        ``shallow=True``, one down. From the image in use it is an ``active=True`` commit, which follows the guest until
        `blockjob` concludes it, or, with ``pivot=True``, goes over to the base, with ``keep_overlay=True`` stays with
        the image. ``wait=True`` waits until all is moved, `timeout` seconds at most (then the job is aborted, and with
        ``async_=True`` not waited for). ``delete=True`` deletes the images that are no longer needed,
        ``keep_relative=True`` leaves relative names of backing files relative. `bandwidth` as with `blockjob`.
        `progress` and `cancel` as with `migrate`; either waits as well.
        """
        return self._act_long("blockcommit", Job(progress, cancel), domain=domain, path=path, **_job(options))

    @overload
    def blockcopy(
        self,
        domain: str | int,
        path: str,
        *,
        print_xml: Literal[False] = False,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.BlockcopyOptions],
    ) -> Result: ...
    @overload
    def blockcopy(
        self, domain: str | int, path: str, *, print_xml: Literal[True], **options: Unpack[options.BlockcopyOptions]
    ) -> xml.Conf: ...
    def blockcopy(
        self,
        domain: str | int,
        path: str,
        *,
        print_xml: bool = False,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.BlockcopyOptions],
    ) -> Result | xml.Conf:
        """Copy a disk of a running domain, and keep the copy up to date. virsh: ``blockcopy``.

        `path`: the disk's target or source. To `dest`, a file (a block device with ``blockdev=True``) of a `format`, or
        to what `xml` says: a dict of ``<disk>``, XML, an element or a path. If the domain is defined, libvirt wants
        ``transient_job=True``, which says that the job ends with this run of it. The copy follows the guest until
        `blockjob` concludes it, or, with ``pivot=True``, goes over to the copy, with ``finish=True`` stays with the
        disk. ``wait=True`` waits until all is copied, `timeout` seconds at most (then the job is aborted, and with
        ``async_=True`` not waited for). ``shallow=True`` copies the uppermost image, ``reuse_external=True`` into a
        file that is there, ``dest_is_zero=True`` says that it reads as zeros; ``synchronous_writes=True`` has the
        guest's writes wait for the copy. `bandwidth` as with `blockjob`; `granularity` (a power of two) and `buf_size`
        in bytes. ``print_xml=True`` returns the disk that this would copy to. `progress` and `cancel` as with
        `migrate`; either waits as well.
        """
        refuse_in_attribute("blockcopy", "dest", options.get("dest"))
        given = {
            **_job(options),
            **({"xml": xml.part(("domain", "devices", "disk"), options["xml"])} if "xml" in options else {}),
        }
        if print_xml:
            return self._read("blockcopy", xml.printed_device, domain=domain, path=path, print_xml=True, **given)
        return self._act_long("blockcopy", Job(progress, cancel), domain=domain, path=path, **given)

    @overload
    def blockjob(
        self, domain: str | int, path: str, *, info: bool = ..., raw: bool = ..., bytes: bool = ...
    ) -> BlockJob | None: ...
    @overload
    def blockjob(self, domain: str | int, path: str, *, bandwidth: int | str, bytes: bool = ...) -> Result: ...
    @overload
    def blockjob(
        self, domain: str | int, path: str, *, abort: bool = ..., async_: bool = ..., pivot: bool = ...
    ) -> BlockJob | Result | None: ...
    def blockjob(self, domain: str | int, path: str, **options: int | str) -> BlockJob | Result | None:
        """The job on a disk of a running domain, see `BlockJob`, or None if there is none. virsh: ``blockjob``.

        ``{'type': 'Block Copy', 'bandwidth': Quantity, 'cur': 1048576, 'end': 2097152}``, the bandwidth in bytes a
        second, 0 for no limit. With one of these it acts on the job instead: ``abort=True`` ends it (a copy stays as it
        is then), ``pivot=True`` ends it and goes over to the copy, or to the base of a commit; ``async_=True`` with
        either returns before it has ended. `bandwidth` sets the limit of the job, in bytes a second or with a
        unit (``'500 KiB/s'``), 0 for none; ``bytes=True`` makes no difference. `path`: the disk's target or source.
        """
        given = {name: value or None for name, value in _without(options, "info", "raw", "bytes", "bandwidth").items()}
        if "bandwidth" in options:
            given |= _job(_without(options, "info", "raw"))
        shown = {} if any(value is not None for value in given.values()) else {"raw": True, "bytes": True}
        return self._set_or_read("blockjob", _block_job, given, domain=domain, path=path, **shown)

    def blockpull(
        self,
        domain: str | int,
        path: str,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.BlockpullOptions],
    ) -> Result:
        """Copy what a disk's image is based on into the image. virsh: ``blockpull``.

        `path`: the disk's target or source. All of it, or only what is above `base`, whose name stays relative with
        ``keep_relative=True``. ``wait=True`` waits until it is done, `timeout` seconds at most (then the job is
        aborted, and with ``async_=True`` not waited for). `bandwidth` as with `blockjob`. `progress` and `cancel` as
        with `migrate`; either waits as well.
        """
        return self._act_long("blockpull", Job(progress, cancel), domain=domain, path=path, **_job(options))

    def blockresize(
        self,
        domain: str | int,
        path: str,
        size: int | str | None = None,
        *,
        capacity: bool = False,
        extend: bool = False,
    ) -> Result:
        """Change the size of a disk of a running domain. virsh: ``blockresize``.

        `size` in bytes, as `blkinfo` gives it, or with a unit (``'20 GiB'``); ``capacity=True`` instead takes that of
        the block device beneath, ``extend=True`` refuses to make the disk smaller.
        """
        return self._act("blockresize", domain=domain, path=path, size=size, capacity=capacity, extend=extend)

    def throttlegroupdel(
        self, domain: str | int, group_name: str, **options: Unpack[options.DomthrottlegroupdelOptions]
    ) -> Result:
        """Remove a group of limits. virsh: ``domthrottlegroupdel``. Needs virsh 11.

        Where: `live`, `config`, `current`.
        """
        return self._act("domthrottlegroupdel", domain=domain, group_name=group_name, **options)

    def throttlegroupinfo(
        self, domain: str | int, group_name: str, **options: Unpack[options.DomthrottlegroupinfoOptions]
    ) -> Throttling:
        """The limits of a group, those that it has; see `Throttling`. virsh: ``domthrottlegroupinfo``.

        ``inactive=True``: of the definition. `NotFoundError` if there is no such group.
        """
        # virsh reads the same XML, but prints nothing of a group that there is not
        return self._read("dumpxml", _throttling_of(group_name), domain=domain, **options)

    def throttlegrouplist(self, domain: str | int, **options: Unpack[options.DomthrottlegrouplistOptions]) -> list[str]:
        """The names of a domain's groups of limits. virsh: ``domthrottlegrouplist``.

        ``inactive=True``: of the definition.
        """
        # virsh makes its table of the same XML, where a blank in a name is itself
        return self._read("dumpxml", _throttle_groups, domain=domain, **options)

    def throttlegroupset(
        self, domain: str | int, group_name: str, **options: Unpack[options.DomthrottlegroupsetOptions]
    ) -> Result:
        """Add a group of limits, or change one. virsh: ``domthrottlegroupset``. Needs virsh 11.

        The limits (`total_bytes_sec` and so on) are those of `blkdeviotune`, without its `group_name`. Where: `live`,
        `config`, `current`. Disks take part by their ``<throttlefilters>``, or by `throttle_groups` of `attach_disk`.
        """
        return self._act("domthrottlegroupset", domain=domain, group_name=group_name, **options)


def _parted(options: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The options that say where, and those that are values."""
    where = {name: value for name, value in options.items() if name in ("config", "live", "current")}
    return where, {name: value for name, value in options.items() if name not in where}


def _without(options: Mapping[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in options.items() if name not in names}


def _job(options: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a job, with its bandwidth in bytes, and without progress on standard error."""
    return _without(options, "verbose", "bytes") | ({} if options.get("bandwidth") is None else {"bytes": True})


def _backup(backup: xml.Document | None, checkpoint: xml.Document | None) -> dict[str, object]:
    """The two documents of a backup."""
    return {
        "backupxml": None if backup is None else xml.document("domainbackup", backup),
        "checkpointxml": None if checkpoint is None else xml.document("domaincheckpoint", checkpoint),
    }


def _by_path(name: str, figures: object) -> object:
    """Return limits by path in virsh's form: in bytes a second, or plain numbers."""
    if not isinstance(figures, Mapping):
        return figures
    what = f"virsh blkiotune: {name}"
    unit = "bytes/s" if name.endswith("bytes_sec") else None
    return ",".join(f"{path},{units.converted(what, figure, unit)}" for path, figure in figures.items())


def _tuned(output: str) -> BlkioTune:
    raw = {text.key(label): figures for label, figures in text.pairs(output)}
    by_path = {name: _figures_by_path(figures) for name, figures in raw.items() if name.startswith("device_")}
    of_domain = text.typed(BlkioTune, {name: figure for name, figure in raw.items() if name not in by_path})
    return {**of_domain, **by_path}  # type: ignore[typeddict-item]


def _figures_by_path(raw: str) -> dict[str, int]:
    """The figures in ``/dev/sda,500,/dev/sdb,100``."""
    words = raw.split(",") if raw.strip() else []
    if len(words) % 2:
        raise UnreadableOutputError(f"expected paths and figures, not {raw!r}")
    return {path: text.number(figure) for path, figure in zip(words[::2], words[1::2], strict=True)}


def _errors(output: str) -> dict[str, str]:
    if text.lines(output) == ["No errors found"]:
        return {}
    split = [line.rpartition(": ") for line in text.lines(output)]
    if not all(target for target, _, _ in split):
        raise UnreadableOutputError(f"expected a disk and its error in each line of {output!r}")
    return {target: error for target, _, error in split}


def _infos(output: str) -> dict[str, BlockInfo]:
    return table.by_name(BlockInfo, output, column="target")


def _disks(output: str) -> list[ListedDisk]:
    return [
        {
            "type": disk.get("type", ""),
            "device": disk.get("device", ""),
            "target": xml.attribute(disk, "target", "dev") or "",
            "source": _nvme(disk) or xml.attribute(disk, "source", "file", "dev", "dir", "name", "volume", "path"),
        }
        for disk in xml.root(output).iterfind("devices/disk")
    ]


def _nvme(disk: etree._Element) -> str | None:
    """The source of an NVMe disk, in the form that virsh gives it: ``nvme://0000:01:00.0/1``."""
    address = disk.find("source/address")
    if disk.get("type") != "nvme" or address is None:
        return None
    domain, bus, slot, function = (int(address.get(part, "0"), 0) for part in ("domain", "bus", "slot", "function"))
    return f"nvme://{domain:04x}:{bus:02x}:{slot:02x}.{function}/{xml.attribute(disk, 'source', 'namespace')}"


def _block_job(output: str) -> BlockJob | None:
    raw = dict(line.strip().split("=", 1) for line in text.lines(output) if "=" in line)
    return text.typed(BlockJob, raw) if output.strip() else None


def _throttle_groups(output: str) -> list[str]:
    return [group.findtext("group_name") or "" for group in _groups(output)]


def _throttling_of(name: str) -> Callable[[str], Throttling]:
    def read(output: str) -> Throttling:
        for group in _groups(output):
            if group.findtext("group_name") == name:
                limits = {str(limit.tag): limit.text or "" for limit in group if limit.tag != "group_name"}
                return text.typed(Throttling, limits)
        raise NotFoundError(f"virsh domthrottlegroupinfo: the domain has no throttle group {name!r}")

    return read


def _groups(output: str) -> list[etree._Element]:
    return xml.root(output).findall("throttlegroups/throttlegroup")
