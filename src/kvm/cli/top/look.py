"""Looks at a hypervisor: what its guests and itself have counted so far, in one exchange with its virsh."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from kvm.cli.top.rates import Figures, Sample
from kvm.errors import KvmError, NotSupportedError
from kvm.groups.domain.monitor import STATES
from kvm.hypervisor import Hypervisor


class Look:
    """Takes a sample of one hypervisor at each call; asks no more for what its driver does not have."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._has_stats = self._has_cpu = self._has_memory = True
        node = hypervisor.generic.nodeinfo()
        self._cpus, self._memory = node["cpus"], int(node["memory_size"])

    def __call__(self) -> Sample:
        asked = time.monotonic()
        with self._hypervisor.pipeline() as pipe:
            if self._has_stats:
                # without waiting for guests that are busy with something else: they lack some figures this time
                pipe.domain.stats(
                    list_active=True, nowait=True,
                    state=True, cpu_total=True, balloon=True, interface=True, block=True,
                )  # fmt: skip
                pipe.domain.stats(list_inactive=True, state=True)
            else:
                pipe.domain.list(all=True)
            of_guests = len(pipe)
            if self._has_cpu:
                pipe.generic.nodecpustats()
            if self._has_memory:
                pipe.generic.nodememstats()
            told = pipe.execute(raise_on_error=False)
        now = time.monotonic()
        if self._has_stats and isinstance(told[0], NotSupportedError):
            self._has_stats = False
            return self()
        for answer in told[:of_guests]:
            if isinstance(answer, KvmError):
                raise answer
        rest = told[of_guests:]
        cpu = self._node(rest.pop(0)) if self._has_cpu else None
        memory = self._node(rest.pop(0)) if self._has_memory else None
        self._has_cpu, self._has_memory = cpu is not None, memory is not None
        busy, idle = _busy_and_idle(cpu or {})
        used = _used(memory or {})
        return Sample(now, self._guests(told), self._cpus, busy, idle, self._memory, used, now - asked)

    def _guests(self, told: list[Any]) -> dict[str, Figures]:
        if not self._has_stats:
            return {name: Figures(domain["state"]) for name, domain in told[0].items()}
        active, inactive = told[:2]
        return {name: figures(each) for name, each in (*inactive.items(), *active.items())}

    @staticmethod
    def _node(answer: object) -> dict[str, int] | None:
        """What a node tells of itself; None if it never will."""
        if isinstance(answer, NotSupportedError):
            return None
        return {} if isinstance(answer, KvmError) else cast(dict[str, int], answer)


def _busy_and_idle(spent: dict[str, int]) -> tuple[int | None, int | None]:
    """Nanoseconds that CPUs were busy, and that they were not; a guest's are the user's as well."""
    if "idle" not in spent:
        return None, None
    busy = sum(spent.get(each, 0) for each in ("user", "system", "intr"))
    return busy, spent["idle"] + spent.get("iowait", 0)


def _used(memory: dict[str, int]) -> int | None:
    """Bytes that are neither free nor a cache."""
    if "total" not in memory or "free" not in memory:
        return None
    return int(memory["total"]) - sum(int(memory.get(each, 0)) for each in ("free", "buffers", "cached"))


def figures(told: Mapping[str, Any]) -> Figures:
    """The figures of a guest in what `Monitor.stats` gives of it."""
    number = _section(told, "state").get("state")
    state = STATES[number] if isinstance(number, int) and 0 <= number < len(STATES) else "no state"
    balloon = _section(told, "balloon")
    available, free = _number(balloon.get("available")), _number(balloon.get("usable", balloon.get("unused")))
    used = max(available - free, 0) if available is not None and free is not None else None
    disks, interfaces = _members(told, "block"), _members(told, "net")
    return Figures(
        state=state,
        cpu=_number(_section(told, "cpu").get("time")),
        memory=_number(balloon.get("current")),
        rss=_number(balloon.get("rss")),
        used=used,
        disks=tuple([disk.get("name", "") for disk in disks]),
        read=_sum(disks, "rd", "bytes"),
        write=_sum(disks, "wr", "bytes"),
        read_requests=_sum(disks, "rd", "reqs"),
        write_requests=_sum(disks, "wr", "reqs"),
        interfaces=tuple([interface.get("name", "") for interface in interfaces]),
        rx=_sum(interfaces, "rx", "bytes"),
        tx=_sum(interfaces, "tx", "bytes"),
    )


def _sum(devices: Sequence[Mapping[str, Any]], way: str, what: str) -> int | None:
    """The sum of what devices count; None if none of them does."""
    found = [_number(_section(device, way).get(what)) for device in devices]
    known = [figure for figure in found if figure is not None]
    return sum(known) if known else None


def _section(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of figures; empty if virsh printed none, or something else."""
    section = told.get(name)
    return section if isinstance(section, Mapping) else {}


def _members(told: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The numbered members of a section."""
    members = told.get(name)
    return [each for each in members if isinstance(each, Mapping)] if isinstance(members, list) else []


def _number(figure: object) -> int | None:
    """A figure, None if there is none or virsh printed something else."""
    return figure if isinstance(figure, int) else None
