"""What hosts do to a guest that lives, as the guest sees it: devices, memory, CPUs, snapshots, its start and end."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tinyguest
import unix
from kvm import (
    AgentError,
    CommandTimeoutError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    NotFoundError,
    NotSupportedError,
    Quantity,
)
from kvm.groups.domain import Domain, booting
from libvirtd import Libvirtd
from test_domain import GUEST
from test_networks import Apart, leasing
from waiting import wait_until

MIB = 1024**2
MAC = "52:54:00:00:00:01"


class Tiny:
    """The guest that these tests are about: its name, its host's methods for it, its disk, and what it sees."""

    name = "living"

    def __init__(self, hypervisor: Hypervisor, disk: Path) -> None:
        self.hypervisor = hypervisor
        self.domain = hypervisor.domain
        self.snapshot = hypervisor.snapshot
        self.checkpoint = hypervisor.checkpoint
        self.image = hypervisor.image
        self.disk = disk

    def run(self, script: str, *arguments: str) -> str:
        return tinyguest.run(self.hypervisor, self.name, script, *arguments).strip()

    def sees(self, script: str, expected: str) -> bool:
        """Whether a script in the guest prints something, if not at once then soon."""
        deadline = time.monotonic() + 60
        while (printed := self.run(script)) != expected:
            if time.monotonic() > deadline:
                pytest.fail(f"the guest prints {printed!r} and not {expected!r} for {script}")
            time.sleep(0.1)
        return True

    def write(self, what: str) -> None:
        """Have the guest write to its disk, and be through with it."""
        self.run('head -c 2000000 /dev/urandom > "/mnt/$1"; sync', what)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Have the guest stand still, and its image be complete, for the duration of a block."""
        self.domain.suspend(self.name)
        yield
        self.domain.resume(self.name)

    @contextmanager
    def without_answers(self) -> Iterator[None]:
        """Have the agent be there, but not answer, for the duration of a block."""
        with self.domain.open_console(self.name) as console:
            console.write(b"kill -STOP $(pidof qemu-ga); echo st''opped\r")
            console.read_until(b"stopped", timeout=60)
            yield
            console.write(b"kill -CONT $(pidof qemu-ga); echo g''one on\r")
            console.read_until(b"gone on", timeout=60)
        tinyguest.wait_for_agent(self.hypervisor, self.name)

    def memory(self) -> int:
        return int(self.run("grep MemTotal /proc/meminfo").split()[1]) * 1024

    def has_memory(self, expected: int) -> bool:
        """Whether the guest has so many bytes, more or less, if not at once then soon."""
        wait_until(lambda: abs(self.memory() - expected) <= 6 * MIB, lambda: (self.memory(), expected))
        return True

    def devices(self, tag: str) -> list[Any]:
        return [each[tag] for each in self.domain.conf(self.name, xpath=f"//devices/{tag}")]

    def bitmaps(self) -> set[str]:
        """The names of the bitmaps in the disk's image."""
        data = self.image.info(self.disk)["format_specific"]["data"]
        return {each["name"] for each in data.get("bitmaps", [])}


class AfterStart(logging.Handler):
    """Does something once: when a virsh has been asked the first thing after `start`, whose success is known then."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act
        self._has_started = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._has_started and not self._thread:
            self._thread = threading.Thread(target=self._act)
            self._thread.start()
        self._has_started |= record.getMessage().startswith("virsh start ")

    def __enter__(self) -> None:
        logger = logging.getLogger("kvm")
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("kvm")
        logger.removeHandler(self)
        logger.setLevel(self._level)
        assert self._thread
        self._thread.join()


def image(path: Path, size: str) -> dict[str, Any]:
    """A new image, as a disk that has the name of its file."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, size], check=True)
    return {
        "@type": "file",
        "driver": {"@name": "qemu", "@type": "qcow2"},
        "source": {"@file": str(path)},
        "target": {"@dev": path.name, "@bus": "virtio"},
    }


@pytest.fixture(scope="module")
def hypervisor(host: unix.Host, libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(host, libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def tiny(hypervisor: Hypervisor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A guest that has booted, to which more can be plugged."""
    tinyguest.require()
    directory = tmp_path_factory.mktemp("living")
    conf = tinyguest.TinyGuest(directory).conf(Tiny.name, disk=image(directory / "vda", "32M"))
    conf["maxMemory"] = {"@slots": 2, "@unit": "MiB", "#text": 512}
    conf["vcpu"] = {"@current": 1, "#text": 2}
    conf["cpu"] = {"numa": {"cell": {"@id": 0, "@cpus": "0-1", "@memory": 128, "@unit": "MiB"}}}
    conf["os"]["cmdline"] += " memhp_default_state=online_movable"
    hypervisor.domain.define(conf)
    try:
        hypervisor.domain.start(Tiny.name, wait="agent")
        yield Tiny(hypervisor, directory / "vda")
    finally:
        if Tiny.name in hypervisor.list_domains():
            hypervisor.domain.destroy(Tiny.name)
        hypervisor.domain.undefine(Tiny.name, snapshots_metadata=True, checkpoints_metadata=True, managed_save=True)


# -- snapshots


def test_a_tree_of_snapshots_takes_the_guest_back_to_each_branch(tiny: Tiny) -> None:
    snapshot, name = tiny.snapshot, tiny.name
    for branch, parent in (("root", None), ("left", "root"), ("right", "root")):
        if parent and snapshot.current(name, name=True) != parent:
            snapshot.revert(name, parent)
            assert tiny.run("cat /run/where /mnt/where") == f"{parent}\n{parent}"
        tiny.run('echo "$1" > /run/where; echo "$1" > /mnt/where; sync', branch)
        snapshot.create_as(name, branch, progress=lambda done: None)
    assert snapshot.list(name, tree=True) == {"root": {"left": {}, "right": {}}}
    assert [each["name"] for each in tiny.image.snapshot(tiny.disk, force_share=True)] == ["root", "left", "right"]
    snapshot.revert(name, "left")
    assert tiny.run("cat /run/where /mnt/where") == "left\nleft"
    assert snapshot.current(name, name=True) == "left"

    conf = snapshot.conf(name, "left", security_info=True)
    snapshot.delete(name, "left", metadata=True)
    assert [each["name"] for each in tiny.image.snapshot(tiny.disk, force_share=True)] == ["root", "left", "right"]
    snapshot.create(name, {**conf, "description": "redefined"}, redefine=True, current=True)
    assert snapshot.conf(name, "left")["description"] == "redefined"
    assert snapshot.list(name, tree=True) == {"root": {"left": {}, "right": {}}}
    assert snapshot.current(name, name=True) == "left"

    snapshot.delete(name, "root", children_only=True)
    assert [each["name"] for each in tiny.image.snapshot(tiny.disk, force_share=True)] == ["root"]
    snapshot.delete(name, "root", children=True)
    assert tiny.image.snapshot(tiny.disk, force_share=True) == []
    assert snapshot.list(name) == {}
    assert tiny.run("cat /run/where") == "left"


def test_external_snapshots_are_a_chain_of_images(tiny: Tiny) -> None:
    snapshot, name = tiny.snapshot, tiny.name
    files = [tiny.disk]
    for number in (1, 2):
        tiny.run('echo "$1" > /mnt/chain; sync', str(number))
        files.insert(0, tiny.disk.with_name(f"over{number}"))
        spec = f"vda,snapshot=external,file={files[0]}"
        snapshot.create_as(name, f"before{number}", disk_only=True, atomic=True, quiesce=True, diskspec=spec)
        assert tiny.domain.blklist(name)[0]["source"] == str(files[0])
    chain = tiny.image.info(files[0], backing_chain=True, force_share=True)
    assert [each["filename"] for each in chain] == [str(file) for file in files]
    assert snapshot.list(name, tree=True) == {"before1": {"before2": {}}}
    assert snapshot.list(name, external=True).keys() == {"before1", "before2"}
    with pytest.raises(NotSupportedError):
        snapshot.revert(name, "before1")
    for remaining in (["before1"], []):  # what is in its image goes to the one below
        files.pop(0)
        snapshot.delete(name, f"before{len(files)}")
        assert list(snapshot.list(name)) == remaining
        chain = tiny.image.info(files[0], backing_chain=True, force_share=True)
        assert [each["filename"] for each in chain] == [str(file) for file in files]
        assert tiny.domain.blklist(name)[0]["source"] == str(files[0])
    assert tiny.run("cat /mnt/chain") == "2"


# -- checkpoints and backups


def test_backups_since_checkpoints_add_up_to_the_disk(tiny: Tiny) -> None:
    domain, name, directory = tiny.domain, tiny.name, tiny.disk.parent
    full, rest = directory / "full", directory / "rest"

    def push(target: Path, **more: Any) -> dict[str, Any]:
        drive = {"@name": "vda", "@type": "file", "target": {"@file": str(target)}, "driver": {"@type": "qcow2"}}
        return {**more, "disks": {"disk": drive}}

    tiny.write("one")
    assert domain.backup_begin(name, push(full), {"name": "monday"}, wait=True).status
    tiny.write("two")
    told: list[float] = []
    with tiny.still():
        domain.backup_begin(name, push(rest, incremental="monday"), {"name": "tuesday"}, progress=told.append)
        assert told[-1] == 1.0
        assert not tiny.image.compare(full, tiny.disk, a_format="qcow2", b_format="qcow2", force_share=True)
        tiny.image.rebase(rest, full, backing_unsafe=True, backing_format="qcow2")
        assert tiny.image.compare(rest, tiny.disk, a_format="qcow2", b_format="qcow2", force_share=True)
    assert tiny.checkpoint.list(name, tree=True) == {"monday": {"tuesday": {}}}


def test_a_backup_that_is_pulled_shows_what_has_changed(tiny: Tiny) -> None:
    domain, name, directory = tiny.domain, tiny.name, tiny.disk.parent
    socket = directory / "socket"
    tiny.write("three")
    scratch = {"scratch": {"@file": str(directory / "scratch")}}
    pull = {
        "@mode": "pull",
        "incremental": "tuesday",
        "server": {"@transport": "unix", "@socket": str(socket)},
        "disks": {"disk": {"@name": "vda", "@type": "file", "@exportbitmap": "since", **scratch}},
    }
    export: dict[str, Any] = {"driver": "nbd", "export": "vda", "server": {"type": "unix", "path": str(socket)}}
    with tiny.still():
        assert domain.backup_begin(name, pull, wait=True).status
        assert domain.backup_conf(name)["@mode"] == "pull"
        assert tiny.image.compare(export, tiny.disk, b_format="qcow2", force_share=True)
        changed = tiny.image.map({**export, "x-dirty-bitmap": "qemu:dirty-bitmap:since"})
        assert 2 * MIB <= sum(extent["length"] for extent in changed if not extent["data"]) < 16 * MIB
        domain.jobabort(name)
    assert domain.jobinfo(name) is None


def test_checkpoints_are_bitmaps_of_the_image(tiny: Tiny) -> None:
    checkpoint, name = tiny.checkpoint, tiny.name
    tiny.write("four")
    checkpoint.create_as(name, "wednesday")
    assert checkpoint.list(name, tree=True) == {"monday": {"tuesday": {"wednesday": {}}}}
    (size,) = checkpoint.conf(name, "tuesday", size=True, xpath="//disk[@name='vda']/@size")
    assert int(size) >= 2 * MIB
    conf = checkpoint.conf(name, "wednesday", security_info=True)
    checkpoint.delete(name, "wednesday", metadata=True)
    checkpoint.create(name, conf, redefine=True, redefine_validate=True)
    checkpoint.delete(name, "monday")
    assert checkpoint.list(name, tree=True) == {"tuesday": {"wednesday": {}}}
    checkpoint.create(name, {"name": "thursday"})
    checkpoint.delete(name, "thursday", children=True)
    assert checkpoint.list(name, leaves=True).keys() == {"wednesday"}


# -- hotplug


def test_a_disk_comes_grows_and_goes(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    disk = image(tiny.disk.with_name("vdb"), "8M")
    assert domain.attach_device(name, {"disk": {**disk, "serial": "S1"}}, live=True).status
    assert tiny.sees("cat /sys/block/vdb/serial /sys/block/vdb/size", f"S1{8 * MIB // 512}")
    domain.blockresize(name, "vdb", Quantity("16 MiB"))
    assert tiny.sees("cat /sys/block/vdb/size", str(16 * MIB // 512))
    assert domain.blkinfo(name, "vdb")["capacity"] == 16 * MIB
    (plugged,) = (each for each in tiny.devices("disk") if each["target"]["@dev"] == "vdb")
    assert domain.detach_device(name, {"disk": plugged}, live=True).value == "removed"
    assert tiny.sees("ls /sys/block | grep -c vd", "1")
    assert len(tiny.devices("disk")) == 1


def test_a_network_card_comes_loses_its_carrier_and_goes(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    card = {"@type": "user", "mac": {"@address": MAC}, "model": {"@type": "virtio"}, "alias": {"@name": "ua-card"}}
    assert domain.attach_device(name, {"interface": card}, live=True).status
    assert tiny.sees("cat /sys/class/net/eth1/address", MAC)
    tiny.run("ip link set eth1 up")
    assert tiny.sees("cat /sys/class/net/eth1/carrier", "1")
    domain.if_setlink(name, MAC, "down")
    assert tiny.sees("cat /sys/class/net/eth1/carrier", "0")
    assert domain.if_getlink(name, MAC) == "down"
    plugged = next(each for each in tiny.devices("interface") if each["mac"]["@address"] == MAC)
    assert domain.update_device(name, {"interface": {**plugged, "link": {"@state": "up"}}}, live=True).status
    assert tiny.sees("cat /sys/class/net/eth1/carrier", "1")
    with domain.event(name, event="device-removed", timeout=60) as events:
        assert domain.detach_device_alias(name, "ua-card", live=True, wait=True).value == "removed"
        assert next(events).details == {"alias": "ua-card"}
    assert tiny.run("ls /sys/class/net") == "eth0\nlo"


def test_memory_comes_by_a_module_and_goes_by_the_balloon(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    before = tiny.memory()
    module = {"@model": "dimm", "target": {"size": Quantity("128 MiB"), "node": 0}, "alias": {"@name": "ua-module"}}
    assert domain.attach_device(name, {"memory": module}, live=True).status
    assert tiny.has_memory(before + 128 * MIB)
    assert domain.setmem(name, 224 * MIB).status
    assert tiny.has_memory(before + 96 * MIB)
    assert domain.memstat(name)["actual"] == 224 * MIB
    assert domain.setmem(name, "256MiB").status
    assert tiny.has_memory(before + 128 * MIB)
    with domain.event(name, event="device-removed", timeout=60) as events:
        assert domain.detach_device_alias(name, "ua-module", live=True).status
        assert next(events).details == {"alias": "ua-module"}
    assert tiny.has_memory(before)


def test_a_memory_device_is_updated_and_the_guest_has_more_of_it(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    before = tiny.memory()
    size = {"size": Quantity("256 MiB"), "node": 0, "block": Quantity("2 MiB"), "requested": Quantity("128 MiB")}
    device = {"@model": "virtio-mem", "target": size, "alias": {"@name": "ua-memory"}}
    assert domain.attach_device(name, {"memory": device}, live=True).status
    assert tiny.has_memory(before + 128 * MIB)
    with domain.event(name, event="memory-device-size-change", timeout=60) as events:
        assert domain.update_memory_device(name, requested_size=Quantity("256 MiB"), alias="ua-memory").status
        assert any(event.details == {"alias": "ua-memory", "size": 256 * MIB} for event in events)
    assert tiny.has_memory(before + 256 * MIB)
    (plugged,) = tiny.devices("memory")
    assert plugged["target"]["current"] == {"@unit": "KiB", "#text": str(256 * 1024)}
    assert domain.update_memory_device(name, requested_size=0, alias="ua-memory").status
    assert tiny.has_memory(before)


def test_a_cpu_comes_and_the_guest_stops_using_it(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    assert tiny.run("cat /sys/devices/system/cpu/present") == "0"
    assert domain.setvcpus(name, 2).status
    assert tiny.sees("cat /sys/devices/system/cpu/present", "0-1")
    assert domain.setvcpus(name, 2, guest=True).status
    assert tiny.run("cat /sys/devices/system/cpu/online") == "0-1"
    assert domain.guestvcpus(name) == {"vcpus": [0, 1], "online": [0, 1], "offlinable": [1]}
    assert domain.guestvcpus(name, [1], disable=True).status
    assert tiny.run("cat /sys/devices/system/cpu/online") == "0"
    assert domain.vcpucount(name, guest=True) == 1


# -- the agent


def test_an_address_that_nobody_else_can_use_is_none() -> None:
    def told(*addresses: str, mac: str | None = MAC) -> dict[str, Any]:
        of_card = [{"type": "ipv6" if ":" in each else "ipv4", "address": each, "prefix": 8} for each in addresses]
        return {"lo": {"hwaddr": mac, "addresses": of_card}}

    assert booting.reachable({}, {MAC}) is None
    useless = told(
        "127.0.0.1", "::1", "fe80::1", "fe80::1%eth0", "169.254.7.7", "0.0.0.0", "::", "224.0.0.9", "ff02::1"
    )
    assert booting.reachable(useless, {MAC}) is None
    assert booting.reachable(told("fe80::1", "2001:db8::7"), {MAC}) == "2001:db8::7"
    assert booting.reachable(told("192.0.2.7", mac=None), {MAC}) is None
    assert booting.reachable(told("192.0.2.7", mac=MAC.upper()), {MAC}) == "192.0.2.7"


def test_the_guest_tells_the_addresses_that_it_has(tiny: Tiny) -> None:
    told = tiny.domain.ifaddr(tiny.name, source="agent")
    assert told["eth0"]["hwaddr"] == tiny.run("cat /sys/class/net/eth0/address")
    assert {"type": "ipv4", "address": "10.0.2.15", "prefix": 24} in told["eth0"]["addresses"]
    assert told["lo"]["addresses"][0] == {"type": "ipv4", "address": "127.0.0.1", "prefix": 8}


ASKING: dict[str, Callable[[Domain, str], object]] = {
    "fsinfo": lambda domain, name: domain.fsinfo(name),
    # libvirt tells an agent nothing that has not answered what it was asked before, so this is not done later:
    "fsfreeze": lambda domain, name: domain.fsfreeze(name),
    "fsthaw": lambda domain, name: domain.fsthaw(name),
    "fstrim": lambda domain, name: domain.fstrim(name),
    "hostname": lambda domain, name: domain.hostname(name, source="agent"),
    "time": lambda domain, name: domain.time(name),
    "set time": lambda domain, name: domain.time(name, now=True),
    "guestinfo": lambda domain, name: domain.guestinfo(name),
    "get_user_sshkeys": lambda domain, name: domain.get_user_sshkeys(name, "root"),
    "set_user_sshkeys": lambda domain, name: domain.set_user_sshkeys(name, "root", file=["ssh-rsa AAAA"]),
    "set_user_password": lambda domain, name: domain.set_user_password(name, "root", "geheim"),
    "qemu_agent_command": lambda domain, name: domain.qemu_agent_command(name, {"execute": "guest-ping"}),
    "ifaddr": lambda domain, name: domain.ifaddr(name, source="agent"),
    "guestvcpus": lambda domain, name: domain.guestvcpus(name),
    "vcpucount": lambda domain, name: domain.vcpucount(name, guest=True),
}


def test_an_agent_that_does_not_answer_is_an_error_of_its_own(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    with tiny.without_answers():
        domain.guest_agent_timeout(name, timeout=0)
        for what, ask in ASKING.items():
            with pytest.raises(AgentError, match="not available for now"):
                ask(domain, name)
                pytest.fail(what)
        domain.guest_agent_timeout(name, timeout=-1)
    thawed = {"return": "thawed"}
    assert domain.qemu_agent_command(name, {"execute": "guest-fsfreeze-status"}) == thawed
    assert domain.hostname(name) == "tiny"


# -- its start and its end


def test_a_start_says_what_has_become_of_the_guest(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    tiny.run("ip address add 172.17.0.1/16 dev lo")  # of the guest's own, as the bridge of its containers has one
    tiny.run("ip address flush dev eth0; (sleep 2; ip address add 10.0.2.15/24 dev eth0) > /dev/null 2>&1 &")
    assert domain.managedsave(name).status
    assert tiny.bitmaps() == set(tiny.checkpoint.list(name))  # which are in the image, now that nobody has it open
    started = domain.start(name, wait="address")
    assert started.stdout.splitlines()[-1] == "10.0.2.15"
    with pytest.raises(InvalidStateError, match="already active"):
        domain.start(name, wait="agent")

    tiny.run("kill -STOP $(pidof acpid)")
    stopped = domain.stop(name, timeout=0.5, force=True, mode="acpi")
    assert "was destroyed: it has not shut down within 0.5 s" in stopped.stdout
    with pytest.raises(CommandTimeoutError, match=r"was started, but its guest agent was not there within 0\.1 s"):
        domain.start(name, wait="agent", timeout=0.1)
    assert domain.state(name) == "running"
    domain.destroy(name)
    with (
        AfterStart(lambda: domain.destroy(name)),
        pytest.raises(InvalidStateError, match="was started, and has stopped again: destroyed"),
    ):
        domain.start(name, wait="address")


def test_a_start_that_cannot_be_waited_for_is_not_begun(tiny: Tiny) -> None:
    domain, name = tiny.domain, tiny.name
    conf = domain.conf(name, inactive=True)
    del conf["devices"]["channel"]
    domain.define(conf)
    with pytest.raises(AgentError, match="no channel for a guest agent, and was not started"):
        domain.start(name, wait="agent")
    with pytest.raises(InvalidArgumentError, match="paused"):
        domain.start(name, wait="address", paused=True)
    with pytest.raises(InvalidArgumentError, match="not for 'boot'"):
        domain.start(name, wait="boot")  # type: ignore[arg-type]
    with pytest.raises(TypeError), tiny.hypervisor.pipeline() as pipe:
        pipe.domain.start(name, wait="agent")
    with pytest.raises(NotFoundError):
        domain.start("nobody", wait="agent")
    assert domain.id(name) is None


def test_an_address_that_was_leased_before_tells_nothing() -> None:
    """Of a guest that is not there at all: what dnsmasq would note of it is noted for it."""
    if os.geteuid() != 0 or not shutil.which("dnsmasq", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("only root may make a network namespace, and it needs dnsmasq")
    daemon = Apart()
    try:
        (daemon.home / "lib" / "dnsmasq").mkdir(exist_ok=True)
        notes = daemon.home / "lib" / "dnsmasq" / "virbr1.status"

        def lease(seconds: int) -> None:
            one = {"ip-address": "192.168.77.10", "mac-address": MAC, "expiry-time": int(time.time()) + seconds}
            notes.write_text(json.dumps([one]))

        with Hypervisor(unix.Local(timeout=60), daemon.uri) as hypervisor:
            hypervisor.network.create(leasing(1))
            card = {"@type": "network", "source": {"@network": "net1"}, "mac": {"@address": MAC}}
            hypervisor.domain.define({**GUEST, "devices": {"interface": card}})
            lease(3600)
            with pytest.raises(CommandTimeoutError, match="was started, but an address of its guest was not there"):
                hypervisor.domain.start("guest", wait="address", timeout=0.7)
            hypervisor.domain.destroy("guest")

            with AfterStart(lambda: lease(7200)):
                assert hypervisor.domain.start("guest", wait="address").stdout.endswith("\n192.168.77.10\n")
    finally:
        daemon.stop()
