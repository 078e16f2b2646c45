"""What is said of documents that libvirt's schemas do not allow."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lxml import etree

import kvm
from kvm import InvalidArgumentError, NotSupportedError, schema

DOMAIN = """
<domain type="kvm">
  <name>web1</name>
  <uuid>8dcd3cb3-a52d-4e5e-a5a5-000000000001</uuid>
  <metadata><app:owner xmlns:app="http://example.org/app">we</app:owner></metadata>
  <memory unit="MiB">512</memory>
  <vcpu placement="static" current="1">2</vcpu>
  <os><type arch="x86_64" machine="pc">hvm</type><boot dev="hd"/></os>
  <features><acpi/><apic/></features>
  <cpu mode="host-model"><topology sockets="1" cores="2" threads="1"/></cpu>
  <clock offset="utc"><timer name="rtc" tickpolicy="catchup"/></clock>
  <on_crash>restart</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="none"/>
      <source file="/srv/web1.qcow2"/>
      <target dev="vda" bus="virtio"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x04" function="0x0"/>
    </disk>
    <disk type="block" device="cdrom">
      <source dev="/dev/sr0"/>
      <target dev="sda" bus="sata"/>
      <readonly/>
    </disk>
    <interface type="network"><mac address="52:54:00:00:00:01"/><source network="default"/></interface>
    <graphics type="vnc" port="-1" autoport="yes"/>
    <memballoon model="virtio"/>
  </devices>
  <qemu:commandline xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"><qemu:arg value="-s"/></qemu:commandline>
</domain>
"""
NETWORK = (
    "<network><name>n</name><bridge name='br7'/><forward mode='nat'/>"
    "<ip address='192.168.1.1' netmask='255.255.255.0'><dhcp><range start='192.168.1.2' end='192.168.1.9'/></dhcp></ip>"
    "</network>"
)
POOL = "<pool type='dir'><name>p</name><target><path>/srv/pool</path></target></pool>"
VOLUME = "<volume><name>v</name><capacity unit='GiB'>1</capacity><target><format type='qcow2'/></target></volume>"
SECRET = "<secret ephemeral='no' private='yes'><usage type='volume'><volume>/srv/v</volume></usage></secret>"
DEVICE = "<device><name>eth0</name><capability type='net'><interface>eth0</interface></capability></device>"
NIC = "<interface type='network'><source network='default'/></interface>"
CDROM = "<disk type='file' device='cdrom'><source file='/srv/a'/><target dev='sda'/></disk>"
VALID = [
    DOMAIN,
    NETWORK,
    POOL,
    VOLUME,
    SECRET,
    DEVICE,
    NIC,
    CDROM,
    "<domainsnapshot><name>s</name></domainsnapshot>",
    "<domaincheckpoint><name>c</name></domaincheckpoint>",
    "<domainbackup mode='push'/>",
    "<filter name='f' chain='root'><rule action='drop' direction='in'><tcp dstportstart='22'/></rule></filter>",
    "<interface type='ethernet' name='eth0'/>",
    "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>",
]


def said(document: str | etree._Element) -> str:
    """What is wrong with a document; nothing if it is valid."""
    try:
        schema.check(etree.fromstring(document) if isinstance(document, str) else document)
    except InvalidArgumentError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("document", VALID)
def test_what_is_valid_passes(document: str) -> None:
    schema.check(etree.fromstring(document))


DISK = "/domain/devices/disk[1]"


WRONG = [
    (DOMAIN, 'unit="MiB"', 'unti="MiB"', "/domain/memory", "<memory> has no attribute 'unti' (did you mean 'unit'?)"),
    (DOMAIN, '<disk type="file"', '<disk typ="file"', DISK, "<disk> has no attribute 'typ' (did you mean 'type'?)"),
    (DOMAIN, 'type="file"', 'type="fil"', DISK, "'type' of <disk> has to be 'block', "),
    (DOMAIN, 'type="file"', 'type="fil"', DISK, "not 'fil' (did you mean 'file'?)"),
    (DOMAIN, '<target dev="vda" bus="virtio"/>', "", DISK, "<disk> lacks <target>"),
    (DOMAIN, "<name>web1</name>", "", "/domain", "<domain> lacks <name>"),
    (DOMAIN, '<domain type="kvm">', "<domain>", "/domain", "<domain> lacks 'type'"),
    (DOMAIN, ' dev="vda"', "", f"{DISK}/target", "<target> lacks 'dev'"),
    (DOMAIN, "512", "abc", "/domain/memory", "<memory> has to be an unsigned long, not 'abc'"),
    (DOMAIN, "512", "", "/domain/memory", "<memory> has to be an unsigned long, not ''"),
    (DOMAIN, "restart", "reboot", "/domain/on_crash", "'restart', not 'reboot'"),
    (DOMAIN, "8dcd3cb3", "8dcd", "/domain/uuid", "<uuid> has to be text like [a-fA-F0-9]{"),
    (DOMAIN, 'slot="0x04"', 'slot="0x40"', f"{DISK}/address", "'slot' of <address> has to be "),
    (DOMAIN, "<graphics", "<foo/><graphics", "/domain/devices/foo", "<foo> is not known in <devices>; there may be <"),
    (DOMAIN, "<graphics", "<disc/><graphics", "/domain/devices/disc", "(did you mean 'disk'?)"),
    (DOMAIN, "<os>", "<disk/><os>", "/domain/disk", "<disk> is not known in <domain>, but in <devices> it is"),
    (DOMAIN, "<os>", "<type>kvm</type><os>", "/domain/type", "but the attribute 'type' is ('@type' in a dict)"),
    (DOMAIN, "<domain ", "<domain name='web1' ", "/domain", "no attribute 'name', but it may have a child <name>"),
    (DOMAIN, "<os>", "<vcpu>2</vcpu><os>", "/domain/vcpu[2]", "<domain> cannot have another <vcpu>"),
    (DOMAIN, "<acpi/>", "on", "/domain/features", "<features> has no text, but there is 'on'"),
    (DOMAIN, 'type="file"', 'type="block"', f"{DISK}/source", "; it would do with type='file' of <disk>"),
    (DOMAIN, 'type="block" ', "", "/domain/devices/disk[2]/source", "; it would do with type='block'"),
    (DOMAIN, 'type="pci"', 'type="drive"', f"{DISK}/address", "'domain' of <address> does not go with 'type'"),
    (DOMAIN, 'qemu/1.0"><', 'qemu/1.0"><foo/><', "/domain/qemu:commandline/foo", "not known in <qemu:commandline>"),
    (DOMAIN, "qemu:", "", "/domain/commandline", "'qemu:commandline'"),
    (NETWORK, "nat", "natted", "/network/forward", "'mode' of <forward> has to be "),
    (NETWORK, " end='192.168.1.9'", "", "/network/ip/dhcp/range", "<range> lacks 'end'"),
    (POOL, "dir", "dirs", "/pool", "'type' of <pool> has to be 'dir', 'disk', "),
    (POOL, "<path>/srv/pool</path>", "", "/pool/target", "<target> lacks <path>"),
    (VOLUME, "'GiB'", "'GB!'", "/volume/capacity", "'unit' of <capacity> has to be text like "),
    (SECRET, "<volume>/srv/v</volume>", "", "/secret/usage", "<usage> lacks <volume>"),
    (DEVICE, "<name>eth0</name>", "", "/device", "<device> lacks <name>"),
    (NIC, "'network'", "'netwrk'", "/interface", "not 'netwrk' (did you mean 'network'?)"),
    (CDROM, "/srv/a", "srv", "/disk/source", "'file' of <source> has to be "),
]


@pytest.mark.parametrize(("document", "old", "new", "path", "sentence"), WRONG)
def test_what_is_wrong_is_named_where_it_is(document: str, old: str, new: str, path: str, sentence: str) -> None:
    assert old in document
    words = said(document.replace(old, new, -1 if old == "qemu:" else 1))
    assert words.startswith(path)
    assert sentence in words


def changes() -> Iterator[tuple[str, etree._Element]]:
    """A name, and a document in which this was misspelt, left out, or is there twice."""
    for document in VALID:
        for number, each in enumerate(etree.fromstring(document).iter()):
            tag = etree.QName(each).localname
            for kind in ("misspelt", "left out", "twice"):
                root = etree.fromstring(document)
                node = list(root.iter())[number]
                parent = node.getparent()
                if parent is None:
                    continue
                if kind == "misspelt":
                    node.tag = str(each.tag) + "x"
                elif kind == "twice":
                    node.addnext(copy.deepcopy(node))
                else:
                    parent.remove(node)
                yield tag + "x" * (kind == "misspelt"), root
            for name in map(str, each.attrib):
                for kind in ("misspelt", "left out", "empty"):
                    root = etree.fromstring(document)
                    node = list(root.iter())[number]
                    value = node.attrib.pop(name)
                    if kind != "left out":
                        node.set(name + "x" * (kind == "misspelt"), value if kind == "misspelt" else "")
                    yield name + "x" * (kind == "misspelt"), root


def test_a_document_is_refused_exactly_when_libxml2_refuses_it_and_what_was_changed_is_named() -> None:
    files = dict.fromkeys(("domain", "domainsnapshot", "domaincheckpoint", "domainbackup", "network", "secret"))
    files |= {"pool": "storagepool", "volume": "storagevol", "device": "nodedev", "filter": "nwfilter"}
    schemas = {tag: etree.RelaxNG(file=f"{schema._directory()}/{file or tag}.rng") for tag, file in files.items()}
    verdicts = []
    for name, root in changes():
        words = said(root)
        if root.tag in schemas:
            assert bool(words) is not schemas[root.tag].validate(root)
        if words:
            verdicts.append(bool(re.search(rf"\b{name}\b", words)))
    assert len(verdicts) > 200
    assert sum(verdicts) > 0.97 * len(verdicts)


def test_a_part_of_a_document_is_held_against_its_own_schema() -> None:
    disk = etree.fromstring(DOMAIN).find("devices/disk")
    assert disk is not None
    schema.check(disk)
    disk.set("typ", "file")
    assert said(disk).startswith(f"{DISK}: <disk> has no attribute 'typ'")


def test_comments_and_processing_instructions_are_no_content() -> None:
    assert "has to be an unsigned long, not '5x'" in said(DOMAIN.replace("512", "5<!-- no -->x<?no?>"))
    assert not said(DOMAIN.replace("512", "5<!-- no -->12<?no?>").replace("<os>", "<os><!-- no -->"))


def test_a_document_is_not_changed() -> None:
    root = etree.fromstring(DOMAIN.replace('type="file"', 'type="block"'))
    before = etree.tostring(root)
    assert said(root)
    assert etree.tostring(root) == before


def test_a_large_document_with_several_faults_is_told_the_first() -> None:
    root = etree.fromstring(DOMAIN)
    devices = root.find("devices")
    assert devices is not None
    for number in range(100):
        disk = copy.deepcopy(devices[1])
        disk.attrib["type"] = "file" if number < 98 else "files"
        devices.append(disk)
    assert said(root).startswith("/domain/devices/disk[101]: 'type' of <disk>")


def test_what_is_nested_very_deeply_is_still_refused() -> None:
    deep = "<a>" * 240 + "</a>" * 240
    assert not said(DOMAIN.replace("</metadata>", f"</metadata><description>{'long ' * 100000}</description>"))
    assert said(DOMAIN.replace("<metadata>", f"<metadata>{deep}").replace("<os>", "<foo/><os>")).startswith("/domain")
    assert len(said(DOMAIN.replace("<acpi/>", "long " * 100000))) < 500


def test_passwords_are_not_in_what_is_said() -> None:
    words = said(
        DOMAIN.replace('<graphics type="vnc" port="-1" autoport="yes"', '<graphics type="sdl" passwd="geheim"')
    )
    assert "'passwd' of <graphics>" in words
    assert "geheim" not in words


def test_threads_may_check_at_the_same_time() -> None:
    documents = [DOMAIN, DOMAIN.replace("512", "abc"), NETWORK, NETWORK.replace("nat", "natted")] * 8
    schema._schema.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(said, documents))
    assert results == [said(document) for document in documents]


def test_a_document_without_a_schema_is_not_supported() -> None:
    with pytest.raises(NotSupportedError, match=r"none for <domian> \(did you mean 'domain'\?\)"):
        schema.check(etree.fromstring("<domian/>"))


def test_where_there_are_no_schemas_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBVIRT_SCHEMAS", str(tmp_path))
    with pytest.raises(NotSupportedError, match=r"libvirt0.*validate=True") as caught:
        schema.check(etree.fromstring(DOMAIN))
    assert str(tmp_path) in str(caught.value)


GRAMMAR = """
<grammar xmlns="http://relaxng.org/ns/structure/1.0" datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
  <start><ref name="domain"/></start>
  <define name="domain">
    <element name="domain"><element name="name"><empty/></element><ref name="devices"/></element>
  </define>
  <define name="devices"><element name="devices"><attribute name="n"><data type="int"/></attribute></element></define>
  {}
</grammar>
"""


def test_other_schemas_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "some schemas é%20"
    directory.mkdir()
    monkeypatch.setenv("LIBVIRT_SCHEMAS", str(directory))
    (directory / "domain.rng").write_text(GRAMMAR.format(""))
    assert not said("<domain><name/><devices n='1'/></domain>")
    assert said("<domain><devices n='1'/></domain>").endswith("<domain> lacks <name>, which comes before <devices>")
    assert said("<domain><name/><devices n='x'/></domain>").endswith("'n' of <devices> has to be an integer, not 'x'")


@pytest.mark.parametrize("href", ["http://127.0.0.1:9/x.rng", "../x.rng", "missing.rng"])
def test_schemas_are_read_from_their_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, href: str
) -> None:
    directory = tmp_path / "schemas"
    directory.mkdir()
    (tmp_path / "x.rng").write_text(GRAMMAR.format(""))
    monkeypatch.setenv("LIBVIRT_SCHEMAS", str(directory))
    (directory / "domain.rng").write_text(GRAMMAR.format(f'<include href="{href}"/>'))
    with pytest.raises(NotSupportedError, match=re.escape(href.rpartition("/")[2])):
        schema.check(etree.fromstring(DOMAIN))


def test_the_verdict_of_the_hypervisor_is_shown_whole(test_driver: kvm.Hypervisor, tmp_path: Path) -> None:
    file = tmp_path / "d.xml"
    file.write_text(DOMAIN.replace("<os>", "<foo/><os>"))
    with test_driver.set_controls(parse=True), pytest.raises(InvalidArgumentError, match=r"(?s)domain\.rng\b.*\bfoo\b"):
        test_driver.virsh("define", file=str(file), validate=True)
