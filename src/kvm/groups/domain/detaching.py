"""Detaching devices from domains, and whether the guest has released them.

Detaching a device from a running domain is a request to its guest, which may be slow, or unable to comply. libvirt
waits a few seconds, and then reports success in either case. So the configuration of the running domain is read before
and after the command: a device that is still there was only requested to be removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, Unpack, overload

from kvm import units, xml
from kvm.errors import CommandTimeoutError, InvalidStateError, NotFoundError
from kvm.groups.domain.events import DomainEvents
from kvm.values import Outcome
from kvm.virsh.command import Command
from kvm.virsh.plan import Plan, checked, reading, resolved
from unix.result import Result

if TYPE_CHECKING:
    from lxml import etree

    from kvm.groups import options_generated as options

T = TypeVar("T")

Removal: TypeAlias = Literal["removed", "requested"]
"""The state of a detached device: it is gone, or the guest was asked to release it and has not done so yet."""

Find: TypeAlias = "Callable[[Sequence[etree._Element]], Iterable[etree._Element]]"
"""Finds, among the devices of a domain, those that may be the device to detach."""

_POLL_INTERVAL_S = 0.5

_REQUESTED = "Device detach request sent successfully\n"


class Detaching(DomainEvents):
    """Detaching devices from domains."""

    def detach_device(
        self,
        domain: str | int,
        file: xml.Document,
        *,
        wait: bool = False,
        timeout: float = 30,
        **options: Unpack[options.DetachDeviceOptions],
    ) -> Outcome[Removal]:
        """Take a device from a domain. virsh: ``detach-device``.

        `file` and where from: as with `attach_device`; the part of the device that identifies it is enough.

        From a running domain this is a request to its guest. The `value` of what is returned is ``'removed'``, or
        ``'requested'`` if the device is still there when libvirt stops waiting for the guest, after five seconds. A
        guest without ACPI, or one that has not booted, may never release it. ``wait=True`` waits `timeout` seconds more
        for the removal (`CommandTimeoutError`, whose `outcome_unknown` is True); `InvalidStateError` if the guest
        refuses.
        """
        document = xml.device(file)
        return self._detach(
            Command("detach-device", {"domain": domain, "file": document, **options}, reads=False),
            list if isinstance(document, str) else _most_similar(xml.parse(document)),
            wait=wait,
            timeout=timeout,
        )

    def detach_device_alias(
        self,
        domain: str | int,
        alias: str,
        *,
        wait: bool = False,
        timeout: float = 30,
        **options: Unpack[options.DetachDeviceAliasOptions],
    ) -> Outcome[Removal]:
        """Ask a domain to release the device with an alias. virsh: ``detach-device-alias``.

        libvirt returns before the guest has. Where from: `live`, `config`, `current`; what is returned, `wait` and
        `timeout` as with `detach_device`.
        """
        return self._detach(
            Command("detach-device-alias", {"domain": domain, "alias": alias, **options}, reads=False),
            lambda devices: [device for device in devices if _alias(device) == alias],
            wait=wait,
            timeout=timeout,
        )

    @overload
    def detach_disk(
        self,
        domain: str | int,
        target: str,
        *,
        wait: bool = False,
        timeout: float = 30,
        print_xml: Literal[False] = False,
        **options: Unpack[options.DetachDiskOptions],
    ) -> Outcome[Removal]: ...
    @overload
    def detach_disk(
        self, domain: str | int, target: str, *, print_xml: Literal[True], **options: Unpack[options.DetachDiskOptions]
    ) -> xml.Conf: ...
    def detach_disk(
        self,
        domain: str | int,
        target: str,
        *,
        wait: bool = False,
        timeout: float = 30,
        print_xml: bool = False,
        **options: Unpack[options.DetachDiskOptions],
    ) -> Outcome[Removal] | xml.Conf:
        """Take a disk from a domain. virsh: ``detach-disk``.

        `target`: its name in the domain (``'vdb'``) or its source. Where from: as with `attach_device`; what is
        returned, `wait` and `timeout` as with `detach_device`. ``print_xml=True`` returns the device that would be
        detached.
        """
        which = {"domain": domain, "target": target, **options}
        if print_xml:
            return self._printed(Command("detach-disk", {**which, "print_xml": True}))
        return self._detach(
            Command("detach-disk", which, reads=False),
            lambda devices: [
                device
                for device in devices
                if device.tag == "disk" and target in _attributes(device, "target", "source")
            ],
            wait=wait,
            timeout=timeout,
        )

    @overload
    def detach_interface(
        self,
        domain: str | int,
        type: str | None = None,
        *,
        wait: bool = False,
        timeout: float = 30,
        print_xml: Literal[False] = False,
        **options: Unpack[options.DetachInterfaceOptions],
    ) -> Outcome[Removal]: ...
    @overload
    def detach_interface(
        self,
        domain: str | int,
        type: str | None = None,
        *,
        print_xml: Literal[True],
        **options: Unpack[options.DetachInterfaceOptions],
    ) -> xml.Conf: ...
    def detach_interface(
        self,
        domain: str | int,
        type: str | None = None,
        *,
        wait: bool = False,
        timeout: float = 30,
        print_xml: bool = False,
        **options: Unpack[options.DetachInterfaceOptions],
    ) -> Outcome[Removal] | xml.Conf:
        """Take a network interface from a domain. virsh: ``detach-interface``.

        Which: `type`, as ``'network'`` (required by virsh up to 11), and `mac` where there are several. Where from:
        as with `attach_device`; what is returned, `wait` and `timeout` as with `detach_device`. ``print_xml=True``
        returns the device that would be detached, from the running domain or from the definition, not from both.
        """
        which = {"domain": domain, "type": type, **options}
        if print_xml:
            return self._printed(Command("detach-interface", {**which, "print_xml": True}))
        mac = str(options.get("mac") or "").lower()
        return self._detach(
            Command("detach-interface", which, reads=False),
            lambda devices: [
                device
                for device in devices
                if device.tag == "interface"
                and type in (None, device.get("type"))
                and (not mac or mac in _attributes(device, "mac"))
            ],
            wait=wait,
            timeout=timeout,
        )

    def _printed(self, command: Command) -> xml.Conf:
        return self._caller.call(reading(command, xml.printed_device))

    def _detach(self, command: Command, find: Find, *, wait: bool, timeout: float) -> Outcome[Removal]:
        detaching = _detaching(command, find, check=self._caller.check)
        if not wait:
            return self._caller.call(_first(detaching))
        timeout = units.seconds(f"virsh {command.name}: timeout", timeout)
        domain: str | int = command.options["domain"]  # type: ignore[assignment]
        with self.event(domain) as events:
            outcome, pending = self._caller.call(detaching)
            deadline = time.monotonic() + timeout
            while outcome.value == "requested":
                if not pending <= self._caller.call(_live_aliases(domain)):
                    return Outcome(Result(0, outcome.stdout), "removed")
                event = events.within(min(_POLL_INTERVAL_S, max(deadline - time.monotonic(), 0)))
                if event and event.kind == "device-removal-failed" and event.details.get("alias") in pending:
                    message = f"{command.name}: the guest of {domain} refuses to release the device"
                    return Outcome(self._failed(InvalidStateError, message), None)
                if time.monotonic() >= deadline:
                    return Outcome(self._still_there(command.name, domain, timeout), None)
            return outcome

    def _still_there(self, name: str, domain: str | int, timeout: float) -> Result:
        message = f"{name}: the guest of {domain} has not released the device within {timeout:g} s"
        if self._caller.check:
            error = CommandTimeoutError(f"virsh {message}")
            error.outcome_unknown = True  # it still may
            raise error
        return Result(255, "", f"error: Timed out during operation: {message}\n", outcome_unknown=True)


def _detaching(command: Command, find: Find, *, check: bool) -> Plan[tuple[Outcome[Removal], frozenset[str]]]:
    """Detach a device; the value has the aliases of the devices that may be the one, as well."""
    try:
        command = yield from resolved(command)
    except NotFoundError as error:
        if check:
            raise
        return Outcome(Result(1, "", f"error: {error}\n"), None), frozenset()
    read = Command("dumpxml", {"domain": command.options["domain"]})
    before, result, after = yield (read, command, read)
    if check:
        checked(command, result)
    if not result.status or not before.status or not _is_about_running(command, before.stdout):
        return Outcome(result, "removed" if result.status else None), frozenset()
    devices = _devices(before.stdout)
    meant = frozenset(map(_alias, find(devices))) or _aliases(before.stdout)
    if not after.status or not meant <= _aliases(after.stdout):  # or the domain is gone, and all its devices
        return Outcome(result, "removed"), meant
    return Outcome(Result(0, _REQUESTED, result.stderr), "requested"), meant


def _live_aliases(domain: str | int) -> Plan[frozenset[str]]:
    """Return the aliases of the devices that a running domain has; none if it has stopped or is gone."""
    try:
        read = yield from resolved(Command("dumpxml", {"domain": domain}))
    except NotFoundError:
        return frozenset()
    (result,) = yield (read,)
    return _aliases(result.stdout) if result.status else frozenset()


def _is_about_running(command: Command, document: str) -> bool:
    """Return whether a device is detached from a running domain, and not only from a definition."""
    options = command.options
    is_of_config_only = options.get("config") and not options.get("live") and not options.get("persistent")
    return not is_of_config_only and xml.root(document).get("id") is not None


def _devices(document: str) -> list[etree._Element]:
    """Return the devices in the configuration of a running domain that libvirt has given an alias."""
    return [device for device in xml.root(document).iterfind("devices/*") if _alias(device)]


def _aliases(document: str) -> frozenset[str]:
    return frozenset(map(_alias, _devices(document)))


def _alias(device: etree._Element) -> str:
    return xml.attribute(device, "alias", "name") or ""


def _attributes(device: etree._Element, *children: str) -> set[str]:
    """Return the values of all attributes of the children of these names."""
    return {str(value) for name in children for child in device.iterfind(name) for value in child.values()}


def _most_similar(wanted: etree._Element) -> Find:
    """Find the devices that share the most attributes and texts with a description."""

    def find(devices: Sequence[etree._Element]) -> list[etree._Element]:
        said = _facts(wanted)
        scores = {device: len(said & _facts(device)) for device in devices if device.tag == wanted.tag}
        return [device for device, score in scores.items() if score == max(scores.values())]

    return find


def _facts(element: etree._Element, path: str = "") -> set[tuple[str, str, str]]:
    """Return all attributes and texts of an element and those below it."""
    facts = {(path, str(name), str(value)) for name, value in element.items()}
    facts |= {(path, "", element.text.strip())} if element.text and element.text.strip() else set()
    return facts.union(*(_facts(child, f"{path}/{child.tag!s}") for child in element))


def _first(plan: Plan[tuple[T, object]]) -> Plan[T]:
    return (yield from plan)[0]
