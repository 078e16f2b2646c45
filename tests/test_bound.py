"""``hypervisor.domain['web1']``: one object, its methods and their types."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kvm
import unix
from kvm import NotFoundError
from libvirtd import Libvirtd
from test_project import ROOT, run

POOL = "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>"


@pytest.fixture
def hypervisor() -> kvm.Hypervisor:
    return kvm.Hypervisor(unix.Local(), "test:///default")


def test_one_domain_has_the_methods_about_it(hypervisor: kvm.Hypervisor) -> None:
    with hypervisor:
        for test in (
            hypervisor.domain["test"],
            hypervisor.domain[1],
            hypervisor.domain[hypervisor.domain.uuid("test")],
        ):
            assert {**test.info(), "cpu_time": 0} == {**hypervisor.domain.info("test"), "cpu_time": 0}
        test.suspend()
        assert test.state(reason=True) == {"state": "paused", "reason": "user"}
        assert test.state(True) == {"state": "paused", "reason": "user"}
        assert test.conf(xpath="/domain/name/text()") == ["test"]
        test.metadata("http://example.com", key="app", set="<a/>")
        test.destroy()
        assert test.info()["state"] == "shut off"


def test_one_of_each_kind(hypervisor: kvm.Hypervisor) -> None:
    with hypervisor:
        assert hypervisor.network["default"].info()["active"] is True
        assert hypervisor.interface["eth1"].mac() == "aa:bb:cc:dd:ee:ff"
        assert hypervisor.nodedev["computer"].conf()["name"] == "computer"
        assert hypervisor.pool["default-pool"].info()["state"] == "running"
        hypervisor.volume.create_as("default-pool", "disk", "1G")
        disk = hypervisor.volume["default-pool", "disk"]
        assert disk.path() == "/default-pool/disk"
        assert disk.info()["capacity"] == 2**30
        disk.clone("copy")
        assert list(hypervisor.volume.list("default-pool")) == ["copy", "disk"]
        hypervisor.snapshot.create_as("test", "before")
        before = hypervisor.snapshot["test", "before"]
        assert before.parent() is None
        assert before.info() == hypervisor.snapshot.info("test", "before")
        before.delete()
        with pytest.raises(NotFoundError):
            before.info()


def test_secrets_filters_and_checkpoints(libvirtd: Libvirtd) -> None:
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        uuid = kvm.gen_uuid()
        hypervisor.secret.define({"uuid": uuid, "usage": {"@type": "volume", "volume": "/bound"}})
        secret = hypervisor.secret[uuid]
        secret.set_value(b"sesame")
        assert secret.get_value() == b"sesame"
        secret.undefine()
        hypervisor.nwfilter.define({"@name": "bound", "rule": {"@action": "drop", "@direction": "in"}})
        assert hypervisor.nwfilter["bound"].conf()["@name"] == "bound"
        hypervisor.nwfilter["bound"].undefine()
        with pytest.raises(NotFoundError):
            hypervisor.checkpoint["nobody", "none"].info()


def test_it_goes_through_a_pipeline(hypervisor: kvm.Hypervisor) -> None:
    with hypervisor, hypervisor.pipeline() as pipe:
        test = pipe.domain["test"]
        test.suspend()
        test.state()
        pipe.network["default"].uuid()
        _, state, uuid = pipe.execute()
        assert (state, uuid) == ("paused", hypervisor.network.uuid("default"))


def test_what_is_not_about_one_object_is_not_there(hypervisor: kvm.Hypervisor) -> None:
    one = {
        hypervisor.domain["test"]: {
            "list",
            "create",
            "define",
            "stats",
            "restore",
            "qemu_attach",
            "xml_to_native",
            "no",
        },
        hypervisor.volume["pool", "disk"]: {"list", "create", "create_as", "create_from", "name", "pool"},
        hypervisor.snapshot["test", "before"]: {"list", "create", "create_as"},
        hypervisor.network["default"]: {"list", "create", "define"},
        hypervisor.interface["eth1"]: {"begin", "commit", "rollback", "unbridge"},
        hypervisor.nwfilter["clean-traffic"]: {"binding_conf", "binding_delete"},
    }
    for bound, methods in one.items():
        for name in methods:
            with pytest.raises(AttributeError, match=rf"\] has no method '{name}'"):
                getattr(bound, name)


def test_it_shows_itself(hypervisor: kvm.Hypervisor) -> None:
    assert repr(hypervisor.domain["test"]) == f"{hypervisor!r}.domain['test']"
    assert repr(hypervisor.volume["pool", "disk"]) == f"{hypervisor!r}.volume['pool', 'disk']"
    assert {"info", "start", "attach_disk"} <= set(dir(hypervisor.domain["test"]))
    assert "list" not in dir(hypervisor.domain["test"])
    info = hypervisor.domain["test"].state
    assert str(inspect.signature(info)).startswith("(reason: ")
    assert info.__doc__ == hypervisor.domain.state.__doc__


def test_it_is_the_same_if_it_is_called_the_same(hypervisor: kvm.Hypervisor) -> None:
    other = kvm.Hypervisor(unix.Local(), "test:///default")
    assert hypervisor.domain["test"] == hypervisor.domain["test"]
    assert len({hypervisor.domain["1"], hypervisor.domain["1"], hypervisor.domain[1]}) == 2
    others: list[object] = [hypervisor.network["test"], "test"]
    assert hypervisor.domain["test"] not in others
    assert hypervisor.domain["test"] != other.domain["test"]
    assert copy.copy(hypervisor.domain["test"]) == hypervisor.domain["test"]


def test_it_pickles_with_its_hypervisor(hypervisor: kvm.Hypervisor) -> None:
    with hypervisor:
        test = pickle.loads(pickle.dumps(hypervisor.domain["test"]))
        assert repr(test) == repr(hypervisor.domain["test"])
        assert test.uuid() == hypervisor.domain.uuid("test")
        assert pickle.loads(pickle.dumps(test.state))() == "running"


def test_what_names_no_object_is_refused(hypervisor: kvm.Hypervisor) -> None:
    for wrong in (None, 1.5, ("test", "other"), slice("a", "b"), b"test", ()):
        with pytest.raises(TypeError, match=r"domain\[domain\] is one of them, not "):
            hypervisor.domain[wrong]  # type: ignore[index]
    with pytest.raises(TypeError, match=r"snapshot\[domain, snapshotname\] is one of them, not 'ab'"):
        hypervisor.snapshot["ab"]  # type: ignore[index]
    with pytest.raises(TypeError):
        hypervisor.network[1]  # type: ignore[index]
    with pytest.raises(TypeError):
        hypervisor.generic["test"]  # type: ignore[index]
    with pytest.raises(TypeError, match="not iterable"):
        "test" in hypervisor.domain  # type: ignore[operator]  # noqa: B015
    with pytest.raises(TypeError, match="not iterable"):
        list(hypervisor.domain)  # type: ignore[call-overload]


PROGRAM = """
import kvm, unix
from kvm.groups.domain import DomainInfo, DomainState
from kvm.groups.volume import VolumeInfo
hv = kvm.Hypervisor(unix.Local())
info: DomainInfo = hv.domain["web1"].info()
state: str = hv.domain[1].state()
reason: DomainState = hv.domain["web1"].state(True)
result: unix.Result = hv.domain["web1"].start(paused=True)
conf: kvm.xml.Conf = hv.domain["web1"].conf(inactive=True)
nodes: list[kvm.xml.Node] = hv.network["default"].conf(xpath="//ip")
volume: VolumeInfo = hv.volume["images", "disk"].info(physical=True)
parent: str | None = hv.snapshot["web1", "before"].parent()
made: unix.Result = hv.snapshot["web1", "before"].current()
hv.pipeline().domain["web1"].start()
hv.domain["web1"].info("web1")  # wrong
hv.domain["web1"].start("web1")  # wrong
hv.domain["web1"].start(pause=True)  # wrong
hv.domain["web1"].start(paused="yes")  # wrong
hv.domain["web1"].list()  # wrong
hv.domain["web1"].inform()  # wrong
number: int = hv.domain["web1"].uuid()  # wrong
text: str = hv.domain["web1"].state(True)  # wrong
hv.domain[1.5].info()  # wrong
hv.network[1].info()  # wrong
hv.volume["disk"].info()  # wrong
hv.volume["images", "disk"].info(pool="other")  # wrong
hv.volume["images", "disk"].name()  # wrong
hv.snapshot["web1"].info()  # wrong
hv.snapshot["web1", "before"].current(name=True)  # wrong
hv.generic["web1"]  # wrong
"""


@pytest.mark.timeout(60)
def test_mypy_accepts_what_is_right_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    told = {int(number) for number in re.findall(r"program\.py:(\d+): error: ", done.stdout)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert told == wrong, done.stdout + done.stderr


def test_what_is_generated_is_up_to_date() -> None:
    files = [ROOT / "src/kvm/groups/bound_generated.pyi", ROOT / "src/kvm/groups/bound_generated.py"]
    before = [file.read_text() for file in files]
    run(sys.executable, ROOT / "tools" / "generate_bound.py")
    assert [file.read_text() for file in files] == before, "tools/generate_bound.py has to be run"


def test_its_type_can_be_named(hypervisor: kvm.Hypervisor) -> None:
    from kvm.groups.bound_generated import BoundDomain

    test: BoundDomain = hypervisor.domain["test"]
    assert isinstance(test, BoundDomain)


def test_what_is_generated_is_not_loaded() -> None:
    program = (
        "import sys, kvm, unix; hv = kvm.Hypervisor(unix.Local(), 'test:///default'); hv.domain; "
        "print('kvm.groups.bound' in sys.modules); hv.domain['test'].info; "
        "print([name for name in sys.modules if name.endswith('_generated')])"
    )
    assert run(sys.executable, "-c", program).splitlines() == ["False", "['kvm.virsh.commands_generated']"]
