"""What domains get of the host beside CPUs and memory: shares of its time and what is counted of them; and what
happens when they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NotRequired, TypedDict, Unpack, overload

from kvm import text, units
from kvm.groups.domain.affected import Affected
from kvm.groups.group import Group
from unix.result import Result


class SchedInfo(TypedDict):
    """How the host shares its CPUs out to a domain: the name of the scheduler, and the figures that this one has.

    QEMU and containers (``'posix'``): a relative weight (`cpu_shares`), and how many microseconds of each period each
    virtual CPU, emulator, I/O thread or the domain as a whole may run; a negative quota is no limit. Xen
    (``'credit'``): `weight` and `cap`. ESX (``'allocation'``): `reservation` and `limit` in MHz, and `shares`.
    """

    scheduler: str
    cpu_shares: NotRequired[int]
    vcpu_period: NotRequired[int]
    vcpu_quota: NotRequired[int]
    emulator_period: NotRequired[int]
    emulator_quota: NotRequired[int]
    global_period: NotRequired[int]
    global_quota: NotRequired[int]
    iothread_period: NotRequired[int]
    iothread_quota: NotRequired[int]
    weight: NotRequired[int]
    cap: NotRequired[int]
    reservation: NotRequired[int]
    limit: NotRequired[int]
    shares: NotRequired[int]


class Tuning(Group):
    """What domains get of the host: shares of its time; and what happens when they end."""

    @overload
    def perf(self, domain: str | int, **options: Unpack[Affected]) -> dict[str, bool]: ...
    @overload
    def perf(
        self,
        domain: str | int,
        *,
        enable: str | Iterable[str] | None = None,
        disable: str | Iterable[str] | None = None,
        **options: Unpack[Affected],
    ) -> Result: ...
    def perf(
        self,
        domain: str | int,
        *,
        enable: str | Iterable[str] | None = None,
        disable: str | Iterable[str] | None = None,
        **options: Unpack[Affected],
    ) -> dict[str, bool] | Result:
        """Which events are counted for a domain: ``{'cpu_cycles': False, ...}``. virsh: ``perf``.

        With `enable` or `disable`, names in a list or ``'cpu_cycles,page_faults'``, have them counted or not;
        ``stats(domain, perf=True)`` has the figures.
        """
        given = {"enable": _names(enable), "disable": _names(disable)}
        return self._set_or_read("perf", text.values(bool), given, domain=domain, **options)

    @overload
    def schedinfo(self, domain: str | int, **options: Unpack[Affected]) -> SchedInfo: ...
    @overload
    def schedinfo(
        self,
        domain: str | int,
        *,
        set: Mapping[str, int | str] | None = None,
        weight: int | None = None,
        cap: int | None = None,
        **options: Unpack[Affected],
    ) -> Result: ...
    def schedinfo(
        self,
        domain: str | int,
        *,
        set: Mapping[str, int | str] | None = None,
        weight: int | None = None,
        cap: int | None = None,
        **options: Unpack[Affected],
    ) -> SchedInfo | Result:
        """How the host shares its CPUs out to a domain; with values, set them. virsh: ``schedinfo``.

        ``{'scheduler': 'posix', 'cpu_shares': 1024, 'vcpu_period': 100000, 'vcpu_quota': -1, ...}``, periods and quotas
        in microseconds, a negative quota for no limit; see `SchedInfo`. ``set={'cpu_shares': 2048, 'vcpu_quota': -1}``,
        or with a unit (``'50 ms'``);
        `weight` and `cap` are for Xen. Where: `live`, `config`, `current`.
        """
        values = [f"{name}={_share(name, value)}" for name, value in (set or {}).items()]
        given = {"set": values or None, "weight": weight, "cap": cap}
        return self._set_or_read("schedinfo", text.fields(SchedInfo), given, domain=domain, **options)

    def set_lifecycle_action(
        self,
        domain: str | int,
        type: Literal["poweroff", "reboot", "crash"],
        action: Literal["destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"],
        **options: Unpack[Affected],
    ) -> Result:
        """Set what becomes of a domain when its guest powers off, reboots or crashes. virsh: ``set-lifecycle-action``.

        The last two actions are for crashes.
        """
        return self._act("set-lifecycle-action", domain=domain, type=type, action=action, **options)


def _share(name: str, value: int | str) -> int:
    """A figure of a scheduler: periods and quotas in microseconds."""
    unit = "us" if name.endswith(("_period", "_quota")) else None
    return units.converted(f"virsh schedinfo: {name}", value, unit)


def _names(given: str | Iterable[str] | None) -> str | None:
    return given if given is None or isinstance(given, str) else ",".join(given)
