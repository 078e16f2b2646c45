"""Disk images by qemu-img, with real ones: raw, qcow2, chains, bitmaps, LUKS; and names that are made to be misread."""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unix
from kvm import (
    AlreadyExistsError,
    CommandTimeoutError,
    ConnectionLostError,
    DeniedError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NoQemuImgError,
    NotFoundError,
    NotSupportedError,
    Quantity,
    UnreadableOutputError,
)
from kvm.groups.image import File, Image, Progress, Settings, Url, options, outputs
from sshd import Sshd
from waiting import wait_until

MIB = 1 << 20


@pytest.fixture
def image() -> Image:
    """The images of this machine. Tests take `host` instead where the way there matters."""
    return Hypervisor(unix.Local(timeout=60)).image


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qcow2 image of 4 MiB with something in its first and third MiB, and beside it the same as a raw one."""
    disk = tmp_path_factory.mktemp("original") / "disk.qcow2"
    raw = disk.with_name("disk.raw")
    raw.write_bytes(os.urandom(MIB) + bytes(MIB) + os.urandom(MIB) + bytes(MIB))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    return disk


@pytest.fixture
def disk(original: Path, tmp_path: Path) -> Path:
    """A copy of the original, with its raw one beside it."""
    os.link(original.with_name("disk.raw"), tmp_path / "disk.raw")
    return Path(shutil.copy(original, tmp_path))


def content(path: Path, image_format: str = "qcow2") -> bytes:
    """What a guest sees in an image."""
    raw = path.with_name(path.name + ".content")
    subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", path, raw], check=True)
    return raw.read_bytes()


def write(path: Path, offset: int, length: int, byte: int, image_format: str = "qcow2") -> None:
    """Write as a guest would."""
    command = f"write -P {byte} {offset} {length}"
    subprocess.run(["qemu-io", "-f", image_format, "-c", command, path], check=True, stdout=subprocess.DEVNULL)


def processes() -> Iterator[tuple[int, bytes, bytes]]:
    """The number, command line and environment of all processes."""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            entry = Path(f"/proc/{process}")
            yield int(process), (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()


def running(program: str, word: str) -> list[int]:
    """The processes of `program` that have `word` among their arguments."""
    return [
        pid
        for pid, words, _ in processes()
        if words.split(b"\0")[0].endswith(program.encode()) and os.fsencode(word) in words
    ]


def gone(program: str, word: str) -> bool:
    """Whether there is no such process any more, or will not be in a moment."""
    wait_until(lambda: not running(program, word))
    return True


# -- what there is ------------------------------------------------------------------------------------------------


def usage() -> dict[str, set[str]]:
    """The options of each subcommand, as the qemu-img of this machine lists them."""
    told = subprocess.run(["qemu-img", "--help"], capture_output=True, text=True, check=True).stdout
    if listed := dict(re.findall(r"^  ([a-z]+) ([\[(].*)$", told, re.MULTILINE)):
        return {name: options_in(words) for name, words in listed.items()}
    names = re.findall(r"^  ([a-z]+) - ", told, re.MULTILINE)
    helps = {name: subprocess.check_output(["qemu-img", name, "--help"], text=True) for name in names}
    helps = {name: said.partition("Arguments:")[2] for name, said in helps.items()}
    lines = {name: re.findall(r"^  (?=-|[a-z]+=)(?:(-\w), )?(.*)$", said, re.MULTILINE) for name, said in helps.items()}
    return {name: {each for letter, rest in found for each in ([letter] if letter else options_in(rest))}
            for name, found in lines.items()}  # fmt: skip


def options_in(words: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])(?:--?[A-Za-z][\w-]*|[a-z]+=)", words.replace("|", " ")))


ELSEWHERE = {
    "-h",
    "-p",
    "-q",
    "--object",
    "--image-opts",
    "--target-image-opts",
    "--output",
    "--backing-chain",
    "if=",
    "of=",
}
"""What is there in other ways than as an option of its own."""

PARAMETERS = {"amend": {"-o"}, "rebase": {"-b"}, "snapshot": {"-l", "-a", "-c", "-d"}}

NEWER = {"convert": {"-b"}, "info": {"-b"}, "create": {"-B"}, "rebase": {"-B"}, "map": {"-s", "-l"}, "measure": {"-s"}}
"""Letters that take the place of others, which are still known."""


def shape_of(subcommand: str) -> type:
    return getattr(options, f"{subcommand.capitalize()}Options")  # type: ignore[no-any-return]


def test_every_subcommand_has_a_method_and_every_option_a_keyword() -> None:
    found = usage()
    assert found.keys() >= {"amend", "bench", "bitmap", "check", "commit", "compare", "convert", "create", "dd", "info"}
    assert found.keys() >= {"map", "measure", "rebase", "resize", "snapshot"}
    for subcommand, listed in found.items():
        assert callable(getattr(Image, subcommand)), subcommand
        known = {flag for flag, _ in options.declared(shape_of(subcommand)).values()}
        elsewhere = ELSEWHERE | PARAMETERS.get(subcommand, set()) | NEWER.get(subcommand, set())
        assert listed - known - elsewhere == set(), subcommand


def test_progress_is_offered_where_there_is_one() -> None:
    for subcommand, listed in usage().items():
        assert ("-p" in listed) == ("progress" in shape_of(subcommand).__annotations__), subcommand


def test_an_option_that_a_subcommand_does_not_have_is_a_type_error(image: Image, disk: Path) -> None:
    with pytest.raises(TypeError, match="qemu-img info has no option 'backing'"):
        image.info(disk, backing="x")  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="not True"):
        image.map(disk, format=True)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="force_share is True or False, not 'no'"):
        image.map(disk, force_share="no")  # type: ignore[arg-type]


def test_the_version_is_that_of_qemu_img(image: Image) -> None:
    assert f"version {image.version()}" in subprocess.check_output(["qemu-img", "--version"], text=True)


def test_a_hypervisor_pickles_after_its_images_were_used(host: unix.Host) -> None:
    hypervisor = Hypervisor(host, "test:///default", check=False)
    assert hypervisor.image is hypervisor.image
    copy = pickle.loads(pickle.dumps(hypervisor))
    assert copy.image.version() == hypervisor.image.version()
    assert not copy.image.resize("/nonexistent", 1).status


# -- making and reading -------------------------------------------------------------------------------------------


def test_an_image_is_made_and_told_of_in_exact_bytes(host: unix.Host, tmp_path: Path) -> None:
    image = Hypervisor(host).image
    path = tmp_path / "a.qcow2"
    assert image.create(
        path, 10 * MIB + 512, format="qcow2", options={"cluster_size": Quantity("4 KiB"), "lazy_refcounts": True}
    )
    info = image.info(path)
    stat = path.stat()
    assert (info["filename"], info["format"], info["virtual_size"]) == (str(path), "qcow2", 10 * MIB + 512)
    assert (info["actual_size"], info["cluster_size"]) == (stat.st_blocks * 512, 4096)
    assert info["format_specific"]["data"]["lazy_refcounts"] is True
    assert info["dirty_flag"] is False


def test_a_size_may_be_a_quantity_or_a_text_with_a_suffix(image: Image, tmp_path: Path) -> None:
    for size in (Quantity("3 MiB"), 3 * MIB, "3M", str(3 * MIB), "3 mib", "0.0029296875 GiB", "3145.728 kB"):
        image.create(tmp_path / "a", size)
        assert (tmp_path / "a").stat().st_size == 3 * MIB
    for change, expected in (("+ 1.5 MiB", 9 * MIB // 2), ("-512 KiB", 4 * MIB), (Quantity("2 MiB"), 2 * MIB)):
        image.resize(tmp_path / "a", change, shrink=True, format="raw")
        assert (tmp_path / "a").stat().st_size == expected
    image.convert(tmp_path / "a", tmp_path / "b", source_format="raw", rate_limit="200 MiB/s", sparse_size="8 KiB")
    with pytest.raises(InvalidArgumentError, match=r"qemu-img takes a size, such as .*, not '4 ms'"):
        image.create(tmp_path / "a", MIB, format="qcow2", options={"cluster_size": Quantity("4 ms")})
    for wrong in (True, 1.5, "1 lightyear", "", Quantity("3 s"), "5 MiB/s", "9" * 5000, 10**5000):
        with pytest.raises(InvalidArgumentError, match="qemu-img takes a size, such as"):
            image.create(tmp_path / "a", wrong)  # type: ignore[arg-type]


def test_a_chain_of_backing_files_is_told_from_the_top_on(image: Image, disk: Path) -> None:
    middle, top = disk.with_name("middle"), disk.with_name("top")
    image.create(middle, format="qcow2", backing=disk.name, backing_format="qcow2")
    image.create(top, 8 * MIB, format="qcow2", backing=middle, backing_format="qcow2")
    chain = image.info(top, backing_chain=True)
    assert [Path(each["filename"]).name for each in chain] == ["top", "middle", "disk.qcow2"]
    assert [each["virtual_size"] for each in chain] == [8 * MIB, 4 * MIB, 4 * MIB]
    assert chain[1]["backing_filename"] == "disk.qcow2"
    assert chain[1]["full_backing_filename"] == str(disk)
    assert "backing_filename" not in chain[2]

    write(middle, 0, 65536, 7)
    assert {part["depth"] for part in image.map(top) if part["data"]} == {1, 2}
    image.commit(middle)
    assert content(disk)[:65536] == b"\7" * 65536
    image.rebase(top, disk, backing_format="qcow2")
    assert [Path(each["filename"]).name for each in image.info(top, backing_chain=True)] == ["top", "disk.qcow2"]
    image.rebase(top, "elsewhere", backing_unsafe=True, backing_format="raw")
    assert image.info(top)["backing_filename"] == "elsewhere"
    image.rebase(top, disk, backing_unsafe=True, backing_format="qcow2")
    image.rebase(top, None)
    assert "backing_filename" not in image.info(top)
    assert content(top)[: 4 * MIB] == content(disk)


def test_a_commit_may_go_further_down(image: Image, disk: Path) -> None:
    middle, top = disk.with_name("a:middle"), disk.with_name("top")
    image.create(middle, format="qcow2", backing=disk, backing_format="qcow2")
    image.create(top, format="qcow2", backing=middle, backing_format="qcow2")
    write(top, 0, 65536, 9)
    seen: list[float] = []
    image.commit(top, base=disk, drop=True, progress=seen.append)
    assert content(disk)[:65536] == b"\x09" * 65536
    assert seen[-1] == 1.0


def test_a_map_is_where_the_data_is(image: Image, disk: Path) -> None:
    parts = image.map(disk)
    assert [(part["start"], part["length"], part["data"], part["zero"]) for part in parts] == [
        (0, MIB, True, False),
        (MIB, MIB, False, True),
        (2 * MIB, MIB, True, False),
        (3 * MIB, MIB, False, True),
    ]
    with disk.open("rb") as file:
        file.seek(parts[2]["offset"])
        assert file.read(MIB) == content(disk)[2 * MIB : 3 * MIB]
    assert [part["start"] for part in image.map(disk, start_offset=2 * MIB, max_length=MIB)] == [2 * MIB]


def test_what_is_measured_is_enough(image: Image, disk: Path) -> None:
    needed = image.measure(disk, target_format="qcow2")
    assert needed["required"] >= 2 * MIB
    assert needed["fully_allocated"] >= 4 * MIB
    assert image.measure(size=1 << 40)["required"] == 1 << 40
    larger = image.measure(size=1 << 30, target_format="qcow2", target_format_options={"cluster_size": 512})
    assert larger["required"] > image.measure(size=1 << 30, target_format="qcow2")["required"]


def test_an_image_is_resized_amended_and_timed(image: Image, disk: Path) -> None:
    before = content(disk)
    image.resize(disk, 6 * MIB, preallocation="metadata")
    assert image.info(disk)["virtual_size"] == 6 * MIB
    image.resize(disk, "+1M")
    assert image.info(disk)["virtual_size"] == 7 * MIB
    with pytest.raises(InvalidArgumentError, match="shrink"):
        image.resize(disk, 2 * MIB)
    image.resize(disk, "-5M", shrink=True)
    assert content(disk) == before[: 2 * MIB]
    seen: list[float] = []
    image.amend(disk, {"compat": "0.10"}, progress=seen.append)
    assert image.info(disk)["format_specific"]["data"]["compat"] == "0.10"
    assert seen[-1] == 1.0
    assert 0 <= image.bench(disk, count=100, buffer_size=512, depth=2, quiet=True) < 60
    image.bench(disk, write=True, count=1, buffer_size=65536, pattern=5, flush_interval=1, depth=1)
    assert content(disk)[:65536] == b"\5" * 65536


def test_images_are_converted_joined_and_compared(image: Image, disk: Path) -> None:
    before, other = content(disk), disk.with_name("other")
    image.convert(disk, other, target_format="qcow2", compress=True, parallel=2)
    assert content(other) == before
    assert image.compare(disk, other) is True
    assert image.compare(disk, disk.with_name("disk.raw"), b_format="raw") is True
    assert image.compare(disk, disk.with_name("disk.raw"), b_format="raw", strict=True) is False
    write(other, 3 * MIB, 512, 1)
    assert image.compare(disk, other, quiet=True) is False
    with pytest.raises(NotFoundError):
        image.compare(disk, disk.with_name("nothing"))
    image.convert([disk, other], disk.with_name("both"))
    assert disk.with_name("both").read_bytes() == before + content(other)
    image.dd(disk, disk.with_name("part"), bs=65536, count=3, skip=1)
    assert disk.with_name("part").read_bytes() == before[65536 : 3 * 65536]
    image.convert(disk, disk.with_name("diff"), target_format="qcow2", backing=other, backing_format="qcow2")
    assert content(disk.with_name("diff")) == before
    assert image.info(disk.with_name("diff"))["backing_filename"] == str(other)


def test_bitmaps_are_made_changed_in_the_order_given_and_copied(image: Image, disk: Path) -> None:
    def bitmaps(path: Path = disk) -> dict[str, Any]:
        found = image.info(path)["format_specific"]["data"].get("bitmaps", [])
        return {each["name"]: (each["granularity"], each["flags"]) for each in found}

    image.bitmap(disk, "a,b:-", add=True, granularity=32768)
    image.bitmap(disk, "--clear", add=True, disable=True)
    assert bitmaps() == {"a,b:-": (32768, ["auto"]), "--clear": (65536, [])}
    image.bitmap(disk, "a,b:-", disable=True, clear=True, merge="--clear")
    assert bitmaps()["a,b:-"] == (32768, [])
    with pytest.raises(AlreadyExistsError):
        image.bitmap(disk, "--clear", add=True)
    with pytest.raises(NotFoundError):
        image.bitmap(disk, "nothing", remove=True)
    other = disk.with_name("o:ther")
    image.convert(disk, other, target_format="qcow2", bitmaps=True)
    assert bitmaps(other) == bitmaps()
    image.bitmap(disk, "a,b:-", remove=True)
    image.bitmap(disk, "--clear", merge=["a,b:-", "--clear"], source_file=other, source_format="qcow2")
    assert bitmaps() == {"--clear": (65536, [])}
    assert image.measure(disk, target_format="qcow2")["bitmaps"] > 0


# -- internal snapshots -------------------------------------------------------------------------------------------


def test_snapshots_are_made_listed_applied_and_deleted(image: Image, disk: Path) -> None:
    assert image.snapshot(disk) == []
    before = content(disk)
    image.snapshot(disk, create="first")
    write(disk, 0, MIB, 1)
    image.snapshot(disk, create="second, 'x'", quiet=True)
    first, second = image.snapshot(disk, list=True)
    assert (first["id"], first["name"], first["vm_state_size"], first["vm_clock"]) == (1, "first", 0, 0)
    assert second["name"] == "second, 'x'"
    assert timedelta() <= datetime.now(UTC) - first["date"] < timedelta(minutes=1)
    assert first["date"] <= second["date"]
    assert image.info(disk)["snapshots"] == [first, second]
    image.convert(disk, disk.with_name("raw"), snapshot="first")
    assert disk.with_name("raw").read_bytes() == before
    image.convert(disk, disk.with_name("raw"), snapshot=2)
    assert disk.with_name("raw").read_bytes() != before
    assert image.measure(disk, snapshot="second, 'x'")["required"] == 4 * MIB
    image.snapshot(disk, apply="first")
    assert content(disk) == before
    image.snapshot(disk, delete="second, 'x'")
    assert image.snapshot(disk) == [first]


def test_a_snapshot_named_like_an_id_is_never_another_one(image: Image, disk: Path) -> None:
    states = {}
    for number, name in enumerate(["2", "1", "same", "same"], 1):
        write(disk, 0, 65536, number)
        states[number] = content(disk)
        image.snapshot(disk, create=name)

    def applied(which: str | int) -> bytes:
        image.snapshot(disk, apply=which)
        return content(disk)

    assert applied("1") == states[2]
    assert applied(1) == states[1]
    assert applied("same") == states[3]
    assert applied(4) == states[4]
    for wrong in ("7", 7, "nothing"):
        with pytest.raises(NotFoundError):
            image.snapshot(disk, apply=wrong)
        with pytest.raises(NotFoundError):
            image.snapshot(disk, delete=wrong)
    with pytest.raises(NotSupportedError, match="comes first"):
        image.snapshot(disk, delete=4)
    image.snapshot(disk, delete="1")
    image.snapshot(disk, delete=3)
    assert [(each["id"], each["name"]) for each in image.snapshot(disk)] == [(1, "2"), (4, "same")]


def test_a_name_that_would_be_cut_off_is_refused(image: Image, disk: Path) -> None:
    image.snapshot(disk, create="é" * 127)
    assert image.snapshot(disk)[0]["name"] == "é" * 127
    with pytest.raises(InvalidArgumentError, match="at most 255 bytes"):
        image.snapshot(disk, create="é" * 128)
    with pytest.raises(InvalidArgumentError, match="give one of"):
        image.snapshot(disk, create="a", delete="b")  # type: ignore[call-overload]


# -- checks -------------------------------------------------------------------------------------------------------


def damage(path: Path, cluster: int, count: int) -> None:
    """Write another reference count of a cluster into a qcow2 image."""
    with path.open("r+b") as file:
        file.seek(48)
        (table,) = struct.unpack(">Q", file.read(8))
        file.seek(table)
        (block,) = struct.unpack(">Q", file.read(8))
        file.seek(block + 2 * cluster)
        file.write(struct.pack(">H", count))


def test_what_is_wrong_with_an_image_is_a_value_and_can_be_repaired(image: Image, disk: Path) -> None:
    sound = image.check(disk)
    assert (sound["corruptions"], sound["leaks"], sound["check_errors"]) == (0, 0, 0)
    assert (sound["total_clusters"], sound["allocated_clusters"]) == (64, 32)
    assert sound["image_end_offset"] <= disk.stat().st_size

    cluster = disk.stat().st_size // 65536 + 4
    os.truncate(disk, (cluster + 1) * 65536)
    damage(disk, cluster, 1)
    assert (image.check(disk)["corruptions"], image.check(disk, quiet=True)["leaks"]) == (0, 1)
    assert image.check(disk, repair="leaks")["leaks_fixed"] == 1
    assert image.check(disk) == {**sound, "image_end_offset": image.check(disk)["image_end_offset"]}

    (used,) = {part["offset"] // 65536 for part in image.map(disk) if part["start"] == 0}
    damage(disk, used, 0)
    assert image.check(disk)["corruptions"] > 0
    repaired = image.check(disk, repair="all")
    assert repaired["corruptions"] == 0 < repaired["corruptions_fixed"]


def test_a_format_without_a_check_is_not_supported(image: Image, disk: Path) -> None:
    with pytest.raises(NotSupportedError, match="does not support checks"):
        image.check(disk.with_name("disk.raw"), format="raw")


# -- names --------------------------------------------------------------------------------------------------------

HOSTILE = [
    "-f",
    "--help",
    "--",
    "-",
    "a:b",
    "nbd:localhost:10809",
    "nbd://localhost",
    "file:a",
    "json:{}",
    'json:{"driver":"null-co"}',
    "fat:rw:x",
    "driver=raw,file.filename=x",
    "a,b",
    "a,,b,",
    "100%s%n%d",
    " two  blanks ",
    "a\nb",
    "a\tb\r",
    "'quotes\" `$(id)` \\",
    "漢字😀",
    "*",
    "~",
    "bs=1",
    "+1",
    b"\xff\xfe".decode("utf-8", "surrogateescape"),
    "No such file or directory",
    'Failed to get "write" lock',
]


def every_subcommand(image: Image, directory: Path, name: str) -> None:
    """Do everything there is with an image of this name, relative to the current directory where the host is here."""
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    is_here = isinstance(image._host, unix.Local)
    file, other = (name, f"{name}:2") if is_here else (f"{directory}/{name}", f"{directory}/{name}:2")
    shown = os.fsencode(name).decode("utf-8", "replace")
    with contextlib.chdir(directory):
        image.create(file, MIB, format="qcow2")
        assert os.path.exists(directory / name)
        assert image.info(file)["filename"].removeprefix("./").endswith(shown)
        image.amend(file, {"lazy_refcounts": True}, format="qcow2")
        image.bench(file, count=1)
        image.bitmap(file, name, add=True)
        assert image.check(file)["format"] == "qcow2"
        image.resize(file, 2 * MIB)
        image.snapshot(file, create=name)
        assert image.snapshot(file)[0]["name"] == shown
        image.convert(file, other, target_format="qcow2", snapshot=name)
        assert os.path.exists(directory / f"{name}:2")
        assert image.compare(file, other)
        with pytest.raises(InvalidStateError, match="dirty bitmaps"):
            image.snapshot(file, apply=name)
        image.bitmap(file, name, remove=True)
        image.snapshot(file, apply=name)
        image.snapshot(file, delete=name)
        assert image.map(file)[-1]["length"] == 2 * MIB
        assert image.measure(file)["required"] == 2 * MIB
        image.dd(file, other, output_format="qcow2")
        assert image.info(other)["virtual_size"] == 2 * MIB
        if os.fsencode(name) == name.encode("utf-8", "replace"):  # JSON has no other
            assert image.info({"driver": "qcow2", "file": {"driver": "file", "filename": file}})["format"] == "qcow2"
            assert image.compare({"file.filename": file}, other)
        below = name[name.rfind("/") + 1 :]
        image.create(other, format="qcow2", backing=below, backing_format="qcow2")
        assert image.info(other)["full_backing_filename"].endswith(below if is_utf8(below) else "")
        write(directory / f"{name}:2", 0, 512, 3)
        image.commit(other)
        assert content(directory / name)[:512] == b"\3" * 512
        image.rebase(other, None)
        with pytest.raises((NotFoundError, InvalidArgumentError)):
            image.info(f"{file}x")
    assert set(os.listdir((directory / name).parent)) <= {
        (directory / each).name for each in (name, f"{name}:2", f"{name}.content")
    }


def is_utf8(name: str) -> bool:
    return "\ufffd" not in os.fsencode(name).decode("utf-8", "replace")


WORST = ["--help", "nbd:localhost:10809", 'json:{"driver":"null-co"}']


@pytest.mark.parametrize("name", WORST)
def test_a_hostile_name_is_always_that_file(image: Image, tmp_path: Path, name: str) -> None:
    every_subcommand(image, tmp_path, name)


def test_a_hostile_name_is_that_file_on_every_host(host: unix.Host, tmp_path: Path) -> None:
    every_subcommand(Hypervisor(host).image, tmp_path, "-a:b,, 'c'\n\udcff,")


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in WORST])
def test_a_hostile_name_is_neither_an_option_nor_a_protocol(image: Image, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(tmp_path):
        image.create(name, MIB, format="qcow2")
        image.snapshot(name, create=name)
        image.convert(name, f"{name}2", snapshot=name)
        image.dd(name, f"{name}3")
        assert image.info(os.fsencode(name))["virtual_size"] == MIB
    found = os.listdir((tmp_path / name).parent)
    assert sorted(found) == sorted(Path(f"{name}{each}").name for each in ("", "2", "3"))


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..")
)


@given(names)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_that_file(image: Image, tmp_path: Path, name: str) -> None:
    directory = tmp_path / os.urandom(8).hex()
    directory.mkdir()
    with contextlib.chdir(directory):
        file = name
        image.create(file, MIB, format="qcow2", options={"data_file": f"{directory}/{name},,d="})
        assert set(os.listdir(directory)) == {name, f"{name},,d="}
        info = image.info(file)
        assert info["format_specific"]["data"]["data_file"] == f"{directory}/{name},,d="
        assert info["filename"].removeprefix("./").endswith(name)
        image.convert({"driver": "qcow2", "file": {"driver": "file", "filename": file}}, f"{file}\U0001f600")
        assert set(os.listdir(directory)) == {name, f"{name},,d=", f"{name}\U0001f600"}


@given(names)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_of_a_snapshot_is_that_snapshot(image: Image, tmp_path: Path, name: str) -> None:
    file = tmp_path / os.urandom(8).hex()
    image.create(file, MIB, format="qcow2")
    image.snapshot(file, create=f"{name}x")
    image.snapshot(file, create=name)
    assert [each["name"] for each in image.snapshot(file)] == [f"{name}x", name]
    image.convert(file, f"{file}.raw", snapshot=name)
    image.snapshot(file, apply=name)
    image.snapshot(file, delete=name)
    assert [each["name"] for each in image.snapshot(file)] == [f"{name}x"]


def test_a_file_without_a_name_and_a_nul_are_refused(image: Image) -> None:
    for wrong in ("", b""):
        with pytest.raises(InvalidArgumentError, match="empty"):
            image.info(wrong)
    with pytest.raises(InvalidArgumentError, match="NUL"):
        image.info("a\0b")


# -- what qemu reads itself ---------------------------------------------------------------------------------------


@pytest.fixture
def served(disk: Path) -> Iterator[Path]:
    """The socket of a qemu-nbd that serves the disk, and so has it locked."""
    socket = disk.with_name("socket")
    server = subprocess.Popen(["qemu-nbd", "-f", "qcow2", "-t", "-e", "9", "-k", socket, disk])
    wait_until(socket.exists)
    yield socket
    server.kill()
    server.wait()


def test_an_image_may_be_somewhere_else_and_described_in_other_ways(image: Image, disk: Path, served: Path) -> None:
    before = content_of_shared(disk)
    server: Settings = {"driver": "nbd", "server": {"type": "unix", "path": served}}
    by_options: File = {"driver": "raw", "file": server}
    as_json = Url(f'json:{{"driver":"nbd","server":{{"type":"unix","path":"{served}"}}}}')
    for place in (by_options, as_json, Url(f"nbd+unix:///?socket={served}")):
        assert image.info(place)["virtual_size"] == 4 * MIB
        image.convert(place, disk.with_name("copy"))
        assert disk.with_name("copy").read_bytes() == before
        assert image.compare(place, disk.with_name("copy"), b_format="raw")
    image.create(disk.with_name("top"), format="qcow2", backing=by_options, backing_format="raw")
    assert image.compare(disk.with_name("top"), disk.with_name("copy"), b_format="raw")
    image.convert([disk.with_name("copy"), by_options], disk.with_name("both"), source_cache="none")


def content_of_shared(path: Path) -> bytes:
    return subprocess.check_output(["sh", "-c", 'qemu-img convert -U -O raw "$1" "$1.c" && cat "$1.c"', "sh", path])


def test_a_target_may_be_told_by_its_options_if_it_is_there(image: Image, disk: Path) -> None:
    target: File = {"driver": "qcow2", "file": {"driver": "file", "filename": disk.with_name("a,b")}}
    image.create(disk.with_name("a,b"), 4 * MIB, format="qcow2")
    image.convert(disk, target, no_create=True, target_is_zero=True)
    assert content(disk.with_name("a,b")) == content(disk)
    assert image.info(disk.with_name("a,b"))["format"] == "qcow2"
    with pytest.raises(InvalidArgumentError, match="--target-image-opts requires"):
        image.convert(disk, target)


def test_a_format_beside_options_is_refused_because_qemu_would_believe_it(image: Image, disk: Path) -> None:
    options: File = {"driver": "qcow2", "file.filename": disk}
    assert image.info(options)["virtual_size"] == 4 * MIB
    with pytest.raises(InvalidArgumentError, match="has its format there"):
        image.info(options, format="raw")
    with pytest.raises(InvalidArgumentError, match="has its format there"):
        image.compare(disk, options, b_format="raw")
    with pytest.raises(InvalidArgumentError, match="has its format there"):
        image.convert([options, options], disk.with_name("x"), source_format="raw")


def test_values_with_commas_are_one_value(image: Image, tmp_path: Path) -> None:
    data = tmp_path / ",data=1,,size=5,"
    image.create(tmp_path / "a", MIB, format="qcow2", options={"data_file": data, "data_file_raw": True})
    assert data.exists()
    assert image.info(tmp_path / "a")["format_specific"]["data"]["data_file"] == str(data)


# -- secrets ------------------------------------------------------------------------------------------------------

PASSPHRASE = "".join(map(chr, range(1, 128))) + "päss,wörd\n$(id)'\n"


def encrypted(path: Path, key: str = "sec0") -> File:
    """A qcow2 image that is encrypted with AES: not safe, but made in no time."""
    return {"driver": "qcow2", "encrypt": {"format": "aes", "key-secret": key}, "file.filename": path}


AES: Settings = {"encrypt": {"format": "aes", "key-secret": "sec0"}}


DIGEST = bytes.fromhex("38601cd00d19f883c66319d252ba97dc3f855b48")
"""Of the master key that `PASSPHRASE` makes of salts and key material that are zeros."""


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    """A LUKS image of 1 MiB, and beside it the same as a raw one.

    It is written by hand: to make one, qemu-img measures for seconds how fast it is, and on a busy machine fails.
    """
    active, free = 0x00AC71F3, 0x0000DEAD
    payload = 8 + 8 * 128  # what begins where is told in sectors: the header, the slots, what is encrypted
    header = struct.pack(">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, b"aes", b"cbc-plain64", b"sha1", payload, 16,
                         DIGEST, b"", 1000, b"00000000-0000-4000-8000-000000000000")  # fmt: skip
    for slot in range(8):
        header += struct.pack(">II32sII", free if slot else active, 0 if slot else 1000, b"", 8 + slot * 128, 4000)
    path = tmp_path / "a.luks"
    path.write_bytes(header.ljust(payload * 512, b"\0") + os.urandom(MIB))
    key = path.with_name("key")
    key.write_text(PASSPHRASE)
    told = f"driver=luks,key-secret=s,file.filename={path}"
    plain = ["qemu-img", "convert", "--object", f"secret,id=s,file={key}", "--image-opts", told, "-O", "raw"]
    subprocess.run([*plain, path.with_name("raw")], check=True)
    return path


def test_an_encrypted_image_is_read_with_its_passphrase(image: Image, safe: Path) -> None:
    secrets = {"sec0": PASSPHRASE}
    luks: File = {"driver": "luks", "key-secret": "sec0", "file": {"driver": "file", "filename": safe}}
    assert image.info(safe)["format"] == "luks"
    assert image.compare(safe.with_name("raw"), luks, a_format="raw", secrets=secrets) is True
    assert image.compare(luks, safe.with_name("raw"), b_format="raw", secrets=secrets, progress=lambda _: None) is True
    with pytest.raises(DeniedError, match="Invalid password"):
        image.compare(safe.with_name("raw"), luks, a_format="raw", secrets={"sec0": "wrong"})
    with pytest.raises(InvalidArgumentError, match="key-secret"):
        image.compare(safe.with_name("raw"), safe, a_format="raw")
    with pytest.raises(InvalidArgumentError, match="UTF-8"):
        image.compare(safe.with_name("raw"), luks, a_format="raw", secrets={"sec0": b"\xff"})


def test_there_may_be_several_secrets_of_any_kind(host: unix.Host, disk: Path) -> None:
    image = Hypervisor(host).image
    one, two = disk.with_name("one"), disk.with_name("two")
    given: dict[str, bytes | str] = {
        "sec0": b"one",
        "sec1": "zwei \u20ac",
        "a.b": b"",
        "d": b"x" * 70000,
        "e": b"\n",
        "f": bytes(9),
        "g": b"6",
    }
    image.create(one, 4 * MIB, format="qcow2", options=AES, secrets={"sec0": b"one"})
    assert image.info(one)["encrypted"] is True
    image.convert(disk, encrypted(one), no_create=True, secrets=given)
    image.convert(encrypted(one), two, target_format="qcow2", secrets=given,
                  target_format_options={"encrypt.format": "aes", "encrypt.key-secret": "sec1"})  # fmt: skip
    assert image.compare(encrypted(one), encrypted(two, "sec1"), secrets=given)
    assert image.compare(disk, encrypted(two, "sec1"), secrets=given)
    assert not image.compare(disk, encrypted(two, "g"), secrets=given)
    with pytest.raises(InvalidArgumentError, match="7 secrets"):
        image.info(one, secrets={**given, "h": b""})


def test_a_secret_is_on_no_command_line_and_in_no_environment(host: unix.Host, disk: Path) -> None:
    image = Hypervisor(host).image
    secret = "geheim" + os.urandom(5).hex()
    path = disk.with_name("an encrypted image")
    seen: list[bytes] = []

    def look(_: float) -> None:
        told = [part for _, *parts in processes() for part in parts]
        seen.extend(part for part in told if b"an encrypted image" in part)
        for form in (secret.encode(), base64.b64encode(secret.encode())):
            assert not any(form in part for part in told)

    with host.set_controls(envs={"s3": "exported"}):
        image.convert(disk.with_name("disk.raw"), path, source_format="raw", target_format="qcow2", parallel=1,
                      target_format_options=AES, rate_limit=2 * MIB, secrets={"sec0": secret},
                      progress=look)  # fmt: skip
    assert any(b"qemu-img\0" in each for each in seen)
    with pytest.raises(KvmError) as raised:
        image.info(disk.with_name("nothing"), secrets={"sec0": secret})
    assert secret not in f"{raised.value!r} {raised.value.command} {raised.value.stderr}"
    assert raised.value.command[0] == "qemu-img"


def test_other_objects_can_be_given(image: Image, disk: Path) -> None:
    throttled: Settings = {
        "driver": "throttle",
        "throttle-group": "a,b",
        "file": {"driver": "qcow2", "file.filename": disk},
    }
    objects = [{"qom-type": "throttle-group", "id": "group"}]
    assert image.info({**throttled, "throttle-group": "group"}, objects=objects)["virtual_size"] == 4 * MIB


# -- progress -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw image of 16 MiB without a hole."""
    path = tmp_path_factory.mktemp("sixteen") / "raw"
    path.write_bytes(os.urandom(16 * MIB))
    return path


@pytest.fixture
def large(sixteen: Path, tmp_path: Path) -> Path:
    """The same, by a name of its own."""
    path = tmp_path / "large"
    os.link(sixteen, path)
    return path


def test_the_progress_is_told_while_it_is_made(host: unix.Host, large: Path) -> None:
    image = Hypervisor(host).image
    seen: dict[float, bool] = {}

    def progress(done: float) -> None:
        assert done not in seen
        seen[done] = bool(running("qemu-img", str(large)))

    result = image.convert(
        large, large.with_name("copy"), rate_limit=16 * MIB, quiet=True, parallel=1, progress=progress
    )
    assert result.stdout.strip() == ""
    fractions = list(seen)
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any(is_running for done, is_running in seen.items() if 0 < done < 1)
    assert large.with_name("copy").read_bytes() == large.read_bytes()
    again: list[float] = []
    assert image.compare(large, large.with_name("copy"), progress=again.append, a_format="raw", b_format="raw") is True
    assert again[-1] == 1.0
    image.create(large.with_name("top"), format="qcow2", backing=large, backing_format="raw")
    image.rebase(large.with_name("top"), large.with_name("copy"), backing_format="raw", progress=again.append)


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), unix.CommandTimeoutError(["x"], 1)])
def test_whoever_is_told_of_the_progress_can_stop_it(host: unix.Host, large: Path, error: BaseException) -> None:
    image = Hypervisor(host, "test:///default", check=False).image

    def stop(done: float) -> None:
        if done > 0:
            raise error

    with pytest.raises(type(error)) as raised:
        image.convert(large, large.with_name("copy"), rate_limit=MIB, parallel=1, progress=stop)
    assert raised.value is error
    assert gone("qemu-img", str(large))


# -- what goes wrong ----------------------------------------------------------------------------------------------


def test_a_conversion_that_takes_too_long_is_ended_and_names_its_target(host: unix.Host, large: Path) -> None:
    image, target = Hypervisor(host, "test:///default").image, large.with_name("the target")
    deaf: Progress = lambda _: None  # noqa: E731
    for progress in (None, deaf):
        with host.set_controls(timeout=0.2), pytest.raises(CommandTimeoutError, match="may not be complete") as raised:
            image.convert(large, target, rate_limit=MIB, progress=progress)
        assert str(target) in str(raised.value)
        assert gone("qemu-img", str(large))
    image = Hypervisor(host, "test:///default", check=False).image
    with host.set_controls(timeout=0.2):
        status, _, stderr = image.convert(large, target, rate_limit=MIB)
    assert not status
    assert "the target" in stderr


def once_it_runs(word: str, act: Callable[[], object]) -> threading.Thread:
    """Do something when a qemu-img with `word` among its arguments is at work, from another thread."""

    def wait() -> None:
        wait_until(lambda: running("qemu-img", word))
        time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("progress", [None, lambda _: None], ids=["unwatched", "watched"])
def test_a_conversion_that_is_killed_names_its_target(host: unix.Host, large: Path, progress: Progress | None) -> None:
    def kill() -> None:
        for pid in running("qemu-img", str(large)):
            os.kill(pid, signal.SIGKILL)

    image = Hypervisor(host).image
    thread = once_it_runs(str(large), kill)
    with pytest.raises(KvmError, match="the target may not be complete"):
        image.convert(large, large.with_name("the target"), rate_limit=MIB, progress=progress)
    thread.join()


def test_a_conversion_on_a_host_that_is_lost_names_its_target(large: Path) -> None:
    sshd = Sshd()
    deaf: Progress = lambda _: None  # noqa: E731
    try:
        image = Hypervisor(sshd.connect()).image
        for progress in (None, deaf):
            assert image.info(large, format="raw")["virtual_size"] == 16 * MIB
            thread = once_it_runs(str(large), sshd.stop)
            with pytest.raises(ConnectionLostError, match="the target may not be complete"):
                image.convert(large, large.with_name("the target"), rate_limit=MIB, parallel=1, progress=progress)
            thread.join()
            sshd.start()
            assert gone("qemu-img", str(large))
        assert image.info(large, format="raw")["virtual_size"] == 16 * MIB
    finally:
        sshd.remove()


def test_errors_are_told_apart(image: Image, disk: Path) -> None:
    raw, missing = disk.with_name("disk.raw"), disk.with_name("missing")
    wrong: list[tuple[type[KvmError], Any]] = [
        (NotFoundError, lambda: image.info(missing)),
        (NotFoundError, lambda: image.create(missing / "a", MIB)),
        (NotFoundError, lambda: image.create(missing, format="qcow2", backing="nothing", backing_format="raw")),
        (NotFoundError, lambda: image.convert(disk, missing, snapshot="nothing")),
        (NotFoundError, lambda: image.rebase(disk, missing, backing_format="raw")),
        (NotFoundError, lambda: image.commit(disk, base=missing)),
        (InvalidStateError, lambda: image.commit(disk)),
        (InvalidArgumentError, lambda: image.create(missing, MIB, format="nothing")),
        (InvalidArgumentError, lambda: image.create(missing, MIB, format="qcow2", options={"nothing": 1})),
        (InvalidArgumentError, lambda: image.create(missing, MIB, format="qcow2", options={"cluster_size": 3})),
        (InvalidArgumentError, lambda: image.create(missing, format="qcow2")),
        (InvalidArgumentError, lambda: image.info(raw, format="qcow2")),
        (InvalidArgumentError, lambda: image.info(Url("nothing:x"))),
        (InvalidArgumentError, lambda: image.info(Url("json:{"))),
        (InvalidArgumentError, lambda: image.info(disk, format="nothing")),
        (InvalidArgumentError, lambda: image.info(disk.parent)),
        (InvalidArgumentError, lambda: image.compare(disk, disk, objects=[{"qom-type": "nothing", "id": "a"}])),
        (NotSupportedError, lambda: image.snapshot(raw, create="a")),
        (NotSupportedError, lambda: image.bitmap(raw, "a", add=True)),
        (NotSupportedError, lambda: image.amend(raw, {"size": 1}, format="raw")),
        (NotSupportedError, lambda: image.measure(size=MIB, target_format="vmdk")),
    ]
    for kind, call in wrong:
        with pytest.raises(kind) as raised:
            call()
        assert raised.type is kind, raised.value
        assert raised.value.command[0] == "qemu-img"
        assert raised.value.return_code in (1, 2)
        assert "qemu-img" in raised.value.stderr


def test_an_image_in_use_is_in_the_wrong_state(image: Image, disk: Path, served: Path) -> None:
    with pytest.raises(InvalidStateError, match="lock"):
        image.snapshot(disk, create="a")
    with pytest.raises(InvalidStateError, match="lock"):
        image.info(disk)
    assert image.info(disk, force_share=True)["virtual_size"] == 4 * MIB
    assert image.snapshot(disk, force_share=True) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run commands as other users")
def test_a_user_without_the_right_is_denied_and_has_secrets_of_its_own(host: unix.Host, disk: Path) -> None:
    image = Hypervisor(host).image
    with tempfile.TemporaryDirectory(dir="/var/tmp") as public:
        os.chmod(public, 0o755)
        path = shutil.copy(disk, public)
        os.chmod(path, 0o600)
        with host.set_controls(su="nobody"):
            with pytest.raises(DeniedError):
                image.info(path)
            os.chmod(path, 0o644)
            assert image.info(path, secrets={"a": b"b"})["format"] == "qcow2"


def test_without_check_a_failed_action_returns_its_result(tmp_path: Path) -> None:
    image = Hypervisor(unix.Local(), check=False).image
    status, _, stderr = image.resize(tmp_path / "missing", MIB)
    assert (status, stderr.startswith("qemu-img: Could not open")) == (False, True)
    assert not image.snapshot(tmp_path / "missing", create="x")
    image.create(tmp_path / "a", MIB, format="qcow2")
    assert image.snapshot(tmp_path / "a", apply=7).stderr.startswith("qemu-img snapshot: there is no snapshot")
    with pytest.raises(NotFoundError):
        image.info(tmp_path / "missing")


def test_a_host_without_qemu_img_is_told_what_to_install(host: unix.Host, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    image = Hypervisor(host, "test:///default").image
    with host.set_controls(envs={"PATH": str(tmp_path)}):
        for call in (
            lambda: image.info("x"),
            lambda: image.info("x", secrets={"a": b"b"}),
            lambda: image.convert("x", "y", progress=print),
            lambda: image.convert("x", "y", progress=print, secrets={"a": b"b"}),
        ):
            with pytest.raises(NoQemuImgError, match=r"no qemu-img on .* \(install the package qemu-utils \(Debian"):
                call()
        with pytest.raises(NoQemuImgError, match="no qemu-nbd"):
            image.load("x")


def test_controls_that_are_not_meant_for_it_change_nothing(host: unix.Host, disk: Path) -> None:
    image = Hypervisor(host, "test:///default").image
    with host.set_controls(decode=None, locale="C", shell=True, escape_args=False, options_place="after"):
        assert image.info(disk)["virtual_size"] == 4 * MIB
        assert image.resize(disk, "+1M").stdout == "Image resized.\n"


def test_an_output_that_nobody_understands_is_an_error() -> None:
    for read in (outputs.info, outputs.infos, outputs.same, outputs.seconds, outputs.version):
        for output in ("", "nonsense\n", "5"):
            with pytest.raises(UnreadableOutputError):
                read(output)


# -- qemu-nbd -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/nbd0") or os.geteuid() != 0, reason="the kernel has no nbd here")
def test_an_image_is_a_block_device_until_it_is_taken_away(image: Image, disk: Path) -> None:
    image.load(disk, "nbd0", format="qcow2", read_only=True)
    try:
        assert Path("/dev/nbd0").read_bytes() == content(disk)
    finally:
        image.unload("nbd0")


@pytest.mark.skipif(os.path.exists("/dev/nbd0"), reason="the kernel has nbd here")
def test_without_the_device_it_says_what_is_missing(image: Image, disk: Path) -> None:
    for device in ("nbd0", "/dev/nbd0"):
        with pytest.raises(NotFoundError, match=r"Failed to open /dev/nbd0: .* \(modprobe nbd\)"):
            image.load(disk, device)
        with pytest.raises(NotFoundError, match=r"Cannot open /dev/nbd0: .* \(modprobe nbd\)"):
            image.unload(device)
    with pytest.raises(NotFoundError, match="Failed to open /dev/nbd0"):
        image.load(disk, format="qcow2", snapshot=True, offset=512, cache="none", aio="threads", discard="unmap",
                   detect_zeroes="on", persistent=True, shared=2, socket=disk.with_name("s"),
                   pid_file=disk.with_name("p"), secrets={"a": b"b"})  # fmt: skip
    image.snapshot(disk, create="a,b")
    for which in ("a,b", 1):
        with pytest.raises(NotFoundError, match="Failed to open /dev/nbd0"):
            image.load({"driver": "qcow2", "file.filename": disk}, read_only=True, nocache=True, load_snapshot=which)
    with pytest.raises(NotFoundError, match="missing"):
        image.load(disk.with_name("missing"), "null")


def test_a_server_of_qemu_nbd_goes_on_behind_its_caller(host: unix.Host, disk: Path) -> None:
    socket = disk.with_name("socket")
    result = host.run(["qemu-nbd", "--fork", "--socket", socket, "--format", "qcow2", disk], timeout=10)
    assert result.status
    assert Hypervisor(host).image.info(Url(f"nbd+unix:///?socket={socket}"))["virtual_size"] == 4 * MIB
    assert gone("qemu-nbd", str(socket))
