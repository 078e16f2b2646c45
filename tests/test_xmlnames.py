"""Names that libvirt would ignore without an error are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import kvm
from kvm import Hypervisor, InvalidArgumentError, to_xml, xml, xmlnames
from kvm.xml import Conf

DISK = {"@type": "file", "source": {"@file": "/a"}, "target": {"@dev": "vdb"}}


@pytest.mark.parametrize(
    ("path", "conf", "why"),
    [
        ("domain", {"vcpus": 4}, "/domain/vcpus: libvirt .* does not know '#text' in <vcpus> .did you mean 'vcpu'"),
        ("domain", {"maxmemory": 1}, "/domain: .* does not know 'maxmemory' in <domain> .did you mean 'maxMemory'"),
        ("domain", {"os": {"bootdev": "hd"}}, "/domain/os: .* 'bootdev' in <os> .did you mean 'boot'"),
        ("domain", {"@typ": "kvm"}, "'@typ' in <domain> .did you mean '@type'"),
        ("domain", {"devices": {"disk": [DISK, {"device": "cdrom"}]}}, "'device' in <disk> .did you mean '@device'"),
        ("domain", {"devices": {"disk": {"@source": "/a"}}}, "'@source' in <disk> .did you mean 'source'"),
        ("domain", {"frobnicate": {"@a": 1}}, "'frobnicate' in <domain>; to use it anyway, give XML"),
        ("domain", {"qemu:comandline": {}}, "'qemu:comandline' in <domain> .did you mean 'qemu:commandline'"),
        ("domain", {"qemu:commandline": {"qemu:arg": {"@val": 1}}}, "'@val' in <qemu:arg> .did you mean '@value'"),
        ("domain", {"features": {"acpi": "yes"}}, "/domain/features/acpi: .* '#text' in <acpi>"),
        ("network", {"ip": {"dhcp": {"hosts": {}}}}, "/network/ip/dhcp: .* 'hosts' in <dhcp> .did you mean 'host'"),
        ("filter", {"rule": {"@prio": 1}}, "'@prio' in <rule>"),
        ("volume", {"size": 1}, "'size' in <volume>"),
        ("pool", {"target": {"paths": "/a"}}, "'paths' in <target> .did you mean 'path'"),
        ("domainsnapshot", {"domain": {"vcpu": {"@max": 1}}}, "/domainsnapshot/domain/vcpu: .* '@max'"),
    ],
)
def test_a_name_that_libvirt_does_not_know_is_refused(path: str, conf: Conf, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        xml.document(path, conf)
    assert isinstance(xml.document(path, conf, validate=False), bytes)
    assert isinstance(xml.document(path, to_xml(path, conf)), bytes)


@pytest.mark.parametrize(
    "conf",
    [
        {"vcpu": 4, "title": None, "foo": None, "bar": False, "acpi": []},
        {"metadata": {"a:b": {"@xmlns:a": "urn:a", "c": 1}, "d": 1}},
        {"x:any": {"@xmlns:x": "urn:x", "y": 1}, "{urn:z}any": {"y": 1}, "z": {"@xmlns": "urn:z", "y": 1}},
        {"@xmlns:q": "http://libvirt.org/schemas/domain/qemu/1.0", "q:commandline": {"q:env": {"@name": "a"}}},
        {"vcpus": {"vcpu": {"@id": 0, "@enabled": True}}, "features": {"acpi": True, "hyperv": {"vpindex": {}}}},
        {"domain": {"name": "a"}},
    ],
)
def test_known_and_foreign_names_are_written(conf: Conf) -> None:
    assert isinstance(xml.document("domain", conf), bytes)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda hv: hv.domain.define({"name": "new", "vcpus": 4}), "did you mean 'vcpu'"),
        (lambda hv: hv.domain.create({"name": "new", "memroy": 4}), "did you mean 'memory'"),
        (
            lambda hv: hv.domain.attach_device("test", {"disk": {**DISK, "driver": {"@typ": "raw"}}}),
            "/driver: .*'@type'",
        ),
        (lambda hv: hv.domain.attach_device("test", {"dsk": DISK}), "'dsk' in <devices> .did you mean 'disk'"),
        (lambda hv: hv.domain.update_device("test", {"interface": {"modle": {}}}), "did you mean 'model'"),
        (lambda hv: hv.domain.edit("test", lambda conf: conf.update(vcpus=4)), "did you mean 'vcpu'"),
        (lambda hv: hv.domain.edit("test", lambda conf: conf["os"]), "'type' in <domain> .did you mean '@type'"),
        (lambda hv: hv.network.define({"name": "n", "ips": {"@a": 1}}), "did you mean 'ip'"),
        (lambda hv: hv.network.update("default", "add-last", "ip-dhcp-host", {"@Mac": 1}), "'@Mac' in <host>.*'@mac'"),
        (lambda hv: hv.pool.create({"name": "p", "sorce": {}}), "did you mean 'source'"),
        (lambda hv: hv.volume.create("default-pool", {"nam": "v"}), "did you mean 'name'"),
        (lambda hv: hv.secret.define({"use": {}}), "did you mean 'usage'"),
        (lambda hv: hv.snapshot.create("test", {"nme": "s"}), "did you mean 'name'"),
        (lambda hv: hv.interface.define({"@name": "e", "protocl": {}}), "did you mean 'protocol'"),
        (lambda hv: hv.nodedev.create({"parnt": "a"}), "did you mean 'parent'"),
    ],
)
def test_every_group_refuses_unknown_names(
    test_driver: Hypervisor, act: Callable[[Hypervisor], object], why: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        act(test_driver)


def test_validate_false_passes_unknown_names_on(test_driver: Hypervisor) -> None:
    conf = {"@type": "test", "name": "unknown", "memory": 8192, "os": {"type": "hvm"}, "frobnicate": 1}
    with pytest.raises(InvalidArgumentError, match="'frobnicate' in <domain>"):
        test_driver.domain.define(conf)
    test_driver.domain.define(conf, validate=False)
    assert "frobnicate" not in test_driver.domain.conf("unknown")
    with pytest.raises(kvm.KvmError, match="validate"):
        test_driver.domain.define(conf, validate=True)
    test_driver.domain.undefine("unknown")


def test_edit_keeps_names_of_a_newer_libvirt() -> None:
    printed = "<domain><name>a</name><future new='1'/><devices><disk future='1'/></devices></domain>"

    def edited(**changes: Any) -> str:
        return xml.revised(printed, "domain", {**xml.conf(printed), **changes}, validate=True).decode()

    assert edited(title="b") == printed.replace("</devices>", "</devices><title>b</title>")
    with pytest.raises(InvalidArgumentError, match="'futures' in <domain>"):
        edited(futures=True)


def test_names_that_this_libvirt_prints_are_known(hypervisor: Hypervisor) -> None:
    hypervisor.domain.define({"@type": "qemu", "name": "known", "memory": 8192, "os": {"type": "hvm"}})
    printed = {
        "capabilities": hypervisor.generic.capabilities(),
        "domainCapabilities": hypervisor.generic.domcapabilities(),
        "domain": hypervisor.domain.conf("known"),
    }
    hypervisor.domain.undefine("known")
    assert [found for tag, conf in printed.items() for found in xmlnames.unknown((tag,), conf)] == []
