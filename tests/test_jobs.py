"""Long jobs on a real QEMU, here and by SSH: how far they are, and how they are cancelled."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

import kvm
import libvirtd as daemons
import unix
from kvm import CancelledError, CommandTimeoutError, Hypervisor, KvmError
from kvm.virsh.jobs import Job, OthersJobError, Outside, Watch, has_begun, without_progress
from libvirtd import Libvirtd
from waiting import wait_until

MIB = 1024**2
GUEST = {
    "@type": "qemu",
    "name": "guest",
    "memory": {"@unit": "MiB", "#text": 2048},
    "vcpu": 1,
    "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
}


here = pytest.mark.parametrize("host", ["local"], indirect=True, scope="session")
"""Of what is the same on every host."""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An image on top of another one, each with data of its own."""
    base, image = tmp_path / "base.qcow2", tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "64M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 65 0 40M", base], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", image], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 66 20M 30M", image], check=True)
    return image


@pytest.fixture
def guest(hypervisor: Hypervisor, disk: Path) -> Iterator[Hypervisor]:
    """The hypervisor with a running guest that is transient."""
    drive = {"@type": "qcow2", "@name": "qemu"}
    conf = {"source": {"@file": str(disk)}, "target": {"@dev": "vda", "@bus": "virtio"}}
    hypervisor.domain.create({**GUEST, "devices": {"disk": {"@type": "file", "driver": drive, **conf}}})
    yield hypervisor
    for name in hypervisor.list_domains():
        hypervisor.domain.destroy(name)


@pytest.fixture(scope="module")
def other() -> Iterator[Hypervisor]:
    """Another hypervisor, which takes itself for another host."""
    if os.geteuid() != 0:
        pytest.skip("only a system daemon can be told to be another host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemons, "LIBVIRTD_CONF", daemons.LIBVIRTD_CONF + f'host_uuid = "{kvm.gen_uuid()}"\n')
        daemon = Libvirtd()
    with Hypervisor(unix.Local(timeout=60), daemon.uri) as hypervisor:
        yield hypervisor
        for name in hypervisor.list_domains():
            hypervisor.domain.destroy(name)
    daemon.stop()


@contextmanager
def set_when(condition: Callable[[], object]) -> Iterator[threading.Event]:
    """An event that is set once the condition holds."""
    event = threading.Event()

    def wait() -> None:
        wait_until(condition)
        event.set()

    thread = threading.Thread(target=wait)
    thread.start()
    yield event
    thread.join()


def migrate(hypervisor: Hypervisor, other: Hypervisor, bandwidth: str = "1 MiB", **job: object) -> unix.Result:
    call: Callable[..., unix.Result] = hypervisor.domain.migrate
    return call(
        "guest", str(other.uri), live=True, unsafe=True, migrateuri="tcp://127.0.0.1", bandwidth=bandwidth, **job
    )


def has_virsh(hypervisor: Hypervisor, command: str) -> bool:
    """Whether there is a virsh process for a command."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "virsh" in words[0] and f"--connect={hypervisor.uri}" in words and command in words:
                return True
    return False


def is_as_before(hypervisor: Hypervisor, other: Hypervisor) -> bool:
    return (
        hypervisor.domain.state("guest") == "running"
        and hypervisor.domain.jobinfo("guest") is None
        and other.list_domains(all=True) == {}
    )


# -- migrations


@here
def test_a_migration_tells_how_far_it_is(guest: Hypervisor, other: Hypervisor) -> None:
    told: list[float] = []
    assert migrate(guest, other, "1 GiB/s", progress=told.append).stderr.strip() == ""
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert all(0 <= each <= 1 for each in told)
    assert (guest.list_domains(), list(other.list_domains())) == ({}, ["guest"])
    other.domain.destroy("guest")


def test_a_migration_is_cancelled_from_another_thread(guest: Hypervisor, other: Hypervisor) -> None:
    told: list[float] = []
    with (
        set_when(lambda: any(each > 0 for each in told)) as cancel,
        pytest.raises(CancelledError, match=r"it was cancelled.*operation aborted"),
    ):
        migrate(guest, other, progress=told.append, cancel=cancel)
    assert is_as_before(guest, other)
    with pytest.raises(CancelledError, match="before it was begun"):
        migrate(guest, other, cancel=cancel)


@here
def test_a_migration_that_is_cancelled_at_its_beginning_is_cancelled(guest: Hypervisor, other: Hypervisor) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    with pytest.raises(CancelledError):
        migrate(guest, other, cancel=cancel)
    timer.join()
    assert is_as_before(guest, other)


@here
def test_a_timeout_aborts_the_job(guest: Hypervisor, other: Hypervisor) -> None:
    with (
        guest.set_controls(timeout=1),
        pytest.raises(CommandTimeoutError, match="it was aborted after 1 s") as raised,
    ):
        migrate(guest, other)
    assert "not known" not in str(raised.value)
    assert is_as_before(guest, other)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), kvm.NotFoundError("x"), unix.CommandTimeoutError(["x"], 1)])
def test_an_interrupted_job_is_aborted(guest: Hypervisor, other: Hypervisor, error: BaseException) -> None:
    def progress(done: float) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        migrate(guest, other, progress=progress)
    assert raised.value is error
    assert "virsh migrate" in error.__notes__[-1]
    wait_until(lambda: is_as_before(guest, other))


@here
def test_a_job_that_libvirt_does_not_abort_in_time_has_an_unknown_outcome(
    guest: Hypervisor, libvirtd: Libvirtd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not libvirtd.is_system:
        pytest.skip("only a system daemon is stopped")
    monkeypatch.setattr("kvm.virsh.jobs.PATIENCE", 0.5)
    monkeypatch.setattr("kvm.virsh.another._PATIENCE", 0.5)
    with (
        libvirtd.stopped(),
        guest.set_controls(timeout=1),
        pytest.raises(CommandTimeoutError, match="the outcome of save is unknown"),
    ):
        guest.domain.save("guest", tmp_path / "state")


@here
def test_the_job_of_somebody_else_is_not_aborted(guest: Hypervisor, other: Hypervisor, tmp_path: Path) -> None:
    """A save waits for the migration that is under way, and is given up."""

    def outgoing() -> bool:
        job = guest.domain.jobinfo("guest")
        return job is not None and job["operation"] == "outgoing migration"

    def migration() -> None:
        with pytest.raises(KvmError):
            migrate(guest, other)

    thread = threading.Thread(target=migration)
    thread.start()
    wait_until(outgoing)
    with (
        pytest.raises(KvmError, match=r"another job, outgoing migration,.*the outcome of save is unknown") as one,
        set_when(lambda: has_virsh(guest, "save")) as cancel,
    ):
        guest.domain.save("guest", tmp_path / "state", cancel=cancel)
    assert not isinstance(one.value, CancelledError)
    with guest.set_controls(timeout=0.5), pytest.raises(CommandTimeoutError, match="another job, outgoing migration"):
        guest.domain.coredump("guest", tmp_path / "core")
    assert outgoing()
    guest.domain.destroy("guest")
    thread.join()


# -- to files


@here
def test_saves_and_dumps_tell_how_far_they_are(guest: Hypervisor, tmp_path: Path) -> None:
    told: list[float] = []
    guest.domain.coredump("guest", tmp_path / "core", progress=told.append)
    assert told[-1] == 1.0
    told.clear()
    guest.domain.save(
        "guest", tmp_path / "state", xml=guest.domain.conf("guest", migratable=True), progress=told.append
    )
    assert told[-1] == 1.0
    guest.domain.restore(tmp_path / "state")
    (tmp_path / "state").unlink()


@here
def test_a_save_is_cancelled_and_the_domain_goes_on(guest: Hypervisor, tmp_path: Path) -> None:
    for _ in range(5):
        try:
            with set_when(lambda: guest.domain.jobinfo("guest")) as cancel:
                guest.domain.save("guest", tmp_path / "state", cancel=cancel)
        except CancelledError:
            break
        guest.domain.restore(tmp_path / "state")  # it was done before
        (tmp_path / "state").unlink()
    else:
        pytest.fail("no save was cancelled")
    assert guest.domain.state("guest") == "running"
    assert not (tmp_path / "state").exists()


@here
def test_a_job_that_fails_by_itself_says_why(guest: Hypervisor, tmp_path: Path) -> None:
    told: list[float] = []
    with pytest.raises(KvmError, match="No such file or directory"):
        guest.domain.save("guest", tmp_path / "none" / "state", progress=told.append, cancel=threading.Event())
    with pytest.raises(kvm.NotFoundError):
        guest.domain.save("nobody", tmp_path / "state", progress=told.append, cancel=threading.Event())
    assert told == []


# -- of disks


@here
def test_jobs_of_disks_tell_how_far_they_are(guest: Hypervisor, tmp_path: Path) -> None:
    told: list[float] = []
    guest.domain.blockcopy(
        "guest", "vda", dest=str(tmp_path / "copy"), finish=True, bandwidth="40 MiB/s", progress=told.append
    )
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == 1.0
    assert guest.domain.blockjob("guest", "vda") is None
    told.clear()
    guest.domain.blockpull("guest", "vda", progress=told.append)
    assert told[-1] == 1.0


@here
@pytest.mark.parametrize("command", ["blockpull", "blockcommit"])
def test_a_job_of_a_disk_is_cancelled(guest: Hypervisor, command: str) -> None:
    call: Callable[..., unix.Result] = getattr(guest.domain, command)
    how = {"active": True} if command == "blockcommit" else {}
    with set_when(lambda: guest.domain.blockjob("guest", "vda")) as cancel, pytest.raises(CancelledError):
        call("guest", "vda", bandwidth="1 MiB/s", cancel=cancel, **how)
    assert guest.domain.blockjob("guest", "vda") is None


def test_a_copy_of_a_disk_is_cancelled_or_out_of_time(guest: Hypervisor, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with set_when(lambda: guest.domain.blockjob("guest", "vda")) as cancel, pytest.raises(CancelledError):
        guest.domain.blockcopy("guest", "vda", dest=str(copy), bandwidth="1 MiB/s", cancel=cancel)
    assert guest.domain.blockjob("guest", "vda") is None
    copy.unlink()
    with guest.set_controls(timeout=1), pytest.raises(CommandTimeoutError, match="aborted after"):
        guest.domain.blockcopy("guest", "vda", dest=str(copy), bandwidth="1 MiB/s", wait=True)
    assert guest.domain.blockjob("guest", "vda") is None


# -- what virsh says


def test_a_job_is_told_by_its_operation() -> None:
    assert not has_begun("save", "Job type: 0\n\n")
    assert has_begun("managedsave", "Job type: 2\n\noperation: 2\ntime_elapsed: 5\n")
    for raw, told in (("operation: 9", "backup"), ("operation: 99", "99"), ("time_elapsed: 1", "unknown")):
        with pytest.raises(OthersJobError, match=f"another job, {told},"):
            has_begun("migrate", f"Job type: 1\n\n{raw}\n")


def test_progress_is_read_in_whatever_pieces_it_comes() -> None:
    said = b"\rMigration: [  3 %]\rMigration: [12.34 %]\rMigration: [ 12 %]\rMigration: [100 %]error: no\n"
    for size in range(1, len(said)):
        told: list[float] = []
        watch = Watch(Job(told.append), cast(Outside, None), None)
        for start in range(0, len(said), size):
            watch.heed(said[start : start + size])
        assert told == [0.03, pytest.approx(0.1234), 1.0]
    assert without_progress(said) == b"error: no\n"
