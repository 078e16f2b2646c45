"""Devices of the host: this machine's, which are only looked at, and those of libvirt's test driver."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import kvm
from kvm import Hypervisor, InvalidArgumentError, InvalidStateError, NotFoundError, NotSupportedError, text
from kvm.text import Tree


def edges(tree: Tree, parent: str | None = None) -> Iterator[tuple[str, str | None]]:
    for name, below in tree.items():
        yield name, parent
        yield from edges(below, name)


def test_devices_are_listed_as_the_kernel_has_them(hypervisor: Hypervisor) -> None:
    nets = {hypervisor.nodedev.conf(name)["capability"][0]["interface"] for name in hypervisor.nodedev.list(cap="net")}
    assert nets <= set(os.listdir("/sys/class/net"))
    assert "lo" in nets
    both = hypervisor.nodedev.list(cap=["net", "system"])
    assert set(both) == {*hypervisor.nodedev.list(cap="net"), "computer"}
    assert set(both) <= set(hypervisor.nodedev.list())
    assert hypervisor.nodedev.list(cap=["mdev", "drm"], all=True) == hypervisor.nodedev.list(inactive=True) == []


def test_the_tree_is_that_of_the_devices_parents(hypervisor: Hypervisor) -> None:
    nodedev = hypervisor.nodedev
    parents = dict(edges(nodedev.list(tree=True)))
    assert parents["computer"] is None
    assert set(parents) == set(nodedev.list())
    with hypervisor.pipeline() as pipe:
        for name in parents:
            pipe.nodedev.info(name)
        infos = {info["name"]: info for info in pipe.execute()}
    assert {name: info["parent"] for name, info in infos.items()} == parents
    assert all(info["active"] and info["autostart"] is info["persistent"] for info in infos.values())


def test_a_device_is_asked_for_by_xpath(hypervisor: Hypervisor) -> None:
    assert hypervisor.nodedev.conf("computer", xpath="/device/capability/@type") == ["system"]
    assert hypervisor.nodedev.conf("computer")["name"] == "computer"


def test_a_drawing_of_a_tree_becomes_nested_dicts() -> None:
    drawing = (
        "computer\n  |\n  +- a\n  |   |\n  |   +- a 1\n  |   |   |\n  |   |   +- deep\n  |   |     \n"
        "  |   +- a2\n  |     \n"
        "  +- b\n  |   |\n  |   +- b1\n  |     \n  +- +- c\n    \n\nother root\n\n"
    )
    assert text.tree(drawing) == {
        "computer": {"a": {"a 1": {"deep": {}}, "a2": {}}, "b": {"b1": {}}, "+- c": {}},
        "other root": {},
    }
    assert text.tree("\n") == {}
    with pytest.raises(kvm.errors.UnreadableOutputError, match="is a branch of"):
        text.tree("root\n  |   +- too deep\n")


def test_wrong_questions_raise_what_a_caller_can_tell_apart(hypervisor: Hypervisor) -> None:
    nodedev = hypervisor.nodedev
    with pytest.raises(NotFoundError):
        nodedev.info("nothing")
    with pytest.raises(NotFoundError):
        nodedev.conf("nothing")
    with pytest.raises(InvalidArgumentError):
        nodedev.list(cap="abacus")
    with pytest.raises(InvalidArgumentError):
        nodedev.list(all=True, inactive=True)
    with pytest.raises(InvalidArgumentError):
        nodedev.list(tree=True, inactive=True)
    with pytest.raises(InvalidArgumentError, match="Malformed device value"):
        nodedev.info("a,b,c")


def test_what_cannot_be_done_with_a_device_is_said(hypervisor: Hypervisor) -> None:
    """The loopback interface can do none of these, so it comes to no harm."""
    nodedev = hypervisor.nodedev
    (loopback,) = (name for name in nodedev.list(cap="net") if name.startswith("net_lo_"))
    with pytest.raises(InvalidStateError, match="already active"):
        nodedev.start(loopback)
    with pytest.raises(InvalidStateError, match="is not defined"):
        nodedev.undefine(loopback)
    for refused in (nodedev.autostart, nodedev.destroy):
        with pytest.raises(NotSupportedError, match="Unsupported device type"):
            refused(loopback)
    mediated = {"parent": "computer", "capability": {"@type": "mdev", "type": {"@id": "none"}}}
    for refused_too in (nodedev.define, nodedev.create):
        with pytest.raises(kvm.KvmError, match="Unable to find address for parent device 'computer'"):
            refused_too(mediated)
    with pytest.raises(kvm.KvmError) as raised:  # by libvirt, or by a virsh that is too old for it
        nodedev.update(loopback, nodedev.conf(loopback), live=True)
    assert raised.value.command[0] == "nodedev-update"


def test_a_virtual_adapter_is_created_and_destroyed(test_driver: Hypervisor) -> None:
    fc_host = {"@type": "fc_host", "wwnn": "2000000012341234", "wwpn": "1000000012341234"}
    adapter = {"parent": "scsi_host1", "capability": {"@type": "scsi_host", "capability": fc_host}}
    created = test_driver.nodedev.create(adapter)
    name = created.stdout.split()[2]
    assert test_driver.nodedev.info(name)["parent"] == "scsi_host1"
    with pytest.raises(NotSupportedError, match="LookupSCSIHostByWWN"):  # by this driver, but it has been understood
        test_driver.nodedev.conf(f"{fc_host['wwnn']},{fc_host['wwpn']}")
    test_driver.nodedev.destroy(name)
    with pytest.raises(NotFoundError):
        test_driver.nodedev.info(name)


def test_a_pci_device_is_asked_for_by_its_name(test_driver: Hypervisor) -> None:
    """libvirt's test driver has none to give away."""
    for refused in (test_driver.nodedev.detach, test_driver.nodedev.reattach, test_driver.nodedev.reset):
        with pytest.raises(NotSupportedError):
            refused("computer")
        with pytest.raises(NotFoundError):
            refused("nothing")
    with pytest.raises(NotSupportedError):
        test_driver.nodedev.detach("computer", driver="vfio")
