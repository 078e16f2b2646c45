"""Networks, host interfaces and network filters, in a network of their own; and names that are made to be misread."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

import kvm
import tinyguest
import unix
from kvm import (
    AlreadyExistsError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    NotSupportedError,
    UnreadableOutputError,
)
from kvm.groups.interface import _listed as listed_interfaces
from kvm.groups.network import _description, _leases, _metadata
from kvm.groups.nwfilter import _bindings, _filters
from libvirtd import Libvirtd
from unix.result import Result
from waiting import wait_until

OWNER = {"name": "guest", "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}
MAC = "52:54:00:00:00:01"


class Apart(Libvirtd):
    """A libvirtd in a network namespace: its bridges and its firewall are none of this machine's."""

    def _start(self, command: list[str], env: dict[str, str]) -> Any:
        unshare, *namespaces, script = command
        return super()._start([unshare, "--net", *namespaces, f"mount -t sysfs sysfs /sys\n{script}"], env)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Libvirtd]:
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    daemon = Apart()
    (daemon.home / "lib" / "dnsmasq").mkdir(exist_ok=True)
    yield daemon
    daemon.stop()


@pytest.fixture
def hypervisor(host: unix.Host, daemon: Libvirtd) -> Iterator[Hypervisor]:
    """The hypervisor of a daemon in its own network, left without networks, bindings and filters."""
    with Hypervisor(host, daemon.uri) as hypervisor:
        yield hypervisor
        for name in hypervisor.list_networks():
            hypervisor.network.destroy(name)
        for name in hypervisor.list_networks(all=True):
            hypervisor.network.undefine(name)
        for name in hypervisor.nwfilter.binding_list():
            hypervisor.nwfilter.binding_delete(name)
        for name in hypervisor.nwfilter.list():
            hypervisor.nwfilter.undefine(name)


def addresses(daemon: Libvirtd) -> dict[str, str]:
    """The interfaces that the kernel has where the daemon is, and their MAC addresses."""
    found = Path(f"/proc/{daemon.pid}/root/sys/class/net").glob("*/address")
    return {file.parent.name: file.read_text().strip() for file in found}


def bridge(number: int) -> dict[str, Any]:
    """A network that needs no dnsmasq."""
    return {"name": f"net{number}", "bridge": {"@name": f"virbr{number}"}, "dns": {"@enable": False}}


def leasing(number: int) -> dict[str, Any]:
    """A network with addresses to lease."""
    dhcp = {"range": {"@start": "192.168.77.10", "@end": "192.168.77.99"}}
    ip = {"@address": "192.168.77.1", "@prefix": 24, "dhcp": dhcp}
    return {"name": f"net{number}", "bridge": {"@name": f"virbr{number}"}, "ip": ip}


# -- networks


def test_the_life_of_a_network(hypervisor: Hypervisor, daemon: Libvirtd) -> None:
    network = hypervisor.network
    assert network.define(bridge(1)).status
    assert hypervisor.list_networks() == {}
    stopped = {"state": "inactive", "autostart": False, "persistent": True}
    assert hypervisor.list_networks(all=True) == network.list(inactive=True) == {"net1": stopped}
    uuid = network.conf("net1")["uuid"]
    assert (network.uuid("net1"), network.name(uuid)) == (uuid, "net1")

    assert network.start(uuid).status
    assert "virbr1" in addresses(daemon)
    assert network.list(uuid=True, title=True) == {
        "net1": {"state": "active", "autostart": False, "persistent": True, "title": "", "uuid": uuid}
    }
    network.autostart("net1")
    assert network.info("net1") == {
        "name": "net1",
        "uuid": uuid,
        "active": True,
        "persistent": True,
        "autostart": True,
        "bridge": "virbr1",
    }
    assert network.list(autostart=True, persistent=True) == {"net1": {**stopped, "state": "active", "autostart": True}}
    network.autostart("net1", disable=True)
    assert network.list(autostart=True) == {}

    network.undefine("net1")
    assert network.info("net1")["persistent"] is False
    assert list(network.list(transient=True)) == ["net1"]
    network.destroy("net1")
    assert network.list(all=True) == {}
    assert "virbr1" not in addresses(daemon)


def test_a_created_network_is_gone_with_its_end(hypervisor: Hypervisor) -> None:
    hypervisor.network.create(bridge(1))
    assert hypervisor.network.list(transient=True) == {
        "net1": {"state": "active", "autostart": False, "persistent": False}
    }
    hypervisor.network.destroy("net1")
    assert hypervisor.list_networks(all=True) == {}


def test_a_list_in_a_pipeline_is_of_what_there_is_before_the_next_call(test_driver: Hypervisor) -> None:
    test_driver.network.define({"name": "other"})
    with test_driver.pipeline() as pipe:
        pipe.network.list(inactive=True, uuid=True, title=True)
        pipe.network.undefine("other")
        pipe.list_networks(all=True)
        before, _, after = pipe.execute()
    assert (list(before), list(after)) == (["other"], ["default"])


def test_a_network_without_a_bridge_has_none(hypervisor: Hypervisor) -> None:
    hypervisor.network.define({"name": "direct", "forward": {"@mode": "bridge", "interface": {"@dev": "eth7"}}})
    assert "bridge" not in hypervisor.network.info("direct")


def test_a_configuration_can_be_changed_and_defined_again(hypervisor: Hypervisor) -> None:
    hypervisor.network.define(leasing(1))
    conf = hypervisor.network.conf("net1")
    conf["ip"][0]["dhcp"]["host"] = [{"@mac": MAC, "@name": "web1", "@ip": "192.168.77.10"}]
    hypervisor.network.define(kvm.to_xml("network", conf), validate=True)
    assert hypervisor.network.conf("net1", inactive=True) == conf
    assert hypervisor.network.conf("net1", xpath="//dhcp/host/@name") == ["web1"]


def test_wrong_actions_raise_what_a_caller_can_tell_apart(hypervisor: Hypervisor) -> None:
    network = hypervisor.network
    for ask in (network.start, network.info, network.conf, network.uuid, network.name, network.port_list):
        with pytest.raises(NotFoundError, match="failed to get network 'nobody'"):
            ask("nobody")
    network.define(bridge(1))
    with pytest.raises(InvalidStateError, match="is not active"):
        network.destroy("net1")
    with pytest.raises(InvalidStateError, match="is not active"):
        network.port_list("net1")
    network.start("net1")
    with pytest.raises(InvalidStateError, match="already active"):
        network.start("net1")
    with pytest.raises(AlreadyExistsError, match="already exists with uuid"):
        network.define({**bridge(1), "uuid": kvm.gen_uuid()})
    with pytest.raises(AlreadyExistsError, match="bridge name 'virbr1' already in use"):
        network.define({**bridge(1), "name": "other"})
    for wrong in ({"nam": "x"}, {"name": "a/b"}, {"name": "x", "ip": {"@address": "here"}}):
        with pytest.raises(InvalidArgumentError):
            network.define(wrong)
    network.create(bridge(2))
    with pytest.raises(InvalidStateError, match="transient"):
        network.autostart("net2")


# -- net-update


def test_elements_of_a_network_are_added_changed_and_deleted(hypervisor: Hypervisor, tmp_path: Path) -> None:
    network = hypervisor.network
    network.define(leasing(1))

    def hosts() -> list[tuple[str, str]]:
        return [(host["host"]["@mac"], host["host"]["@ip"]) for host in network.conf("net1", xpath="//ip[1]/dhcp/host")]

    first, second = (MAC, "192.168.77.11"), ("52:54:00:00:00:02", "192.168.77.12")
    network.update("net1", "add", "ip-dhcp-host", {"@mac": first[0], "@ip": first[1]}, config=True)
    path = tmp_path / "a host.xml"
    path.write_text(f"<host mac='{second[0]}' ip='{second[1]}'/>")
    network.update("net1", "add-first", "ip-dhcp-host", path, parent_index=0)
    assert hosts() == [second, first]
    network.update("net1", "modify", "ip-dhcp-host", f"<host mac='{MAC}' ip='192.168.77.13'/>", current=True)
    network.update("net1", "delete", "ip-dhcp-host", etree.fromstring(path.read_text()))
    assert hosts() == [(MAC, "192.168.77.13")]

    network.update("net1", "add", "dns-host", {"@ip": "192.168.77.13", "hostname": ["web1", "www"]})
    network.update("net1", "add-last", "dns-txt", {"txt": {"@name": "note", "@value": "a b"}})
    network.update("net1", "add", "dns-srv", {"@service": "ldap", "@protocol": "tcp"})
    network.update("net1", "delete", "ip-dhcp-range", {"@start": "192.168.77.10", "@end": "192.168.77.99"})
    network.update("net1", "add", "portgroup", {"@name": "slow", "@default": True})
    conf = network.conf("net1")
    assert conf["dns"]["host"] == [{"@ip": "192.168.77.13", "hostname": ["web1", "www"]}]
    assert conf["dns"]["txt"] == [{"@name": "note", "@value": "a b"}]
    assert conf["dns"]["srv"] == [{"@service": "ldap", "@protocol": "tcp"}]
    assert conf["portgroup"] == [{"@name": "slow", "@default": "yes"}]
    assert "range" not in conf["ip"][0]["dhcp"]


def test_a_running_network_and_its_definition_are_updated_apart(hypervisor: Hypervisor) -> None:
    network = hypervisor.network
    network.define(bridge(1))
    network.start("net1")
    network.update("net1", "add", "portgroup", {"@name": "running"}, live=True)
    network.update("net1", "add", "portgroup", {"@name": "defined"}, config=True)
    network.update("net1", "add", "portgroup", {"@name": "both"}, live=True, config=True)
    assert network.conf("net1", xpath="//portgroup/@name") == ["running", "both"]
    assert network.conf("net1", inactive=True, xpath="//portgroup/@name") == ["defined", "both"]


def test_an_update_that_cannot_be_raises_what_a_caller_can_tell_apart(hypervisor: Hypervisor) -> None:
    network = hypervisor.network
    network.define(leasing(1))
    host = {"@mac": MAC, "@ip": "192.168.77.11"}
    for command in ("delete", "modify"):
        with pytest.raises(NotFoundError, match=r"couldn't locate an? (matching|existing) dhcp host entry"):
            network.update("net1", command, "ip-dhcp-host", host)
    with pytest.raises(NotFoundError, match="couldn't find a portgroup"):
        network.update("net1", "delete", "portgroup", {"@name": "x"})
    network.update("net1", "add", "ip-dhcp-host", host)
    with pytest.raises(AlreadyExistsError, match="there is an existing dhcp host entry"):
        network.update("net1", "add", "ip-dhcp-host", host)
    with pytest.raises(InvalidStateError, match="network is not running"):
        network.update("net1", "delete", "ip-dhcp-host", host, live=True)
    with pytest.raises(NotSupportedError, match="can't update 'bridge' section"):
        network.update("net1", "modify", "bridge", {"@name": "virbr2"})
    for command, section in (("add", "ip-dhcp-hots"), ("ad", "ip-dhcp-host")):
        with pytest.raises(InvalidArgumentError, match=r"unrecognized (section|command) name"):
            network.update("net1", command, section, host)  # type: ignore[arg-type]
    assert network.conf("net1", xpath="//dhcp/host") == [{"host": host}]


# -- net-dhcp-leases


def test_leases_are_what_the_network_s_file_says(hypervisor: Hypervisor, daemon: Libvirtd) -> None:
    hypervisor.network.define(leasing(1))
    assert hypervisor.network.dhcp_leases("net1") == []
    soon = int(time.time()) + 3600
    client = f"01:{MAC}"
    leases: list[dict[str, object]] = [
        {"ip-address": "192.168.77.10", "hostname": "web1", "client-id": client, "expiry-time": soon},
        {"ip-address": "192.168.77.11", "expiry-time": 0},
        {"ip-address": "192.168.77.12", "hostname": "漢字 a  b", "expiry-time": soon},
        {"ip-address": "fd00::5", "iaid": "7", "expiry-time": soon},
        {"ip-address": "192.168.77.13", "expiry-time": 1},
    ]
    for number, lease in enumerate(leases, 1):
        lease["mac-address"] = f"52:54:00:00:00:0{number}"
    (daemon.home / "lib" / "dnsmasq" / "virbr1.status").write_text(json.dumps(leases))
    expiry = datetime.fromtimestamp(soon, UTC)
    found = hypervisor.network.dhcp_leases("net1")
    assert found[0] == {
        "expiry": expiry,
        "mac": MAC,
        "protocol": "ipv4",
        "address": "192.168.77.10",
        "prefix": 24,
        "hostname": "web1",
        "client_id": client,
    }
    assert [(lease["expiry"], lease["protocol"], lease["address"], lease["hostname"]) for lease in found[1:]] == [
        (None, "ipv4", "192.168.77.11", None),
        (expiry, "ipv4", "192.168.77.12", "漢字 a  b"),
        (expiry, "ipv6", "fd00::5", None),
    ]
    assert hypervisor.network.dhcp_leases("net1", mac=MAC) == found[:1]


def test_the_end_of_a_lease_is_right_in_every_zone(hypervisor: Hypervisor, daemon: Libvirtd) -> None:
    soon = int(time.time()) + 3600
    hypervisor.network.define(leasing(2))
    lease = {"ip-address": "192.168.77.10", "mac-address": MAC, "expiry-time": soon}
    (daemon.home / "lib" / "dnsmasq" / "virbr2.status").write_text(json.dumps([lease]))
    with hypervisor.set_controls(envs={"TZ": "JST-9"}):
        assert hypervisor.network.dhcp_leases("net2")[0]["expiry"] == datetime.fromtimestamp(soon, UTC)


LEASE_HEADING = (
    " Expiry Time           MAC address         Protocol   IP address         Hostname   Client ID or DUID\n"
    "--------------------------------------------------------------------------------------------------------\n"
)


@pytest.mark.parametrize("printed", ["1970-01-01 00:00:00", "1970-01-01 09:00:00", "1969-12-31 19:00:00"])
def test_a_lease_without_end_has_none_in_any_zone(printed: str) -> None:
    row = f" {printed}   52:54:00:00:00:02   ipv4       192.168.77.11/24   -          -\n\n"
    assert [lease["expiry"] for lease in _leases(LEASE_HEADING + row)] == [None]


@pytest.mark.parametrize("wrong", ["tomorrow           ", "2026-02-30 00:00:00"])
def test_a_lease_that_cannot_be_read_is_no_lease(wrong: str) -> None:
    row = f" {wrong}   52:54:00:00:00:02   ipv4       192.168.77.11/24   -          -\n\n"
    with pytest.raises(UnreadableOutputError, match="cannot read the lease"):
        _leases(LEASE_HEADING + row)


# -- a guest on a network


def nat(number: int) -> dict[str, Any]:
    """A network that leads to others, with addresses to lease at once."""
    network = leasing(number)
    network["bridge"]["@stp"] = "off"
    options = {"dnsmasq:option": {"@value": "no-ping"}}
    uri = "http://libvirt.org/schemas/network/dnsmasq/1.0"
    return {**network, "@xmlns:dnsmasq": uri, "forward": {"@mode": "nat"}, "dnsmasq:options": options}


def within(daemon: Libvirtd, *command: str) -> str:
    """What a command prints in the network of a daemon."""
    enter = ["nsenter", "--net", "--mount", "--pid", "--target", str(daemon.pid)]
    return subprocess.run([*enter, *command], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def leased(hypervisor: Hypervisor, daemon: Libvirtd, tiny: tinyguest.TinyGuest) -> Iterator[str]:
    """A guest that has booted on a NAT network, behind a filter, and waits for an address."""
    try:
        within(daemon, "iptables", "-t", "nat", "-S")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this kernel has no NAT: {error.stderr}")
    hypervisor.network.create(nat(7))
    hypervisor.nwfilter.define({"@name": "door", "@chain": "root"})
    card = {"@type": "network", "mac": {"@address": MAC}, "source": {"@network": "net7"}, "model": {"@type": "virtio"}}
    conf = tiny.conf("leased", interface={**card, "filterref": {"@filter": "door"}})
    conf["os"]["cmdline"] += " dhcp"
    hypervisor.domain.create(conf)
    tinyguest.wait_for_agent(hypervisor, "leased", 120)
    yield "leased"
    hypervisor.domain.destroy("leased")


def test_a_guest_has_the_lease_that_its_network_tells_of(hypervisor: Hypervisor, daemon: Libvirtd, leased: str) -> None:
    wait_until(lambda: hypervisor.network.dhcp_leases("net7"))
    (lease,) = hypervisor.network.dhcp_leases("net7")
    arp = [line.split() for line in within(daemon, "cat", "/proc/net/arp").splitlines()]
    assert [lease["address"], MAC] in [[row[0], row[3]] for row in arp]
    wait_until(lambda: f"inet {lease['address']}/24 " in tinyguest.run(hypervisor, leased, "ip address show dev eth0"))
    assert (lease["mac"], lease["protocol"], lease["prefix"], lease["hostname"]) == (MAC, "ipv4", 24, "tiny")
    assert lease["expiry"] is not None
    assert 3000 < (lease["expiry"] - datetime.now(UTC)).total_seconds() <= 3600
    assert hypervisor.network.dhcp_leases("net7", mac=MAC) == [lease]
    assert hypervisor.network.dhcp_leases("net7", mac="52:54:00:00:00:02") == []

    card = hypervisor.domain.iflist(leased)[0]["interface"]
    assert card is not None
    address = {"type": "ipv4", "address": lease["address"], "prefix": 24}
    assert hypervisor.domain.ifaddr(leased) == {card: {"hwaddr": MAC, "addresses": [address]}}
    assert hypervisor.domain.ifaddr(leased, card, source="lease")[card]["addresses"] == [address]
    of_guest = hypervisor.domain.ifaddr(leased, source="agent")
    assert of_guest["eth0"] == {"hwaddr": MAC, "addresses": [address]}
    assert of_guest["lo"]["addresses"][0]["address"] == "127.0.0.1"
    try:
        of_host = hypervisor.domain.ifaddr(leased, source="arp")
    except KvmError as error:  # libvirt before 10 stumbles over the end of the table that newer kernels give
        assert "wrong nlmsg len" in str(error)
    else:
        assert of_host == {card: {"hwaddr": MAC, "addresses": [{**address, "prefix": 0}]}}

    rules = within(daemon, "iptables", "-t", "nat", "-S")
    assert "-s 192.168.77.0/24 ! -d 192.168.77.0/24" in rules
    assert "MASQUERADE" in rules
    (port,) = hypervisor.network.port_list("net7")
    assert hypervisor.network.port_conf("net7", port)["owner"]["name"] == leased
    assert hypervisor.network.conf("net7", xpath="//forward/@mode") == ["nat"]

    hears = "ping -c 1 -W 2 192.168.77.1 > /dev/null && echo heard"
    assert hypervisor.nwfilter.binding_list() == {card: {"filter": "door"}}
    assert hypervisor.nwfilter.binding_conf(card)["owner"]["name"] == leased
    assert tinyguest.run(hypervisor, leased, hears) == "heard\n"
    closed = {"@action": "drop", "@direction": "out", "@priority": 100, "icmp": True}
    hypervisor.nwfilter.define({**hypervisor.nwfilter.conf("door"), "rule": closed})
    assert f"FI-{card}" in within(daemon, "iptables", "-S")
    assert tinyguest.run(hypervisor, leased, hears) == ""
    hypervisor.nwfilter.binding_delete(card)
    assert hypervisor.nwfilter.binding_list() == {}
    assert f"FI-{card}" not in within(daemon, "iptables", "-S")
    assert tinyguest.run(hypervisor, leased, hears) == "heard\n"


# -- net-desc, net-metadata


def has_desc(hypervisor: Hypervisor) -> bool:
    return bool(hypervisor.virsh("help", "net-desc")[0])


def test_a_description_is_set_and_read(test_driver: Hypervisor) -> None:
    network = test_driver.network
    if not has_desc(test_driver):
        with pytest.raises(NotSupportedError, match=r"too old for the command 'net-desc'; virsh 11"):
            network.desc("default")
        return
    assert network.desc("default") == network.desc("default", title=True) == ""
    for text in ("two  words ", " é漢", "No description for network: default", "--title"):
        assert network.desc("default", text).status
        assert network.desc("default") == text
        network.desc("default", text, title=True)
        assert network.list(title=True)["default"]["title"] == network.desc("default", title=True) == text
    network.desc("default", ["two", "words"])
    assert network.desc("default") == "two words"
    network.desc("default", "")
    assert network.desc("default") == ""
    with pytest.raises(NotFoundError):
        network.desc("nobody")


def test_a_description_that_reads_like_none_is_told_from_none() -> None:
    said = Result(0, "No description for network: a\n", "")
    for conf, expected in (
        ("<network><name>a</name></network>", ""),
        ("<network><description>No description for network: a</description></network>", said.stdout.strip()),
        ("<network><title>t</title><description> two\nlines\r\n\n</description></network>", " two\nlines\r\n\n"),
    ):
        plan = _description("a", False, {"config": True})
        assert [command.words() for command in next(plan)] == [
            ["net-desc", "--network=a", "--config"],
            ["net-dumpxml", "--network=a", "--inactive"],
        ]
        with pytest.raises(StopIteration) as end:
            plan.send((said, Result(0, conf, "")))
        assert end.value.value == expected


def test_metadata_is_set_read_and_removed(test_driver: Hypervisor) -> None:
    network, uri = test_driver.network, "http://example.org/owner"
    if not has_desc(test_driver):
        with pytest.raises(NotSupportedError, match=r"too old for the command 'net-metadata'; virsh 11"):
            network.metadata("default", uri)
        return
    assert network.metadata("default", uri) is None
    value = {"owner": {"@team": "web", "active": True, "host": ["a", "b  c"]}}
    assert network.metadata("default", uri, key="o", set=value).status
    assert network.metadata("default", uri) == value
    for form in ("<owner>\n  <host>a</host>\n</owner>", etree.XML("<owner><host>a</host></owner>")):
        network.metadata("default", uri, key="o", set=form)
        assert network.metadata("default", uri) == {"owner": {"host": "a"}}
        network.metadata("default", uri, remove=True)
        assert network.metadata("default", uri) is None


def test_metadata_that_is_no_element_is_refused(test_driver: Hypervisor) -> None:
    for wrong in ({"a": "1", "b": "2"}, {}, "<a", "no XML"):
        with pytest.raises(InvalidArgumentError):
            test_driver.network.metadata("default", "http://example.org", key="o", set=wrong)


def test_no_metadata_is_none() -> None:
    assert _metadata("\n\n") is None
    assert _metadata('<a b="1"><c/>t</a>\n\n') == {"a": {"@b": "1", "#content": [{"c": True}, "t"]}}


# -- ports


def test_the_life_of_a_port(hypervisor: Hypervisor) -> None:
    network = hypervisor.network
    network.create(bridge(1))
    assert network.port_list("net1") == []
    uuids = sorted(kvm.gen_uuid() for _ in range(2))
    for uuid in uuids:
        assert network.port_create("net1", {"uuid": uuid, "owner": OWNER, "mac": {"@address": MAC}}).status
    assert sorted(network.port_list("net1")) == uuids
    conf = network.port_conf("net1", uuids[0])
    assert (conf["uuid"], conf["owner"], conf["mac"]["@address"]) == (uuids[0], OWNER, MAC)
    assert network.port_conf("net1", uuids[0], xpath="//mac/@address") == [MAC]
    assert network.port_delete("net1", uuids[0]).status
    assert network.port_list("net1") == [uuids[1]]


def test_a_port_that_is_not_there_is_not_found(hypervisor: Hypervisor) -> None:
    network, uuid = hypervisor.network, kvm.gen_uuid()
    network.create(bridge(1))
    for ask in (network.port_conf, network.port_delete):
        with pytest.raises(NotFoundError, match="failed to get network port"):
            ask("net1", uuid)
        with pytest.raises(NotFoundError, match="failed to get network 'nobody'"):
            ask("nobody", uuid)
    with pytest.raises(InvalidArgumentError, match="network port has no uuid"):
        network.port_create("net1", {"owner": OWNER, "mac": {"@address": MAC}})


# -- interfaces


def test_the_interfaces_of_the_host_are_listed(hypervisor: Hypervisor, daemon: Libvirtd) -> None:
    interface = hypervisor.interface
    hypervisor.network.create(bridge(1))
    try:
        found = hypervisor.list_interfaces(all=True)
    except NotSupportedError:
        pytest.skip("this libvirtd is without the driver for the host's interfaces")
    assert {name: each["mac_address"] for name, each in found.items()} == addresses(daemon)
    assert found == {**interface.list(), **interface.list(inactive=True)}
    mac = addresses(daemon)["virbr1"]
    assert (interface.mac("virbr1"), interface.name(mac)) == (mac, "virbr1")
    assert interface.conf("lo")["mac"] == {"@address": addresses(daemon)["lo"]}
    assert interface.conf("virbr1")["@type"] == "bridge"
    assert interface.conf(mac, xpath="/interface/@name") == ["virbr1"]
    with pytest.raises(NotFoundError):
        interface.mac("eth7")


def test_interfaces_that_this_libvirt_cannot_change_say_so(hypervisor: Hypervisor) -> None:
    interface = hypervisor.interface
    hypervisor.network.create(bridge(1))
    for act in (interface.start, interface.destroy, interface.undefine):
        with pytest.raises(NotSupportedError):
            act("lo")
    for end in (interface.begin, interface.commit, interface.rollback):
        with pytest.raises(NotSupportedError):
            end()
    with pytest.raises(NotSupportedError, match=r"new bridge|virInterfaceLookupByName"):
        interface.bridge("lo", "br7", no_stp=True, delay=2, no_start=True)
    try:
        interface.list()
    except NotSupportedError:
        pytest.skip("this libvirtd is without the driver for the host's interfaces")
    with pytest.raises(AlreadyExistsError, match="virbr1 already exists"):
        interface.bridge("lo", "virbr1")
    with pytest.raises(InvalidStateError, match="No interface attached"):
        interface.unbridge("virbr1")
    with pytest.raises(InvalidStateError, match="lo is not a bridge"):
        interface.unbridge("lo", no_start=True)


def test_the_life_of_an_interface(test_driver: Hypervisor) -> None:
    interface = test_driver.interface
    eth2 = {"@type": "ethernet", "@name": "eth2", "start": {"@mode": "none"}, "mac": {"@address": MAC}}
    interface.define(eth2)
    assert interface.list(inactive=True) == {"eth2": {"state": "inactive", "mac_address": MAC}}
    assert interface.conf("eth2") == eth2
    assert interface.start("eth2").status
    assert interface.list()["eth2"]["state"] == "active"
    with pytest.raises(InvalidStateError):
        interface.start("eth2")
    assert interface.destroy("eth2").status
    with pytest.raises(InvalidStateError):
        interface.destroy("eth2")
    interface.undefine("eth2")
    assert list(test_driver.list_interfaces(all=True)) == ["eth1"]


def test_changes_of_interfaces_are_kept_or_rolled_back(test_driver: Hypervisor) -> None:
    interface = test_driver.interface
    interface.begin()
    with pytest.raises(InvalidStateError, match="another transaction"):
        interface.begin()
    interface.undefine("eth1")
    interface.rollback()
    assert list(interface.list(all=True)) == ["eth1"]
    interface.begin()
    interface.undefine("eth1")
    interface.commit()
    assert interface.list(all=True) == {}
    with pytest.raises(InvalidStateError, match="no transaction"):
        interface.rollback()


def test_an_interface_whose_name_is_not_shown_is_no_other() -> None:
    heading = " Name        State    MAC Address\n----------------------------------\n"
    assert listed_interfaces(f"{heading} br0         active   \n\n") == {
        "br0": {"state": "active", "mac_address": None}
    }
    with pytest.raises(UnreadableOutputError, match="cannot print the name"):
        listed_interfaces(f"{heading} a\\xff\\xff   active   {MAC}\n\n")


# -- filters


def test_the_life_of_a_filter(hypervisor: Hypervisor) -> None:
    nwfilter = hypervisor.nwfilter
    assert nwfilter.list() == {}
    rule = {"@action": "drop", "@direction": "inout", "@priority": 500, "all": True}
    assert nwfilter.define({"@name": "closed", "@chain": "root", "rule": rule}, validate=True).status
    uuid = nwfilter.conf("closed")["uuid"]
    assert nwfilter.list() == {"closed": {"uuid": uuid}}
    conf = nwfilter.conf(uuid)
    assert conf["rule"] == [{**rule, "@priority": "500"}]
    assert nwfilter.conf("closed", xpath="//rule/@action") == ["drop"]
    with pytest.raises(AlreadyExistsError, match="already exists with uuid"):
        nwfilter.define({**conf, "uuid": kvm.gen_uuid()})
    with pytest.raises(AlreadyExistsError, match="same UUID but different name"):
        nwfilter.define({**conf, "@name": "other"})
    with pytest.raises(InvalidArgumentError, match="Invalid chain name"):
        nwfilter.define({"@name": "other", "@chain": "chain"})
    nwfilter.undefine("closed")
    for ask in (nwfilter.conf, nwfilter.undefine):
        with pytest.raises(NotFoundError, match="failed to get nwfilter 'closed'"):
            ask("closed")


def test_the_life_of_a_binding(hypervisor: Hypervisor) -> None:
    nwfilter = hypervisor.nwfilter
    nwfilter.define({"@name": "open", "@chain": "root"})
    hypervisor.network.create(bridge(1))
    parameter = [{"@name": "IP", "@value": "192.168.77.10"}]
    binding = {
        "owner": OWNER,
        "portdev": {"@name": "virbr1"},
        "mac": {"@address": MAC},
        "filterref": {"@filter": "open", "parameter": parameter},
    }
    assert nwfilter.binding_list() == {}
    assert nwfilter.binding_create(binding).status
    assert nwfilter.binding_list() == {"virbr1": {"filter": "open"}}
    conf = nwfilter.binding_conf("virbr1")
    assert [conf[key] for key in ("owner", "portdev", "mac")] == [OWNER, {"@name": "virbr1"}, {"@address": MAC}]
    assert nwfilter.binding_conf("virbr1", xpath="//parameter[@name='IP']/@value") == ["192.168.77.10"]
    with pytest.raises(AlreadyExistsError):
        nwfilter.binding_create(binding)
    with pytest.raises(InvalidStateError, match="in use"):
        nwfilter.undefine("open")
    with pytest.raises(NotFoundError, match="'closed' is missing"):
        nwfilter.binding_create({**binding, "portdev": {"@name": "lo"}, "filterref": {"@filter": "closed"}})
    nwfilter.binding_delete("virbr1")
    assert nwfilter.binding_list() == {}
    for ask in (nwfilter.binding_conf, nwfilter.binding_delete):
        with pytest.raises(NotFoundError, match="failed to get nwfilter binding 'virbr1'"):
            ask("virbr1")


# -- names

HOSTILE = [
    "two  words",
    "   leading",
    "trailing   ",
    "-",
    "--all",
    "1",
    "\\x41",
    "\\",
    "x   active   yes   no",
    "Name   State   Autostart   Persistent",
    "漢字",
    "😀👩‍👩‍👧",
    "é\u0301",
    "unassigned \U0001fbff",
    "\x85\u2028\xa0",
    "'quotes\" `$(id)`",
    "é" * 100,
    "c71c47bb-6d3c-4ae9-9b2a-000000000000",
]


def test_networks_with_hostile_names_are_listed_exactly(test_driver: Hypervisor) -> None:
    network = test_driver.network
    for name in HOSTILE:
        network.define({"name": name})
    listed = network.list(inactive=True, uuid=True, title=True)
    assert set(listed) == set(HOSTILE)
    for name in HOSTILE:
        assert listed[name]["uuid"] == network.uuid(name) == network.conf(name)["uuid"]
        assert network.info(name)["name"] == name


def test_a_name_that_is_another_network_s_uuid_is_that_network_s_no_longer(test_driver: Hypervisor) -> None:
    network, uuid = test_driver.network, kvm.gen_uuid()
    network.define({"name": "first", "uuid": uuid})
    network.define({"name": uuid})
    listed = network.list(all=True, uuid=True)
    assert listed["first"]["uuid"] == uuid != listed[uuid]["uuid"] == network.uuid(uuid)


def test_filters_with_hostile_names_are_listed_exactly(hypervisor: Hypervisor) -> None:
    names = {name for name in HOSTILE if "'" not in name} | {"a\tb", "\t"}  # libvirt 9 prints no XML for a quote
    for name in names:
        hypervisor.nwfilter.define({"@name": name, "@chain": "root"})
    listed = hypervisor.nwfilter.list()
    assert set(listed) == names
    for name, each in listed.items():
        assert hypervisor.nwfilter.conf(each["uuid"])["@name"] == name


def test_bindings_of_hostile_names_are_listed_exactly(hypervisor: Hypervisor) -> None:
    filters = {"tap1": "   two  words ", "tap\\x41": "\\x41", "漢字": "open", "tap4": "unassigned \U0001fbff"}
    for device, name in filters.items():
        hypervisor.nwfilter.define({"@name": name, "@chain": "root"})
        binding = {"owner": OWNER, "portdev": {"@name": device}, "mac": {"@address": MAC}}
        hypervisor.nwfilter.binding_create({**binding, "filterref": {"@filter": name}})
    listed = hypervisor.nwfilter.binding_list()
    assert {device: each["filter"] for device, each in listed.items()} == filters


def test_what_goes_while_it_is_listed_is_left_out() -> None:
    uuid, gone = kvm.gen_uuid(), kvm.gen_uuid()
    plan = _filters()
    next(plan)
    plan.send((Result(0, f" UUID   Name\n---\n {uuid}   a\n {gone}   \\xff\n\n", ""),))
    with pytest.raises(StopIteration) as end:
        plan.send((Result(1, "", "error: failed to get nwfilter 'x'\n"),))
    assert end.value.value == {"a": {"uuid": uuid}}
    binding = _bindings()
    next(binding)
    with pytest.raises(UnreadableOutputError, match="cannot print the name of the interface"):
        binding.send((Result(0, " Port Dev   Filter\n---\n t\\xff   a\n\n", ""),))


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=30).filter(
    lambda name: name.strip() and not {"\ufffe", "\uffff"} & set(name)
)


@given(names)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_that_libvirt_takes_comes_back(test_driver: Hypervisor, name: str) -> None:
    network = test_driver.network
    network.define({"name": name})
    try:
        assert set(network.list(all=True)) == {"default", name}
        assert network.info(name)["name"] == name
    finally:
        network.undefine(name)


def test_without_check_a_failed_action_returns_its_result() -> None:
    with Hypervisor(unix.Local(), "test:///default", check=False) as hypervisor:
        assert hypervisor.network.start("nobody").status is False
        assert hypervisor.nwfilter.undefine("nobody").status is False
        with pytest.raises(KvmError):
            hypervisor.nwfilter.list()
