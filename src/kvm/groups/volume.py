"""Storage volumes, each in a pool."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, Unpack, overload

from kvm import table, text, units, xml
from kvm.errors import InvalidArgumentError, NotFoundError, UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.built_xml import cloning, creating_over, has_markup, refuse_in_text
from kvm.virsh.command import Command, failure
from kvm.virsh.jobs import Cancel, Copy, Job
from kvm.virsh.jobs import Progress as JobProgress
from kvm.virsh.plan import ATTEMPTS, Lookup, Plan, after, checked, completing, each_left
from kvm.virsh.transfer import Download, Progress, Source, Target, Upload
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundVolume


class ListedVolume(TypedDict):
    """A volume in a list.

    `type` is ``'file'``, ``'block'``, ``'dir'``, ``'network'``, ``'netdir'`` or ``'ploop'``; `capacity` and
    `allocation` are there if they were asked for, in bytes. All three are None where libvirt cannot tell, as of a
    volume whose file is gone.
    """

    path: str
    type: str | None
    capacity: NotRequired[Quantity | None]
    allocation: NotRequired[Quantity | None]


class VolumeFigures(TypedDict):
    """What kind of volume one is, and its sizes in bytes."""

    type: str
    capacity: Quantity
    allocation: NotRequired[Quantity]
    physical: NotRequired[Quantity]


class VolumeInfo(VolumeFigures):
    """A volume's basic figures; with ``physical=True`` `physical` stands in the place of `allocation`."""

    name: str


class Volume(Group):
    """Storage volumes, each in a pool.

    A volume is told as `vol`, its name, with ``pool='images'``; or as its key or path, where `pool` may be left out.
    Sizes are whole numbers of bytes, or texts with a unit (``'10G'`` is 10 GiB, ``'10GB'`` is 10**10 bytes).
    """

    _key = ("pool", "vol")
    _unbound = frozenset({"name", "pool"})  # these two tell what is known of one

    def __getitem__(self, which: tuple[str, str]) -> BoundVolume:
        """One volume, by its pool and name: the methods about it, without `vol` and `pool`."""
        one: BoundVolume = self._one(which)
        return one

    @overload
    def clone(
        self,
        vol: str,
        newname: str,
        *,
        print_xml: Literal[False] = False,
        progress: JobProgress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.VolCloneOptions],
    ) -> Result: ...
    @overload
    def clone(
        self, vol: str, newname: str, *, print_xml: Literal[True], **options: Unpack[options.VolCloneOptions]
    ) -> xml.Conf: ...
    def clone(
        self,
        vol: str,
        newname: str,
        *,
        print_xml: bool = False,
        progress: JobProgress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.VolCloneOptions],
    ) -> Result | xml.Conf:
        """Copy a volume to a new one in the same pool. virsh: ``vol-clone``.

        ``reflink=True`` shares blocks with the old one where the file system can, ``prealloc_metadata=True`` allocates
        the metadata of an image. With ``print_xml=True`` nothing is created: what the copy would be comes back as
        a dict.

        `progress` is called with an estimate of how much is done, from 0.0 to 1.0: what is allocated for the copy by
        now, of what the volume takes up. If all is allocated at once, as from raw to raw, that is only in the end.
        libvirt cannot abort a copy. With `cancel`, or after the ``timeout`` control, it is left to go on, and the error
        says that its outcome is unknown.
        """
        job, pool = Job(progress, cancel), options.get("pool")
        before = _measured(job, {"vol": vol, "pool": pool}, pool, newname)
        refuse_in_text("vol-clone", "newname", newname)
        if has_markup(newname):
            command = Command("vol-clone", {"vol": vol, "newname": newname, **options}, reads=False, job=job)
            clone = cloning(command, check=self._caller.check, prints=print_xml)
            return self._caller.call(clone if print_xml else after(before, clone))
        if print_xml:
            return self._read("vol-clone", xml.conf, vol=vol, newname=newname, print_xml=True, **options)
        return self._act_long("vol-clone", job, before, vol=vol, newname=newname, **options)

    @overload
    def conf(self, vol: str, *, xpath: None = None, **options: Unpack[options.VolDumpxmlOptions]) -> xml.Conf: ...
    @overload
    def conf(self, vol: str, *, xpath: str, **options: Unpack[options.VolDumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, vol: str, *, xpath: str | None = None, **options: Unpack[options.VolDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """What a volume is, as a dict of libvirt's XML. virsh: ``vol-dumpxml``.

        With ``xpath='//format/@type'`` a list of what that finds.
        """
        return self._read("vol-dumpxml", xml.asked(xpath), vol=vol, **xml.unwrapped(options))

    def create(self, pool: str, file: xml.Document, **options: Unpack[options.VolCreateOptions]) -> Result:
        """Create a volume. virsh: ``vol-create``.

        `file`: what it is to be as a dict of ``<volume>``, XML, an element or the path of a file on the hypervisor.
        ``prealloc_metadata=True`` allocates the metadata of an image, ``validate=True`` checks the XML against
        libvirt's schema.
        """
        return self._act("vol-create", pool=pool, file=xml.document("volume", file, options.get("validate")), **options)

    @overload
    def create_as(
        self,
        pool: str,
        name: str,
        capacity: int | str,
        *,
        allocation: int | str | None = None,
        format: str | None = None,
        backing_vol: str | None = None,
        backing_vol_format: str | None = None,
        prealloc_metadata: bool = False,
        print_xml: Literal[False] = False,
    ) -> Result: ...
    @overload
    def create_as(
        self,
        pool: str,
        name: str,
        capacity: int | str,
        *,
        allocation: int | str | None = None,
        format: str | None = None,
        backing_vol: str | None = None,
        backing_vol_format: str | None = None,
        prealloc_metadata: bool = False,
        print_xml: Literal[True],
    ) -> xml.Conf: ...
    def create_as(
        self,
        pool: str,
        name: str,
        capacity: int | str,
        *,
        allocation: int | str | None = None,
        format: str | None = None,
        backing_vol: str | None = None,
        backing_vol_format: str | None = None,
        prealloc_metadata: bool = False,
        print_xml: bool = False,
    ) -> Result | xml.Conf:
        """Create a volume without XML. virsh: ``vol-create-as``.

        `allocation`: how much of its `capacity` to allocate at once (all, if it is not given); `format`: ``'qcow2'``
        for instance; `backing_vol`: the name, key or path of a volume that it is to be an overlay of, with the format
        `backing_vol_format`. ``prealloc_metadata=True`` allocates the metadata of an image. With ``print_xml=True``
        nothing is created: the dict that `create` would take comes back.
        """
        options = {
            "pool": pool,
            "name": name,
            "capacity": capacity,
            "allocation": allocation,
            "format": format,
            "backing_vol": backing_vol,
            "backing_vol_format": backing_vol_format,
            "prealloc_metadata": prealloc_metadata,
        }
        if backing_vol is not None:
            command = Command("vol-create-as", options, reads=False)
            return self._caller.call(creating_over(command, check=self._caller.check, prints=print_xml))
        return self._act_or_print(xml.conf, "vol-create-as", print_xml, **options)

    def create_from(
        self,
        pool: str,
        file: xml.Document,
        vol: str,
        *,
        progress: JobProgress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.VolCreateFromOptions],
    ) -> Result:
        """Create a volume with the content of another, `vol` (in ``inputpool``). virsh: ``vol-create-from``.

        `file` and `prealloc_metadata` as with `create`, `reflink`, `progress` and `cancel` as with `clone`.
        """
        conf = xml.document("volume", file, options.get("validate"))
        name = xml.parse(conf).findtext("name") if isinstance(conf, bytes) else None
        job = Job(progress, cancel)
        before = _measured(job, {"vol": vol, "pool": options.get("inputpool")}, pool, name)
        return self._act_long("vol-create-from", job, before, pool=pool, file=conf, vol=vol, **options)

    def delete(self, vol: str, **options: Unpack[options.VolDeleteOptions]) -> Result:
        """Delete a volume and what is in it; ``delete_snapshots=True``: with its snapshots. virsh: ``vol-delete``."""
        return self._act("vol-delete", vol=vol, **options)

    def download(
        self,
        vol: str,
        file: Target,
        *,
        pool: str | None = None,
        offset: int | str = 0,
        length: int | str | None = None,
        sparse: bool = False,
        progress: Progress | None = None,
    ) -> Result:
        """Write a volume's content to a file here. virsh: ``vol-download``.

        `file`: a path on this machine, or a binary file object, also if the hypervisor is elsewhere. What is at a
        path is overwritten; a file that is new goes again with a failure. `offset` into the volume and `length` in
        bytes; `InvalidArgumentError` if there are less. ``sparse=True`` makes holes in the file where the volume has
        them, or has zeros. `progress` is called with the bytes that have come so far. What it or `file` raises
        ends the download.
        """
        start, count = _part(offset, length)
        end = Download(file, f"volume {vol!r}", length=count, sparse=sparse, progress=progress)
        return self._act("vol-download", vol=vol, file=end, pool=pool, offset=start, length=count)

    def info(self, vol: str, **options: Unpack[options.VolInfoOptions]) -> VolumeInfo:
        """A volume's basic figures, see `VolumeInfo`. virsh: ``vol-info``.

        ``{'name': 'disk.qcow2', 'type': 'file', 'capacity': ..., 'allocation': ...}``, in bytes, exactly;
        ``bytes=True`` makes no difference. ``physical=True``: the size of its file or device as `physical`, instead of
        `allocation`.
        """
        return self._read("vol-info", _info, **{**options, "vol": vol, "bytes": True})

    def key(self, vol: str, **options: Unpack[options.VolKeyOptions]) -> str:
        """The key of a volume, by its name or path. virsh: ``vol-key``."""
        return self._read("vol-key", _whole, vol=vol, **options)

    def list(self, pool: str, **options: Unpack[options.VolListOptions]) -> dict[str, ListedVolume]:
        """The volumes of a pool by name. virsh: ``vol-list``.

        ``{'disk.qcow2': {'path': '/images/disk.qcow2', 'type': 'file'}}``; ``details=True`` adds `capacity` and
        `allocation`, in bytes. A name with bytes that are not UTF-8 has surrogates for them, as of any file in Python.
        """
        return self._caller.call(_listing(pool, options))

    def name(self, vol: str) -> str:
        """The name of a volume, by its key or path. virsh: ``vol-name``."""
        return self._read("vol-name", _whole, vol=vol)

    def path(self, vol: str, **options: Unpack[options.VolPathOptions]) -> str:
        """The path of a volume, by its name or key. virsh: ``vol-path``."""
        return self._read("vol-path", _whole, vol=vol, **options)

    def pool(self, vol: str, **options: Unpack[options.VolPoolOptions]) -> str:
        """The name of the pool that a volume is in, or with ``uuid=True`` its UUID. virsh: ``vol-pool``.

        `vol`: its key or path.
        """
        return self._read("vol-pool", _whole, vol=vol, **options)

    def resize(self, vol: str, capacity: int | str, **options: Unpack[options.VolResizeOptions]) -> Result:
        """Change the capacity of a volume that no running guest uses. virsh: ``vol-resize``.

        `capacity` in bytes, or with a unit (``'10G'``). ``delta=True``: by `capacity`, not to it. ``allocate=True``
        allocates what is new; without ``shrink=True`` a volume does not become smaller.
        """
        return self._act("vol-resize", vol=vol, capacity=capacity, **options)

    def upload(
        self,
        vol: str,
        file: Source,
        *,
        pool: str | None = None,
        offset: int | str = 0,
        length: int | str | None = None,
        sparse: bool = False,
        progress: Progress | None = None,
    ) -> Result:
        """Write the content of a file here to a volume. virsh: ``vol-upload``.

        `file`: a path on this machine, or a binary file object, which is read from where it is to its end, also if
        the hypervisor is elsewhere. `offset` into the volume in bytes; of the file `length` bytes are taken, and it
        is an `InvalidArgumentError` if it has less. ``sparse=True`` makes holes in the volume where a file has them, if
        virsh runs on this machine; elsewhere they arrive as zeros. `progress` is called with the bytes that are
        under way so far. What it or `file` raises ends the upload; what has arrived by then is in the volume.
        """
        start, count = _part(offset, length)
        end = Upload(file, f"volume {vol!r}", length=count, sparse=sparse, progress=progress)
        return self._act("vol-upload", vol=vol, file=end, pool=pool, offset=start, length=count)

    def wipe(
        self,
        vol: str,
        *,
        progress: JobProgress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.VolWipeOptions],
    ) -> Result:
        """Overwrite a volume with zeros, or by an ``algorithm`` such as ``'random'``. virsh: ``vol-wipe``.

        libvirt does not tell how far it is: `progress` is called in the end, with 1.0. Nor can it abort it: with
        `cancel`, or after the ``timeout`` control, it is left to go on, as with `clone`.
        """
        return self._act_long("vol-wipe", Job(progress, cancel), vol=vol, **options)


def _measured(job: Job, source: Mapping[str, object], pool: str | None, name: str | None) -> Plan[None]:
    """Tell a job what it copies, if anybody wants to know how far it is: a volume, to `name` in `pool`."""
    if job.progress is None or name is None:
        return
    info = Command("vol-info", {**source, "bytes": True})
    told, home = yield Lookup((info, Command("vol-pool", {"vol": source["vol"]})))
    pool = pool or (_whole(home.stdout) if home.status else None)
    size = _info(told.stdout).get("allocation") if told.status else None  # otherwise the job will fail, and say why
    if pool and size:
        job.copy = Copy(pool, name, size)


def _part(offset: int | str, length: int | str | None) -> tuple[int, int | None]:
    """Return the offset and length of a part of a volume, in bytes. (To virsh, a length of 0 is everything.)"""
    offset = units.converted("the offset", offset, "bytes")
    length = None if length is None else units.converted("the length", length, "bytes")
    if offset < 0 or (length is not None and length < 1):
        raise InvalidArgumentError(f"offset is at least 0 and length at least 1, not {offset!r} and {length!r}")
    return int(offset), None if length is None else int(length)


def _whole(output: str) -> str:
    """The line that an output consists of; the name of a file may hold newlines."""
    if not (found := re.fullmatch(r"(.+)\n\n", output, re.DOTALL)):
        raise UnreadableOutputError(f"expected one line of output, not {output!r}")
    return found[1]


def _info(output: str) -> VolumeInfo:
    found = re.fullmatch(_NAMED + r"(.*)\n(Type: .*)", output, re.DOTALL)
    if not found:
        raise UnreadableOutputError(f"virsh printed no name and type of a volume: {output!r}")
    return {"name": found[1], **text.fields(VolumeFigures)(found[2])}


# -- list ---------------------------------------------------------------------------------------------------------
#
# virsh has no exact list of the names of volumes, only a table of names and paths. A row ends with the path, and most
# paths end with the name, so the name is what a row begins and ends with, blanks at its end included. In pools where it
# is not so, the name ends somewhere before three blanks. Either way the volumes of the names that could be are asked
# for, which tells whether they are there, and what they are. Where each row has one name that is, and each another one,
# these are the volumes of the pool. What virsh cannot print at all, it still completes.

_NAMED = "Name: {11}"

_Reading = tuple[str, str]
"""A name and a path that a row can be read as."""


def _listing(pool: str, options: Mapping[str, object]) -> Plan[dict[str, ListedVolume]]:
    table_of = Command("vol-list", {"pool": pool})
    details = bool(options.get("details"))
    listed: dict[str, ListedVolume] = {}
    unclear: dict[str, str] = {}
    for _ in range(ATTEMPTS):
        (result,) = yield Lookup((table_of,))
        shown = [table.decoded(table.shown(row)) for row in text.lines(checked(table_of, result).stdout)[2:]]
        if unclear and not unclear.keys() & set(shown):  # these volumes have gone in between
            return listed
        if any(table.NOT_SHOWN in row for row in shown):
            return (yield from _completed(pool, shown, details=details))
        rows = [_readings(row) for row in shown]
        infos = yield from _asked(pool, dict.fromkeys(name for row in rows for name, _ in row))
        found = [[reading for reading in row if reading[0] in infos] for row in rows]
        certain = [row[0] for row in found if len(row) == 1]
        listed = {name: _row(path, infos[name], details=details) for name, path in certain}
        if len(listed) == len(rows):
            return listed
        is_clear = [len(row) == 1 for row in found]
        unclear = {line: row[0][0] for line, row, clear in zip(shown, rows, is_clear, strict=True) if not clear}
    strange = [*unclear.values()]
    raise UnreadableOutputError(f"cannot tell the names of these volumes from virsh's list of {pool!r}: {strange}")


def _readings(row: str) -> list[_Reading]:
    """The ways in which a row of the table can be read: one, where the path ends with the name."""
    cells = row.removeprefix(" ").encode("utf-8", "surrogateescape")
    _, _, last = cells.rpartition(b"/")
    if cells.startswith(last + b"   "):
        return [(table.decoded(last), table.decoded(cells[len(last) :].lstrip(b" ")))]
    readings = [
        (table.decoded(cells[:end]), table.decoded(cells[gap.end() :]))
        for gap in re.finditer(rb" {3,}(?! )", cells)
        for end in range(max(gap.start(), 1), gap.end() - 2)
    ]
    if not readings:
        raise UnreadableOutputError(f"expected the name and the path of a volume, not {row!r}")
    return readings


def _completed(pool: str, rows: list[str], *, details: bool) -> Plan[dict[str, ListedVolume]]:
    """The volumes in `rows`, in which virsh does not show all, by the names that it completes what is typed to."""
    of_pool = Command("pool-info", {"pool": pool})
    (told,) = yield Lookup((of_pool,))
    uuid = text.fields(_Identified)(checked(of_pool, told).stdout)["uuid"]
    most_lines = max(row.count("\n") for row in rows) + 1
    names = yield from completing("vol-info", "--pool", uuid, "--vol", "", most_lines=most_lines)
    infos = yield from _asked(pool, sorted(name for name in names if name))
    paths = yield from each_left({name: Command("vol-path", {"pool": pool, "vol": name}) for name in infos}, _whole)
    if len(paths) != len(rows):
        raise UnreadableOutputError(
            f"virsh does not show all of the names and paths of the volumes of {pool!r}: {rows}"
        )
    return {name: _row(path, infos[name], details=details) for name, path in paths.items()}


class _Identified(TypedDict):
    uuid: str


def _asked(pool: str, names: Iterable[str]) -> Plan[dict[str, VolumeInfo | None]]:
    """The figures of those of `names` that are volumes of the pool; None where libvirt cannot tell them."""
    commands = {name: Command("vol-info", {"pool": pool, "vol": name, "bytes": True}) for name in names}
    results = (yield tuple(commands.values())) if commands else ()
    infos: dict[str, VolumeInfo | None] = {}
    for (name, command), result in zip(commands.items(), results, strict=True):
        if result.status:
            if (info := _info(result.stdout))["name"] == name:  # virsh takes a key or a path as well
                infos[name] = info
            continue
        error = failure(command.words(), result)
        if isinstance(error, ConnectionError | TimeoutError):
            raise error
        if re.match(f"{_NAMED}{re.escape(name)}\n", result.stdout):
            infos[name] = None
        elif not isinstance(error, NotFoundError):
            raise error
    return infos


def _row(path: str, info: VolumeInfo | None, *, details: bool) -> ListedVolume:
    row: ListedVolume = {"path": path, "type": info["type"] if info else None}
    if details:
        row["capacity"] = info["capacity"] if info else None
        row["allocation"] = info.get("allocation") if info else None
    return row
