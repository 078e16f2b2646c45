"""Pools on devices, and volumes of each format, held against the programs that others use for them."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import kvm
import unix
from kvm import Hypervisor, KvmError, NotFoundError, NotSupportedError
from libvirtd import Libvirtd

MIB = 1024**2

FORMATS = ("raw", "qcow", "qcow2", "qed", "vdi", "vmdk", "vpc")
"""Those that a QEMU of any release can make."""


def cleared(hypervisor: Hypervisor) -> None:
    """Leave a hypervisor without pools."""
    for name, pool in hypervisor.list_pools(all=True).items():
        if pool["state"] != "inactive":
            hypervisor.pool.destroy(name)
        if pool["persistent"]:
            hypervisor.pool.undefine(name)


@pytest.fixture
def hypervisor(host: unix.Host, libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    """The real hypervisor, left without pools."""
    with Hypervisor(host, libvirtd.uri) as hypervisor:
        yield hypervisor
        cleared(hypervisor)


@pytest.fixture
def images(hypervisor: Hypervisor, tmp_path: Path) -> Path:
    """Where the pool `images` is."""
    hypervisor.pool.create_as("images", "dir", target=str(tmp_path / "images"), build=True)
    return tmp_path / "images"


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def qemu_img(path: Path) -> dict[str, Any]:
    """What qemu-img says of an image."""
    value: dict[str, Any] = json.loads(run("qemu-img", "info", "--output=json", path))
    return value


# -- formats


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An image with data at its beginning and near its end."""
    path = tmp_path / "raw"
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.seek(8 * MIB)
        file.write(os.urandom(MIB))
        file.truncate(10 * MIB)
    return path


def test_volumes_of_each_format_are_what_qemu_says(hypervisor: Hypervisor, images: Path, raw: Path) -> None:
    volume = hypervisor.volume
    for format in FORMATS:
        name, source = f"disk.{format}", raw.with_suffix(f".{format}")
        volume.create_as("images", name, 10 * MIB, format=format, allocation=0)
        made = qemu_img(images / name)
        assert made["format"] == format
        info = volume.info(name, pool="images")
        assert (info["type"], info["capacity"]) == ("file", made["virtual-size"])
        assert info["allocation"] == made["actual-size"]
        assert volume.conf(name, pool="images")["target"]["format"] == {"@type": format}

        run("qemu-img", "convert", "-f", "raw", "-O", format, raw, source)
        volume.upload(name, source, pool="images")
        volume.download(name, source.with_suffix(".back"), pool="images")
        assert source.with_suffix(".back").read_bytes() == source.read_bytes()
        run("qemu-img", "compare", "-f", "raw", "-F", format, raw, images / name)
    hypervisor.pool.refresh("images")
    for name, each in volume.list("images", details=True).items():
        assert (each["path"], each["type"]) == (str(images / name), "file")
        assert each["capacity"] == qemu_img(images / name)["virtual-size"] >= 10 * MIB
        assert volume.conf(name, pool="images", xpath="/volume/target/format/@type") == [Path(name).suffix[1:]]


def test_a_format_that_cannot_be_made_is_not_supported(hypervisor: Hypervisor, images: Path) -> None:
    for format in ("cloop", "cow", "vhdx", "luks"):
        with pytest.raises(NotSupportedError):
            hypervisor.volume.create_as("images", "disk", MIB, format=format)
    hypervisor.volume.create_as("images", "folder", 0, format="dir")
    assert hypervisor.volume.info("folder", pool="images")["type"] == "dir"
    with pytest.raises(KvmError, match="folder"):
        hypervisor.volume.upload("folder", "/etc/passwd", pool="images")


def test_an_encrypted_volume_is_what_qemu_says(hypervisor: Hypervisor, images: Path, raw: Path) -> None:
    """QEMU makes it: libvirt has it take seconds, so that its passphrase is hard to guess."""
    other, key = raw.with_suffix(".locked"), raw.with_suffix(".key")
    key.write_text("a passphrase")
    given = ["--object", f"secret,id=key,file={key}"]
    for milliseconds in (10, 100, 1000):  # of which QEMU measures its CPU time, and fails if others had the CPU
        how = f"encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time={milliseconds}"
        with suppress(subprocess.CalledProcessError):
            run("qemu-img", "create", *given, "-f", "qcow2", "-o", how, other, str(10 * MIB))
            break
    options = "driver=qcow2,encrypt.key-secret=key,file.filename="
    run("qemu-img", "convert", *given, "-n", "--target-image-opts", raw, f"{options}{other}")
    hypervisor.volume.create_as("images", "locked", MIB, format="qcow2")
    hypervisor.volume.upload("locked", other, pool="images")
    hypervisor.pool.refresh("images")
    assert qemu_img(images / "locked")["encrypted"] is True
    conf = hypervisor.volume.conf("locked", pool="images")["target"]
    assert (conf["format"], conf["encryption"]) == ({"@type": "qcow2"}, {"@format": "luks"})
    assert hypervisor.volume.info("locked", pool="images")["capacity"] == 10 * MIB
    hypervisor.volume.download("locked", raw.with_suffix(".copy"), pool="images")
    plain, copy = f"driver=raw,file.filename={raw}", f"{options}{raw.with_suffix('.copy')}"
    run("qemu-img", "compare", *given, "--image-opts", plain, copy)


# -- on devices


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A maker of block devices of 64 MiB."""
    with ExitStack() as made:

        def make() -> str:
            file = tmp_path / "device"
            with file.open("wb") as opened:
                opened.truncate(64 * MIB)
            try:
                device = run("losetup", "--find", "--show", file).strip()
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this machine has no loop devices for us: {error}")
            made.callback(run, "losetup", "--detach", device)
            return device

        yield make


def needs(hypervisor: Hypervisor, type: str) -> None:
    """Skip the test if this libvirt, or this user, cannot have pools of a type."""
    if os.geteuid() != 0:
        pytest.skip("only root has block devices")
    if type not in hypervisor.pool.capabilities(xpath='//pool[@supported="yes"]/@type'):
        pytest.skip(f"this libvirt has no pools of the type {type}")


def test_a_file_system_is_made_mounted_and_unmounted(
    hypervisor: Hypervisor, libvirtd: Libvirtd, device: Callable[[], str], tmp_path: Path
) -> None:
    needs(hypervisor, "fs")
    pool, where = hypervisor.pool, device()

    def mounted() -> list[list[str]]:
        lines = Path(f"/proc/{libvirtd.pid}/mounts").read_text().splitlines()
        return [words[1:3] for line in lines if (words := line.split())[0] == where]

    pool.define_as("fs", "fs", source_dev=where, source_format="ext4", target=str(tmp_path / "mounted"))
    assert pool.conf("fs")["source"] == {"device": [{"@path": where}], "format": {"@type": "ext4"}}
    pool.build("fs", overwrite=True)
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", where) == "ext4\n"
    assert mounted() == []
    pool.start("fs")
    assert mounted() == [[str(tmp_path / "mounted"), "ext4"]]
    info = pool.info("fs")
    assert 40 * MIB < info["capacity"] < 64 * MIB
    assert info["capacity"] == info["allocation"] + info["available"]
    hypervisor.volume.create_as("fs", "disk", 5 * MIB)
    (tmp_path / "in").write_bytes(os.urandom(5 * MIB))
    hypervisor.volume.upload("disk", tmp_path / "in", pool="fs")
    pool.destroy("fs")
    assert mounted() == []
    pool.start("fs")
    hypervisor.volume.download("disk", tmp_path / "out", pool="fs")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()
    assert hypervisor.volume.list("fs")["lost+found"]["type"] == "dir"
    with pytest.raises(KvmError, match=r"[Nn]o space left"):
        hypervisor.volume.create_as("fs", "too big", 100 * MIB)


def test_partitions_are_volumes_of_a_disk(hypervisor: Hypervisor, device: Callable[[], str], tmp_path: Path) -> None:
    needs(hypervisor, "disk")
    pool, volume, where = hypervisor.pool, hypervisor.volume, device()

    def partitions() -> list[tuple[int, int]]:
        """Where they begin and end in bytes, the end not included."""
        rows = [row.split(":") for row in run("parted", "-s", "-m", where, "unit", "B", "print").splitlines()[2:]]
        return [(int(row[1][:-1]), int(row[2][:-1]) + 1) for row in rows]

    pool.define_as("disk", "disk", source_dev=where, source_format="gpt", target="/dev")
    pool.build("disk")
    pool.start("disk")
    assert pool.info("disk")["allocation"] == 0
    names = [f"{Path(where).name}p{number}" for number in (1, 2)]
    for name in names:
        volume.create_as("disk", name, 10 * MIB)
    listed = volume.list("disk", details=True)
    assert {name: (each["path"], each["type"], each["capacity"]) for name, each in listed.items()} == {
        name: (f"/dev/{name}", "block", 10 * MIB) for name in names
    }
    extents = [volume.conf(name, pool="disk")["source"]["device"][0]["extent"][0] for name in names]
    assert [(int(each["@start"]), int(each["@end"])) for each in extents] == partitions()
    (tmp_path / "in").write_bytes(os.urandom(10 * MIB))
    volume.upload(names[1], tmp_path / "in", pool="disk")
    volume.download(f"/dev/{names[1]}", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes() == Path(f"/dev/{names[1]}").read_bytes()
    volume.wipe(names[1], pool="disk")
    assert Path(f"/dev/{names[1]}").read_bytes() == bytes(10 * MIB)
    with pytest.raises(KvmError, match="no large enough free extent"):
        volume.create_as("disk", "more", 60 * MIB)


LVM = """
devices {{
    global_filter = ["a|^{device}$|", "r|.*|"]
    use_devicesfile = 0
}}
backup {{
    backup = 0
    archive = 0
}}
"""


@pytest.fixture
def lvm(libvirtd: Libvirtd, hypervisor: Hypervisor, device: Callable[[], str], tmp_path: Path) -> Iterator[str]:
    """The only device that LVM, as the tests' libvirtd runs it, knows of."""
    needs(hypervisor, "logical")
    where = device()
    config = tmp_path / "lvm"
    config.mkdir()
    (config / "lvm.conf").write_text(LVM.format(device=where))
    within = ["nsenter", "--mount", "--target", str(libvirtd.pid)]
    mapper = Path("/dev/mapper")
    is_new = not mapper.exists()
    run(*within, "mount", "--bind", config, "/etc/lvm")
    yield where
    cleared(hypervisor)
    run(*within, "umount", "/etc/lvm")
    if is_new and mapper.exists():  # LVM makes it in any case
        (mapper / "control").unlink(missing_ok=True)
        mapper.rmdir()


def test_a_volume_group_is_found_and_its_volumes_are_volumes(hypervisor: Hypervisor, lvm: str, tmp_path: Path) -> None:
    pool, volume = hypervisor.pool, hypervisor.volume
    group = f"kvm{uuid.uuid4().hex[:8]}"
    assert pool.find_sources("logical") == {"source": []}
    pool.define_as("group", "logical", source_dev=lvm, source_name=group, target=f"/dev/{group}")
    pool.build("group")
    try:
        found = {"device": [{"@path": lvm}], "name": [group], "format": {"@type": "lvm2"}}
        assert pool.find_sources("logical") == pool.find_sources_as("logical") == {"source": [found]}
        pool.start("group")
        info = pool.info("group")
        assert (info["capacity"], info["allocation"], info["available"]) == (60 * MIB, 0, 60 * MIB)
        assert volume.list("group") == {}
        if not any("device-mapper" in line for line in Path("/proc/misc").read_text().splitlines()):
            with pytest.raises(KvmError, match="/dev/mapper/control: open failed"):  # the kernel has none
                volume.create_as("group", "disk", 8 * MIB)
            return
        volume.create_as("group", "disk", 8 * MIB)
        path = f"/dev/{group}/disk"
        row = {"path": path, "type": "block", "capacity": 8 * MIB, "allocation": 8 * MIB}
        assert volume.list("group", details=True) == {"disk": row}
        assert pool.info("group")["allocation"] == 8 * MIB
        (tmp_path / "in").write_bytes(os.urandom(8 * MIB))
        volume.upload("disk", tmp_path / "in", pool="group")
        assert Path(path).read_bytes() == (tmp_path / "in").read_bytes()
        volume.delete("disk", pool="group")
        assert volume.list("group") == {}
    finally:
        pool.destroy("group")
        pool.delete("group")


def test_where_there_are_no_sources_that_is_said(hypervisor: Hypervisor) -> None:
    types = hypervisor.pool.capabilities(xpath='//pool[@supported="yes"]/@type')
    for type in ("dir", "vstorage", "zfs", "rbd"):
        with pytest.raises(NotSupportedError):
            hypervisor.pool.find_sources(type)
    if "netfs" in types:
        with pytest.raises(kvm.InvalidArgumentError, match="hostname must be specified"):
            hypervisor.pool.find_sources("netfs")
        with pytest.raises(NotFoundError, match="no storage pools were found on host"):
            hypervisor.pool.find_sources_as("netfs", host="127.0.0.1")
