"""Domains to files and to another daemon, and back, on a real QEMU; and the jobs that do it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kvm
import libvirtd as daemons
import unix
from kvm import (
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    NotSupportedError,
    Quantity,
)
from kvm.groups.domain.saving import _cache_size, _job
from libvirtd import Libvirtd
from waiting import wait_until

GUEST = {
    "@type": "qemu",
    "name": "guest",
    "memory": {"@unit": "MiB", "#text": 32},
    "vcpu": 1,
    "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
}
MIB = 1024**2


@pytest.fixture
def hypervisor(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    """The real hypervisor with a guest that is paused, left without domains."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        hypervisor.domain.define(GUEST)
        hypervisor.domain.start("guest", paused=True)
        yield hypervisor
        for name in hypervisor.list_domains():
            hypervisor.domain.destroy(name)
        for name in hypervisor.list_domains(all=True):
            hypervisor.domain.undefine(name, managed_save=True)


def test_a_saved_domain_goes_on_from_its_file(hypervisor: Hypervisor, tmp_path: Path) -> None:
    domain, file = hypervisor.domain, tmp_path / "-a state"
    uuid = domain.uuid("guest")
    assert domain.save("guest", file).status
    assert domain.state("guest") == "shut off"
    assert file.read_bytes().startswith(b"LibvirtQemudSave")

    assert domain.save_conf(file)["uuid"] == uuid
    assert domain.save_conf(file, xpath="//memory/text()") == ["32768"]
    domain.save_define(file, {**domain.save_conf(file), "title": "redefined"}, paused=True)
    assert domain.save_conf(str(file))["title"] == "redefined"

    domain.save_edit(file, lambda conf: conf.update(title="edited"), paused=True)
    assert domain.save_conf(file)["title"] == "edited"
    domain.save_edit(file, lambda conf: conf.update(title="redefined"), paused=True)
    domain.restore(file, bypass_cache=False)
    assert (domain.state("guest"), domain.conf("guest")["title"]) == ("paused", "redefined")
    domain.save("guest", file, running=True, xml={**domain.conf("guest", migratable=True), "title": "another"})
    assert domain.save_conf(file)["title"] == "another"
    domain.restore(file, xml={**domain.save_conf(file), "title": "at last"}, paused=True)
    assert (domain.state("guest"), domain.conf("guest")["title"]) == ("paused", "at last")


def test_a_managed_save_is_found_by_the_next_start(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    with pytest.raises(InvalidStateError, match="managed save"):
        domain.managedsave_conf("guest")
    domain.managedsave("guest")
    assert domain.list(all=True, managed_save=True)["guest"]["state"] == "saved"
    conf = domain.managedsave_conf("guest")
    assert conf["name"] == "guest"
    domain.managedsave_edit("guest", lambda conf: conf.update(title="edited"))
    assert domain.managedsave_conf("guest")["title"] == "edited"
    domain.managedsave_define("guest", {**conf, "title": "redefined"}, running=True)
    assert domain.managedsave_conf("guest", xpath="/domain/title/text()") == ["redefined"]
    domain.start("guest")
    assert (domain.state("guest"), domain.conf("guest")["title"]) == ("running", "redefined")

    domain.managedsave("guest")
    domain.managedsave_remove("guest")
    assert domain.info("guest")["managed_save"] is False
    assert "skipped" in domain.managedsave_remove("guest").stdout


def test_a_core_is_what_debuggers_read(hypervisor: Hypervisor, tmp_path: Path) -> None:
    core = tmp_path / "core"
    hypervisor.domain.coredump("guest", core, memory_only=True)
    assert core.read_bytes().startswith(b"\x7fELF")
    assert core.stat().st_size >= 32 * MIB
    assert hypervisor.domain.state("guest") == "paused"
    hypervisor.domain.coredump("guest", core, crash=True)
    assert hypervisor.domain.state("guest", reason=True) == {"state": "shut off", "reason": "crashed"}


def test_what_cannot_be_saved_or_restored_says_why(hypervisor: Hypervisor, tmp_path: Path) -> None:
    domain = hypervisor.domain
    with pytest.raises(NotFoundError):
        domain.save("nobody", tmp_path / "state")
    with pytest.raises(NotFoundError, match="No such file"):
        domain.restore(tmp_path / "none")
    with pytest.raises(NotFoundError, match="No such file"):
        domain.save_conf(tmp_path / "none")
    (tmp_path / "text").write_text("text" * 100)
    with pytest.raises(KvmError, match="magic is incorrect"):
        domain.restore(tmp_path / "text")
    with pytest.raises(InvalidArgumentError, match="not well-formed"):
        domain.save("guest", tmp_path / "state", xml="<domain>")
    assert domain.state("guest") == "paused"
    domain.destroy("guest")
    with pytest.raises(InvalidStateError, match="not running"):
        domain.save("guest", tmp_path / "state")


def test_without_a_job_there_is_none(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    assert domain.jobinfo("guest") is None
    assert domain.jobinfo("guest", completed=True, keep_completed=True) is None
    with pytest.raises(InvalidStateError, match="no job is active"):
        domain.jobabort("guest")
    with pytest.raises(InvalidStateError):
        domain.migrate_postcopy("guest")


def test_a_completed_job_is_told_until_it_is_forgotten(hypervisor: Hypervisor, tmp_path: Path) -> None:
    domain = hypervisor.domain
    domain.coredump("guest", tmp_path / "core")
    kept = domain.jobinfo("guest", completed=True, keep_completed=True)
    assert kept is not None
    assert (kept["type"], kept["operation"]) == ("completed", "dump")
    assert kept["memory_total"] > 32 * MIB
    assert kept["memory_processed"] == kept["data_processed"] > 0
    assert kept["memory_page_size"] == 4096
    assert kept["time_elapsed"] >= 10**6
    assert str(kept["time_elapsed"]).endswith(" ms")
    assert domain.jobinfo("guest", completed=True) == kept
    assert domain.jobinfo("guest", completed=True) is None


def test_the_limits_of_migrations_come_back_as_they_were_set(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    for given, expected in ((100 * MIB, 100 * MIB), ("1 GiB/s", 1024 * MIB), (Quantity("5 MiB"), 5 * MIB)):
        domain.migrate_setspeed("guest", given)
        assert domain.migrate_getspeed("guest") == expected
    assert str(domain.migrate_getspeed("guest")) == "5 MiB/s"
    domain.migrate_setspeed("guest", domain.migrate_getspeed("guest") * 2)
    assert domain.migrate_getspeed("guest") == 10 * MIB
    domain.migrate_setspeed("guest", "7 MiB", postcopy=True)
    assert domain.migrate_getspeed("guest", postcopy=True) == 7 * MIB
    with pytest.raises(InvalidArgumentError, match=r"whole number of MiB/s; '1\.5 MiB' is between 1 and 2 MiB/s"):
        domain.migrate_setspeed("guest", "1.5 MiB")
    with pytest.raises(InvalidArgumentError, match="--bandwidth takes a rate, such as '10 MiB/s'"):
        domain.migrate_setspeed("guest", "fast")
    with pytest.raises(InvalidArgumentError):
        domain.migrate_setspeed("guest", -1)

    for downtime, milliseconds in ((250, 250), ("1.5 s", 1500), (Quantity("2 s"), 2000)):
        domain.migrate_setmaxdowntime("guest", downtime)
        assert domain.migrate_getmaxdowntime("guest") == milliseconds * 10**6
    assert str(domain.migrate_getmaxdowntime("guest")) == "2000 ms"
    with pytest.raises(InvalidArgumentError, match="Invalid downtime"):
        domain.migrate_setmaxdowntime("guest", 0)

    for size, expected in ((4096, 4096), ("64 MiB", 64 * MIB), (Quantity("1 GiB"), 1024 * MIB)):
        domain.migrate_compcache("guest", size)
        assert domain.migrate_compcache("guest") == expected


def test_a_configuration_becomes_a_command_line(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    of_domain = domain.xml_to_native("qemu-argv", domain="guest")
    assert "guest=guest,debug-threads=on" in of_domain
    assert domain.id("guest") is not None
    assert domain.xml_to_native("qemu-argv", domain=domain.id("guest") or 0) == of_domain
    of_xml = domain.xml_to_native("qemu-argv", xml={**GUEST, "name": "other", "uuid": kvm.gen_uuid()})
    assert "guest=other,debug-threads=on" in of_xml
    assert not of_xml.endswith("\n")
    with pytest.raises(NotSupportedError):
        domain.xml_from_native("qemu-argv", of_xml.encode())
    with pytest.raises(NotSupportedError):
        domain.qemu_attach(os.getpid())


# -- to another daemon


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    """Another hypervisor, which takes itself for another host."""
    if os.geteuid() != 0:
        pytest.skip("only a system daemon can be told to be another host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemons, "LIBVIRTD_CONF", daemons.LIBVIRTD_CONF + f'host_uuid = "{kvm.gen_uuid()}"\n')
        daemon = Libvirtd()
    with Hypervisor(unix.Local(timeout=60), daemon.uri) as hypervisor:
        yield hypervisor
    daemon.stop()


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], object]], list[KvmError]]]:
    """Runs something in a thread, whose errors come into the list that is returned."""
    threads = []

    def run(call: Callable[[], object]) -> list[KvmError]:
        raised: list[KvmError] = []

        def body() -> None:
            try:
                call()
            except KvmError as error:
                raised.append(error)

        threads.append(threading.Thread(target=body))
        threads[-1].start()
        return raised

    yield run
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def vast(hypervisor: Hypervisor, other: Hypervisor) -> Iterator[str]:
    """The guest with more memory than can be sent at once, were it all zeros; it ends wherever it is by then."""
    hypervisor.domain.destroy("guest")
    hypervisor.domain.define({**GUEST, "uuid": hypervisor.domain.uuid("guest"), "memory": Quantity("3 GiB")})
    hypervisor.domain.start("guest")
    yield "guest"
    if "guest" in other.list_domains():
        other.domain.destroy("guest")
    if "guest" in other.list_domains(all=True):
        other.domain.undefine("guest")


Background = Callable[[Callable[[], object]], list[KvmError]]


def test_a_domain_moves_to_another_host(hypervisor: Hypervisor, other: Hypervisor, vast: str) -> None:
    uuid = hypervisor.domain.uuid(vast)
    arrived = {**hypervisor.domain.conf(vast, migratable=True), "title": "arrived"}
    defined = {**hypervisor.domain.conf(vast, inactive=True), "title": "defined there"}
    options = {"live": True, "persistent": True, "undefinesource": True, "bandwidth": "1 GiB/s"}
    options |= {"persistent_xml": defined}
    moved = hypervisor.domain.migrate(vast, str(other.uri), xml=arrived, migrateuri="tcp://127.0.0.1", **options)  # type: ignore[arg-type]
    assert moved.status
    assert hypervisor.list_domains(all=True) == {}
    assert (other.domain.uuid(vast), other.domain.state(vast)) == (uuid, "running")
    assert other.domain.conf(vast)["title"] == "arrived"
    assert other.domain.conf(vast, inactive=True)["title"] == "defined there"
    info = other.domain.jobinfo(vast, completed=True)
    assert info is not None
    assert (info["type"], info["operation"]) == ("completed", "incoming migration")
    assert info["memory_total"] > 3 * 1024 * MIB
    assert 0 < info["downtime"] < info["time_elapsed"]


def test_a_migration_is_watched_and_aborted(
    hypervisor: Hypervisor, other: Hypervisor, vast: str, in_background: Background
) -> None:
    domain = hypervisor.domain
    raised = in_background(
        lambda: domain.migrate(vast, str(other.uri), live=True, migrateuri="tcp://127.0.0.1", bandwidth="1 MiB/s")
    )
    wait_until(lambda: (info := domain.jobinfo(vast)) and info.get("memory_processed") and info["memory_remaining"])
    info = domain.jobinfo(vast)
    assert info is not None
    assert (info["type"], info["operation"]) == ("unbounded", "outgoing migration")
    assert 0 < info["memory_remaining"] < info["memory_total"]
    assert domain.migrate_getspeed(vast) == MIB
    domain.jobabort(vast)
    wait_until(lambda: raised)
    assert "cancel" in str(raised[0])
    assert domain.state(vast) == "running"
    assert domain.jobinfo(vast) is None
    assert other.list_domains(all=True) == {}


def test_a_migration_goes_on_at_the_other_end(
    hypervisor: Hypervisor, other: Hypervisor, vast: str, in_background: Background
) -> None:
    domain = hypervisor.domain
    options = {"live": True, "postcopy": True, "bandwidth": Quantity("1 MiB"), "postcopy_bandwidth": "512 MiB/s"}
    raised = in_background(
        lambda: domain.migrate(vast, str(other.uri), migrateuri="tcp://127.0.0.1", **options)  # type: ignore[arg-type]
    )
    wait_until(lambda: (info := domain.jobinfo(vast)) and info.get("memory_processed"))
    domain.migrate_postcopy(vast)
    wait_until(lambda: vast not in domain.list())
    assert other.domain.state(vast) == "running"
    assert raised == []


# -- readers

JOB = """Job type: 2

operation: 9
time_elapsed: 1234
memory_total: 36028797018963967
disk_bps: 7
auto_converge_throttle: 20
memory_dirty_rate: 5
success: 0
novelty: 12
errmsg: internal error: it
it broke
at the end
"""


def test_what_libvirt_tells_of_a_job_is_exact() -> None:
    assert _job(JOB) == {
        "type": "unbounded",
        "operation": "backup",
        "time_elapsed": 1234 * 10**6,
        "memory_total": 36028797018963967,
        "disk_bps": 7,
        "auto_converge_throttle": 20.0,
        "memory_dirty_rate": 5,
        "success": False,
        "novelty": "12",
        "errmsg": "internal error: it\nit broke\nat the end",
    }
    assert _job("Job type: 0\n\n\n") is None
    assert _job("Job type: 9\n\noperation: 99\n") == {"type": "9", "operation": "99"}
    for wrong in ("", "Job type: None\n", "Job type: 1\n\ntime_elapsed: soon\n"):
        with pytest.raises(kvm.errors.UnreadableOutputError):
            _job(wrong)


def test_the_size_of_a_cache_is_exact_for_each_that_it_can_have() -> None:
    for power, (unit, step) in enumerate((u, s) for u in ("KiB", "MiB", "GiB") for s in range(10)):
        assert _cache_size(f"Compression cache: {2**step}.000 {unit}\n") == 2 ** (power + 10)
