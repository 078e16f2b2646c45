"""A fleet whose work a Dask cluster does: a scheduler and workers that are processes of their own, on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kvm
from hosts import Hosts
from ports import free_port
from waiting import wait_until

distributed = pytest.importorskip("distributed", reason="pip install 'python-kvm[dask]'")

MANY = 10
ROOT = Path(__file__).parents[1]


class Cluster:
    """A scheduler and workers of one process each, with two threads."""

    def __init__(self, directory: Path, workers: int, **env: str) -> None:
        self._directory = directory
        self._env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", **env}
        self._file = directory / "scheduler.json"
        self._processes = [self._start("scheduler", "--host", "127.0.0.1", "--port", "0")]
        for _ in range(workers):
            self.start_worker()
        self.client = distributed.Client(self._address(), timeout=30)
        self.client.wait_for_workers(workers, timeout=60)

    def start_worker(self) -> None:
        here = ["--host", "127.0.0.1", "--local-directory", str(self._directory)]
        self._processes.append(self._start("worker", "--no-nanny", "--nworkers", "1", "--nthreads", "2", *here))

    def close(self) -> None:
        self.client.close()
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(self._file)]
        with (self._directory / f"{what}.log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command, "--no-dashboard", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env,
            )  # fmt: skip

    def _address(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._file.exists() and (said := self._file.read_text()):
                address: str = json.loads(said)["address"]
                return address
            time.sleep(0.05)
        raise RuntimeError((self._directory / "scheduler.log").read_text())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    directory = tmp_path_factory.mktemp("hosts")
    directory.chmod(0o755)
    hosts = Hosts(directory, MANY)
    yield hosts
    hosts.sshd.remove()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("dask"), 2)
    yield cluster
    cluster.close()


@pytest.fixture
def fleet(hosts: Hosts, cluster: Cluster) -> Iterator[kvm.Fleet]:
    with hosts.fleet(executor=cluster.client.get_executor()) as fleet:
        yield fleet


def where_and_what(hypervisor: kvm.Hypervisor) -> tuple[int, dict[str, Any]]:
    return os.getpid(), dict(hypervisor.domain.list())


def test_workers_do_what_is_asked_of_each_host(fleet: kvm.Fleet) -> None:
    told = fleet.map(where_and_what)
    assert list(told) == list(fleet)
    assert len({pid for pid, _ in told.values()} - {os.getpid()}) == 2
    assert {name: listed for name, (_, listed) in told.items()} == fleet.using(executor=None).domain.list()
    assert list(fleet.find("guest07")) == ["hv07"]
    assert fleet.capacity(over=0)["total"]["defined"]["domains"] == 3 * MANY


def test_errors_are_those_of_their_hosts(fleet: kvm.Fleet, hosts: Hosts) -> None:
    refusing = hosts.others(refusing=free_port())
    both = kvm.Fleet({**fleet.select("first"), **refusing}).using(executor=fleet._settings.executor)
    with pytest.raises(kvm.FleetError) as caught:
        both.domain.state("guest02")
    errors = {name: type(error) for name, error in caught.value.errors.items()}
    assert errors == {"hv01": kvm.NotFoundError, "hv03": kvm.NotFoundError, "refusing": kvm.CannotConnectError}
    assert caught.value.results == {"hv02": "running"}


def test_a_function_that_no_worker_can_import_goes_there_as_it_is(fleet: kvm.Fleet) -> None:
    which = "everywhere"
    assert fleet.select("first").map(lambda hypervisor: hypervisor.domain.state(which))["hv02"] == "running"


def new(hypervisor: kvm.Hypervisor) -> str:
    return kvm.gen_uuid()


def test_the_same_call_is_carried_out_as_often_as_it_is_made(fleet: kvm.Fleet) -> None:
    """A cluster would remember the result of what it takes for a pure function."""
    one = fleet.select("hv01")
    calls = [one.imap(new) for _ in range(3)]
    assert len({next(call) for call in calls}) == 3


def slowly(hypervisor: kvm.Hypervisor) -> tuple[int, dict[str, Any]]:
    time.sleep(0.3)
    return where_and_what(hypervisor)


def test_nothing_is_lost_with_a_worker_that_is_killed(fleet: kvm.Fleet, cluster: Cluster) -> None:
    answers = fleet.imap(slowly)
    name, first = next(answers)
    assert not isinstance(first, Exception)
    killed, _ = first
    os.kill(killed, signal.SIGKILL)
    told = {name: first, **dict(answers)}
    assert set(told) == set(fleet)
    expected = fleet.using(executor=None).domain.list()
    survivors = set()
    for host, value in told.items():
        assert not isinstance(value, Exception), value
        pid, listed = value
        assert listed == expected[host]
        survivors.add(pid)
    assert survivors - {killed}
    cluster.start_worker()
    cluster.client.wait_for_workers(2, timeout=60)
    assert fleet.select("first").domain.state("everywhere") == dict.fromkeys(("hv01", "hv02", "hv03"), "running")


def note_and_wait(directory: Path, hypervisor: kvm.Hypervisor) -> int:
    (directory / f"{Path(str(hypervisor.uri)).stem}-{os.getpid()}").touch()
    wait_until((directory.parent / "killed").exists)
    return os.getpid()


def test_a_cluster_that_is_told_so_repeats_nothing(hosts: Hosts, tmp_path: Path) -> None:
    """What a lost worker was doing is an error then, and no host was asked twice."""
    noted = tmp_path / "noted"
    noted.mkdir()
    cluster = Cluster(tmp_path, 2, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    try:
        with hosts.fleet(executor=cluster.client.get_executor()) as fleet:
            answers = fleet.select("first").imap(partial(note_and_wait, noted))
            wait_until(lambda: os.listdir(noted))
            running = [name.split("-") for name in os.listdir(noted)]
            os.kill(int(running[0][1]), signal.SIGKILL)
            (tmp_path / "killed").touch()
            told = dict(answers)
        assert isinstance(told[running[0][0]], distributed.KilledWorker)
        asked = [name.split("-")[0] for name in os.listdir(noted)]
        assert len(asked) == len(set(asked))
    finally:
        cluster.close()


def test_a_time_limit_is_kept_by_workers(fleet: kvm.Fleet) -> None:
    few = fleet.select("first")
    told = few.map(lambda hypervisor: time.sleep(0 if str(hypervisor.uri).endswith("hv01.xml") else 15), timeout=6,
                   return_exceptions=True)  # fmt: skip
    assert told["hv01"] is None
    assert str(told["hv02"]).startswith("hv02: no answer within 6 s")
    assert isinstance(told["hv02"], kvm.CommandTimeoutError)
