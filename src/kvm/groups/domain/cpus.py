"""A domain's CPUs: how many, which of the host's they may run on, and what they have used. And its I/O threads, which
run on the host's CPUs beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NotRequired, TypeAlias, TypedDict, Unpack, overload

from kvm import table, text
from kvm.errors import UnreadableOutputError
from kvm.groups.domain.affected import Affected
from kvm.groups.group import Group
from kvm.values import Quantity
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options

Numbers: TypeAlias = "str | Iterable[int]"
"""Numbers of CPUs (or NUMA nodes): ``[0, 1, 3]``, or as virsh has them: ``'0-3,^2'``."""


class CpuTimes(TypedDict, total=False):
    """Nanoseconds that a domain has used of one of the host's CPUs: all of it, and its virtual CPUs alone."""

    cpu: int
    cpu_time: Quantity
    vcpu_time: Quantity


class TotalCpuTimes(TypedDict, total=False):
    """Nanoseconds that a domain has used of all of the host's CPUs."""

    cpu_time: Quantity
    user_time: Quantity
    system_time: Quantity


class CpuStats(TypedDict, total=False):
    """What a domain has used of the host's CPUs. What was not asked for is not there."""

    cpus: list[CpuTimes]
    total: TotalCpuTimes


class VcpuFigures(TypedDict):
    """A number of virtual CPUs: of the running domain (`live`), and of its next start (`config`)."""

    config: NotRequired[int]
    live: NotRequired[int]


class VcpuCount(TypedDict):
    """How many virtual CPUs a domain may have and has; no `live` if it does not run, no `config` if it is transient."""

    maximum: VcpuFigures
    current: VcpuFigures


class VcpuInfo(TypedDict):
    """A virtual CPU: the host's CPU that it is on, its state, and the host's CPUs that it may be on.

    `cpu_time` in nanoseconds, to a tenth of a second; None if there is none. `cpu` and `state` are None for a domain
    that does not run.
    """

    vcpu: int
    cpu: int | None
    state: str | None
    cpu_time: Quantity | None
    cpu_affinity: list[int]


class GuestVcpus(TypedDict):
    """A guest's CPUs as its agent sees them: all, those that it uses, and those that it could stop using."""

    vcpus: list[int]
    online: list[int]
    offlinable: list[int]


class Cpus(Group):
    """A domain's CPUs and I/O threads, and their places on the host's CPUs."""

    def cpustats(self, domain: str | int, **options: Unpack[options.CpuStatsOptions]) -> CpuStats:
        """What a running domain has used of the host's CPUs, in nanoseconds. virsh: ``cpu-stats``.

        ``{'cpus': [{'cpu': 0, 'cpu_time': ..., 'vcpu_time': ...}, ...], 'total': {'cpu_time': ..., 'user_time': ...,
        'system_time': ...}}``. ``total=True`` gives the total alone, which is all that hosts with version 2 of cgroups
        have; ``start=1`` and ``count=2`` only these CPUs, without the total.
        """
        return self._read("cpu-stats", _cpu_stats, domain=domain, **options)

    @overload
    def emulatorpin(self, domain: str | int, cpulist: None = None, **options: Unpack[Affected]) -> list[int]: ...
    @overload
    def emulatorpin(self, domain: str | int, cpulist: Numbers, **options: Unpack[Affected]) -> Result: ...
    def emulatorpin(
        self, domain: str | int, cpulist: Numbers | None = None, **options: Unpack[Affected]
    ) -> list[int] | Result:
        """The host's CPUs that a domain's emulator may run on; with `cpulist`, set them. virsh: ``emulatorpin``.

        `cpulist`: ``[0, 1, 3]`` or ``'0-3,^2'``; ``'r'`` for all. Setting is about the running domain, if nothing else
        is said.
        """
        return self._set_or_read("emulatorpin", _emulator_pins, {"cpulist": numbers(cpulist)}, domain=domain, **options)

    @overload
    def guestvcpus(self, domain: str | int) -> GuestVcpus: ...
    @overload
    def guestvcpus(self, domain: str | int, cpulist: Numbers, *, enable: Literal[True]) -> Result: ...
    @overload
    def guestvcpus(self, domain: str | int, cpulist: Numbers, *, disable: Literal[True]) -> Result: ...
    def guestvcpus(
        self, domain: str | int, cpulist: Numbers | None = None, *, enable: bool = False, disable: bool = False
    ) -> GuestVcpus | Result:
        """The virtual CPUs that a guest uses, as its agent says, or switch some on or off in it. virsh: ``guestvcpus``.

        ``{'vcpus': [0, 1], 'online': [0, 1], 'offlinable': [1]}``. With `cpulist` (``[1]`` or ``'1-3'``) and
        ``enable=True`` or ``disable=True`` the guest begins or stops to use these. `AgentError` without a guest agent.
        """
        given = {"cpulist": numbers(cpulist), "enable": enable or None, "disable": disable or None}
        return self._set_or_read("guestvcpus", text.fields(GuestVcpus), given, domain=domain)

    def iothreadadd(self, domain: str | int, id: int, **options: Unpack[Affected]) -> Result:
        """Add an I/O thread with the number `id`. virsh: ``iothreadadd``."""
        return self._act("iothreadadd", domain=domain, id=id, **options)

    def iothreaddel(self, domain: str | int, id: int, **options: Unpack[Affected]) -> Result:
        """Remove the I/O thread with the number `id`; no disk may use it. virsh: ``iothreaddel``."""
        return self._act("iothreaddel", domain=domain, id=id, **options)

    def iothreadinfo(self, domain: str | int, **options: Unpack[Affected]) -> dict[int, list[int]]:
        """The host's CPUs that each I/O thread may run on, by the thread's number. virsh: ``iothreadinfo``."""
        return self._read("iothreadinfo", _iothread_pins, domain=domain, **options)

    def iothreadpin(self, domain: str | int, iothread: int, cpulist: Numbers, **options: Unpack[Affected]) -> Result:
        """Set the host's CPUs that an I/O thread may run on; `iothreadinfo` tells them. virsh: ``iothreadpin``.

        `cpulist`: ``[0, 1, 3]`` or ``'0-3,^2'``; ``'r'`` for all.
        """
        return self._act("iothreadpin", domain=domain, iothread=iothread, cpulist=numbers(cpulist), **options)

    def iothreadset(self, domain: str | int, id: int, **options: Unpack[options.IothreadsetOptions]) -> Result:
        """Change how the I/O thread with the number `id` polls. virsh: ``iothreadset``.

        `poll_max_ns` is the longest time in nanoseconds (0: it does not poll), `poll_grow` and `poll_shrink` the
        factors by which the time gets longer and shorter (0: QEMU's own), and `poll_weight` how much the last interval
        counts (virsh 12.8). `thread_pool_min` and `thread_pool_max` bound its pool of workers (virsh 9). Where: `live`,
        `current`, `config`.
        """
        return self._act("iothreadset", domain=domain, id=id, **options)

    def setvcpu(self, domain: str | int, vcpulist: Numbers, **options: Unpack[options.SetvcpuOptions]) -> Result:
        """Plug or unplug single virtual CPUs: ``enable=True`` or ``disable=True``. virsh: ``setvcpu``.

        `vcpulist`: ``[1, 2]`` or ``'1-2'``. ``async_=True`` and an error as with `setvcpus`.
        """
        return self._act("setvcpu", domain=domain, vcpulist=numbers(vcpulist), **options)

    def setvcpus(self, domain: str | int, count: int, **options: Unpack[options.SetvcpusOptions]) -> Result:
        """Set how many virtual CPUs a domain has; not more than its maximum. virsh: ``setvcpus``.

        It is about the running domain, if nothing else is said. ``maximum=True, config=True`` sets the maximum;
        ``guest=True`` has the guest's agent use that many of them; ``hotpluggable=True`` has those that are added be
        such as can be unplugged. ``async_=True`` does not wait until the guest has released CPUs that are removed;
        otherwise libvirt waits five seconds. `CommandTimeoutError`, whose `outcome_unknown` is True, if the guest has
        not released them by then: it still may, and `vcpucount` reports it.
        """
        return self._act("setvcpus", domain=domain, count=count, **options)

    @overload
    def vcpucount(self, domain: str | int) -> VcpuCount: ...
    @overload
    def vcpucount(self, domain: str | int, **options: Unpack[options.VcpucountOptions]) -> int: ...
    def vcpucount(self, domain: str | int, **options: Unpack[options.VcpucountOptions]) -> VcpuCount | int:
        """How many virtual CPUs a domain may have and has. virsh: ``vcpucount``.

        ``{'maximum': {'config': 4, 'live': 4}, 'current': {'config': 4, 'live': 2}}``, or one of these, an int:
        ``maximum=True`` or ``active=True``, of `live`, `config` or `current`. ``guest=True``: as the guest's agent
        says.
        """
        return self._read("vcpucount", _vcpu_count, domain=domain, **options)

    def vcpuinfo(self, domain: str | int, **options: Unpack[options.VcpuinfoOptions]) -> list[VcpuInfo]:
        """A domain's virtual CPUs, see `VcpuInfo`. virsh: ``vcpuinfo``.

        ``[{'vcpu': 0, 'cpu': 5, 'state': 'running', 'cpu_time': ..., 'cpu_affinity': [0, 1, 2, 3]}]``: the host's CPU
        that it is on (None if the domain does not run), nanoseconds, and the host's CPUs that it may be on.
        """
        return self._read("vcpuinfo", _vcpus, domain=domain, **{**options, "pretty": None})

    @overload
    def vcpupin(
        self, domain: str | int, vcpu: int | None = None, cpulist: None = None, **options: Unpack[Affected]
    ) -> dict[int, list[int]]: ...
    @overload
    def vcpupin(self, domain: str | int, vcpu: int, cpulist: Numbers, **options: Unpack[Affected]) -> Result: ...
    def vcpupin(
        self,
        domain: str | int,
        vcpu: int | None = None,
        cpulist: Numbers | None = None,
        **options: Unpack[Affected],
    ) -> dict[int, list[int]] | Result:
        """The host's CPUs that virtual CPUs may run on; with `cpulist`, set them for one. virsh: ``vcpupin``.

        ``{0: [0, 1], 1: [2, 3]}``, of all or of one `vcpu`. `cpulist`: ``[0, 1, 3]`` or ``'0-3,^2'``; ``'r'`` for all.
        Setting is about the running domain, if nothing else is said.
        """
        return self._set_or_read("vcpupin", _pins, {"cpulist": numbers(cpulist)}, domain=domain, vcpu=vcpu, **options)


def numbers(given: Numbers | None) -> str | None:
    """Numbers of CPUs as virsh takes them."""
    return given if given is None or isinstance(given, str) else ",".join(map(str, given))


class _Pin(TypedDict):
    cpu_affinity: list[int]


def _cpus(raw: str) -> list[int]:
    return text.typed(_Pin, {"cpu_affinity": raw})["cpu_affinity"]


def _pins(output: str) -> dict[int, list[int]]:
    """The CPUs in a table by the number in its first column."""
    if "CPU Affinity" not in output.partition("\n")[0]:  # virsh says nothing when it cannot get them
        raise UnreadableOutputError(f"virsh printed no table of CPUs: {output!r}")
    pins = {text.number(next(iter(row.values()))): _cpus(row["cpu_affinity"]) for row in table.rows(output)}
    return dict(sorted(pins.items()))


def _iothread_pins(output: str) -> dict[int, list[int]]:
    return {} if output.startswith("No IOThreads found") else _pins(output)


def _emulator_pins(output: str) -> list[int]:
    *_, last = text.lines(output) or [""]
    mark, _, cpus = last.partition(":")
    if mark.strip() != "*":
        raise UnreadableOutputError(f"virsh printed no CPUs of an emulator: {output!r}")
    return _cpus(cpus)


def _vcpu_count(output: str) -> VcpuCount | int:
    if len(rows := [row.split() for row in text.lines(output)]) == 1 and len(rows[0]) == 1:
        return text.number(output)
    figures: dict[str, dict[str, str]] = {"maximum": {}, "current": {}}
    for row in rows:
        if len(row) != 3 or row[0] not in figures:
            raise UnreadableOutputError(f"expected numbers of virtual CPUs, not {output!r}")
        figures[row[0]][row[1]] = row[2]
    maximum, current = (text.typed(VcpuFigures, figures[name]) for name in ("maximum", "current"))
    return {"maximum": maximum, "current": current}


_LABELLED = re.compile(r"(.+?)(?:: *|  +)(.*)")
"""A line of `vcpuinfo`; one of its labels lacks the colon."""


def _vcpus(output: str) -> list[VcpuInfo]:
    vcpus = []
    for block in output.strip("\n").split("\n\n"):
        found = [_LABELLED.fullmatch(line) for line in block.split("\n")]
        raw = {text.key(line[1]): _none_for_not_there(line[2]) for line in found if line}
        vcpus.append(text.typed(VcpuInfo, {"cpu_time": "-", **raw}))
    return vcpus


def _none_for_not_there(raw: str) -> str:
    """`raw`, but ``-`` for what virsh has no value of; a CPU below 0 is none."""
    return "-" if re.fullmatch(r"N/A|-[0-9]+", raw) else raw


def _cpu_stats(output: str) -> CpuStats:
    value: CpuStats = {}
    figures: dict[str, str] = {}
    sections: list[tuple[str, dict[str, str]]] = []
    for line in text.lines(output):
        if line.startswith("\t"):
            name, _, raw = line.strip().partition(" ")
            figures[name] = raw.replace("seconds", "s").strip()
        elif heading := re.search(r"(?:CPU([0-9]+)|Total):$", line):  # a remark of virsh may stand before it
            figures = {}
            sections.append((heading[1] or "", figures))
    for cpu, found in sections:
        if cpu:
            value.setdefault("cpus", []).append(text.typed(CpuTimes, {"cpu": cpu, **found}))
        else:
            value["total"] = text.typed(TotalCpuTimes, found)
    if not value:
        raise UnreadableOutputError(f"virsh printed no CPU times: {output!r}")
    return value
