"""kvmctl qemu-img: qemu-img's own command line, here and on hosts that ssh reaches, with what kvmctl adds to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvm
import unix
from ctl import in_terminal, kvmctl
from hosts import Hosts
from kvm.cli.arguments import UsageError, parsed
from kvm.cli.completion import candidates
from kvm.cli.images import SUBCOMMANDS, changes, is_verbose, watched
from kvm.cli.manual import page
from kvm.cli.render import plain
from kvm.cli.roff import man_page
from test_image import damage, gone

MIB = 1 << 20


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options with which kvmctl reaches two hosts, which have the same files."""
    directory = tmp_path_factory.mktemp("hosts")
    hosts = Hosts(directory, 2)
    sshd, config = hosts.sshd, directory / "config"
    same = f"Port {sshd.port}\n  IdentityFile {sshd.key}\n  HostKeyAlias [127.0.0.1]:{sshd.port}"
    known = f"UserKnownHostsFile {sshd.known_hosts}"
    named = zip(hosts.names, hosts.addresses, strict=True)
    config.write_text("".join(f"Host {name}\n  HostName {address}\n  {same}\n  {known}\n" for name, address in named))
    yield ["-F", str(config), "-H", "hv01", "-H", "hv02"]
    sshd.remove()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A qcow2 image with a raw one of four MiB below it."""
    below, disk = tmp_path / "below.raw", tmp_path / "a disk.qcow2"
    below.write_bytes(os.urandom(4 * MIB))
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(below), str(disk)]
    subprocess.run(words, check=True)
    return disk


def own(*words: str) -> subprocess.CompletedProcess[str]:
    """What qemu-img itself says."""
    return subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)


# -- the command line ---------------------------------------------------------------------------------------------


def test_every_word_behind_it_is_qemu_imgs() -> None:
    words = ["convert", "-n", "-o", "json", "-c", "-y", "--help", "-H", "x", "--", "-i"]
    asked = parsed(["-H", "hv1", "-o", "json", "-y", "qemu-img", *words])
    assert asked.options == {"subcommand": words}
    assert (asked.hosts, asked.output, asked.flags) == (["hv1"], "json", {"yes"})
    assert parsed(["qemu-img", "--help"]).flags == {"help"}
    with pytest.raises(UsageError, match="qemu-img needs <subcommand>"):
        parsed(["qemu-img"])


def test_what_changes_an_image_and_who_wants_to_see_how_far_it_is_are_found_among_the_words() -> None:
    for words in (
        "create x 1G", "check -Ur all x", "check --repair=all x", "snapshot -qd 1 x", "snapshot --apply 1 x",
        "bench -w x", "-T trace resize x 1G", "dd if=a of=b", "bitmap --add x b",
    ):  # fmt: skip
        assert changes(parsed(["qemu-img", *words.split()])), words
    for words in ("info x", "check x", "snapshot -l -- -d", "snapshot x", "bench x", "compare a b", "--version"):
        assert not changes(parsed(["qemu-img", *words.split()])), words
    for words in ("convert -p a b", "convert -cp a b", "commit -dp x", "rebase --progress x"):
        assert is_verbose(parsed(["qemu-img", *words.split()])), words
    for words in ("convert a b", "convert -Sp a b", "convert --parallel 3 a b", "convert -- -p b"):
        assert not is_verbose(parsed(["qemu-img", *words.split()])), words
    assert watched(parsed(["qemu-img", "convert", "-q", "a", "b"])) == {"cancel"}
    assert watched(parsed(["qemu-img", "info", "a"])) == frozenset()


def test_there_are_help_and_completion_for_it() -> None:
    told = own("--help").stdout
    assert set(SUBCOMMANDS) == set(re.findall(r"^  ([a-z]+) [\[(].*$", told, re.MULTILINE))
    assert candidates(["qemu-i"]) == ["qemu-img"]
    assert candidates(["-o", "json", "qemu-img", "co"]) == ["commit", "compare", "convert"]
    assert candidates(["qemu-img", "info", ""]) == candidates(["qemu-img", "info", "--"]) == []
    assert kvmctl("qemu-img", "--help").stdout == page("qemu-img")
    assert "qemu-img SUBCOMMAND" in man_page("1").replace("\\-", "-")
    assert "qemu-img, its command line" in page("")
    assert kvmctl("qemu-img", "info", "--help").stdout.splitlines()[0] == told.splitlines()[0]


# -- values -------------------------------------------------------------------------------------------------------


def test_what_qemu_img_tells_in_json_is_the_value_that_the_method_returns(disk: Path) -> None:
    image, below = kvm.Hypervisor(unix.Local()).image, str(disk.with_name("below.raw"))
    expected = {
        ("info", str(disk)): image.info(disk),
        ("info", "--backing-chain", str(disk)): image.info(disk, backing_chain=True),
        ("map", str(disk)): image.map(disk),
        ("measure", "-O", "qcow2", "--size", "1G"): image.measure(size="1G", target_format="qcow2"),
        ("check", str(disk)): image.check(disk),
    }
    for words, each in expected.items():
        done = kvmctl("-o", "json", "qemu-img", *words)
        assert (done.returncode, json.loads(done.stdout)) == (0, plain(each)), words
    shown = kvmctl("qemu-img", "info", str(disk)).stdout
    assert re.search(rf"^virtual_size +{4 * MIB}\n(.*\n)*backing_filename +{re.escape(below)}$", shown, re.MULTILINE)
    text = own("info", str(disk)).stdout
    assert kvmctl("-o", "raw", "qemu-img", "info", str(disk)).stdout == text
    assert kvmctl("qemu-img", "info", "--output=human", str(disk)).stdout.strip() == text.strip()
    assert json.loads(kvmctl("qemu-img", "info", "--output", "json", str(disk)).stdout)["virtual-size"] == 4 * MIB


def test_several_hosts_answer_together_and_who_fails_says_so(far: list[str], disk: Path, tmp_path: Path) -> None:
    told = json.loads(kvmctl(*far, "-o", "json", "qemu-img", "info", str(disk)).stdout)
    assert {host: each["virtual_size"] for host, each in told.items()} == {"hv01": 4 * MIB, "hv02": 4 * MIB}
    shown = kvmctl(*far, "qemu-img", "measure", "-O", "raw", "--size", "1M").stdout.splitlines()
    assert [row.split() for row in shown] == [
        ["HOST", "REQUIRED", "FULLY_ALLOCATED"], ["hv01", str(MIB), str(MIB)], ["hv02", str(MIB), str(MIB)],
    ]  # fmt: skip
    failed = kvmctl(*far, "qemu-img", "info", "/images/none")
    assert (failed.returncode, failed.stdout) == (1, "")
    said = "qemu-img info: Could not open '/images/none': Could not open '/images/none': No such file or directory"
    assert sorted(failed.stderr.splitlines()) == [f"hv01: {said}", f"hv02: {said}"]
    assert kvmctl("qemu-img", "info", "/images/none").stderr == f"kvmctl: {said}\n"
    assert "no qemu-img on" in kvmctl("qemu-img", "info", "x", env={"PATH": str(tmp_path)}).stderr


def test_what_check_finds_and_how_images_differ_are_told_with_1(disk: Path) -> None:
    cluster = disk.stat().st_size // 65536 + 4
    os.truncate(disk, (cluster + 1) * 65536)
    damage(disk, cluster, 1)
    leaking = kvmctl("-o", "json", "qemu-img", "check", str(disk))
    assert (leaking.returncode, json.loads(leaking.stdout)["leaks"]) == (1, 1)
    beside = own("check", "--output=json", str(disk)).stderr
    assert leaking.stderr == "".join(f"kvmctl: {line}\n" for line in beside.splitlines())
    repaired = kvmctl("-o", "json", "qemu-img", "check", "-r", "all", str(disk))
    assert (repaired.returncode, json.loads(repaired.stdout)["leaks_fixed"]) == (0, 1)
    below, other = disk.with_name("below.raw"), disk.with_name("other.raw")
    other.write_bytes(bytes(4 * MIB))
    differ = kvmctl("qemu-img", "compare", str(below), str(other))
    assert (differ.returncode, differ.stdout, differ.stderr) == (1, "Content mismatch at offset 0!\n", "")
    same = kvmctl("qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(disk), str(below))
    assert (same.returncode, same.stdout) == (0, "Images are identical.\n")
    wrong = kvmctl("qemu-img", "compare", "--none", str(below), str(other))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "kvmctl: qemu-img compare: this qemu-img has no option --none\n"


# -- what changes images ------------------------------------------------------------------------------------------


def test_what_may_change_images_on_several_hosts_wants_a_yes(far: list[str], disk: Path) -> None:
    words = ["qemu-img", "resize", str(disk), "+4M"]
    refused = kvmctl(*far, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "kvmctl: refusing to run qemu-img resize on 2 hosts without confirmation; pass --yes\n"
    status, seen = in_terminal(*far, *words, typed=[b"n\n"])
    assert (status, "nothing was done" in seen) == (2, True)
    dry = kvmctl(*far, "-n", *words).stdout.splitlines()
    assert dry == [f"{host}: qemu-img resize '{disk}' +4M" for host in ("hv01", "hv02")]
    assert kvmctl("-n", "qemu-img", "info", "x").stdout == "qemu-img info --output=json x\n"
    assert kvm.Hypervisor(unix.Local()).image.info(disk)["virtual_size"] == 4 * MIB
    done = kvmctl(*far, "--yes", "qemu-img", "snapshot", "-l", str(disk))
    assert (done.returncode, done.stdout) == (0, "")
    assert kvmctl("qemu-img", *words[1:]).stdout == "Image resized.\n"
    assert kvm.Hypervisor(unix.Local()).image.info(disk)["virtual_size"] == 8 * MIB


def test_a_terminal_shows_how_far_it_is_and_a_pipe_if_it_is_told_to(far: list[str], disk: Path) -> None:
    words = ["-O", "qcow2", str(disk), str(disk.with_name("copy"))]
    status, seen = in_terminal(*far[:4], "qemu-img", "convert", "-r", "8M", *words, columns=100)
    assert (status, "qemu-img convert" in seen, "%" in seen) == (0, True, True)
    assert seen.endswith("\x1b[2K")  # the bar is gone
    for quiet in (["-q"], []):
        done = kvmctl("qemu-img", "convert", *quiet, *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "%" not in in_terminal("qemu-img", "convert", "-q", *words)[1]
    done = kvmctl(*far, "qemu-img", "compare", "-p", str(disk), str(disk.with_name("copy")))
    assert (done.returncode, done.stdout) == (0, "hv01: Images are identical.\nhv02: Images are identical.\n")
    assert {"qemu-img compare on hv01: 100 %", "qemu-img compare on hv02: 100 %"} <= set(done.stderr.splitlines())
    assert all(re.fullmatch(r"qemu-img compare on hv0[12]: \d+ %", line) for line in done.stderr.splitlines())


@pytest.mark.parametrize("is_far", [False, True], ids=["here", "far"])
def test_ctrl_c_cancels_it_and_it_is_told(far: list[str], disk: Path, is_far: bool) -> None:
    target = disk.with_name("copy")
    where = [*far[:4]] if is_far else []
    words = ["qemu-img", "convert", "-m", "1", "-r", "256k", str(disk), str(target)]
    status, seen = in_terminal(*where, *words, columns=100, until=b"%")
    assert status == 130, seen
    assert "qemu-img convert: it was cancelled; what it was writing may not be complete" in seen.replace("\n", " ")
    assert gone("qemu-img", str(target))
