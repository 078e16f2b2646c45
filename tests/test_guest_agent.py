"""What is inside of domains, held against what the guest itself says: a small Linux with QEMU's guest agent."""

from __future__ import annotations

import json
import logging
import os
import select
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvm
import tinyguest
import unix
from kvm import (
    AgentError,
    Hypervisor,
    InvalidArgumentError,
    KvmError,
    NotFoundError,
    NotSupportedError,
    UnreadableOutputError,
    text,
)
from kvm.groups.domain.guest import Guest, _answer, _guest_info, _time
from libvirtd import Libvirtd
from waiting import wait_until

MIB = 1024**2
VNC = {"@type": "vnc", "@autoport": "yes", "@passwd": "geheim", "listen": {"@type": "address", "@address": "127.0.0.1"}}


class Tiny:
    """The guest that these tests ask: its name, its host's methods for it, and what a shell in it says."""

    name = "tiny"

    def __init__(self, hypervisor: Hypervisor, disk: Path) -> None:
        self.hypervisor = hypervisor
        self.domain = hypervisor.domain
        self.disk = disk

    def run(self, script: str, *arguments: str) -> str:
        return tinyguest.run(self.hypervisor, self.name, script, *arguments)

    def ask(self, command: str) -> object:
        return self.domain.qemu_agent_command(self.name, {"execute": command})["return"]


@pytest.fixture(scope="module")
def hypervisor(host: unix.Host, libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(host, libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def tiny(hypervisor: Hypervisor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A guest that has booted."""
    tinyguest.require()
    directory = tmp_path_factory.mktemp("tiny")
    hypervisor.domain.create(tinyguest.TinyGuest(directory).conf(Tiny.name, graphics=VNC))
    try:
        tinyguest.wait_for_agent(hypervisor, Tiny.name)
        yield Tiny(hypervisor, directory / "tiny.img")
    finally:
        if Tiny.name in hypervisor.list_domains():
            hypervisor.domain.destroy(Tiny.name)


@pytest.fixture(scope="module", params=["without an agent", "without its channel"])
def mute(request: pytest.FixtureRequest, hypervisor: Hypervisor) -> Iterator[str]:
    """A guest that has nothing to run, with a channel for an agent or without one."""
    channel = {"@type": "unix", "target": {"@type": "virtio", "@name": "org.qemu.guest_agent.0"}}
    conf = {
        "@type": "qemu",
        "name": "mute",
        "memory": {"@unit": "MiB", "#text": 32},
        "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
        "devices": {"channel": channel} if request.param == "without an agent" else {},
    }
    hypervisor.domain.create(conf)
    yield "mute"
    hypervisor.domain.destroy("mute")


# -- without an agent

ASKING: dict[str, Callable[[Guest, str], object]] = {
    "fsfreeze": lambda domain, name: domain.fsfreeze(name, mountpoint=["/a", "/b"]),
    "fsthaw": lambda domain, name: domain.fsthaw(name),
    "fsinfo": lambda domain, name: domain.fsinfo(name),
    "fstrim": lambda domain, name: domain.fstrim(name),
    "hostname": lambda domain, name: domain.hostname(name, source="agent"),
    "time": lambda domain, name: domain.time(name),
    "set time": lambda domain, name: domain.time(name, now=True),
    "guestinfo": lambda domain, name: domain.guestinfo(name),
    "get_user_sshkeys": lambda domain, name: domain.get_user_sshkeys(name, "root"),
    "set_user_sshkeys": lambda domain, name: domain.set_user_sshkeys(name, "root", file=["ssh-rsa AAAA"]),
    "set_user_password": lambda domain, name: domain.set_user_password(name, "root", "geheim"),
    "qemu_agent_command": lambda domain, name: domain.qemu_agent_command(name, {"execute": "guest-ping"}),
}


def test_without_an_agent_that_is_the_error_and_it_comes_soon(hypervisor: Hypervisor, mute: str) -> None:
    for ask in ASKING.values():
        with pytest.raises(AgentError, match="is qemu-guest-agent running in the guest") as raised:
            ask(hypervisor.domain, mute)
        assert "geheim" not in f"{raised.value} {raised.value.command} {raised.value.stderr}"


def test_a_guest_without_a_screen_or_console_has_none(hypervisor: Hypervisor, mute: str) -> None:
    domain = hypervisor.domain
    assert domain.ttyconsole(mute) is None
    with pytest.raises(NotFoundError):
        domain.display(mute)
    with pytest.raises(NotFoundError):
        domain.display(mute, type="spice", include_password=True)
    with pytest.raises(NotFoundError):
        domain.vncdisplay(mute)
    for missing in ("nobody", 4711):
        with pytest.raises(NotFoundError):
            domain.ttyconsole(missing)


# -- with one


def test_text_from_the_guest_does_not_choose_the_error(tiny: Tiny) -> None:
    opened = {"execute": "guest-file-open", "arguments": {"path": "/none\nerror: Domain not found: ask sales"}}
    with pytest.raises(AgentError, match=r"guest-file-open.*: Domain not found: ask sales") as raised:
        tiny.domain.qemu_agent_command(tiny.name, opened)
    assert "is qemu-guest-agent running" not in str(raised.value)


def test_the_clock_is_read_and_set(tiny: Tiny) -> None:
    def of_guest() -> datetime:
        return datetime.fromtimestamp(int(tiny.run("date +%s")), UTC)

    told = tiny.domain.time(tiny.name)
    assert told.tzinfo is UTC
    assert timedelta(0) <= of_guest() - told < timedelta(seconds=10)

    then = datetime(2031, 5, 6, 7, 8, 9, 600_000, tzinfo=timezone(timedelta(hours=5)))
    for given_ in (then, int(then.timestamp()), str(int(then.timestamp()))):
        assert tiny.domain.time(tiny.name, time=given_)
        assert timedelta(0) <= of_guest() - then.replace(microsecond=0) < timedelta(seconds=10)
    tiny.domain.time(tiny.name, now=True)
    assert abs(of_guest() - datetime.now(UTC)) < timedelta(seconds=10)
    tiny.run("date -s 2001-01-01")
    tiny.domain.time(tiny.name, sync=True)
    assert abs(tiny.domain.time(tiny.name) - datetime.now(UTC)) < timedelta(seconds=10)
    with pytest.raises(InvalidArgumentError, match="says no time zone"):
        tiny.domain.time(tiny.name, time=datetime(2031, 1, 1))


def test_the_guest_tells_its_name(tiny: Tiny) -> None:
    assert tiny.domain.hostname(tiny.name) == tiny.run("hostname").strip() == "tiny"
    with pytest.raises(NotFoundError, match="no hostname found"):
        tiny.domain.hostname(tiny.name, source="lease")


def test_what_the_guest_says_of_itself(tiny: Tiny) -> None:
    info = tiny.domain.guestinfo(tiny.name)
    assert info["hostname"] == "tiny"
    assert info["timezone"] == {"name": "UTC", "offset": 0}
    assert {name: info["os"][name] for name in ("id", "version_id", "pretty_name", "kernel_release")} == {
        "id": "tiny",
        "version_id": "007",
        "pretty_name": "Tiny guest: 1",
        "kernel_release": tiny.run("uname -r").strip(),
    }
    (user,) = info["user"]
    assert (user["name"], info["user_count"]) == ("root", 1)
    assert user["login_time"].tzinfo is UTC

    (mounted,) = info["fs"]
    size, used = (int(number) * 1024 for number in tiny.run("df -k /mnt | tail -1").split()[1:3])
    assert (mounted["mountpoint"], mounted["fstype"], mounted["disk"][0]["alias"]) == ("/mnt", "ext2", "vda")
    assert mounted["disk"][0]["device"] == "/dev/vda"
    assert abs(mounted["total_bytes"] - size) < 4 * MIB
    assert abs(mounted["used_bytes"] - used) < MIB
    (vda,) = info["disk"]
    assert vda.items() >= {"name": "/dev/vda", "partition": False, "alias": "vda"}.items()

    interfaces = {each["name"]: each for each in info["if"]}
    mac = tiny.run("cat /sys/class/net/eth0/address").strip()
    assert (interfaces["eth0"]["hwaddr"], interfaces["eth0"]["addr"][0]) == (
        mac,
        {"type": "ipv4", "addr": "10.0.2.15", "prefix": 24},
    )
    assert set(tiny.domain.guestinfo(tiny.name, os=True, hostname=True)) == {"os", "hostname"}


HOSTILE = ["two  words", "vda   ext2   vda", "漢字", "-", "trailing   ", "tab\t", "😀", "é" * 100, "\\x41", "new\nline"]


def test_mount_points_are_exact_whatever_they_look_like(tiny: Tiny) -> None:
    for name in HOSTILE:
        tiny.run('mkdir -p "/tmp/$1" && umount /mnt && mount /dev/vda "/tmp/$1"', name)
        try:
            (found,) = tiny.domain.fsinfo(tiny.name)
        finally:
            tiny.run('umount "/tmp/$1" && mount /dev/vda /mnt', name)
        assert found["mountpoint"] == f"/tmp/{name}"
        assert (found["name"], found["type"], *found["target"]) == ("vda", "ext2", "vda")


def test_file_systems_freeze_and_thaw(tiny: Tiny) -> None:
    assert tiny.domain.fsfreeze(tiny.name, mountpoint=["/mnt"]).value == 1
    try:
        assert tiny.ask("guest-fsfreeze-status") == "frozen"
        with pytest.raises(AgentError, match=r"frozen|not allowed"):
            tiny.domain.fsinfo(tiny.name)
    finally:
        assert tiny.domain.fsthaw(tiny.name).value == 1
    assert tiny.ask("guest-fsfreeze-status") == "thawed"
    with pytest.raises(NotSupportedError):
        tiny.domain.fsthaw(tiny.name, mountpoint="/mnt")


def test_trimmed_blocks_are_given_back(tiny: Tiny) -> None:
    tiny.run("mount -o remount,nodiscard /mnt; head -c 12582912 /dev/urandom > /mnt/file; sync; rm /mnt/file; sync")
    before = tiny.disk.stat().st_blocks * 512
    assert before > 12 * MIB
    tiny.domain.fstrim(tiny.name, minimum=kvm.Quantity("1 MiB"))
    assert tiny.disk.stat().st_blocks * 512 < before - 10 * MIB
    with pytest.raises(InvalidArgumentError, match=r"minimum takes a size, .* not 'little'"):
        tiny.domain.fstrim(tiny.name, minimum="little")


KEYS = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA a comment",
    'command="echo \\"x\\"",no-pty ssh-rsa AAAAB3NzaC1yc2EAAAA é ssh-rsa AAAAB',
    "ecdsa-sha2-nistp256 AAAAE2VjZHNh",
]


def test_keys_are_added_removed_and_read_one_by_one(tiny: Tiny, tmp_path: Path) -> None:
    domain, name = tiny.domain, tiny.name

    def are(keys: list[str]) -> bool:
        of_guest = tiny.run("cat /home/user/.ssh/authorized_keys").splitlines()
        return sorted(domain.get_user_sshkeys(name, "user")) == sorted(of_guest) == sorted(keys)

    domain.set_user_sshkeys(name, "user", file=KEYS[:1])
    assert are(KEYS[:1])
    domain.set_user_sshkeys(name, "user", file=KEYS[1:])
    assert are(KEYS)
    domain.set_user_sshkeys(name, "user", file=KEYS[::2], remove=True)
    assert are(KEYS[1:2])
    file = tmp_path / "keys"
    file.write_text("\n".join(KEYS[::2]))
    domain.set_user_sshkeys(name, "user", file=file, reset=True)
    assert are(KEYS[::2])
    domain.set_user_sshkeys(name, "user", file=[], reset=True)
    assert are([])

    with pytest.raises(InvalidArgumentError, match="one line of authorized_keys"):
        domain.set_user_sshkeys(name, "user", file=["ssh-rsa AAAA\nssh-rsa AAAB"])
    with pytest.raises(InvalidArgumentError, match="--file is required"):
        domain.set_user_sshkeys(name, "user", file=[])
    with pytest.raises(AgentError, match="nobody"):
        domain.get_user_sshkeys(name, "nobody")


def test_a_password_is_set_and_never_shown(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    def shadow() -> str:
        return tiny.run("grep ^user: /etc/shadow").split(":")[1]

    caplog.set_level(logging.DEBUG)
    secret = "--geh '\" $(eim) ü"
    assert tiny.domain.set_user_password(tiny.name, "user", secret).status
    method, salt = shadow().split("$")[1:3]
    assert tiny.run('mkpasswd -m sha256 -S "$1" -- "$2"', salt, secret).strip() == shadow()
    assert method == "5"
    tiny.domain.set_user_password(tiny.name, "user", "$1$hash", encrypted=True)
    assert shadow() == "$1$hash"
    caplog.clear()
    with pytest.raises(AgentError) as raised:
        tiny.domain.set_user_password(tiny.name, "nobody", secret)
    assert "geh" not in f"{caplog.text} {raised.value} {raised.value.command} {raised.value.stderr}"


# -- the agent's and QEMU's own commands

TEXTS = ["", "--all", "a b", "'quoted\" \\", "tab\tnewline\n", "ünïcode 😀", "#;$(x)", "{}", "x" * 5000]


def test_what_is_told_to_the_agent_arrives_as_it_is(tiny: Tiny) -> None:
    for each in TEXTS:
        assert tiny.run('printf %s "$1"', each) == each


def test_a_command_for_the_agent_may_be_a_dict_or_json(tiny: Tiny) -> None:
    command = {"execute": "guest-sync", "arguments": {"id": 2**53}}
    for form in (command, json.dumps(command), json.dumps(command, indent=1)):
        answer = tiny.domain.qemu_agent_command(tiny.name, form, timeout=5, pretty=True)
        assert answer == {"return": 2**53}
    assert tiny.domain.qemu_agent_command(tiny.name, {"execute": "guest-ping"}, block=True) == {"return": {}}
    with pytest.raises(AgentError, match="guest-pong has not been found"):
        tiny.domain.qemu_agent_command(tiny.name, {"execute": "guest-pong"})
    with pytest.raises(InvalidArgumentError, match=r"(?i)parse json"):
        tiny.domain.qemu_agent_command(tiny.name, "guest-ping")


def test_qemu_answers_for_itself(tiny: Tiny) -> None:
    ask = tiny.domain.qemu_monitor_command
    for form in ({"execute": "query-status"}, '{"execute": "query-status"}', "query-status"):
        answer = ask(tiny.name, form)
        assert (answer["return"]["status"], answer["return"]["running"]) == ("running", True)
    assert ask(tiny.name, "query-name", return_value=True, pretty=True) == {"name": "tiny"}
    assert ask(tiny.name, "info status", hmp=True) == "VM status: running"
    assert ask(tiny.name, "--hmp", hmp=True) == "unknown command: '--hmp'"
    assert "\n" in ask(tiny.name, "info block", hmp=True)
    assert ask(tiny.name, {"execute": "nonsense"})["error"]["class"] == "CommandNotFound"
    with pytest.raises(KvmError, match="The command nonsense has not been found"):
        ask(tiny.name, {"execute": "nonsense"}, return_value=True)
    node = {"execute": "qom-get", "arguments": {"path": "/machine", "property": "a 'b\" \\ ü\n"}}
    assert "a 'b\" \\ ü" in ask(tiny.name, node)["error"]["desc"]


def test_a_command_that_may_change_something_is_not_repeated(tiny: Tiny) -> None:
    from kvm.groups.domain.guest import _qemu

    assert _qemu("qemu-agent-command", "a", {"execute": "guest-shutdown"}, {}).reads is False


# -- the screen and the console


def test_the_console_that_is_told_is_the_guests(tiny: Tiny) -> None:
    tty = tiny.domain.ttyconsole(tiny.name)
    assert tty is not None
    assert tiny.domain.conf(tiny.name, xpath="//console/@tty") == [tty]
    console = os.open(tty, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(console, b"echo $((6 * 7)).\r")
        said = b""
        while b"42." not in said:
            assert select.select([console], [], [], 20)[0], said
            said += os.read(console, 1000)
    finally:
        os.close(console)


def test_the_displays_of_a_guest_are_told(tiny: Tiny) -> None:
    (port,) = tiny.domain.conf(tiny.name, xpath="//graphics/@port")
    number = int(port) - 5900
    assert tiny.domain.vncdisplay(tiny.name) == f"127.0.0.1:{number}"
    assert tiny.domain.display(tiny.name) == f"vnc://127.0.0.1:{number}"
    assert tiny.domain.display(tiny.name, type="vnc", include_password=True) == f"vnc://:geheim@127.0.0.1:{number}"
    assert tiny.domain.display(tiny.name, all=True) == [f"vnc://127.0.0.1:{number}"]
    with pytest.raises(NotFoundError, match="type 'spice'"):
        tiny.domain.display(tiny.name, type="spice")
    with pytest.raises(KvmError):  # there is no TLS here, or virsh is older than this command
        tiny.domain.display_reload(tiny.name, type=1)


def test_a_screenshot_is_a_picture(tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "-a picture"
    assert tiny.domain.screenshot(tiny.name, file=file, screen=0).status
    content = file.read_bytes()
    assert content.startswith((b"P6\n", b"\x89PNG"))
    with pytest.raises(KvmError, match="cannot create file"):
        tiny.domain.screenshot(tiny.name, file=tmp_path / "none" / "file")
    with pytest.raises(KvmError):
        tiny.domain.screenshot(tiny.name, file=file, screen=99)


# -- the agent dies, and the guest goes


def test_the_cpus_that_the_guest_sees_are_told(tiny: Tiny) -> None:
    online = [int(cpu) for cpu in tiny.run("cat /sys/devices/system/cpu/online").split("-")]
    told = tiny.domain.guestvcpus(tiny.name)
    assert (told["vcpus"], told["online"]) == (online, online)
    assert tiny.domain.vcpucount(tiny.name, guest=True) == len(online)


def test_a_guest_is_suspended_and_woken_up(tiny: Tiny) -> None:
    tiny.domain.pmsuspend(tiny.name, "mem")
    wait_until(lambda: tiny.domain.state(tiny.name) == "pmsuspended")
    tiny.domain.pmwakeup(tiny.name)
    wait_until(lambda: tiny.domain.state(tiny.name) == "running")
    tinyguest.wait_for_agent(tiny.hypervisor, tiny.name)
    assert tiny.run("echo awake").strip() == "awake"


def test_an_agent_that_stops_to_answer_is_not_waited_for_longer_than_allowed(tiny: Tiny) -> None:
    tiny.domain.guest_agent_timeout(tiny.name, timeout=1)
    with tiny.domain.open_console(tiny.name) as console:
        console.write(b"kill -STOP $(pidof qemu-ga); echo st''opped\r")
        console.read_until(b"stopped", timeout=60)
        with pytest.raises(AgentError, match=r"not available for now|didn't respond"):
            tiny.domain.guestinfo(tiny.name)
        with pytest.raises(AgentError):
            tiny.domain.qemu_agent_command(tiny.name, {"execute": "guest-ping"}, timeout=1)
        console.write(b"kill -CONT $(pidof qemu-ga); echo g''one on\r")
        console.read_until(b"gone on", timeout=60)
    tinyguest.wait_for_agent(tiny.hypervisor, tiny.name)
    tiny.domain.guest_agent_timeout(tiny.name, timeout=-1)
    assert tiny.domain.hostname(tiny.name) == "tiny"


def test_a_guest_that_is_asked_to_shuts_down(tiny: Tiny) -> None:
    tiny.domain.shutdown(tiny.name, mode="acpi")
    wait_until(lambda: tiny.name not in tiny.domain.list())
    with pytest.raises(NotFoundError):
        tiny.domain.hostname(tiny.name)


# -- readers


def test_what_a_guest_says_can_do_no_harm() -> None:
    for said in (
        "hostname            : x\nhostname.a          : y\n",
        "fs.0.total-bytes    : many\n",
        "disk.0.partition    : perhaps\n",
        "user.0.login-time   : 99999999999999999999999\n",
        "no name and value\n",
        f"os{'.a' * 20_000}: x\n",
    ):
        with pytest.raises(UnreadableOutputError):
            _guest_info(said)
    assert _guest_info("os.name             : a\n b: c\n\n  d\nos.id               : \n") == {
        "os": {"name": "a\n b: c\n\n  d", "id": ""}
    }
    assert _guest_info("fs.0.name           : x\nfs.99999999999.name : y\n") == {"fs": [{"name": "x"}, {"name": "y"}]}
    assert _guest_info("\n") == {}
    assert _guest_info("load.1m             : 0.250000\n") == {"load": {"1m": 0.25}}


def test_an_answer_is_json() -> None:
    assert _answer('{"return": 18446744073709551615}\n') == {"return": 2**64 - 1}
    assert _answer("\n") is None
    for wrong in ("{", "[" * 200_000, "9" * 5000):
        with pytest.raises(UnreadableOutputError):
            _answer(wrong)


def test_a_time_is_a_time() -> None:
    assert _time("Time: -1\n") == datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)
    for wrong in ("", "Time: soon", "Time: 99999999999999999"):
        with pytest.raises(UnreadableOutputError):
            _time(wrong)


values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20)


@given(st.lists(st.tuples(st.sampled_from(["name", "mountpoint", "serial"]), values), min_size=1, max_size=5))
def test_texts_come_back_from_what_is_padded(members: list[tuple[str, str]]) -> None:
    printed = "".join(f"{f'fs.{place}.{name}':<20}: {value}\n" for place, (name, value) in enumerate(members))
    found = text.nested(text.padded(printed, 20))
    assert found == {"fs": [{name: value} for name, value in members]}
