"""The public names of kvm 1.1.1, which programs out there use: all of them are here."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import kvm
import unix
from test_project import ROOT

NAMES = {
    "hypervisor": (
        "allocpages capabilities cpu_baseline cpu_compare cpu_models domcapabilities freecell freepages "
        "maxvcpus node_memory_tune nodecpumap nodecpustats nodeinfo nodememstats nodesuspend sysinfo uri "
        "version"
    ),
    "domain": (
        "attach_device attach_disk attach_interface autostart blkdeviotune blkinfo blkiotune blklist blkstat "
        "blockresize conf control coredump cpustats create define desc destroy detach_device detach_disk "
        "detach_interface display id if_getlink if_setlink iflist ifstat iftune info inject_nmi managedsave "
        "managedsave_remove memstat memtune name numatune pmsuspend pmwakeup reboot reset restore resume save "
        "save_conf save_define schedinfo screenshot send_key setmaxmem setmem setvcpus shutdown start state "
        "stop suspend time ttyconsole undefine update_device uuid"
    ),
    "network": "autostart conf create define destroy info name start undefine update uuid",
    "interface": "begin bridge commit conf define destroy mac name rollback start unbridge undefine",
    "pool": (
        "autostart build conf create create_as define define_as delete destroy info name refresh start undefine uuid"
    ),
    "volume": "clone conf create create_as create_from delete download info key name path resize upload wipe",
    "secret": "conf define get_value set_value undefine",
    "snapshot": "conf create create_as current delete info parent revert",
    "image": "amend check commit compare convert create info load map rebase resize snapshot unload",
}
"""The methods by their group."""

OF_THE_HYPERVISOR = (
    "virsh list_domains list_networks list_interfaces list_pools list_volumes list_secrets list_snapshots"
)

OF_THE_MODULE = (
    "Hypervisor KvmError TimeoutException from_xml gen_mac gen_uuid pprint to_xml "
    "CRASHED DYING IDLE PAUSED RUNNING SHUTDOWN SHUTOFF SUSPENDED"
)


@pytest.fixture
def hypervisor() -> kvm.Hypervisor:
    return kvm.Hypervisor(unix.Local(), "test:///default")


def test_every_method_is_there(hypervisor: kvm.Hypervisor) -> None:
    wanted = {f"{group}.{name}" for group, names in NAMES.items() for name in names.split()}
    missing = {
        name
        for name in wanted
        for group, method in [name.split(".")]
        if not callable(getattr(getattr(hypervisor, group, None), method, None))
    }
    assert len(wanted) == 157
    assert missing == set()


def test_the_hypervisor_and_the_module_have_their_names(hypervisor: kvm.Hypervisor) -> None:
    assert [name for name in OF_THE_HYPERVISOR.split() if not callable(getattr(hypervisor, name, None))] == []
    assert [name for name in OF_THE_MODULE.split() if name not in kvm.__all__ or not hasattr(kvm, name)] == []


def test_states_are_what_virsh_says(hypervisor: kvm.Hypervisor) -> None:
    with hypervisor:
        assert hypervisor.domain.state("test") == kvm.RUNNING
        hypervisor.domain.suspend("test")
        assert hypervisor.domain.state("test") == kvm.PAUSED
        hypervisor.domain.destroy("test")
        assert hypervisor.domain.state("test") == kvm.SHUTOFF == hypervisor.list_domains(all=True)["test"]["state"]


def test_pprint_copies() -> None:
    with kvm.Hypervisor(unix.Local(), "test:///default") as hypervisor:
        conf = hypervisor.domain.conf("test")
    copy = kvm.pprint(conf)
    assert copy == conf
    copy["os"]["boot"].clear()
    assert copy != conf


HOST = """
<node>
  <domain type="test">
    <name>web1</name><memory unit="KiB">2097152</memory><vcpu>2</vcpu><os><type>hvm</type></os>
    <devices>
      <disk type="file" device="disk"><source file="/images/web 1.img"/><target dev="vda" bus="virtio"/></disk>
      <interface type="user"><mac address="52:54:00:6b:3c:58"/></interface>
    </devices>
  </domain>
  <domain type="test" xmlns:test="http://libvirt.org/schemas/domain/test/1.0">
    <name>web2</name><memory unit="KiB">2097152</memory><vcpu>2</vcpu><os><type>hvm</type></os>
    <description>The second: 2 CPUs</description><test:runstate>5</test:runstate>
  </domain>
  <network>
    <name>default</name><bridge name="virbr0"/><ip address="192.168.122.1" netmask="255.255.255.0"/>
  </network>
  <pool type="dir">
    <name>images</name><target><path>/images</path></target>
    <volume><name>web 1.img</name><capacity>1000000</capacity><target><path>/images/web 1.img</path></target></volume>
  </pool>
</node>
"""
"""The host that docs/from-kvm-1.md is about."""


def test_what_is_told_of_today_is_so(tmp_path: Path) -> None:
    (tmp_path / "host.xml").write_text(HOST)
    page = (ROOT / "docs" / "from-kvm-1.md").read_text()
    examples = "\n".join(re.findall(r"```python\n# now\n(.*?)```", page, re.DOTALL))
    with kvm.Hypervisor(unix.Local(), f"test://{tmp_path}/host.xml") as hypervisor:
        names = {"kvm": kvm, "unix": unix, "hv": hypervisor}
        test = doctest.DocTestParser().get_doctest(examples, names, "from-kvm-1.md", None, 0)
        said: list[str] = []
        told = doctest.DocTestRunner().run(test, out=said.append)
    assert told.attempted > 15
    assert told.failed == 0, "".join(said)


def test_what_is_told_of_images_is_so(hypervisor: kvm.Hypervisor, tmp_path: Path) -> None:
    image, path, target = hypervisor.image, tmp_path / "disk.qcow2", tmp_path / "copy.qcow2"
    image.create(path, "10M", format="qcow2")
    image.convert(path, target, target_format="qcow2")
    assert image.info(target)["virtual_size"] == 10 * 2**20
    image.rebase(target, path, backing_format="qcow2")
    assert image.info(target)["backing_filename"] == str(path)
    image.snapshot(path, create="name")
    assert [each["name"] for each in image.snapshot(path)] == ["name"]
    image.amend(path, {"compat": "1.1"})


def test_what_is_told_of_options_is_so() -> None:
    """The arguments that the page says in its text and tables."""
    with kvm.Hypervisor(unix.Local(), "test:///default") as hypervisor:
        with hypervisor.pipeline() as pipe:
            pipe.domain.shutdown("web1", mode="acpi")
            pipe.domain.display("web1", type="vnc")
            pipe.volume.info("disk", pool="images")
            assert len(pipe) == 3
        assert hypervisor.list_domains(state_running=True, state_paused=True) == hypervisor.list_domains(all=True)
        assert hypervisor.list_interfaces()["eth1"]["mac_address"] == "aa:bb:cc:dd:ee:ff"
