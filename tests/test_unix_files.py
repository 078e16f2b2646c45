"""Files of a host: any name, any content, all or nothing."""

import gc
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unix
from unix import Host, Local

NAMES = ["plain", "two  words", " leading", "-rf", "new\nline", "漢字😀", "quote'\"", "$(id)", "back\\slash", "\udcff"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_written_read_listed_and_removed(host: Host, tmp_path: Path, name: str) -> None:
    path = os.path.join(tmp_path, name)
    assert not host.exists(path)
    host.write(path, b"\0\xff data")
    assert host.read(path) == b"\0\xff data"
    assert host.listdir(str(tmp_path)) == [name]
    host.remove(path)
    assert host.listdir(str(tmp_path)) == []


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(host: Host, tmp_path: Path, content: bytes) -> None:
    path = str(tmp_path / "file")
    host.write(path, content)
    assert host.read(path) == content


def test_open_is_binary_and_a_context_manager(host: Host, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with host.open(path, "w") as file:
        file.write(b"\xff")
    with host.open(path, "a") as file:
        file.write(b"more")
    with host.open(path) as file:
        assert file.read() == b"\xffmore"


def test_a_new_file_has_the_usual_mode_and_an_old_one_keeps_its_own(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "file"
    host.write(str(path), "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.unlink()
    umask = os.umask(0o027)
    try:
        Local().write(str(path), "text é")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_text() == "text é"
    path.chmod(0o600)
    host.write(str(path), "again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_file_as_it_was(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(TypeError):
        host.write(str(path), 5)  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_writing_through_a_symbolic_link_keeps_the_link(host: Host, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("before")
    (tmp_path / "link").symlink_to("target")
    host.write(str(tmp_path / "link"), "after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "after"


def test_a_write_that_cannot_begin_says_why_and_nothing_else(host: Host, tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "file", "with a \0", ""):
        with pytest.raises((OSError, ValueError, unix.UnixError)):
            host.write(path, b"x")
        gc.collect()  # what is said of an object that cannot be removed fails the test


def test_writing_to_a_device_writes_to_the_device(host: Host) -> None:
    host.write("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_file_whose_directory_takes_no_other_is_written_in_place(host: Host) -> None:
    path = f"/proc/{os.getpid()}/coredump_filter"
    before = host.read(path)
    host.write(path, "0x32")
    assert host.read(path) == b"00000032\n"
    host.write(path, b"0x" + before.strip())
    with pytest.raises(OSError, match="proc"):
        host.write("/proc/no-such-file", "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system to fill")
def test_a_full_disk_leaves_the_file_as_it_was(host: Host, tmp_path: Path) -> None:
    assert host.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path])
    try:
        path = str(tmp_path / "file")
        host.write(path, b"a" * 700_000)
        with pytest.raises(OSError, match="No space left"):
            host.write(path, b"b" * 2_000_000)
        assert host.read(path) == b"a" * 700_000
        assert host.listdir(str(tmp_path)) == ["file"]
    finally:
        host.run(["umount", tmp_path])


def test_a_path_may_be_a_path(host: Host, tmp_path: Path) -> None:
    host.write(tmp_path / "file", "x")
    assert host.read(tmp_path / "file") == b"x"
    assert host.listdir(tmp_path) == ["file"]


def test_the_bits_of_a_mode_are_all_kept(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o6755)
    host.write(str(path), "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o6755


def test_directories_are_made_and_removed(host: Host, tmp_path: Path) -> None:
    deep = str(tmp_path / "a" / "b")
    with pytest.raises(FileNotFoundError):
        host.mkdir(deep)
    host.mkdir(deep, parents=True)
    host.mkdir(deep, parents=True)
    with pytest.raises(FileExistsError):
        host.mkdir(deep)
    with pytest.raises(OSError, match="not empty"):
        host.remove(str(tmp_path / "a"))
    host.remove(str(tmp_path / "a"), recursive=True)
    assert host.listdir(str(tmp_path)) == []


def test_removing_a_link_to_a_directory_leaves_the_directory(host: Host, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").touch()
    (tmp_path / "link").symlink_to("dir")
    host.remove(str(tmp_path / "link"), recursive=True)
    assert (tmp_path / "dir" / "file").exists()


def test_what_is_not_there_raises_as_python_does(host: Host, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    for operation in (host.read, host.listdir, host.remove, host.open):
        with pytest.raises(FileNotFoundError):
            operation(missing)


def test_which_finds_programs(host: Host, tmp_path: Path) -> None:
    assert host.which("sh") in ("/bin/sh", "/usr/bin/sh")
    assert host.which("no-such-command") is None
    program = tmp_path / "mine"
    program.touch(0o755)
    with host.set_controls(envs={"PATH": str(tmp_path)}):
        assert host.which("mine") == str(program)


def test_unwritten_pipe_is_read_within_the_timeout(host: Host, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with host.set_controls(timeout=0.3), pytest.raises(unix.CommandTimeoutError):
        host.read(pipe)
    with open(os.open(pipe, os.O_RDWR | os.O_NONBLOCK), "wb", buffering=0) as writer:
        writer.write(b"so far")
        with host.set_controls(timeout=0.3), pytest.raises(unix.CommandTimeoutError):
            host.read(pipe)


def test_pipe_is_read_to_its_end_within_the_timeout(host: Host, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    content = os.urandom(300_000)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    with host.set_controls(timeout=30):
        assert host.read(pipe) == content
        assert host.read("/proc/self/stat")
        with pytest.raises(FileNotFoundError):
            host.read(tmp_path / "none")
        opened = len(os.listdir("/proc/self/fd"))
        with pytest.raises(IsADirectoryError):
            host.read(tmp_path)
        assert len(os.listdir("/proc/self/fd")) == opened
    writer.join()


def test_unread_pipe_is_written_within_the_timeout(host: Host, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with host.set_controls(timeout=0.4), pytest.raises(unix.CommandTimeoutError):
        host.write(pipe, b"x")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # and does not read
    try:
        with host.set_controls(timeout=0.8), pytest.raises(unix.CommandTimeoutError):
            host.write(pipe, bytes(10 << 20))
    finally:
        os.close(reader)


def test_pipe_is_written_whole_within_the_timeout(host: Host, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    content = os.urandom(3_000_000)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    with host.set_controls(timeout=30):
        host.write(pipe, content)
    reader.join()
    assert found == [content]
