"""Checkpoints of domains: points in time from which incremental backups are made.

They are told as snapshots are (`kvm.groups.snapshot`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, Unpack, overload

from kvm import text, xml
from kvm.groups.group import Group
from kvm.groups.snapshot import Point, branching, descending, describing, editing_point, listing
from kvm.values import Outcome
from kvm.virsh.built_xml import refuse_in_text, refuse_specs
from kvm.virsh.command import Command
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundCheckpoint


class ListedCheckpoint(Point):
    """A checkpoint in a list. `parent` is there if it was asked for, None for a root."""


class CheckpointInfo(TypedDict):
    """A checkpoint's basic figures."""

    name: str
    domain: str
    parent: str | None
    children: NotRequired[int]
    descendants: NotRequired[int]


class CheckpointTreeOptions(TypedDict, total=False):
    """What goes with ``tree=True``."""

    from_: str
    topological: bool


class Checkpoint(Group):
    """Checkpoints of domains: points in time from which incremental backups are made."""

    _key = ("domain", "checkpointname")

    def __getitem__(self, which: tuple[str | int, str]) -> BoundCheckpoint:
        """One checkpoint: the methods about it, without `domain` and `checkpointname`."""
        one: BoundCheckpoint = self._one(which)
        return one

    @overload
    def conf(
        self,
        domain: str | int,
        checkpointname: str,
        *,
        xpath: None = None,
        **options: Unpack[options.CheckpointDumpxmlOptions],
    ) -> xml.Conf: ...
    @overload
    def conf(
        self, domain: str | int, checkpointname: str, *, xpath: str, **options: Unpack[options.CheckpointDumpxmlOptions]
    ) -> list[xml.Node]: ...
    def conf(
        self,
        domain: str | int,
        checkpointname: str,
        *,
        xpath: str | None = None,
        **options: Unpack[options.CheckpointDumpxmlOptions],
    ) -> xml.Conf | list[xml.Node]:
        """A checkpoint, with the domain's configuration of then, as a dict of libvirt's XML.

        virsh: ``checkpoint-dumpxml``. ``no_domain=True`` leaves that configuration out, ``security_info=True`` includes
        secrets, ``size=True`` adds to each disk how many bytes have changed since. With
        ``xpath='/domaincheckpoint/disks/disk'`` a list of what that finds.
        """
        read, which = xml.asked(xpath), {"domain": domain, "checkpointname": checkpointname}
        return self._read("checkpoint-dumpxml", read, **which, **xml.unwrapped(options))

    def create(
        self,
        domain: str | int,
        xmlfile: xml.Document | None = None,
        **options: Unpack[options.CheckpointCreateOptions],
    ) -> Outcome[str]:
        """Set a checkpoint for a running domain. virsh: ``checkpoint-create``.

        `xmlfile`: a dict of ``<domaincheckpoint>``, XML, an element or the path of a file on the hypervisor; without,
        libvirt chooses a name and takes all disks that can have one (qcow2). ``quiesce=True`` has the guest's agent
        freeze its file systems. ``redefine=True`` only tells libvirt of a checkpoint that it has forgotten, with
        ``redefine_validate=True`` after a look at the disks. The `value` of the result is the name.
        """
        given = None if xmlfile is None else xml.document("domaincheckpoint", xmlfile)
        return self._act_and_tell("checkpoint-create", str, domain=domain, xmlfile=given, **options)

    @overload
    def create_as(
        self,
        domain: str | int,
        name: str | None = None,
        description: str | None = None,
        *,
        print_xml: Literal[False] = False,
        **options: Unpack[options.CheckpointCreateAsOptions],
    ) -> Outcome[str]: ...
    @overload
    def create_as(
        self,
        domain: str | int,
        name: str | None = None,
        description: str | None = None,
        *,
        print_xml: Literal[True],
        **options: Unpack[options.CheckpointCreateAsOptions],
    ) -> xml.Conf: ...
    def create_as(
        self,
        domain: str | int,
        name: str | None = None,
        description: str | None = None,
        *,
        print_xml: bool = False,
        **options: Unpack[options.CheckpointCreateAsOptions],
    ) -> Outcome[str] | xml.Conf:
        """Set a checkpoint for a running domain, described by arguments. virsh: ``checkpoint-create-as``.

        ``diskspec='vda,checkpoint=bitmap,bitmap=monday'`` says what is done with a disk, a list of these with several
        (``checkpoint=no``: nothing); a comma within a name is doubled. ``quiesce`` as with `create`. With
        ``print_xml=True`` it is not set: the dict that `create` would take comes back.
        """
        given = {"domain": domain, "name": name, "description": description, **options}
        refuse_in_text("checkpoint-create-as", "name", name)
        refuse_in_text("checkpoint-create-as", "description", description)
        refuse_specs("checkpoint-create-as", diskspec=options.get("diskspec"))
        if print_xml:
            return self._read("checkpoint-create-as", xml.conf, print_xml=True, **given)
        return self._act_and_tell("checkpoint-create-as", str, **given)

    def delete(
        self, domain: str | int, checkpointname: str, **options: Unpack[options.CheckpointDeleteOptions]
    ) -> Result:
        """Delete a checkpoint; the domain has to run. virsh: ``checkpoint-delete``.

        ``children=True`` deletes its descendants as well, ``children_only=True`` only these; ``metadata=True`` only has
        libvirt forget it.
        """
        return self._act("checkpoint-delete", domain=domain, checkpointname=checkpointname, **options)

    def edit(self, domain: str | int, checkpointname: str, function: xml.Editor) -> Result:
        """Change what libvirt remembers of a checkpoint, such as its description. virsh: ``checkpoint-edit``.

        `function` is given the checkpoint as a dict of ``<domaincheckpoint>``, and changes it or returns another one.
        Its name cannot change. `ChangedMeanwhileError` if another program has changed it.
        """
        which = {"domain": domain, "checkpointname": checkpointname, "security_info": True}
        plan = editing_point("checkpoint", which, function, {}, **self._carefully())
        return self._caller.call(plan)

    def info(self, domain: str | int, checkpointname: str) -> CheckpointInfo:
        """A checkpoint's basic figures, see `CheckpointInfo`. virsh: ``checkpoint-info``.

        ``{'name': 'monday', 'domain': 'web1', 'parent': None, 'children': 0, 'descendants': 0}``.
        """
        which = {"domain": domain, "checkpointname": checkpointname}
        return self._caller.call(describing("checkpoint", CheckpointInfo, which))

    @overload
    def list(
        self, domain: str | int, *, tree: Literal[False] = False, **options: Unpack[options.CheckpointListOptions]
    ) -> dict[str, ListedCheckpoint]: ...
    @overload
    def list(
        self, domain: str | int, *, tree: Literal[True], **options: Unpack[CheckpointTreeOptions]
    ) -> text.Tree: ...
    def list(
        self, domain: str | int, *, tree: bool = False, **options: Unpack[options.CheckpointListOptions]
    ) -> dict[str, ListedCheckpoint] | text.Tree:
        """A domain's checkpoints by name. virsh: ``checkpoint-list``.

        ``{'monday': {'creation_time': datetime(...)}}``; ``parent=True`` adds `parent`. Only some: `roots`, `leaves`,
        `no_leaves`, each with True; ``from_='monday'``: the children of that one, with ``descendants=True`` also
        theirs. They come by name, or with ``topological=True`` parents first.

        With ``tree=True`` only the names, each above its children: ``{'monday': {'tuesday': {}}}``; with `from_` from
        there on (see `CheckpointTreeOptions`).
        """
        if tree:
            return self._caller.call(branching("checkpoint", CheckpointTreeOptions, {"domain": domain, **options}))
        return self._caller.call(listing("checkpoint", ListedCheckpoint, {"domain": domain, **options}))

    def parent(self, domain: str | int, checkpointname: str) -> str | None:
        """The name of the checkpoint that a checkpoint came after, None for a root. virsh: ``checkpoint-parent``."""
        which = {"domain": domain, "checkpointname": checkpointname}
        return self._caller.call(descending(Command("checkpoint-parent", which)))
