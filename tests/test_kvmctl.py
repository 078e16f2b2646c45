"""kvmctl as its users have it: a process, in a terminal and in pipes, on real hypervisors, near and far."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
import yaml
from hypothesis import given, strategies

import kvm
import unix
from ctl import COMMAND, ENVIRONMENT, TEST, hear_ctrl_c, in_terminal, kvmctl, ssh_config, value
from kvm.cli.arguments import OWN, Option, UsageError, options_of, parsed, reader_of
from kvm.cli.calls import DESTRUCTIVE, DOCUMENTS, command_words, value_of
from kvm.cli.completion import candidates, ssh_hosts
from kvm.cli.examples import EXAMPLES
from kvm.cli.manual import described, page
from kvm.cli.methods_generated import METHODS
from kvm.cli.quick import NotQuickError, Quick, may_be_quick
from kvm.cli.render import Screen, cell, plain, to_json, to_table, to_yaml
from kvm.cli.roff import man_page
from kvm.cli.yaml import load as load_yaml
from kvm.values import Quantity
from libvirtd import Libvirtd
from sshd import Sshd
from waiting import wait_until

ROOT = Path(__file__).parents[1]
HOST = """\
<node>
  <domain type='test'>
    <name>web1</name><uuid>0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00</uuid><memory>4194304</memory><vcpu>4</vcpu>
    <os><type>hvm</type></os>
    <devices>
      <disk type='file'><source file='/images/web1.qcow2'/><target dev='vda' bus='virtio'/></disk>
      <interface type='network'><source network='default'/><target dev='vnet0'/></interface>
      <graphics type='vnc'/>
    </devices>
  </domain>
  <network>
    <name>default</name><uuid>0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00</uuid><bridge name='virbr0'/>
    <ip address='192.168.122.1' netmask='255.255.255.0'/>
  </network>
  <pool type='dir'>
    <name>images</name><uuid>0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00</uuid><target><path>/images</path></target>
    <volume>
      <name>web1.qcow2</name><capacity>8589934592</capacity><target><path>/images/web1.qcow2</path></target>
    </volume>
  </pool>
  <interface type='ethernet' name='br0'>
    <start mode='onboot'/><mac address='52:54:00:12:34:56'/>
  </interface>
  <device>
    <name>computer</name>
    <capability type='system'>
      <hardware><vendor>v</vendor><uuid>0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00</uuid></hardware><firmware/>
    </capability>
  </device>
</node>
"""
"""A test hypervisor with what the examples of commands are about."""

EXAMPLES_OF_MORE = {
    "checkpoint-dumpxml", "checkpoint-info", "checkpoint-parent", "cpu-baseline", "domif-getlink", "domifstat",
    "domthrottlegroupinfo", "domxml-from-native", "find-storage-pool-sources", "hypervisor-cpu-baseline",
    "net-port-dumpxml", "save-image-dumpxml",
}  # fmt: skip
"""Commands whose examples need what a test hypervisor does not have."""


@pytest.fixture(scope="module")
def hosts(sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options with which ssh knows the hosts of `ssh_config`."""
    return ["-F", str(ssh_config(sshd, tmp_path_factory.mktemp("ssh")))]


@pytest.fixture
def guest(libvirtd: Libvirtd, tmp_path: Path) -> Iterator[str]:
    """The name of a guest that is only defined."""
    name = f"ctl-{os.urandom(3).hex()}"
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        os_type = {"type": {"@arch": "x86_64", "#text": "hvm"}}
        conf = {"@type": "qemu", "name": name, "memory": Quantity("64 MiB"), "os": os_type}
        hypervisor.domain.define(conf)
        yield name
        with contextlib.suppress(kvm.KvmError):
            hypervisor.domain.undefine(name)


# -- values -------------------------------------------------------------------------------------------------------


def test_json_is_what_other_programs_read() -> None:
    listed = kvmctl("-c", TEST, "list", "--all", "-o", "json")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert json.loads(listed.stdout) == {"test": {"id": 1, "state": "running"}}
    asked = subprocess.run(["jq", "-r", ".test.state"], input=listed.stdout, capture_output=True, text=True, check=True)
    assert asked.stdout == "running\n"


@pytest.mark.parametrize(
    "words",
    ["nodeinfo", "dominfo test", "domstats", "net-info default", "pool-info default-pool", "dumpxml test", "freecell"],
)
def test_json_and_yaml_are_the_value_that_the_method_returns(words: str) -> None:
    group, method, *arguments = {
        "nodeinfo": ("generic", "nodeinfo"),
        "dominfo test": ("domain", "info", "test"),
        "domstats": ("domain", "stats"),
        "net-info default": ("network", "info", "default"),
        "pool-info default-pool": ("pool", "info", "default-pool"),
        "dumpxml test": ("domain", "conf", "test"),
        "freecell": ("generic", "freecell"),
    }[words]
    with kvm.Hypervisor(unix.Local(), TEST) as hypervisor:
        expected = plain(getattr(getattr(hypervisor, group), method)(*arguments))
    told = value("-c", TEST, *words.split())
    as_yaml = yaml.safe_load(kvmctl("-c", TEST, *words.split(), "-o", "yaml").stdout)
    for each in (expected, told, as_yaml):
        each.pop("cpu_time", None)  # the test driver's goes on
    assert told == as_yaml == expected


def test_raw_is_virshs_own_text() -> None:
    for words in (["nodeinfo"], ["dumpxml", "test"], ["net-list", "--all"], ["dominfo", "none"]):
        own = subprocess.run(["virsh", "-c", TEST, *words], capture_output=True, text=True, check=False)
        told = kvmctl("-c", TEST, *words, "-o", "raw")
        assert (told.stdout.strip(), told.stderr.strip()) == (own.stdout.strip(), own.stderr.strip())
        assert told.returncode == own.returncode


def test_an_action_says_what_virsh_says_and_is_four_fields_in_json() -> None:
    assert kvmctl("-c", TEST, "destroy", "test").stdout == "Domain 'test' destroyed\n"
    done = value("-c", TEST, "destroy", "test")
    assert done == {"status": True, "return_code": 0, "stdout": done["stdout"], "stderr": ""}


def test_numbers_dates_and_bytes_are_exact() -> None:
    from datetime import UTC, datetime

    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = {"size": Quantity("1.5 GiB"), "at": date, "key": b"\x00\xff", "none": None, 7: [1.5, float("nan")]}
    expected = {"size": 1610612736, "at": "2026-01-02T03:04:05+00:00", "key": "AP8=", "none": None, "7": [1.5, None]}
    assert json.loads(to_json(value)) == expected
    assert to_json({"broken": "\udc80"}) == '{\n  "broken": "\\udc80"\n}\n'
    assert yaml.safe_load(to_yaml(value)) == expected
    assert yaml.safe_load(to_yaml({"on": "yes", "n": "1", "d": "2026-01-02"})) == {
        "on": "yes",
        "n": "1",
        "d": "2026-01-02",
    }


TEXT = strategies.text(strategies.characters(exclude_categories=["Cs"]))
SCALARS = strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats(allow_nan=False) | TEXT
PLAIN = strategies.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(TEXT, inner),
)


@given(PLAIN)
def test_json_is_written_as_pythons_own_module_writes_it(value: object) -> None:
    def escaped(text: str) -> str:
        """JSON with its control characters as escapes, which that module leaves as they are beyond ASCII."""
        return re.sub("[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", text)

    assert to_json(value) == escaped(json.dumps(value, indent=2, ensure_ascii=False)) + "\n"
    assert to_json(value, on_one_line=True) == escaped(json.dumps(value, ensure_ascii=False)) + "\n"


@given(PLAIN)
def test_yaml_reads_back_as_what_was_written(value: object) -> None:
    for load in (yaml.safe_load, lambda text: load_yaml(text, "it")):
        assert load(to_yaml(value)) == value
    assert load_yaml(to_yaml(["one\x85two", "\u2028", {"\x85": "end\u2029"}]), "it") == [
        "one\x85two", "\u2028", {"\x85": "end\u2029"}
    ]  # fmt: skip


def test_a_number_is_an_id_if_there_is_one_as_in_virsh() -> None:
    assert value("-c", TEST, "domname", "1") == "test"
    assert "no domain with the id or the name '2'" in kvmctl("-c", TEST, "domname", "2").stderr


def test_names_alone_are_lines_as_in_virsh(libvirtd: Libvirtd, guest: str) -> None:
    assert kvmctl("-c", TEST, "list", "--name").stdout == "test\n"
    assert guest in kvmctl("-c", libvirtd.uri, "list", "--all", "--name").stdout.splitlines()


# -- tables -------------------------------------------------------------------------------------------------------


def test_in_a_terminal_a_table_fits_and_states_have_colours() -> None:
    rows = {
        "a name that is long enough to be cut": {"state": "running", "capacity": Quantity("3 GiB")},
        "b": {"state": "x"},
    }
    shown = to_table(rows, Screen(30, colours=True)).splitlines()
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown]
    assert all(len(line) <= 30 for line in bare)
    assert "\x1b[32mrunning\x1b[0m" in shown[1]
    assert "…" in bare[1]
    assert bare[1].endswith("3 GiB")
    status, seen = in_terminal("-c", TEST, "list")
    assert status == 0
    assert "\x1b[32mrunning\x1b[0m" in seen


def test_where_a_terminal_is_too_narrow_for_columns_rows_are_lines() -> None:
    rows = {name: {"state": "running", "autostart": True, "capacity": Quantity("3 GiB")} for name in ("a", "b")}
    assert to_table(rows, Screen(20)) == "\n".join(
        f"NAME       {name}\nSTATE      running\nAUTOSTART  yes\nCAPACITY   3 GiB\n" for name in ("a", "b")
    )


def test_there_are_no_colours_in_a_pipe_or_where_nobody_wants_them() -> None:
    assert "\x1b" not in kvmctl("-c", TEST, "list").stdout
    assert "\x1b" not in in_terminal("-c", TEST, "list", env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in in_terminal("-c", TEST, "list", env={"TERM": "dumb"})[1]


def test_numbers_stand_to_the_right_and_wide_names_take_two_columns() -> None:
    table = to_table({"日本": {"id": 7}, "abcd": {"id": 1234}}, Screen())
    assert table == "NAME    ID\n日本     7\nabcd  1234\n"


def test_sizes_and_times_are_readable() -> None:
    written = ["2097152 KiB", "100", "1536 MiB", "1400 MHz", "12.5 s", "90 min", "300 ms", "100 MiB/s"]
    assert [cell(Quantity(each)) for each in written] == [
        "2 GiB", "100 B", "1.5 GiB", "1.4 GHz", "12.5 s", "1 h 30 min", "300 ms", "100 MiB/s"
    ]  # fmt: skip


def test_what_a_guest_is_called_cannot_talk_to_the_terminal() -> None:
    assert "\x1b" not in to_table({"evil\x1b]0;x\x07": {"state": "running"}}, Screen(80))


def test_documents_are_xml_that_can_be_given_back(libvirtd: Libvirtd, guest: str, tmp_path: Path) -> None:
    shown = kvmctl("-c", libvirtd.uri, "dumpxml", guest).stdout
    assert shown.startswith("<domain type='qemu'>")
    file = tmp_path / "guest.xml"
    file.write_text(shown.replace(f"<name>{guest}</name>", f"<name>{guest}2</name>").replace("<uuid>", "<uuid>0"[:6]))
    text = re.sub(r"<uuid>.*?</uuid>", "", file.read_text())
    file.write_text(text)
    assert kvmctl("-c", libvirtd.uri, "define", str(file)).returncode == 0
    assert value("-c", libvirtd.uri, "dominfo", f"{guest}2")["max_memory"] == 64 << 20
    assert kvmctl("-c", libvirtd.uri, "define", "-", input=text.replace("65536", "131072")).returncode == 1
    assert kvmctl("-c", libvirtd.uri, "undefine", f"{guest}2").returncode == 0


# -- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", METHODS)
def test_every_command_takes_its_options_in_every_form_and_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # there is help also where there is no virsh
    told, options = page(command), options_of(command)
    required = [f"--{option.name}=1" for option in options if option.is_required]
    for option in options:
        others = [word for word in required if word != f"--{option.name}=1"]
        given = [f"--{option.name}=1"] if option.kind else [f"--{option.name}"]
        asked = parsed([command, *others, *given])
        assert f"--{option.name}" in " ".join(command_words(asked))
        if option.kind:
            assert parsed([command, *others, f"--{option.name}", "1"]).options == asked.options
        assert f"--{option.name}" in told
    by_place = [option for option in options if option.is_required and option.by_place]
    first = [option for option in options if option.by_place][: len(by_place)]
    if by_place == first and not set(required) - {f"--{option.name}=1" for option in by_place}:
        assert parsed([command, *("1" for _ in by_place)]).options.keys() == {option.name for option in by_place}


def test_the_names_in_the_tables_are_commands() -> None:
    assert METHODS.keys() >= DESTRUCTIVE | DOCUMENTS
    assert not {name for name in OWN if name.startswith("--")} & {
        f"--{option.name}" for command in METHODS for option in options_of(command)
    } - {"--host", "--timeout"}
    assert isinstance(options_of("list")[0], Option)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("lsit", "did you mean list?"),
        ("list --al", "did you mean --all?"),
        ("dominfo", "dominfo needs <domain>"),
        ("dominfo a b", "unexpected argument 'b'"),
        ("list -o xml", "-o takes one of table, json, yaml, raw"),
        ("dominfo --domain a --domain b", "given twice"),
        ("define /nowhere/at/all.xml", "cannot read /nowhere/at/all.xml"),
        ("-g web list", "-g GROUP needs -i INVENTORY"),
        ("--completion csh", "there is completion for bash, zsh, fish"),
    ],
)
def test_a_wrong_command_line_is_told_so_with_2(words: str, complaint: str) -> None:
    done = kvmctl("-c", TEST, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kvmctl: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["list", "domstats", "nodeinfo", "net-list --all", "pool-list --details", "freecell"])
def test_the_short_way_and_the_long_way_say_the_same(words: str) -> None:
    for uri in (TEST, "test:///default?long=way"):
        asked = parsed(["-c", uri, *words.split()])
        assert may_be_quick(asked)
        with Quick(asked) as quick, kvm.Hypervisor(unix.Local(), uri) as hypervisor:
            assert quick.value() == value_of(hypervisor, asked)


def test_the_short_way_is_for_what_only_reads_and_does_so_here() -> None:
    for words in ("destroy test", "-H a list", "list -o raw", "list -n", "dominfo 1", "-c qemu:///session list"):
        assert not may_be_quick(parsed(words.split())), words
    with pytest.raises(NotQuickError), Quick(parsed(["-c", TEST, "dominfo", "none"])) as quick:
        quick.value()
    with pytest.raises(NotQuickError), Quick(parsed(["-c", "test:///nowhere", "list"])) as quick:
        quick.value()


def test_without_virsh_it_says_what_to_install(tmp_path: Path) -> None:
    done = kvmctl("-c", TEST, "list", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "libvirt-clients" in done.stderr


def test_a_failure_is_one_line_and_1() -> None:
    done = kvmctl("-c", TEST, "dominfo", "none", "-o", "json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "kvmctl: virsh dominfo: failed to get domain 'none'\n"


def test_help_is_for_people_and_goes_to_standard_output() -> None:
    done = kvmctl("list", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--inactive" in done.stdout
    assert "Example:  kvmctl list --all -o json\n" in done.stdout
    assert re.search(r"--inactive +list inactive domains\n", done.stdout)  # in the words of the virsh that is here
    assert "``" not in done.stdout
    everything = kvmctl("--help").stdout
    assert all(f" {command}" in everything for command in METHODS)
    assert kvmctl().returncode == 2


def shell_words(example: str) -> list[str]:
    return shlex.split(re.split(r" [|>] ", example)[0])


def test_each_command_has_an_example_that_is_a_command_line() -> None:
    assert sorted(METHODS) == sorted(example.split()[0] for example in EXAMPLES.splitlines())
    for example in EXAMPLES.splitlines():
        assert parsed(shell_words(example)).command == example.split()[0]


def test_the_examples_that_only_read_do_what_they_say(tmp_path: Path) -> None:
    file = tmp_path / "host.xml"
    file.write_text(HOST)
    failed: dict[str, str] = {}
    asked = [parsed(shell_words(example)) for example in EXAMPLES.splitlines()]
    asked = [each for each in asked if reader_of(each.command) and not each.command.endswith("edit")]
    asked = [each for each in asked if each.command not in DESTRUCTIVE]
    with kvm.Hypervisor(unix.Local(), f"test://{file}") as hypervisor:
        hypervisor.snapshot.create_as("web1", "before")
        for each in asked:
            try:
                value_of(hypervisor, each)
            except kvm.NotSupportedError:
                continue
            except (kvm.KvmError, UsageError) as error:
                failed[each.command] = str(error)
    known = failed.keys() - EXAMPLES_OF_MORE
    assert not known, {name: failed[name] for name in known}
    assert len(asked) - len(failed) > 60


def test_the_man_page_is_what_help_shows() -> None:
    made = man_page("1")
    assert made.replace("\\-", "-").count("\n.SS ") == len(METHODS)
    checked = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Kutf8"], input=made, capture_output=True, text=True, check=True
    )
    assert checked.stderr == ""
    shown = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-P-cbou"], input=made, capture_output=True, text=True, check=True
    ).stdout
    assert "kvmctl list [OPTIONS]" in shown
    assert 'Example: kvmctl qemu-agent-command web1 \'{"execute": "guest-ping"}\'' in shown


def test_help_says_nothing_of_what_only_a_program_can_give() -> None:
    for command in METHODS:
        assert not re.search(r"\b(progress|cancel) (and|is|as)\b|>>>", described(command)), command


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    piped = subprocess.run(
        ["sh", "-c", '"$@" 2>&1 | head -1', "sh", *COMMAND, "-c", TEST, "capabilities"],
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert piped.stdout == "<capabilities>\n"


# -- several hosts ------------------------------------------------------------------------------------------------


def test_one_far_host_gives_the_value_and_several_give_it_by_host(hosts: list[str]) -> None:
    listed = {"test": {"id": 1, "state": "running"}}
    assert value(*hosts, "-c", TEST, "-H", "near", "list") == listed
    assert value(*hosts, "-c", TEST, "-H", "near", "-H", "also", "list") == {"near": listed, "also": listed}
    shown = kvmctl(*hosts, "-c", TEST, "-H", "near", "-H", "also", "list").stdout
    assert shown.splitlines() == ["HOST  NAME  ID  STATE", "near  test   1  running", "also  test   1  running"]
    names = kvmctl(*hosts, "-c", TEST, "-H", "near", "-H", "also", "domstate", "test").stdout
    assert names.splitlines() == ["HOST  VALUE", "near  running", "also  running"]


def test_a_host_that_fails_has_a_line_on_standard_error_and_the_others_their_values(hosts: list[str]) -> None:
    done = kvmctl(*hosts, "-c", TEST, "-H", "near", "-H", "gone", "domstate", "test", "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"near": "running"}
    assert done.stderr.startswith("gone: ")
    assert done.stderr.count("\n") == 1


def test_an_inventory_names_the_hosts(hosts: list[str], tmp_path: Path) -> None:
    inventory = tmp_path / "config"
    inventory.write_text(Path(hosts[1]).read_text().partition("Host gone")[0])
    assert value("-i", str(inventory), "-c", TEST, "domstate", "test") == {"near": "running", "also": "running"}


def test_an_inventory_that_is_none_is_a_wrong_command_line(tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken.toml", tmp_path / "whole.toml"
    broken.write_text("[hosts\n")
    whole.write_text("[hosts.a]\n")
    for words, complaint in (
        (["-i", str(tmp_path / "none")], f"cannot read {tmp_path}/none: No such file or directory"),
        (["-i", str(broken)], f"{broken}, line 1: this is not TOML"),
        (["-i", str(whole), "-g", "web"], "there is no group 'web'"),
    ):
        done = kvmctl(*words, "list")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert complaint in done.stderr


def test_events_are_a_line_each_as_they_happen(libvirtd: Libvirtd, guest: str) -> None:
    words = [*COMMAND, "-c", libvirtd.uri, "event", "--domain", guest, "--all", "--timeout", "60", "-o", "json"]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            kvmctl("-c", libvirtd.uri, "desc", guest, "--config", "--new-desc", os.urandom(3).hex())
        assert process.stdout
        event = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert event["name"] == guest
    assert {"time", "kind", "details"} <= event.keys()


def test_what_destroys_on_several_hosts_wants_a_yes(hosts: list[str]) -> None:
    words = [*hosts, "-c", TEST, "-H", "near", "-H", "also", "destroy", "test"]
    refused = kvmctl(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "refusing to run destroy on 2 hosts without confirmation; pass --yes" in refused.stderr
    assert set(value(*words, "--yes")) == {"near", "also"}
    status, seen = in_terminal(*words, typed=[b"n\n"])
    assert (status, "nothing was done" in seen) == (2, True)
    status, seen = in_terminal(*words, typed=[b"y\n"])
    assert (status, seen.count("destroyed")) == (0, 2)


def test_a_number_for_memory_is_what_virsh_takes_it_for(tmp_path: Path) -> None:
    (tmp_path / "virsh").write_text(f'#!/bin/sh\ntee -a {tmp_path}/said | {which("virsh")} "$@"\n')
    (tmp_path / "virsh").chmod(0o755)
    for words in (["setmem", "test", "1048576"], ["memtune", "test", "65536"]):
        done = kvmctl("-c", TEST, *words, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        dry = kvmctl("-c", TEST, *words, "--dry-run").stdout
        said = (tmp_path / "said").read_text().replace("\x15", "\n").splitlines()
        assert dry.partition(TEST)[2].strip().replace("--domain=", "") in said


def test_a_dry_run_prints_the_commands_and_masks_secrets(hosts: list[str]) -> None:
    words = ["set-user-password", "test", "root", "se cret", "--dry-run"]
    done = kvmctl("-c", TEST, *words)
    assert done.stdout == (
        f"virsh --connect {TEST} set-user-password --domain=test --user=root '--password=***'\n"
    )  # fmt: skip
    far = kvmctl(*hosts, "-H", "near", "-H", "gone", "destroy", "a b", "-n")
    assert far.stdout == "near: virsh destroy '--domain=a b'\ngone: virsh destroy '--domain=a b'\n"


def test_it_is_no_matter_who_has_started_it() -> None:
    """With the ends of children ignored, as some do; and with nowhere to complain."""
    for words in (["list"], ["dominfo", "test"]):
        ignoring = ["sh", "-c", 'trap "" CHLD; exec "$@"', "sh", *COMMAND, "-c", TEST, *words]
        done = subprocess.run(ignoring, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "-c", "test:///none", "top", "--batch", "--count", "1"]
    assert subprocess.run(closed, capture_output=True, check=False, env=ENVIRONMENT, timeout=60).returncode == 1


def test_missing_virsh_is_reported_without_python_advice() -> None:
    done = subprocess.run(
        [*COMMAND, "-c", TEST, "list"],
        env={**ENVIRONMENT, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("not in PATH (/nowhere), add that directory\n")
    assert "envs" not in done.stderr


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


def command_lines() -> list[bytes]:
    found = []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{process}/cmdline").read_bytes())
    return found


@pytest.mark.parametrize("far", [[], ["near"], ["near", "also"]])
def test_ctrl_c_leaves_nothing_running(libvirtd: Libvirtd, hosts: list[str], far: list[str]) -> None:
    if not libvirtd.is_system:
        pytest.skip("only a system daemon can be stopped here")
    uri = f"{libvirtd.uri}&mark={os.urandom(4).hex()}"

    def asking() -> int:
        return sum(b"virsh" in line.split(b"\0")[0] and uri.encode() in line for line in command_lines())

    with libvirtd.stopped():
        process = subprocess.Popen(
            [*COMMAND, "-c", uri, *(hosts if far else []), *(f"-H{name}" for name in far), "list"],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )
        wait_until(lambda: asking() == max(len(far), 1))
        time.sleep(0.2)  # until it is known here as well that they are
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        expected = b"kvmctl: interrupted; no answer from near, also\n" if "also" in far else b""
        assert (process.returncode, said) == (130, expected)
        wait_until(lambda: asking() == 0)


def test_ctrl_c_while_hosts_are_connected_to_leaves_nothing(hosts: list[str], tmp_path: Path) -> None:
    mark = f"test:///default?mark={os.urandom(4).hex()}"
    begun = "from kvm.cli import main; print(flush=True); main()"
    config = tmp_path / "config"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        silent_host = f"Host silent\n  HostName 127.0.0.1\n  Port {silent.getsockname()[1]}\n"
        config.write_text(Path(hosts[1]).read_text() + silent_host)
        words = ["-F", str(config), "-c", mark, "-H", "near", "-H", "silent", "-H", "also", "list"]
        owned = [str(config).encode(), mark.encode()]
        for delay in (0.1, 0.3, 0.5, 0.9):
            process = subprocess.Popen(
                [sys.executable, "-c", begun, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, preexec_fn=hear_ctrl_c,
            )  # fmt: skip
            assert process.stdout
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 130
            assert re.fullmatch(rb"(kvmctl: interrupted; no answer from (near, )?silent(, also)?\n)?", said)
            wait_until(lambda: not any(own in line for line in command_lines() for own in owned))


# -- what takes long ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(libvirtd: Libvirtd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the pool ``images``, which has a volume ``disk``; a file beside it is as large."""
    directory = tmp_path_factory.mktemp("images")
    directory.chmod(0o777)
    (directory / "content").write_bytes(os.urandom(48 << 20))
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        hypervisor.pool.create({"@type": "dir", "name": "images", "target": {"path": str(directory)}})
        hypervisor.volume.create_as("images", "disk", "48MiB")
        yield directory
        hypervisor.pool.destroy("images")


def test_a_terminal_shows_how_far_a_transfer_is_and_nothing_else_does(
    libvirtd: Libvirtd, hosts: list[str], images: Path, tmp_path: Path
) -> None:
    near = [*hosts, "-c", libvirtd.uri, "-H", "near"]
    status, seen = in_terminal(*near, "vol-upload", "disk", str(images / "content"), "--pool", "images", columns=100)
    assert (status, "vol-upload on near" in seen, "/48 MiB" in seen) == (0, True, True)
    assert seen.endswith("\x1b[2K")  # the bar is gone
    for env in ({"TERM": "dumb"}, {}):
        words = ["vol-download", "disk", str(tmp_path / "copy"), "--pool", "images"]
        done = in_terminal(*near, *words, env=env)[1] if env else kvmctl(*near, *words).stderr
        assert "%" not in done
    assert (tmp_path / "copy").read_bytes() == (images / "content").read_bytes()


def test_what_comes_from_standard_input_goes_to_a_volume(libvirtd: Libvirtd, images: Path) -> None:
    local = ["-c", libvirtd.uri]
    assert kvmctl(*local, "vol-create-as", "images", "typed", "4KiB").returncode == 0
    done = kvmctl(*local, "vol-upload", "typed", "-", "--pool", "images", input=b"from a pipe")
    assert (done.returncode, done.stderr) == (0, "")
    assert (images / "typed").read_bytes().startswith(b"from a pipe")
    done = kvmctl("-H", "a", "-H", "b", "--yes", "vol-upload", "typed", "-", "--pool", "images")
    assert (done.returncode, "one host only" in done.stderr) == (2, True)


def test_a_file_that_cannot_be_sent_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    done = kvmctl("-c", TEST, "vol-upload", "disk", str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (2, f"kvmctl: cannot read {tmp_path}/none: No such file or directory\n")


def test_jobs_show_how_far_they_are_and_ctrl_c_cancels_them(libvirtd: Libvirtd, images: Path) -> None:
    image = images / "guest.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 65 0 64M", image], check=True)
    image.chmod(0o666)
    name = f"job-{os.urandom(3).hex()}"
    source = {"@type": "file", "driver": {"@name": "qemu", "@type": "qcow2"}, "source": {"@file": str(image)}}
    conf = {
        "@type": "qemu", "name": name, "memory": Quantity("64 MiB"),
        "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
        "devices": {"disk": {**source, "target": {"@dev": "vda", "@bus": "virtio"}}},
    }  # fmt: skip
    copy = ["blockcopy", name, "vda", "--transient-job", "--wait"]
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        hypervisor.domain.create(conf)
        try:
            slow = ["-c", libvirtd.uri, *copy, str(images / "first"), "--bandwidth", "1"]
            status, seen = in_terminal(*slow, columns=100, until=b"%")
            assert status == 130, seen
            assert re.search(r"virsh blockcopy.*: it was cancelled", seen), seen
            assert hypervisor.domain.blockjob(name, "vda") is None
            done = kvmctl("-c", libvirtd.uri, *copy, str(images / "second"), "--finish", "--verbose")
            assert done.returncode == 0, done.stderr
            assert re.fullmatch(r"(blockcopy: \d+ %\n)*blockcopy: 100 %\n", done.stderr)
        finally:
            hypervisor.domain.destroy(name)


# -- files, editors and secrets -----------------------------------------------------------------------------------


def test_an_editor_changes_xml_or_values(libvirtd: Libvirtd, guest: str, tmp_path: Path) -> None:
    script = tmp_path / "editor"
    script.write_text("#!/bin/sh\nsed -i 's/>1</>3</' \"$1\"\n")
    script.chmod(0o755)
    env = {"EDITOR": str(script), "VISUAL": ""}
    done = kvmctl("-c", libvirtd.uri, "edit", guest, env=env)
    assert done.returncode == 0, done.stderr
    assert value("-c", libvirtd.uri, "dominfo", guest)["cpus"] == 3
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/seen\nsed -i "s/\'3\'/\'2\'/" "$1"\n')
    done = kvmctl("-c", libvirtd.uri, "edit", guest, "--yaml", env=env)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "seen").read_text())["name"] == guest
    assert value("-c", libvirtd.uri, "dominfo", guest)["cpus"] == 2


def test_an_editor_is_given_all_that_libvirt_keeps(libvirtd: Libvirtd, tmp_path: Path) -> None:
    steps = '<a:steps xmlns:a="urn:a"><a:run/><?a now?><a:wait/><!-- then --><a:run><![CDATA[<]]></a:run></a:steps>'
    guest = f"<name>kept</name><metadata>{steps}</metadata><memory>8192</memory><os><type>hvm</type></os>"
    assert kvmctl("-c", libvirtd.uri, "define", "-", input=f"<domain type='qemu'>{guest}</domain>").returncode == 0
    script = tmp_path / "editor"
    script.write_text(f"#!/bin/sh\ncp $1 {tmp_path}/seen\nsed -i 's/>1</>3</' $1\n")
    script.chmod(0o755)
    env = {"EDITOR": str(script), "VISUAL": ""}
    try:
        done = kvmctl("-c", libvirtd.uri, "edit", "kept", env=env)
        assert done.returncode == 0, done.stderr
        for text in ((tmp_path / "seen").read_text(), kvmctl("-c", libvirtd.uri, "dumpxml", "kept").stdout):
            assert steps in re.sub(r">\s+<", "><", text)
        assert value("-c", libvirtd.uri, "dominfo", "kept")["cpus"] == 3
        script.write_text("#!/bin/sh\n")
        assert "is unchanged" in kvmctl("-c", libvirtd.uri, "edit", "kept", env=env).stdout
    finally:
        kvmctl("-c", libvirtd.uri, "undefine", "kept")


def test_what_was_typed_in_vain_is_kept(libvirtd: Libvirtd, guest: str, tmp_path: Path) -> None:
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\necho "<domain>" > "$1"\n')
    script.chmod(0o755)
    done = kvmctl("-c", libvirtd.uri, "edit", guest, env={"VISUAL": str(script), "TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    kept = re.search(r"your changes were saved to (\S+)", done.stderr)
    assert kept
    assert Path(kept[1]).read_text() == "<domain>\n"


def test_a_secret_comes_from_standard_input_or_a_file(libvirtd: Libvirtd, tmp_path: Path) -> None:
    uuid = kvm.gen_uuid()
    xml = f"<secret><uuid>{uuid}</uuid><description>kvmctl's</description></secret>"
    assert kvmctl("-c", libvirtd.uri, "secret-define", "-", input=xml).returncode == 0
    assert kvmctl("-c", libvirtd.uri, "secret-set-value", uuid, input=b"\x00geheim\n").returncode == 0
    assert base64.b64decode(value("-c", libvirtd.uri, "secret-get-value", uuid)) == b"\x00geheim\n"
    file = tmp_path / "value"
    file.write_text(base64.b64encode(b"other").decode() + "\n")
    assert kvmctl("-c", libvirtd.uri, "secret-set-value", uuid, "--file", str(file)).returncode == 0
    assert kvmctl("-c", libvirtd.uri, "secret-get-value", uuid, "--plain").stdout == "other"
    file.write_text("not base64")
    assert kvmctl("-c", libvirtd.uri, "secret-set-value", uuid, "--file", str(file)).returncode == 2
    assert kvmctl("-c", libvirtd.uri, "secret-undefine", uuid).returncode == 0


def test_a_password_is_asked_for_and_not_seen() -> None:
    status, seen = in_terminal("-c", TEST, "set-user-password", "test", "root", typed=[b"geheim\n", b"geheim\n"])
    assert status == 0
    assert "New password of root: " in seen
    assert "geheim" not in seen
    assert kvmctl("-c", TEST, "set-user-password", "test", "root", input="geheim\n").returncode == 0
    assert kvmctl("-c", TEST, "set-user-password", "test", "root").returncode == 2


def test_a_screenshot_is_a_file_here(hosts: list[str], tmp_path: Path) -> None:
    for far in ([], [*hosts, "-H", "near"]):
        file = tmp_path / f"screen{len(far)}.png"
        done = kvmctl("-c", TEST, *far, "screenshot", "test", str(file))
        assert done.returncode == 0, done.stderr
        assert file.read_bytes().startswith(b"\x89PNG")


# -- completion ---------------------------------------------------------------------------------------------------


def test_commands_options_hosts_and_names_are_completed(tmp_path: Path) -> None:
    assert candidates(["dominf"]) == ["dominfo"]
    assert candidates(["-c", TEST, "dominfo", ""]) == ["test"]
    assert candidates(["-c", TEST, "net-info", "--network", "d"]) == ["default"]
    assert candidates(["-c", TEST, "net-info", "--network=d"]) == ["--network=default"]
    assert "--inactive" in candidates(["list", "--in"])
    assert candidates(["-o", "j"]) == ["json"]
    assert candidates(["-c", "qemu:///system?socket=/none", "dominfo", ""]) == []
    (tmp_path / "more").write_text("Host far\n")
    (tmp_path / "config").write_text(f"Host a b *.c !d\n  User x\nInclude {tmp_path}/more\nhost=e\n")
    assert ssh_hosts(str(tmp_path / "config")) == ["a", "b", "e", "far"]
    assert candidates(["-F", str(tmp_path / "config"), "-H", "f"]) == ["far"]
    (tmp_path / "hosts.toml").write_text('[hosts.a]\n[groups]\nrack1 = ["a"]\n')
    assert candidates(["-i", str(tmp_path / "hosts.toml"), "-g", ""]) == ["rack1"]
    assert candidates(["-i", str(tmp_path / "none"), "-g", ""]) == []


@pytest.fixture
def in_path(tmp_path: Path) -> dict[str, str]:
    """An environment with kvmctl in its PATH."""
    script = tmp_path / "bin" / "kvmctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvm.cli "$@"\n')
    script.chmod(0o755)
    return {**ENVIRONMENT, "PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kvmctl nodein", "nodeinfo"),
        (f"kvmctl -c {TEST} dominfo t", "test"),
        (f"kvmctl -c {TEST} dominfo --domain=t", "test"),
    ],
)
def test_bash_completes(in_path: dict[str, str], line: str, expected: str) -> None:
    program = (
        'eval "$(kvmctl --completion bash)"; COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1); '
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _kvmctl 2> /dev/null; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", line], capture_output=True, text=True, check=True, env=in_path
    )
    assert done.stdout.splitlines() == [expected]


def test_fish_completes(in_path: dict[str, str]) -> None:
    program = f"kvmctl --completion fish | source; complete -C 'kvmctl -c {TEST} dominfo t'"
    done = subprocess.run(["fish", "-c", program], capture_output=True, text=True, check=True, env=in_path)
    assert done.stdout.splitlines() == ["test"]


def test_zsh_completes_as_it_is_typed(in_path: dict[str, str], hosts: list[str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 400, 0, 0))
            os.execvpe("zsh", ["zsh", "-f"], {**in_path, "TERM": "dumb", "PS1": "> ", "HISTFILE": "/dev/null"})
        finally:
            os._exit(127)
    seen = b""

    def shows(expected: bytes) -> bool:
        nonlocal seen
        if select.select([terminal], [], [], 0.02)[0]:
            seen += os.read(terminal, 4096)
        return expected in seen

    def comes(expected: bytes) -> None:
        wait_until(lambda: shows(expected), lambda: seen)

    try:
        os.write(terminal, b'autoload -U compinit; compinit -u -D; eval "$(kvmctl --completion zsh)"; echo rea""dy\n')
        comes(b"ready\r\n")
        for typed, expected in (
            (f"kvmctl {' '.join(hosts)} -H go", "-H gone "),
            (f"kvmctl -c {TEST} net-info --network=d", "--network=default "),
            (f"kvmctl -c {TEST} pool-info d", "pool-info default-pool "),
        ):
            seen = b""
            os.write(terminal, f"{typed}\t".encode())
            comes(expected.encode())
            os.write(terminal, b"\x15")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


# -- the project --------------------------------------------------------------------------------------------------


def test_what_is_generated_for_kvmctl_is_up_to_date() -> None:
    file = ROOT / "src/kvm/cli/methods_generated.py"
    before = file.read_text()
    subprocess.run([sys.executable, ROOT / "tools" / "generate_methods.py"], check=True, capture_output=True)
    assert file.read_text() == before


def test_unknown_words_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match="there is no command"):
        parsed(["-c", TEST, "frobnicate"])
