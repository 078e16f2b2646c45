"""Commands run, are fed, read, timed and ended; nothing of them stays behind."""

import getpass
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import unix
from unix import CommandTimeoutError, Host, Local, Result
from waiting import wait_until


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def child_processes() -> set[str]:
    """The children of this process, zombies included."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def processes_of_session(leader: int) -> list[int]:
    """The processes, zombies aside, in the session that `leader` began."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, _, session = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(name))
    return found


def test_a_result_unpacks_to_status_and_both_outputs(host: Host) -> None:
    status, stdout, stderr = host.execute("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (status, stdout, stderr) == (False, "out\n", "err\n")
    result = host.execute("sh", "-c", "exit 3")
    assert result.return_code == 3
    assert not result
    assert host.execute("true")


def test_a_result_pickles_whole() -> None:
    result = pickle.loads(pickle.dumps(Result(3, "out", "err")))
    assert (result, result.return_code) == ((False, "out", "err"), 3)


def test_a_command_killed_by_a_signal_has_a_negative_return_code(host: Host) -> None:
    assert host.execute("sh", "-c", "kill -9 $$").return_code == -signal.SIGKILL


def test_a_command_that_does_not_exist_or_cannot_run_is_told_as_a_shell_would(host: Host, tmp_path: Path) -> None:
    missing = host.execute("no-such-command")
    assert (missing.return_code, missing.stderr) == (127, "no-such-command: command not found\n")
    (tmp_path / "data").write_text("no program")
    assert host.execute(str(tmp_path / "data")).return_code == 126
    assert [*host.iter("no-such-command")][-1] == ("status", False)
    with pytest.raises(FileNotFoundError):
        host.popen(["no-such-command"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run commands as other users")
def test_a_command_that_is_nowhere_is_not_found_even_if_some_directory_may_not_be_searched(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    tmp_path.chmod(0o700)
    missing = Local(su="nobody", envs={"PATH": f"{closed}:/usr/bin:/bin"}).execute("no-such-command")
    assert (missing.return_code, missing.stderr) == (127, "no-such-command: command not found\n")


def test_run_passes_words_verbatim_and_feeds_its_input(host: Host) -> None:
    assert host.run(["cat", "-"], input="a\nb é").stdout == "a\nb é"
    assert host.run(["cat"], input=b"\xff").stdout == "\udcff"
    assert host.run(["cat"]).stdout == ""


def test_a_command_that_does_not_read_its_input_is_no_error(host: Host) -> None:
    assert host.run(["true"], input=b"x" * 10_000_000)


def test_100_megabytes_on_both_outputs_at_once_arrive_whole(host: Host) -> None:
    size = 100_000_000
    script = f"head -c {size} /dev/zero | tr '\\0' a & head -c {size} /dev/zero | tr '\\0' b >&2; wait"
    _, stdout, stderr = host.run(["sh", "-c", script])
    assert len(stdout) == len(stderr) == size
    assert set(stdout) == {"a"}
    assert set(stderr) == {"b"}


def test_a_timeout_ends_the_whole_process_group_and_raises(host: Host, tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 1000 & (sleep 1000; sleep 1000) & echo $$ > {tmp_path}/pid; sleep 1000; sleep 1000"
    with pytest.raises(CommandTimeoutError, match=r"sh did not end within 0.3 s"), host.set_controls(timeout=0.3):
        host.execute("sh", "-c", script)
    leader = int((tmp_path / "pid").read_text())
    wait_until(lambda: not processes_of_session(leader))


def test_a_timeout_given_to_run_overrides_the_control(host: Host) -> None:
    with host.set_controls(timeout=60), pytest.raises(CommandTimeoutError) as raised:
        host.run(["sleep", "60"], timeout=0.1)
    assert (raised.value.timeout, raised.value.command) == (0.1, ["sleep", "60"])
    assert isinstance(raised.value, TimeoutError)


def test_a_timeout_holds_although_a_background_child_keeps_the_output_open(host: Host) -> None:
    with host.set_controls(timeout=0.3), pytest.raises(CommandTimeoutError):
        host.execute("sh", "-c", "sleep 60 & exit 0")


def test_many_calls_leak_no_descriptor_and_no_process(host: Host) -> None:
    host.execute("true")
    before, children = descriptors(), child_processes()
    for number in range(100):
        host.execute("true")
        host.run(["cat"], input=b"x")
        list(host.iter("echo", number))
        with host.popen(["cat"]):
            pass
    assert descriptors() == before
    assert child_processes() == children


def test_lines_come_while_the_command_still_runs(host: Host) -> None:
    lines = host.iter("sh", "-c", "echo one; read never; echo two")
    assert next(lines) == ("stdout", "one")
    assert list(lines) == [("stdout", "two"), ("status", True)]
    running = host.iter("sh", "-c", "echo first; sleep 1000")
    assert next(running) == ("stdout", "first")
    running.close()  # type: ignore[attr-defined]


def test_lines_of_both_outputs_are_told_apart_and_an_unfinished_one_is_not_lost(host: Host) -> None:
    lines = list(host.iter("sh", "-c", "printf 'a\\n\\nb'; printf 'c' >&2; exit 1"))
    assert [line for name, line in lines if name == "stdout"] == ["a", "", "b"]
    assert ("stderr", "c") in lines
    assert lines[-1] == ("status", False)


@pytest.mark.parametrize("leave", ["close", "drop", "timeout"])
def test_leaving_an_iteration_ends_the_command(host: Host, leave: str) -> None:
    with host.set_controls(timeout=0.3 if leave == "timeout" else None):
        lines = host.iter("sh", "-c", "echo $$; sleep 60 & sleep 60")
    _, leader = next(lines)
    if leave == "close":
        lines.close()  # type: ignore[attr-defined]
    elif leave == "timeout":
        with pytest.raises(CommandTimeoutError):
            list(lines)
    del lines
    wait_until(lambda: not processes_of_session(int(leader)))


def test_an_iteration_that_never_began_ends_its_command(host: Host, tmp_path: Path) -> None:
    lines = host.iter("sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60")
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    del lines
    wait_until(lambda: not processes_of_session(int((tmp_path / "pid").read_text())))


def test_a_held_process_has_three_binary_pipes_and_ends_with_its_block(host: Host) -> None:
    with host.popen(["sh", "-c", "read line; echo got $line; echo err >&2; sleep 60 & sleep 60"]) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"x\xff\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got x\xff\n"
        assert process.stderr.readline() == b"err\n"
    assert process.returncode is not None
    wait_until(lambda: not processes_of_session(process.pid))


def test_a_process_can_be_ended_while_another_thread_waits_for_it(host: Host) -> None:
    process = host.popen(["sleep", "1000"])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(process.wait)
        time.sleep(0.2)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        code = process.end()
        assert waiting.result() == code != 0


@pytest.mark.parametrize("reap", [True, False])
def test_a_block_ends_also_what_has_outlived_its_leader(host: Host, reap: bool) -> None:
    with host.popen(["sh", "-c", "sleep 60 > /dev/null 2>&1 & echo done"]) as process:
        assert process.stdout
        assert process.stdout.read() == b"done\n"
        if reap:
            process.wait()
    wait_until(lambda: not processes_of_session(process.pid))


def test_a_timeout_ends_all_that_has_the_terminal(tmp_path: Path) -> None:
    host = Local()
    script = f"sh -c 'echo $$ > {tmp_path}/pid; sleep 60; true'; true"
    with host.set_controls(timeout=0.5), pytest.raises(CommandTimeoutError):
        host.interactive("sh", "-c", script)
    leader = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}")
    wait_until(lambda: not leader.exists())


def test_a_reader_that_takes_its_time_is_no_timeout(host: Host) -> None:
    with host.set_controls(timeout=0.3):
        lines = host.iter("printf", "a\\nb\\n")
    found = []
    for line in lines:
        found.append(line)
        time.sleep(0.4)
    assert found == [("stdout", "a"), ("stdout", "b"), ("status", True)]


def test_a_long_line_comes_whole(host: Host) -> None:
    name, line = next(host.iter("sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' a; echo"))
    assert (name, len(line)) == ("stdout", 20_000_000)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [["x'" * 50] * 2000, ["日\n" * 9000], ["x" * 131_000, "", "y" * 131_000]])
@pytest.mark.parametrize("su", [None, "nobody"])
def test_a_long_command_line_arrives_whole(host: Host, words: list[str], su: str | None) -> None:
    if su and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with host.set_controls(su=su, envs={"A": "é" * 10_000, "LC_ALL": "C.UTF-8"}):
        told = host.execute("sh", "-c", 'printf "%s\\0" "$@" "$A"; id -un >&2; exit 3', "sh", *words)
        assert told.stdout == "\0".join([*words, "é" * 10_000, ""])
        assert (told.stderr, told.return_code) == (f"{su or getpass.getuser()}\n", 3)
        assert host.run(["sh", "-c", "cat; kill -9 $$", "sh", *words], input="fed") == Result(-9, "fed", "")


@pytest.mark.parametrize(("length", "code"), [(131_071, 0), (131_072, 126)])
def test_an_argument_is_as_long_as_linux_has_it(host: Host, length: int, code: int) -> None:
    assert host.execute("true", "x" * length).return_code == code
    with host.popen(["true", "x" * 131_071]) as process:
        assert process.wait() == 0


def test_where_exit_statuses_are_lost_nothing_is_run() -> None:
    program = "import signal, unix; signal.signal(signal.SIGCHLD, signal.SIG_IGN); unix.Local().execute('false')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "UnixError: SIGCHLD is ignored in this program" in done.stderr


def test_interrupting_a_call_ends_its_command(tmp_path: Path) -> None:
    program = (
        "import signal, unix; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"unix.Local().execute('sh', '-c', 'echo $$ > {tmp_path}/pid; sleep 60 & sleep 60')"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    caller.send_signal(signal.SIGINT)
    assert caller.wait(60) != 0
    wait_until(lambda: not processes_of_session(int((tmp_path / "pid").read_text())))


def test_interactive_hands_over_the_terminal() -> None:
    program = (
        "import unix; r = unix.Local().interactive('sh', '-c', 'test -t 0 && test -t 1 && read x && echo got $x');"
    )
    parent, child = os.openpty()
    caller = subprocess.Popen([sys.executable, "-c", program + "print(r)"], stdin=child, stdout=child, stderr=child)
    os.close(child)
    os.write(parent, b"hello\n")
    said = b""
    while b"Result" not in said:
        said += os.read(parent, 1000)
    assert b"got hello" in said
    assert b"Result(0, '', '')" in said
    assert caller.wait(60) == 0
    os.close(parent)


def test_many_threads_run_commands_at_once(host: Host) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = host.execute("echo", number).stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"{number}\n" for number in range(32)}


def test_importing_unix_loads_neither_processes_nor_network_nor_asyncio() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import unix, sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"subprocess", "socket", "asyncio", "ssl", "selectors", "lxml"} & set(loaded)


@pytest.fixture
def no_descriptor_leaks() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.mark.usefixtures("no_descriptor_leaks")
def test_a_timeout_leaks_no_descriptor(host: Host) -> None:
    for _ in range(5):
        with pytest.raises(unix.CommandTimeoutError):
            host.run(["sleep", "60"], timeout=0.05)
