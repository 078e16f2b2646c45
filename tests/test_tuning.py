"""What domains get of the host, what they are called, and what they are sent; on a real QEMU and on the test driver."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

import kvm
import unix
from kvm import (
    AgentError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    NotFoundError,
    NotSupportedError,
    Quantity,
    UnreadableOutputError,
    text,
    xml,
)
from kvm.groups.domain import cpus, labels, memory, signals
from kvm.groups.domain.cpus import GuestVcpus
from kvm.groups.domain.memory import LaunchSecurity
from kvm.groups.domain.tuning import SchedInfo
from libvirtd import Libvirtd
from test_domain import GUEST
from waiting import wait_until

MIB = 1024**2
TUNED = {
    **GUEST,
    "memory": Quantity("64 MiB"),
    "currentMemory": Quantity("48 MiB"),
    "vcpu": {"@current": 2, "#text": 3},
    "iothreads": 2,
    "devices": {"channel": {"@type": "unix", "target": {"@type": "virtio", "@name": "org.qemu.guest_agent.0"}}},
}


@contextmanager
def with_guest(hypervisor: Hypervisor) -> Iterator[Hypervisor]:
    """`hypervisor` with the domain ``guest``, which does not run, for the duration of a block."""
    hypervisor.domain.define(TUNED)
    yield hypervisor
    for name, domain in hypervisor.list_domains(all=True).items():
        if domain["id"] is not None:
            hypervisor.domain.destroy(name)
        hypervisor.domain.undefine(name)


@pytest.fixture
def hypervisor(hypervisor: Hypervisor) -> Iterator[Hypervisor]:
    """The real hypervisor with the domain ``guest``, which does not run."""
    with with_guest(hypervisor):
        yield hypervisor


@pytest.fixture
def running(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    """The real hypervisor, seen from this machine, with the domain ``guest``, which runs."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor, with_guest(hypervisor):
        hypervisor.domain.start("guest")
        yield hypervisor


@pytest.fixture
def as_root(libvirtd: Libvirtd) -> None:
    if not libvirtd.is_system:
        pytest.skip("only the system's daemon tunes what cgroups limit")


def affinities(process: int) -> dict[str, list[int]]:
    """The CPUs that the threads of a process may run on, by the threads' names, as the kernel says."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return {(each / "comm").read_text().strip(): sorted(os.sched_getaffinity(int(each.name))) for each in threads}


# -- CPUs


def test_pinned_cpus_are_those_that_the_kernel_lets_the_threads_run_on(running: Hypervisor, libvirtd: Libvirtd) -> None:
    domain = running.domain
    every = domain.emulatorpin("guest")
    last = every[-1]
    assert domain.vcpupin("guest") == {0: every, 1: every, 2: every}
    assert domain.vcpupin("guest", 1, [last]).status
    assert domain.emulatorpin("guest", f"0-{last},^{last}" if last else "0").status
    assert domain.iothreadpin("guest", 2, {last}).status
    assert domain.vcpupin("guest") == {0: every, 1: [last], 2: every}
    assert domain.vcpupin("guest", 1) == {1: [last]}
    assert domain.emulatorpin("guest", live=True) == (every[:-1] or every)
    assert domain.iothreadinfo("guest") == {1: every, 2: [last]}
    threads = affinities(*libvirtd.qemu("guest"))
    assert threads["CPU 1/TCG"] == threads["IO iothread2"] == [last]
    assert threads["CPU 0/TCG"] == threads["IO iothread1"] == every
    assert domain.vcpuinfo("guest")[1]["cpu_affinity"] == [last]
    assert domain.vcpupin("guest", config=True)[1] == every
    domain.vcpupin("guest", 1, "r")
    assert domain.vcpupin("guest", 1) == {1: every}


def test_a_pinning_for_the_next_start_is_in_the_definition(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    domain.vcpupin("guest", 2, [0], config=True)
    domain.emulatorpin("guest", [0], config=True)
    domain.iothreadpin("guest", 1, "0", config=True)
    assert domain.vcpupin("guest")[2] == domain.emulatorpin("guest") == domain.iothreadinfo("guest")[1] == [0]
    tune = domain.conf("guest")["cputune"]
    assert tune["vcpupin"] == [{"@vcpu": "2", "@cpuset": "0"}]
    assert (tune["emulatorpin"], tune["iothreadpin"]) == ({"@cpuset": "0"}, [{"@iothread": "1", "@cpuset": "0"}])


def test_wrong_pinnings_are_told_apart(hypervisor: Hypervisor) -> None:
    pin = hypervisor.domain.vcpupin
    for wrong in ("1,x", [], [4711], [-1]):
        with pytest.raises(InvalidArgumentError):
            pin("guest", 0, wrong)
    with pytest.raises(InvalidArgumentError, match="vcpu 7 is out of range"):
        pin("guest", 7)
    with pytest.raises(InvalidArgumentError, match="Missing vCPU number"):
        pin("guest", None, [0])  # type: ignore[call-overload]
    with pytest.raises(InvalidStateError, match="offline domain"):
        pin("guest", live=True)


def test_virtual_cpus_are_counted_and_plugged(running: Hypervisor) -> None:
    domain = running.domain
    assert domain.vcpucount("guest") == {"maximum": {"config": 3, "live": 3}, "current": {"config": 2, "live": 2}}
    domain.setvcpus("guest", 3)
    assert domain.vcpucount("guest", live=True) == 3 == len(domain.vcpuinfo("guest"))
    assert domain.vcpucount("guest", config=True, active=True) == 2
    domain.setvcpu("guest", [2], enable=True, config=True)
    assert domain.vcpucount("guest", config=True) == 3
    domain.setvcpus("guest", 5, maximum=True, config=True)
    assert domain.vcpucount("guest")["maximum"] == {"config": 5, "live": 3}
    with pytest.raises(InvalidArgumentError, match="one of --enable, --disable is required"):
        domain.setvcpu("guest", "1")
    with pytest.raises(InvalidArgumentError, match="0 processors"):
        domain.setvcpus("guest", 0)


def test_virtual_cpus_of_a_domain_that_does_not_run_are_nowhere(hypervisor: Hypervisor) -> None:
    every = hypervisor.domain.emulatorpin("guest")
    nowhere = {"cpu": None, "state": None, "cpu_time": None, "cpu_affinity": every}
    assert hypervisor.domain.vcpuinfo("guest") == [{"vcpu": 0, **nowhere}, {"vcpu": 1, **nowhere}]
    assert hypervisor.domain.vcpucount("guest") == {"maximum": {"config": 3}, "current": {"config": 2}}


def test_running_virtual_cpus_say_where_they_are(running: Hypervisor) -> None:
    every = running.domain.emulatorpin("guest")
    running.domain.reset("guest")
    first, second = running.domain.vcpuinfo("guest", pretty=True)
    assert (first["vcpu"], second["vcpu"]) == (0, 1)
    assert first["state"] == second["state"] == "running"
    assert first["cpu"] in every
    assert first["cpu_affinity"] == every
    time_now = running.domain.stats("guest", vcpu=True)["guest"]["vcpu"][0]["time"]
    assert 0 <= (first["cpu_time"] or 0) <= time_now + 10**8


def test_iothreads_come_and_go(running: Hypervisor) -> None:
    domain = running.domain
    domain.iothreadadd("guest", 7)
    assert list(domain.iothreadinfo("guest")) == [1, 2, 7]
    domain.iothreadset("guest", 7, poll_max_ns=5000, poll_grow=2)
    threads = {thread["id"]: thread for thread in domain.stats("guest", iothread=True)["guest"]["iothread"]}
    assert (threads[7]["poll_max_ns"], threads[7]["poll_grow"]) == (5000, 2)
    domain.iothreaddel("guest", 7)
    domain.iothreadadd("guest", 70_000)
    threads = {thread["id"]: thread for thread in domain.stats()["guest"]["iothread"]}
    assert threads.keys() == domain.iothreadinfo("guest").keys() == {1, 2, 70_000}
    domain.iothreaddel("guest", 70_000)
    domain.iothreadadd("guest", 9, config=True)
    assert list(domain.iothreadinfo("guest")) == [1, 2]
    assert list(domain.iothreadinfo("guest", config=True)) == [1, 2, 9]
    with pytest.raises(InvalidArgumentError, match="nothing to set"):
        domain.iothreadset("guest", 1)


def test_a_domain_without_iothreads_has_none(test_driver: Hypervisor) -> None:
    with suppress(NotSupportedError):
        assert test_driver.domain.iothreadinfo("test") == {}


def test_what_needs_the_guest_agent_says_so(running: Hypervisor) -> None:
    domain = running.domain
    asked: list[Callable[[], object]] = [
        lambda: domain.guestvcpus("guest"),
        lambda: domain.guestvcpus("guest", [1], disable=True),
        lambda: domain.vcpucount("guest", guest=True),
        lambda: domain.pmsuspend("guest", "mem"),
    ]
    for ask in asked:
        with pytest.raises(AgentError, match="qemu-guest-agent"):
            ask()
    with pytest.raises(InvalidArgumentError, match="One of options --enable or --disable is required"):
        domain.guestvcpus("guest", [0])  # type: ignore[call-overload]


def test_the_cpus_that_a_guest_sees_are_lists() -> None:
    read = text.fields(GuestVcpus)
    assert read("vcpus          : 0-2,5\nonline         : 0\nofflinable     : \n\n") == {
        "vcpus": [0, 1, 2, 5],
        "online": [0],
        "offlinable": [],
    }


def test_cpu_times_are_in_nanoseconds(test_driver: Hypervisor) -> None:
    stats = test_driver.domain.cpustats("test")
    assert [each["cpu"] for each in stats["cpus"]] == [0, 1]
    for each in stats["cpus"]:
        assert 0 < each["vcpu_time"] < each["cpu_time"] < stats["total"]["cpu_time"]
    assert sum(each["cpu_time"] for each in stats["cpus"]) == stats["total"]["cpu_time"]
    assert test_driver.domain.cpustats("test", total=True) == {"total": stats["total"]}
    assert test_driver.domain.cpustats("test", start=1) == {"cpus": stats["cpus"][1:]}
    with pytest.raises(InvalidArgumentError, match="out of range"):
        test_driver.domain.cpustats("test", start=9)


def test_remarks_between_cpu_times_are_not_times() -> None:
    total = "Total:\n\tcpu_time             1.000000001 seconds\n\tunheard_of   7\n"
    value: dict[str, Any] = {"total": {"cpu_time": 1_000_000_001, "unheard_of": "7"}}
    assert cpus._cpu_stats(f"No per-CPU stats available{total}\n") == value
    one = "Only 4 CPUs available to show\nCPU3:\n\tcpu_time            12.000000000 seconds\n"
    assert cpus._cpu_stats(one + total) == {**value, "cpus": [{"cpu": 3, "cpu_time": 12 * 10**9}]}


@pytest.mark.parametrize(
    ("read", "output"),
    [
        (cpus._cpu_stats, "\n"),
        (cpus._pins, "\n"),
        (cpus._pins, "something else\n----\n"),
        (cpus._pins, " VCPU   CPU Affinity\n----------------------\n 0      none\n\n"),
        (cpus._iothread_pins, "\n"),
        (cpus._emulator_pins, "\n"),
        (cpus._emulator_pins, "       *: all\n"),
        (cpus._vcpus, "\n"),
        (cpus._vcpu_count, "many\n"),
        (cpus._vcpu_count, "maximum      live         many\n"),
        (cpus._vcpu_count, "\n\nminimum      live         1\n"),
        (memory._limits, "hard_limit     : much\n"),
        (memory._memory, "actual much\n"),
        (memory._memory, "last_update never\n"),
        (signals._control, "\n"),
        (signals._control, "occupied (long)\n"),
        (labels._metadata("a", "urn:x"), "<a>\n"),
    ],
)
def test_what_cannot_be_read_is_never_a_wrong_value(read: Callable[[str], object], output: str) -> None:
    with pytest.raises(UnreadableOutputError):
        read(output)


def test_virtual_cpus_without_a_cpu_have_none() -> None:
    offline = "VCPU:           3\nCPU:            -1\nState:          offline\nCPU Affinity:   y--y\n\n"
    assert cpus._vcpus(offline) == [
        {"vcpu": 3, "cpu": None, "state": "offline", "cpu_time": None, "cpu_affinity": [0, 3]}
    ]


# -- memory


def test_an_int_is_bytes_wherever_memory_is_given(test_driver: Hypervisor) -> None:
    domain = test_driver.domain
    given: dict[int | str, int] = {
        512 * MIB: 2**19,
        MIB + 1024: 1025,
        Quantity("96 MiB"): 96 * 1024,
        "128MiB": 2**17,
        "96 MiB": 96 * 1024,
    }
    for given_, kib in given.items():
        domain.setmem("test", given_)
        assert domain.info("test")["used_memory"] == kib * 1024
        domain.memtune("test", hard_limit=given_)
        assert domain.memtune("test")["hard_limit"] == kib * 1024
    domain.setmem("test", "0.5 GiB")
    assert domain.info("test")["used_memory"] == 512 * MIB
    domain.destroy("test")
    domain.setmaxmem("test", 3 * 1024 * MIB)
    assert domain.info("test")["max_memory"] == 3 * 1024 * MIB
    for wrong in (-1, 2**70, "1 Zorg", "much", "2048", MIB + 1, Quantity("1 s"), "5 MiB/s", 10**5000):
        with pytest.raises(InvalidArgumentError):
            domain.setmem("test", wrong, config=True)


def test_a_limit_can_be_set_read_and_lifted(hypervisor: Hypervisor, as_root: None) -> None:
    domain = hypervisor.domain
    assert domain.memtune("guest") == {"hard_limit": None, "soft_limit": None, "swap_hard_limit": None}
    domain.memtune("guest", hard_limit=100 * MIB, soft_limit="90MiB", swap_hard_limit=Quantity("1 GiB"))
    assert domain.memtune("guest") == {
        "hard_limit": 100 * MIB,
        "soft_limit": 90 * MIB,
        "swap_hard_limit": 1024 * MIB,
    }
    assert domain.conf("guest")["memtune"]["hard_limit"] == {"@unit": "KiB", "#text": "102400"}
    domain.memtune("guest", hard_limit=-1, swap_hard_limit=-1, config=True)
    assert domain.memtune("guest", config=True) == {"hard_limit": None, "soft_limit": 90 * MIB, "swap_hard_limit": None}
    with pytest.raises(InvalidArgumentError, match="hard-limit"):
        domain.memtune("guest", hard_limit="x")


def test_memory_of_a_running_guest(running: Hypervisor) -> None:
    domain = running.domain
    domain.suspend("guest")  # it has no more memory at the second reading than at the first
    stats = domain.memstat("guest")
    assert stats["actual"] == 64 * MIB
    assert abs(stats["rss"] - domain.stats("guest")["guest"]["balloon"]["rss"]) < 20 * MIB
    domain.resume("guest")
    assert stats["last_update"] is None
    assert domain.memstat("guest", period=3, live=True).status
    assert domain.conf("guest")["devices"]["memballoon"]["stats"] == {"@period": "3"}
    domain.setmem("guest", 32 * MIB)  # a request to the balloon, which no driver in this guest hears
    with pytest.raises(InvalidStateError, match="active domain"):
        domain.setmaxmem("guest", 128 * MIB)


def test_memory_figures_have_the_units_that_libvirt_gives_them(test_driver: Hypervisor) -> None:
    stats = test_driver.domain.memstat("test")
    all_of_it = 2 * 1024 * MIB
    assert (stats["actual"], stats["unused"], stats["disk_caches"]) == (all_of_it, all_of_it // 2, all_of_it // 8)
    assert stats["last_update"] == datetime(1989, 11, 17, 15, 32, tzinfo=UTC)
    assert stats["major_fault"] == 0
    assert not isinstance(stats["major_fault"], Quantity)
    assert memory._memory("swap_in 5\nhugetlb_pgfail 5\nlast_update 0\nnew_one 5\n\n") == {
        "swap_in": 5 * 1024,
        "hugetlb_pgfail": 5,
        "last_update": None,
        "new_one": "5",
    }


def test_numa_placement_can_be_set_and_read(hypervisor: Hypervisor, as_root: None) -> None:
    domain = hypervisor.domain
    assert domain.numatune("guest") == {"numa_mode": "strict", "numa_nodeset": []}
    domain.numatune("guest", mode="preferred", nodeset=[0])
    assert domain.numatune("guest", config=True) == {"numa_mode": "preferred", "numa_nodeset": [0]}
    assert domain.conf("guest")["numatune"]["memory"] == {"@mode": "preferred", "@nodeset": "0"}
    with pytest.raises(InvalidArgumentError, match="Invalid mode"):
        domain.numatune("guest", mode="x")


def test_a_dirty_rate_is_measured(running: Hypervisor) -> None:
    try:
        assert running.domain.dirtyrate_calc("guest", seconds=1).status
    except NotSupportedError as error:
        assert "too old for the command 'domdirtyrate-calc'" in str(error)
        return

    def rate() -> Any:
        return running.domain.stats("guest", dirtyrate=True)["guest"]["dirtyrate"]

    wait_until(lambda: "megabytes_per_second" in rate())
    assert rate()["calc_period"] == 1
    with pytest.raises(InvalidArgumentError):
        running.domain.dirtyrate_calc("guest", mode="x")


def test_only_domains_with_launch_security_have_it(running: Hypervisor) -> None:
    try:
        assert running.domain.launchsecinfo("guest") == {}
    except NotSupportedError as error:
        assert "too old for the command 'domlaunchsecinfo'" in str(error)
        return
    with pytest.raises(NotSupportedError, match="SEV-enabled"):
        running.domain.setlaunchsecstate("guest", secrethdr="/etc/hostname", secret="/etc/hostname", set_address=4096)
    with pytest.raises(NotSupportedError, match="SEV-enabled"):  # no "cannot open": virsh has read both
        running.domain.setlaunchsecstate("guest", secrethdr=b"QQ==", secret=b"QQ==")
    with pytest.raises(InvalidArgumentError, match="Both secret"):
        running.domain.setlaunchsecstate("guest")


def test_what_sev_says_of_a_launch_is_typed() -> None:
    output = (
        "sev-measurement: LMbG5aU/3X7nqhgOUdoS2Xu/yV2x9yMsq3vN2oLEN5QpAYnvMvEVEBPb3zmUFBQl\n"
        "sev-api-major  : 0\nsev-api-minor  : 24\nsev-build-id   : 15\nsev-policy     : 3\n\n"
    )
    assert text.fields(LaunchSecurity)(output) == {
        "sev_measurement": "LMbG5aU/3X7nqhgOUdoS2Xu/yV2x9yMsq3vN2oLEN5QpAYnvMvEVEBPb3zmUFBQl",
        "sev_api_major": 0,
        "sev_api_minor": 24,
        "sev_build_id": 15,
        "sev_policy": 3,
    }


# -- scheduling, events, lifecycle


def test_shares_can_be_set_and_read(hypervisor: Hypervisor, as_root: None) -> None:
    domain = hypervisor.domain
    before = domain.schedinfo("guest")
    assert (before["scheduler"], before["cpu_shares"]) == ("posix", 0)
    domain.schedinfo("guest", set={"cpu_shares": 77, "vcpu_period": 20000, "vcpu_quota": -1}, config=True)
    after = domain.schedinfo("guest", config=True)
    assert after == {**before, "cpu_shares": 77, "vcpu_period": 20000, "vcpu_quota": -1}
    assert domain.conf("guest")["cputune"]["shares"] == "77"
    with pytest.raises(InvalidArgumentError, match="invalid scheduler option: nope"):
        domain.schedinfo("guest", set={"nope": 1})


def test_each_scheduler_has_its_own_figures(test_driver: Hypervisor) -> None:
    assert test_driver.domain.schedinfo("test") == {"scheduler": "fair", "weight": 50}
    assert test_driver.domain.schedinfo("test", weight=50).status
    assert text.fields(SchedInfo)(
        "Scheduler      : posix\nvcpu_quota     : 17592186044415\nnew_one        : x\n\n"
    ) == {
        "scheduler": "posix",
        "vcpu_quota": 17592186044415,
        "new_one": "x",
    }


def test_events_are_counted_or_not(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    before = domain.perf("guest")
    assert set(before.values()) == {False}
    domain.perf("guest", enable=["cpu_cycles", "page_faults"], config=True)
    domain.perf("guest", enable="branch_misses", disable=["page_faults"])
    assert domain.perf("guest", config=True) == {**before, "cpu_cycles": True, "branch_misses": True}
    assert {"@name": "cpu_cycles", "@enabled": "yes"} in domain.conf("guest")["perf"]["event"]
    with pytest.raises(NotSupportedError, match="'nope' not supported"):
        domain.perf("guest", enable="nope")


def test_what_becomes_of_a_domain_at_its_end_can_be_set(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    domain.set_lifecycle_action("guest", "poweroff", "restart")
    domain.set_lifecycle_action("guest", "crash", "coredump-destroy", config=True)
    conf = domain.conf("guest")
    assert (conf["on_poweroff"], conf["on_crash"]) == ("restart", "coredump-destroy")
    with pytest.raises(InvalidArgumentError, match="lifecycle action 'x'"):
        domain.set_lifecycle_action("guest", "crash", "x")  # type: ignore[arg-type]


# -- names and notes


DESCRIPTIONS = [
    "one line",
    "  leading and trailing  ",
    "several\n\n  lines\n",
    "\n\nblank lines around\n\n",
    "No description for domain: guest",
    "No title for domain: guest",
    "--live",
    "error: not one",
    "virsh # quit",
    "tab\tand <&\"'> é 漢字 😀",
    "Domain description updated successfully",
    " ",
]


def test_a_description_comes_back_as_it_was_given(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    assert domain.desc("guest") == domain.desc("guest", title=True) == ""
    for description in DESCRIPTIONS:
        assert domain.desc("guest", description).status
        assert domain.desc("guest") == description
        if "\n" not in description:
            domain.desc("guest", description, title=True)
            assert domain.desc("guest", title=True) == description
    domain.desc("guest", "", title=True)
    assert (domain.desc("guest", title=True), domain.desc("guest")) == ("", DESCRIPTIONS[-1])
    domain.desc("guest", "")
    assert domain.desc("guest") == ""
    assert "description" not in domain.conf("guest")
    with pytest.raises(InvalidArgumentError, match="newlines"):
        domain.desc("guest", "a\nb", title=True)
    with pytest.raises(NotFoundError):
        domain.desc("nobody")


def test_a_description_of_a_running_domain_is_not_that_of_its_next_start(running: Hypervisor) -> None:
    domain = running.domain
    domain.desc("guest", "now")
    domain.desc("guest", "No description for domain: guest", config=True)
    assert domain.desc("guest", live=True) == domain.desc("guest") == "now"
    assert domain.desc("guest", config=True) == "No description for domain: guest"
    number = domain.id("guest")
    assert number is not None
    assert domain.desc(number, config=True) == "No description for domain: guest"
    domain.desc("guest", "", live=True, config=True)
    assert domain.desc("guest") == domain.desc("guest", config=True) == ""


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(description=st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co")), max_size=40))
def test_any_description_comes_back(description: str) -> None:
    one_for_all_examples().domain.desc("test", description)
    assert one_for_all_examples().domain.desc("test") == description


@cache
def one_for_all_examples() -> Hypervisor:
    return Hypervisor(unix.Local(), "test:///default")


METADATA: list[dict[str, Any]] = [
    {"app": {"@tier": "we\"b<'&", "owner": ["me", "y\nou\t"], "empty": True}},
    {"app": "text  with   blanks"},
    {"app": True},
    {"network": {"ip": "one is not a list here"}},
]


@pytest.mark.parametrize("uri", ["urn:x", "http://example.org/a?b=1&c='d'#e"])
def test_metadata_is_kept_by_namespace(running: Hypervisor, uri: str) -> None:
    domain = running.domain
    with pytest.raises(NotFoundError, match="metadata"):
        domain.metadata("guest", uri)
    for element in METADATA:
        assert domain.metadata("guest", uri, key="mine", set=element).status
        assert domain.metadata("guest", uri) == domain.metadata("guest", uri, live=True) == element
    with pytest.raises(NotFoundError, match="metadata"):
        domain.metadata("guest", uri, config=True)
    domain.metadata("guest", "urn:other", key="other", set="<o/>", live=True, config=True)
    domain.metadata("guest", uri, remove=True)
    with pytest.raises(NotFoundError, match="metadata"):
        domain.metadata("guest", uri)
    assert domain.metadata("guest", "urn:other", config=True) == {"o": True}


def test_metadata_may_be_a_dict_xml_or_an_element(test_driver: Hypervisor) -> None:
    xml = "<?xml version='1.0'?>\n<app tier='web'>\n  <!-- mine -->\n  <owner>me\nand you</owner>\n</app>\n"
    for form in (xml, xml.encode(), etree.fromstring(xml), kvm.from_xml(xml)):
        test_driver.domain.metadata("test", "urn:x", key="k", set=form)
        assert test_driver.domain.metadata("test", "urn:x") == {"app": {"@tier": "web", "owner": "me\nand you"}}
        test_driver.domain.metadata("test", "urn:x", remove=True)
    for wrong in ("<a", {"a": "b", "c": "d"}, {}, {"a b": "c"}):
        with pytest.raises(InvalidArgumentError):
            test_driver.domain.metadata("test", "urn:x", key="k", set=wrong)
    with pytest.raises(InvalidArgumentError, match="key is required"):
        test_driver.domain.metadata("test", "urn:x", set="<a/>")  # type: ignore[call-overload]


def test_no_metadata_is_the_same_error_with_a_virsh_that_says_nothing_of_it() -> None:
    with pytest.raises(NotFoundError, match="'guest' has no metadata of 'urn:x'"):
        labels._metadata("guest", "urn:x")("\n")


XML_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\t\n\r\x7f<>&]'\""), max_size=20)


@given(content=XML_TEXT.filter(str.strip), attribute=XML_TEXT)
def test_metadata_on_one_line_says_the_same(content: str, attribute: str) -> None:
    element = etree.Element("a")
    try:
        element.set("b", attribute)
        etree.SubElement(element, "c").text = content
    except ValueError:
        return
    line = xml.on_one_line(element)
    assert not re.search(r"[\x00-\x1f\x7f]", line)
    again = etree.fromstring(line)
    assert (again.get("b"), again[0].text) == (attribute, content)


def test_a_domain_gets_another_name(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    uuid = domain.uuid("guest")
    domain.rename("guest", "--other  é")
    assert domain.uuid("--other  é") == uuid
    domain.rename(uuid, "guest")
    domain.start("guest", paused=True)
    with pytest.raises(InvalidStateError, match="cannot rename active domain"):
        domain.rename("guest", "other")


# -- signals


def test_a_guest_can_be_reset_interrupted_and_typed_to(running: Hypervisor) -> None:
    domain = running.domain
    number = domain.id("guest")
    assert domain.control("guest") == {"state": "ok"}
    assert domain.reset("guest").status
    assert domain.inject_nmi("guest").status
    assert domain.send_key("guest", "KEY_LEFTCTRL", "KEY_LEFTALT", 111, holdtime=10).status
    assert domain.send_key("guest", "VK_TAB", codeset="win32").status
    assert domain.id("guest") == number
    for keys in (["nope"], ["KEY_A"] * 17, []):
        with pytest.raises(InvalidArgumentError):
            domain.send_key("guest", *keys)
    with pytest.raises(InvalidArgumentError, match="unknown codeset"):
        domain.send_key("guest", "KEY_A", codeset="nope")
    with pytest.raises(InvalidStateError, match="not in suspended state"):
        domain.pmwakeup("guest")
    with pytest.raises(NotSupportedError):
        domain.send_process_signal("guest", 1, "term")
    domain.destroy("guest")
    for act in (domain.reset, domain.inject_nmi, domain.control):
        with pytest.raises(InvalidStateError):
            act("guest")


def test_a_signal_is_a_name_or_a_number(test_driver: Hypervisor) -> None:
    for signal in ("term", "SIGTERM", 15):
        assert test_driver.domain.send_process_signal("test", 1, signal).status
    with pytest.raises(InvalidArgumentError, match="malformed signal name"):
        test_driver.domain.send_process_signal("test", 1, "nope")


def test_the_state_of_control_says_for_how_long_and_why() -> None:
    assert signals._control("background job (0.123s)\n\n") == {"state": "background job", "time": 123_000_000}
    assert signals._control("occupied (12.000s)\n\n") == {"state": "occupied", "time": 12 * 10**9}
    assert signals._control("error: internal (locking) error\n\n") == {
        "state": "error",
        "reason": "internal (locking) error",
    }
    assert signals._control("error\n\n") == {"state": "error"}


def test_tuning_works_in_a_pipeline(test_driver: Hypervisor) -> None:
    with test_driver.pipeline() as pipe:
        pipe.domain.desc("test", "piped")
        pipe.domain.desc("test")
        pipe.domain.desc("test", title=True)
        pipe.domain.vcpupin("test", 0, [1])
        pipe.domain.vcpupin("test", 0)
        _, described, title, _, pinned = pipe.execute()
    assert (described, title, pinned) == ("piped", "", {0: [1]})
