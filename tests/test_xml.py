"""XML and dicts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

import kvm
from kvm import InvalidArgumentError, _xml_to_dict, from_xml, to_xml, xml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<a/>", True),
        ("<a>text</a>", "text"),
        ("<a> two  blanks </a>", " two  blanks "),
        ("<a b='1'/>", {"@b": "1"}),
        ("<a b='1'>text</a>", {"@b": "1", "#text": "text"}),
        ("<a><b/></a>", {"b": True}),
        ("<a><b>1</b><b>2</b><c/></a>", {"b": ["1", "2"], "c": True}),
        ("<a><b x='1'/><b/></a>", {"b": [{"@x": "1"}, True]}),
        ("<a>\n  <b>1</b>\n</a>", {"b": "1"}),
        ("<a>\n</a>", True),
        ("<a>text <b>1</b></a>", {"b": "1", "#text": "text"}),
        ("<a><!-- no --><b>1</b><?no?></a>", {"b": "1"}),
        ("<a>we<!-- no -->b1<?no?>!</a>", "web1!"),
        ("<a>é &lt;&amp;&#233;<![CDATA[<x>]]></a>", "é <&é<x>"),
    ],
)
def test_an_element_becomes_a_dictionary_of_its_tag(text: str, value: object) -> None:
    assert _xml_to_dict(etree.fromstring(text)) == {"a": value}
    assert from_xml(text) == from_xml(text.encode()) == from_xml(etree.fromstring(text)) == {"a": value}


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"name": "a", "vcpu": 2}, "<d><name>a</name><vcpu>2</vcpu></d>"),
        ({"@type": "kvm", "acpi": True, "apic": False, "pae": None}, '<d type="kvm"><acpi/></d>'),
        ({"m": {"@unit": "MiB", "#text": 32}}, '<d><m unit="MiB">32</m></d>'),
        ({"disk": ["a", {"@b": True, "@c": False, "@d": None}]}, '<d><disk>a</disk><disk b="yes" c="no"/></d>'),
        ({"t": "<&> é\n"}, "<d><t>&lt;&amp;&gt; é\n</t></d>"),
        ({"b": "1", "a": "2"}, "<d><b>1</b><a>2</a></d>"),
        ({"@one": 1, "@zero": 0, "@float": 1.0, "n": 0}, '<d one="1" zero="0" float="1.0"><n>0</n></d>'),
        ({"memory": kvm.Quantity("32 KiB")}, '<d><memory unit="b">32768</memory></d>'),
        ({"m": {"@unit": "b", "#text": kvm.Quantity("32 KiB")}}, '<d><m unit="b">32768</m></d>'),
        ({"a": b"12", "b": {"@c": "1", "#text": None}}, '<d><a>12</a><b c="1"/></d>'),
    ],
)
def test_a_dictionary_becomes_xml_in_its_order(conf: dict[str, object], text: str) -> None:
    assert etree.canonicalize(to_xml("d", conf), strip_text=True) == etree.canonicalize(text, strip_text=True)


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)
values = st.recursive(
    texts | st.just(True),
    lambda inner: st.dictionaries(names, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(names, values, min_size=1, max_size=3))
def test_what_was_written_is_read_again(conf: dict[str, Any]) -> None:
    assert from_xml(to_xml("root", conf)) == {"root": conf}


@pytest.mark.parametrize(
    "text", ["", "<a", "<a></b>", "<a/><b/>", "plain", "\ud800", b"<?xml version='1.0' encoding='no'?><a/>"]
)
def test_what_is_no_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        from_xml(text)


def test_text_is_what_it_is_whatever_encoding_it_declares() -> None:
    text = "<?xml version='1.0' encoding='iso-8859-1'?>\n<a>é</a>"
    assert from_xml(text) == from_xml(text.encode("latin-1")) == {"a": "é"}
    assert xml.document("a", text) == "\n<a>é</a>".encode()


def test_entities_are_neither_expanded_nor_fetched(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("secret")
    bomb = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'lol'}'>" for n in range(12))
    for text in (
        f"<!DOCTYPE a [{bomb}]><a>&e11;</a>",
        f"<!DOCTYPE a [<!ENTITY e SYSTEM 'file://{tmp_path}/secret'>]><a>&e;</a>",
        f"<!DOCTYPE a SYSTEM 'file://{tmp_path}/secret'><a/>",
    ):
        with pytest.raises(InvalidArgumentError):
            from_xml(text)


@pytest.mark.parametrize(
    "conf", [{"a b": "c"}, {"@": "c"}, {"a": "\0"}, {"": "a"}, {"@a b": "c"}, {"a": {1}}, {1: "a"}, {"a": object()}]
)
def test_what_cannot_be_xml_is_refused_and_named(conf: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError, match="as XML"):
        to_xml("d", conf)


@pytest.mark.parametrize(
    ("xpath", "found"),
    [
        ("//b", [{"b": "1\n2"}, {"b": {"@x": 'say="no"', "c": True}}]),
        ("//b/text()", ["1\n2"]),
        ("//@x", ['say="no"']),
        ("count(//b)", [2.0]),
        ("//c = 1", [False]),
        ("string(//@x)", ['say="no"']),
        ("//q:arg/@value", ["-v"]),
        ("//none", []),
    ],
)
def test_an_xpath_finds_elements_and_text(xpath: str, found: list[object]) -> None:
    document = """<a><b>1\n2</b><b x='say="no"'><c/></b><q:arg xmlns:q='urn:q' value='-v'/></a>\n\n"""
    assert xml.asked(xpath)(document) == found


@pytest.mark.parametrize("xpath", ["//[", "", "//", "\0"])
def test_what_is_no_xpath_is_refused(xpath: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no XPath"):
        xml.asked(xpath)


def test_an_xpath_with_an_unknown_prefix_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be evaluated"):
        xml.asked("//none:a")("<a/>")


def test_a_carriage_return_that_libvirt_does_not_escape_is_not_lost() -> None:
    assert xml.conf("<domain><name>a\rb</name></domain>\n") == {"name": "a\rb"}


def test_the_root_of_an_output_must_be_xml() -> None:
    with pytest.raises(kvm.UnreadableOutputError, match="virsh printed no XML"):
        xml.conf("error\n")


DOMAIN = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web1</name>
  <metadata><mine xmlns='urn:mine'><item/></mine></metadata>
  <devices><disk type='file'><source file='/a'><seclabel model='dac'/></source></disk></devices>
  <qemu:commandline><qemu:arg value='-x'/></qemu:commandline>
</domain>"""


def test_what_the_schema_lets_repeat_is_a_list_also_once() -> None:
    domain = from_xml(DOMAIN)["domain"]
    assert domain["name"] == "web1"
    (disk,) = domain["devices"]["disk"]
    assert disk["source"] == {"@file": "/a", "seclabel": [{"@model": "dac"}]}
    qemu = "{http://libvirt.org/schemas/domain/qemu/1.0}"
    assert domain[f"{qemu}commandline"] == {f"{qemu}arg": [{"@value": "-x"}]}
    assert domain["metadata"] == {"{urn:mine}mine": {"{urn:mine}item": True}}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("<network><ip address='10.0.0.1'><dhcp><range/><host/></dhcp></ip></network>", ["ip", 0, "dhcp", "range", 0]),
        (
            "<domainsnapshot><domain><devices><disk/></devices></domain></domainsnapshot>",
            ["domain", "devices", "disk", 0],
        ),
        ("<domainsnapshot><disks><disk name='vda'/></disks></domainsnapshot>", ["disks", "disk", 0]),
        ("<domaincheckpoint><disks><disk name='vda'/></disks></domaincheckpoint>", ["disks", "disk", 0]),
        ("<domainbackup><disks><disk name='vda'/></disks></domainbackup>", ["disks", "disk", 0]),
        (
            "<capabilities><guest><arch name='i686'><machine/></arch></guest></capabilities>",
            ["guest", 0, "arch", "machine", 0],
        ),
        ("<device><capability type='pci'><iommuGroup><address/></iommuGroup></capability></device>", ["capability", 0]),
        ("<filter><rule action='drop'/></filter>", ["rule", 0]),
        ("<pool type='iscsi'><source><host name='a'/></source></pool>", ["source", "host", 0]),
        ("<interface><protocol family='ipv4'><ip address='1'/></protocol></interface>", ["protocol", 0, "ip", 0]),
        ("<cpu><feature name='vmx'/></cpu>", ["feature", 0]),
        ("<sysinfo><baseBoard><entry name='a'>b</entry></baseBoard></sysinfo>", ["baseBoard", 0, "entry", 0]),
        ("<storagepoolCapabilities><pool type='dir'/></storagepoolCapabilities>", ["pool", 0]),
        ("<domainCapabilities><os><enum name='a'><value>b</value></enum></os></domainCapabilities>", ["os", "enum", 0]),
    ],
)
def test_places_in_every_kind_of_document(document: str, path: list[str | int]) -> None:
    (value,) = from_xml(document).values()
    for step in path:
        value = value[step]
    assert isinstance(value, dict | bool | str)


def test_the_plain_conversion_has_lists_only_where_something_does_repeat() -> None:
    assert _xml_to_dict(etree.fromstring("<devices><disk/></devices>")) == {"devices": {"disk": True}}
    assert _xml_to_dict(etree.fromstring(DOMAIN))["domain"]["devices"]["disk"]["@type"] == "file"


def test_what_an_xpath_finds_has_the_shape_that_it_has_in_the_whole() -> None:
    (source,) = xml.nodes(DOMAIN, "//source")
    assert source == {"source": {"@file": "/a", "seclabel": [{"@model": "dac"}]}}


def test_lists_are_written_as_they_are_read() -> None:
    again = to_xml("domain", from_xml(DOMAIN)["domain"])
    assert from_xml(again) == from_xml(DOMAIN)
