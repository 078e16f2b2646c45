"""Domains to files and other hosts, and back: save, restore, managed save, dump, migration."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

from kvm import text
from kvm.errors import UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.command import Command
from kvm.virsh.jobs import OPERATIONS, Cancel, Job, Progress
from kvm.virsh.plan import Lookup, Plan
from kvm.xml import Conf, Document, Editor, Node, asked, conf, document, root, unwrapped
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options

File = str | os.PathLike[str]
"""The path of a file on the hypervisor."""


class JobInfo(TypedDict, total=False):
    """A domain's job: what is being done to it, and how far that is. What libvirt does not tell is not there.

    `type` is ``'bounded'`` (its end can be foreseen), ``'unbounded'``, ``'completed'``, ``'failed'`` or
    ``'cancelled'``; `operation` is ``'outgoing migration'``, ``'save'``, ``'dump'``, ``'backup'``, ... Times are in
    nanoseconds, `memory_*`, `disk_*`, `data_*` (the two together), `compression_cache` and `compression_bytes` in
    bytes, `*_bps` in bytes a second, `auto_converge_throttle` in percent; `memory_constant`, `memory_normal` and
    `compression_pages` count pages, `memory_dirty_rate` pages a second.
    """

    type: str
    operation: str
    time_elapsed: Quantity
    time_elapsed_net: Quantity
    time_remaining: Quantity
    downtime: Quantity
    downtime_net: Quantity
    setup_time: Quantity
    data_total: Quantity
    data_processed: Quantity
    data_remaining: Quantity
    memory_total: Quantity
    memory_processed: Quantity
    memory_remaining: Quantity
    memory_constant: int
    memory_normal: int
    memory_normal_bytes: Quantity
    memory_bps: Quantity
    memory_dirty_rate: int
    memory_page_size: Quantity
    memory_iteration: int
    memory_postcopy_requests: int
    disk_total: Quantity
    disk_processed: Quantity
    disk_remaining: Quantity
    disk_bps: Quantity
    disk_temp_used: Quantity
    disk_temp_total: Quantity
    compression_cache: Quantity
    compression_bytes: Quantity
    compression_pages: int
    compression_cache_misses: int
    compression_overflow: int
    auto_converge_throttle: float
    vfio_data_transferred: Quantity
    success: bool
    errmsg: str


class Saving(Group):
    """Domains to files and other hosts, and back: save, restore, managed save, dump, migration."""

    # -- to a file and back

    def managedsave(
        self,
        domain: str | int,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.ManagedsaveOptions],
    ) -> Result:
        """Save a domain where libvirt finds it, and stop it; its next start goes on from there. virsh: ``managedsave``.

        ``running=True`` or ``paused=True`` says how it starts then, otherwise as it is now; ``bypass_cache=True`` keeps
        the file out of the host's page cache. `progress` and `cancel` as with `migrate`.
        """
        return self._act_long("managedsave", Job(progress, cancel), domain=domain, **options)

    @overload
    def managedsave_conf(
        self, domain: str | int, *, xpath: None = None, **options: Unpack[options.ManagedsaveDumpxmlOptions]
    ) -> Conf: ...
    @overload
    def managedsave_conf(
        self, domain: str | int, *, xpath: str, **options: Unpack[options.ManagedsaveDumpxmlOptions]
    ) -> list[Node]: ...
    def managedsave_conf(
        self, domain: str | int, *, xpath: str | None = None, **options: Unpack[options.ManagedsaveDumpxmlOptions]
    ) -> Conf | list[Node]:
        """The configuration in a domain's managed save, as a dict. virsh: ``managedsave-dumpxml``.

        `xpath` and ``security_info=True`` as with `conf`. `InvalidStateError` if it has no managed save.
        """
        return self._read("managedsave-dumpxml", asked(xpath), domain=domain, **unwrapped(options))

    def managedsave_define(
        self, domain: str | int, xml: Document, **options: Unpack[options.ManagedsaveDefineOptions]
    ) -> Result:
        """Replace the configuration in a domain's managed save. virsh: ``managedsave-define``.

        `xml` as with `define`; it may differ in what the guest does not see, such as the paths of its disks.
        ``running=True`` or ``paused=True`` says how the domain starts.
        """
        return self._act("managedsave-define", domain=domain, xml=document("domain", xml), **options)

    def managedsave_edit(
        self, domain: str | int, function: Editor, *, running: bool = False, paused: bool = False
    ) -> Result:
        """Change the configuration in a domain's managed save. virsh: ``managedsave-edit``.

        `function` is given it as a dict, secrets included, and changes it or returns another one; what may differ, and
        `running` and `paused`, as with `managedsave_define`. `ChangedMeanwhileError` if another program has changed
        it.
        """
        read = Command("managedsave-dumpxml", {"domain": domain, "security_info": True})
        how = {"domain": domain, "running": running, "paused": paused}
        return self._edit("domain", read, "managedsave-define", function, "xml", **how)

    def managedsave_remove(self, domain: str | int) -> Result:
        """Discard a domain's managed save, if it has one. virsh: ``managedsave-remove``."""
        return self._act("managedsave-remove", domain=domain)

    def save(
        self,
        domain: str | int,
        file: File,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.SaveOptions],
    ) -> Result:
        """Save a domain to a file on the hypervisor, and stop it. virsh: ``save``.

        ``xml=`` another configuration for its restoration, as with `managedsave_define`; ``running=True`` or
        ``paused=True`` says how it is restored, otherwise as it is now. ``bypass_cache=True`` keeps the file out of the
        host's page cache, `image_format` is its format, ``'sparse'`` for instance, which `parallel_channels`, a number
        of them, needs. A transient domain is then in this file only. `progress` and `cancel` as with `migrate`.
        """
        return self._act_long("save", Job(progress, cancel), domain=domain, file=file, **_with_documents(options))

    def restore(
        self,
        file: File,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.RestoreOptions],
    ) -> Result:
        """Have a domain go on from where it was saved. virsh: ``restore``.

        `file` is what `save` has written; ``xml=``, `running`, `paused`, `bypass_cache` and `parallel_channels` as
        there; ``reset_nvram=True`` resets its firmware's variables. Restore it once only: the disks go on, what was
        saved does not. libvirt does not tell how far it is: `progress` is called in the end, with 1.0.
        With `cancel`, or after the ``timeout`` control, the domain is destroyed before it goes on, which is libvirt's
        only way; it can be restored again. Errors as with `migrate`.
        """
        job = Job(progress, cancel)
        return self._act_long("restore", job, _whose(file, job), file=file, **_with_documents(options))

    @overload
    def save_conf(
        self, file: File, *, xpath: None = None, **options: Unpack[options.SaveImageDumpxmlOptions]
    ) -> Conf: ...
    @overload
    def save_conf(
        self, file: File, *, xpath: str, **options: Unpack[options.SaveImageDumpxmlOptions]
    ) -> list[Node]: ...
    def save_conf(
        self, file: File, *, xpath: str | None = None, **options: Unpack[options.SaveImageDumpxmlOptions]
    ) -> Conf | list[Node]:
        """The configuration of the domain in a file that `save` has written. virsh: ``save-image-dumpxml``.

        `xpath` and ``security_info=True`` as with `conf`.
        """
        return self._read("save-image-dumpxml", asked(xpath), file=file, **unwrapped(options))

    def save_define(self, file: File, xml: Document, **options: Unpack[options.SaveImageDefineOptions]) -> Result:
        """Replace the configuration in a file that `save` has written. virsh: ``save-image-define``.

        `xml` and options as with `managedsave_define`.
        """
        return self._act("save-image-define", file=file, xml=document("domain", xml), **options)

    def save_edit(self, file: File, function: Editor, *, running: bool = False, paused: bool = False) -> Result:
        """Change the configuration in a file that `save` has written. virsh: ``save-image-edit``.

        `function` and what it is given, and errors, as with `managedsave_edit`.
        """
        read = Command("save-image-dumpxml", {"file": file, "security_info": True})
        how = {"file": file, "running": running, "paused": paused}
        return self._edit("domain", read, "save-image-define", function, "xml", **how)

    def coredump(
        self,
        domain: str | int,
        file: File,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.DumpOptions],
    ) -> Result:
        """Write a domain's memory to a file on the hypervisor, for analysis. virsh: ``dump``.

        ``memory_only=True`` writes what debuggers read (ELF, or ``format='kdump-zlib'`` and others) instead of a saved
        state. The domain is paused meanwhile, unless ``live=True``; ``crash=True`` stops it afterwards, ``reset=True``
        resets it. ``bypass_cache=True`` keeps the file out of the host's page cache. `progress` and `cancel` as with
        `migrate`.
        """
        return self._act_long("dump", Job(progress, cancel), domain=domain, file=file, **options)

    # -- to another host

    def migrate(
        self,
        domain: str | int,
        desturi: str,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **options: Unpack[options.MigrateOptions],
    ) -> Result:
        """Move a domain to another hypervisor. virsh: ``migrate``.

        `desturi`: the URI of the other one, as this hypervisor's virsh reaches it (with ``p2p=True`` as its libvirtd
        does). ``live=True`` keeps the domain running meanwhile; ``persistent=True`` defines it there and
        ``undefinesource=True`` undefines it here; ``offline=True`` moves a definition only; ``suspend=True`` leaves it
        paused there; `dname` is its name there. ``xml=`` and ``persistent_xml=`` are other configurations for there, of
        which one at most is not a path. ``change_protection=True`` keeps its configuration from being changed
        meanwhile.

        Disks are taken to be shared. ``copy_storage_all=True`` copies them (files in no storage pool there have to be
        there before), ``copy_storage_inc=True`` what they have beyond backing files that are on both sides;
        ``migrate_disks='vda,vdb'``: only these; `migrate_disks_detect_zeroes` and `migrate_disks_target_zero`: such
        lists of disks whose zeros are left out, and whose copies are all zeros before;
        ``copy_storage_synchronous_writes=True`` has the guest's writes wait for the copy. ``unsafe=True`` migrates
        where the cache of a disk may cost data, ``abort_on_error=True`` gives up when a disk fails.

        If the memory changes faster than it is sent: after `timeout` seconds the domain is paused (`timeout_suspend`,
        the default) or, with ``timeout_postcopy=True``, goes on there without all of its memory. That needs
        ``postcopy=True``, and `migrate_postcopy` does it at any time, ``postcopy_after_precopy=True`` after one pass,
        ``postcopy_resume=True`` once more after a failure. ``auto_converge=True`` slows the guest down, by
        `auto_converge_initial` and then `auto_converge_increment` percent. ``compressed=True`` compresses, by
        ``comp_methods='xbzrle'`` (a cache of `comp_xbzrle_cache` bytes), ``'mt'`` (`comp_mt_level`, `comp_mt_threads`,
        `comp_mt_dthreads`), ``'zlib'`` (`comp_zlib_level`) or ``'zstd'`` (`comp_zstd_level`).

        How it gets there: `migrateuri` (where to, if not to the host of `desturi`), `listen_address`, `disks_port`,
        `disks_uri`, `graphicsuri`; ``tunnelled=True`` through the connection of the two libvirtds (with `p2p`),
        ``direct=True`` by the hypervisors alone; ``tls=True``, for the name `tls_destination`; ``parallel=True`` over
        `parallel_connections`, ``zerocopy=True``, ``rdma_pin_all=True``. `bandwidth`, `postcopy_bandwidth` and
        `available_switchover_bandwidth` (what QEMU is to count on for the last part) are as with `migrate_setspeed`.

        `progress` is called with how much is done, from 0.0 to 1.0, about twice a second; what it raises aborts the
        job. Once `cancel`, such as a `threading.Event`, is set, libvirt is told to abort the job: `CancelledError` when
        it has, and the domain goes on here; a job that was done before has succeeded. The ``timeout`` control aborts
        the job in the same way (`CommandTimeoutError`; its `outcome_unknown` is True if libvirt may still do it). If
        this one still waits for another client's job, that job is not aborted: virsh is ended, and the error says that
        the outcome is unknown.
        """
        return self._act_long(
            "migrate", Job(progress, cancel), domain=domain, desturi=desturi, **_with_documents(options)
        )

    @overload
    def migrate_compcache(self, domain: str | int) -> Quantity: ...
    @overload
    def migrate_compcache(self, domain: str | int, size: int | str) -> Result: ...
    def migrate_compcache(self, domain: str | int, size: int | str | None = None) -> Quantity | Result:
        """Read or set the size of the cache that ``compressed=True`` migrations use. virsh: ``migrate-compcache``.

        `size` and what is returned in bytes; QEMU takes powers of two. Text may have a unit: ``'64 MiB'``.
        """
        return self._set_or_read("migrate-compcache", _cache_size, {"size": size}, domain=domain)

    def migrate_getmaxdowntime(self, domain: str | int) -> Quantity:
        """How long a domain may stand still at the end of a live migration. virsh: ``migrate-getmaxdowntime``.

        In nanoseconds, as an int; ``str()`` of it is in milliseconds: ``'300 ms'``.
        """
        return self._read("migrate-getmaxdowntime", _measured("ms"), domain=domain)

    def migrate_setmaxdowntime(self, domain: str | int, downtime: int | str) -> Result:
        """Set how long a domain may stand still at the end of a live migration. virsh: ``migrate-setmaxdowntime``.

        `downtime` in milliseconds, or with a unit: a text (``'1.5 s'``) or what `migrate_getmaxdowntime` returns.
        """
        return self._act("migrate-setmaxdowntime", domain=domain, downtime=downtime)

    def migrate_getspeed(self, domain: str | int, **options: Unpack[options.MigrateGetspeedOptions]) -> Quantity:
        """The most that migrations of a domain transfer. virsh: ``migrate-getspeed``.

        In bytes a second, as an int; ``str()`` of it is in MiB: ``'100 MiB/s'``. ``postcopy=True``: in their second
        phase (0: no limit).
        """
        return self._read("migrate-getspeed", _measured("MiB/s"), domain=domain, **options)

    def migrate_setspeed(
        self, domain: str | int, bandwidth: int | str, **options: Unpack[options.MigrateSetspeedOptions]
    ) -> Result:
        """Set the most that migrations of a domain transfer. virsh: ``migrate-setspeed``.

        `bandwidth` in bytes a second, as `migrate_getspeed` gives it, or with a unit (``'1 GiB/s'``); a whole number of
        MiB. ``postcopy=True``: in their second phase.
        """
        return self._act("migrate-setspeed", domain=domain, bandwidth=bandwidth, **options)

    def migrate_postcopy(self, domain: str | int) -> Result:
        """Have a domain under migration go on there, and its memory follow. virsh: ``migrate-postcopy``.

        The migration must have been started with ``postcopy=True``.
        """
        return self._act("migrate-postcopy", domain=domain)

    # -- jobs: all that takes a while

    def jobabort(self, domain: str | int, **options: Unpack[options.DomjobabortOptions]) -> Result:
        """Abort what is being done to a domain: its save, dump, migration, ... virsh: ``domjobabort``.

        ``postcopy=True`` also interrupts a migration in its second phase, which leaves the domain paused until that is
        resumed. `InvalidStateError` if there is no job.
        """
        return self._act("domjobabort", domain=domain, **options)

    def jobinfo(self, domain: str | int, **options: Unpack[options.DomjobinfoOptions]) -> JobInfo | None:
        """How far what is being done to a domain is, see `JobInfo`; None if there is nothing. virsh: ``domjobinfo``.

        ``{'type': 'bounded', 'operation': 'outgoing migration', 'time_elapsed': ..., 'data_total': ...,
        'data_processed': ..., 'data_remaining': ..., ...}``, times in nanoseconds, amounts in bytes.
        ``completed=True``: of its last job, which is then forgotten, unless ``keep_completed=True``; a job that has
        failed has figures, too. ``anystats`` and ``rawstats`` make no difference.
        """
        exact = {**options, "anystats": None, "rawstats": True}
        return self._read("domjobinfo", _job, domain=domain, **exact)

    # -- to and from other forms

    def xml_from_native(self, format: str, config: File | bytes) -> Conf:
        """The configuration that a hypervisor's own form of one stands for. virsh: ``domxml-from-native``.

        `format` is ``'lxc-tools'``, ``'vmware-vmx'``, ``'xen-xl'``, ... as the driver knows them; `config` the path of
        a file on the hypervisor, or, as bytes, what would be in it.
        """
        return self._read("domxml-from-native", conf, format=format, config=config)

    @overload
    def xml_to_native(self, format: str, *, domain: str | int) -> str: ...
    @overload
    def xml_to_native(self, format: str, *, xml: Document) -> str: ...
    def xml_to_native(self, format: str, **which: str | int | Document) -> str:
        """A configuration in a hypervisor's own form, as text. virsh: ``domxml-to-native``.

        Give the `domain`, or its configuration as `xml`, as with `define`. ``'qemu-argv'`` is the command line of QEMU.
        """
        return self._read("domxml-to-native", _whole, format=format, **_with_documents(which))

    def qemu_attach(self, pid: int) -> Result:
        """Take over a QEMU that runs already, by the id of its process. virsh: ``qemu-attach``.

        libvirt from 5.5 on has no longer any driver that can.
        """
        return self._act("qemu-attach", pid=pid)


def _whose(file: File, job: Job) -> Plan[None]:
    """Tell a job which domain it restores from a file, so that it can be aborted; not one that is there already."""
    (result,) = yield Lookup((Command("save-image-dumpxml", {"file": file}),))
    if result.status:  # otherwise the job will fail, and say why
        domain = root(result.stdout).findtext("uuid")
        (state,) = yield Lookup((Command("domstate", {"domain": domain}),))
        if not state.status or state.stdout.strip() == "shut off":
            job.domain = domain


def _with_documents(options: Mapping[str, object]) -> dict[str, object]:
    """`options`, with the documents among them as virsh takes them."""
    documents = {
        name: document("domain", options[name])  # type: ignore[arg-type]
        for name in ("xml", "persistent_xml")
        if options.get(name) is not None
    }
    return {**options, **documents}


def _measured(unit: str) -> Callable[[str], Quantity]:
    """A reader of a number of a `unit`."""
    return lambda output: Quantity(f"{text.number(output)} {unit}")


class _CompressionCache(TypedDict):
    compression_cache: Quantity


def _cache_size(output: str) -> Quantity:
    return text.fields(_CompressionCache)(output)["compression_cache"]


def _whole(output: str) -> str:
    return output.rstrip("\n")


# as libvirt numbers them
_TYPES = ("none", "bounded", "unbounded", "completed", "failed", "cancelled")

_RAW = re.compile(r"^(\w+): (.*(?:\n(?!\w+: ).*)*)", re.MULTILINE)
_MILLISECONDS = re.compile(r"time_.*|downtime.*|setup_time")


def _job(output: str) -> JobInfo | None:
    """The job in libvirt's own figures."""
    heading, _, rest = output.partition("\n")
    if not (found := re.fullmatch(r"Job type: ([0-9]+)", heading)):
        raise UnreadableOutputError(f"virsh printed no type of a job: {output!r}")
    if (kind := int(found[1])) == 0:
        return None
    raw = {"type": _named(_TYPES, str(kind)), **dict(_RAW.findall(rest.strip("\n")))}
    for name, figure in raw.items():
        if _MILLISECONDS.fullmatch(name):
            raw[name] = f"{figure} ms"
    if "operation" in raw:
        raw["operation"] = _named(OPERATIONS, raw["operation"])
    if "success" in raw:
        raw["success"] = _named(("no", "yes"), raw["success"])
    return text.typed(JobInfo, raw)


def _named(names: Sequence[str], number: str) -> str:
    """The name of a number, or, of one that a newer libvirt has, the number."""
    return names[int(number)] if number in map(str, range(len(names))) else number
