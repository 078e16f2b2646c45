"""A domain's memory: how much, from where, how it is used, and how it is kept from the host's eyes.

An amount of memory is an int in bytes, in results and in arguments, or a text with a unit: ``'64 MiB'``.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

from kvm import text
from kvm.groups.domain.affected import Affected
from kvm.groups.domain.cpus import Numbers, numbers
from kvm.groups.group import Group
from kvm.values import Quantity
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options


class MemTune(TypedDict, total=False):
    """Limits of a domain's memory in bytes; None for no limit. Those that the hypervisor has."""

    hard_limit: Quantity | None
    soft_limit: Quantity | None
    swap_hard_limit: Quantity | None
    min_guarantee: Quantity | None


class NumaTune(TypedDict, total=False):
    """How a domain's memory is spread over the host's NUMA nodes, and which of them; none named if `numa_nodeset` is
    empty."""

    numa_mode: str
    numa_nodeset: list[int]


File = str | os.PathLike[str]
"""The path of a file on the hypervisor."""


class MemStat(TypedDict, total=False):
    """A running domain's memory; what its balloon and its guest tell.

    In bytes: `actual` (the balloon), `rss` (what its process has of the host), and, as the guest says, `available`
    (all), `unused`, `usable` (without swapping), `disk_caches`, `swap_in` and `swap_out` (so far). Counts: page faults
    (`major_fault`, `minor_fault`) and allocations of huge pages (`hugetlb_pgalloc`, `hugetlb_pgfail`). `last_update`
    is when the guest said so, None if it never did.
    """

    actual: Quantity
    rss: Quantity
    available: Quantity
    unused: Quantity
    usable: Quantity
    disk_caches: Quantity
    swap_in: Quantity
    swap_out: Quantity
    major_fault: int
    minor_fault: int
    hugetlb_pgalloc: int
    hugetlb_pgfail: int
    last_update: datetime | None


class LaunchSecurity(TypedDict, total=False):
    """What there is to check about a domain that was started with AMD SEV; empty for others."""

    sev_measurement: str
    sev_api_major: int
    sev_api_minor: int
    sev_build_id: int
    sev_policy: int
    sev_snp_policy: int


class Memory(Group):
    """A domain's memory: how much, from where, and how it is used."""

    def dirtyrate_calc(self, domain: str | int, **options: Unpack[options.DomdirtyrateCalcOptions]) -> Result:
        """Begin to measure how fast a running domain writes to its memory. virsh: ``domdirtyrate-calc``.

        For ``seconds=1``, up to 60; ``mode='page-sampling'``, ``'dirty-bitmap'`` or ``'dirty-ring'``. Returns at once;
        ``stats(domain, dirtyrate=True)`` has the figures when the time is over.
        """
        return self._act("domdirtyrate-calc", domain=domain, **options)

    def launchsecinfo(self, domain: str | int) -> LaunchSecurity:
        """What there is to check about a domain started with AMD SEV; empty for others. virsh: ``domlaunchsecinfo``.

        ``{'sev_measurement': '...', 'sev_api_major': 1, 'sev_api_minor': 51, 'sev_build_id': 3, 'sev_policy': 0}``.
        """
        return self._read("domlaunchsecinfo", text.fields(LaunchSecurity), domain=domain)

    @overload
    def memstat(self, domain: str | int) -> MemStat: ...
    @overload
    def memstat(self, domain: str | int, *, period: int, **options: Unpack[Affected]) -> Result: ...
    def memstat(self, domain: str | int, *, period: int | None = None, **options: Unpack[Affected]) -> MemStat | Result:
        """A running domain's memory; with `period`, set how often it is asked. virsh: ``dommemstat``.

        ``{'actual': ..., 'rss': ..., 'available': ..., 'unused': ..., 'usable': ..., 'swap_in': ..., 'major_fault': 0,
        'last_update': datetime, ...}``, in bytes but for the faults, of which there is what the guest tells; see
        `MemStat`. `period` in seconds, 0 for not at all: without, the guest's own figures are old or not there.
        """
        return self._set_or_read("dommemstat", _memory, {"period": period}, domain=domain, **options)

    @overload
    def memtune(self, domain: str | int, **options: Unpack[Affected]) -> MemTune: ...
    @overload
    def memtune(self, domain: str | int, **options: Unpack[options.MemtuneOptions]) -> Result: ...
    def memtune(
        self,
        domain: str | int,
        *,
        hard_limit: int | str | None = None,
        soft_limit: int | str | None = None,
        swap_hard_limit: int | str | None = None,
        min_guarantee: int | str | None = None,
        **options: Unpack[Affected],
    ) -> MemTune | Result:
        """The limits of a domain's memory; with any, set them. virsh: ``memtune``.

        ``{'hard_limit': ..., 'soft_limit': None, 'swap_hard_limit': None}`` in bytes, None for no limit. A limit to set
        is an int in bytes or a text with a unit (``'64 MiB'``), a whole number of KiB; -1 removes it.
        `swap_hard_limit` is for memory and swap together. `InvalidStateError` for a running domain without a cgroup for
        memory. Where: `live`, `config`, `current`.
        """
        limits = {
            "hard_limit": hard_limit,
            "soft_limit": soft_limit,
            "swap_hard_limit": swap_hard_limit,
            "min_guarantee": min_guarantee,
        }
        return self._set_or_read("memtune", _limits, limits, domain=domain, **options)

    @overload
    def numatune(self, domain: str | int, **options: Unpack[Affected]) -> NumaTune: ...
    @overload
    def numatune(
        self,
        domain: str | int,
        *,
        mode: str | None = None,
        nodeset: Numbers | None = None,
        **options: Unpack[Affected],
    ) -> Result: ...
    def numatune(
        self,
        domain: str | int,
        *,
        mode: str | None = None,
        nodeset: Numbers | None = None,
        **options: Unpack[Affected],
    ) -> NumaTune | Result:
        """How a domain's memory is spread over the host's NUMA nodes; with values, set it. virsh: ``numatune``.

        ``{'numa_mode': 'strict', 'numa_nodeset': [0, 1]}``, an empty list if none is named. `mode`: ``'strict'``,
        ``'preferred'``, ``'interleave'`` or ``'restrictive'``, fixed while the domain runs; `nodeset`: ``[0, 1]`` or
        ``'0-1'``.
        """
        given = {"mode": mode, "nodeset": numbers(nodeset)}
        return self._set_or_read("numatune", text.fields(NumaTune), given, domain=domain, **options)

    def setlaunchsecstate(
        self,
        domain: str | int,
        *,
        secrethdr: File | bytes | None = None,
        secret: File | bytes | None = None,
        **options: Unpack[options.DomsetlaunchsecstateOptions],
    ) -> Result:
        """Put a secret into the encrypted memory of a domain that has not run yet. virsh: ``domsetlaunchsecstate``.

        `secrethdr` and `secret`, both needed, are in Base64: bytes, or the paths of files on the hypervisor;
        `set_address` where to put it.
        """
        return self._act("domsetlaunchsecstate", domain=domain, secrethdr=secrethdr, secret=secret, **options)

    def setmaxmem(self, domain: str | int, size: int | str, **options: Unpack[Affected]) -> Result:
        """Set the most memory that a domain can have. virsh: ``setmaxmem``.

        `size`: an int in bytes or a text with a unit (``'64 MiB'``), a whole number of KiB. QEMU changes it only while
        the domain does not run.
        """
        return self._act("setmaxmem", domain=domain, size=size, **options)

    def setmem(self, domain: str | int, size: int | str, **options: Unpack[Affected]) -> Result:
        """Set how much memory a domain has, up to its maximum. virsh: ``setmem``.

        `size` as with `setmaxmem`. The default is the running domain. This is a request to the guest's balloon driver,
        if it has one: `used_memory` in `info` is what the guest has now, and an event ``balloon-change`` reports each
        change.
        """
        return self._act("setmem", domain=domain, size=size, **options)


def _limits(output: str) -> MemTune:
    with_unit = re.sub(r": ([0-9]+)$", r": \1 KiB", output, flags=re.MULTILINE)
    return text.fields(MemTune)(re.sub(r": unlimited$", ": -", with_unit, flags=re.MULTILINE))


_IN_KIB = {"actual", "rss", "available", "unused", "usable", "disk_caches", "swap_in", "swap_out"}


def _memory(output: str) -> MemStat:
    raw: dict[str, str] = {}
    for line in text.lines(output):
        name, _, figure = line.partition(" ")
        raw[name] = f"{figure} KiB" if name in _IN_KIB else figure
    updated = raw.pop("last_update", None)
    found = text.typed(MemStat, raw)
    if updated is not None:
        seconds = text.number(updated)
        found["last_update"] = text.since_1970(seconds=seconds) if seconds else None
    return found
