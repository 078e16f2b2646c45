"""Pools and volumes on a real libvirtd, held against the files that they are; and names that are made to be misread."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

import kvm
import unix
from kvm import (
    AlreadyExistsError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    NotFoundError,
    NotSupportedError,
    Quantity,
    UnreadableOutputError,
)
from kvm.groups import pool as pools
from kvm.groups import volume as volumes
from libvirtd import Libvirtd
from unix.result import Result

MIB = 1024**2


def cleared(hypervisor: Hypervisor) -> None:
    """Leave a hypervisor without pools."""
    for name, pool in hypervisor.list_pools(all=True).items():
        if pool["state"] != "inactive":
            hypervisor.pool.destroy(name)
        if pool["persistent"]:
            hypervisor.pool.undefine(name)


@pytest.fixture
def hypervisor(hypervisor: Hypervisor) -> Iterator[Hypervisor]:
    """The real hypervisor, left without pools."""
    yield hypervisor
    cleared(hypervisor)


@pytest.fixture
def here(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    """The same, from this machine only."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        yield hypervisor
        cleared(hypervisor)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the pool `images` is."""
    return tmp_path / "images"


def images(hypervisor: Hypervisor, directory: Path) -> None:
    """Start a pool `images` in a directory."""
    hypervisor.pool.create_as("images", "dir", target=str(directory), build=True)


def qemu_img(path: Path) -> dict[str, Any]:
    """What qemu-img says of an image."""
    command = ["qemu-img", "info", "--output=json", str(path)]
    value: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return value


# -- pools


def test_the_life_of_a_pool(hypervisor: Hypervisor, directory: Path) -> None:
    pool = hypervisor.pool
    assert pool.define({"@type": "dir", "name": "images", "target": {"path": str(directory)}}).status
    uuid = pool.uuid("images")
    assert pool.name(uuid) == "images"
    row = {"state": "inactive", "autostart": False, "persistent": True}
    assert pool.list() == {}
    assert hypervisor.list_pools(all=True) == pool.list(inactive=True) == {"images": row}
    assert pool.list(all=True, details=True) == {
        "images": {**row, "capacity": None, "allocation": None, "available": None}
    }
    assert pool.info("images") == {"name": "images", "uuid": uuid, **row}

    assert not directory.exists()
    pool.build("images")
    assert directory.is_dir()
    pool.start("images")
    pool.autostart(uuid)
    assert (
        pool.list()
        == pool.list(autostart=True, type="dir,logical")
        == {"images": {"state": "running", "autostart": True, "persistent": True}}
    )
    assert pool.list(no_autostart=True) == pool.list(transient=True) == pool.list(type="logical") == {}
    pool.autostart("images", disable=True)
    assert pool.info(uuid)["autostart"] is False

    pool.destroy("images")
    pool.delete("images")
    assert not directory.exists()
    pool.start("images", build=True)
    assert directory.is_dir()
    pool.destroy("images")
    pool.undefine("images")
    assert pool.list(all=True) == {}


def test_a_pool_has_the_figures_of_its_file_system_exactly(hypervisor: Hypervisor, directory: Path) -> None:
    images(hypervisor, directory)
    disk = os.statvfs(directory)
    listed, info = hypervisor.pool.list(details=True)["images"], hypervisor.pool.info("images", bytes=False)
    for told in (listed, info):
        assert told["capacity"] == disk.f_frsize * disk.f_blocks
        assert isinstance(told["allocation"], Quantity)
        assert told["available"] == told["capacity"] - told["allocation"]
        assert told["available"] == pytest.approx(disk.f_frsize * disk.f_bfree, abs=4096 * MIB)


def test_a_configuration_of_a_pool_comes_back_and_can_be_changed(hypervisor: Hypervisor, directory: Path) -> None:
    hypervisor.pool.define({"@type": "dir", "name": "images", "target": {"path": str(directory)}})
    conf = hypervisor.pool.conf("images", inactive=True)
    assert (conf["@type"], conf["target"]["path"]) == ("dir", str(directory))
    conf["target"]["path"] = f"{directory} & <more>"
    hypervisor.pool.define(conf, validate=True)
    assert hypervisor.pool.conf("images", xpath="//target/path/text()") == [f"{directory} & <more>"]
    assert hypervisor.pool.conf("images") == kvm.from_xml(kvm.to_xml("pool", conf))["pool"]


def test_a_created_pool_is_gone_with_its_end(hypervisor: Hypervisor, directory: Path, tmp_path: Path) -> None:
    hypervisor.pool.create({"@type": "dir", "name": "a", "target": {"path": str(directory)}}, build=True)
    hypervisor.pool.create_as("b", "dir", target=str(tmp_path))
    assert {name: pool["persistent"] for name, pool in hypervisor.list_pools().items()} == {"a": False, "b": False}
    hypervisor.pool.destroy("a")
    assert list(hypervisor.list_pools(all=True)) == ["b"]


def test_a_pool_is_defined_from_options(hypervisor: Hypervisor) -> None:
    if not hypervisor.pool.capabilities(xpath="//pool[@type='iscsi' and @supported='yes']"):
        pytest.skip("this libvirtd is without the driver for iSCSI")
    hypervisor.pool.define_as(
        "san",
        "iscsi",
        source_host="san.example",
        source_dev="iqn.2026-01.example:disk",
        source_initiator="iqn.2026-01.example:me",
        auth_type="chap",
        auth_username="me",
        secret_usage="the key",
        target="/dev/disk/by-path",
    )
    conf = hypervisor.pool.conf("san")
    assert conf["source"] == {
        "host": [{"@name": "san.example"}],
        "device": [{"@path": "iqn.2026-01.example:disk"}],
        "initiator": {"iqn": {"@name": "iqn.2026-01.example:me"}},
        "auth": {"@type": "chap", "@username": "me", "secret": {"@usage": "the key"}},
    }
    assert conf["target"]["path"] == "/dev/disk/by-path"


def test_every_source_that_virsh_knows_can_be_given(test_driver: Hypervisor) -> None:
    printed = test_driver.pool.define_as(
        "p",
        "netfs",
        source_host="h",
        source_path="/path",
        source_dev="/dev/x",
        source_name="n",
        source_format="nfs",
        source_protocol_ver="4",
        adapter_wwnn="50",
        adapter_wwpn="60",
        adapter_parent="scsi_host1",
        target="/t",
        print_xml=True,
    )
    assert printed == {
        "@type": "netfs",
        "name": "p",
        "source": {
            "host": [{"@name": "h"}],
            "dir": {"@path": "/path"},
            "device": [{"@path": "/dev/x"}],
            "adapter": {"@type": "fc_host", "@parent": "scsi_host1", "@wwnn": "50", "@wwpn": "60"},
            "format": {"@type": "nfs"},
            "name": ["n"],
            "protocol": {"@ver": "4"},
        },
        "target": {"path": "/t"},
    }
    assert list(test_driver.list_pools(all=True)) == ["default-pool"]
    named = test_driver.pool.create_as("p", "scsi", adapter_name="scsi_host2", print_xml=True)
    assert named["source"] == {"adapter": {"@type": "scsi_host", "@name": "scsi_host2"}}


def test_a_pool_of_the_test_driver(test_driver: Hypervisor) -> None:
    sizes = {"capacity": 100 * 1024 * MIB, "allocation": 0, "available": 100 * 1024 * MIB}
    row = {"state": "running", "autostart": False, "persistent": True}
    assert test_driver.list_pools(details=True) == {"default-pool": {**row, **sizes}}
    assert test_driver.list_volumes("default-pool") == {}
    with pytest.raises(NotSupportedError):
        test_driver.pool.capabilities()


def test_capabilities_tell_the_types_that_work_here(hypervisor: Hypervisor) -> None:
    types = {pool["@type"]: pool["@supported"] for pool in hypervisor.pool.capabilities()["pool"]}
    assert types["dir"] == "yes"
    supported = hypervisor.pool.capabilities(xpath='//pool[@supported="yes"]/@type')
    assert supported == [name for name, answer in types.items() if answer == "yes"]


def test_sources_are_a_list_of_what_a_pool_can_be_defined_from(test_driver: Hypervisor) -> None:
    found = test_driver.pool.find_sources("logical")
    assert [source["name"] for source in found["source"]] == [["testvg1"], ["testvg2"]]
    for source in found["source"]:
        test_driver.pool.define({"@type": "logical", "name": source["name"][0], "source": source})
        assert test_driver.pool.conf(source["name"][0])["source"] == source
    expected = {"source": [{"host": [{"@name": "h"}], "dir": {"@path": "/testshare"}, "format": {"@type": "nfs"}}]}
    assert test_driver.pool.find_sources_as("netfs", host="h") == expected
    assert test_driver.pool.find_sources("netfs", {"host": {"@name": "h"}}) == expected
    assert pools._sources("<sources/>\n\n") == pools._sources("<sources>\n</sources>\n") == {"source": []}
    with pytest.raises(UnreadableOutputError):
        pools._sources("none\n")


def test_wrong_actions_on_pools_raise_what_a_caller_can_tell_apart(here: Hypervisor, directory: Path) -> None:
    pool = here.pool
    with pytest.raises(NotFoundError):
        pool.info("images")
    with pytest.raises(NotFoundError):
        pool.start("images")
    with pytest.raises(NotFoundError):
        here.list_volumes("images")
    conf = {"@type": "dir", "name": "images", "target": {"path": str(directory)}}
    pool.define(conf)
    with pytest.raises(AlreadyExistsError, match="already exists with uuid"):
        pool.define({**conf, "uuid": kvm.gen_uuid()})
    with pytest.raises(AlreadyExistsError, match="source conflict"):
        pool.define({**conf, "name": "other"})
    with pytest.raises(InvalidStateError, match="not active"):
        pool.destroy("images")
    with pytest.raises(InvalidStateError, match="not active"):
        here.list_volumes("images")
    with pytest.raises(InvalidStateError, match="not active"):
        here.volume.info("disk", pool="images")
    with pytest.raises(kvm.KvmError, match="No such file or directory"):
        pool.start("images")
    pool.start("images", build=True)
    with pytest.raises(InvalidStateError, match="already active"):
        pool.start("images")
    with pytest.raises(InvalidStateError, match="still active"):
        pool.undefine("images")
    with pytest.raises(InvalidArgumentError, match="Invalid value for attribute 'type'"):
        pool.define({"@type": "abacus", "name": "other"})
    with pytest.raises(InvalidArgumentError, match="unknown storage pool type"):
        pool.find_sources("abacus")
    with pytest.raises(NotSupportedError, match="does not support source discovery"):
        pool.find_sources("dir")
    with pytest.raises(InvalidArgumentError, match="hostname must be specified"):
        pool.find_sources("netfs")
    with pytest.raises(TypeError, match="virsh pool-list has no option 'detail'; did you mean 'details'"):
        pool.list(detail=True)  # type: ignore[call-arg]


def test_a_pool_that_goes_while_it_is_listed_is_left_out() -> None:
    plan = pools._listing({"all": True})
    assert [command.words() for command in next(plan)] == [["pool-list", "--all", "--uuid"]]
    gone, there = kvm.gen_uuid(), kvm.gen_uuid()
    assert len(plan.send((Result(0, f"{gone}\n{there}\n\n", ""),))) == 2
    info = (
        f"Name:           a\nUUID:           {there}\nState:          brand new\n"
        "Persistent:     unknown\nAutostart:      no autostart\n\n"
    )
    with pytest.raises(StopIteration) as end:
        plan.send((Result(1, "\n", f"error: failed to get pool '{gone}'\n"), Result(0, info, "")))
    assert end.value.value == {"a": {"state": "brand new", "autostart": None, "persistent": None}}


# -- volumes


def test_the_life_of_a_raw_volume(hypervisor: Hypervisor, directory: Path, tmp_path: Path) -> None:
    volume = hypervisor.volume
    images(hypervisor, directory)
    content = os.urandom(3 * MIB + 4096)
    (tmp_path / "in").write_bytes(content)
    assert volume.create_as("images", "disk", 3 * MIB + 4096, allocation=0).status
    path = str(directory / "disk")
    assert hypervisor.list_volumes("images") == {"disk": {"path": path, "type": "file"}}
    volume.upload("disk", tmp_path / "in", pool="images")
    assert (directory / "disk").read_bytes() == content

    stat = os.stat(path)
    figures = {"type": "file", "capacity": stat.st_size, "allocation": stat.st_blocks * 512}
    assert volume.list("images", details=True) == {"disk": {"path": path, **figures}}
    assert volume.info(path) == volume.info("disk", pool="images", bytes=False) == {"name": "disk", **figures}
    assert volume.info(path, physical=True) == {
        "name": "disk",
        "type": "file",
        "capacity": stat.st_size,
        "physical": stat.st_size,
    }
    assert volume.path("disk", pool="images") == volume.key("disk", pool="images") == path
    assert (volume.name(path), volume.pool(path)) == ("disk", "images")
    assert volume.pool(path, uuid=True) == hypervisor.pool.uuid("images")

    volume.download("disk", tmp_path / "out", pool="images", offset=Quantity("1 KiB"), length=10)
    assert (tmp_path / "out").read_bytes() == content[1024:1034]
    volume.upload(path, tmp_path / "out", offset=2048, length=Quantity("10 bytes"))
    content = content[:2048] + content[1024:1034] + content[2058:]
    volume.download(path, str(tmp_path / "out"), sparse=True)
    assert (tmp_path / "out").read_bytes() == content

    volume.clone("disk", "copy of disk", pool="images")
    assert (directory / "copy of disk").read_bytes() == content
    volume.wipe("disk", pool="images")
    assert (directory / "disk").read_bytes() == bytes(3 * MIB + 4096)
    volume.delete("disk", pool="images")
    assert os.listdir(directory) == list(hypervisor.list_volumes("images")) == ["copy of disk"]


def test_the_life_of_a_qcow2_volume(hypervisor: Hypervisor, directory: Path) -> None:
    volume = hypervisor.volume
    images(hypervisor, directory)
    volume.create("images", {"name": "base", "capacity": Quantity("1 GiB"), "target": {"format": {"@type": "qcow2"}}})
    volume.create_as("images", "top", "2G", format="qcow2", backing_vol="base", backing_vol_format="qcow2")
    image = qemu_img(directory / "top")
    assert (image["format"], image["virtual-size"]) == ("qcow2", 2 * 1024 * MIB)
    assert image["full-backing-filename"] == str(directory / "base")
    conf = volume.conf("top", pool="images")
    assert conf["capacity"] == {"@unit": "bytes", "#text": str(2 * 1024 * MIB)}
    assert conf["backingStore"]["path"] == str(directory / "base")
    assert volume.conf("top", pool="images", xpath="/volume/target/format/@type") == ["qcow2"]

    volume.resize("top", Quantity("1.5 GiB"), pool="images", delta=True)
    volume.resize("base", "1025MiB", pool="images")
    capacities = {name: each["capacity"] for name, each in volume.list("images", details=True).items()}
    assert capacities == {"base": 1025 * MIB, "top": 3584 * MIB}

    raw = {"name": "raw", "capacity": 0, "allocation": 0, "target": {"format": {"@type": "raw"}}}
    volume.create_from("images", raw, "base", inputpool="images")
    assert os.stat(directory / "raw").st_size == 1025 * MIB
    printed = volume.clone("raw", "other", pool="images", print_xml=True)
    assert printed["name"] == "other"
    assert set(hypervisor.list_volumes("images")) == {"base", "top", "raw"}


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (1_000_001, 1_000_001),
        (Quantity("1.5 MiB"), 3 * MIB // 2),
        (Quantity("1000001 KiB"), 1_000_001 * 1024),
        (Quantity(2**60 + 1), 2**60 + 1),
        ("3M", 3 * MIB),
        ("3 MiB", 3 * MIB),
        ("3MB", 3_000_000),
        ("1000001", 1_000_001),
    ],
)
def test_a_size_arrives_exactly(test_driver: Hypervisor, given: int | str, size: int) -> None:
    printed = test_driver.volume.create_as("default-pool", "a", given, allocation=given, print_xml=True)
    assert (printed["capacity"], printed["allocation"]) == (str(size), str(size))
    if size < MIB * 1024:
        test_driver.volume.create_as("default-pool", "a", given, allocation=given)
        listed = test_driver.volume.list("default-pool", details=True)
        assert (listed["a"]["capacity"], listed["a"]["allocation"]) == (size, size)
        assert test_driver.pool.info("default-pool")["allocation"] == size


def test_a_size_may_shrink_where_it_is_said(here: Hypervisor, directory: Path) -> None:
    images(here, directory)
    here.volume.create_as("images", "disk", 10 * MIB, allocation=0)
    with pytest.raises(InvalidArgumentError, match="shrink"):
        here.volume.resize("disk", MIB, pool="images")
    with pytest.raises(InvalidArgumentError, match="requires --shrink"):
        here.volume.resize("disk", -MIB, pool="images")
    here.volume.resize("disk", Quantity("-1 MiB"), pool="images", shrink=True)
    assert os.stat(directory / "disk").st_size == 9 * MIB
    here.volume.resize("disk", MIB, pool="images", shrink=True)
    assert os.stat(directory / "disk").st_size == MIB
    here.volume.resize("disk", 2 * MIB, pool="images", allocate=True)
    assert os.stat(directory / "disk").st_size == 2 * MIB
    assert os.stat(directory / "disk").st_blocks >= 2 * MIB // 512 // 2


def test_wrong_actions_on_volumes_raise_what_a_caller_can_tell_apart(here: Hypervisor, directory: Path) -> None:
    volume = here.volume
    images(here, directory)
    with pytest.raises(NotFoundError, match="failed to get vol 'disk'"):
        volume.info("disk", pool="images")
    with pytest.raises(NotFoundError, match="specifying --pool might help"):
        volume.delete("disk")
    with pytest.raises(NotFoundError, match="failed to get pool 'none'"):
        volume.info("disk", pool="none")
    volume.create_as("images", "disk", 10)
    with pytest.raises(AlreadyExistsError, match="exists already"):
        volume.create_as("images", "disk", 10)
    with pytest.raises(AlreadyExistsError, match="already in use"):
        volume.clone("disk", "disk", pool="images")
    with pytest.raises(InvalidArgumentError, match="--capacity takes a size, such as '512 MiB'"):
        volume.create_as("images", "other", "10 apples")
    with pytest.raises(InvalidArgumentError, match="--capacity takes a size"):
        volume.resize("disk", "many", pool="images")
    with pytest.raises(InvalidArgumentError, match="Unsupported algorithm 'scissors'"):
        volume.wipe("disk", pool="images", algorithm="scissors")
    with pytest.raises(InvalidArgumentError, match="offset is at least 0"):
        volume.download("disk", "/dev/null", pool="images", offset=-1)
    with pytest.raises(FileNotFoundError):
        volume.upload("disk", "/none/such", pool="images")
    here.pool.create_as("other", "dir", target=f"{directory}2", build=True)
    with pytest.raises(NotFoundError, match="is not in pool 'other'"):
        volume.info(str(directory / "disk"), pool="other")
    assert os.listdir(directory) == ["disk"]


def test_a_volume_whose_file_is_gone_does_not_hide_the_others(hypervisor: Hypervisor, directory: Path) -> None:
    images(hypervisor, directory)
    for name in ("a", "b", "c"):
        hypervisor.volume.create_as("images", name, 10, allocation=0)
    (directory / "b").unlink()
    listed = hypervisor.volume.list("images", details=True)
    assert {name: volume["capacity"] for name, volume in listed.items()} == {"a": 10, "b": None, "c": 10}
    assert listed["b"] == {"path": str(directory / "b"), "type": None, "capacity": None, "allocation": None}
    with pytest.raises(NotFoundError):
        hypervisor.volume.info("b", pool="images")
    hypervisor.pool.refresh("images")
    assert list(hypervisor.list_volumes("images")) == ["a", "c"]


def test_a_pipeline_lists_what_there_was_at_that_place(hypervisor: Hypervisor, directory: Path) -> None:
    images(hypervisor, directory)
    with hypervisor.pipeline() as pipe:
        pipe.volume.create_as("images", "a", 1)
        pipe.volume.list("images", details=True)
        pipe.volume.delete("a", pool="images")
        pipe.list_volumes("images")
        pipe.list_pools()
        pipe.pool.destroy("images")
        pipe.list_pools()
        _, one, _, none, pool, _, no_pool = pipe.execute()
    assert one["a"]["capacity"] == 1
    assert none == no_pool == {}
    assert list(pool) == ["images"]


# -- names

HOSTILE = [
    "two  words",
    "   leading",
    "trailing   ",
    "trailing",
    "-",
    "--all",
    "1",
    "\\x41",
    "\\",
    "x   running   yes",
    "Name   Path",
    "漢字  漢",
    "😀👩‍👩‍👧",
    "e\u0301",
    "\u200b",
    "'quotes\" `$(id)`",
    ";pool-list",
    "#",
    "é" * 127,
    "x" * 255,
    "Name: x",
    "R&D <1>",
]

HOSTILE_FILES = [
    *(name for name in HOSTILE if "/" not in name),
    "a\tb",
    "new\nline",
    "\nType: dir",
    "\r",
    "   ",
    "end\n",
]


def test_hostile_names_of_pools_are_listed_and_asked_for_exactly(test_driver: Hypervisor) -> None:
    pool = test_driver.pool
    for place, name in enumerate(HOSTILE):
        pool.define({"@type": "dir", "name": name, "target": {"path": f"/{place}"}})
    assert set(test_driver.list_pools(inactive=True)) == set(HOSTILE)
    for place, name in enumerate(HOSTILE):
        uuid = pool.uuid(name)
        assert pool.info(name)["name"] == pool.name(uuid) == pool.conf(name)["name"] == name
        assert pool.conf(uuid)["target"]["path"] == f"/{place}"


def test_hostile_names_of_volumes_are_listed_and_asked_for_exactly(hypervisor: Hypervisor, directory: Path) -> None:
    volume = hypervisor.volume
    images(hypervisor, directory)
    for size, name in enumerate(HOSTILE_FILES):
        (directory / name).write_bytes(bytes(size))
    (directory / "directory").mkdir()
    hypervisor.pool.refresh("images")
    listed = volume.list("images", details=True)
    assert listed.pop("directory")["type"] == "dir"
    assert {name: each["path"] for name, each in listed.items()} == {
        name: str(directory / name) for name in HOSTILE_FILES
    }
    assert [listed[name]["capacity"] for name in HOSTILE_FILES] == list(range(len(HOSTILE_FILES)))
    for name in HOSTILE_FILES:
        path = volume.path(name, pool="images")
        assert path == volume.key(name, pool="images") == listed[name]["path"]
        assert volume.name(path) == volume.info(path)["name"] == volume.info(name, pool="images")["name"] == name
        assert volume.conf(name, pool="images")["name"] == name
        volume.delete(name, pool="images")
    assert os.listdir(directory) == ["directory"]


@pytest.mark.parametrize("name", [b"caf\xe9", "\U0001fbff".encode(), b"\xc2\x85"])
def test_a_name_that_virsh_does_not_show_is_told_exactly(here: Hypervisor, directory: Path, name: bytes) -> None:
    images(here, directory)
    names = [
        os.fsdecode(each) for each in (name, name + b"  \\ '\"", b" two\nlines " + name, name[:-1] + b"x", b"disk")
    ]
    for size, each in enumerate(names):
        (directory / each).write_bytes(bytes(size))
    here.pool.refresh("images")
    listed = here.volume.list("images", details=True)
    assert {each: (volume["path"], volume["capacity"]) for each, volume in listed.items()} == {
        each: (str(directory / each), size) for size, each in enumerate(names)
    }


def test_names_that_virsh_neither_shows_nor_completes_are_no_others() -> None:
    """The driver lives in one virsh, and the one that completes is another, which knows no such pool."""
    with kvm.Hypervisor(unix.Local(), "test:///default") as hypervisor:
        hypervisor.volume.create("default-pool", {"name": "\U0001fbff", "capacity": 1})
        with pytest.raises(UnreadableOutputError, match="does not show all of the names"):
            hypervisor.volume.list("default-pool")


file_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60
).filter(lambda name: not name.startswith(".") and all(ch in "\t\n\r" or ord(ch) >= 32 for ch in name))


@given(st.sets(st.one_of(file_names, st.text(" a", min_size=1, max_size=5)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_in_a_pool_comes_back(here: Hypervisor, directory: Path, names: set[str]) -> None:
    if "images" not in here.list_pools():
        images(here, directory)
    for name in names:
        (directory / name).touch()
    here.pool.refresh("images")
    listed = here.list_volumes("images")
    assert {name: volume["path"] for name, volume in listed.items()} == {n: str(directory / n) for n in names}
    for name in names:
        (directory / name).unlink()


# -- kinds of pools that this machine does not have


class Storage:
    """What virsh would print of volumes in a pool of any kind."""

    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths

    def table(self) -> str:
        width = max([4, *map(len, self._paths)])
        rows = [f" {name.ljust(width)}   {path}" for name, path in [("Name", "Path"), *self._paths.items()]]
        return "\n".join([rows[0], "-" * 40, *rows[1:], "", ""])

    def info(self, name: str) -> Result:
        if name not in self._paths:
            return Result(1, "\n", f"error: failed to get vol '{name}'\n")
        printed = f"Name:           {name}\nType:           block\nCapacity:       7 bytes\nAllocation:     7 bytes\n\n"
        return Result(0, printed, "")

    def listed(self) -> dict[str, str]:
        """The paths by name that are read from it."""
        plan = volumes._listing("pool", {})
        commands = next(plan)
        try:
            while True:
                results = [
                    Result(0, self.table(), "")
                    if command.name == "vol-list"
                    else self.info(str(command.options["vol"]))
                    for command in commands
                ]
                commands = plan.send(tuple(results))
        except StopIteration as end:
            listed: dict[str, volumes.ListedVolume] = end.value
        return {name: volume["path"] for name, volume in listed.items()}


@pytest.mark.parametrize(
    "paths",
    [
        {"root": "/dev/vg/root", "swap space": "/dev/vg/swap space"},
        {"unit:0:0:0": "/dev/disk/by-path/pci-0000:00:01.0-scsi-0:0:0:0", "unit:0:0:1": "/dev/disk/by-id/x   y"},
        {"sda1": "/dev/sda1", "sda10": "/dev/sda10"},
        {"dir/image": "volume/dir/image", "image": "volume/image"},
        {"snap   shot  ": "rbd:pool/1", "other": "rbd:pool/2"},
        {},
    ],
)
def test_a_name_is_told_from_the_path_in_any_kind_of_pool(paths: dict[str, str]) -> None:
    assert Storage(paths).listed() == paths


@pytest.mark.parametrize("other", ["a ", "a   b"])
def test_volumes_that_cannot_be_told_apart_are_no_others(other: str) -> None:
    with pytest.raises(UnreadableOutputError, match="cannot tell the names of these volumes"):
        Storage({"a": "rbd:pool/1", other: "rbd:pool/2"}).listed()


def test_output_that_is_none_of_a_volume_is_not_read() -> None:
    for reader in (volumes._whole, volumes._info, volumes._readings):
        with pytest.raises(UnreadableOutputError):
            reader("nothing\n")


def test_a_definition_may_be_a_dict_xml_an_element_or_a_path(here: Hypervisor, directory: Path, tmp_path: Path) -> None:
    text = kvm.to_xml("pool", {"@type": "dir", "name": "images", "target": {"path": str(directory)}})
    path = tmp_path / "-a pool.xml"
    path.write_text(text)
    for form in (text, text.encode(), etree.fromstring(text), path, str(path), kvm.from_xml(text)):
        here.pool.define(form)
        here.pool.undefine("images")
    images(here, directory)
    volume = kvm.to_xml("volume", {"name": "disk", "capacity": 5})
    path.write_text(volume)
    for form in (volume, etree.fromstring(volume), path, kvm.from_xml(volume)):
        here.volume.create("images", form)
        here.volume.delete("disk", pool="images")
