"""The live virsh: the answers of a process of its own, at any fault the right value or the right error."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import unix
from conftest import Estate
from kvm import (
    CannotConnectError,
    CommandTimeoutError,
    ConnectionLostError,
    Hypervisor,
    KvmError,
    NotFoundError,
    redaction,
)
from kvm.virsh import manners, process, prompt, sessions
from kvm.virsh.command import Command
from kvm.virsh.process import OneProcessEach
from libvirtd import Libvirtd
from waiting import wait_until

NEWEST = max(
    (Path(__file__).parents[1] / "tools" / "virsh").glob("commands-*.json"),
    key=lambda path: [int(part) for part in re.findall(r"[0-9]+", path.name)],
)
"""The command line of the newest virsh that was extracted."""

system_only = pytest.mark.skipif(os.geteuid() != 0, reason="only a system daemon can be killed and restarted here")


@pytest.fixture
def live(test_driver: Hypervisor) -> Hypervisor:
    return test_driver


@pytest.fixture(autouse=True)
def alone() -> None:
    """No virsh of a test before."""
    gc.collect()


@pytest.fixture
def daemon() -> Iterator[Libvirtd]:
    """A libvirtd to break."""
    daemon = Libvirtd()
    yield daemon
    daemon.stop()


def virshes() -> list[int]:
    """The virsh processes that this one has started, or an sshd of its own."""
    names, parents = {}, {}
    for number in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            before, _, behind = Path(f"/proc/{number}/stat").read_text().rpartition(")")
            names[number], parents[number] = before.partition("(")[2], int(behind.split()[1])
        except (OSError, IndexError):
            continue

    def is_ours(number: int) -> bool:
        return number == os.getpid() or (number in parents and is_ours(parents[number]))

    return [number for number, name in names.items() if name == "virsh" and is_ours(number)]


def is_alive(virsh: int) -> bool:
    """Whether it is no zombie, which the start of another process would take away."""
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{virsh}/status").read_text()
    return False


# -- one virsh, its state, its end


def test_one_virsh_answers_everything(live: Hypervisor) -> None:
    before = virshes()
    for _ in range(20):
        live.generic.nodeinfo()
        live.domain.info("test")
        live.virsh("list")
    assert len(set(virshes()) - set(before)) == 1


def test_the_test_hypervisor_keeps_its_state(live: Hypervisor) -> None:
    guest = {"@type": "test", "name": "guest", "memory": 8192, "os": {"type": "hvm"}}
    live.domain.define(guest)
    assert live.list_domains(all=True)["guest"] == {"id": None, "state": "shut off"}
    live.domain.start("guest")
    assert live.domain.state("guest") == "running"
    assert live.virsh("snapshot-create-as", "guest", "first").status  # type: ignore[union-attr]
    with live.set_controls(parse=True):
        assert live.virsh("snapshot-list", "guest", name=True) == ["first"]
    live.domain.suspend("guest")
    live.domain.resume("guest")
    live.domain.destroy("guest")
    live.domain.undefine("guest", snapshots_metadata=True)
    assert list(live.list_domains(all=True)) == ["test"]
    with pytest.raises(KvmError, match="Failed to define domain from /dev/stdin"):
        live.domain.define("<domain type='test'/>")


def test_it_ends_with_the_hypervisor(test_driver: Hypervisor) -> None:
    before = set(virshes())
    with test_driver:
        test_driver.generic.uri()
        assert set(virshes()) - before
    assert set(virshes()) == before
    test_driver.generic.uri()
    assert set(virshes()) - before
    test_driver.close()
    other = Hypervisor(unix.Local(), "test:///default")
    other.generic.uri()
    del other
    gc.collect()
    assert set(virshes()) == before


@pytest.mark.parametrize("end", ["exit", "exception", "SIGKILL"])
def test_it_never_outlives_the_program(end: str) -> None:
    program = (
        "import kvm, unix, os, signal, sys\n"
        "h = kvm.Hypervisor(unix.Local(), 'test:///default'); h.generic.uri()\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read(), flush=True)\n"
    ) + {"exit": "", "exception": "raise SystemExit(1)", "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)"}[end]
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout
    (virsh,) = map(int, printed.split())
    wait_until(lambda: not Path(f"/proc/{virsh}").exists() or "Z" in Path(f"/proc/{virsh}/stat").read_text().split())


def test_a_forked_child_has_a_virsh_of_its_own(live: Hypervisor) -> None:
    mine = live.generic.uri()
    ours = set(virshes())
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            live.domain.destroy("test")
            os.write(write, f"{live.domain.state('test')},{len(set(virshes()) & ours)}".encode())
            live.close()
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as pipe:
        assert pipe.read() == "shut off,0"
    os.waitpid(child, 0)
    assert live.generic.uri() == mine
    assert live.domain.state("test") == "running"
    assert set(virshes()) == ours


def test_an_unused_virsh_ends_and_the_next_call_starts_another(libvirtd: Libvirtd) -> None:
    before = set(virshes())
    with Hypervisor(unix.Local(), libvirtd.uri, idle=0.3) as hypervisor:
        hypervisor.generic.uri()
        first = set(virshes()) - before
        assert len(first) == 1
        wait_until(lambda: set(virshes()) == before)
        hypervisor.generic.uri()
        assert (set(virshes()) - before).isdisjoint(first)


def test_neither_commands_nor_secrets_get_into_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    history = tmp_path / ".cache" / "libvirt" / "virsh" / "history"
    history.parent.mkdir(parents=True)
    history.write_text("list --all\n")
    with Hypervisor(unix.Local(), "test:///default") as hypervisor:
        hypervisor.virsh("echo", "secret")
    assert history.read_text() == "list --all\n"
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == [str(history)]


def test_arguments_are_on_no_command_line(live: Hypervisor) -> None:
    secret = os.urandom(8).hex()
    seen: list[bytes] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for virsh in virshes():
                try:
                    seen.append(Path(f"/proc/{virsh}/cmdline").read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(50):
        live.virsh("echo", secret)
    stop.set()
    watcher.join()
    assert seen
    assert not any(secret.encode() in each for each in seen)


# -- the same answer either way

COMMANDS: list[list[str]] = [
    ["nodeinfo"],
    ["nodecpumap", "--pretty"],
    ["freecell", "--all"],
    ["freepages", "--all"],
    ["freepages"],
    ["capabilities"],
    ["cpu-models", "x86_64"],
    ["cpu-models", "abacus"],
    ["cpu-compare", "/dev/null"],
    ["cpu-compare", "/nowhere"],
    ["maxvcpus"],
    ["nodememstats"],
    ["node-memory-tune"],
    ["node-memory-tune", "--", "-1"],
    ["nodesevinfo"],
    ["sysinfo"],
    ["version", "--daemon"],
    ["uri"],
    ["list", "--all", "--title"],
    ["list", "--all", "--uuid", "--name"],
    ["domstate", "test", "--reason"],
    ["domid", "test"],
    ["domuuid", "nobody"],
    ["dominfo"],
    ["dominfo", "nobody"],
    ["dominfo", "a\tb"],
    ["dominfo", ""],
    ["dominfo", "a", "b"],
    ["dumpxml", "test"],
    ["start", "test"],
    ["undefine", "nobody"],
    ["destroy", '--domain=it\'s "q" \\ é'],
    ["resume", "test", "--frob"],
    ["net-list", "--all"],
    ["net-info", "nobody"],
    ["net-dumpxml", "default"],
    ["pool-list", "--details"],
    ["vol-list", "default-pool"],
    ["vol-info", "nothing", "--pool", "default-pool"],
    ["iface-list"],
    ["nodedev-list"],
    ["snapshot-list", "test"],
    ["snapshot-info", "test", "nothing"],
    ["domstats"],
    ["schedinfo", "test"],
    ["memtune", "test"],
    ["vcpuinfo", "test"],
    ["desc", "test"],
    ["frobnicate"],
    ["help", "list"],
    ["help", "frobnicate"],
    ["echo", "a  b"],
    ["list", "--all", "--name", "--table"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_answer_is_that_of_a_process_of_its_own(live: Hypervisor, words: list[str]) -> None:
    live.virsh("list", "--all")  # so that there is a virsh with a past
    answer = live.virsh(words[0], *words[1:])
    assert isinstance(answer, unix.Result)
    alone = OneProcessEach(unix.Local(), "test:///default").run_words(words)
    assert (answer, answer.return_code) == (alone, alone.return_code)


VALUES = {
    "domain": "test", "pool": "default-pool", "network": "default", "interface": "eth1", "file": "/dev/null",
    "device": "computer", "target": "vda", "cpulist": "0", "desturi": "test:///default", "type": "dir",
}  # fmt: skip
"""What the test hypervisor has, for options of these names."""

UNSTEADY = {"dump", "managedsave", "migrate", "save", "restore", "capabilities", "screenshot"}
"""Commands in which virsh hangs now and then, waiting for its own thread; one that (in 7.0) tells the errno of
something before; one that counts free pages; and one that makes a file named by the time."""


def command_lines(group: str) -> Iterator[list[str]]:
    """Each command of a group, without its arguments and with something for those that it requires."""
    for name, options in json.loads(NEWEST.read_text())["groups"][group].items():
        if name not in UNSTEADY and not manners.goes_alone([name]):
            yield [name]
            words = [name, *(f"--{o['name']}={VALUES.get(o['name'], '1')}" for o in options if o["required"])]
            if not redaction.secrets(words):  # they are on no command line
                yield words


def without_numbers(result: unix.Result) -> tuple[int, str, str]:
    """A result without what is made up anew, such as the UUIDs of the test hypervisor and the time."""
    stdout, stderr = (re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+", "N", text) for text in result[1:])
    return result.return_code, stdout, stderr


@pytest.mark.parametrize("group", json.loads(NEWEST.read_text())["groups"])
def test_every_command_has_the_answer_of_a_process_of_its_own(group: str) -> None:
    def differs(words: list[str]) -> list[object]:
        with Hypervisor(unix.Local(timeout=60), "test:///default") as live:
            for past in (["list"], ["dominfo", "nobody"], ["net-info", "nobody"], ["snapshot-info", "test", "none"]):
                live.virsh(*past)
            answer = live._virsh.run_words(words)
        alone = OneProcessEach(unix.Local(timeout=60), "test:///default").run_words(words)
        return [] if without_numbers(answer) == without_numbers(alone) else [words, answer, alone]

    with ThreadPoolExecutor(4) as threads:
        assert [found for found in threads.map(differs, command_lines(group)) if found] == []


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["iface-destroy", "eth1"], True),
        (["iface-destroy", "eth7"], False),
        (["ttyconsole", "test"], False),
        (["net-port-delete", "default", "nothing"], False),
    ],
    ids=str,
)
def test_what_was_done_counts_and_not_what_virsh_exits_with(live: Hypervisor, words: list[str], status: bool) -> None:
    assert live.virsh(*words)[0] == status
    assert OneProcessEach(unix.Local(), "test:///default").run_words(words).status == status


@system_only
def test_what_cannot_be_removed_is_told_of_a_domain_that_was_undefined(hypervisor: Hypervisor) -> None:
    disk = {"@type": "file", "source": {"@file": "/nowhere/disk"}, "target": {"@dev": "vda", "@bus": "virtio"}}
    guest = {"@type": "qemu", "name": "guest", "memory": 65536, "os": {"type": "hvm"}, "devices": {"disk": disk}}
    for run in (hypervisor._virsh.run_words, OneProcessEach(unix.Local(), hypervisor.uri).run_words):
        hypervisor.domain.define(guest)
        result = run(["undefine", "guest", "--remove-all-storage"])
        assert (result.status, list(hypervisor.list_domains(all=True))) == (True, [])
        assert "is not managed by libvirt. Remove it manually" in result.stderr


def test_results_in_a_row_are_not_mixed_up(live: Hypervisor) -> None:
    expected = [OneProcessEach(unix.Local(), "test:///default").run_words(words) for words in COMMANDS]
    nobodies = [Command("domid", {"domain": f"nobody {number}"}) for number in range(500)]
    said = [result.stderr for result in live._virsh.run(nobodies)]
    assert said == [f"error: failed to get domain 'nobody {number}'\n" for number in range(500)]
    assert [live.virsh(words[0], *words[1:]) for words in COMMANDS] == expected


# -- many


def test_10000_commands_written_ahead_while_100_megabytes_come_back(live: Hypervisor) -> None:
    size = len(live._virsh.run([Command("capabilities", {})])[0].stdout)
    count = max(10_000, 100_000_000 // size + 1)
    results = live._virsh.run([Command("capabilities", {})] * count)
    assert len(results) == count
    assert {len(result.stdout) for result in results} == {size}
    assert size * count >= 100_000_000


def test_32_threads_share_at_most_4_virshes(libvirtd: Libvirtd) -> None:
    most = [0]
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:

        def ask(number: int) -> bool:
            right = hypervisor.virsh("echo", str(number)).stdout == f"{number}\n"  # type: ignore[union-attr]
            right &= hypervisor.generic.uri() == libvirtd.uri
            if number % 10 == 0:
                most[0] = max(most[0], len(virshes()))
            return right

        before = len(virshes())
        with ThreadPoolExecutor(32) as threads:
            assert all(threads.map(ask, range(2000)))
        assert 1 <= most[0] - before <= 4
        assert len(virshes()) - before <= 4


def test_threads_that_ask_first_at_the_same_time_ask_the_same_hypervisor(estate: Estate) -> None:
    for _ in range(5):
        with estate("a", "b") as hypervisor, ThreadPoolExecutor(16) as threads:
            start = threading.Barrier(16)

            def first(number: int, hypervisor: Hypervisor = hypervisor, start: threading.Barrier = start) -> bool:
                start.wait()
                return bool(hypervisor.domain.autostart("a")) if number else bool(hypervisor.domain.destroy("b"))

            assert all(threads.map(first, range(16)))
            assert len(virshes()) == 1
            assert hypervisor.domain.state("b") == "shut off"


# -- faults


def test_a_command_that_is_not_answered_is_a_timeout_and_the_next_works(libvirtd: Libvirtd) -> None:
    before = set(virshes())
    with Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        hypervisor.generic.uri()
        (virsh,) = set(virshes()) - before
        os.kill(virsh, signal.SIGSTOP)
        with hypervisor.set_controls(timeout=0.3), pytest.raises(CommandTimeoutError, match=r"within 0\.3 s$"):
            hypervisor.generic.nodeinfo()
        assert not Path(f"/proc/{virsh}").exists()
        assert hypervisor.generic.uri() == libvirtd.uri


@system_only
def test_a_daemon_that_stands_still_is_a_timeout_that_leaves_an_action_unknown(daemon: Libvirtd) -> None:
    with Hypervisor(unix.Local(), daemon.uri) as hypervisor:
        hypervisor.generic.nodeinfo()
        with daemon.stopped(), hypervisor.set_controls(timeout=0.3):
            with pytest.raises(CommandTimeoutError, match="the outcome of destroy is unknown"):
                hypervisor.domain.destroy("x")
            with pytest.raises(CommandTimeoutError, match=r"within 0\.3 s$"):
                hypervisor.generic.nodeinfo()
        assert hypervisor.generic.nodeinfo()["cpus"] == os.cpu_count()


@system_only
def test_whatever_a_virsh_had_been_given_before_the_time_was_up_may_have_been_done(daemon: Libvirtd) -> None:
    with Hypervisor(unix.Local(), daemon.uri) as hypervisor:
        hypervisor.generic.uri()
        with daemon.stopped(), hypervisor.set_controls(timeout=0.3), hypervisor.pipeline() as pipe:
            pipe.domain.destroy("x")
            pipe.generic.uri()
            pipe.domain.undefine("x")
            destroyed, uri, undefined = map(str, pipe.execute(raise_on_error=False))
    assert destroyed.endswith("the outcome of destroy is unknown")
    assert uri.endswith("within 0.3 s")
    assert undefined.endswith("the outcome of undefine is unknown")


def test_in_a_pipeline_the_time_is_each_call_s_own(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        hypervisor.generic.uri()
        started = time.monotonic()
        with hypervisor.set_controls(timeout=5.5):
            results = hypervisor._virsh.run([Command("nodecpustats", {"cpu": 0, "percent": True})] * 3)
        assert time.monotonic() - started > 5.9  # each of them measures for two seconds
        assert all(results)


def test_no_limit_can_be_given_as_infinity(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local(timeout=math.inf), libvirtd.uri) as hypervisor:
        assert hypervisor.generic.uri() == libvirtd.uri


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_ctrl_c_loses_no_virsh_s_place_wherever_it_comes(libvirtd: Libvirtd, is_there: bool) -> None:
    with Hypervisor(unix.Local(), libvirtd.uri, sessions=1) as hypervisor:
        for number in itertools.count():
            if not is_there:
                hypervisor.close()
            with contextlib.suppress(KeyboardInterrupt), interrupted_at(number, sessions.__file__):
                hypervisor.generic.uri()
                break
            with hypervisor.set_controls(timeout=60):
                assert hypervisor.generic.uri() == libvirtd.uri
            wait_until(lambda: sum(map(is_alive, virshes())) == 1)
    assert number > 15


@contextlib.contextmanager
def interrupted_at(number: int, file: str) -> Iterator[None]:
    """A block that a Ctrl-C interrupts before so many lines of a file have run."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename == file and event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace if frame.f_code.co_filename == file or event == "call" else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_where_no_thread_can_be_started_any_more_virsh_still_answers(
    libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a function that Python calls at its end."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with Hypervisor(unix.Local(), libvirtd.uri, sessions=1) as hypervisor:
        monkeypatch.setattr(threading.Thread, "start", start)
        with hypervisor.set_controls(timeout=60):
            assert hypervisor.generic.uri() == libvirtd.uri
            assert hypervisor.generic.uri() == libvirtd.uri


def test_a_virsh_that_died_while_unused_is_replaced_also_for_an_action(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        for _ in range(5):
            kill_virsh_of(hypervisor)
            with pytest.raises(NotFoundError):
                hypervisor.domain.destroy("nobody")


def test_a_test_hypervisor_that_died_while_unused_is_said_to_be_gone(live: Hypervisor) -> None:
    live.domain.destroy("test")
    kill_virsh_of(live)
    with pytest.raises(ConnectionLostError, match="the state of test:///default is lost with it"):
        live.domain.state("test")
    assert live.domain.state("test") == "running"


def kill_virsh_of(hypervisor: Hypervisor) -> None:
    """Kill the one virsh that there is, once it has answered."""
    hypervisor.generic.uri()
    (virsh,) = virshes()
    os.kill(virsh, signal.SIGKILL)


@pytest.mark.parametrize("after", [0.0, 0.0002, 0.001, 0.003, 0.01])
def test_a_virsh_killed_in_the_middle_of_an_answer(libvirtd: Libvirtd, after: float) -> None:
    """Reads are asked once more, and actions are not: their outcome is said to be unknown."""
    with Hypervisor(unix.Local(timeout=30), libvirtd.uri) as hypervisor:
        before = set(virshes())
        hypervisor.generic.uri()
        (virsh,) = set(virshes()) - before
        threading.Timer(after, os.kill, [virsh, signal.SIGKILL]).start()
        with hypervisor.pipeline() as pipe:
            for number in range(300):
                if number % 2:
                    pipe.domain.undefine(f"nobody {number}")
                else:
                    pipe.generic.cpu_models("x86_64")
            values = pipe.execute(raise_on_error=False)
        for number, value in enumerate(values):
            if number % 2:
                assert isinstance(value, NotFoundError | ConnectionLostError)
                if isinstance(value, ConnectionLostError):
                    assert "the outcome of undefine is unknown" in str(value)
                else:
                    assert f"'nobody {number}'" in str(value)
            else:
                assert "qemu64" in value
        assert hypervisor.generic.uri() == libvirtd.uri


def test_close_leaves_no_thread_behind(libvirtd: Libvirtd) -> None:
    before = set(threading.enumerate())
    with Hypervisor(unix.Local(), libvirtd.uri, idle=1000) as hypervisor:
        hypervisor.generic.uri()
    wait_until(lambda: set(threading.enumerate()) <= before, threading.enumerate)


@system_only
def test_a_daemon_that_restarts_is_reconnected_to(daemon: Libvirtd) -> None:
    with Hypervisor(unix.Local(timeout=30), daemon.uri) as hypervisor:
        hypervisor.generic.nodeinfo()
        daemon.down()
        with pytest.raises((CannotConnectError, ConnectionLostError)):
            hypervisor.generic.nodeinfo()
        with pytest.raises((CannotConnectError, ConnectionLostError)):
            hypervisor.domain.destroy("x")
        daemon.up()
        assert hypervisor.generic.nodeinfo()["cpus"] == os.cpu_count()
        daemon.down()
        daemon.up()
        assert hypervisor.generic.nodeinfo()["cpus"] == os.cpu_count()
        daemon.down()
        daemon.up()
        with pytest.raises(NotFoundError):
            hypervisor.domain.destroy("x")


def test_a_test_hypervisor_that_is_lost_is_not_asked_again(estate: Estate) -> None:
    before = set(virshes())
    with estate("guest") as hypervisor:
        hypervisor.domain.destroy("guest")
        (virsh,) = set(virshes()) - before
        threading.Timer(0.05, os.kill, [virsh, signal.SIGKILL]).start()
        with pytest.raises(ConnectionLostError), hypervisor.pipeline() as pipe:
            for _ in range(20_000):
                pipe.domain.state("guest")
            pipe.execute()


def test_a_named_connection_that_fails_says_so_for_every_command_of_a_batch(tmp_path: Path) -> None:
    with (
        Hypervisor(unix.Local(), f"qemu:///system?socket={tmp_path}/none") as hypervisor,
        hypervisor.pipeline() as pipe,
    ):
        pipe.generic.uri()
        pipe.domain.destroy("x")
        values = pipe.execute(raise_on_error=False)
    assert [type(value) for value in values] == [CannotConnectError] * 2


def test_a_virsh_that_does_not_even_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "virsh").write_text("#!/bin/sh\necho virsh: cannot load libvirt.so >&2\nexit 3\n")
    (tmp_path / "virsh").chmod(0o755)
    host = unix.Local(envs={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with Hypervisor(host, "test:///default") as hypervisor, pytest.raises(KvmError, match=r"cannot load libvirt\.so"):
        hypervisor.generic.uri()


def test_controls_choose_the_virsh_that_they_fit(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local()) as hypervisor:
        with hypervisor.set_controls(envs={"LIBVIRT_DEFAULT_URI": "test:///default"}):
            assert hypervisor.generic.uri() == "test:///default"
        with hypervisor.set_controls(envs={"LIBVIRT_DEFAULT_URI": libvirtd.uri}):
            assert hypervisor.generic.uri() == libvirtd.uri


@pytest.mark.skipif(bool(os.environ.get("VIRSH")), reason="a virsh behind another root starts that root's daemon")
def test_a_session_daemon_that_virsh_starts_has_the_user_s_own_environment() -> None:
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        runtime = Path(home) / "run"
        runtime.mkdir()
        if user:
            for directory in (home, runtime):
                shutil.chown(directory, user)
        host = unix.Local(su=user, timeout=60, envs={"HOME": home, "XDG_RUNTIME_DIR": str(runtime)})
        with Hypervisor(host, "qemu:///session") as hypervisor:
            assert hypervisor.generic.uri() == "qemu:///session"
            assert hypervisor.list_domains(all=True) == {}
            daemon = int((runtime / "libvirt" / "libvirtd.pid").read_text())
            environment = Path(f"/proc/{daemon}/environ").read_bytes().split(b"\0")
        os.kill(daemon, signal.SIGTERM)
        assert not [each for each in environment if each.startswith((b"XDG_CACHE_HOME=/dev/null", b"VIRSH_"))]
        wait_until(lambda: not Path(f"/proc/{daemon}").exists() or "Z" in Path(f"/proc/{daemon}/stat").read_text())


@pytest.mark.skipif(bool(os.environ.get("VIRSH")), reason="a virsh behind another root starts that root's daemon")
@pytest.mark.parametrize("cache", ["", "the cache"])
def test_session_daemon_is_found_without_runtime_directory(cache: str, host: unix.Host) -> None:
    """As in cron jobs, behind ``su -`` and in containers: libvirt takes the user's cache directory then."""
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        user = "nobody" if os.geteuid() == 0 else None
        if user:
            shutil.chown(home, user)
        at = Path(home, cache or ".cache")
        envs = {"HOME": home, "XDG_RUNTIME_DIR": "", "XDG_CACHE_HOME": str(at) if cache else ""}
        pid = at / "libvirt" / "libvirtd.pid"
        try:
            with host.set_controls(su=user, envs=envs), Hypervisor(host, "qemu:///session") as hypervisor:
                assert hypervisor.generic.uri() == "qemu:///session"
                assert hypervisor.list_domains(all=True) == {}
                assert pid.exists()
        finally:
            if pid.exists():
                os.kill(int(pid.read_text()), signal.SIGTERM)
                wait_until(lambda: not pid.exists())


# -- a virsh that prints without end

PROMPT = r"Welcome to virsh\n\nvirsh # "


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> unix.Local:
    """A host whose virsh prints 64 MiB for its first command, with 8 MiB as the bound, and no end of it."""
    greeting = f"[ $# -gt 1 ] || {{ printf '{PROMPT}'; read -r line; }}"
    script = f"#!/bin/sh\n{greeting}\nhead -c 67108864 /dev/zero\nexec sleep 600\n"
    (tmp_path / "virsh").write_text(script)
    (tmp_path / "virsh").chmod(0o755)
    for module in (prompt, process):
        monkeypatch.setattr(module, "MAX_REPLY_BYTES", 8 << 20)
    return unix.Local(envs={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=20)


def test_session_that_prints_without_end_is_ended(endless: unix.Local) -> None:
    with Hypervisor(endless, "qemu:///system") as hypervisor:
        with pytest.raises(KvmError, match=r"printed more than 8 MiB for one command and was ended$"):
            hypervisor.generic.nodeinfo()
        with pytest.raises(KvmError, match=r"printed more than 8 MiB .* outcome of destroy is unknown") as raised:
            hypervisor.domain.destroy("guest")
        assert raised.value.outcome_unknown


def test_one_shot_command_with_endless_output_is_ended(endless: unix.Local) -> None:
    commands = OneProcessEach(endless, "qemu:///system")
    read, acted = commands.run_words(["domtime"], reads=True), commands.run_words(["domtime"])
    assert "printed more than 8 MiB for one command and was ended" in read.stderr
    assert (read.outcome_unknown, acted.outcome_unknown) == (False, True)


def test_greeting_without_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "virsh").write_text("#!/bin/sh\nprintf 'Welcome to '\nhead -c 67108864 /dev/zero\nexec sleep 600\n")
    (tmp_path / "virsh").chmod(0o755)
    host = unix.Local(envs={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=20)
    with (
        Hypervisor(host, "qemu:///system") as hypervisor,
        pytest.raises(KvmError, match="printed more than 1 MiB"),
    ):
        hypervisor.generic.nodeinfo()
