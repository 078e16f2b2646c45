"""Devices that are detached from running guests: removed, or only requested, as the guest has yet to answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import unix
from kvm import CommandTimeoutError, Hypervisor, InvalidStateError, NotFoundError, xml
from kvm.groups.domain import detaching
from libvirtd import Libvirtd
from waiting import wait_until

NAME = "detaching"
MAC, OTHER_MAC = "52:54:00:00:de:01", "52:54:00:00:de:02"


def disk(path: Path, bus: str) -> dict[str, Any]:
    path.write_bytes(bytes(1 << 20))
    return {"@type": "file", "source": {"@file": str(path)}, "target": {"@dev": path.name, "@bus": bus}}


def interface(mac: str) -> dict[str, Any]:
    return {"@type": "user", "mac": {"@address": mac}, "model": {"@type": "virtio"}}


@pytest.fixture
def guest(libvirtd: Libvirtd, tmp_path: Path) -> Iterator[Hypervisor]:
    """A running guest without an operating system, which answers no request to release a PCI device."""
    if os.geteuid() != 0:
        pytest.skip("QEMU has to read the disks")
    conf = {
        "@type": "qemu",
        "name": NAME,
        "memory": {"@unit": "MiB", "#text": 32},
        "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
        "features": {"acpi": True},
        "devices": {
            "disk": [disk(tmp_path / "vda", "virtio"), disk(tmp_path / "vdb", "virtio"), disk(tmp_path / "sda", "usb")],
            "interface": [interface(MAC), {**interface(OTHER_MAC), "alias": {"@name": "ua-other"}}],
        },
    }
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        hypervisor.domain.define(conf)
        hypervisor.domain.start(NAME)
        yield hypervisor
        with suppress(InvalidStateError):
            hypervisor.domain.destroy(NAME)
        hypervisor.domain.undefine(NAME)


def disks(guest: Hypervisor, **options: bool) -> set[str]:
    return set(guest.domain.conf(NAME, xpath="//disk/target/@dev", **options))


def test_disk_that_the_guest_keeps_is_requested(guest: Hypervisor, tmp_path: Path) -> None:
    kept = guest.domain.detach_disk(NAME, "vdb", live=True, config=True)
    assert (kept.status, kept.value) == (True, "requested")
    assert "request sent" in kept.stdout
    assert "vdb" in disks(guest)
    assert disks(guest, inactive=True) == {"vda", "sda"}
    gone = guest.domain.detach_disk(NAME, str(tmp_path / "sda"), live=True)  # USB does not ask
    assert (gone.status, gone.value) == (True, "removed")
    assert "detached successfully" in gone.stdout
    assert disks(guest) == {"vda", "vdb"}


def test_device_leaves_the_definition_at_once(guest: Hypervisor) -> None:
    assert guest.domain.detach_disk(NAME, "vda", config=True).value == "removed"
    assert guest.domain.detach_interface(NAME, "user", mac=MAC.upper(), config=True).value == "removed"
    assert guest.domain.detach_device(NAME, {"interface": interface(OTHER_MAC)}, config=True).value == "removed"
    assert guest.domain.conf(NAME, inactive=True)["devices"].get("interface") is None
    assert disks(guest) == {"vda", "vdb", "sda"}


def test_waiting_for_a_guest_that_keeps_a_device_is_bounded(guest: Hypervisor) -> None:
    assert guest.domain.detach_device_alias(NAME, "ua-other").value == "requested"
    with pytest.raises(NotFoundError):
        guest.domain.detach_device_alias(NAME, "ua-nothing", wait=True)
    with pytest.raises(CommandTimeoutError, match=r"has not released the device within 0\.3 s") as raised:
        guest.domain.detach_disk(NAME, "vdb", wait=True, timeout=0.3)
    assert raised.value.outcome_unknown
    unchecked = Hypervisor(guest.host, guest.uri, check=False)
    result = unchecked.domain.detach_device_alias(NAME, "virtio-disk0", wait=True, timeout=0.1)
    assert (result.status, result.value, result.outcome_unknown) == (False, None, True)
    nowhere = unchecked.domain.detach_disk(4321, "vda")
    assert (nowhere.status, nowhere.value, nowhere.outcome_unknown) == (False, None, False)


def test_waiting_ends_when_the_device_is_removed(guest: Hypervisor) -> None:
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(guest.domain.detach_device_alias, NAME, "ua-other", wait=True, timeout=60)

        def is_done() -> bool:
            guest.domain.reset(NAME)  # a reset removes what was requested
            return call.done()

        wait_until(is_done)
    assert call.result().value == "removed"
    assert guest.domain.conf(NAME, xpath="//interface/mac/@address") == [MAC]


def test_device_is_recognized_by_what_is_said_of_it() -> None:
    devices = xml.parse(
        "<devices>"
        "<disk><driver name='qemu'/><source file='/a'/><target dev='vda'/><alias name='one'/></disk>"
        "<disk><driver name='qemu'/><source file='/b'/><target dev='vdb'/><alias name='two'/></disk>"
        "<interface><driver name='qemu'/><source file='/b'/><target dev='vdb'/><alias name='three'/></interface>"
        "</devices>"
    )
    disk = xml.parse("<disk><driver name='qemu'/><source file='/b'/><target dev='vdb'/></disk>")
    found = [detaching._alias(each) for each in detaching._most_similar(disk)(list(devices))]
    assert found == ["two"]
    bare = detaching._most_similar(xml.parse("<disk/>"))(list(devices))
    assert [detaching._alias(each) for each in bare] == ["one", "two"]
