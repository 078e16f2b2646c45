"""kvmctl on several hosts: which they are, how long they have, and that an error of one leaves the others alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

import kvm
import unix
from ctl import COMMAND, ENVIRONMENT, TEST, hear_ctrl_c, kvmctl, ssh_config, value
from kvm.cli.arguments import parsed
from kvm.cli.calls import default_timeout
from kvm.cli.messages import of_error
from kvm.values import Quantity
from libvirtd import Libvirtd
from sshd import Sshd, user
from waiting import wait_until


def local(*hosts: str, uri: str = "test:///default?{}", groups: str = "") -> str:
    """An inventory in TOML of hosts that are this machine, each with a URI of its own."""
    return groups + "".join(f'[hosts.{name}]\nconnection = "local"\nuri = "{uri.format(name)}"\n' for name in hosts)


@pytest.fixture
def inventories(tmp_path: Path) -> tuple[str, str]:
    """Two inventories of hosts that are this machine: the URI of each tells its name."""
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(local("ka", "kb", "kc", groups='[groups]\neven = ["kb"]\nodd = ["ka", "kc"]\n'))
    second.write_text(local("kd", "ke", groups='[groups]\neven = ["kd"]\nlast = ["ke"]\n'))
    return str(first), str(second)


# -- which hosts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-i FIRST", "ka kb kc"),
        ("-i FIRST -i SECOND", "ka kb kc kd ke"),
        ("-i FIRST -i SECOND -g even", "kb kd"),
        ("-i FIRST -i SECOND -g even -g last", "kb kd ke"),
        ("-i FIRST -H ka -H kb", "ka kb"),
        ("-i FIRST -i SECOND -H k[ce]", "kc ke"),
        ("-i FIRST -g odd -H *c", "kc"),
        ("-i FIRST -H ka -H ka", "ka"),
    ],
)
def test_options_for_hosts_select_from_inventories(inventories: tuple[str, str], words: str, expected: str) -> None:
    split = [{"FIRST": inventories[0], "SECOND": inventories[1]}.get(word, word) for word in words.split()]
    assert value(*split, "uri") == {name: f"test:///default?{name}" for name in expected.split()}
    dry = kvmctl(*split, "destroy", "test", "-n").stdout.splitlines()
    command = "virsh --connect 'test:///default?{}' destroy --domain=test"
    assert dry == [f"{name}: {command.format(name)}" for name in expected.split()]


def test_a_uri_overrides_those_of_an_inventory(inventories: tuple[str, str]) -> None:
    words = ["-i", inventories[0], "-g", "odd", "-c", TEST]
    assert value(*words, "uri") == {"ka": TEST, "kc": TEST}
    assert kvmctl(*words, "uri", "-n").stdout == f"ka: virsh --connect {TEST} uri\nkc: virsh --connect {TEST} uri\n"


def test_an_ssh_config_overrides_that_of_an_inventory(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "hosts.toml").write_text(f'[hosts.near]\nuri = "{TEST}"\nconfig = "none"\n')
    config = str(ssh_config(sshd, tmp_path))
    assert value("-i", str(tmp_path / "hosts.toml"), "-F", config, "domstate", "test") == {"near": "running"}
    done = kvmctl("-i", str(tmp_path / "hosts.toml"), "domstate", "test")
    assert (done.returncode, str(tmp_path / "none") in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("-F conf list", "-F FILE needs -H HOST or -i INVENTORY"),
        ("-i FIRST -H kz list", "there is no host 'kz' in FIRST: there are ka, kb, kc"),
        ("-i FIRST -g odd -H kb list", "there is no host 'kb' in odd of FIRST"),
        ("-i FIRST -g none list", "FIRST: there is no group 'none'"),
        ("-i FIRST -i OTHER list", "FIRST and OTHER have different settings for the host 'ka'"),
        ("-i FIRST -i FIRST/none list", "cannot read FIRST/none: Not a directory"),
        ("-c a -c b list", "--connect is given twice"),
        ("-o json -o yaml list", "--output is given twice"),
        ("-F a -F b -H h list", "--ssh-config is given twice"),
        ("list --yaml", "--yaml is for commands that edit, not for list"),
        ("edit a -o json", "edit takes the terminal, so it has no -o json"),
        ("-t 5 console a", "console takes the terminal, so it has no --timeout"),
        ("--timeout 5 event --all", "event waits for events; give its time limit after the command: event --timeout"),
        ("-t 5 top -b -n 1", "top has no --timeout"),
        ("-t 0 list", "--timeout takes a number of seconds from 0.1, not '0'"),
        ("-t nan list", "--timeout takes a number of seconds from 0.1, not 'nan'"),
        ("-i FIRST event --all --loop -o raw", "event -o raw is for one host"),
        ("-H h:x list", "-H: a host must be a text such as"),
        ("-H root:secret@h list", "-H: a host must be a text such as 'root@hv1', without a password, which goes into"),
        ("-H a -H b:99999 list", "-H: a host must be a text such as"),
        ("schedinfo a --set b=c", "schedinfo takes name=number, not 'b=c'"),
    ],
)
def test_options_without_effect_are_refused(
    inventories: tuple[str, str], tmp_path: Path, words: str, complaint: str
) -> None:
    (tmp_path / "other.toml").write_text(local("ka", uri="test:///other"))
    for name, path in {"FIRST": inventories[0], "OTHER": str(tmp_path / "other.toml")}.items():
        words, complaint = words.replace(name, path), complaint.replace(name, path)
    done = kvmctl(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kvmctl: {complaint}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["edit a -o raw", "schedinfo a --set b=c", "define /none", "vol-upload a /none", "-H a -H b console c"]
)
def test_a_dry_run_refuses_what_a_run_refuses(words: str) -> None:
    run, dry = kvmctl(*words.split()), kvmctl(*words.split(), "-n")
    assert (run.returncode, run.stdout) == (2, "")
    assert (dry.returncode, dry.stdout, dry.stderr) == (2, "", run.stderr)


def test_hosts_with_ports_are_reached_in_every_form(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n  UserKnownHostsFile {sshd.known_hosts}\n  IdentityFile {sshd.key}\n")
    names = [f"ssh://{user()}@127.0.0.1:{sshd.port}", f"[::1]:{sshd.port}", f"{user()}@localhost:{sshd.port}"]
    words = [word for name in names for word in ("-H", name)]
    assert value("-F", str(config), "-c", TEST, *words, "domstate", "test") == dict.fromkeys(names, "running")


def test_a_host_of_an_inventory_that_is_refused_is_one_error(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text("win ansible_connection=winrm\n[kvm]\nhv1 ansible_connection=local kvm_uri=test:///default\n")
    done = kvmctl("-i", str(inventory), "domstate", "test", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"hv1": "running"})
    assert re.fullmatch(r"win: .*hosts, line 1: ansible_connection: .* not 'winrm'\n", done.stderr)
    assert value("-i", str(inventory), "-g", "kvm", "domstate", "test") == {"hv1": "running"}


# -- how long ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The URI of a libvirtd that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "libvirt"))
        listening.listen(50)
        yield f"qemu+unix:///system?socket={tmp_path}/libvirt"


def running(mark: str) -> int:
    """How many virsh processes there are with this on their command lines."""
    found = 0
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{process}/cmdline").read_bytes()
            found += line.startswith(b"virsh\0") and mark.encode() in line
    return found


@pytest.mark.parametrize("words", [["list"], ["dominfo", "7"], ["destroy", "test", "-y"], ["list", "-o", "raw"]])
def test_a_host_that_is_silent_is_given_up_after_its_timeout(tmp_path: Path, silent: str, words: list[str]) -> None:
    inventory = tmp_path / "hosts.toml"
    inventory.write_text(local("stuck", uri=silent) + local("fine"))
    done = kvmctl("-i", str(inventory), "-t", "1.5", *words)
    assert done.returncode == 1
    assert re.search(r"^stuck: .*(within|after) 1\.[0-9]+ s", done.stderr, re.MULTILINE)
    assert "fine" in done.stdout + done.stderr
    assert running(silent) == 0


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("list", 60), ("destroy a", 60), ("start a", 600), ("pool-refresh a", 600), ("migrate a b", None),
        ("migrate a b -o raw", None), ("vol-upload a b", None), ("event --all", None), ("await a b", None),
        ("qemu-img info a", 600), ("qemu-img convert a b", None),
    ],
)  # fmt: skip
def test_commands_for_several_hosts_have_a_timeout(words: str, seconds: float | None) -> None:
    assert default_timeout(parsed(words.split())) == seconds


def test_ctrl_c_names_the_hosts_without_an_answer(tmp_path: Path, silent: str) -> None:
    inventory = tmp_path / "hosts.toml"
    inventory.write_text(local("one", "two", uri=silent + "&{}") + local("fine"))
    process = subprocess.Popen(
        [*COMMAND, "-i", str(inventory), "domstate", "test", "-o", "json"], env=ENVIRONMENT, preexec_fn=hear_ctrl_c,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: running(silent) == 2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    found = re.fullmatch(r"kvmctl: interrupted; no answer from one, two(, fine)?\n", stderr)
    assert found, stderr
    assert (json.loads(stdout) == {"fine": "running"}) if stdout else found[1]
    wait_until(lambda: running(silent) == 0)


# -- an error of one host --------------------------------------------------------------------------------------------

FILTER = """\
import os, re, subprocess, sys
real, *words = sys.argv[1:]
if not any("odd" in word for word in words):
    os.execv(real, ["virsh", *words])
deep = b"<metadata>" + b"<a>" * 9999 + b"</a>" * 9999 + b"</metadata>"
process = subprocess.Popen([real, *words], stdout=subprocess.PIPE)
text = b""
while read := os.read(process.stdout.fileno(), 65536):
    text += read
    if text.endswith((b"\\n", b"virsh # ")):  # no line is in two pieces
        text = text.replace(b"8388608 KiB", b"9" * 4299 + b" KiB")
        os.write(1, text.replace(b"<on_poweroff>destroy</on_poweroff>", deep))
        text = b""
os.write(1, text)
"""
"""A virsh that prints, on hypervisors with "odd" in their URI, numbers and nesting that no libvirt prints."""


@pytest.mark.parametrize("words", ["dominfo test", "dominfo test -o json", "dumpxml test -o yaml"])
def test_a_misbehaving_host_leaves_the_values_of_others(tmp_path: Path, words: str) -> None:
    (tmp_path / "filter.py").write_text(FILTER)
    virsh = tmp_path / "virsh"
    virsh.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/filter.py {which("virsh")} "$@"\n')
    virsh.chmod(0o755)
    (tmp_path / "hosts.toml").write_text(local("odd", "well"))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = kvmctl("-i", str(tmp_path / "hosts.toml"), *words.split(), env=env)
    assert done.returncode == 1
    assert re.fullmatch(r"odd: [^\n]{,2100}\n", done.stderr)
    assert "Traceback" not in done.stderr
    assert "well" in done.stdout
    assert "odd" not in done.stdout
    alone = kvmctl("-c", "test:///default?odd", *words.split(), env=env)
    assert (alone.returncode, alone.stdout) == (1, "")
    assert re.fullmatch(r"kvmctl: [^\n]{,2100}\n", alone.stderr)


def test_an_unexpected_error_says_where_it_happened() -> None:
    try:
        range(3)[int("3")]
    except IndexError as error:
        message = of_error(error)
    expected = (
        r"unexpected IndexError in test_kvmctl_hosts\.py:[0-9]+: range object index out of range; please report this"
    )
    assert re.fullmatch(expected, message)


# -- what virsh says against a success ---------------------------------------------------------------------------------


@pytest.fixture
def unmanaged(libvirtd: Libvirtd, tmp_path: Path) -> str:
    """A guest that is only defined, with a disk that is in no pool."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(512))
    name = f"unmanaged-{os.urandom(3).hex()}"
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        hypervisor.domain.define(
            {
                "@type": "qemu", "name": name, "memory": Quantity("32 MiB"),
                "os": {"type": {"@arch": "x86_64", "#text": "hvm"}},
                "devices": {"disk": {"@type": "file", "source": {"@file": str(disk)}, "target": {"@dev": "sda"}}},
            }
        )  # fmt: skip
    return name


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_comment_on_a_success_is_on_standard_error(libvirtd: Libvirtd, unmanaged: str, output: str) -> None:
    done = kvmctl("-c", libvirtd.uri, "undefine", unmanaged, "--remove-all-storage", "-o", output)
    assert done.returncode == 0
    assert re.fullmatch(r"kvmctl: warning: Storage volume 'sda'.* is not managed by libvirt.*\n", done.stderr)
    assert "undefined" in done.stdout


def test_a_comment_on_a_success_is_in_the_result_and_the_log(
    libvirtd: Libvirtd, unmanaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        result = hypervisor.domain.undefine(unmanaged, remove_all_storage=True)
    assert result.status
    assert "is not managed by libvirt" in result.stderr
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("virsh undefine: Storage volume 'sda'")


def test_raw_text_of_several_hosts_has_the_host_on_each_line(inventories: tuple[str, str]) -> None:
    done = kvmctl("-i", inventories[0], "-g", "odd", "dumpxml", "test", "-o", "raw")
    assert done.returncode == 0
    lines = done.stdout.split("\n")
    assert {line.partition(": ")[0] for line in lines if line} == {"ka", "kc"}


# -- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["json", "table", "yaml"])
def test_events_of_several_hosts_carry_the_host(
    libvirtd: Libvirtd, unmanaged: str, tmp_path: Path, output: str
) -> None:
    (tmp_path / "hosts.toml").write_text(local("left", "right", uri=libvirtd.uri))
    words = ["event", "--event", "metadata-change", "--domain", unmanaged, "--timeout", "30", "-o", output]
    process = subprocess.Popen(
        [*COMMAND, "-i", str(tmp_path / "hosts.toml"), *words], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:

        def has_ended() -> bool:
            hypervisor.domain.desc(unmanaged, config=True, new_desc=os.urandom(3).hex())
            return process.poll() is not None

        wait_until(has_ended)
        hypervisor.domain.undefine(unmanaged)
    printed, _ = process.communicate()
    assert process.returncode == 0
    if output == "json":
        assert sorted(json.loads(line)["host"] for line in printed.splitlines()) == ["left", "right"]
    elif output == "yaml":
        assert sorted(re.findall(r"^---\nhost: (.*)$", printed, re.MULTILINE)) == ["left", "right"]
    else:
        assert sorted(line.partition(": ")[0] for line in printed.splitlines()) == ["left", "right"]
        assert printed.count(unmanaged) == 2


def test_a_list_of_events_is_a_value_of_each_host(inventories: tuple[str, str]) -> None:
    words = ["-i", inventories[0], "-H", "ka", "-H", "kb"]
    listed = value(*words, "net-event", "--list")
    assert listed["ka"] == listed["kb"]
    assert "lifecycle" in listed["ka"]
    assert "lifecycle" in kvmctl("-c", TEST, "event", "--list").stdout.split()
