"""Any name, of whatever has one: defined, listed, told of and undefined; or refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvm
import unix
from kvm import Hypervisor, KvmError
from libvirtd import Libvirtd


class Kind(NamedTuple):
    """A kind of thing: how one with a name is made, listed, told of by its name, and removed."""

    define: Callable[[Hypervisor, str], object]
    listed: Callable[[Hypervisor], set[str]]
    told: Callable[[Hypervisor, str], str]
    undefine: Callable[[Hypervisor, str], object]


def domain(name: str) -> dict[str, Any]:
    return {"@type": "test", "name": name, "memory": 8192, "os": {"type": "hvm"}}


def usage(hypervisor: Hypervisor) -> dict[str, str]:
    return {str(each["usage_id"]): uuid for uuid, each in hypervisor.secret.list().items()}


IN_VIRSH = {
    "domain": Kind(
        lambda hv, name: hv.domain.define(domain(name)),
        lambda hv: set(hv.domain.list(inactive=True)),
        lambda hv, name: hv.domain.info(name)["name"],
        lambda hv, name: hv.domain.undefine(name),
    ),
    "network": Kind(
        lambda hv, name: hv.network.define({"name": name}),
        lambda hv: set(hv.network.list(inactive=True)),
        lambda hv, name: hv.network.info(name)["name"],
        lambda hv, name: hv.network.undefine(name),
    ),
    "pool": Kind(
        lambda hv, name: hv.pool.define({"@type": "dir", "name": name, "target": {"path": f"/{kvm.gen_uuid()}"}}),
        lambda hv: set(hv.pool.list(inactive=True)),
        lambda hv, name: hv.pool.info(name)["name"],
        lambda hv, name: hv.pool.undefine(name),
    ),
    "snapshot": Kind(
        lambda hv, name: hv.snapshot.create("test", {"name": name}),
        lambda hv: set(hv.snapshot.list("test")),
        lambda hv, name: hv.snapshot.info("test", name)["name"],
        lambda hv, name: hv.snapshot.delete("test", name),
    ),
    "checkpoint": Kind(
        lambda hv, name: hv.checkpoint.create("test", {"name": name}),
        lambda hv: set(hv.checkpoint.list("test")),
        lambda hv, name: hv.checkpoint.info("test", name)["name"],
        lambda hv, name: hv.checkpoint.delete("test", name),
    ),
}
"""What libvirt's test driver has."""

IN_LIBVIRTD = {
    "nwfilter": Kind(
        lambda hv, name: hv.nwfilter.define({"@name": name, "@chain": "root"}),
        lambda hv: set(hv.nwfilter.list()),
        lambda hv, name: str(hv.nwfilter.conf(name)["@name"]),
        lambda hv, name: hv.nwfilter.undefine(name),
    ),
    "secret": Kind(
        lambda hv, name: hv.secret.define({"usage": {"@type": "ceph", "name": name}}),
        lambda hv: set(usage(hv)),
        lambda hv, name: str(hv.secret.conf(usage(hv)[name])["usage"]["name"]),
        lambda hv, name: hv.secret.undefine(usage(hv)[name]),
    ),
}

NAMES = [
    *("a  b", " a", "a ", "-", "--name", "7", "-1", "0x1", "'", '"', "a'b\"c", "#", ";", "\\", "\\x41", "$(id)", "%s"),
    *("😀", "漢字", "e\u0301", "\u200b", "\u00a0a", "é" * 127, "a" * 255, "running", "1    test   running", "a   b"),
    *("<&>", "None", "-   shut off", "Name", "*", "~", ".", "..", "a/b", "\x85", "\U0001fbff"),
]


@pytest.fixture(scope="module", params=[*IN_VIRSH, *IN_LIBVIRTD])
def kind(request: pytest.FixtureRequest) -> Iterator[tuple[Hypervisor, Kind]]:
    """A hypervisor that has a kind of thing."""
    if request.param in IN_VIRSH:
        with kvm.Hypervisor(unix.Local(timeout=60), "test:///default") as hypervisor:
            yield hypervisor, IN_VIRSH[request.param]
    else:
        libvirtd: Libvirtd = request.getfixturevalue("libvirtd")
        with kvm.Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
            yield hypervisor, IN_LIBVIRTD[request.param]


names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    st.text(" -a1'\"漢", min_size=1, max_size=6),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names)
def test_any_name_is_defined_listed_told_of_and_undefined_or_refused(kind: tuple[Hypervisor, Kind], name: str) -> None:
    comes_back(*kind, name)


def test_hostile_names_are_defined_listed_told_of_and_undefined_or_refused(kind: tuple[Hypervisor, Kind]) -> None:
    for name in NAMES:
        comes_back(*kind, name)


def comes_back(hypervisor: Hypervisor, kind: Kind, name: str) -> None:
    before = kind.listed(hypervisor)
    if kind is IN_LIBVIRTD["nwfilter"] and re.search("[<&']", name):
        return  # libvirt 9 takes it, and then prints what is no XML
    try:
        kind.define(hypervisor, name)
    except KvmError:
        assert kind.listed(hypervisor) == before
        return
    assert kind.listed(hypervisor) == {*before, name}
    assert kind.told(hypervisor, name) == name
    kind.undefine(hypervisor, name)
    assert kind.listed(hypervisor) == before


def test_what_libvirt_has_named_or_counted_is_told(libvirtd: Libvirtd) -> None:
    with kvm.Hypervisor(unix.Local(timeout=60), "test:///default") as hypervisor:
        snapshot, checkpoint = hypervisor.snapshot, hypervisor.checkpoint
        names = ["a created from 'b'", "it's", " created"]
        told = [snapshot.create("test").value, *(snapshot.create("test", {"name": name}).value for name in names)]
        assert told[1:] == names
        assert set(told) == set(snapshot.list("test"))
        assert snapshot.create_as("test", names[0] + "2").value == names[0] + "2"
        for name in snapshot.list("test"):
            snapshot.delete("test", name)
        made = checkpoint.create("test")
        assert [made.value, checkpoint.create_as("test", "c").value] == [*checkpoint.list("test")]
        again = pickle.loads(pickle.dumps(made))
        assert (again, again.value, again.return_code) == (made, made.value, 0)
        assert hypervisor.domain.fsfreeze("test").value == len(hypervisor.domain.fsinfo("test"))
        assert hypervisor.domain.fsthaw("test").value == len(hypervisor.domain.fsinfo("test"))
        adapter = {"@type": "fc_host", "wwnn": "2000000012341234", "wwpn": "1000000012341234"}
        device = {"parent": "scsi_host1", "capability": {"@type": "scsi_host", "capability": adapter}}
        made_device = hypervisor.nodedev.create(device).value
        assert made_device is not None
        assert hypervisor.nodedev.conf(made_device)["name"] == made_device
    with kvm.Hypervisor(unix.Local(timeout=60), libvirtd.uri, check=False) as hypervisor:
        uuid = hypervisor.secret.define({"description": "x"}).value
        assert uuid is not None
        assert uuid in hypervisor.secret.list()
        hypervisor.secret.undefine(uuid)
        failed = hypervisor.secret.define({"uuid": "x"})
        assert (failed.status, failed.value) == (False, None)
