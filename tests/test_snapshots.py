"""Snapshots and checkpoints of domains, and the names that their users may give them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unix
from kvm import (
    AlreadyExistsError,
    Hypervisor,
    InvalidArgumentError,
    KvmError,
    NotFoundError,
    NotSupportedError,
    UnreadableOutputError,
)
from kvm.groups.checkpoint import ListedCheckpoint
from kvm.groups.snapshot import ListedSnapshot, _listed
from kvm.text import Tree


@pytest.fixture
def guest(hypervisor: Hypervisor, tmp_path: Path) -> Iterator[Hypervisor]:
    """The real hypervisor with a domain ``guest`` that has two qcow2 disks, and is not started."""
    disks = []
    for name in ("vda", "vdb"):
        file = tmp_path / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "8M"], check=True)
        driver = {"@name": "qemu", "@type": "qcow2"}
        disks.append({"@type": "file", "driver": driver, "source": {"@file": str(file)}, "target": {"@dev": name}})
    hypervisor.domain.define(
        {
            "@type": "qemu",
            "name": "guest",
            "memory": {"@unit": "MiB", "#text": 32},
            "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
            "devices": {"disk": disks},
        }
    )
    yield hypervisor
    if hypervisor.domain.id("guest") is not None:
        hypervisor.domain.destroy("guest")
    hypervisor.domain.undefine("guest", snapshots_metadata=True, checkpoints_metadata=True)


@pytest.fixture
def local() -> Iterator[Hypervisor]:
    """libvirt's test hypervisor, where the way to the host makes no difference."""
    with Hypervisor(unix.Local(), "test:///default") as hypervisor:
        yield hypervisor


def stored(tmp_path: Path, disk: str) -> list[str]:
    """The names of the snapshots in a disk, as qemu-img sees them."""
    command = ["qemu-img", "snapshot", "-U", "-l", str(tmp_path / f"{disk}.qcow2")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split()[1] for line in printed.splitlines()[2:]]


def created(conf: Mapping[str, str]) -> datetime:
    return datetime.fromtimestamp(int(conf["creationTime"]), UTC)


def test_the_life_of_a_snapshot(guest: Hypervisor, tmp_path: Path) -> None:
    snapshot = guest.snapshot
    assert snapshot.list("guest") == {}
    assert snapshot.list("guest", tree=True) == {}
    with pytest.raises(NotFoundError, match="has no current snapshot"):
        snapshot.current("guest")

    assert snapshot.create_as("guest", "off", "before <it> ran").status
    guest.domain.start("guest")
    number = guest.domain.id("guest")
    assert isinstance(number, int)
    assert snapshot.create("guest", {"name": "on"}).status
    assert stored(tmp_path, "vda") == stored(tmp_path, "vdb") == ["off", "on"]

    listed = snapshot.list(number, parent=True)
    assert listed == {
        "off": {"creation_time": created(snapshot.conf("guest", "off")), "state": "shutoff", "parent": None},
        "on": {"creation_time": created(snapshot.conf("guest", "on")), "state": "running", "parent": "off"},
    }
    assert timedelta(0) <= datetime.now(UTC) - listed["on"]["creation_time"] < timedelta(minutes=1)
    assert guest.list_snapshots("guest", inactive=True).keys() == snapshot.list("guest", roots=True).keys() == {"off"}
    assert snapshot.list("guest", leaves=True).keys() == snapshot.list("guest", from_="off").keys() == {"on"}
    assert "parent" not in guest.list_snapshots("guest")["on"]

    assert snapshot.info(number, "on") == {
        "name": "on",
        "domain": "guest",
        "current": True,
        "state": "running",
        "location": "internal",
        "parent": "off",
        "children": 0,
        "descendants": 0,
        "metadata": True,
    }
    assert snapshot.info("guest", "off")["parent"] is snapshot.parent("guest", "off") is None
    assert snapshot.info("guest", "off")["children"] == 1
    assert snapshot.info("guest", current=True)["name"] == snapshot.current("guest", name=True) == "on"
    assert snapshot.parent("guest", "on") == snapshot.parent("guest", current=True) == "off"
    assert snapshot.conf("guest", "off")["description"] == "before <it> ran"
    assert snapshot.conf("guest", "on", xpath="/domainsnapshot/disks/disk/@name") == ["vda", "vdb"]
    assert snapshot.current("guest", security_info=True)["parent"] == {"name": "off"}

    snapshot.revert("guest", "on", paused=True)
    assert guest.domain.state("guest") == "paused"
    snapshot.revert("guest", "off")
    assert guest.domain.state("guest") == "shut off"
    assert snapshot.current("guest", name=True) == "off"
    snapshot.revert("guest", current=True, running=True)
    assert guest.domain.state("guest") == "running"
    assert snapshot.current("guest", "on").status
    assert snapshot.current("guest")["name"] == "on"

    snapshot.delete("guest", "off", children_only=True)
    assert list(snapshot.list("guest")) == stored(tmp_path, "vda") == ["off"]
    snapshot.delete("guest", current=True)
    assert snapshot.list("guest") == {}
    assert stored(tmp_path, "vda") == []


def test_an_external_snapshot_goes_to_the_file_that_was_said(guest: Hypervisor, tmp_path: Path) -> None:
    overlay = tmp_path / "over,lay.qcow2"
    specs = [f"vda,snapshot=external,driver=qcow2,file={str(overlay).replace(',', ',,')}", "vdb,snapshot=no"]
    described = guest.snapshot.create_as("guest", "out", print_xml=True, diskspec=specs)
    assert described["disks"]["disk"][0]["source"] == {"@file": str(overlay)}
    assert guest.snapshot.list("guest") == {}

    guest.domain.start("guest", paused=True)
    guest.snapshot.create_as("guest", "out", diskspec=specs, disk_only=True, atomic=True)
    assert overlay.stat().st_size > 0
    assert guest.snapshot.list("guest", external=True, disk_only=True)["out"]["state"] == "disk-snapshot"
    assert guest.snapshot.info("guest", "out")["location"] == "external"
    memory = tmp_path / "memory"
    guest.snapshot.create_as("guest", "all", memspec=f"{memory},snapshot=external", diskspec="vdb,snapshot=no")
    assert memory.stat().st_size > 0
    guest.snapshot.delete("guest", "out", metadata=True, children=True)
    assert guest.snapshot.list("guest") == {}
    assert overlay.exists()


def test_a_snapshot_can_be_told_to_libvirt_again(guest: Hypervisor) -> None:
    guest.snapshot.create_as("guest", "a")
    guest.snapshot.create("guest")
    (_, latest) = (name for name in guest.snapshot.list("guest", topological=True))
    conf = guest.snapshot.conf("guest", "a", security_info=True)
    guest.snapshot.delete("guest", "a", metadata=True)
    assert list(guest.snapshot.list("guest")) == [latest]
    guest.snapshot.create("guest", conf, redefine=True, current=True)
    assert guest.snapshot.list("guest", tree=True) == {"a": {}, latest: {}}  # that one has lost its parent
    assert guest.snapshot.current("guest", name=True) == "a"


def test_a_name_of_two_lines_is_listed_and_a_slash_refused(guest: Hypervisor) -> None:
    guest.snapshot.create("guest", {"name": "two\nlines"})
    guest.snapshot.create("guest", {"name": "  next"})
    assert guest.snapshot.list("guest", tree=True) == {"two\nlines": {"  next": {}}}
    assert guest.snapshot.parent("guest", "  next") == "two\nlines"
    with pytest.raises(UnreadableOutputError, match="a name of more than one line"):
        guest.snapshot.info("guest", "  next")
    with pytest.raises(InvalidArgumentError, match="name can't contain '/'"):
        guest.snapshot.create_as("guest", "a/b")


def test_the_life_of_a_checkpoint(guest: Hypervisor) -> None:
    checkpoint = guest.checkpoint
    with pytest.raises(NotSupportedError, match="inactive domain"):
        checkpoint.create("guest")
    guest.domain.start("guest", paused=True)
    number = guest.domain.id("guest")
    assert isinstance(number, int)
    assert checkpoint.create_as(number, "monday", "the first", diskspec=["vda,checkpoint=bitmap,bitmap=monday"]).status
    assert checkpoint.create("guest", {"name": "-"}).status
    checkpoint.create("guest", "<domaincheckpoint><name>unknown</name></domaincheckpoint>")

    listed = checkpoint.list(number, parent=True)
    assert listed == {
        "-": {"creation_time": created(checkpoint.conf("guest", "-")), "parent": "monday"},
        "monday": {"creation_time": created(checkpoint.conf("guest", "monday")), "parent": None},
        "unknown": {"creation_time": created(checkpoint.conf("guest", "unknown")), "parent": "-"},
    }
    assert checkpoint.list("guest", tree=True) == {"monday": {"-": {"unknown": {}}}}
    assert checkpoint.list("guest", tree=True, from_="-") == {"-": {"unknown": {}}}
    assert list(checkpoint.list("guest", topological=True)) == ["monday", "-", "unknown"]
    assert checkpoint.list("guest", from_="monday", descendants=True).keys() == {"-", "unknown"}
    assert checkpoint.list("guest", roots=True) == {"monday": {"creation_time": listed["monday"]["creation_time"]}}
    info = {"name": "-", "domain": "guest", "parent": "monday", "children": 1, "descendants": 1}
    assert checkpoint.info(number, "-") == info
    assert checkpoint.info("guest", "unknown")["parent"] == checkpoint.parent("guest", "unknown") == "-"
    assert checkpoint.info("guest", "monday")["parent"] is checkpoint.parent(number, "monday") is None
    disks = checkpoint.conf("guest", "monday", no_domain=True)["disks"]["disk"]
    assert disks[0] == {"@name": "vda", "@checkpoint": "bitmap", "@bitmap": "monday"}
    assert checkpoint.conf("guest", "unknown", size=True, xpath="//disk/@size") == ["0", "0"]
    assert checkpoint.create_as("guest", "x", "y", print_xml=True) == {"name": "x", "description": "y"}

    with pytest.raises(AlreadyExistsError):
        checkpoint.create_as("guest", "monday")
    with pytest.raises(NotFoundError):
        checkpoint.parent("guest", "sunday")
    conf = checkpoint.conf("guest", "unknown", security_info=True)
    checkpoint.delete("guest", "unknown", metadata=True)
    checkpoint.create("guest", conf, redefine=True, redefine_validate=True)
    checkpoint.delete("guest", "monday", children_only=True)
    assert checkpoint.list("guest", tree=True) == {"monday": {}}
    checkpoint.delete("guest", "monday")
    assert checkpoint.list("guest") == {}


# -- names

HOSTILE = [
    "two  words",
    "   leading",
    "trailing   ",
    "trailing",
    "-",
    "unknown",
    "--all",
    "1",
    "|",
    "  |",
    "  +- branch",
    "branch",
    "\\x41",
    "2026-01-01 00:00:00 +0000   running",
    "branch   2026-01-01 00:00:00 +0000   running   -",
    "Name: x",
    "漢字",
    "😀👩‍👩‍👧",
    "e\u0301\u200b",
    "control \x85, unassigned \U0001fbff",
    "'quotes\" `$(id)` ;#",
    "\ttab\t",
    "é" * 127,
]


def chain(hypervisor: Hypervisor, names: list[str]) -> None:
    """Take snapshots, each after the one before."""
    for name in names:
        hypervisor.snapshot.create("test", {"name": name})


def nested(names: list[str]) -> Tree:
    tree: Tree = {}
    for name in reversed(names):
        tree = {name: tree}
    return tree


def test_hostile_names_are_listed_and_asked_for_exactly(local: Hypervisor) -> None:
    chain(local, HOSTILE)
    snapshot = local.snapshot
    listed = snapshot.list("test", parent=True)
    parents = dict(zip(HOSTILE, [None, *HOSTILE], strict=False))
    assert {name: each.get("parent") for name, each in listed.items()} == parents
    assert {each["state"] for each in listed.values()} == {"running"}
    assert snapshot.list("test", tree=True) == nested(HOSTILE)
    for name, parent in parents.items():
        if "\t" in name:  # this driver lives in one virsh, whose prompt takes no tab
            continue
        assert snapshot.conf("test", name)["name"] == name
        assert snapshot.parent("test", name) == parent
        info = snapshot.info("test", name)
        assert (info["name"], info["parent"]) == (name, parent)
    assert snapshot.list("test", tree=True, from_="  |") == nested(HOSTILE[HOSTILE.index("  |") :])
    assert snapshot.list("test", tree=True, current=True) == {HOSTILE[-1]: {}}


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1).filter(
    lambda name: name.strip()
)


@given(st.lists(names, min_size=1, max_size=4, unique=True))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_that_libvirt_takes_come_back(local: Hypervisor, names: list[str]) -> None:
    chain(local, names)
    assert local.snapshot.list("test", tree=True) == nested(names)
    assert local.snapshot.info("test", current=True)["name"] == local.snapshot.current("test", name=True) == names[-1]
    local.snapshot.delete("test", names[0], children=True)
    assert local.list_snapshots("test") == {}


def test_branches_are_told_apart(local: Hypervisor) -> None:
    snapshot = local.snapshot
    chain(local, ["root", "a", "a1"])
    snapshot.revert("test", "a")
    chain(local, ["a2"])
    snapshot.revert("test", "root")
    chain(local, ["b"])
    assert snapshot.list("test", tree=True) == {"root": {"a": {"a1": {}, "a2": {}}, "b": {}}}
    assert snapshot.list("test", tree=True, from_="a") == {"a": {"a1": {}, "a2": {}}}
    assert snapshot.list("test", tree=True, current=True) == {"b": {}}
    assert snapshot.list("test", from_="root").keys() == {"a", "b"}
    assert snapshot.list("test", from_="root", descendants=True).keys() == {"a", "a1", "a2", "b"}
    with local.pipeline() as pipe:
        pipe.snapshot.list("test", tree=True, current=True)
        pipe.snapshot.revert("test", "a1")
        pipe.snapshot.list("test", tree=True, current=True)
        pipe.snapshot.parent("test", "root")
        values = pipe.execute()
    assert [values[0], *values[2:]] == [{"b": {}}, {"a1": {}}, None]


def test_a_creation_time_is_the_same_moment_in_any_zone() -> None:
    for zone in ("UTC", "Asia/Kolkata", "America/St_Johns"):
        with Hypervisor(unix.Local(envs={"TZ": zone}), "test:///default") as hypervisor:
            hypervisor.snapshot.create("test", {"name": "a", "creationTime": 1})
            chain(hypervisor, ["b"])
            for name, listed in hypervisor.snapshot.list("test").items():
                assert listed["creation_time"] == created(hypervisor.snapshot.conf("test", name))


def test_wrong_calls_raise_what_a_caller_can_tell_apart(local: Hypervisor) -> None:
    snapshot = local.snapshot
    chain(local, ["a"])
    with pytest.raises(NotFoundError):
        snapshot.info("test", "b")
    with pytest.raises(NotFoundError):
        snapshot.list("nothing")
    with pytest.raises(NotFoundError, match="no domain with the id 7"):
        snapshot.list(7, tree=True)
    with pytest.raises(AlreadyExistsError):
        snapshot.create_as("test", "a")
    wrong: list[Callable[[], object]] = [
        lambda: snapshot.info("test"),
        lambda: snapshot.info("test", "a", current=True),
        lambda: snapshot.list("test", parent=True, roots=True),
        lambda: snapshot.list("test", descendants=True),
        lambda: snapshot.list("test", tree=True, from_="a", current=True),
        lambda: snapshot.create_as("test", diskspec="vda,abacus"),
        lambda: snapshot.create_as("test", memspec="a,b"),
        lambda: snapshot.create("test", "<domainsnapshot>"),
        lambda: snapshot.delete("test", "a", children=True, children_only=True),
    ]
    for call in wrong:
        with pytest.raises(InvalidArgumentError):
            call()
    with pytest.raises(TypeError, match="tree=True does not go with leaves"):
        snapshot.list("test", tree=True, leaves=True)  # type: ignore[call-overload]


# -- readers

TABLE = """ Name   Creation Time               State           Parent
-------------------------------------------------------------
 a      2026-11-22 14:53:21 +0530   running         -   
 gone   2026-11-22 14:53:21 +0530   disk-snapshot   
"""  # noqa: W291


def test_a_snapshot_that_comes_or_goes_between_table_and_names_is_no_other() -> None:
    listed = _listed(ListedSnapshot, TABLE, ["a", "new"])
    moment = datetime.fromisoformat("2026-11-22T14:53:21+05:30")
    assert listed == {
        "a": {"creation_time": moment, "state": "running", "parent": "-   "},
        "gone": {"creation_time": moment, "state": "disk-snapshot", "parent": None},
    }
    assert listed["a"]["creation_time"].utcoffset() == timedelta(hours=5, minutes=30)


def test_a_table_of_another_form_is_not_guessed_at() -> None:
    for output in ("", "Nothing\n", TABLE.replace("14:53", "a quarter to three")):
        with pytest.raises(UnreadableOutputError):
            _listed(ListedCheckpoint, output, ["a"])


def test_a_failed_action_says_so_without_check() -> None:
    with Hypervisor(unix.Local(), "test:///default", check=False) as hypervisor:
        assert hypervisor.snapshot.delete("test", "nothing").status is False
        with pytest.raises(KvmError):
            hypervisor.snapshot.info("test", "nothing")
