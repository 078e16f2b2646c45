"""Long jobs of which virsh itself tells nothing: how far libvirt says that they are, and how they are cancelled."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import unix
from kvm import (
    AlreadyExistsError,
    CancelledError,
    CommandTimeoutError,
    Hypervisor,
    InvalidArgumentError,
    KvmError,
    NotFoundError,
)
from kvm.virsh.jobs import conclusion, fraction
from libvirtd import Libvirtd
from sshd import Sshd
from waiting import wait_until

MIB = 1024**2


class Told(list[float]):
    """What a job has told; each is more than the one before, and the last is all, unless it was cancelled."""

    def __call__(self, done: float) -> None:
        assert 0 <= done <= 1
        assert not self or done > self[-1]
        self.append(done)


class Switch(threading.Event):
    """Cancels a job once it has told anything, and something else has been done `before`."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._before = before

    def __call__(self, done: float) -> None:
        if not self.is_set():
            self._before()
            self.set()


@pytest.fixture(scope="module")
def hypervisor(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def disk(directory: Path) -> Path:
    """An image of which a copy takes a moment."""
    image = directory / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "300M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 66 0 200M", image], check=True)
    return image


@pytest.fixture(scope="module")
def slow(directory: Path) -> Iterator[Path]:
    """The socket of a disk that gives 16 MiB a second of its 96."""
    image, socket = directory / "slow", directory / "slow.socket"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "96M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 67 0 96M", image], check=True)
    limit = ["--object", f"throttle-group,id=slow,limits.bps-total={16 * MIB}"]
    drive = f"driver=throttle,throttle-group=slow,file.driver=qcow2,file.file.filename={image}"
    words = ["qemu-nbd", *limit, "--image-opts", drive, f"--socket={socket}", "--persistent", "--shared=0"]
    server = subprocess.Popen(words)
    wait_until(socket.exists)
    yield socket
    server.kill()
    server.wait()


@pytest.fixture
def guest(hypervisor: Hypervisor, disk: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A running guest that is transient, with more memory than can be written at once, and perhaps a slow disk."""
    drive = {"@type": "file", "driver": {"@type": "qcow2", "@name": "qemu"}, "source": {"@file": str(disk)}}
    disks: list[dict[str, Any]] = [{**drive, "target": {"@dev": "vda", "@bus": "virtio"}}]
    if hasattr(request, "param"):
        socket = {"@transport": "unix", "@socket": str(request.getfixturevalue("slow"))}
        drive = {"@type": "network", "source": {"@protocol": "nbd", "host": socket}}
        disks.append({**drive, "driver": {"@type": "raw"}, "target": {"@dev": "vdb", "@bus": "virtio"}})
    hypervisor.domain.create(
        {
            "@type": "qemu",
            "name": "guest",
            "memory": {"@unit": "GiB", "#text": 4},
            "vcpu": 1,
            "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
            "devices": {"disk": disks},
        }
    )
    yield "guest"
    for name in hypervisor.list_domains():
        hypervisor.domain.destroy(name)


with_slow_disk = pytest.mark.parametrize("guest", ["slow"], indirect=True)


# -- of domains


def test_a_snapshot_with_memory_tells_how_far_it_is_and_is_cancelled(
    hypervisor: Hypervisor, guest: str, directory: Path
) -> None:
    snapshot, memory, told = hypervisor.snapshot, directory / "memory", Told()
    outside = f"{memory},snapshot=external"
    snapshot.create_as(guest, "done", memspec=outside, diskspec="vda,snapshot=no", progress=told)
    assert told[-1] == 1.0
    assert memory.stat().st_size > 0
    memory.unlink()

    conf: dict[str, Any] = {
        "name": "undone",
        "memory": {"@snapshot": "external", "@file": str(memory)},
        "disks": {"disk": {"@name": "vda", "@snapshot": "no"}},
    }
    for number in range(5):
        conf["name"] = f"undone {number}"
        cancel = Switch()
        try:
            snapshot.create(guest, conf, progress=cancel, cancel=cancel)
        except CancelledError as error:
            assert "it was cancelled" in str(error)
            assert conf["name"] not in hypervisor.list_snapshots(guest)
            break
        memory.unlink()  # it was done before
    else:
        pytest.fail("no snapshot was cancelled")
    assert (hypervisor.domain.state(guest), hypervisor.domain.jobinfo(guest)) == ("running", None)
    assert not memory.exists()


def test_a_snapshot_within_its_disks_tells_when_it_is_done(hypervisor: Hypervisor, guest: str) -> None:
    told = Told()
    hypervisor.snapshot.create_as(guest, "inside", progress=told)
    assert told == [1.0]
    assert hypervisor.snapshot.info(guest, "inside")["location"] == "internal"
    with pytest.raises(AlreadyExistsError):
        hypervisor.snapshot.create_as(guest, "inside", progress=told, cancel=threading.Event())
    assert told == [1.0]
    hypervisor.snapshot.delete(guest, "inside")


def test_who_raises_when_all_is_done_undoes_nothing(hypervisor: Hypervisor, guest: str, directory: Path) -> None:
    def refuse(done: float) -> None:
        raise NotFoundError(f"{done} is too much")

    domain, state = hypervisor.domain, directory / "state"
    domain.save(guest, state, paused=True)
    with pytest.raises(NotFoundError, match="too much") as raised:
        domain.restore(state, progress=refuse)
    assert not hasattr(raised.value, "__notes__")
    assert domain.state(guest) == "paused"  # for libvirt as if it was being restored still
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(KvmError):
        domain.restore(state, cancel=cancel)
    assert domain.state(guest) == "paused"


def test_a_restored_domain_that_is_cancelled_is_as_it_was_saved(
    hypervisor: Hypervisor, guest: str, directory: Path
) -> None:
    domain, state, told = hypervisor.domain, directory / "state", Told()
    uuid = domain.uuid(guest)
    domain.save(guest, state)

    def is_restored() -> bool:
        return hypervisor.virsh("domstate", guest)[1].strip() == "paused"

    for _ in range(5):
        cancel = threading.Event()
        watcher = threading.Thread(target=set_when, args=(cancel, is_restored))
        watcher.start()
        try:
            domain.restore(state, cancel=cancel, progress=told)
        except CancelledError:
            break
        finally:
            watcher.join()
        told.clear()
        domain.save(guest, state)  # it was done before
    else:
        pytest.fail("no restoration was cancelled")
    assert told == []
    assert domain.list(all=True) == {}
    with hypervisor.set_controls(timeout=0.1), pytest.raises(CommandTimeoutError, match=r"aborted after 0\.1 s"):
        domain.restore(state)
    domain.restore(state, progress=told)
    assert told == [1.0]
    assert (domain.uuid(guest), domain.state(guest)) == (uuid, "running")
    with pytest.raises(KvmError, match="already active"):  # and it is not the one that is destroyed
        domain.restore(state, cancel=threading.Event())
    assert domain.state(guest) == "running"


def set_when(event: threading.Event, condition: Callable[[], object]) -> None:
    wait_until(condition)
    event.set()


# -- backups


def push(target: Path, disk: str = "vda") -> dict[str, Any]:
    drive = {"@name": disk, "@type": "file", "target": {"@file": str(target)}, "driver": {"@type": "qcow2"}}
    return {"disks": {"disk": [drive, *([{"@name": "vda", "@backup": "no"}] if disk != "vda" else [])]}}


def test_a_backup_is_waited_for_and_is_what_the_disk_was(
    hypervisor: Hypervisor, guest: str, disk: Path, directory: Path
) -> None:
    target, told = directory / "backup", Told()
    done = hypervisor.domain.backup_begin(guest, push(target), progress=told)
    assert "Backup completed" in done.stdout
    assert told[-1] == 1.0
    assert hypervisor.domain.jobinfo(guest) is None
    assert hypervisor.image.compare(disk, target, a_format="qcow2", b_format="qcow2", force_share=True)
    with pytest.raises(InvalidArgumentError, match="exists"):
        hypervisor.domain.backup_begin(guest, push(target), wait=True)
    target.unlink()


@with_slow_disk
def test_a_backup_is_cancelled_out_of_time_or_given_up(hypervisor: Hypervisor, guest: str, directory: Path) -> None:
    domain, target, cancel = hypervisor.domain, directory / "backup", Switch()
    slow = push(target, "vdb")
    with pytest.raises(CancelledError, match="it was cancelled"):
        domain.backup_begin(guest, slow, progress=cancel, cancel=cancel)
    assert domain.jobinfo(guest) is None
    assert not target.exists()

    with hypervisor.set_controls(timeout=1), pytest.raises(CommandTimeoutError, match="it was aborted after 1 s"):
        domain.backup_begin(guest, slow, wait=True)
    assert domain.jobinfo(guest) is None

    with pytest.raises(CancelledError):  # by somebody else
        domain.backup_begin(guest, slow, progress=Switch(lambda: domain.jobabort(guest)))
    with pytest.raises(NotFoundError, match="the outcome of backup-begin is unknown"):
        domain.backup_begin(guest, slow, progress=Switch(lambda: domain.destroy(guest)))


@with_slow_disk
def test_a_host_elsewhere_makes_no_difference(
    libvirtd: Libvirtd, sshd: Sshd, guest: str, directory: Path, hypervisor: Hypervisor
) -> None:
    target, told, cancel = directory / "backup", Told(), Switch()
    with sshd.connect({"timeout": 60}) as host, Hypervisor(host, libvirtd.uri) as remote:
        with pytest.raises(CancelledError, match="it was cancelled"):
            remote.domain.backup_begin(guest, push(target, "vdb"), progress=cancel, cancel=cancel)
        assert hypervisor.domain.jobinfo(guest) is None
        remote.domain.backup_begin(guest, push(target), progress=told)
        assert told[-1] == 1.0
        cancel.clear()
        with pytest.raises(CancelledError, match=r"it was cancelled; what is at .*target may not be complete"):
            remote.image.convert(target, directory / "target", rate_limit=MIB, progress=cancel, cancel=cancel)
    for name in ("backup", "target"):
        (directory / name).unlink()


# -- volumes


@pytest.fixture(scope="module")
def pool(hypervisor: Hypervisor, disk: Path) -> Iterator[str]:
    hypervisor.pool.create({"@type": "dir", "name": "jobs", "target": {"path": str(disk.parent)}})
    yield "jobs"
    hypervisor.pool.destroy("jobs")


def test_copies_of_volumes_tell_how_much_is_allocated(hypervisor: Hypervisor, pool: str, disk: Path) -> None:
    volume, never = hypervisor.volume, threading.Event()
    raw = {"name": "copy", "capacity": 300 * MIB, "target": {"format": {"@type": "raw"}}}
    copies: dict[str, Callable[[Told], unix.Result]] = {
        "by name": lambda told: volume.clone("disk", "copy", pool=pool, progress=told),
        "by path": lambda told: volume.clone(str(disk), "copy", progress=told, cancel=never),
        "raw": lambda told: volume.create_from(pool, raw, "disk", inputpool=pool, progress=told),
    }
    for kind, copy in copies.items():
        told = Told()
        assert copy(told).status
        assert told[-1] == 1.0
        b_format = "raw" if kind == "raw" else "qcow2"
        assert hypervisor.image.compare(disk, disk.with_name("copy"), a_format="qcow2", b_format=b_format)
        volume.delete("copy", pool=pool)
    told = Told()
    with pytest.raises(NotFoundError):
        volume.clone("nothing", "copy", pool=pool, progress=told)
    assert told == []


def test_what_libvirt_cannot_abort_goes_on_and_is_said_to(hypervisor: Hypervisor, pool: str, disk: Path) -> None:
    volume = hypervisor.volume
    for _ in range(5):
        cancel = Switch()
        try:
            volume.clone("disk", "goes on", pool=pool, progress=cancel, cancel=cancel)
        except KvmError as error:
            assert "libvirt cannot abort this, and goes on with it; the outcome of vol-clone is unknown" in str(error)
            assert not isinstance(error, CancelledError)
            break
        volume.delete("goes on", pool=pool)  # it was done before
    else:
        pytest.fail("no copy was cancelled")
    wait_until(lambda: hypervisor.virsh("vol-delete", "goes on", pool=pool)[0])  # which it cannot be while it is made
    assert "goes on" not in hypervisor.list_volumes(pool)

    volume.clone("disk", "wiped", pool=pool)
    told, late = Told(), threading.Event()
    volume.wipe("wiped", pool=pool, progress=told, algorithm="zero", cancel=late)
    assert told == [1.0]
    assert not disk.with_name("wiped").read_bytes().strip(b"\0")
    volume.delete("wiped", pool=pool)
    late.set()
    with pytest.raises(CancelledError, match="before it was begun"):
        volume.wipe("disk", pool=pool, cancel=late)


# -- images


def test_a_conversion_is_cancelled(hypervisor: Hypervisor, disk: Path) -> None:
    target, cancel = disk.with_name("target"), Switch()
    with pytest.raises(CancelledError, match=r"it was cancelled; what is at .*target may not be complete"):
        hypervisor.image.convert(disk, target, rate_limit=MIB, progress=cancel, cancel=cancel)
    timer = threading.Timer(0.3, (late := threading.Event()).set)
    timer.start()
    with pytest.raises(CancelledError):
        hypervisor.image.convert(disk, target, rate_limit=MIB, cancel=late)
    timer.join()
    with pytest.raises(CancelledError):
        hypervisor.image.convert(disk, target, cancel=late)
    assert hypervisor.image.convert(disk, target, cancel=threading.Event()).status
    target.unlink()


# -- what libvirt tells


def test_figures_tell_how_far_a_job_is() -> None:
    assert fraction("Job type: 2\n\noperation: 6\ndata_total: 400\ndata_remaining: 100\nmemory_total: 4\n") == 0.75
    figures = {"memory_total": 300, "memory_remaining": 300, "disk_total": 100, "disk_remaining": 0}
    assert fraction("Job type: 2\n\n" + "".join(f"{name}: {each}\n" for name, each in figures.items())) == 0.25
    for raw in ("", "Job type: 0\n", "data_total: 0\nmemory_total: 0\n", "disk_total: 1\ndisk_remaining: 2\n"):
        assert fraction(raw) is None


def test_what_a_job_has_come_to_is_certain_or_said_to_be_unknown() -> None:
    def told(kind: int, operation: int = 9, message: str = "") -> unix.Result:
        return conclusion("backup-begin", f"Job type: {kind}\n\noperation: {operation}\n{message}", "; who knows")

    assert told(3).status
    assert told(4, message="errmsg: No space left\n").stderr == "error: No space left\n"
    assert told(5).stderr == "error: operation aborted: the job was cancelled\n"
    for unclear in (told(0), told(3, operation=2), conclusion("backup-begin", "", "; who knows")):
        assert not unclear.status
        assert "who knows" in unclear.stderr
