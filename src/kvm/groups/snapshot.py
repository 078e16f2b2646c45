"""Snapshots of domains.

Snapshots, and checkpoints alike, are named by their users as they like, so each name is read where it stands alone: in
a line (``--name``), in a reply of its own (``snapshot-parent``), or behind all else in a row of a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, TypeVar, Unpack, cast, overload

from kvm import table, text, xml
from kvm.errors import AlreadyExistsError, InvalidArgumentError, UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Outcome
from kvm.virsh.built_xml import refuse_in_text, refuse_specs
from kvm.virsh.command import Command
from kvm.virsh.jobs import Cancel, Job, Progress
from kvm.virsh.plan import Lookup, Plan, acting, checked, editing, resolved
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundSnapshot


class Point(TypedDict):
    """A point in time that can be gone back to. `parent` is there if it was asked for, None for a root."""

    creation_time: datetime
    parent: NotRequired[str | None]


class ListedSnapshot(Point):
    """A snapshot in a list. `state` is the domain's then (``'running'``, ``'shutoff'``), or ``'disk-snapshot'``."""

    state: str


class SnapshotInfo(TypedDict):
    """A snapshot's basic figures: `state` as in `ListedSnapshot`, `location` ``'internal'`` or ``'external'``."""

    name: str
    domain: str
    current: bool
    state: str
    location: str
    parent: str | None
    children: NotRequired[int]
    descendants: NotRequired[int]
    metadata: NotRequired[bool]


class SnapshotTreeOptions(TypedDict, total=False):
    """What goes with ``tree=True``."""

    from_: str
    current: bool
    metadata: bool
    no_metadata: bool
    topological: bool


class Snapshot(Group):
    """Snapshots of domains.

    Where a snapshot is given by `snapshotname`, ``current=True`` in its place means the current one.
    """

    _key = ("domain", "snapshotname")

    def __getitem__(self, which: tuple[str | int, str]) -> BoundSnapshot:
        """One snapshot: the methods about it, without `domain` and `snapshotname`."""
        one: BoundSnapshot = self._one(which)
        return one

    @overload
    def conf(
        self,
        domain: str | int,
        snapshotname: str,
        *,
        xpath: None = None,
        **options: Unpack[options.SnapshotDumpxmlOptions],
    ) -> xml.Conf: ...
    @overload
    def conf(
        self, domain: str | int, snapshotname: str, *, xpath: str, **options: Unpack[options.SnapshotDumpxmlOptions]
    ) -> list[xml.Node]: ...
    def conf(
        self,
        domain: str | int,
        snapshotname: str,
        *,
        xpath: str | None = None,
        **options: Unpack[options.SnapshotDumpxmlOptions],
    ) -> xml.Conf | list[xml.Node]:
        """A snapshot, with the domain's configuration of then, as a dict of libvirt's XML. virsh: ``snapshot-dumpxml``.

        ``security_info=True`` includes secrets. With ``xpath='/domainsnapshot/disks/disk'`` a list of what that finds.
        """
        read, which = xml.asked(xpath), {"domain": domain, "snapshotname": snapshotname}
        return self._read("snapshot-dumpxml", read, **which, **xml.unwrapped(options))

    def create(
        self,
        domain: str | int,
        xmlfile: xml.Document | None = None,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.SnapshotCreateOptions],
    ) -> Outcome[str]:
        """Take a snapshot. virsh: ``snapshot-create``.

        `xmlfile`: a dict of ``<domainsnapshot>``, XML, an element or the path of a file on the hypervisor; without,
        libvirt chooses a name and the disks. ``disk_only=True`` leaves out the memory, ``halt=True`` stops the domain
        then, ``atomic=True`` fails rather than snapshot only some disks, ``quiesce=True`` has the guest's agent freeze
        its file systems, ``live=True`` lets the guest run meanwhile, ``reuse_external=True`` takes files that exist,
        ``no_metadata=True`` does not keep it in libvirt. ``redefine=True`` only tells libvirt of a snapshot that it has
        forgotten, with ``current=True`` as the current one; ``validate=True`` checks `xmlfile` against the schema.
        The `value` of the result is the name.

        `progress` and `cancel` as with `Domain.migrate`, if the memory goes to a file of its own. Of a snapshot within
        the disks libvirt tells nothing, and cannot abort it: `progress` is called in the end, with 1.0, and what was
        to be cancelled is done.
        """
        given = None if xmlfile is None else xml.document("domainsnapshot", xmlfile, options.get("validate"))
        which = {"domain": domain, "xmlfile": given, **options}
        return self._act_and_tell("snapshot-create", str, Job(progress, cancel), **which)

    @overload
    def create_as(
        self,
        domain: str | int,
        name: str | None = None,
        description: str | None = None,
        *,
        print_xml: Literal[False] = False,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.SnapshotCreateAsOptions],
    ) -> Outcome[str]: ...
    @overload
    def create_as(
        self,
        domain: str | int,
        name: str | None = None,
        description: str | None = None,
        *,
        print_xml: Literal[True],
        **options: Unpack[options.SnapshotCreateAsOptions],
    ) -> xml.Conf: ...
    def create_as(
        self,
        domain: str | int,
        name: str | None = None,
        description: str | None = None,
        *,
        print_xml: bool = False,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.SnapshotCreateAsOptions],
    ) -> Outcome[str] | xml.Conf:
        """Take a snapshot, described by arguments. virsh: ``snapshot-create-as``.

        ``diskspec='vda,snapshot=external,file=/tmp/vda.qcow2'`` says what is done with a disk, a list of these with
        several; ``memspec='/tmp/memory,snapshot=external'`` where the memory goes; a comma within a name is doubled.
        All else as with `create`. With ``print_xml=True`` it is not taken: the dict that `create` would take comes
        back.
        """
        given = {"domain": domain, "name": name, "description": description, **options}
        refuse_in_text("snapshot-create-as", "name", name)
        refuse_in_text("snapshot-create-as", "description", description)
        refuse_specs("snapshot-create-as", diskspec=options.get("diskspec"), memspec=options.get("memspec"))
        if print_xml:
            return self._read("snapshot-create-as", xml.conf, print_xml=True, **given)
        return self._act_and_tell("snapshot-create-as", str, Job(progress, cancel), **given)

    @overload
    def current(
        self,
        domain: str | int,
        snapshotname: None = None,
        *,
        name: Literal[False] = False,
        **options: Unpack[options.SnapshotCurrentOptions],
    ) -> xml.Conf: ...
    @overload
    def current(self, domain: str | int, *, name: Literal[True]) -> str: ...
    @overload
    def current(self, domain: str | int, snapshotname: str) -> Result: ...
    def current(
        self,
        domain: str | int,
        snapshotname: str | None = None,
        *,
        name: bool = False,
        **options: Unpack[options.SnapshotCurrentOptions],
    ) -> xml.Conf | str | Result:
        """The current snapshot as `conf` gives it, or with ``name=True`` its name. virsh: ``snapshot-current``.

        With `snapshotname`, make that one the current one; the domain is not reverted to it. `NotFoundError` if none
        is current. ``security_info=True`` as with `conf`.
        """
        if snapshotname is not None:
            return self._act("snapshot-current", domain=domain, snapshotname=snapshotname, name=name, **options)
        if name:
            return self._read("snapshot-current", only_name, domain=domain, name=True, **options)
        return self._read("snapshot-current", xml.conf, domain=domain, **options)

    def delete(
        self, domain: str | int, snapshotname: str | None = None, **options: Unpack[options.SnapshotDeleteOptions]
    ) -> Result:
        """Delete a snapshot; what came after it stays. virsh: ``snapshot-delete``.

        ``children=True`` deletes its descendants as well, ``children_only=True`` only these; ``metadata=True`` only has
        libvirt forget it.
        """
        return self._act("snapshot-delete", domain=domain, snapshotname=snapshotname, **options)

    def edit(
        self,
        domain: str | int,
        snapshotname: str,
        function: xml.Editor,
        *,
        current: bool = False,
        rename: bool = False,
        clone: bool = False,
    ) -> Result:
        """Change what libvirt remembers of a snapshot, such as its description. virsh: ``snapshot-edit``.

        `function` is given the snapshot as a dict of ``<domainsnapshot>``, and changes it or returns another one. With
        ``rename=True`` its name may change, with ``clone=True`` another name makes another snapshot of the same data.
        ``current=True`` makes it the current one. `ChangedMeanwhileError` if another program has changed it.
        """
        which = {"domain": domain, "snapshotname": snapshotname, "security_info": True}
        how = {"current": current, "rename": rename, "clone": clone}
        return self._caller.call(editing_point("snapshot", which, function, how, **self._carefully()))

    def info(
        self, domain: str | int, snapshotname: str | None = None, **options: Unpack[options.SnapshotInfoOptions]
    ) -> SnapshotInfo:
        """A snapshot's basic figures, see `SnapshotInfo`. virsh: ``snapshot-info``.

        ``{'name': 'before', 'domain': 'web1', 'current': True, 'state': 'running', 'location': 'internal', 'parent':
        None, 'children': 0, 'descendants': 0, 'metadata': True}``.
        """
        which = {"domain": domain, "snapshotname": snapshotname, **options}
        return self._caller.call(describing("snapshot", SnapshotInfo, which))

    @overload
    def list(
        self, domain: str | int, *, tree: Literal[False] = False, **options: Unpack[options.SnapshotListOptions]
    ) -> dict[str, ListedSnapshot]: ...
    @overload
    def list(self, domain: str | int, *, tree: Literal[True], **options: Unpack[SnapshotTreeOptions]) -> text.Tree: ...
    def list(
        self, domain: str | int, *, tree: bool = False, **options: Unpack[options.SnapshotListOptions]
    ) -> dict[str, ListedSnapshot] | text.Tree:
        """A domain's snapshots by name. virsh: ``snapshot-list``.

        ``{'before': {'creation_time': datetime(...), 'state': 'shutoff'}}``; ``parent=True`` adds `parent`. Only some:
        `roots`, `leaves`, `no_leaves`, `inactive`, `active`, `disk_only`, `internal`, `external`, `metadata`,
        `no_metadata`, each with True; ``from_='before'`` or ``current=True``: the children of that one, with
        ``descendants=True`` also theirs. They come by name, or with ``topological=True`` parents first.

        With ``tree=True`` only the names, each above its children: ``{'before': {'after': {}}}``; with `from_` or
        `current` from there on (see `SnapshotTreeOptions`).
        """
        if tree:
            return self._caller.call(branching("snapshot", SnapshotTreeOptions, {"domain": domain, **options}))
        return self._caller.call(listing("snapshot", ListedSnapshot, {"domain": domain, **options}))

    def parent(
        self, domain: str | int, snapshotname: str | None = None, **options: Unpack[options.SnapshotParentOptions]
    ) -> str | None:
        """The name of the snapshot that a snapshot came after, None for a root. virsh: ``snapshot-parent``."""
        which = {"domain": domain, "snapshotname": snapshotname, **options}
        return self._caller.call(descending(Command("snapshot-parent", which)))

    def revert(
        self, domain: str | int, snapshotname: str | None = None, **options: Unpack[options.SnapshotRevertOptions]
    ) -> Result:
        """Put a domain back to what it was at a snapshot; all since then is lost. virsh: ``snapshot-revert``.

        ``running=True`` or ``paused=True``: the state that it has then, whichever it had; ``reset_nvram=True`` resets
        its firmware's variables. ``force=True`` does it also where libvirt cannot tell that it is safe; without,
        `InvalidStateError`.
        """
        return self._act("snapshot-revert", domain=domain, snapshotname=snapshotname, **options)


# -- what snapshots and checkpoints have in common: `kind` is the one or the other ---------------------------------

T = TypeVar("T")
P = TypeVar("P", bound=Point)


def only_name(output: str) -> str:
    """The name that an output consists of."""
    return output.rstrip("\n")


def listing(kind: str, shape: type[P], options: Mapping[str, object]) -> Plan[dict[str, P]]:
    """The snapshots or checkpoints of a domain by name, as TypedDicts `shape`."""
    rows = yield from resolved(Command(f"{kind}-list", {**options, "name": None}))
    names = Command(rows.name, {**rows.options, "name": True, "parent": None})  # newer virshes add it to the line
    for _ in range(3):
        printed, exact = yield (rows, names)
        wanted = text.lines(checked(names, exact).stdout)
        listed = _listed(shape, checked(rows, printed).stdout, wanted)
        if listed.keys() == set(wanted):  # otherwise one came or went in between
            break
    hidden = [name for name, point in listed.items() if table.NOT_SHOWN in str(point.get("parent"))]
    asked = tuple(Command(f"{kind}-parent", {"domain": rows.options["domain"], f"{kind}name": name}) for name in hidden)
    for name, command, result in zip(hidden, asked, (yield asked) if asked else (), strict=True):
        listed[name]["parent"] = _parent(command, result)
    return listed


def branching(kind: str, allowed: type, options: Mapping[str, object]) -> Plan[text.Tree]:
    """The names of a domain's snapshots or checkpoints, each above its children; `allowed` are the options for that.

    virsh's own drawing (``--tree``) is for the eye: a name in it may look like a branch.
    """
    if wrong := options.keys() - {"domain", *allowed.__annotations__}:
        raise TypeError(f"virsh {kind}-list: tree=True does not go with {', '.join(sorted(wrong))}")
    which = {**options, "parent": True}
    if which.get("current") and not which.get("from_"):
        current = yield from resolved(Command(f"{kind}-current", {"domain": which["domain"], "name": True}))
        (result,) = yield Lookup((current,))
        which |= {"from_": only_name(checked(current, result).stdout)}
        del which["current"]
    start = cast("str | None", which.get("from_"))
    listed = yield from listing(kind, Point, which if start is None else {**which, "descendants": True})
    branches: dict[str | None, text.Tree] = {name: {} for name in (None, start, *listed)}
    for name, point in listed.items():
        branches.setdefault(point.get("parent"), {})[name] = branches[name]
    return branches[None] if start is None else {start: branches[start]}


def describing(kind: str, shape: type[T], which: Mapping[str, object]) -> Plan[T]:
    """What ``-info`` tells of a snapshot or checkpoint, its parent told by ``-parent``: there, ``-`` is a name."""
    info = yield from resolved(Command(f"{kind}-info", which))
    parent = Command(f"{kind}-parent", info.options)
    told, of = yield (info, parent)
    output = checked(info, told).stdout
    if not all(label for label, _ in text.pairs(output)):
        raise UnreadableOutputError(f"a name of more than one line cannot be read from {output!r}")
    return cast(T, {**cast("dict[str, object]", text.fields(shape)(output)), "parent": _parent(parent, of)})


def editing_point(
    kind: str,
    which: Mapping[str, object],
    function: xml.Editor,
    how: Mapping[str, bool],
    *,
    alone: AbstractContextManager[object],
    check: bool,
) -> Plan[Result]:
    """A snapshot or checkpoint, changed by `function` and told to libvirt again."""
    read = yield from resolved(Command(f"{kind}-dumpxml", which))
    domain, old = read.options["domain"], which[f"{kind}name"]
    told: list[str] = []
    taken: list[str] = []
    if how.get("rename") or how.get("clone"):
        names = Command(f"{kind}-list", {"domain": domain, "name": True})
        (result,) = yield Lookup((names,))
        taken = text.lines(checked(names, result).stdout)

    def redefine(content: bytes) -> Command:
        told.append(xml.parse(content).findtext("name", ""))
        if told[0] != old and not (how.get("rename") or how.get("clone")):
            raise InvalidArgumentError(
                f"virsh {kind}-edit: the name of {old!r} became {told[0]!r}"
                + ("; give rename=True or clone=True if it is to" if kind == "snapshot" else "")
            )
        if told[0] != old and told[0] in taken:
            raise AlreadyExistsError(f"virsh {kind}-edit: there is a {kind} {told[0]!r} already")
        given = {"domain": domain, "xmlfile": content, "redefine": True}
        return Command(f"{kind}-create", given | ({"current": True} if how.get("current") else {}), reads=False)

    result = yield from editing(f"domain{kind}", read, redefine, function, alone=alone, check=check)
    if result.status and how.get("rename") and told and told[0] != old:
        forget = Command(f"{kind}-delete", {"domain": domain, f"{kind}name": old, "metadata": True}, reads=False)
        yield from acting(forget, check=check)
    return result


def descending(command: Command) -> Plan[str | None]:
    """What ``-parent`` tells."""
    command = yield from resolved(command)
    (result,) = yield (command,)
    return _parent(command, result)


def _parent(command: Command, result: Result) -> str | None:
    """The name in a reply of ``-parent``; to virsh it is a failure that there is none."""
    if not result.status and _IS_ROOT.fullmatch(result.stderr):
        return None
    return only_name(checked(command, result).stdout)


_IS_ROOT = re.compile(r"error: (snapshot|checkpoint) '.*' has no parent\n+", re.DOTALL)

_DATE = rb" {3,}([0-9]{4,}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})"
_NEXT = re.compile(_DATE)
_LOOSE = re.compile(b"(.*?)" + _DATE, re.DOTALL)


def _listed(shape: type[P], output: str, names: Sequence[str]) -> dict[str, P]:
    """The rows of a table whose columns are name, creation time, perhaps state, and perhaps parent.

    From the creation time on, a column begins where its heading does; the last one is not padded. Names are among
    `names`, most likely in their order.
    """
    heading, *rows = text.lines(output) or [""]
    labels = re.findall(r"\S+(?: \S+)*", heading)[1:]
    starts = [heading.find(label) - heading.find("Creation Time") for label in labels]
    if not labels or starts[0] != 0:
        raise UnreadableOutputError(f"virsh printed no list of snapshots or checkpoints: {output!r}")
    listed: dict[str, P] = {}
    for place, row in enumerate(rows[1:]):
        name, rest = _cells(row[1:], [*names[place : place + 1], *names])
        cells = {
            text.key(label): rest[start:end]
            for label, start, end in zip(labels, starts, [*starts[1:], None], strict=True)
        }
        parent = cells.pop("parent", None)
        listed[name] = text.typed(shape, {column: cell.rstrip(" ") for column, cell in cells.items()})
        if parent is not None:
            listed[name]["parent"] = parent or None
    return listed


def _cells(row: str, candidates: Iterable[str]) -> tuple[str, str]:
    """The name in a row, the first of `candidates` that fits if one does, and the row from the creation time on."""
    cell = table.shown(row)
    for name in candidates:
        if (length := table.shown_length(name, cell)) and (date := _NEXT.match(cell, length)):
            return name, table.decoded(cell[date.start(1) :])
    if not (loose := _LOOSE.match(cell)):
        raise UnreadableOutputError(f"cannot read {row!r} in a list of snapshots or checkpoints")
    return table.decoded(loose[1]), table.decoded(cell[loose.start(2) :])
