"""kvmctl top: rates as functions of samples, and the program in a terminal, on hosts that answer and that do not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvm
import unix
from ctl import COMMAND, ENVIRONMENT, TEST, kvmctl
from hosts import Hosts
from kvm import text
from kvm.cli.arguments import UsageError, parsed
from kvm.cli.completion import candidates
from kvm.cli.manual import page
from kvm.cli.render import width_of
from kvm.cli.top.board import Board, Line, count, percent, size, summaries
from kvm.cli.top.look import figures
from kvm.cli.top.rates import SORTS, Figures, Host, Row, Sample, Summary, chosen, in_order, rows
from kvm.cli.top.settings import Settings
from libvirtd import Libvirtd
from waiting import wait_until

# -- rates --------------------------------------------------------------------------------------------------------

COUNTED = """\
Domain: 'web1'
  state.state=1
  state.reason=1
  cpu.time=5000000000
  cpu.user=1000000000
  balloon.current=1048576
  balloon.maximum=2097152
  balloon.available=1000000
  balloon.unused=300000
  balloon.usable=400000
  balloon.rss=524288
  net.count=2
  net.0.name=vnet0
  net.0.rx.bytes=1000
  net.0.tx.bytes=10
  net.1.name=vnet1
  net.1.rx.bytes=500
  net.1.tx.bytes=5
  block.count=3
  block.0.name=vda
  block.0.rd.reqs=10
  block.0.rd.bytes=4096
  block.0.wr.reqs=20
  block.0.wr.bytes=8192
  block.1.name=vdb
  block.1.rd.reqs=1
  block.1.rd.bytes=512
  block.1.wr.reqs=2
  block.1.wr.bytes=1024
  block.2.name=sda

Domain: 'off'
  state.state=5
  state.reason=1

"""


def sample(at: float, **guests: Figures) -> Sample:
    return Sample(at, guests, cpus=4)


def test_figures_are_those_of_domstats_with_sums_over_devices() -> None:
    told = text.stats(COUNTED)
    assert figures(told["web1"]) == Figures(
        state="running", cpu=5_000_000_000, memory=1 << 30, rss=512 << 20, used=600_000 << 10,
        disks=("vda", "vdb", "sda"), read=4608, write=9216, read_requests=11, write_requests=22,
        interfaces=("vnet0", "vnet1"), rx=1500, tx=15,
    )  # fmt: skip
    assert figures(told["off"]) == Figures("shut off")


ODD = """Domain: 'odd'
  state.state=1
  cpu.time=many
  balloon.rss=-
  balloon.available=12
  balloon.usable=x
  net.count=3
  net.1.name=vnet3
  net.1.rx.bytes=70
  net.2.rx.bytes=lots
  block.0.rd.bytes=5
  block.1.name=vdb
  block.1.rd=9

Domain: 'odder'
  state=1
  balloon=2
  net=3
  cpu.0.time=4

"""


def test_odd_figures_of_a_guest_are_not_known() -> None:
    read = text.stats(ODD)
    odd = figures(read["odd"])
    assert odd == Figures("running", disks=("", "vdb"), read=5, interfaces=("vnet3", ""), rx=70)
    assert figures(read["odder"]) == Figures("no state")


_NAMES = st.sampled_from([line.strip().partition("=")[0] for line in COUNTED.splitlines() if "=" in line])
_SAID = st.sampled_from(["1", "5000000000", "vda", "-", "", "yes", "9" * 5000, "1.5"])


@given(st.lists(st.tuples(_NAMES, _SAID)))
def test_no_figures_of_a_guest_hide_those_of_another(said: list[tuple[str, str]]) -> None:
    printed = "".join(f"  {name}={figure}\n" for name, figure in said)
    read = text.stats(f"Domain: 'odd'\n{printed}\n{COUNTED}")
    figures(read["odd"])
    assert figures(read["web1"]).cpu == 5_000_000_000


def test_a_rate_is_what_was_counted_in_the_time_between() -> None:
    before = figures(text.stats(COUNTED)["web1"])
    now = before._replace(cpu=6_000_000_000, read=5632, write_requests=122, tx=2015)
    (row,) = rows("hv1", sample(10, web1=before), sample(12, web1=now))
    assert (row.host, row.name, row.state) == ("hv1", "web1", "running")
    assert (row.cpu, row.host_cpu) == (50, 12.5)  # half of one CPU, an eighth of four
    assert (row.read, row.write, row.read_requests, row.write_requests) == (512, 0, 0, 50)
    assert (row.rx, row.tx) == (0, 1000)


def test_at_first_and_after_a_restart_there_are_no_rates() -> None:
    first = Figures("running", cpu=5, disks=("vda",), read=100, interfaces=("vnet0",), rx=100)
    again = first._replace(cpu=1, read=9000, rx=9000)
    for row in (*rows("", None, sample(1, a=first)), *rows("", sample(1, a=first), sample(2, a=again))):
        assert {row.cpu, row.host_cpu, row.read, row.rx} == {None}
    (row,) = rows("", sample(1, a=first, gone=first), sample(2, a=first._replace(cpu=None)))
    assert (row.cpu, row.read) == (None, 0)


def test_a_disk_that_is_plugged_or_taken_away_is_no_traffic() -> None:
    one = Figures("running", cpu=5, disks=("vda",), read=100, interfaces=(), rx=None)
    two = one._replace(disks=("vda", "vdb"), read=5000, interfaces=("vnet0",), rx=7)
    for before, now in ((one, two), (two, one)):
        (row,) = rows("", sample(1, a=before), sample(2, a=now))
        assert (row.cpu, row.read, row.rx) == (0, None, None)


counters = st.none() | st.integers(0, 1 << 70)
guests = st.builds(
    Figures, st.sampled_from(["running", "paused", "shut off"]), counters, counters, counters, counters,
    st.sampled_from([(), ("vda",)]), counters, counters, counters, counters,
    st.sampled_from([(), ("vnet0",)]), counters, counters,
)  # fmt: skip
samples = st.builds(
    Sample, st.floats(0, 1e6), st.dictionaries(st.text(max_size=3), guests, max_size=4), st.none() | st.integers(0, 64),
    counters, counters, counters, counters,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(samples, min_size=1, max_size=4))
def test_no_figure_is_ever_negative_whatever_was_counted(several: list[Sample]) -> None:
    host = Host("hv1")
    for each in several:
        host.tell(each)
        assert [row.name for row in host.rows] == list(each.guests)
        assert all(figure is None or figure >= 0 for row in host.rows for figure in row[3:])
        assert host.summary.cpu is None or 0 <= host.summary.cpu <= 100


names = st.text(max_size=30) | st.sampled_from(["日本語のゲスト", "a\x1b[2J", "e\u0301", "🐧 web", " ", "-", "\udc80"])
numbers = st.none() | st.floats(0, 1e18)
percentages = st.none() | st.floats(0, 1e5)
some_rows = st.lists(
    st.builds(
        Row, names, names, st.sampled_from(["running", "pmsuspended", "shut off"]), *[percentages] * 2, *[numbers] * 9
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(some_rows, st.sampled_from(list(SORTS)), st.booleans())
def test_an_order_has_all_rows_and_what_is_not_known_last(found: list[Row], by: str, backwards: bool) -> None:
    ordered = in_order(found, by, backwards=backwards)
    assert sorted(map(id, ordered)) == sorted(map(id, found))
    if len(SORTS[by]) == 1 and by not in ("name", "host", "state"):
        figures = [getattr(row, SORTS[by][0]) for row in ordered]
        known = [each for each in figures if each is not None]
        assert figures[: len(known)] == known == sorted(known, reverse=not backwards)


def test_a_filter_has_words_of_name_host_and_state_in_any_case() -> None:
    nothing = [None] * 11
    a, b, off = (
        Row(*each, *nothing)
        for each in (("hv1", "Web1", "running"), ("hv2", "web2", "paused"), ("hv1", "db", "shut off"))
    )
    found = [a, b, off]
    assert chosen(found) == [a, b]
    assert chosen(found, inactive=True) == found
    assert chosen(found, "WEB") == [a, b]
    assert chosen(found, "web hv1") == [a]
    assert chosen(found, "paused") == [b]
    assert chosen(found, "nothing") == []


@settings(max_examples=40, deadline=None)
@given(some_rows, st.integers(1, 250), st.booleans(), st.sampled_from(list(SORTS)))
def test_lines_are_as_wide_as_the_terminal_whatever_guests_are_called(
    found: list[Row], width: int, with_host: bool, sort: str
) -> None:
    board = Board(width, found, with_host=with_host)
    for line in map(board.line, found):
        shown = shown_in(line)
        assert width_of(shown) <= width or width < 20
        assert all(each.isprintable() for each in shown)
    assert width_of(shown_in(board.heading(sort, backwards=False))) == width
    assert all(board.sort_at(place) in {*SORTS, None} for place in range(width))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(Summary, names, *[st.none() | st.integers(0, 99)] * 6, st.none() | names), min_size=1),
       st.integers(1, 200), st.integers(1, 9))  # fmt: skip
def test_hosts_have_no_more_lines_than_there_are(hosts: list[Summary], width: int, lines: int) -> None:
    shown = summaries(hosts, width, lines, {})
    assert 1 <= len(shown) <= lines
    assert all(width_of(shown_in(line)) == width for line in shown)


def shown_in(line: Line) -> str:
    return "".join(each for each, _ in line)


def test_where_there_is_no_room_the_least_important_is_left_out() -> None:
    row = Row("hv1", "a-guest-called-so", "running", 12.34, 3.1, 2 << 30, 1 << 30, None, 1.5e6, 0, 3, 15e6, 7, 1e5)

    def seen(width: int) -> list[str]:
        board = Board(width, [row], with_host=True)
        return shown_in(board.heading("cpu", backwards=False)).split()

    assert seen(140) == [
        "HOST", "NAME", "STATE", "CPU%▼", "HOST%", "RSS", "MEM", "USED", "READ/s", "WRIT/s", "RREQ/s", "WREQ/s", "RX/s",
        "TX/s",
    ]  # fmt: skip
    assert seen(80) == ["HOST", "NAME", "STATE", "CPU%▼", "RSS", "MEM", "READ/s", "WRIT/s", "RX/s", "TX/s"]
    assert seen(60) == ["HOST", "NAME", "CPU%▼", "RSS", "READ/s", "WRIT/s"]
    assert seen(40) == ["HOST", "NAME", "CPU%▼", "RSS"]
    assert seen(20) == ["NAME", "CPU%▼"]
    line = shown_in(Board(140, [row], with_host=True).line(row)).split()
    assert line[2:] == ["running", "12.3", "3.1", "1.0G", "2.0G", "-", "1.4M", "0", "3", "15m", "7", "98K"]


def test_figures_fit_their_columns() -> None:
    shown = [
        size(0),
        size(1023),
        size(1024),
        size(10 << 20),
        size(1023.6 * 2**20),
        size(1 << 60),
        count(12345),
        percent(0),
    ]
    assert shown == ["0", "1023", "1.0K", "10M", "1.0G", "1024P", "12k", "0.0"]


# -- the command line ---------------------------------------------------------------------------------------------


def test_options_have_the_letters_of_top_and_long_names() -> None:
    asked = parsed(["-c", TEST, "top", "-b", "-n", "3", "-d0.5", "--sort=disk", "--reverse", "web", "hv1"])
    assert Settings.of(asked) == Settings(0.5, 3, "disk", backwards=True, text="web hv1")
    assert (asked.flags, asked.connect, asked.options["batch"]) == (set(), TEST, True)
    for wrong in ("-d x", "-d 0", "-n 0", "-n x", "--sort size"):
        with pytest.raises(UsageError, match="top: --"):
            Settings.of(parsed(["top", *wrong.split()]))
    assert kvmctl("top", "-o", "raw").returncode == kvmctl("-n", "top").returncode == 2
    assert all(f"{name}" in page("top") for name in ("--delay", "--count", "--sort", "--reverse", "--all", "--batch"))
    assert candidates(["to"]) == ["top"]
    assert candidates(["top", "-d", "2", "--sort", "m"]) == ["memory"]
    assert candidates(["-c", TEST, "top", "t"]) == ["test"]


def test_no_other_command_loads_what_draws() -> None:
    program = (
        "import sys; from kvm.cli.program import run; assert run(sys.argv[1:]) == 0; "
        "found = {name.partition('.')[0] for name in sys.modules} & {'textual', 'rich', 'asyncio'}; "
        "assert not found, found; assert not [name for name in sys.modules if name.startswith('kvm.cli.top')]"
    )
    for words in (["list"], ["top", "--help"], ["--help"], ["dominfo", "test", "-o", "json"]):
        subprocess.run(
            [sys.executable, "-c", program, "-c", TEST, *words], env=ENVIRONMENT, check=True, capture_output=True
        )


def test_without_a_terminal_samples_are_text_or_a_line_of_json_each() -> None:
    done = kvmctl("-c", TEST, "top", "-d", "0.2", "-n", "2", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["time"] < second["time"]
    (host,), (guest,) = first["hosts"], first["guests"]
    assert {
        "host": None,
        "guests": 1,
        "running": 1,
        "cpus": 16,
        "memory": 3 << 30,
        "error": None,
    }.items() <= host.items()
    assert {"host": None, "name": "test", "state": "running", "cpu": None, "rx": None}.items() <= guest.items()
    told = kvmctl("-c", TEST, "top", "-n", "1", "-d", "0.2").stdout.splitlines()
    assert told[0].startswith("1/1 guests running")
    assert told[1].split()[:3] == ["NAME", "STATE", "CPU%▼"]
    assert told[2].split()[:3] == ["test", "running", "-"]


# -- in a terminal ------------------------------------------------------------------------------------------------


class Terminal:
    """tmux with a program in it."""

    def __init__(self, directory: Path, *words: str, columns: int = 100, env: dict[str, str] | None = None) -> None:
        self._socket = str(directory / "tmux")
        self.status = directory / "status"
        self.status.unlink(missing_ok=True)
        self._env = {
            "LC_ALL": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ENVIRONMENT["PYTHONPATH"],
            **(env or {}),
        }
        command = f"{shlex.join([*COMMAND, *words])} 2> {directory}/stderr; echo $? > {self.status}; sleep 60"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", "20", command)

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], env=self._env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def click(self, x: int, y: int) -> None:
        """Press and release the left button, at columns and lines counted from 0."""
        for end in "Mm":
            self.tmux("send-keys", "-H", *(f"{byte:x}" for byte in f"\x1b[<0;{x + 1};{y + 1}{end}".encode()))

    def resize(self, columns: int, lines: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def seen(self, *, colours: bool = False) -> str:
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def shows(self, condition: str | Callable[[str], object]) -> str:
        """What is to be seen, as soon as it holds a text, or fulfils a condition."""
        holds = condition if callable(condition) else lambda seen: condition in seen
        seen = ""

        def looks() -> bool:
            nonlocal seen
            seen = self.seen()
            return bool(holds(seen))

        wait_until(looks, lambda: seen)
        return seen

    def ends(self) -> int:
        """The exit status, as soon as there is one."""
        wait_until(lambda: self.status.exists() and self.status.read_text().endswith("\n"), self.seen)
        return int(self.status.read_text())

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """A maker of terminals with a program in them."""
    with contextlib.ExitStack() as made:

        def make(*words: str, **options: Any) -> Terminal:
            directory = made.enter_context(tempfile.TemporaryDirectory(prefix="top-"))  # short, as a socket's path is
            terminal = Terminal(Path(directory), *words, **options)
            made.callback(terminal.close)
            return terminal

        yield make


def running(*marks: str) -> list[str]:
    """The command lines that have all these words in them, without tmux's."""
    found = []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(mark in line for mark in marks) and "tmux" not in line and not line.startswith(("sh ", "bash ")):
                found.append(line)
    return found


def rows_in(seen: str) -> list[list[str]]:
    """The words of the lines below the heading, without the last line."""
    lines = seen.rstrip("\n").split("\n")
    headings = [place for place, line in enumerate(lines) if "NAME" in line and "CPU%" in line]
    heading = headings[0] if headings else len(lines)
    return [line.split() for line in lines[heading + 1 : -1] if line.strip()]


def estate(file: Path, *names: str) -> str:
    described = [
        {"@type": "test", "name": name, "memory": "8192", "os": {"type": "hvm"}} for name in names
    ]  # fmt: skip
    file.write_text(kvm.to_xml("node", {"domain": described}))
    return f"test://{file}"


def test_guests_are_shown_filtered_and_paused_until_it_is_quit(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    uri = estate(tmp_path / "estate.xml", "web1", "web2", "db1")
    shown = terminal("-c", uri, "top", "-d", "0.5", env={"NO_COLOR": ""})
    all_of_them = [[name, "running", "-"] for name in ("db1", "web1", "web2")]
    shown.shows(lambda seen: "3/3 guests running" in seen and [row[:3] for row in rows_in(seen)] == all_of_them)
    assert "\x1b[32mrunning" in shown.seen(colours=True)
    shown.keys("/", "w", "e", "b", "q")  # q is a letter here
    shown.shows(lambda seen: "/webq" in seen and not rows_in(seen))
    shown.keys("BSpace", "2", "Enter")
    shown.shows(lambda seen: "filter: web2" in seen and len(rows_in(seen)) == 1)
    shown.keys("Escape")
    shown.shows(lambda seen: len(rows_in(seen)) == 3)
    shown.keys("N", "r")
    shown.shows(lambda seen: "NAME▲" in seen and [row[0] for row in rows_in(seen)] == ["web2", "web1", "db1"])
    shown.keys("p", "+")
    shown.shows(lambda seen: "PAUSED" in seen and "every 1 s" in seen)
    shown.keys("q")
    assert shown.ends() == 0
    wait_until(lambda: not running(uri))
    assert "NAME" not in shown.seen()  # the screen is as it was before


def test_nobody_who_wants_no_colours_gets_them(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("-c", TEST, "top", env={"NO_COLOR": "1"})
    shown.shows("test")
    assert not re.search(r"\x1b\[[0-9;]*\b(3[0-8]|4[0-8]|9[0-7]|10[0-7])\b[0-9;]*m", shown.seen(colours=True))
    shown.tmux("kill-session")  # a terminal that is closed
    wait_until(lambda: not running("kvm.cli", TEST, "top"))


def test_without_textual_it_says_what_to_install(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "textual.py").write_text("raise ImportError('no textual')")
    shown = terminal("-c", TEST, "top", env={"PYTHONPATH": f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"})
    assert shown.ends() == 2
    assert "pip install 'python-kvm[cli]'" in (shown.status.parent / "stderr").read_text()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    directory = tmp_path_factory.mktemp("hosts")
    hosts = Hosts(directory, 2)
    yield hosts
    hosts.sshd.remove()


def inventory(hosts: Hosts, file: Path, **others: str) -> str:
    """A file with two hosts, and others in words of TOML."""
    sshd = hosts.sshd
    alias = f'options = {{ HostKeyAlias = "[127.0.0.1]:{sshd.port}" }}'
    found = {name: f'host = "{address}"\nport = {sshd.port}\nuri = "{hosts.uri(name)}"\n'
             for name, address in zip(hosts.names, hosts.addresses, strict=True)}  # fmt: skip
    file.write_text(
        f'[defaults]\nconfig = "/dev/null"\nkey_filename = "{sshd.key}"\nknown_hosts = "{sshd.known_hosts}"\n{alias}\n'
        + "".join(f"[hosts.{name}]\n{lines}\n" for name, lines in {**found, **others}.items())
    )
    return str(file)


def test_hosts_that_are_silent_or_down_stop_no_other_and_are_tried_again(
    hosts: Hosts, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    import socket

    late = tmp_path / "late.xml"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        port = silent.getsockname()[1]
        file = inventory(
            hosts, tmp_path / "inventory.toml",
            silent=f'host = "127.0.0.1"\nport = {port}',
            late=f'host = "{hosts.addresses[0]}"\nport = {hosts.sshd.port}\nuri = "test://{late}"',
        )  # fmt: skip
        shown = terminal("-i", file, "top", "-d", "0.5", columns=120)
        of_two = [[host, name] for host, own in (("hv01", "guest01"), ("hv02", "guest02"))
                  for name in (host[-1], "everywhere", own)]  # fmt: skip
        shown.shows(
            lambda seen: (
                seen.startswith("4 hosts")
                and "silent" in seen
                and "failed to connect" in seen
                and sorted(row[:2] for row in rows_in(seen)) == of_two
            )
        )
        estate(late, "here-now")
        shown.shows("here-now")
        heading = next(place for place, line in enumerate(shown.seen().splitlines()) if "NAME" in line)
        by_host = ["hv01"] * 3 + ["hv02"] * 3 + ["late"]
        shown.click(1, heading)
        shown.shows(lambda seen: "HOST▼" in seen and [row[0] for row in rows_in(seen)] == by_host)
        shown.click(1, heading)
        shown.shows(lambda seen: "HOST▲" in seen and [row[0] for row in rows_in(seen)] == by_host[::-1])
        shown.resize(50, 12)
        shown.shows(
            lambda seen: (
                "HOST▲" in seen
                and "TX/s" not in seen
                and len(lines := seen.splitlines()) == 12
                and max(map(len, lines)) <= 50
                and rows_in(seen)[0][:2] == ["late", "here-now"]
            )
        )
        shown.resize(120, 20)
        shown.shows("TX/s")
        shown.keys("C-c")
        assert shown.ends() == 130
        wait_until(lambda: not running(str(hosts.sshd.known_hosts)) and not running(str(late)))


def test_in_a_pipe_a_host_that_fails_is_named_and_the_others_are_told(hosts: Hosts, tmp_path: Path) -> None:
    file = inventory(hosts, tmp_path / "inventory.toml", down='host = "127.0.0.1"\nport = 1')
    done = kvmctl("-i", file, "top", "-d", "0.3", "-n", "1", "-o", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:6]) == (1, 1, "down: ")
    assert [host["host"] for host in told["hosts"] if host["error"]] == ["down"]
    assert {(guest["host"], guest["name"]) for guest in told["guests"]} == {
        (host, name)
        for host, own in (("hv01", "guest01"), ("hv02", "guest02"))
        for name in (own, "everywhere", host[-1])
    }


BUSY = b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa"
"""A disk that a machine boots from and does nothing more, as fast as it can."""


def test_a_busy_guest_appears_takes_its_cpu_and_vanishes(libvirtd: Libvirtd, terminal: Callable[..., Terminal]) -> None:
    name = f"top-{os.urandom(3).hex()}"
    image = libvirtd.home / f"{name}.raw"
    image.write_bytes(BUSY * 64)
    disk = {
        "@type": "file", "@device": "disk", "driver": {"@name": "qemu", "@type": "raw"},
        "source": {"@file": str(image)}, "target": {"@dev": "hda", "@bus": "ide"},
    }  # fmt: skip
    conf = {
        "@type": "qemu", "name": name, "memory": kvm.Quantity("16 MiB"), "vcpu": 1, "devices": {"disk": disk},
        "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
    }  # fmt: skip
    shown = terminal("-c", libvirtd.uri, "top", "-d", "0.5", name)
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        hypervisor.domain.define(conf)
        try:
            shown.shows(lambda seen: "guests running" in seen and not rows_in(seen))
            shown.keys("a")
            shown.shows(lambda seen: rows_in(seen) and rows_in(seen)[0][:4] == [name, "shut", "off", "-"])
            hypervisor.domain.start(name)
            with subprocess.Popen(
                [*COMMAND, "-c", libvirtd.uri, "top", "-o", "json", name], env=ENVIRONMENT, stdout=subprocess.PIPE
            ) as batch:
                assert batch.stdout
                for line in batch.stdout:  # how much is used, and how fast, is known once QEMU has been at work
                    (guest,), (host,) = json.loads(line)["guests"], json.loads(line)["hosts"]
                    if guest["rss"] and guest["read"] is not None and guest["cpu"] and guest["cpu"] > 5:
                        break
                batch.terminate()
            assert guest["cpu"] < 250
            assert guest["cpu"] == pytest.approx(guest["host_cpu"] * host["cpus"], rel=0.01)
            assert guest["memory"] == 16 << 20 < guest["rss"]
            assert guest["read"] >= 0  # it may still be booting
            assert (guest["write"], guest["rx"]) == (0, None)
            assert 0 < host["memory_used"] < host["memory"] == hypervisor.generic.nodeinfo()["memory_size"]
            shown.shows(
                lambda seen: rows_in(seen) and rows_in(seen)[0][1] == "running" and float(rows_in(seen)[0][2]) > 5
            )
            hypervisor.domain.destroy(name)
            hypervisor.domain.undefine(name)
            shown.shows(lambda seen: not rows_in(seen))
        finally:
            with contextlib.suppress(kvm.KvmError):
                hypervisor.domain.destroy(name)
            with contextlib.suppress(kvm.KvmError):
                hypervisor.domain.undefine(name)
    shown.keys("q")
    assert shown.ends() == 0
