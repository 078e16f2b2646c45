"""Many hypervisors at once: an sshd that is many hosts, each with test hypervisors of its own, and hosts that fail."""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any

import pytest

import kvm
import unix
from hosts import Hosts
from libvirtd import Libvirtd
from ports import free_port
from proxy import Proxy
from sshd import user
from waiting import wait_until

MANY = 20


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    directory = tmp_path_factory.mktemp("hosts")
    directory.chmod(0o755)
    hosts = Hosts(directory, MANY)
    yield hosts
    hosts.sshd.remove()


@pytest.fixture(scope="module")
def fleet(hosts: Hosts) -> Iterator[kvm.Fleet]:
    with hosts.fleet() as fleet:
        yield fleet


@pytest.fixture
def proxy(hosts: Hosts) -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(delay: float = 0, *, silent: bool = False) -> Proxy:
        made.append(Proxy(hosts.sshd.port, delay))
        made[-1].silent = silent
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def pair() -> Iterator[kvm.Fleet]:
    """Two test hypervisors on this machine."""
    with kvm.Fleet({name: kvm.Hypervisor(unix.Local(), "test:///default") for name in ("a", "b")}) as fleet:
        yield fleet


# -- the same call on all of them ---------------------------------------------------------------------------------


def test_each_host_gives_its_own_value_in_the_order_of_the_fleet(hosts: Hosts, fleet: kvm.Fleet) -> None:
    listed = fleet.domain.list(all=True)
    assert list(listed) == hosts.names
    for number, name in enumerate(hosts.names, 1):
        assert set(listed[name]) == {f"guest{number:02}", "everywhere", str(number)}
        assert listed[name] == fleet[name].domain.list(all=True)
    assert fleet.list_domains(all=True) == listed


def test_the_methods_of_a_hypervisor_and_of_its_host_are_there(fleet: kvm.Fleet) -> None:
    few = fleet.select("first")
    assert set(few.execute("uname", s=True).values()) == {unix.Local().execute("uname", s=True)}
    assert few.exists("/proc") == {"hv01": True, "hv02": True, "hv03": True}
    assert few.virsh("domstate", "everywhere")["hv02"] == few["hv02"].virsh("domstate", "everywhere")
    assert few.generic.uri() == few.hypervisor.uri() == {name: each.uri for name, each in few.items()}
    assert {"domain", "execute", "map"} <= set(dir(few))
    assert "list" in dir(few.domain)
    assert (few.domain.list.__doc__ or "").startswith("The active domains")


def test_an_action_is_done_on_every_host(fleet: kvm.Fleet) -> None:
    few = fleet.select("first")
    few.domain.suspend("everywhere")
    assert few.domain.state("everywhere") == dict.fromkeys(few, "paused")
    assert few.domain.resume("everywhere")["hv01"].status is True


def test_map_gives_a_function_each_hypervisor(fleet: kvm.Fleet) -> None:
    def states(hypervisor: kvm.Hypervisor) -> dict[str, str]:
        with hypervisor.pipeline() as pipe:
            for name in (names := list(hypervisor.domain.list())):
                pipe.domain.state(name)
            return dict(zip(names, pipe.execute(), strict=True))

    assert fleet.map(states)["hv07"] == {"guest07": "running", "everywhere": "running", "7": "running"}


def test_what_is_no_method_and_wrong_arguments_raise_before_any_host_is_asked(hosts: Hosts) -> None:
    before = len(hosts.sshd.sessions())
    with hosts.fleet() as fleet:
        with pytest.raises(AttributeError, match=r"no method domain\.frob"):
            fleet.domain.frob()
        with pytest.raises(TypeError, match="no option 'frob'"):
            fleet.domain.start("everywhere", frob=True)
        with pytest.raises(TypeError, match="missing 1 required"):
            fleet.domain.start()
        with pytest.raises(AttributeError, match="'frob'"):
            fleet.frob  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(AttributeError, match=r"fleet.map\(function\)"):
            fleet.pipeline  # type: ignore[attr-defined]  # noqa: B018
        assert len(hosts.sshd.sessions()) == before


# -- hosts that fail ----------------------------------------------------------------------------------------------


def test_hosts_that_fail_are_errors_and_the_values_of_the_others_are_not_lost(
    hosts: Hosts, fleet: kvm.Fleet, proxy: Callable[..., Proxy]
) -> None:
    ports = {"silent": proxy(silent=True).port, "refusing": free_port(), "slow": proxy(delay=0.05).port}
    with hosts.others(**ports) as others:
        with pytest.raises(kvm.FleetError, match=r"2 of 23 hosts failed: silent: .*; refusing: ") as caught:
            kvm.Fleet({**fleet, **others}).domain.list(all=True)
        failed = caught.value
        assert set(failed.results) == {*hosts.names, "slow"}
        assert failed.results["slow"] == failed.results["hv01"]
        assert list(failed.errors) == ["silent", "refusing"]
        assert failed.exceptions == tuple(failed.errors.values())
        assert all(isinstance(error, kvm.CannotConnectError) for error in failed.exceptions)
        assert failed.errors["silent"].__notes__ == ["on silent"]
        both = others.select("refusing", "slow").domain.list(all=True, return_exceptions=True)
        assert both["slow"] == failed.results["slow"]
        assert isinstance(both["refusing"], kvm.CannotConnectError)


def test_who_is_silent_delays_nobody_and_has_a_time_limit(
    hosts: Hosts, fleet: kvm.Fleet, proxy: Callable[..., Proxy]
) -> None:
    with hosts.others(**{f"silent{number}": proxy(silent=True).port for number in range(4)}) as others:
        fleet.execute("true")  # connected
        all_of_them = kvm.Fleet({**others, **fleet}, timeout=8)
        came = list(all_of_them.imap(lambda hypervisor: hypervisor.domain.state("everywhere")))
        assert dict(came[:MANY]) == dict.fromkeys(hosts.names, "running")
        assert {name for name, _ in came[MANY:]} == set(others)
        for _, error in came[MANY:]:
            assert isinstance(error, kvm.CommandTimeoutError)
            assert "no answer within 8 s" in str(error)


def test_a_host_that_goes_silent_under_way_is_an_error_in_time(hosts: Hosts, proxy: Callable[..., Proxy]) -> None:
    first, link = proxy(), proxy()
    with hosts.others(first=first.port, link=link.port) as fleet:
        assert fleet.domain.state("everywhere") == {"first": "running", "link": "running"}
        link.silent = True
        told = fleet.using(timeout=8).domain.state("everywhere", return_exceptions=True)
        assert told["first"] == "running"
        assert isinstance(told["link"], kvm.CommandTimeoutError)


def test_a_function_whose_time_is_up_is_an_error_and_does_not_hold_the_others_up(pair: kvm.Fleet) -> None:
    over = threading.Event()

    def slow_on_a(hypervisor: kvm.Hypervisor) -> str:
        return "waited" if hypervisor is pair["a"] and over.wait(30) else "at once"

    told = pair.map(slow_on_a, workers=1, timeout=1, return_exceptions=True)
    over.set()
    assert told["b"] == "at once"
    assert isinstance(told["a"], kvm.CommandTimeoutError)
    assert str(told["a"]) == "a: no answer within 1 s; what has begun there may still complete"


def test_the_limit_holds_for_each_command_as_well(pair: kvm.Fleet) -> None:
    def limit(hypervisor: kvm.Hypervisor) -> object:
        return hypervisor.get_control("timeout")

    assert pair.map(limit, timeout=7) == {"a": 7, "b": 7}
    assert pair.map(limit, timeout=None) == {"a": None, "b": None}
    strict = kvm.Fleet({"a": kvm.Hypervisor(unix.Local(timeout=2), "test:///default")})
    assert strict.map(limit, timeout=7) == {"a": 2}
    with pytest.raises(kvm.FleetError) as caught:
        strict.using(timeout=0.2).execute("sleep 20")
    assert isinstance(caught.value.errors["a"], kvm.CommandTimeoutError | unix.CommandTimeoutError)


def test_an_error_of_any_kind_is_that_of_its_host(pair: kvm.Fleet) -> None:
    def wrong(hypervisor: kvm.Hypervisor) -> str:
        return dict[str, str]()["missing"] if hypervisor is pair["a"] else hypervisor.domain.state("nobody")

    with pytest.raises(kvm.FleetError) as caught:
        pair.map(wrong)
    assert {name: type(error) for name, error in caught.value.errors.items()} == {"a": KeyError, "b": kvm.NotFoundError}
    kinds = []
    try:
        raise caught.value
    except* kvm.NotFoundError as found:
        assert isinstance(found, kvm.FleetError)
        kinds.append(list(found.errors))
    except* KeyError as found:
        assert isinstance(found, kvm.FleetError)
        kinds.append(list(found.errors))
    assert kinds == [["b"], ["a"]]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), list(copy.errors)) == (str(caught.value), ["a", "b"])


def test_too_many_open_files_say_what_to_do(hosts: Hosts) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with hosts.fleet(workers=1) as fleet:
        taken = set(map(int, os.listdir("/proc/self/fd")))
        free = (number for number in itertools.count() if number not in taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, 40, None)), hard))
        try:
            told = fleet.domain.state("everywhere", return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        failed = {str(error).partition(": ")[2] for error in told.values() if isinstance(error, Exception)}
        assert 0 < list(told.values()).count("running") < MANY
        assert any(said.startswith("this program has as many files open as it may") for said in failed)
        assert fleet.domain.state("everywhere") == dict.fromkeys(fleet, "running")


# -- how many at once, and as they come ---------------------------------------------------------------------------


def test_no_more_hosts_are_asked_at_once_than_there_are_workers(fleet: kvm.Fleet) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def count(_: kvm.Hypervisor) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    fleet.map(count, workers=3)
    assert most == 3


def test_answers_are_taken_as_they_come(pair: kvm.Fleet) -> None:
    taken = threading.Event()

    def when_the_other_is_taken(hypervisor: kvm.Hypervisor) -> bool:
        return hypervisor is pair["b"] or taken.wait(30)

    answers = pair.imap(when_the_other_is_taken)
    assert next(answers) == ("b", True)
    taken.set()
    assert list(answers) == [("a", True)]


def test_what_has_not_begun_is_cancelled_when_nobody_wants_it(fleet: kvm.Fleet) -> None:
    asked: list[kvm.Hypervisor] = []
    unwanted = threading.Event()

    def ask(hypervisor: kvm.Hypervisor) -> None:
        asked.append(hypervisor)
        if len(asked) > 1:
            unwanted.wait(60)

    answers = fleet.imap(ask, workers=1)
    with closing(answers):  # type: ignore[type-var]
        next(answers)
    del answers
    unwanted.set()
    time.sleep(0.3)
    assert len(asked) <= 2


def test_an_empty_fleet_has_nothing_to_say() -> None:
    empty = kvm.Fleet({})
    assert empty.domain.list() == empty.find("x") == {}
    assert list(empty.imap(lambda hypervisor: 1)) == []
    assert empty.capacity()["total"]["memory"] == 0
    assert repr(empty) == "Fleet()"
    empty.close()


def test_settings_that_cannot_be_are_refused(pair: kvm.Fleet) -> None:
    with pytest.raises(kvm.InvalidArgumentError, match="workers is a number from 1"):
        pair.using(workers=0)
    with pytest.raises(kvm.InvalidArgumentError, match="timeout is a number of seconds"):
        pair.map(lambda _: None, timeout=-1)
    with pytest.raises(TypeError, match="an executor is"):
        pair.using(executor="threads")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not speed"):
        pair.using(speed=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Hypervisors by name"):
        kvm.Fleet({"a": unix.Local()})  # type: ignore[dict-item]
    with pytest.raises(kvm.InvalidArgumentError, match="group 'x' has hosts that the fleet does not: c"):
        kvm.Fleet(pair, groups={"x": ["a", "c"]})


# -- selecting, connecting, closing -------------------------------------------------------------------------------


def test_hosts_are_selected_by_name_group_and_pattern(fleet: kvm.Fleet) -> None:
    assert len(fleet) == MANY
    assert "hv05" in fleet
    assert isinstance(fleet["hv05"], kvm.Hypervisor)
    assert list(fleet.select("few")) == ["hv01", "hv02", "hv03", "hv20"]
    assert list(fleet.select("first", "hv1[89]", "hv02")) == ["hv01", "hv02", "hv03", "hv18", "hv19"]
    assert len(fleet.select("even")) == MANY / 2
    assert fleet.select("first").groups == {"even": ["hv02"], "first": ["hv01", "hv02", "hv03"],
                                            "few": ["hv01", "hv02", "hv03"]}  # fmt: skip
    assert fleet.select("hv01")["hv01"] is fleet["hv01"]
    with pytest.raises(kvm.NotFoundError, match=r"no host or group 'hv99'.* its groups: even, first, few"):
        fleet.select("hv99")
    with pytest.raises(KeyError, match="no host 'hv99'"):
        fleet["hv99"]


def test_it_disconnects_what_it_has_connected_and_nothing_else(hosts: Hosts) -> None:
    with hosts.sshd.connect() as given:
        with kvm.Fleet({"given": kvm.Hypervisor(given, hosts.uri("hv01"))}) as fleet:
            assert fleet.domain.state("everywhere") == {"given": "running"}
        assert given.execute("true").status
    with hosts.fleet() as fleet:
        with fleet.select("first") as first:
            assert first.execute("true")["hv01"].status
        assert fleet["hv01"].execute("true").status
    with pytest.raises(unix.ConnectError, match="not connected"):
        fleet["hv01"].execute("true")


def test_hosts_by_name_are_connected_when_they_are_asked(hosts: Hosts) -> None:
    def here(**more: Any) -> dict[str, Any]:
        return {"port": hosts.sshd.port, **hosts.connecting, **more}

    with kvm.Fleet.from_hosts([f"{user()}@127.0.77.1", "127.0.77.2"], hosts.uri("hv01"), **here()) as fleet:
        assert list(fleet.domain.list()) == [f"{user()}@127.0.77.1", "127.0.77.2"]
    with kvm.Fleet.from_hosts({"one": "127.0.77.1", "none": "127.0.77.99"}, hosts.uri("hv01"), **here()) as fleet:
        told = fleet.generic.uri(return_exceptions=True)
        assert told["one"] == hosts.uri("hv01")
        assert isinstance(told["none"], kvm.CannotConnectError)
    with pytest.raises(unix.ArgumentError, match="a host must be a text"):
        kvm.Fleet.from_hosts(["-oProxyCommand=x"])
    with pytest.raises(kvm.InvalidArgumentError, match="given twice: a"):
        kvm.Fleet.from_hosts(["a", "a"])
    with pytest.raises(TypeError, match="a list of names"):
        kvm.Fleet.from_hosts("hv1")


# -- what is asked of many ----------------------------------------------------------------------------------------


def test_a_domain_is_found_by_name_and_by_uuid_wherever_it_is(hosts: Hosts, fleet: kvm.Fleet) -> None:
    found = fleet.find("guest07")
    uuid = fleet["hv07"].domain.uuid("guest07")
    assert found == {
        "hv07": {"id": fleet["hv07"].domain.id("guest07"), "name": "guest07", "state": "running", "uuid": uuid}
    }
    assert fleet.find(uuid) == fleet.find(uuid.upper()) == fleet.find(uuid.replace("-", "")) == found
    assert list(fleet.find("everywhere")) == hosts.names
    assert [found["name"] for found in fleet.find("7").values()] == ["7"]
    fleet["hv07"].domain.destroy("guest07")
    assert fleet.find("guest07")["hv07"]["state"] == "shut off"
    fleet["hv07"].domain.start("guest07")
    assert fleet.find("nobody") == {}
    with pytest.raises(TypeError, match="ids differ by host"):
        fleet.find(7)  # type: ignore[call-overload]


def test_where_a_domain_was_found_is_not_lost_when_a_host_fails(hosts: Hosts, fleet: kvm.Fleet) -> None:
    four = kvm.Fleet({**fleet.select("first"), **hosts.others(refusing=free_port())})
    with pytest.raises(kvm.FleetError, match="1 of 4 hosts failed") as caught:
        four.find("guest02")
    assert list(caught.value.results) == ["hv02"]
    told = four.find("guest02", return_exceptions=True)
    assert list(told) == ["hv02", "refusing"]
    assert isinstance(told["refusing"], kvm.CannotConnectError)


def test_capacity_adds_up_what_is_there_and_what_is_promised(fleet: kvm.Fleet) -> None:
    fleet["hv03"].domain.destroy("guest03")
    try:
        told = fleet.capacity(over=0)
    finally:
        fleet["hv03"].domain.start("guest03")
    node = fleet["hv03"].generic.nodeinfo()
    assert told["hosts"]["hv03"] == {
        "cpus": node["cpus"], "cpus_used": None, "memory": int(node["memory_size"]), "memory_used": None,
        "defined": {"domains": 3, "cpus": 6, "memory": 3 * 8192 * 1024},
        "running": {"domains": 2, "cpus": 4, "memory": 2 * 8192 * 1024},
    }  # fmt: skip
    total = told["total"]
    assert total["memory"] == MANY * int(node["memory_size"])
    assert total["defined"] == {"domains": 3 * MANY, "cpus": 6 * MANY, "memory": 3 * MANY * 8192 * 1024}
    assert total["running"] == {"domains": 3 * MANY - 1, "cpus": 6 * MANY - 2, "memory": (3 * MANY - 1) * 8192 * 1024}


def test_capacity_of_a_real_hypervisor(libvirtd: Libvirtd, pair: kvm.Fleet) -> None:
    with kvm.Fleet({"qemu": kvm.Hypervisor(unix.Local(), libvirtd.uri)}) as fleet:
        guest = {"@type": "qemu", "memory": kvm.Quantity("65536 KiB"), "vcpu": {"@current": 2, "#text": 3},
                 "currentMemory": kvm.Quantity("60000 KiB"), "os": {"type": "hvm"}}  # fmt: skip
        names = ["running guest", "4711"]
        for name in names:
            fleet.domain.define({**guest, "name": name})
        fleet.domain.start(names[0])
        try:
            told = fleet.capacity(over=0.2)
            memory = fleet.generic.nodememstats()["qemu"]
        finally:
            fleet.domain.destroy(names[0])
            for name in names:
                fleet.domain.undefine(name)
    one = told["hosts"]["qemu"]
    assert one["running"] == {"domains": 1, "cpus": 2, "memory": 65536 * 1024}
    assert one["defined"] == {"domains": 2, "cpus": 4, "memory": 2 * 65536 * 1024}
    assert one["cpus"] == len(os.sched_getaffinity(0)) or one["cpus"] == os.cpu_count()
    assert one["cpus_used"] is not None
    assert 0 <= one["cpus_used"] <= one["cpus"]
    assert one["memory_used"] is not None
    assert 0 < one["memory_used"] < memory["total"]
    assert told["total"] == one
    both = kvm.Fleet({**pair, "qemu": kvm.Hypervisor(unix.Local(), libvirtd.uri)})
    with both:
        total = both.capacity(over=0)["total"]
    assert total["memory_used"] is None  # the test driver does not tell


def test_capacity_without_the_hosts_that_fail(hosts: Hosts, fleet: kvm.Fleet) -> None:
    both = kvm.Fleet({"hv01": fleet["hv01"], **hosts.others(refusing=free_port())})
    with pytest.raises(kvm.FleetError) as caught:
        both.capacity(over=0)
    told = both.capacity(over=0, return_exceptions=True)
    assert isinstance(told["hosts"]["refusing"], kvm.CannotConnectError)
    assert told["total"] == told["hosts"]["hv01"] == caught.value.results["hv01"]


# -- other executors ----------------------------------------------------------------------------------------------


def where_and_what(hypervisor: kvm.Hypervisor) -> tuple[int, dict[str, Any]]:
    return os.getpid(), dict(hypervisor.domain.list())


class UnpicklableError(Exception):
    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def fail_unpicklably(hypervisor: kvm.Hypervisor) -> None:
    raise UnpicklableError("it", "because")


def die(hypervisor: kvm.Hypervisor) -> str:
    if str(hypervisor.uri).endswith("hv02.xml"):
        os._exit(1)
    return hypervisor.domain.state("everywhere")


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_other_processes_can_do_the_work(hosts: Hosts, processes: ProcessPoolExecutor) -> None:
    before = len(hosts.sshd.sessions())
    with hosts.fleet(executor=processes).select("few") as fleet:
        told = fleet.map(where_and_what)
        assert os.getpid() not in {pid for pid, _ in told.values()}
        assert {name: listed for name, (_, listed) in told.items()} == fleet.domain.list()
        wait_until(lambda: len(hosts.sshd.sessions()) == before)  # what they connected is disconnected
        with pytest.raises(kvm.FleetError, match=r"no domain named '20'|failed to get domain '20'") as caught:
            fleet.domain.state("20")
        assert list(caught.value.results) == ["hv20"]
        assert isinstance(caught.value.errors["hv01"], kvm.NotFoundError)
        assert caught.value.errors["hv01"].command[0] == "domstate"


def test_an_error_that_does_not_pickle_is_told_in_words(hosts: Hosts, processes: ProcessPoolExecutor) -> None:
    with hosts.fleet(executor=processes).select("first") as fleet:
        told = fleet.map(fail_unpicklably, return_exceptions=True)
        assert {(type(error), str(error)) for error in told.values()} == {
            (kvm.KvmError, "UnpicklableError: it: because")
        }
        assert fleet.map(where_and_what)


def test_an_executor_that_breaks_down_is_an_error_of_the_hosts_it_left(
    hosts: Hosts, processes: ProcessPoolExecutor
) -> None:
    with hosts.fleet(executor=processes).select("first") as fleet:
        told = fleet.map(die, return_exceptions=True)
        assert isinstance(told["hv02"], concurrent.futures.BrokenExecutor)
        told = fleet.map(die, return_exceptions=True)  # it takes no more work
        assert all(isinstance(error, concurrent.futures.BrokenExecutor) for error in told.values())
        assert fleet.map(lambda hypervisor: 1, executor=None) == dict.fromkeys(fleet, 1)


def test_a_port_in_a_host_overrides_the_one_of_all_hosts(hosts: Hosts) -> None:
    names = [f"127.0.77.1:{hosts.sshd.port}", f"ssh://{user()}@127.0.77.2:{hosts.sshd.port}"]
    with kvm.Fleet.from_hosts(names, hosts.uri("hv01"), port=1, username="nobody", **hosts.connecting) as fleet:
        told = fleet.generic.uri(return_exceptions=True)
    assert told[names[1]] == hosts.uri("hv01")
    assert "nobody@127.0.77.1" in str(told[names[0]])


def test_a_password_is_in_no_pickle_of_a_fleet(hosts: Hosts) -> None:
    fleet = kvm.Fleet.from_hosts(["127.0.77.1"], password="seCret1", **hosts.connecting)
    assert b"seCret1" not in pickle.dumps(dict(fleet))
    assert "seCret1" not in repr(fleet)


def test_importing_kvm_loads_nothing_of_this() -> None:
    program = (
        "import sys, kvm; names = ('kvm.fleet', 'kvm.inventory', 'concurrent.futures', 'unix.remote', 'pickle');"
        "print([name for name in names if name in sys.modules], kvm.Fleet.__name__, kvm.InventoryError.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "[] Fleet InventoryError\n"
