"""Standard streams of kvmctl that are closed or full, text that could act on a terminal, documents, help."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import kvm
import unix
from ctl import COMMAND, ENVIRONMENT, TEST, in_terminal, kvmctl, ssh_config, value
from kvm.cli.methods_generated import METHODS
from kvm.errors import KvmError
from kvm.inventory import InventoryError, read
from kvm.values import Quantity
from libvirtd import Libvirtd
from sshd import Sshd, user
from waiting import wait_until

# -- standard streams that are closed or full -------------------------------------------------------------------------


def redirected(redirection: str, *words: str) -> tuple[int, str, str]:
    """The exit status, standard output and standard error, where the shell has redirected some of it."""
    script = f'exec "$@" {redirection}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "-c", TEST, *words],
        capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


BAD, FULL = "Bad file descriptor", "No space left on device"


@pytest.mark.parametrize(
    ("redirection", "words", "status", "reason"),
    [
        (">&-", "list", 3, BAD),
        (">/dev/full", "domstate test", 3, FULL),
        (">/dev/full", "destroy test", 3, FULL),
        (">/dev/full", "dumpxml test -o json", 3, FULL),
        (">&-", "destroy test -o raw", 3, BAD),
        (">/dev/full", "help", 3, FULL),
        (">&-", "--version", 3, BAD),
        (">/dev/full", "top -b -n 1", 3, FULL),
        (">/dev/full", "reboot test -n", 3, FULL),
        (">&- 0<&-", "net-list", 3, BAD),
    ],
)
def test_an_output_that_cannot_be_written_is_3(redirection: str, words: str, status: int, reason: str) -> None:
    found = redirected(redirection, *words.split())
    assert found == (status, "", f"kvmctl: cannot write to standard output: {reason}\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_a_lost_standard_error_changes_no_status(redirection: str) -> None:
    assert redirected(redirection, "domstate", "test") == (0, "running\n", "")
    assert redirected(redirection, "domstate", "none") == (1, "", "")
    assert redirected(redirection, "frobnicate") == (2, "", "")
    assert redirected(redirection)[0] == 2


def test_closed_streams_keep_the_exit_status() -> None:
    assert redirected(">&- 2>&- <&-", "domstate", "none")[0] == 1
    assert redirected(">&- 2>&- <&-", "domstate", "test")[0] == 3


@pytest.mark.parametrize("words", ["define -", "set-user-password test root", "cpu-compare -"])
def test_a_closed_standard_input_is_an_error_on_one_line(words: str) -> None:
    status, stdout, stderr = redirected("<&-", *words.split())
    assert (status in (1, 2), stdout, stderr.count("\n")) == (True, "", 1)
    assert stderr.startswith("kvmctl: ")
    assert BAD in stderr


def test_a_closed_standard_input_is_nothing_to_a_reader() -> None:
    assert redirected("<&-", "domstate", "test") == (0, "running\n", "")
    assert redirected("<&-", "desc", "test", "--new-desc", "x")[0] == 0


# -- text that could act on a terminal --------------------------------------------------------------------------------

CSI = "\x9b"
"""The control character that begins an escape sequence, which XML allows."""

EVIL = f"evil{CSI}2J\u202etxt"


@pytest.fixture
def evil(tmp_path: Path) -> str:
    """The URI of a test hypervisor whose domain has control characters in its name and title."""
    file = tmp_path / "host.xml"
    file.write_text(
        f"<node><domain type='test'><name>{EVIL}</name><title>{CSI}31m</title><memory>8192</memory>"
        "<os><type>hvm</type></os></domain></node>"
    )
    return f"test://{file}"


@pytest.mark.parametrize(
    "words",
    ["list --name", "list", "list -o json", "list -o yaml", "list -o raw", "dumpxml EVIL", "desc EVIL --title",
     "destroy EVIL", "domstate EVIL -o raw", "dominfo xEVIL", "domid xEVIL -o json", "top -n 1", "top -n 1 -o json",
     "-i EVIL list", "EVIL", "list --EVIL", "reboot EVIL -n", "domname EVIL --help", "-o EVIL list"],
)  # fmt: skip
def test_a_terminal_gets_no_control_characters(evil: str, words: str) -> None:
    _, seen = in_terminal("-c", evil, *(word.replace("EVIL", EVIL) for word in words.split()), env={"NO_COLOR": "1"})
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", seen), seen


def test_data_in_a_pipe_is_exact(evil: str) -> None:
    assert kvmctl("-c", evil, "list", "--name").stdout == f"{EVIL}\n"
    assert f"<name>{EVIL}</name>" in kvmctl("-c", evil, "dumpxml", EVIL).stdout
    assert EVIL in kvmctl("-c", evil, "destroy", EVIL).stdout
    assert kvmctl("-c", evil, "domid", EVIL, "-o", "raw").stdout.strip() == "1"
    as_json = kvmctl("-c", evil, "list", "-o", "json").stdout
    assert list(json.loads(as_json)) == [EVIL]
    assert "\\u009b" in as_json
    assert CSI not in as_json
    assert list(yaml.safe_load(kvmctl("-c", evil, "list", "-o", "yaml").stdout)) == [EVIL]


def test_messages_of_kvmctl_have_no_control_characters(evil: str, tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b]0;b\x07"
    folder.mkdir()
    (folder / "hosts.toml").write_text("[hosts\n")
    (tmp_path / "two\nlines").write_text("[web\n")
    assert kvmctl("-i", f"{tmp_path}/two\nlines", "list").stderr.count("\n") == 1
    for words in (["-c", evil, "domstate", "\x1b[2J"], ["-i", str(folder / "hosts.toml"), "list"], ["\x1b[31m"]):
        done = kvmctl(*words)
        assert "\\x1b" in done.stderr
        assert "\x1b" not in done.stderr


def test_errors_of_the_library_are_printable(tmp_path: Path) -> None:
    error = KvmError("a\x1b[2Jb\x9b\u202e\ttab\nline", stderr="a\x1b[2J")
    assert str(error) == "a\\x1b[2Jb\\x9b\\u202e\ttab\nline"
    assert error.stderr == "a\x1b[2J"
    assert str(unix.UnixError("\x07 日本")) == "\\x07 日本"
    (tmp_path / "\x1bhosts").write_text("[web\n")
    with pytest.raises(InventoryError, match=r"\\x1bhosts, line 1"):
        read(tmp_path / "\x1bhosts")
    with kvm.Hypervisor(unix.Local(), TEST) as hypervisor, pytest.raises(kvm.NotFoundError) as caught:
        hypervisor.domain.state("\x9b31m")
    assert "\\x9b31m" in str(caught.value)


# -- documents --------------------------------------------------------------------------------------------------------


@pytest.fixture
def guest(libvirtd: Libvirtd) -> Iterator[str]:
    """The name of a guest that is only defined, and of others that begin with it."""
    name = f"out-{os.urandom(3).hex()}"
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        os_type = {"type": {"@arch": "x86_64", "#text": "hvm"}}
        hypervisor.domain.define({"@type": "qemu", "name": name, "memory": Quantity("64 MiB"), "os": os_type})
        yield name
        for each in hypervisor.domain.list(all=True):
            if each.startswith(name):
                hypervisor.domain.undefine(each)


def test_a_current_snapshot_is_xml_as_other_documents(libvirtd: Libvirtd, guest: str, tmp_path: Path) -> None:
    words, image = ["-c", libvirtd.uri], tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    disk = ["attach-disk", guest, str(image), "vda", "--subdriver", "qcow2", "--config"]
    assert kvmctl(*words, *disk).returncode == 0
    assert kvmctl(*words, "snapshot-create-as", guest, "first").returncode == 0
    assert kvmctl(*words, "snapshot-current", guest).stdout.startswith("<domainsnapshot>\n")
    assert kvmctl(*words, "snapshot-current", guest, "--name").stdout == "first\n"
    assert value(*words, "snapshot-current", guest)["name"] == "first"
    assert kvmctl(*words, "snapshot-delete", guest, "first").returncode == 0


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_document_goes_back_as_json_or_yaml(libvirtd: Libvirtd, guest: str, tmp_path: Path, output: str) -> None:
    printed = kvmctl("-c", libvirtd.uri, "dumpxml", guest, "-o", output).stdout
    conf = json.loads(printed) if output == "json" else yaml.safe_load(printed)
    conf = {**conf, "name": f"{guest}-2", "title": "a\x85b"}
    del conf["uuid"]
    text = json.dumps(conf) if output == "json" else yaml.safe_dump(conf)
    (tmp_path / "guest").write_text(text)
    done = kvmctl("-c", libvirtd.uri, "define", str(tmp_path / "guest"))
    assert (done.returncode, done.stderr) == (0, "")
    found = value("-c", libvirtd.uri, "dumpxml", f"{guest}-2")
    assert found["title"] == "a\x85b"
    assert found["memory"] == conf["memory"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("- a\n- b\n", "standard input must be XML, or a mapping in JSON or YAML, not list"),
        ("name: [a\n", "standard input is not YAML: while parsing a flow sequence"),
        ("just words", "standard input must be XML, or a mapping in JSON or YAML, not str"),
        ("a: " + "[" * 3000, "standard input is nested too deeply"),
        ('{"a": ' * 100_000, "standard input is nested too deeply"),
        (b"name: \xff", "standard input must be XML, or JSON or YAML in UTF-8"),
    ],
    ids=range(6),
)
def test_invalid_document_is_refused_on_one_line(document: str | bytes, message: str) -> None:
    done = kvmctl("-c", TEST, "define", "-", input=document)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"kvmctl: {message}")


def test_a_document_for_raw_output_is_read_here(tmp_path: Path) -> None:
    (tmp_path / "net.xml").write_text("<network><name>raw-net</name></network>")
    done = kvmctl("-c", TEST, "net-define", str(tmp_path / "net.xml"), "-o", "raw")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert done.stdout.startswith("Network raw-net defined")
    done = kvmctl("-c", TEST, "net-define", "-", "-o", "raw", input='{"name": "x"}')
    assert (done.returncode, "-o raw takes one document, as XML" in done.stderr) == (2, True)


# -- the editor -------------------------------------------------------------------------------------------------------


def editor(directory: Path, *lines: str) -> dict[str, str]:
    """The environment with an editor that runs these lines of a shell, the file being $1."""
    script = directory / "editor"
    script.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    script.chmod(0o755)
    return {"EDITOR": str(script), "VISUAL": "", "TMPDIR": str(directory)}


@pytest.mark.parametrize(("number", "by_name"), [(signal.SIGTERM, "TERM"), (signal.SIGSEGV, "SEGV")])
def test_edit_ends_with_the_signal_that_ends_the_editor(
    libvirtd: Libvirtd, guest: str, tmp_path: Path, number: int, by_name: str
) -> None:
    env = editor(tmp_path, 'echo "<domain/>" > "$1"', f"kill -{by_name} $$")
    done = kvmctl("-c", libvirtd.uri, "edit", guest, env=env)
    kept = re.fullmatch(r"kvmctl: your changes were saved to (\S+)\n", done.stderr)
    assert (done.returncode, bool(kept)) == (128 + number, True)
    assert kept
    assert Path(kept[1]).read_text() == "<domain/>\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_an_edit_ends_the_editor_as_well(
    libvirtd: Libvirtd, guest: str, tmp_path: Path, number: signal.Signals
) -> None:
    env = editor(tmp_path, f"echo $$ > {tmp_path}/pid", "exec sleep 600")
    process = subprocess.Popen(
        [*COMMAND, "-c", libvirtd.uri, "edit", guest], env={**ENVIRONMENT, **env}, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup may have started these tests
    )  # fmt: skip
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "your changes were saved to" in stderr) == (128 + number, True)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_edit_offers_another_try_with_what_was_typed(libvirtd: Libvirtd, guest: str, tmp_path: Path) -> None:
    mend = 'if grep -q "<broken" "$1"; then sed -i "s/<broken/<title>mended<\\/title>/" "$1"'
    env = editor(tmp_path, mend, 'else sed -i "s/<vcpu/<broken&/" "$1"; fi')
    status, seen = in_terminal("-c", libvirtd.uri, "edit", guest, env=env, typed=[b"y\n"])
    assert status == 0, seen
    assert "Edit it again? [y/N]" in seen
    assert value("-c", libvirtd.uri, "desc", guest, "--title") == "mended"
    assert not list(tmp_path.glob("kvmctl-*"))
    status, seen = in_terminal("-c", libvirtd.uri, "edit", guest, env=editor(tmp_path, "echo x > $1"), typed=[b"n\n"])
    assert (status, "your changes were saved to" in seen) == (1, True)


def test_edit_of_yaml_offers_another_try(libvirtd: Libvirtd, guest: str, tmp_path: Path) -> None:
    lines = f'if [ -e {tmp_path}/again ]; then sed -i "s/^- oops//" "$1"; echo "title: of yaml" >> "$1"'
    env = editor(tmp_path, f'{lines}; else touch {tmp_path}/again; echo "- oops" >> "$1"; fi')
    status, seen = in_terminal("-c", libvirtd.uri, "edit", guest, "--yaml", env=env, typed=[b"y\n"])
    assert (status, "the edited text is not YAML" in seen) == (0, True), seen
    assert value("-c", libvirtd.uri, "desc", guest, "--title") == "of yaml"


# -- advice, and help -------------------------------------------------------------------------------------------------


def test_advice_is_for_a_command_line(sshd: Sshd, guest: str, libvirtd: Libvirtd, tmp_path: Path) -> None:
    config = ssh_config(sshd, tmp_path)
    unknown = config.with_name("unknown")
    unknown.write_text(config.read_text().replace(str(sshd.known_hosts), "/dev/null"))
    wrong_key = config.with_name("wrong")
    wrong_key.write_text(config.read_text().replace(str(sshd.key), "/dev/null"))
    for words in (
        ["-F", str(unknown), "-H", "near", "list"],
        ["-F", str(wrong_key), "-H", f"{user()}@near", "list"],
        ["-c", TEST, "domname", "4711"],
    ):
        done = kvmctl(*words)
        assert done.returncode == 1
        assert not re.search(r"host_key=|password=|\bint\b|=True|connect with", done.stderr), done.stderr
    assert "StrictHostKeyChecking=accept-new" in kvmctl("-F", str(unknown), "-H", "near", "list").stderr


def test_help_is_a_command_as_well() -> None:
    assert kvmctl("help").stdout == kvmctl("--help").stdout
    assert kvmctl("help", "net-update").stdout == kvmctl("net-update", "--help").stdout
    assert kvmctl("help", "qemu-img").stdout == kvmctl("qemu-img", "--help").stdout
    done = kvmctl("help", "net-updat")
    assert (done.returncode, "did you mean net-update?" in done.stderr) == (2, True)


def test_help_has_a_line_for_each_command() -> None:
    lines = kvmctl("help").stdout.splitlines()
    assert all(len(line) <= 120 for line in lines)
    for command in METHODS:
        (line,) = [line for line in lines if line.startswith(f"  {command} ") and "  " in line.strip()]
        assert len(line.split()) > 2, line


def test_kvmctl_alone_prints_a_short_usage() -> None:
    done = kvmctl()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: kvmctl [-c URI]")
    assert done.stderr.count("\n") < 10
