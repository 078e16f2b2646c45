"""Volumes to files here and back, by path or as they come, whichever host the hypervisor is on; pictures of screens."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvm
import unix
from kvm import Hypervisor, InvalidArgumentError, KvmError, NotFoundError, Quantity
from kvm.groups.domain.guest import _picture
from libvirtd import Libvirtd
from sshd import Sshd
from waiting import wait_until

MIB = 1024**2


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


def cleared(hypervisor: Hypervisor) -> None:
    for name in hypervisor.list_pools():
        hypervisor.pool.destroy(name)


@pytest.fixture
def hypervisor(hypervisor: Hypervisor, directory: Path) -> Iterator[Hypervisor]:
    """The real hypervisor with a pool ``images`` in which there is a ``disk``."""
    cleared(hypervisor)
    hypervisor.pool.create_as("images", "dir", target=str(directory))
    hypervisor.volume.create_as("images", "disk", 8 * MIB, allocation=0)
    yield hypervisor
    cleared(hypervisor)


class Slow(io.RawIOBase):
    """Reads and writes what is in `file`, a few bytes at a time."""

    def __init__(self, file: io.BytesIO) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.file.read(min(size, 70_001))

    def write(self, data: object) -> int:
        return self.file.write(bytes(data)[:70_001])  # type: ignore[call-overload]


def test_a_volume_is_filled_from_a_file_here_and_read_into_one(
    hypervisor: Hypervisor, directory: Path, tmp_path: Path
) -> None:
    volume, content = hypervisor.volume, os.urandom(8 * MIB)
    (tmp_path / "-in put").write_bytes(content)
    assert volume.upload("disk", tmp_path / "-in put", pool="images").status
    assert (directory / "disk").read_bytes() == content
    (tmp_path / "out").write_bytes(b"x" * 9 * MIB)
    assert volume.download("disk", str(tmp_path / "out"), pool="images").status
    assert (tmp_path / "out").read_bytes() == content

    content = os.urandom(8 * MIB)
    for source in (io.BytesIO(content), Slow(io.BytesIO(content)), gzipped(tmp_path, content)):
        (directory / "disk").write_bytes(bytes(8 * MIB))
        volume.upload(str(directory / "disk"), source)
        assert (directory / "disk").read_bytes() == content
    memory = io.BytesIO()
    volume.download("disk", memory, pool="images")
    assert memory.getvalue() == content
    slow = Slow(io.BytesIO())
    volume.download("disk", slow, pool="images")
    assert slow.file.getvalue() == content
    with gzip.open(tmp_path / "packed", "wb", 1) as packed:
        volume.download("disk", packed, pool="images")
    assert gzip.decompress((tmp_path / "packed").read_bytes()) == content


def gzipped(directory: Path, content: bytes) -> gzip.GzipFile:
    (directory / "in.gz").write_bytes(gzip.compress(content, 1))
    return gzip.open(directory / "in.gz")


def test_a_file_object_is_read_and_written_from_where_it_is(
    hypervisor: Hypervisor, directory: Path, tmp_path: Path
) -> None:
    volume, content = hypervisor.volume, os.urandom(3 * MIB)
    (tmp_path / "in").write_bytes(content)
    with (tmp_path / "in").open("rb") as file:
        file.read(5)
        volume.upload("disk", file, pool="images", length=MIB)
        assert file.tell() == 5 + MIB
        volume.upload("disk", file, pool="images", offset=MIB)
        assert file.tell() == 3 * MIB
        file.seek(0)
        volume.upload("disk", file, pool="images", offset=3 * MIB)
        assert file.tell() == 3 * MIB
    assert (directory / "disk").read_bytes() == content[5:] + bytes(5) + content + bytes(2 * MIB)
    with (tmp_path / "out").open("wb") as out:
        for offset in range(4):
            volume.download("disk", out, pool="images", offset=5 + offset * 10, length=10)
        assert out.tell() == 40
        out.write(b"end")
    assert (tmp_path / "out").read_bytes() == content[10:50] + b"end"
    with (tmp_path / "out").open("ab") as out:
        volume.download("disk", out, pool="images", length=5, sparse=True)
    assert (tmp_path / "out").read_bytes() == content[10:50] + b"end" + content[5:10]


def test_a_length_is_exact(hypervisor: Hypervisor, directory: Path, tmp_path: Path) -> None:
    volume, image = hypervisor.volume, directory / "disk"
    (tmp_path / "ten").write_bytes(b"0123456789")
    for source in (lambda: tmp_path / "ten", lambda: io.BytesIO(b"0123456789")):
        volume.upload("disk", source(), pool="images", length=10)
        volume.upload("disk", source(), pool="images", length=Quantity("4 bytes"), offset=Quantity("1 KiB"))
        with pytest.raises(InvalidArgumentError, match=r"10 bytes for volume 'disk', and not 11"):
            volume.upload("disk", source(), pool="images", length=11)
    assert image.read_bytes() == b"0123456789" + bytes(1014) + b"0123" + bytes(8 * MIB - 1028)

    for sparse in (False, True):
        volume.download("disk", tmp_path / "out", pool="images", offset=1024, length=6, sparse=sparse)
        assert (tmp_path / "out").read_bytes() == b"0123\0\0"
        with pytest.raises(InvalidArgumentError, match=r"10 bytes in volume 'disk', and not 11"):
            volume.download("disk", tmp_path / "new", pool="images", offset=8 * MIB - 10, length=11, sparse=sparse)
        assert not (tmp_path / "new").exists()
    for offset, length in ((-1, None), (0, 0), (0, -1)):
        with pytest.raises(InvalidArgumentError, match="at least"):
            volume.download("disk", io.BytesIO(), offset=offset, length=length)


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_holes_stay_holes(hypervisor: Hypervisor, directory: Path, tmp_path: Path) -> None:
    volume, data = hypervisor.volume, os.urandom(MIB)
    is_here = isinstance(hypervisor.host, unix.Local)
    with (tmp_path / "in").open("wb") as file:
        for position in (MIB, 5 * MIB):
            file.seek(position)
            file.write(data)
        file.truncate(8 * MIB)
    content = (tmp_path / "in").read_bytes()
    volume.upload("disk", tmp_path / "in", pool="images", sparse=True)
    assert (directory / "disk").read_bytes() == content
    assert allocated(directory / "disk") <= (3 * MIB if is_here else 9 * MIB)

    volume.upload("disk", tmp_path / "in", pool="images")
    volume.download("disk", tmp_path / "out", pool="images")
    assert allocated(tmp_path / "out") >= 8 * MIB
    (directory / "disk").write_bytes(content)
    os.truncate(directory / "disk", 0)
    volume.upload("disk", tmp_path / "in", pool="images", sparse=True)
    for name in ("new", "out"):
        volume.download("disk", tmp_path / name, pool="images", sparse=True)
        assert (tmp_path / name).read_bytes() == content
        assert allocated(tmp_path / name) <= 3 * MIB
    with (tmp_path / "out").open("r+b") as file:
        file.write(b"behind")
        volume.download("disk", file, pool="images", sparse=True)
        assert file.tell() == 6 + 8 * MIB
    assert (tmp_path / "out").read_bytes() == b"behind" + content
    memory = io.BytesIO()
    volume.download("disk", memory, pool="images", sparse=True)
    assert memory.getvalue() == content


def test_progress_is_told_in_bytes(hypervisor: Hypervisor, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(os.urandom(8 * MIB))
    for source in (lambda: tmp_path / "in", lambda: io.BytesIO(bytes(8 * MIB))):
        told: list[int] = []
        hypervisor.volume.upload("disk", source(), pool="images", progress=told.append)
        assert told[-1] == 8 * MIB
        assert told == sorted(set(told))
    for target in (lambda: tmp_path / "out", io.BytesIO):
        told = []
        hypervisor.volume.download("disk", target(), pool="images", progress=told.append)
        assert told[-1] == 8 * MIB
        assert told == sorted(set(told))


def test_progress_of_virsh_with_the_file_itself_is_told_while_it_goes(hypervisor: Hypervisor, tmp_path: Path) -> None:
    if not isinstance(hypervisor.host, unix.Local):
        pytest.skip("virsh is not on this machine")
    size = 200 * MIB
    hypervisor.volume.create_as("images", "long", size, allocation=0)
    with (tmp_path / "in").open("wb") as file:
        file.truncate(size)
    for call in (hypervisor.volume.upload, hypervisor.volume.download):
        told: list[int] = []
        call("long", tmp_path / "in", pool="images", progress=told.append)
        assert len(told) >= 2
        assert told == sorted(set(told))
        assert told[-1] == size


class BrokenError(Exception):
    """What a file of the tests raises."""


def breaking(after: int, error: BaseException) -> io.RawIOBase:
    class Breaking(io.RawIOBase):
        done = 0

        def read(self, size: int = -1) -> bytes:
            return self.step(bytes(min(size, MIB)))

        def write(self, data: object) -> int:
            return len(self.step(bytes(data)))  # type: ignore[call-overload]

        def step(self, data: bytes) -> bytes:
            self.done += len(data)
            if self.done > after:
                raise error
            return data

    return Breaking()


@pytest.mark.parametrize("error", [BrokenError("it broke"), KeyboardInterrupt(), BrokenPipeError(), EOFError()])
def test_what_the_file_object_raises_passes_through_and_is_told_what_it_broke(
    hypervisor: Hypervisor, directory: Path, error: BaseException
) -> None:
    for call in (hypervisor.volume.upload, hypervisor.volume.download):
        with pytest.raises(type(error)) as raised:
            call("disk", breaking(2 * MIB, error), pool="images")
        assert raised.value is error
        assert "volume 'disk'" in error.__notes__[-1]
        assert "bytes were done" in error.__notes__[-1]
    wait_until(lambda: not virshes(hypervisor))
    assert hypervisor.volume.info("disk", pool="images")["name"] == "disk"


def test_what_the_callback_raises_ends_the_stream(hypervisor: Hypervisor, tmp_path: Path) -> None:
    def progress(done: int) -> None:
        raise BrokenError(done)

    (tmp_path / "in").write_bytes(bytes(8 * MIB))
    with pytest.raises(BrokenError):
        hypervisor.volume.upload("disk", tmp_path / "in", pool="images", progress=progress)
    with pytest.raises(BrokenError):
        hypervisor.volume.download("disk", tmp_path / "new", pool="images", progress=progress)
    assert not (tmp_path / "new").exists()


def test_what_is_no_binary_file_is_refused(hypervisor: Hypervisor, tmp_path: Path) -> None:
    volume = hypervisor.volume
    for wrong in (b"path", 5, None, io.StringIO("text")):
        with pytest.raises(TypeError, match="binary file object"):
            volume.upload("disk", wrong, pool="images")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="binary file object"):
            volume.download("disk", wrong, pool="images")  # type: ignore[arg-type]

    class Texts:
        def read(self, size: int) -> object:
            return self.answer

        answer: object = "text"

    for answer in ("text", None, 5):
        texts = Texts()
        texts.answer = answer
        with pytest.raises(TypeError, match="must give bytes"):
            volume.upload("disk", texts, pool="images")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        volume.upload("disk", tmp_path / "none", pool="images")
    with pytest.raises(IsADirectoryError):
        volume.download("disk", tmp_path, pool="images")


def endless() -> io.RawIOBase:
    return breaking(1 << 62, BrokenError())


def test_virsh_that_ends_early_is_not_waited_for(hypervisor: Hypervisor, directory: Path, tmp_path: Path) -> None:
    for source in (endless(), tmp_path / "in"):
        (tmp_path / "in").write_bytes(bytes(8 * MIB))
        with pytest.raises(NotFoundError, match=r"no storage vol with matching .* 'none'"):
            hypervisor.volume.upload("none", source, pool="images")
    with pytest.raises(NotFoundError, match="none"):
        hypervisor.volume.download("none", tmp_path / "new", pool="images")
    assert not (tmp_path / "new").exists()


def virshes(hypervisor: Hypervisor) -> list[int]:
    """The virshes that stream for `hypervisor`."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            words[0] == b"virsh"
            and str(hypervisor.uri) in str(words)
            and words[2:3] in ([b"vol-upload"], [b"vol-download"])
        ):
            found.append(int(entry))
    return found


def test_a_stream_that_is_broken_off_says_what_may_be_there_in_part(hypervisor: Hypervisor) -> None:
    def kill() -> None:
        wait_until(lambda: virshes(hypervisor))
        time.sleep(0.3)
        for pid in virshes(hypervisor):
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(KvmError, match=r"by SIGKILL.* part of what was sent in volume 'disk'"):
        hypervisor.volume.upload("disk", endless(), pool="images")
    killer.join()
    with (
        hypervisor.set_controls(timeout=0.5),
        pytest.raises(kvm.CommandTimeoutError, match="part of what was sent in volume 'disk'"),
    ):
        hypervisor.volume.upload("disk", endless(), pool="images")
    wait_until(lambda: not virshes(hypervisor))


def test_streams_of_another_user_have_their_ends_here(
    hypervisor: Hypervisor, libvirtd: Libvirtd, directory: Path, tmp_path: Path
) -> None:
    if not libvirtd.is_system:
        pytest.skip("only root may become another user")
    for path in (libvirtd.home, libvirtd.home / "run"):
        path.chmod(0o755)
    content = os.urandom(MIB)
    (tmp_path / "in").write_bytes(content)
    (tmp_path / "in").chmod(0o600)
    with hypervisor.set_controls(su="nobody"):
        hypervisor.volume.upload(str(directory / "disk"), tmp_path / "in")
        hypervisor.volume.download(str(directory / "disk"), tmp_path / "out", length=MIB)
    assert (tmp_path / "out").read_bytes() == content


def test_a_pipeline_streams_in_its_turn(hypervisor: Hypervisor, directory: Path) -> None:
    memory = io.BytesIO()
    with hypervisor.pipeline() as pipe:
        pipe.volume.upload("disk", io.BytesIO(b"content"), pool="images")
        pipe.volume.info("disk", pool="images")
        pipe.volume.download("disk", memory, pool="images", length=7)
        results = pipe.execute()
    assert results[1]["name"] == "disk"
    assert memory.getvalue() == b"content"


def test_neither_memory_nor_a_temporary_file_grows_with_the_volume(hypervisor: Hypervisor) -> None:
    import resource

    def large() -> set[str]:
        """The large files where temporary files are, here and there."""
        return {
            entry.path
            for place in {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"}
            for entry in os.scandir(place)
            if entry.is_file(follow_symlinks=False) and entry.stat().st_size > 8 * MIB
        }

    size, others = 100 * MIB, large()
    found: set[str] = set()

    def progress(done: int) -> None:
        if size // 2 < done < size // 2 + 2 * MIB:
            found.update(large() - others)

    hypervisor.volume.create_as("images", "long", size, allocation=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hypervisor.volume.upload("long", endless(), pool="images", length=size, progress=progress)
    hypervisor.volume.download("long", endless(), pool="images", progress=progress)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 32 * MIB
    assert found == set()


def test_a_full_volume_is_an_error_with_its_reason(libvirtd: Libvirtd, hypervisor: Hypervisor, tmp_path: Path) -> None:
    if not libvirtd.is_system:
        pytest.skip("only root may mount a file system")
    mount = ["nsenter", "--mount", "--pid", "--target", str(libvirtd.pid)]
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run([*mount, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        hypervisor.pool.create_as("small", "dir", target=str(small))
        hypervisor.volume.create_as("small", "disk", 64 * MIB, allocation=0)
        (tmp_path / "in").write_bytes(bytes(64 * MIB))
        for source in (endless(), tmp_path / "in"):
            with pytest.raises(KvmError, match=r"volume disk.*No space left on device"):
                hypervisor.volume.upload("disk", source, pool="small")
        hypervisor.pool.destroy("small")
    finally:
        subprocess.run([*mount, "umount", "-l", small], check=True)


def test_a_lost_connection_names_the_volume(libvirtd: Libvirtd, directory: Path) -> None:
    sshd = Sshd()
    with Hypervisor(sshd.connect({"timeout": 60}), libvirtd.uri) as hypervisor:
        cleared(hypervisor)
        hypervisor.pool.create_as("images", "dir", target=str(directory))
        hypervisor.volume.create_as("images", "disk", 8 * MIB, allocation=0)
        killer = threading.Timer(1, sshd.remove)
        killer.start()
        with pytest.raises(kvm.ConnectionLostError, match="part of what was sent in volume 'disk'"):
            hypervisor.volume.upload("disk", endless(), pool="images")
        killer.join()
    with Hypervisor(unix.Local(), libvirtd.uri) as here:
        cleared(here)


def test_what_never_ceases_to_come_or_to_be_written_is_ended_by_the_timeout(host: unix.Host) -> None:
    with pytest.raises(unix.CommandTimeoutError):
        host.stream(["yes"], take=lambda data: None, timeout=0.5)
    with pytest.raises(unix.CommandTimeoutError):
        host.stream(["cat"], pieces=iter(lambda: bytes(MIB), b""), take=lambda data: None, timeout=0.5)


def test_a_command_opens_its_input_and_output_by_their_names(host: unix.Host) -> None:
    script = "head -c 5 < /dev/stdin > /dev/stdout; echo said >&2; exit 7"
    assert host.stream(["sh", "-c", script], pieces=[b"hel", b"", b"lo wor", b"ld"]) == (False, "hello", "said\n")
    assert host.stream(["sh", "-c", "kill -9 $$"]).return_code == -9
    assert host.stream(["no-such-command"], pieces=[b"x"]).return_code == 127


# -- pictures


def test_a_picture_is_told_with_its_type(test_driver: Hypervisor) -> None:
    picture = test_driver.domain.screenshot("test")
    assert picture.type == "image/png"
    assert picture.data.startswith(b"\x89PNG")
    assert picture.data.endswith(b"IEND\xaeB`\x82")


def test_virsh_says_the_type_behind_the_picture() -> None:
    said = b"Screenshot saved to /dev/stdout, with type of "
    assert _picture(b"P6\n" + said + b"x" + said + b"image/x-portable-pixmap\n\n") == (
        b"P6\n" + said + b"x",
        "image/x-portable-pixmap",
    )
    with pytest.raises(kvm.UnreadableOutputError):
        _picture(b"P6\n")
