"""What happens to domains, as it happens, and waiting for it."""

from __future__ import annotations

import builtins
import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from kvm import text, units
from kvm.errors import (
    AgentError,
    CommandTimeoutError,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
)
from kvm.events import (
    LIFECYCLE,
    METADATA_CHANGE,
    NOTHING,
    Details,
    EventOptions,
    Events,
    Kind,
    Kinds,
    LifecycleEvent,
    OfLibvirt,
    OfQemu,
    kind,
)
from kvm.groups.domain import booting
from kvm.groups.domain.devices import Devices
from kvm.groups.domain.lifecycle import Lifecycle
from kvm.groups.domain.monitor import Monitor
from kvm.groups.domain.saving import JobInfo, _job
from kvm.groups.network import DhcpLease, _leases
from kvm.values import MAX_DIGITS, Quantity
from kvm.virsh.command import Command, failure
from kvm.virsh.plan import acting, checked
from unix.controls import LONGEST, Deadline
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options


class RtcChange(TypedDict):
    """The guest has set its clock: to so many seconds from where libvirt keeps it."""

    utc_offset: int


class Watchdog(TypedDict):
    """What the watchdog does: ``'reset'``, ``'pause'``, ``'none'``, ..."""

    action: str


class IoError(TypedDict):
    """A disk's `source` and `alias`, and what is done: ``'none'``, ``'pause'``, ``'report'``."""

    source: str
    alias: str
    action: str


class IoErrorReason(IoError):
    """As `IoError`, and why, ``'enospc'`` or None."""

    reason: str | None


class Address(TypedDict):
    """An end of a connection: ``'IPv4'``, ``'IPv6'`` or ``'unix'``, and where."""

    family: str
    node: str
    service: str


class Graphics(TypedDict):
    """A client of a graphical display: its `phase` is ``'connect'``, ``'initialize'`` or ``'disconnect'``.

    `subject` is who it is: pairs of a type, such as ``'x509dname'``, and a name.
    """

    phase: str
    local: Address
    remote: Address
    auth: str
    subject: builtins.list[tuple[str, str]]


class BlockJob(TypedDict):
    """What a block job was (``'Block Copy'``), on which disk, and how it is: ``'completed'``, ``'ready'``, ...

    `disk` is the path of its source for the kind ``block-job``, and its target, as ``vda``, for ``block-job-2``.
    """

    job: str
    disk: str
    status: str


class DiskChange(TypedDict):
    """The medium of a drive: `old` and `new` sources, None for none; it was ``'changed'`` or ``'dropped'``."""

    alias: str
    old: str | None
    new: str | None
    reason: str


class TrayChange(TypedDict):
    """The tray of a drive was ``'opened'`` or ``'closed'``."""

    alias: str
    reason: str


class BalloonChange(TypedDict):
    """A guest's memory, in bytes."""

    actual: Quantity


class Device(TypedDict):
    """A device by its alias."""

    alias: str


class VcpuRemoved(TypedDict):
    """A virtual CPU by its number."""

    vcpu: int


class AgentLifecycle(TypedDict):
    """The guest agent is ``'connected'`` or ``'disconnected'``, by ``'domain started'`` or ``'channel event'``."""

    state: str
    reason: str


class ChannelLifecycle(AgentLifecycle):
    """As `AgentLifecycle`, of the channel of that name."""

    channel: str


class MigrationIteration(TypedDict):
    """How many times the memory has been gone through."""

    iteration: int


class BlockThreshold(TypedDict):
    """A disk, as ``vda`` or ``vda[1]``, its file, the threshold, and by how many bytes it was exceeded."""

    disk: str
    path: str | None
    threshold: int
    excess: int


class MemoryFailure(TypedDict):
    """Who is hit by a failure of memory, ``'hypervisor'`` or ``'guest'``, and what is done: ``'inject'``, ``'fatal'``,
    ``'reset'``, ``'ignore'``."""

    recipient: str
    action: str
    action_required: bool
    recursive: bool


class MemoryDeviceSizeChange(TypedDict):
    """How large a memory device now is, in bytes."""

    alias: str
    size: Quantity


class NicMacChange(TypedDict):
    """The guest has given a network card another address."""

    alias: str
    old: str
    new: str


def _address(raw: dict[str, str], end: str) -> Address:
    return {"family": raw[f"{end}_family"], "node": raw[f"{end}_node"], "service": raw[f"{end}_service"]}


def _graphics(raw: dict[str, str]) -> Graphics:
    identities = [line.removeprefix("\t").partition("=") for line in raw["subject"].split("\n") if line]
    return {
        "phase": raw["phase"],
        "local": _address(raw, "local"),
        "remote": _address(raw, "remote"),
        "auth": raw["auth"],
        "subject": [(type, name) for type, _, name in identities],
    }


def _fields(raw: dict[str, str]) -> dict[str, str]:
    pairs = (line.partition(": ") for line in raw["fields"].split("\n\t")[1:])
    return {name: value for name, _, value in pairs}


def _job_completed(raw: dict[str, str]) -> JobInfo:
    fields = _fields(raw)
    message = fields.pop("errmsg", None)
    figures = "".join(f"{name}: {value}\n" for name, value in fields.items())
    told: JobInfo = _job(f"Job type: 3\n{figures}") or {}
    del told["type"]  # an event does not tell it
    if message is not None:
        told["errmsg"] = message
    return told


def _tunable(raw: dict[str, str]) -> dict[str, int | str]:
    """What was tuned, by libvirt's names: numbers, but for the names of disks and groups, and lists of CPUs."""
    return {
        name: value if name.rstrip("0123456789").endswith(_TEXTS) or not _NUMBER.fullmatch(value) else int(value)
        for name, value in _fields(raw).items()
    }


_NUMBER = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}", re.ASCII)
_TEXTS = ("pin", ".disk", ".group_name")


def _yes_or_no(raw: dict[str, str]) -> MemoryFailure:
    flags = {name: "yes" if raw[name] == "1" else "no" for name in ("action_required", "recursive")}
    return text.typed(MemoryFailure, {**raw, **flags})


_DEVICE = kind(Device, r": (?P<alias>[^\s']+)")
_BLOCK_JOB = kind(BlockJob, r": (?P<job>[A-Z][A-Za-z -]*?) for (?P<disk>.*) (?P<status>[a-z]+)")
_IO_ERROR = r": (?P<source>.*) \((?P<alias>[^()]*)\) (?P<action>none|pause|report|unknown)"
_ADDRESSES = " ".join(
    rf"{end}\[(?P<{end}_family>\w+) (?P<{end}_node>\S*) (?P<{end}_service>\S*)\]" for end in ("local", "remote")
)
_LINES = r"(?:\n\t[^\n]*)*"
_FIELDS = r":(?P<fields>(?:\n\t.*)?)"

KINDS: dict[str, Kind] = {
    "lifecycle": LIFECYCLE,
    "reboot": NOTHING,
    "rtc-change": kind(RtcChange, r": (?P<utc_offset>-?\d+)"),
    "watchdog": kind(Watchdog, r": (?P<action>[\w-]+)"),
    "io-error": kind(IoError, _IO_ERROR),
    "graphics": kind(
        Graphics,
        rf": (?P<phase>\w+) {_ADDRESSES} (?P<auth>[^\n]*)(?P<subject>{_LINES})",
        open=True,
        convert=_graphics,
    ),
    "io-error-reason": kind(IoErrorReason, rf"{_IO_ERROR} due to (?P<reason>.*)"),
    "control-error": NOTHING,
    "block-job": _BLOCK_JOB,
    "disk-change": kind(
        DiskChange, r" disk (?P<alias>[^\s':]+): (?P<old>(?:(?! -> ).)*) -> (?P<new>(?:(?! -> ).)*): (?P<reason>\w+)"
    ),
    "tray-change": kind(TrayChange, r" disk (?P<alias>[^\s':]+): (?P<reason>\w+)"),
    "pm-wakeup": NOTHING,
    "pm-suspend": NOTHING,
    "balloon-change": kind(BalloonChange, r": (?P<actual>\d+KiB)"),
    "pm-suspend-disk": NOTHING,
    "device-removed": _DEVICE,
    "block-job-2": _BLOCK_JOB,
    "tunable": kind(dict, _FIELDS, open=True, convert=_tunable),
    "agent-lifecycle": kind(AgentLifecycle, r": state: '(?P<state>[\w ]+)' reason: '(?P<reason>[\w ]+)'"),
    "device-added": _DEVICE,
    "migration-iteration": kind(MigrationIteration, r": iteration: '(?P<iteration>\d+)'"),
    "job-completed": kind(JobInfo, _FIELDS, open=True, convert=_job_completed),
    "device-removal-failed": _DEVICE,
    "metadata-change": METADATA_CHANGE,
    "block-threshold": kind(
        BlockThreshold, r": dev: (?P<disk>[^\s(]+)\((?P<path>.*)\) (?P<threshold>\d+) (?P<excess>\d+)"
    ),
    "memory-failure": kind(
        MemoryFailure,
        r":\nrecipient: (?P<recipient>[\w ]+)\naction: (?P<action>[\w ]+)"
        r"\nflags:\n\taction required: (?P<action_required>[01])\n\trecursive: (?P<recursive>[01])",
        convert=_yes_or_no,
    ),
    "memory-device-size-change": kind(
        MemoryDeviceSizeChange,
        r":\nalias: (?P<alias>[^\n]+)\nsize: (?P<size>\d+)",
        convert=lambda raw: text.typed(MemoryDeviceSizeChange, {**raw, "size": f"{raw['size']} KiB"}),
    ),
    "nic-mac-change": kind(
        NicMacChange, r":\nalias: (?P<alias>[^\n]+)\noldMAC: (?P<old>[0-9a-f:]+)\nnewMAC: (?P<new>[0-9a-f:]+)"
    ),
    "vcpu-removed": kind(VcpuRemoved, r": vcpu (?P<vcpu>\d+)"),
    "channel-lifecycle": kind(
        ChannelLifecycle, r": channel name: '(?P<channel>.*)' state: '(?P<state>[\w ]+)' reason: '(?P<reason>[\w ]+)'"
    ),
}
"""Every kind of event that virsh knows."""

READER = OfLibvirt[Any]("domain", KINDS, quote="'")
_OF_QEMU = OfQemu()

Condition = Literal["domain-inactive", "guest-agent-available"]


class DomainEvents(Lifecycle, Monitor, Devices):
    """What happens to domains."""

    @overload
    def event(
        self, domain: str | int | None = None, *, event: Literal["lifecycle"], **options: Unpack[EventOptions]
    ) -> Events[LifecycleEvent]: ...
    @overload
    def event(
        self,
        domain: str | int | None = None,
        *,
        event: str | None = None,
        all: bool = False,
        list: Literal[False] = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details]: ...
    @overload
    def event(self, domain: str | int | None = None, *, list: Literal[True]) -> Kinds: ...
    def event(
        self,
        domain: str | int | None = None,
        *,
        event: str | None = None,
        all: bool = False,
        list: bool = False,
        **options: Unpack[EventOptions],
    ) -> Events[Any] | Kinds:
        """What happens from now on to a domain, or to all, as it happens. virsh: ``event``.

        An iterator of `kvm.events.Event`, which waits for the next one: see `kvm.events.Events`. Of one kind, `event`,
        or of all kinds; for `timeout` seconds in all, or until it is closed; with ``loop=False`` until the first.
        Another virsh listens, so what happens on a ``test:`` hypervisor is not heard. An event's `details` are
        described by its kind: `LifecycleEvent`, `RtcChange`, `Watchdog`, `IoError`, `IoErrorReason`, `Graphics`,
        `BlockJob` (``block-job``, ``block-job-2``), `DiskChange`, `TrayChange`, `BalloonChange`, `Device`
        (``device-added``, ``device-removed``, ``device-removal-failed``), `VcpuRemoved`, `AgentLifecycle`,
        `ChannelLifecycle`, `MigrationIteration`, `JobInfo` (``job-completed``), `MetadataChange`, `BlockThreshold`,
        `MemoryFailure`, `MemoryDeviceSizeChange`, `NicMacChange`, all in `kvm.groups.domain.events`; what was tuned, by
        libvirt's names, for ``tunable``; nothing for the others, and the ``text`` of a kind that is not known here.
        With ``list=True`` the names of all kinds that this virsh knows.
        """
        if all and event is not None:
            raise InvalidArgumentError("virsh event: it is of all kinds, or of one")
        which = {"domain": domain, "event": event, "all": event is None}
        return self._listen_or_list("event", READER, "list", which, options, list=list)

    def qemu_monitor_event(
        self,
        domain: str | int | None = None,
        *,
        event: str | None = None,
        regex: bool = False,
        no_case: bool = False,
        pretty: bool = False,  # noqa: ARG002  # of virsh's text
        **options: Unpack[EventOptions],
    ) -> Events[dict[str, Any]]:
        """What QEMU says on the monitor of a domain, or of all, as it happens. virsh: ``qemu-monitor-event``.

        As with `event`, also `timeout` and `loop`; `kind` is QEMU's name of it (``'RTC_CHANGE'``), `time` is QEMU's,
        `details` its data. `event` is such a name; with `regex` a pattern, with `no_case` in any case.
        """
        which = {"domain": domain, "event": event, "regex": regex, "no_case": no_case}
        return self._listen("qemu-monitor-event", _OF_QEMU, "list", which, options)

    def await_(self, domain: str | int, condition: Condition, timeout: float | None = None) -> Result:
        """Wait until something is so, without asking again and again. virsh: ``await``, also where virsh has none.

        ``'domain-inactive'``: the domain is not running (any more). ``'guest-agent-available'``: its guest agent is
        there, which for most guests means that they have booted; a domain that does not run may be started meanwhile.
        `CommandTimeoutError` after `timeout` seconds; without `timeout`, after those of the control ``timeout``.
        """
        timeout = None if timeout is None else units.seconds("virsh await: timeout", timeout)
        with self._caller.bounded(timeout) as deadline:
            if condition == "domain-inactive":
                holds = self._await_inactive(domain, deadline)
            elif condition == "guest-agent-available":
                holds = self._await_agent(domain, deadline)
            else:
                raise InvalidArgumentError(f"virsh await: there is no condition {condition!r}")
        if holds:
            return Result(0, "condition fulfilled\n", "")
        return self._late(f"await: {condition} of {domain} was not met within {deadline.seconds:g} s")

    def start(
        self,
        domain: str | int,
        *,
        wait: Literal["agent", "address"] | None = None,
        timeout: float | None = None,
        **options: Unpack[options.StartOptions],
    ) -> Result:
        """Start a domain that is defined, from its managed save if it has one. virsh: ``start``.

        ``paused=True`` starts it without running it, ``force_boot=True`` discards a managed save, ``bypass_cache=True``
        reads that past the host's page cache, ``reset_nvram=True`` resets its firmware's variables. `InvalidStateError`
        if it runs already. Of no use here: ``autodestroy=True`` (the domain ends with the virsh that has started it,
        which is at once), ``console=True`` (see `open_console`), and ``pass_fds`` (virsh inherits no files).

        Returns when it runs, and its guest has yet to boot. With ``wait='agent'`` it returns when the guest's agent is
        there, which libvirt tells at once; `AgentError`, and nothing is started, if the domain has no channel for one.
        With ``wait='address'`` when the guest has an address, the last line of the Result's `stdout`: one that its
        agent reports for an interface in the domain's configuration, and that is reachable (not loopback or
        link-local), or one that a libvirt network has leased to it since then. libvirt has no event for either, so they
        are polled twice a second.

        `CommandTimeoutError` after `timeout` seconds, and `InvalidStateError` at once if the domain stops or is paused
        before that. Both say that it was started; after a timeout it keeps running. Without `timeout` it waits for 120
        seconds, or for the control ``timeout`` if that is less.
        """
        if wait is None:
            return self._act("start", domain=domain, **options)
        if wait not in ("agent", "address"):
            raise InvalidArgumentError(f"virsh start: it waits for 'agent' or 'address', not for {wait!r}")
        if options.get("paused"):
            raise InvalidArgumentError("virsh start: a guest that is paused does not boot, so nothing comes of waiting")
        timeout = None if timeout is None else units.seconds("virsh start: timeout", timeout)
        with self._caller.bounded(timeout, _START_S) as deadline, self.event(domain) as events:
            conf = self.conf(domain, inactive=True)
            if wait == "agent" and not booting.has_agent(conf):
                why = f"start: {domain} has no channel for a guest agent, and was not started"
                return self._failed(AgentError, why)
            goes_on = not options.get("force_boot") and self.info(domain).get("managed_save")
            leased = self._leases(conf)
            started = self._act("start", domain=domain, **options)
            if not started.status:
                return started
            try:
                return self._await_guest(domain, wait, deadline, events, started, conf, [] if goes_on else leased)
            except KvmError as error:
                error.add_note(f"{domain} was started")
                raise

    def stop(
        self, domain: str | int, timeout: float | None = None, force: bool = False, *, mode: str | None = None
    ) -> Result:
        """Ask a domain to shut down, as `shutdown` does, and wait until it has. virsh: ``shutdown``, ``destroy``.

        If it has not shut down after `timeout` seconds, it is destroyed with `force`; without, that is a
        `CommandTimeoutError`. With `force` it is destroyed at once if it is paused, or its agent does not answer. The
        Result's `stdout` says which it was. `mode` as with `shutdown`. `InvalidStateError` if it does not run, or if it
        is paused, without `force`. Not for domains of a ``test:`` hypervisor, whose events are not heard. Without
        `timeout` it waits for 30 seconds, or for the control ``timeout`` if that is less.
        """
        timeout = None if timeout is None else units.seconds("virsh shutdown: timeout", timeout)
        with self._caller.bounded(timeout, _STOP_S) as deadline:
            return self._stop(domain, deadline, force=force, mode=mode)

    def _stop(self, domain: str | int, deadline: Deadline, *, force: bool, mode: str | None) -> Result:
        why = f"it has not shut down within {deadline.seconds:g} s"
        with self.event(domain, event="lifecycle") as events:
            command = Command("shutdown", {"domain": domain, "mode": mode}, reads=False)
            asked = self._caller.call(acting(command, check=False))
            if asked.status:
                if any(event.details["event"] == "Stopped" for event in events.until(deadline)):
                    return Result(0, f"Domain {str(domain)!r} was shut down\n", "")
                if not force:
                    return self._late(f"shutdown: {domain} has not shut down within {deadline.seconds:g} s")
            else:
                refusal = failure(command.words(), asked)
                if not force or isinstance(refusal, ConnectionError | TimeoutError) or self._is_inactive(domain):
                    return checked(command, asked) if self._caller.check else asked
                why = f"it could not be asked to shut down ({refusal})"
        try:
            ended = self.destroy(domain)
        except (ConnectionError, TimeoutError):
            raise
        except KvmError:
            if not self._is_inactive(domain):
                raise
            return Result(0, f"Domain {str(domain)!r} was shut down\n", "")  # at the last moment
        return Result(0, f"Domain {str(domain)!r} was destroyed: {why}\n", "") if ended.status else ended

    def _await_guest(
        self,
        domain: str | int,
        wait: str,
        deadline: Deadline,
        events: Events[Details],
        started: Result,
        conf: Mapping[str, Any],
        leased: builtins.list[DhcpLease],
    ) -> Result:
        while True:
            if wait == "agent" and self._has_connected_agent(domain):
                return started
            if wait == "address" and (address := self._address(domain, conf, leased)):
                return Result(0, f"{started.stdout}{address}\n", "")
            event = events.within(min(_LOOK if wait == "address" else LONGEST, deadline.left))
            if event and event.kind == "lifecycle" and event.details["event"] in ("Stopped", "Crashed"):
                how = event.details.get("detail", event.details["event"]).lower()
                return self._failed(InvalidStateError, f"start: {domain} was started, and has stopped again: {how}")
            if event and event.kind == "lifecycle" and event.details["event"] in ("Suspended", "PMSuspended"):
                state = self.state(domain)
                if state in ("paused", "pmsuspended"):
                    message = f"start: {domain} was started, and is {state}, so that its guest does not boot: resume it"
                    return self._failed(InvalidStateError, message)
            if not deadline.left:
                what = "its guest agent" if wait == "agent" else "an address of its guest"
                limit = f"{deadline.seconds:g} s"
                return self._late(f"start: {domain} was started, but {what} was not there within {limit}")

    def _has_connected_agent(self, domain: str | int) -> bool:
        return bool(self.conf(domain, xpath=_AGENT))

    def _address(self, domain: str | int, conf: Mapping[str, Any], leased: builtins.list[DhcpLease]) -> str | None:
        """An address that the guest has now, if it is not from what was `leased` before."""
        if booting.has_agent(conf):
            with _no_answer_yet():
                if found := booting.reachable(self.ifaddr(domain, source="agent"), booting.macs(conf)):
                    return found
        return next((lease["address"] for lease in self._leases(conf) if lease not in leased), None)

    def _leases(self, conf: Mapping[str, Any]) -> builtins.list[DhcpLease]:
        """What the networks of a domain have leased to it."""
        found: builtins.list[DhcpLease] = []
        for network, macs in booting.networks(conf).items():
            with _no_answer_yet():  # without the network the domain does not start, either
                every = self._read("net-dhcp-leases", _leases, network=network)
                found += [lease for lease in every if lease["mac"] in macs]
        return found

    def _await_inactive(self, domain: str | int, deadline: Deadline) -> bool:
        with self.event(domain, event="lifecycle") as events:
            if self._is_inactive(domain):
                return True
            return any(event.details["event"] == "Stopped" for event in events.until(deadline))

    def _is_inactive(self, domain: str | int) -> bool:
        """Return whether a domain does not run, or does not exist any more."""
        try:
            return self.id(domain) is None
        except NotFoundError:
            return True

    def _await_agent(self, domain: str | int, deadline: Deadline) -> bool:
        with self.event(domain, event="agent-lifecycle") as events:
            if self._has_connected_agent(domain):
                return True
            return any(event.details["state"] == "connected" for event in events.until(deadline))

    def _late(self, message: str) -> Result:
        if self._caller.check:
            raise CommandTimeoutError(f"virsh {message}")
        return Result(255, "", f"error: Timed out during operation: {message}\n")

    def _failed(self, kind: type[KvmError], message: str) -> Result:
        if self._caller.check:
            raise kind(f"virsh {message}")
        return Result(255, "", f"error: {message}\n")


@contextlib.contextmanager
def _no_answer_yet() -> Iterator[None]:
    """Ignore an error from libvirt, whose reason may be in any language; a timeout or a lost connection raises."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except KvmError:
        pass


_START_S = 120.0
"""The default time limit of `start` with `wait`, in seconds."""

_STOP_S = 30.0
"""The default time limit of `stop`, in seconds."""

_LOOK = 0.5
"""Seconds between two looks for an address."""

_AGENT = f"//channel/target[@name='{booting.AGENT}'][@state='connected']"
