"""What is the same whether a hypervisor is this machine or one that OpenSSH reaches: what is read, and what is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest

import unix
from kvm import Hypervisor, KvmError
from kvm.groups.bound import Bound
from libvirtd import Libvirtd
from sshd import Sshd
from test_complete import readings
from test_domain import GUEST

DISK = {"@type": "file", "driver": {"@name": "qemu", "@type": "qcow2"}, "target": {"@dev": "vda", "@bus": "virtio"}}
DEVICES = {
    "controller": {"@type": "scsi", "@model": "virtio-scsi"},
    "interface": {"@type": "user", "mac": {"@address": "52:54:00:00:77:01"}, "alias": {"@name": "ua-net"}},
    "graphics": {"@type": "vnc", "@autoport": True},
}
MOVING = {"cpustats", "info", "memstat", "stats", "vcpuinfo", "jobinfo"}
"""Readers of what changes from one call to the next, also while the guest is paused."""


Ways: TypeAlias = tuple[Hypervisor, Hypervisor]


@pytest.fixture(scope="module")
def ways(
    libvirtd: Libvirtd, sshd: Sshd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Hypervisor, Hypervisor]]:
    """The same hypervisor from here and from afar, where the domain ``guest`` runs."""
    image = tmp_path_factory.mktemp("disks") / "vda.qcow2"
    with (
        Hypervisor(unix.Local(timeout=60), libvirtd.uri) as here,
        sshd.connect({"timeout": 60}) as remote,
        Hypervisor(remote, libvirtd.uri) as there,
    ):
        here.image.create(image, "4M", format="qcow2")
        devices = {**DEVICES, "disk": {**DISK, "source": {"@file": str(image)}}}
        here.domain.define({**GUEST, "vcpu": {"@current": 1, "#text": 2}, "devices": devices})
        here.domain.start("guest")
        try:
            yield here, there
        finally:
            if here.domain.id("guest") is not None:
                here.domain.destroy("guest")
            here.domain.undefine("guest", managed_save=True)


def value_or_error(one: Any, name: str) -> object:
    try:
        return getattr(one, name)()
    except KvmError as error:
        return type(error), str(error)


@pytest.fixture
def still(ways: Ways) -> Iterator[None]:
    """Have the guest paused: what it does would change its screen and its counters between two readings."""
    ways[0].domain.suspend("guest")
    yield
    ways[0].domain.resume("guest")


def test_readings_of_a_guest_are_the_same_both_ways(ways: Ways, still: None) -> None:
    here, there = ways
    names = set(readings(cast(Bound, here.domain["guest"])))
    for name in sorted(names - MOVING):
        assert value_or_error(here.domain["guest"], name) == value_or_error(there.domain["guest"], name), name
    for name in MOVING & names:
        assert type(value_or_error(here.domain["guest"], name)) is type(value_or_error(there.domain["guest"], name))
    assert len(names) > 40
    disk = "vda"
    assert there.domain.blkdeviotune("guest", disk) == here.domain.blkdeviotune("guest", disk)
    assert there.domain.blkstat("guest", disk) == here.domain.blkstat("guest", disk)
    assert there.domain.xml_to_native("qemu-argv", domain="guest") == here.domain.xml_to_native(
        "qemu-argv", domain="guest"
    )


def test_a_running_guest_answers_from_afar(ways: Ways) -> None:
    there, card = ways[1], "52:54:00:00:77:01"
    assert there.domain.qemu_monitor_command("guest", "query-status", return_value=True)["status"] == "running"
    assert there.domain.if_getlink("guest", card) == "up"


def test_a_running_guest_is_changed_from_afar_and_seen_from_here(ways: Ways) -> None:
    here, there = ways[0].domain["guest"], ways[1].domain["guest"]
    there.blockresize("vda", "8M")
    assert here.blkinfo("vda")["capacity"] == 8 * 2**20
    there.if_setlink("52:54:00:00:77:01", "down")
    assert here.if_getlink("52:54:00:00:77:01") == "down"
    there.iothreadadd(3)
    there.iothreadset(3, poll_max_ns=5000)
    assert set(here.iothreadinfo()) == {3}
    there.iothreaddel(3)
    assert here.iothreadinfo() == {}
    there.migrate_setspeed("10 MiB/s")
    there.migrate_setmaxdowntime(500)
    assert (here.migrate_getspeed(), here.migrate_getmaxdowntime()) == (there.migrate_getspeed(), 500 * 10**6)
    there.blkthreshold("vda", 4096)
    there.send_key("KEY_A")
    there.inject_nmi()
    there.reset()
    there.setvcpus(2, config=True)
    assert here.vcpucount(config=True, current=True) == 2
    there.dirtyrate_calc(seconds=1)
    there.detach_device_alias("ua-net")
    assert here.state() == "running"


def test_a_guest_is_saved_and_dumped_from_afar(ways: Ways, tmp_path: Path) -> None:
    here, there = ways
    there.domain.coredump("guest", tmp_path / "core", memory_only=True, live=True)
    assert (tmp_path / "core").stat().st_size > 2**20
    file = tmp_path / "saved state"
    there.domain.save("guest", file)
    there.domain.save_edit(file, lambda conf: conf.update(title="edited"))
    conf = there.domain.save_conf(file)
    assert conf["title"] == here.domain.save_conf(file)["title"] == "edited"
    there.domain.save_define(file, {**conf, "@type": "qemu", "title": "defined"})
    there.domain.restore(file)
    assert here.domain.desc("guest", title=True) == "defined"
    there.domain.managedsave("guest")
    assert there.domain.managedsave_conf("guest") == here.domain.managedsave_conf("guest")
    there.domain.managedsave_edit("guest", lambda conf: conf.update(title="again"))
    there.domain.managedsave_define("guest", {**there.domain.managedsave_conf("guest"), "@type": "qemu"})
    there.domain.start("guest")
    assert here.domain.desc("guest", title=True) == "again"
    there.domain.managedsave("guest")
    there.domain.managedsave_remove("guest")
    there.domain.start("guest")
    assert here.domain.state("guest") == "running"


def test_networks_are_made_and_changed_from_afar(sshd: Sshd) -> None:
    with sshd.connect({"timeout": 60}) as remote, Hypervisor(remote, "test:///default") as there:
        network = there.network
        network.create({"name": "new", "ip": {"@address": "192.0.2.1", "@netmask": "255.255.255.0"}})
        assert network.name(network.uuid("new")) == "new"
        network.destroy("new")
        network.destroy("default")
        network.autostart("default", disable=True)
        network.start("default")
        assert (network.info("default")["active"], network.info("default")["autostart"]) == (True, False)
        (name,) = there.interface.list(all=True)
        assert there.interface.name(there.interface.mac(name)) == name
