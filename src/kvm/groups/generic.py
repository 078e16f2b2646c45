"""The hypervisor itself: its hardware, its versions, what it can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, Unpack, overload

from kvm import text, units, xml
from kvm.errors import InvalidArgumentError
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.command import Command
from kvm.virsh.plan import answering
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options


class NodeInfo(TypedDict):
    """The node's hardware. `cpu_frequency` in Hz (not there if the node does not tell), `memory_size` in bytes."""

    cpu_model: str
    cpus: int
    cpu_frequency: NotRequired[Quantity]
    cpu_sockets: int
    cores_per_socket: int
    threads_per_core: int
    numa_cells: int
    memory_size: Quantity


class NodeCpuMap(TypedDict):
    """How many CPUs there are, how many of them are online, and which."""

    cpus_present: int
    cpus_online: int
    cpu_map: list[int]


class NodeCpuStats(TypedDict, total=False):
    """Nanoseconds that CPUs spent since the node started; `intr` and `guest` only where the hypervisor tells."""

    user: int
    system: int
    idle: int
    iowait: int
    intr: int
    guest: int


class NodeCpuPercent(TypedDict, total=False):
    """How CPUs spent one second, in percent; None where virsh has no figure."""

    usage: float | None
    user: float | None
    system: float | None
    idle: float | None
    iowait: float | None
    intr: float | None
    guest: float | None


class NodeMemStats(TypedDict, total=False):
    """The node's memory in bytes; for one NUMA cell only `total` and `free`."""

    total: Quantity
    free: Quantity
    buffers: Quantity
    cached: Quantity


class NodeMemoryTune(TypedDict, total=False):
    """The parameters and counters of KSM, the kernel's sharing of equal pages; those that the node has."""

    shm_pages_to_scan: int
    shm_sleep_millisecs: int
    shm_merge_across_nodes: int
    shm_pages_shared: int
    shm_pages_sharing: int
    shm_pages_unshared: int
    shm_pages_volatile: int
    shm_full_scans: int


class NodeSevInfo(TypedDict):
    """What the node's AMD SEV offers."""

    pdh: str
    cert_chain: str
    cpu0_id: NotRequired[str]
    cbitpos: int
    reduced_phys_bits: int
    max_guests: NotRequired[int]
    max_es_guests: NotRequired[int]


class Version(TypedDict):
    """Names and releases, such as ``'libvirt 9.0.0'`` and ``'QEMU 7.2.22'``."""

    compiled_against_library: str
    using_library: str
    using_api: str
    running_hypervisor: NotRequired[str]
    running_against_daemon: NotRequired[str]


Comparison = Literal["identical", "superset", "incompatible"]

_COMPARISONS: dict[Comparison, str] = {
    "identical": r"CPU described in .* is identical to (host CPU|the CPU provided by hypervisor on the host)",
    "superset": r"(Host CPU|The CPU provided by hypervisor on the host) is a superset of CPU described in .*",
    "incompatible": r"CPU described in .* is incompatible with (host CPU|the CPU provided by hypervisor on the host)",
}


class Generic(Group):
    """The hypervisor itself: its hardware, its versions, what it can run."""

    def allocpages(self, pagesize: int | str, pagecount: int, **options: Unpack[options.AllocpagesOptions]) -> Result:
        """Set the size of a pool of huge pages. virsh: ``allocpages``.

        `pagesize` in bytes, or with a unit (``'2 MiB'``); `pagecount` pages. ``cellno=0`` for one NUMA cell,
        ``all=True`` for each; ``add=True`` adds the pages to the pool instead of setting its size.
        """
        return self._act("allocpages", pagesize=pagesize, pagecount=pagecount, **options)

    @overload
    def capabilities(self, *, xpath: None = None, **options: Unpack[options.CapabilitiesOptions]) -> xml.Conf: ...
    @overload
    def capabilities(self, *, xpath: str, **options: Unpack[options.CapabilitiesOptions]) -> list[xml.Node]: ...
    def capabilities(
        self, *, xpath: str | None = None, **options: Unpack[options.CapabilitiesOptions]
    ) -> xml.Conf | list[xml.Node]:
        """What the host is and which guests it can run, as a dict. virsh: ``capabilities``.

        The keys are those of libvirt's XML: ``host`` (CPU, topology, ...) and ``guest`` (kinds of guests). With
        ``xpath='//host/cpu'`` a list of what it finds: a dict for an element, the text of texts and attributes.
        """
        return self._read("capabilities", xml.asked(xpath), **xml.unwrapped(options))

    def cpu_baseline(
        self, file: xml.Document | Sequence[xml.Document], **options: Unpack[options.CpuBaselineOptions]
    ) -> xml.Conf:
        """The CPU that all of the given CPUs are able to be. virsh: ``cpu-baseline``.

        `file`: one or several CPUs, as dicts of ``<cpu>``, XML or elements, or the path of a file with them; whole
        capabilities or domains count for the CPUs in them. ``features=True`` lists the features that belong to the
        model, ``migratable=True`` leaves out those that block migration.
        """
        return self._read("cpu-baseline", xml.conf, file=xml.documents("cpu", file), **options)

    def cpu_compare(self, file: xml.Document, **options: Unpack[options.CpuCompareOptions]) -> Comparison:
        """How the host's CPU relates to the one given. virsh: ``cpu-compare``.

        `file`: a CPU as a dict of ``<cpu>``, XML, an element or a path. Returns ``'identical'``, ``'superset'`` (the
        host's CPU can do all that the other can) or ``'incompatible'``; with ``error=True`` the last one raises, and
        says what is missing. ``validate=True`` checks `file` against libvirt's schema.
        """
        return self._compare("cpu-compare", file=xml.document("cpu", file, validate=False), **options)

    def cpu_models(self, arch: str) -> list[str]:
        """The names of the CPU models that libvirt knows for an architecture. virsh: ``cpu-models``.

        Empty if it accepts any.
        """
        return self._read("cpu-models", _models, arch=arch)

    @overload
    def domcapabilities(
        self, *args: str | None, xpath: None = None, **options: Unpack[options.DomcapabilitiesOptions]
    ) -> xml.Conf: ...
    @overload
    def domcapabilities(
        self, *args: str | None, xpath: str, **options: Unpack[options.DomcapabilitiesOptions]
    ) -> list[xml.Node]: ...
    def domcapabilities(
        self, *args: str | None, xpath: str | None = None, **options: Unpack[options.DomcapabilitiesOptions]
    ) -> xml.Conf | list[xml.Node]:
        """What a guest of one kind can have on this hypervisor, as a dict. virsh: ``domcapabilities``.

        `args` in virsh's order: the type (``'kvm'``), the path of the emulator, the architecture (``'x86_64'``), the
        machine (``'q35'``); each may be None, left out or given by name (`virttype`, `emulatorbin`, `arch`, `machine`).
        ``expand_cpu_features=True`` lists the features that belong to the host's CPU model,
        ``disable_deprecated_features=True`` switches the deprecated ones off in it, ``supported_cpu_features=True``
        lists those that the hypervisor supports. `xpath` as with `capabilities`.
        """
        given = _in_order("domcapabilities", ("virttype", "emulatorbin", "arch", "machine"), args, options)
        return self._read("domcapabilities", xml.asked(xpath), **xml.unwrapped(given))

    def freecell(self, **kwargs: Unpack[options.FreecellOptions]) -> dict[str, Quantity]:
        """The free memory of the node, in bytes. virsh: ``freecell``.

        ``{'total': ...}`` for the node, ``{'0': ...}`` with ``cellno=0`` for one NUMA cell, and both, each cell by
        its number, with ``all=True``.
        """
        return self._read("freecell", text.quantities, **kwargs)

    def freepages(self, **options: Unpack[options.FreepagesOptions]) -> dict[int, dict[int, int]]:
        """How many memory pages are free, by NUMA cell and page size. virsh: ``freepages``.

        ``{0: {4096: 915868, 2097152: 0}}``: in cell 0, that many of 4096 bytes. Give ``all=True`` (with `pagesize`
        for one size only), or both ``cellno=0`` and `pagesize` (in bytes, or with a unit: ``'2 MiB'``).
        """
        return self._read("freepages", text.pages(options.get("cellno")), **options)

    def hostname(self) -> str:
        """The name of the host. virsh: ``hostname``."""
        return self._read("hostname", text.line)

    def hypervisor_cpu_baseline(
        self,
        file: xml.Document | Sequence[xml.Document] | None = None,
        **options: Unpack[options.HypervisorCpuBaselineOptions],
    ) -> xml.Conf:
        """The CPU that all of the given CPUs are able to be, under one hypervisor. virsh: ``hypervisor-cpu-baseline``.

        `file`, `features` and `migratable` as with `cpu_baseline`, or ``model='Haswell'`` for just a model; which
        hypervisor: `virttype`, `emulator`, `arch`, `machine`. ``ignore_host=True`` leaves out of account what the
        hypervisor can do on this host.
        """
        cpus = None if file is None else xml.documents("cpu", file)
        return self._read("hypervisor-cpu-baseline", xml.conf, file=cpus, **options)

    def hypervisor_cpu_compare(
        self, file: xml.Document, **options: Unpack[options.HypervisorCpuCompareOptions]
    ) -> Comparison:
        """How the CPU that a hypervisor offers relates to the one given. virsh: ``hypervisor-cpu-compare``.

        As `cpu_compare`; which hypervisor: `virttype`, `emulator`, `arch`, `machine`.
        """
        return self._compare("hypervisor-cpu-compare", file=xml.document("cpu", file, validate=False), **options)

    def hypervisor_cpu_models(self, **options: Unpack[options.HypervisorCpuModelsOptions]) -> list[str]:
        """The names of the CPU models that a hypervisor can run here. virsh: ``hypervisor-cpu-models``.

        Which hypervisor: `virttype`, `emulator`, `arch`, `machine`. ``all=True``: also those that this host cannot
        run. Needs virsh 11.
        """
        return self._read("hypervisor-cpu-models", text.lines, **options)

    def maxvcpus(self, **options: Unpack[options.MaxvcpusOptions]) -> int:
        """The most virtual CPUs that a guest can have, one of ``type='kvm'`` for instance. virsh: ``maxvcpus``."""
        return self._read("maxvcpus", text.number, **options)

    @overload
    def node_memory_tune(self) -> NodeMemoryTune: ...
    @overload
    def node_memory_tune(
        self, *args: int | None, **options: Unpack[options.NodeMemoryTuneOptions]
    ) -> NodeMemoryTune | Result: ...
    def node_memory_tune(
        self, *args: int | None, **options: Unpack[options.NodeMemoryTuneOptions]
    ) -> NodeMemoryTune | Result:
        """Read or set the parameters of KSM, the kernel's sharing of equal pages. virsh: ``node-memory-tune``.

        Without values, the current ones: ``{'shm_pages_to_scan': 100, 'shm_sleep_millisecs': 20,
        'shm_merge_across_nodes': 1, 'shm_pages_shared': 0, ...}``, those that the host has. With up to three values,
        set the first three of these: how many pages to scan before the service sleeps, how many milliseconds it sleeps,
        and whether pages of different NUMA nodes may be merged (1) or not (0); or by their names,
        ``shm_sleep_millisecs=20``. None leaves one as it is.
        """
        names = ("shm_pages_to_scan", "shm_sleep_millisecs", "shm_merge_across_nodes")
        values = _in_order("node_memory_tune", names, args, options)
        return self._set_or_read("node-memory-tune", text.settings(NodeMemoryTune), values)

    def nodecpumap(self, **options: Unpack[options.NodecpumapOptions]) -> NodeCpuMap:
        """How many CPUs the host has, how many are online, and which. virsh: ``nodecpumap``.

        ``{'cpus_present': 8, 'cpus_online': 3, 'cpu_map': [0, 2, 4]}``; ``pretty=True`` makes no difference.
        """
        return self._read("nodecpumap", text.fields(NodeCpuMap), **options)

    @overload
    def nodecpustats(self, cpu: int | str = "*", percent: Literal[False] = False) -> NodeCpuStats: ...
    @overload
    def nodecpustats(self, cpu: int | str = "*", *, percent: Literal[True]) -> NodeCpuPercent: ...
    @overload
    def nodecpustats(self, cpu: int | str, percent: Literal[True]) -> NodeCpuPercent: ...
    @overload
    def nodecpustats(self, cpu: int | str = "*", percent: bool = False) -> NodeCpuStats | NodeCpuPercent: ...
    def nodecpustats(self, cpu: int | str = "*", percent: bool = False) -> NodeCpuStats | NodeCpuPercent:
        """What the host's CPUs spent their time on. virsh: ``nodecpustats``.

        ``{'user': ..., 'system': ..., 'idle': ..., 'iowait': ...}`` of one CPU, by its number `cpu`, or with ``'*'`` of
        all. Nanoseconds since the start of the host, or, with `percent`, percentages (floats) of the second that the
        call then takes, with their sum of all but idle as ``usage``.
        """
        number = None if cpu == "*" else cpu
        if percent:
            return self._read("nodecpustats", text.fields(NodeCpuPercent), cpu=number, percent=True)
        return self._read("nodecpustats", text.fields(NodeCpuStats), cpu=number)

    def nodeinfo(self) -> NodeInfo:
        """The host's CPUs and memory. virsh: ``nodeinfo``.

        ``{'cpu_model': 'x86_64', 'cpus': 16, 'cpu_frequency': ..., 'cpu_sockets': 1, 'cores_per_socket': 8,
        'threads_per_core': 2, 'numa_cells': 1, 'memory_size': ...}``: ``memory_size`` in bytes, ``cpu_frequency`` in Hz
        (not there if the host does not tell). The sockets are those of one NUMA cell.
        """
        return self._read("nodeinfo", text.fields(NodeInfo))

    def nodememstats(self, cell: int | str = "*") -> NodeMemStats:
        """The host's memory, in bytes. virsh: ``nodememstats``.

        ``{'total': ..., 'free': ..., 'buffers': ..., 'cached': ...}`` of the host, or with the number `cell` of one
        NUMA cell ``total`` and ``free`` of that.
        """
        number = None if cell == "*" else cell
        return self._read("nodememstats", text.fields(NodeMemStats), cell=number)

    def nodesevinfo(self) -> NodeSevInfo:
        """What the host's AMD SEV offers. virsh: ``nodesevinfo``.

        ``{'pdh': ..., 'cert_chain': ..., 'cbitpos': 47, 'reduced_phys_bits': 1, 'max_guests': 15, ...}``.
        `NotSupportedError` where there is no SEV.
        """
        return self._read("nodesevinfo", text.fields(NodeSevInfo))

    def nodesuspend(self, target: Literal["mem", "disk", "hybrid"], duration: int) -> Result:
        """Put the node to sleep and have its clock wake it. virsh: ``nodesuspend``.

        `target`: suspend to ``'mem'``, to ``'disk'``, or to both (``'hybrid'``); `duration` in seconds, or with a unit;
        at least 60 s.
        """
        # what is wrong here is found only when the machine is already about to sleep, so it is looked for before
        if target not in ("mem", "disk", "hybrid"):
            raise InvalidArgumentError(f"nodesuspend: the target is 'mem', 'disk' or 'hybrid', not {target!r}")
        seconds = units.converted("nodesuspend: the duration", duration, "s")
        if seconds < 60:
            raise InvalidArgumentError(f"nodesuspend: the duration must be at least 60 seconds, not {duration!r}")
        return self._act("nodesuspend", target=target, duration=seconds)

    def sysinfo(self) -> dict[str, xml.Node]:
        """What the host's firmware says of it, by section. virsh: ``sysinfo``.

        ``{'type': 'smbios', 'bios': {'vendor': ...}, 'processor': [{...}], ...}``; the sections that there can be
        several of (``baseBoard``, ``processor``, ``memory_device``) are lists.
        """
        return self._read("sysinfo", xml.sysinfo)

    def uri(self) -> str:
        """The URI of the connection. virsh: ``uri``."""
        return self._read("uri", text.line)

    def version(self, **options: Unpack[options.VersionOptions]) -> Version:
        """The releases of the library, the API and the hypervisor, with ``daemon=True`` also of the daemon.

        ``{'compiled_against_library': 'libvirt 9.0.0', 'using_library': ..., 'using_api': 'QEMU 9.0.0',
        'running_hypervisor': 'QEMU 7.2.22', 'running_against_daemon': '9.0.0'}``. virsh: ``version``.
        """
        return self._read("version", text.fields(Version), **options)

    def _compare(self, command: str, **options: object) -> Comparison:
        return self._caller.call(answering(Command(command, options), text.one_of(_COMPARISONS)))


def _models(output: str) -> list[str]:
    found = text.lines(output)
    return [] if found == ["all CPU models are accepted"] else found


def _in_order(
    method: str, names: Sequence[str], args: Sequence[object], options: Mapping[str, object]
) -> dict[str, object]:
    """`options`, and `args` under the `names` that their places have; None is none."""
    if len(args) > len(names):
        raise TypeError(f"{method}() takes at most {len(names)} values ({', '.join(names)}), not {len(args)}")
    given = {name: value for name, value in zip(names, args, strict=False) if value is not None}
    if twice := given.keys() & options.keys():
        raise TypeError(f"{method}() got {', '.join(sorted(twice))} twice, by place and by name")
    return {**given, **options}
