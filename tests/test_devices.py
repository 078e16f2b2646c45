"""Devices, interfaces and disks of guests on a real QEMU, and what virsh prints of those that cannot be had here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unix
from kvm import (
    CommandTimeoutError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    NotSupportedError,
    Quantity,
    UnreadableOutputError,
)
from kvm.cli.top.look import Look
from kvm.groups.domain import blocks, devices
from kvm.groups.domain.devices import BandwidthLimits
from libvirtd import Libvirtd
from test_domain import GUEST
from waiting import wait_until

MAC = "52:54:00:00:00:01"
OTHER_MAC = "52:54:00:00:00:02"

Starter = Callable[..., Hypervisor]


def image(path: Path, *words: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, path, "8M"], check=True)
    return path


def disk(path: Path, target: str = "vda", **more: Any) -> dict[str, Any]:
    return {
        "@type": "file",
        "@device": "disk",
        "driver": {"@name": "qemu", "@type": "qcow2", **more},
        "source": {"@file": str(path)},
        "target": {"@dev": target, "@bus": "virtio"},
    }


def interface(mac: str, **more: Any) -> dict[str, Any]:
    return {"@type": "user", "mac": {"@address": mac}, "model": {"@type": "virtio"}, **more}


CDROM = {"@type": "file", "@device": "cdrom", "target": {"@dev": "hda", "@bus": "ide"}, "readonly": True}


@pytest.fixture
def start(libvirtd: Libvirtd) -> Iterator[Starter]:
    """A starter of a guest with the given devices, paused unless it is to run; gone with the test."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:

        def starter(paused: bool = True, **given: Any) -> Hypervisor:
            hypervisor.domain.define({**GUEST, "devices": given})
            hypervisor.domain.start("guest", paused=paused)
            return hypervisor

        yield starter
        for name, each in hypervisor.list_domains(all=True).items():
            if each["id"] is not None:
                hypervisor.domain.destroy(name)
            hypervisor.domain.undefine(name, checkpoints_metadata=True, snapshots_metadata=True)


@pytest.fixture
def defined(hypervisor: Hypervisor, tmp_path: Path) -> Iterator[Hypervisor]:
    """A hypervisor, here and by SSH, where a guest is defined that has a disk and an interface."""
    hypervisor.domain.define(
        {**GUEST, "devices": {"disk": disk(image(tmp_path / "a disk.qcow2")), "interface": interface(MAC)}}
    )
    yield hypervisor
    hypervisor.domain.undefine("guest")


def configured(hypervisor: Hypervisor, tag: str, **options: Any) -> list[Any]:
    """The guest's devices of a tag."""
    return [each[tag] for each in hypervisor.domain.conf("guest", xpath=f"//devices/{tag}", **options)]


# -- devices


def test_a_device_is_attached_as_it_was_returned_and_detached(defined: Hypervisor, tmp_path: Path) -> None:
    domain, path = defined.domain, image(tmp_path / "other.qcow2")
    device = domain.attach_disk(
        "guest", str(path), "vdb", driver="qemu", subdriver="qcow2", serial="S1", print_xml=True
    )
    assert device == {
        "disk": {
            "@type": "file",
            "driver": {"@name": "qemu", "@type": "qcow2"},
            "source": {"@file": str(path)},
            "target": {"@dev": "vdb"},
            "serial": "S1",
        }
    }
    assert len(configured(defined, "disk")) == 1
    assert domain.attach_device("guest", device, config=True).status
    assert configured(defined, "disk")[1]["serial"] == "S1"
    assert domain.detach_disk("guest", "vdb", print_xml=True)["disk"]["source"] == {"@file": str(path)}
    assert domain.detach_disk("guest", "vdb", config=True).status
    assert domain.attach_disk("guest", str(path), "vdc", subdriver="qcow2", config=True).status
    (attached,) = defined.domain.conf("guest", xpath="//disk[target/@dev='vdc']")
    assert domain.detach_device("guest", attached, config=True).status
    assert [each["target"] for each in domain.blklist("guest")] == ["vda"]


def test_an_interface_is_attached_changed_and_detached(defined: Hypervisor) -> None:
    domain = defined.domain
    printed = domain.attach_interface("guest", "bridge", "br0", mac=OTHER_MAC, inbound="100,200,50", print_xml=True)
    assert printed["interface"]["bandwidth"] == {"inbound": {"@average": "100", "@peak": "200", "@burst": "50"}}
    assert domain.attach_interface("guest", "bridge", "br0", mac=OTHER_MAC, model="virtio", config=True).status
    assert domain.iflist("guest") == [
        {"interface": None, "type": "user", "source": None, "model": "virtio", "mac": MAC},
        {"interface": None, "type": "bridge", "source": "br0", "model": "virtio", "mac": OTHER_MAC},
    ]
    changed = interface(MAC, link={"@state": "down"})
    assert domain.update_device("guest", {"interface": changed}, config=True).status
    assert domain.if_getlink("guest", MAC) == "down"
    assert domain.detach_interface("guest", type="bridge", print_xml=True)["interface"]["source"] == {"@bridge": "br0"}
    assert domain.detach_interface("guest", type="bridge", mac=OTHER_MAC, config=True).status
    assert [each["mac"] for each in domain.iflist("guest")] == [MAC]


def test_a_device_as_a_dict_needs_its_tag(test_driver: Hypervisor) -> None:
    for wrong in cast(list[dict[str, Any]], [{}, {"@type": "file", "target": {}}, {"disk": [{}]}, {"disk": None}]):
        with pytest.raises(InvalidArgumentError, match="has its tag"):
            test_driver.domain.attach_device("test", wrong)
    with pytest.raises(InvalidArgumentError, match="not well-formed"):
        test_driver.domain.detach_device("test", "<disk>")


def test_a_running_guest_gets_devices_and_lets_them_go(start: Starter) -> None:
    domain = start(interface=interface(MAC)).domain
    second = {"interface": interface(OTHER_MAC, alias={"@name": "ua-second"})}
    assert domain.attach_device("guest", second, live=True, config=True).status
    assert [each["mac"] for each in domain.iflist("guest")] == [MAC, OTHER_MAC]
    assert domain.iflist("guest", inactive=True) == domain.iflist("guest")
    assert domain.detach_device_alias("guest", "ua-second", config=True).status
    assert [each["mac"] for each in domain.iflist("guest", inactive=True)] == [MAC]
    assert domain.detach_device_alias("guest", "ua-second").status


def test_a_link_is_set_and_read_in_the_guest_and_in_its_definition(start: Starter) -> None:
    hypervisor = start(interface=interface(MAC))
    domain = hypervisor.domain
    assert domain.if_setlink("guest", MAC, "down", print_xml=True)["interface"]["link"] == {"@state": "down"}
    assert domain.if_getlink("guest", MAC) == "up"
    assert domain.if_setlink("guest", MAC, "down").status
    assert (domain.if_getlink("guest", MAC), domain.if_getlink("guest", MAC, config=True)) == ("down", "up")
    assert configured(hypervisor, "interface")[0]["link"] == {"@state": "down"}
    domain.if_setlink("guest", MAC, "down", config=True)
    assert domain.if_getlink("guest", MAC, config=True) == "down"


def test_media_are_inserted_changed_and_ejected(start: Starter, tmp_path: Path) -> None:
    domain = start(disk=CDROM).domain
    for name in ("one.iso", "the other.iso"):
        (tmp_path / name).write_bytes(bytes(4096))
    assert domain.blkinfo("guest", all=True) == {"hda": {"capacity": None, "allocation": None, "physical": None}}
    assert domain.change_media("guest", "hda", source=str(tmp_path / "one.iso"), insert=True).status
    assert domain.blklist("guest")[0]["source"] == str(tmp_path / "one.iso")
    with pytest.raises(InvalidStateError, match="already has media"):
        domain.change_media("guest", "hda", source=str(tmp_path / "the other.iso"), insert=True)
    would = domain.change_media("guest", "hda", source=str(tmp_path / "the other.iso"), print_xml=True)
    assert would["disk"]["source"]["@file"] == str(tmp_path / "the other.iso")
    assert domain.change_media("guest", "hda", source=str(tmp_path / "the other.iso")).status
    assert domain.blklist("guest") == [
        {"type": "file", "device": "cdrom", "target": "hda", "source": str(tmp_path / "the other.iso")}
    ]
    assert domain.change_media("guest", "hda", eject=True).status
    assert domain.blklist("guest")[0]["source"] is None


def test_a_memory_device_is_asked_to_change(libvirtd: Libvirtd, start: Starter) -> None:
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        size = {"size": Quantity("1 GiB"), "node": 0, "block": Quantity("2 MiB"), "requested": Quantity("512 MiB")}
        memory = {
            "maxMemory": {"@slots": 16, "@unit": "GiB", "#text": 4},
            "cpu": {"numa": {"cell": {"@id": 0, "@cpus": 0, "@memory": 32, "@unit": "MiB"}}},
            "devices": {"memory": {"@model": "virtio-mem", "target": size}},
        }
        hypervisor.domain.define({**GUEST, **memory})
        would = hypervisor.domain.update_memory_device("guest", requested_size="256MiB", print_xml=True)
        assert would["memory"]["target"]["requested"] == {"@unit": "KiB", "#text": str(256 * 1024)}
        hypervisor.domain.update_memory_device("guest", requested_size=Quantity("128 MiB"), config=True)
        requested = configured(hypervisor, "memory")[0]["target"]["requested"]
        assert requested == {"@unit": "KiB", "#text": str(128 * 1024)}


def test_open_files_are_given_a_name(start: Starter) -> None:
    domain = start().domain
    assert domain.fd_associate("guest", "input", 0).status
    assert domain.fd_associate("guest", "both", [0, 1]).status
    with pytest.raises(KvmError, match="Bad file descriptor"):
        domain.fd_associate("guest", "none", [0, 99])


# -- interfaces


NETWORKED = {
    "@type": "test",
    "name": "guest",
    "memory": 8192,
    "os": {"type": "hvm"},
    "devices": {
        "interface": [
            {
                "@type": "network",
                "mac": {"@address": MAC},
                "source": {"@network": "default"},
                "target": {"@dev": "web0"},
            },
            {"@type": "bridge", "mac": {"@address": OTHER_MAC}, "source": {"@bridge": "a  b"}, "target": {"@dev": "w"}},
        ],
        "disk": [
            {"@type": "file", "source": {"@file": "/a  file "}, "target": {"@dev": "vda"}},
            {"@type": "network", "source": {"@protocol": "rbd", "@name": "pool/image"}, "target": {"@dev": "vdb"}},
        ],
    },
}


def test_interfaces_are_listed_measured_and_addressed(test_driver: Hypervisor) -> None:
    domain = test_driver.domain
    domain.create(NETWORKED)
    assert domain.iflist("guest") == [
        {"interface": "web0", "type": "network", "source": "default", "model": None, "mac": MAC},
        {"interface": "w", "type": "bridge", "source": "a  b", "model": None, "mac": OTHER_MAC},
    ]
    assert domain.ifstat("guest", "web0").keys() == devices.InterfaceStats.__annotations__.keys()
    assert 0 < domain.ifstat("guest", "web0")["rx_bytes"] <= domain.ifstat("guest", MAC)["rx_bytes"]
    addresses = domain.ifaddr("guest")
    assert {name: each["hwaddr"] for name, each in addresses.items()} == {"web0": MAC, "w": OTHER_MAC}
    (address,) = addresses["web0"]["addresses"]
    assert (address["type"], address["prefix"]) == ("ipv4", 24)
    assert address["address"].startswith("192.168.122.")
    assert domain.ifaddr("guest", "w", source="agent") == {"w": addresses["w"]}
    assert domain.ifaddr("guest", "nothing") == {}
    with pytest.raises(InvalidArgumentError, match="Unknown data source"):
        domain.ifaddr("guest", source="rumour")  # type: ignore[arg-type]


def test_the_limits_of_an_interface_are_set_as_they_are_read(test_driver: Hypervisor) -> None:
    domain = test_driver.domain
    domain.create(NETWORKED)
    none = {"average": 0, "peak": 0, "burst": 0}
    assert domain.iftune("guest", "web0") == {"inbound": {**none, "floor": 0}, "outbound": none}
    assert domain.iftune("guest", "web0", inbound={"average": "100 kB/s", "burst": 51200}, outbound="10,20").status
    limits = domain.iftune("guest", MAC)
    assert limits == {
        "inbound": {"average": 100_000, "peak": 0, "burst": 51200, "floor": 0},
        "outbound": {"average": 10_000, "peak": 20_000, "burst": 0},
    }
    (bandwidth,) = domain.conf("guest", xpath="//interface/bandwidth")
    assert bandwidth["bandwidth"]["inbound"] == {"@average": "100", "@burst": "50"}
    inbound: BandwidthLimits = {"average": limits["inbound"]["average"] * 1, "burst": limits["inbound"]["burst"] * 1}
    assert domain.iftune("guest", "w", inbound=inbound, outbound={"average": 10_000, "peak": "20 kB/s"}).status
    assert domain.iftune("guest", "w") == limits
    assert domain.iftune("guest", "w", outbound={"average": 0}).status
    assert domain.iftune("guest", "w") == {**limits, "outbound": none}
    with pytest.raises(TypeError, match="not avg"):
        domain.iftune("guest", "w", inbound={"avg": 5})  # type: ignore[call-overload]


def test_an_interface_without_a_name_hides_no_other(libvirtd: Libvirtd, start: Starter) -> None:
    if not libvirtd.is_system:
        pytest.skip("only the system's daemon may create an interface of the host")
    cards = [{**interface(MAC)}, {**interface(OTHER_MAC), "@type": "ethernet", "target": {"@dev": "named0"}}]
    hypervisor = start(interface=cards)
    stats = hypervisor.domain.stats("guest", interface=True)["guest"]
    assert ([each["name"] for each in stats["net"]], stats["net_count"]) == (["named0"], 2)
    assert Look(hypervisor)().guests["guest"].interfaces == ("named0",)


def test_an_announcement_needs_a_newer_virsh_or_another_driver(test_driver: Hypervisor) -> None:
    with pytest.raises(NotSupportedError):
        test_driver.domain.ifannounce("test", rounds=3)


interface_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1).filter(
    lambda name: len(name.encode()) > 10 or not name.endswith(" ")  # shorter ones are padded with them
)
hardware = st.sampled_from([MAC, "", "N/A", ":".join(["80"] * 20)])
ips = st.lists(st.tuples(st.sampled_from(["ipv4", "ipv6"]), st.ip_addresses().map(str), st.integers(0, 128)))


@given(st.dictionaries(interface_names, st.tuples(hardware, ips), max_size=4))
def test_addresses_are_read_whatever_an_agent_calls_its_interfaces(guest: dict[str, Any]) -> None:
    printed = f" {'Name':10} {'MAC address':20} {'Protocol':8}     Address\n{'-' * 79}\n"
    for name, (hwaddr, addresses) in guest.items():
        padded = " " * (10 - len(name.encode()))
        for kind, address in [(kind, f"{ip}/{prefix}") for kind, ip, prefix in addresses] or [("N/A", "N/A")]:
            printed += f" {name}{padded} {hwaddr:17}    {kind:12} {address}\n"
    assert devices._addresses(printed + "\n") == {
        name: {
            "hwaddr": None if hwaddr in ("", "N/A") else hwaddr,
            "addresses": [{"type": kind, "address": ip, "prefix": prefix} for kind, ip, prefix in addresses],
        }
        for name, (hwaddr, addresses) in guest.items()
    }


def test_addresses_of_newer_releases_are_read() -> None:
    printed = f""" Name           MAC address         Protocol   Address
--------------------------------------------------------------------
 lo                                 ipv4       127.0.0.1/8
 Ethernet   2   {MAC}   ipv4       192.0.2.10/24
 Ethernet   2   {MAC}   ipv6       fe80::1/64
 \\xe6\\xbc\\xa2   N/A                 N/A        N/A

"""
    assert devices._addresses(printed) == {
        "lo": {"hwaddr": None, "addresses": [{"type": "ipv4", "address": "127.0.0.1", "prefix": 8}]},
        "Ethernet   2": {
            "hwaddr": MAC,
            "addresses": [
                {"type": "ipv4", "address": "192.0.2.10", "prefix": 24},
                {"type": "ipv6", "address": "fe80::1", "prefix": 64},
            ],
        },
        "漢": {"hwaddr": None, "addresses": []},
    }


def test_what_are_no_addresses_is_refused() -> None:
    for line in (f"vnet0      {MAC}    ipv7         fe80::1/64", f"vnet0 {MAC} ipv4 192.0.2.1/24"):
        with pytest.raises(UnreadableOutputError):
            devices._addresses(f" Name       MAC address          Protocol     Address\n---\n {line}\n")
    not_shown = f" Name   MAC address         Protocol   Address\n---\n \\xff   {MAC}   N/A        N/A\n"
    with pytest.raises(UnreadableOutputError, match="does not show"):
        devices._addresses(not_shown)


# -- disks


def test_disks_are_listed_and_measured(defined: Hypervisor, tmp_path: Path) -> None:
    domain, path = defined.domain, tmp_path / "a disk.qcow2"
    assert domain.blklist("guest", details=True) == [
        {"type": "file", "device": "disk", "target": "vda", "source": str(path)}
    ]
    stat = path.stat()
    info = domain.blkinfo("guest", "vda")
    assert info == {"capacity": 8 * 1024**2, "allocation": stat.st_blocks * 512, "physical": stat.st_size}
    assert domain.blkinfo("guest", str(path), human=True) == info
    assert domain.blkinfo("guest", all=True) == {"vda": info}
    with pytest.raises(InvalidArgumentError, match="requires <device>"):
        domain.blkinfo("guest")  # type: ignore[call-overload]
    with pytest.raises(InvalidStateError):
        domain.blkstat("guest", "vda")


def test_what_went_through_disks_is_counted(start: Starter, tmp_path: Path) -> None:
    domain = start(disk=[disk(image(tmp_path / "a")), disk(image(tmp_path / "b"), "vdb")]).domain
    stats = domain.blkstat("guest", "vda")
    assert {**stats, "rd_req": 0, "rd_bytes": 0} == dict.fromkeys(
        blocks.BlockStats.__annotations__.keys() - {"errs"}, 0
    )
    assert domain.blkstat("guest").keys() == domain.blkstat("guest", "vdb", human=True).keys() == stats.keys()
    assert domain.blkerror("guest") == {}


def test_sources_of_every_kind_are_listed_as_virsh_lists_them(test_driver: Hypervisor) -> None:
    test_driver.domain.create(NETWORKED)
    assert test_driver.domain.blklist("guest") == [
        {"type": "file", "device": "disk", "target": "vda", "source": "/a  file "},
        {"type": "network", "device": "disk", "target": "vdb", "source": "pool/image"},
    ]
    address = "<address domain='0x0001' bus='0xa0' slot='0x1f' function='0x7'/>"
    printed = f"""<domain><devices>
        <disk type='nvme' device='disk'><source type='pci' namespace='1'>{address}</source><target dev='vda'/></disk>
        <disk type='volume' device='disk'><source volume='v' pool='p'/><target dev='vdb'/></disk>
        <disk type='vhostuser' device='disk'><source type='unix' path='/s'/><target dev='vdc'/></disk>
        <disk type='file' device='floppy'><target dev='fda'/></disk>
        </devices></domain>"""
    assert [(each["type"], each["source"]) for each in blocks._disks(printed)] == [
        ("nvme", "nvme://0001:a0:1f.7/1"),
        ("volume", "v"),
        ("vhostuser", "/s"),
        ("file", None),
    ]


paths = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=30
)


@given(paths)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_source_comes_back(test_driver: Hypervisor, path: str) -> None:
    source = {"@type": "file", "source": {"@file": f"/{path}"}, "target": {"@dev": "vda"}}
    test_driver.domain.define(
        {**NETWORKED, "uuid": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "devices": {"disk": source}}
    )
    assert test_driver.domain.blklist("guest")[0]["source"] == f"/{path}"


def test_the_limits_of_a_disk_are_set_and_read(start: Starter, tmp_path: Path) -> None:
    hypervisor = start(disk=disk(image(tmp_path / "a")))
    domain = hypervisor.domain
    unlimited = domain.blkdeviotune("guest", "vda")
    assert isinstance(unlimited, dict)
    assert unlimited.keys() == blocks.BlockIoTune.__annotations__.keys()
    assert {**unlimited, "group_name": ""} == {**dict.fromkeys(unlimited, 0), "group_name": ""}
    assert domain.blkdeviotune(
        "guest", "vda", total_bytes_sec="10MiB", read_iops_sec=5, group_name="no limit", live=True
    )
    limits = domain.blkdeviotune("guest", "vda")
    assert limits == {**unlimited, "total_bytes_sec": 10 * 1024**2, "read_iops_sec": 5, "group_name": "no limit"}
    assert configured(hypervisor, "disk")[0]["iotune"]["total_bytes_sec"] == str(10 * 1024**2)
    assert domain.blkdeviotune("guest", "vda", config=True) == unlimited
    with pytest.raises(InvalidArgumentError, match="same time"):
        domain.blkdeviotune("guest", "vda", read_bytes_sec=4, total_bytes_sec=4)


def test_what_a_domain_gets_of_the_hosts_disks_is_set_and_read(defined: Hypervisor, libvirtd: Libvirtd) -> None:
    if not libvirtd.is_system:
        with pytest.raises(KvmError, match="session mode"):
            defined.domain.blkiotune("guest")
        return
    none: dict[str, int] = {}
    names = [name for name in blocks.BlkioTune.__annotations__ if name != "weight"]
    assert defined.domain.blkiotune("guest") == {"weight": 0, **dict.fromkeys(names, none)}
    weights, limits = {"/dev/sda": 500, "/dev/a b": 7}, {"/dev/sda": 1048576}
    assert defined.domain.blkiotune("guest", weight=300, device_weights=weights, device_read_bytes_sec=limits)
    assert defined.domain.blkiotune("guest", config=True) == {
        **dict.fromkeys(names, none),
        "weight": 300,
        "device_weight": weights,
        "device_read_bytes_sec": limits,
    }
    (tune,) = defined.domain.conf("guest", xpath="//blkiotune")
    assert tune["blkiotune"]["weight"] == "300"
    assert {each["path"] for each in tune["blkiotune"]["device"]} == weights.keys()
    assert defined.domain.blkiotune("guest", device_weights="/dev/sda,0", device_read_bytes_sec={"/dev/sda": 0})
    assert defined.domain.blkiotune("guest")["device_weight"] == {"/dev/a b": 7}


def test_figures_by_path_that_do_not_pair_are_refused() -> None:
    with pytest.raises(UnreadableOutputError, match="paths and figures"):
        blocks._tuned("weight         : 500\ndevice_weight  : /dev/sda,500,/dev/sdb\n")


def test_a_disk_is_resized_and_watched(start: Starter, tmp_path: Path) -> None:
    hypervisor = start(disk=disk(image(tmp_path / "a")))
    domain = hypervisor.domain
    for size, expected in ((Quantity("16 MiB"), 16 * 1024**2), (20 * 1024**2, 20 * 1024**2), ("24M", 24 * 1024**2)):
        assert domain.blockresize("guest", "vda", size).status
        assert domain.blkinfo("guest", "vda")["capacity"] == expected
    assert domain.blkthreshold("guest", "vda", "1MiB").status
    assert domain.stats("guest", block=True)["guest"]["block"][0]["threshold"] == 1024**2


def test_sizes_that_were_read_can_be_reckoned_with_and_set(start: Starter, tmp_path: Path) -> None:
    domain = start(disk=disk(image(tmp_path / "grows"))).domain
    grown = domain.blkinfo("guest", "vda")["capacity"] + 3 * 1024**2 + 512  # type: ignore[operator]
    domain.blockresize("guest", "vda", grown)
    assert domain.blkinfo("guest", "vda")["capacity"] == grown
    less = domain.info("guest")["used_memory"] - 7 * 1024**2
    domain.setmem("guest", less, config=True)
    assert domain.conf("guest", inactive=True)["currentMemory"] == {"@unit": "KiB", "#text": str(less // 1024)}


def test_an_error_that_stopped_a_guest_is_told(start: Starter, tmp_path: Path) -> None:
    path = image(tmp_path / "broken")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 64k", path], check=True, capture_output=True)
    data = bytearray(path.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    l2 = int.from_bytes(data[l1 : l1 + 8], "big") & (1 << 56) - 512
    cluster = int.from_bytes(data[l2 : l2 + 8], "big") & (1 << 56) - 512
    data[l2 : l2 + 8] = (1 << 62 | cluster).to_bytes(8, "big")  # what is not compressed is said to be
    path.write_bytes(data)
    domain = start(paused=False, disk=disk(path, **{"@rerror_policy": "stop"})).domain
    wait_until(lambda: domain.state("guest") != "running")
    assert domain.state("guest", reason=True) == {"state": "paused", "reason": "I/O error"}
    assert domain.blkerror("guest") == {"vda": "unspecified error"}


def test_errors_of_several_disks_are_told() -> None:
    assert blocks._errors("vda: no space\nvdb: unspecified error\n\n") == {
        "vda": "no space",
        "vdb": "unspecified error",
    }
    assert blocks._errors("No errors found\n\n") == {}
    with pytest.raises(UnreadableOutputError):
        blocks._errors("what?\n")


# -- jobs


def backing(hypervisor: Hypervisor) -> list[str]:
    """The files of the guest's disk, from the one in use down."""
    found = hypervisor.domain.conf("guest", xpath="//disk/source/@file | //disk//backingStore/source/@file")
    return [Path(each).name for each in found]


def test_a_copy_is_limited_followed_and_taken(start: Starter, tmp_path: Path) -> None:
    hypervisor = start(disk=disk(image(tmp_path / "a")))
    domain, copy = hypervisor.domain, str(tmp_path / "the copy")
    assert domain.blockjob("guest", "vda") is None
    would = domain.blockcopy("guest", "vda", dest=copy, format="qcow2", print_xml=True)
    assert would["disk"] == {"@type": "file", "source": {"@file": copy}, "driver": {"@type": "qcow2"}}
    with pytest.raises(InvalidStateError, match="not transient"):
        domain.blockcopy("guest", "vda", dest=copy)
    exact: dict[str, Any] = {"bandwidth": Quantity("500 KiB"), "transient_job": True}
    assert domain.blockcopy("guest", "vda", dest=copy, format="qcow2", **exact).status
    job = domain.blockjob("guest", "vda")
    assert job is not None
    assert job == {"type": "Block Copy", "bandwidth": 512000, "cur": job["cur"], "end": 8 * 1024**2}
    assert "512000 bytes/s" in hypervisor.virsh("blockjob", "guest", "vda", "--bytes").stdout  # type: ignore[union-attr]
    for limit, expected in ((3 * 1024**2, 3 * 1024**2), ("700KiB", 700 * 1024), (job["bandwidth"], 512000)):
        assert domain.blockjob("guest", "vda", bandwidth=limit).status
        limited = domain.blockjob("guest", "vda")
        assert limited is not None
        assert limited["bandwidth"] == expected
    assert domain.blockjob("guest", "vda", bandwidth=4096, bytes=True).status
    assert domain.blockjob("guest", "vda", raw=True, info=True)["bandwidth"] == 4096  # type: ignore[index]

    def pivots() -> bool:
        """Whether QEMU went over to the copy; all is copied a moment before it is ready to."""
        try:
            return bool(domain.blockjob("guest", "vda", pivot=True))
        except InvalidStateError:
            return False

    wait_until(pivots)
    assert domain.blockjob("guest", "vda", abort=False) is None
    assert domain.blklist("guest")[0]["source"] == copy
    with pytest.raises(InvalidStateError, match="does not have an active block job"):
        domain.blockjob("guest", "vda", abort=True)


def test_a_copy_goes_where_a_dict_says_and_may_be_ended(start: Starter, tmp_path: Path) -> None:
    hypervisor = start(disk=disk(image(tmp_path / "a")))
    to = {"@type": "file", "source": {"@file": str(tmp_path / "b c")}, "driver": {"@type": "qcow2"}}
    hypervisor.domain.blockcopy("guest", "vda", xml=to, transient_job=True, wait=True, verbose=True)
    assert hypervisor.domain.blockjob("guest", "vda", abort=True)
    assert (backing(hypervisor), (tmp_path / "b c").exists()) == (["a"], True)
    to["source"] = {"@file": str(tmp_path / "d")}
    hypervisor.domain.blockcopy("guest", "vda", xml={"disk": to}, transient_job=True, pivot=True)
    assert backing(hypervisor) == ["d"]


def test_a_copy_that_takes_too_long_is_aborted(start: Starter, tmp_path: Path) -> None:
    path = image(tmp_path / "a")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 8M", path], check=True, capture_output=True)
    domain = start(disk=disk(path)).domain
    with pytest.raises(CommandTimeoutError, match="Copy aborted"):
        domain.blockcopy(
            "guest", "vda", dest=str(tmp_path / "b"), bandwidth="10KiB", format="qcow2", transient_job=True, timeout=1
        )
    assert domain.blockjob("guest", "vda") is None


def test_images_are_committed_and_pulled(start: Starter, tmp_path: Path) -> None:
    base = image(tmp_path / "base")
    middle = image(tmp_path / "middle", "-b", str(base), "-F", "qcow2")
    top = image(tmp_path / "top", "-b", str(middle), "-F", "qcow2")
    hypervisor = start(disk=disk(top))
    domain = hypervisor.domain
    assert backing(hypervisor) == ["top", "middle", "base"]
    assert domain.blockcommit("guest", "vda", shallow=True, top=str(middle), wait=True, verbose=True).status
    assert backing(hypervisor) == ["top", "base"]
    assert domain.blockcommit("guest", "vda", active=True, bandwidth="1MiB", wait=True).status
    job = domain.blockjob("guest", "vda")
    assert job is not None
    assert (job["type"], job["bandwidth"]) == ("Active Block Commit", 1024**2)
    assert domain.blockjob("guest", "vda", abort=True)
    assert domain.blockpull("guest", "vda", bandwidth=Quantity("64 MiB"), wait=True).status
    assert backing(hypervisor) == ["top"]


def test_a_backup_is_begun_and_told_about(start: Starter, tmp_path: Path) -> None:
    hypervisor = start(disk=[disk(image(tmp_path / "a")), disk(image(tmp_path / "b"), "vdb")])
    domain = hypervisor.domain
    with pytest.raises(NotFoundError, match="no domain backup job"):
        domain.backup_conf("guest")
    vda = {"@name": "vda", "@type": "file", "scratch": {"@file": str(tmp_path / "scratch")}}
    server = {"@transport": "unix", "@socket": str(tmp_path / "s")}
    backup = {"@mode": "pull", "server": server, "disks": {"disk": [vda, {"@name": "vdb", "@backup": False}]}}
    assert domain.backup_begin("guest", backup, {"name": "first"}).status
    assert domain.backup_conf("guest")["disks"]["disk"][0]["scratch"] == vda["scratch"]
    assert domain.backup_conf("guest", xpath="//disk[@backup='yes']/@name") == ["vda"]
    assert domain.blockjob("guest", "vda")["type"] == "Backup"  # type: ignore[index]
    assert hypervisor.virsh("checkpoint-list", "guest", "--name").stdout.split() == ["first"]  # type: ignore[union-attr]
    hypervisor.virsh("domjobabort", "guest")


# -- groups of limits


GROUPED = """<domain><throttlegroups>
  <throttlegroup><group_name>a  b</group_name><total_bytes_sec>10485760</total_bytes_sec></throttlegroup>
  <throttlegroup><group_name>-</group_name></throttlegroup></throttlegroups></domain>"""


def test_groups_of_limits_are_read_by_name(test_driver: Hypervisor) -> None:
    assert blocks._throttle_groups(GROUPED) == ["a  b", "-"]
    assert blocks._throttling_of("a  b")(GROUPED) == {"total_bytes_sec": 10485760}
    assert blocks._throttling_of("-")(GROUPED) == {}
    assert test_driver.domain.throttlegrouplist("test") == []
    with pytest.raises(NotFoundError, match="no throttle group 'x'"):
        test_driver.domain.throttlegroupinfo("test", "x", inactive=True)


def test_setting_a_group_of_limits_needs_a_newer_virsh_or_another_driver(test_driver: Hypervisor) -> None:
    with pytest.raises(NotSupportedError):
        test_driver.domain.throttlegroupset("test", "a", total_bytes_sec=Quantity("1 MiB"))
    with pytest.raises(NotSupportedError):
        test_driver.domain.throttlegroupdel("test", "a")


# -- errors


WRONG: list[tuple[type[KvmError], str, tuple[Any, ...], dict[str, Any]]] = [
    (NotFoundError, "blkinfo", ("vdx",), {}),
    (NotFoundError, "blkstat", ("vdx",), {}),
    (NotFoundError, "blkdeviotune", ("vdx",), {}),
    (NotFoundError, "blkthreshold", ("vdx", 1), {}),
    (NotFoundError, "blockjob", ("vdx",), {}),
    (NotFoundError, "blockpull", ("vdx",), {}),
    (NotFoundError, "blockresize", ("vdx", 1), {}),
    (NotFoundError, "detach_disk", ("vdx",), {}),
    (NotFoundError, "change_media", ("vda",), {"eject": True}),
    (NotFoundError, "detach_device_alias", ("ua-x",), {}),
    (NotFoundError, "detach_device", ({"interface": interface(OTHER_MAC)},), {}),
    (NotFoundError, "detach_interface", (), {"type": "user", "mac": OTHER_MAC}),
    (NotFoundError, "detach_interface", (), {"type": "bridge"}),
    (NotFoundError, "if_getlink", (OTHER_MAC,), {}),
    (NotFoundError, "if_getlink", ("vnet7",), {}),
    (NotFoundError, "if_setlink", (OTHER_MAC, "up"), {}),
    (NotFoundError, "iftune", ("vnet7",), {}),
    (NotFoundError, "update_memory_device", (), {"requested_size": 1024}),
    (InvalidArgumentError, "attach_interface", ("network", "default"), {"inbound": "much"}),
    (InvalidArgumentError, "attach_interface", ("vhostuser", "/s"), {}),
    (InvalidArgumentError, "blockcopy", ("vda",), {}),
    (InvalidArgumentError, "blockcopy", ("vda",), {"dest": "/x", "async_": True}),
    (InvalidArgumentError, "if_setlink", (MAC, "sideways"), {}),
    (NotSupportedError, "attach_interface", ("user", "x"), {}),
]


def test_what_is_wrong_can_be_told_apart(start: Starter, tmp_path: Path) -> None:
    domain = start(disk=disk(image(tmp_path / "a")), interface=interface(MAC)).domain
    for kind, method, args, options in WRONG:
        with pytest.raises(KvmError) as raised:
            getattr(domain, method)("guest", *args, **options)
        assert type(raised.value) is kind, (method, raised.value)
