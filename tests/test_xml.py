"""XML and dicts."""

from __future__ import annotations

import copy
import enum
import json
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

import kvm
from kvm import InvalidArgumentError, _xml_to_dict, from_xml, to_xml, xml, xmlplain
from kvm.xmlplaces import PLAIN
from kvm.xmlwriter import NAMESPACES
from sameness import normal, parse


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
        ("<a>text <b>1</b></a>", {"b": "1", "#text": "text "}),
        ("<a b='1'> </a>", {"@b": "1", "#text": " "}),
        ("<a b=''/>", {"@b": ""}),
        ("<a>\xa0<b/>\xa0</a>", {"#content": ["\xa0", {"b": True}, "\xa0"]}),
        (
            "<a x='1'>one <b>two</b> three <b/></a>",
            {"@x": "1", "#content": ["one ", {"b": "two"}, " three ", {"b": True}]},
        ),
        ("<a>one<b/>\n <!-- no -->two</a>", {"#content": ["one", {"b": True}, "\n two"]}),
        ("<a> one\n two\\</a>", " one\n two\\"),
        ("<a xml:space='preserve'>\n</a>", {"@xml:space": "preserve", "#text": "\n"}),
        (
            "<a xml:space='preserve'>\n <b>\n</b><c xml:space='default'>\n</c>\t</a>",
            {"@xml:space": "preserve", "#content": ["\n ", {"b": "\n"}, {"c": {"@xml:space": "default"}}, "\t"]},
        ),
        ("<a><b xml:space='preserve'> \n</b>\n<b/></a>", {"b": [{"@xml:space": "preserve", "#text": " \n"}, True]}),
        ("<a xml:space='default' b='xml:space'>\n</a>", {"@xml:space": "default", "@b": "xml:space"}),
        ("<a xml:lang='de' xml:space='preserve'/>", {"@xml:lang": "de", "@xml:space": "preserve"}),
        ("<a xmlns:q='u'><q:d q:e='1'/><d/></a>", {"@xmlns:q": "u", "q:d": {"@q:e": "1"}, "d": True}),
        ("<a><d xmlns='u'><e/><f xmlns=''/></d></a>", {"d": {"@xmlns": "u", "e": True, "f": {"@xmlns": ""}}}),
        ("<a><!-- no --><b>1</b><?no?></a>", {"b": "1"}),
        ("<a>we<!-- no -->b1<?no?>!</a>", "web1!"),
        ("<a>é &lt;&amp;&#233;<![CDATA[<x>]]></a>", "é <&é<x>"),
    ],
)
def test_an_element_becomes_a_dictionary_of_its_tag(text: str, value: object) -> None:
    assert _xml_to_dict(etree.fromstring(text)) == {"a": value}
    assert from_xml(text) == from_xml(text.encode()) == from_xml(etree.fromstring(text)) == {"a": value}


class Kind(str, enum.Enum):  # noqa: UP042
    KVM = "kvm"
    PATH = "/a b"


class Share(float, enum.Enum):
    HALF = 0.5


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
        ({"a": b"12", "b": {"@c": "1", "#text": None}}, '<d><a>12</a><b c="1"/></d>'),
        ({"@type": Kind.KVM, "b": Kind.PATH, "c": Share.HALF}, '<d type="kvm"><b>/a b</b><c>0.5</c></d>'),
        ({Kind.KVM: 1, "@xmlnsx": 2}, '<d xmlnsx="2"><kvm>1</kvm></d>'),
        ({"#content": ["a", None, {"b": ["1", 2], "c": None}, {"d": False}]}, "<d>a<b>1</b><b>2</b></d>"),
    ],
)
def test_a_dictionary_becomes_xml_in_its_order(conf: dict[str, object], text: str) -> None:
    assert etree.canonicalize(to_xml("d", conf), strip_text=True) == etree.canonicalize(text, strip_text=True)


names = st.from_regex(r"[A-Za-z_À-ÖØ-öø-ı][A-Za-z0-9_.·À-ÖØ-öø-ı-]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)
values = st.recursive(
    texts | st.just(True),
    lambda inner: st.dictionaries(names, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(names, values, min_size=1, max_size=3))
def test_what_was_written_is_read_again(conf: dict[str, Any]) -> None:
    assert from_xml(to_xml("root", conf)) == {"root": conf}


PREFIXES = {"q": "urn:q", "r": "urn:r?a=1&b='2'", "qemu": "http://libvirt.org/schemas/domain/qemu/1.0"}
TAGS = ("source", "disk", "devices", "a", "b", "{urn:q}a", "{urn:r?a=1&b='2'}b", "{urn:default}c")
any_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda character: character >= " " or character in "\t\n\r"
    ),
    max_size=8,
) | st.sampled_from([" ", "\n ", "a\n  b ", " C:\\\\x", "]]>", "&amp;", "\r", "\x85", "\xa0"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> etree._Element:
    """Any element: names with and without prefixes, text anywhere, comments and CDATA."""
    tag = draw(st.sampled_from(TAGS if depth == 3 else (*TAGS, "filter", "metadata")))
    declared: dict[str | None, str] = {None: "urn:default"} if "default" in tag else {}
    declared |= draw(st.sampled_from([{}, PREFIXES]))
    element = etree.Element(tag, nsmap=declared)
    for name in draw(st.lists(st.sampled_from(["x", "id", "{urn:q}a", "{http://www.w3.org/XML/1998/namespace}lang"]))):
        element.set(name, draw(any_text))
    if space := draw(st.sampled_from(["", "", "preserve", "default"])):
        element.set("{http://www.w3.org/XML/1998/namespace}space", space)
    element.text = draw(st.none() | any_text)
    for _ in range(draw(st.integers(0, 3 if depth else 0))):
        child: etree._Element = draw(elements(depth - 1) | st.just(etree.Comment("no")))
        child.tail = draw(st.none() | st.just("\n  ") | any_text)
        element.append(child)
    return element


@given(elements())
@settings(max_examples=300, deadline=None)
def test_every_document_comes_back_the_same(element: etree._Element) -> None:
    text = etree.tostring(element, encoding="unicode")
    for document in (text, text.encode(), etree.fromstring(text)):
        ((tag, conf),) = from_xml(document).items()
        again = to_xml(tag, conf)
        assert normal(parse(again)) == normal(parse(text))
        assert from_xml(again) == {tag: conf}


@pytest.mark.parametrize(
    "text",
    [
        "<d><description>\n  several\n\n lines </description></d>",
        "<d><p><![CDATA[<&]]]]><![CDATA[>]]></p></d>",
        "<d><p>&#9;&#10;&#13;&#x1F600;&quot;&apos;</p><q r='&#9;&#10;&#13;&quot;&apos;&lt;'/></d>",
        "<d><metadata><p xmlns='http://www.w3.org/1999/xhtml'>a <b>b</b><i> c</i>\n d</p></metadata></d>",
        "<d><m xmlns='urn:a'><n xmlns='urn:b'><m xmlns=''/></n></m></d>",
        "<d><q:a xmlns:q='urn:1'><q:a xmlns:q='urn:2'/></q:a></d>",
        "<d xmlns:unused='urn:1'><a xmlns:p='urn:1' xmlns:q='urn:1' p:x='1'/></d>",
        "<d><empty></empty><blank> </blank><a b=''/></d>",
        "<d><path>C:\\new\\table</path><a>  leading</a></d>",
        "<d><s xml:space='preserve'><t/><t/></s><u>\n</u></d>",
        "<d><s xml:space='preserve'><t>\n</t><v xml:space='default'>\n<w/>\n<w/></v>\n</s></d>",
        "<filter><rule/><filterref/><uuid>1</uuid><rule/></filter>",
        "<cpu><numa><interconnects><latency/><bandwidth/><latency/></interconnects></numa></cpu>",
        "<m xmlns='urn:m'><run/><wait/><run>1<n/></run><wait/></m>",
        "<domain><n:m xmlns:n='urn:n'><a/><b/><a/></n:m></domain>",
        "<domainsnapshot><domain><metadata><a/><b/><a/></metadata></domain></domainsnapshot>",
        "<domainsnapshot><inactiveDomain><metadata><a/><b/><a/></metadata></inactiveDomain></domainsnapshot>",
        "<domaincheckpoint><domain><metadata><a/><b/><a/></metadata></domain></domaincheckpoint>",
        "<domain><metadata><n:m xmlns:n='urn:n'><o/><p/><o><q/><r/><q/></o></n:m></metadata></domain>",
        "<network><metadata><n:m xmlns:n='urn:n'/><n:o xmlns:n='urn:o'/><n:m xmlns:n='urn:m'/></metadata></network>",
    ],
)
def test_what_is_easily_lost_is_not(text: str) -> None:
    ((tag, conf),) = from_xml(text).items()
    assert normal(parse(to_xml(tag, conf))) == normal(parse(text))


def test_a_whole_document_is_taken_for_its_content() -> None:
    whole = from_xml("<domain type='kvm'><name>a</name></domain>")
    assert to_xml("domain", whole) == to_xml("domain", whole["domain"])
    assert to_xml("a", {"a": {"b": True}}) == "<a>\n  <a>\n    <b/>\n  </a>\n</a>\n"


FILTER = "<filter name='f'><rule action='{}'/><uuid>1</uuid><filterref filter='g'/><rule action='b'/></filter>"


def test_the_order_of_a_filter_is_in_its_dictionary() -> None:
    conf = from_xml(FILTER.format("a"))["filter"]
    assert conf["rule"] == [{"@action": "a"}, {"@action": "b"}]
    assert conf["#order"] == ["rule", "uuid", "filterref", "rule"]
    conf["rule"][0] = {"@action": "<"}
    assert normal(parse(to_xml("filter", conf))) == normal(parse(FILTER.format("&lt;")))
    plain = from_xml("<filter name='f'><rule action='a'/><rule action='b'/></filter>")["filter"]
    assert plain.keys() == {"@name", "rule", "#order"}


@pytest.mark.parametrize(
    ("conf", "names"),
    [
        ({"a": [1, 2], "b": 3, "#order": ["b", "a", "a"]}, "b3 a1 a2"),
        ({"a": [1, 2], "b": [1, 2], "#order": ("a", "b", "a", "b")}, "a1 b1 a2 b2"),
        ({"a": [1, 2], "b": [], "#order": ["a", "b", "b"]}, "a1 a2"),
        ({"a": [1, 2, 3], "b": [1], "#order": ["a", "b"]}, "a1 a2 a3 b1"),
        ({"a": [1, 2, 3], "b": None, "#order": ["a", "a", "b", "c"]}, "a1 a2 a3"),
        ({"a": [None, 2], "b": 1, "#order": ["a", "b", "a"]}, "b1 a2"),
        ({"a": [1, 2], "b": 1, "c": [1, 2], "#order": ["b"]}, "b1 a1 a2 c1 c2"),
        ({"a": [1], "#order": []}, "a1"),
    ],
)
def test_children_are_written_in_their_order(conf: dict[str, Any], names: str) -> None:
    assert " ".join(f"{each.tag!s}{each.text}" for each in parse(to_xml("filter", conf))) == names


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        (
            {"a": [1, 2, 3], "b": 1, "#order": ["a", "b", "a"]},
            "'#order' names 'a' 2 times, but there are 3, with other elements between them",
        ),
        ({"a": [1], "b": 1, "#order": ["a", "b", "a"]}, "'#order' names 'a' 2 times, but there are 1"),
        (
            {"a": [1], "b": 1, "#order": ["aa", "b"]},
            "'#order' names 'aa', which is not among the children, but not 'a', which is",
        ),
        ({"a": 1, "#order": "a"}, "'#order' must be a list of the children's names, not 'a'"),
        ({"a": 1, "#order": [1]}, "the name 1 is no text"),
    ],
)
def test_an_order_that_leaves_a_place_open_is_refused(conf: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"cannot write <filter> as XML: {why}"):
        to_xml("filter", conf)


def test_the_plain_conversion_has_no_order() -> None:
    alternating = "<m xmlns='urn:m'><a/><b/><a/></m>"
    assert "#order" not in _xml_to_dict(etree.fromstring(FILTER))["filter"]
    assert _xml_to_dict(etree.fromstring(alternating)) == {"m": {"@xmlns": "urn:m", "a": [True, True], "b": True}}
    assert from_xml(alternating)["m"]["#order"] == ["a", "b", "a"]
    assert "#order" not in from_xml("<m><a/><a/><b/></m>")["m"]
    assert "#order" not in from_xml("<domain><devices><disk/><hub/><disk/></devices></domain>")["domain"]["devices"]


def test_prefixes_of_libvirt_need_no_declaration() -> None:
    uri = "http://libvirt.org/schemas/domain/qemu/1.0"
    by_hand = to_xml("domain", {"qemu:commandline": {"qemu:arg": [{"@value": "-v"}]}})
    expanded = to_xml("domain", {f"{{{uri}}}commandline": {f"{{{uri}}}arg": [{"@value": "-v"}]}})
    declared = f"<domain><qemu:commandline xmlns:qemu='{uri}'><qemu:arg value='-v'/></qemu:commandline></domain>"
    assert normal(parse(by_hand)) == normal(parse(expanded)) == normal(parse(declared))
    assert to_xml("a", {"@{urn:x}b": 1, "{urn:y}c": True}) == (
        '<a xmlns:ns0="urn:x" ns0:b="1">\n  <ns1:c xmlns:ns1="urn:y"/>\n</a>\n'
    )


@pytest.mark.parametrize(
    ("conf", "attributes"),
    [
        ({"@{urn:x}a": 1, "@{urn:x}b": 2}, {"{urn:x}a": "1", "{urn:x}b": "2"}),
        ({"@{urn:x}a": 1, "@{urn:y}a": 2}, {"{urn:x}a": "1", "{urn:y}a": "2"}),
        ({"@fs:a": 1, "@fs:b": 2}, {f"{{{NAMESPACES['fs']}}}a": "1", f"{{{NAMESPACES['fs']}}}b": "2"}),
        ({"@xmlns:fs": "urn:x", f"@{{{NAMESPACES['fs']}}}a": 1}, {f"{{{NAMESPACES['fs']}}}a": "1"}),
    ],
)
def test_a_prefix_is_declared_once(conf: dict[str, object], attributes: dict[str, str]) -> None:
    assert dict(parse(to_xml("a", conf)).items()) == attributes
    inner = to_xml("a", {f"{{{NAMESPACES['fs']}}}b": {"@xmlns:fs": "urn:x", "fs:c": True}})
    assert [each.tag for each in parse(inner).iter()] == ["a", f"{{{NAMESPACES['fs']}}}b", "{urn:x}c"]


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ({"no:b": 1}, "the prefix 'no' of 'no:b' is not declared: add '@xmlns:no'"),
        ({"memory": kvm.Quantity("1 KiB")}, "cannot write <memory> as XML: no unit is known here for '1 KiB'"),
        ({"a": float("nan")}, "cannot write <a> as XML: a value must be text, a finite number or a boolean, not nan"),
        ({"a": "\x01"}, r"XML cannot hold the character '\\x01'"),
        ({"a": {"#content": "text"}}, "'#content' is a list"),
        ({"a": b"\xff"}, "cannot write <a> as XML: XML cannot hold the character"),
        ({"@xmlns q": "urn:q"}, "'xmlns q' is no name of an attribute"),
        ({"@xmlns:": "urn:q"}, "'@xmlns:' declares no prefix"),
        ({"@xmlns:xmlns": "urn:q"}, "'@xmlns:xmlns' declares no prefix"),
        ({"@xmlns:q": ""}, "'' is no namespace for '@xmlns:q'"),
        ({"@xmlns:q": False}, "False is no namespace for '@xmlns:q'"),
        ({"@xmlns:xml": "urn:q"}, "'urn:q' is no namespace for '@xmlns:xml'"),
        ({"@xmlns:q": "http://www.w3.org/2000/xmlns/"}, "is no namespace for '@xmlns:q'"),
        ({"{http://www.w3.org/2000/xmlns/}q": 1}, "is no name of an element"),
        ({"@xmlnsxq": "urn:q", "xq:a": 1}, "the prefix 'xq' of 'xq:a' is not declared"),
        ({"@xmlns:q": "u", "@q:a": 1, "@{u}a": 2}, "the attribute '{u}a' is there twice"),
        ({"@xmlns:q": "u", "@xmlns:r": "u", "@q:a": 1, "@r:a": 2}, "the attribute 'r:a' is there twice"),
        ({"#content": [{1: "a"}]}, "the name 1 is no text"),
        ({"a": 10**5000}, "Exceeds the limit"),
        ({"a": [[10**5000]]}, "a boolean, not list"),
    ],
)
def test_what_is_wrong_in_a_dictionary_is_said(conf: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        to_xml("d", conf)


@pytest.mark.skipif(not Path("/usr/share/libvirt/schemas").exists(), reason="libvirt's schemas are not installed")
def test_a_document_is_held_against_libvirt_s_schema() -> None:
    conf = {"name": "web1", "memory": kvm.Quantity("1 GiB"), "os": {"type": "hvm"}}
    right = {"@type": "kvm", **conf}
    assert to_xml("domain", right, validate=True) == to_xml("domain", right)
    with pytest.raises(InvalidArgumentError, match=r"/domain/memory: <memory> has to be an unsigned long, not 'much'"):
        to_xml("domain", {**right, "memory": "much"}, validate=True)
    with pytest.raises(InvalidArgumentError, match=r"<domain> has no attribute 'typ' \(did you mean 'type'\?\)"):
        to_xml("domain", {"@typ": "kvm", **conf}, validate=True)


def test_a_dictionary_that_contains_itself_is_refused() -> None:
    conf: dict[str, object] = {}
    conf["a"] = conf
    with pytest.raises(InvalidArgumentError, match="nested too deeply, or contains itself"):
        to_xml("d", conf)


@pytest.mark.parametrize("encode", [str, str.encode])
def test_nesting_is_read_and_written_as_deep_as_libvirt_reads(encode: Callable[[str], str | bytes]) -> None:
    deepest = "<b x='1'>" * 256 + "</b>" * 256
    value = from_xml(encode(deepest))
    assert normal(parse(to_xml("b", value["b"]))) == normal(parse(deepest))
    assert json.loads(json.dumps(copy.deepcopy(value))) == value
    for depth in (257, 300_000):
        for read in (from_xml, xml.parse):
            with pytest.raises(InvalidArgumentError, match="nested more than 256 elements deep"):
                read(encode("<b>" * depth + "</b>" * depth))


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE b><b/>",
        "<!DOCTYPE b [<!ENTITY c 'd'>]><b>&c;</b>",
        "<!DOCTYPE b SYSTEM 'b.dtd'><b>&undefined;</b>",
        "<?xml version='1.0'?><!-- a --><!DOCTYPE b><b e='f'>g</b>",
    ],
)
def test_a_document_type_is_refused_and_named(text: str) -> None:
    for read in (from_xml, xml.parse, partial(xml.document, "b")):
        for document in (text, text.encode()):
            with pytest.raises(InvalidArgumentError, match=r"^the XML has a document type \(DTD\), which is refused"):
                read(document)
    assert from_xml("<b><![CDATA[<!DOCTYPE b>]]></b>") == {"b": "<!DOCTYPE b>"}


def test_a_million_siblings_are_read() -> None:
    text = f"<a>{'<b/>' * 1_000_000}</a>"
    assert len(from_xml(text)["a"]["b"]) == 1_000_000


def test_time_grows_with_size_and_no_faster() -> None:
    mixed = "<a>" + "<b/>x" * 200_000 + "</a>"
    many = "<a " + " ".join(f"xmlns:n{number}='u'" for number in range(50_000)) + "/>"
    begin = time.process_time()
    assert len(from_xml(mixed)["a"]["#content"]) == 400_000
    assert from_xml(to_xml("a", from_xml(many)["a"])) == from_xml(many)
    assert time.process_time() - begin < 10


def test_huge_text_is_read() -> None:
    huge = "x\n" * 6_000_000
    assert from_xml(f"<a>{huge}</a>") == {"a": huge}
    assert from_xml(to_xml("a", {"b": [huge, " " * 10_000 + "x"]})) == {"a": {"b": [huge, " " * 10_000 + "x"]}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_bytes_are_read_in_the_encoding_that_they_declare(encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = f"<?xml version='1.0' encoding='{declared}'?><a xmlns:q='u'><q:b>é</q:b></a>"
    assert from_xml(text.encode(encoding)) == {"a": {"@xmlns:q": "u", "q:b": "é"}}
    with pytest.raises(InvalidArgumentError):
        from_xml("<?xml version='1.0' encoding='utf-8'?><a>é</a>".encode("latin-1"))


def test_blanks_around_a_document_are_none_of_it() -> None:
    assert from_xml(b"\xfe\xff" + "<a>\n</a>\n".encode("utf-16-be")) == {"a": True}
    assert xml.document("a", "<a>é</a>".encode("utf-16")) == b"<a>&#233;</a>"
    assert xml.document("a", b"\n<?xml version='1.0'?><a/>\n") == b"<?xml version='1.0'?><a/>\n"
    assert xml.document("a", "\ufeff<?xml version='1.0' encoding='latin-1'?><a>é</a>") == "<a>é</a>".encode()


@given(st.text() | st.binary(), st.integers(0, 400))
def test_anything_is_a_value_or_an_error(garbage: str | bytes, end: int) -> None:
    for document in (garbage, DOMAIN[:end], DOMAIN[:end].encode() + b"\xff"):
        try:
            from_xml(document)
        except InvalidArgumentError:
            continue


@pytest.mark.parametrize(
    "text",
    ["", "<a", "<a></b>", "<a/><b/>", "plain", "\ud800", "<\0a\0/\0>\0", b"<?xml version='1.0' encoding='no'?><a/>"],
)
def test_what_is_no_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        from_xml(text)


@pytest.mark.parametrize(
    "given", [None, 1, Path("/a"), bytearray(b"<a/>"), {"a": "b"}, etree.ElementTree(etree.Element("a"))]
)
def test_what_cannot_be_read_is_refused(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="XML to read is text, bytes or an lxml element, not"):
        from_xml(given)


def test_a_part_of_a_tree_has_the_namespaces_that_are_declared_in_it() -> None:
    tree = etree.fromstring("<r xmlns:o='u:o' xmlns:p='u:p'><a xmlns:q='u:q' p:b='q:c'><d xmlns:r='u:r'/></a></r>")
    assert from_xml(tree[0]) == {
        "a": {"@xmlns:q": "u:q", "@xmlns:p": "u:p", "@p:b": "q:c", "d": {"@xmlns:r": "u:r"}},
    }


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
        ("//@value/../namespace::q", [("q", "urn:q")]),
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


def test_white_space_in_attributes_that_libvirt_does_not_escape_is_not_lost() -> None:
    printed = "<domain>\n  <name>x='a\n\t' 'b'</name>\n  <a b='c\n\td' e='\n'/>\n</domain>\n\n"
    assert xml.conf(printed) == {"name": "x='a\n\t' 'b'", "a": {"@b": "c\n\td", "@e": "\n"}}
    in_cdata = "<domain>\n  <metadata><a:b xmlns:a='u'><![CDATA[c='\n']]></a:b></metadata>\n</domain>\n"
    assert xml.conf(in_cdata)["metadata"]["a:b"]["#text"] == "c='\n'"


@pytest.mark.parametrize(
    ("beside", "value"),
    [
        ("<b><![CDATA[x='\n\t' & \r]]></b>", "x='\n\t' & \r"),
        ("<b/><!-- don't: x='\n\t' -->", True),
        ("<b/><?a don't x='\n\t' ?>", True),
        ("<b x=\"it's='\">a='1\n' &amp; \r\tb</b>", {"@x": "it's='", "#text": "a='1\n' & \r\tb"}),
        ("<b><![CDATA[don't]]><![CDATA[a='1\n']]></b>", "don'ta='1\n'"),
    ],
)
def test_white_space_in_attributes_survives_whatever_is_beside(beside: str, value: object) -> None:
    paths = {"@dir": "/srv/a\tb", "@file": "/srv/c\n d\re"}
    element = f"<source dir='{paths['@dir']}' file='{paths['@file']}'/>"
    conf = xml.conf(f"<domain>\n  {element}\n  <metadata>{beside}</metadata>\n  {element}\n</domain>\n\n")
    assert conf == {"source": [paths, paths], "metadata": {"b": value}}


def test_a_device_without_content_has_its_tag() -> None:
    assert xml.device(from_xml("<panic/>")) == b"<panic/>\n"


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
    assert domain["@xmlns:qemu"] == "http://libvirt.org/schemas/domain/qemu/1.0"
    assert domain["qemu:commandline"] == {"qemu:arg": [{"@value": "-x"}]}
    assert domain["metadata"] == {"mine": {"@xmlns": "urn:mine", "item": True}}


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


# -- text, most of which has been read before: bytes go to expat ----------------------------------------------------

GUEST = """<domain type='kvm' id='7'>
  <name>web1</name>
  <title>A "web" server's</title>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://debian.org/debian/12"/>
    </libosinfo:libosinfo>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1" nova:since="1"><nova:name/></nova:instance>
  </metadata>
  <memory unit='KiB'>65536</memory>
  <os>
    <type arch='x86_64'>hvm</type>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/a'/>
    </disk>
    <graphics type='vnc' passwd='hunter2'/>
  </devices>
</domain>
"""
PIECES = list("<>/'\"= \n\t&;:!?[]ax\0\x01\ré\xa0\ufffe\ud800")
PIECES += ["<!-- -->", "<?x y?>", "<![CDATA[x]]>", "]]>", "&amp;", "&no;", " a='1'", "<a/>", "</a>", "<b></b>"]
PIECES += ["a:", "xml:", "xmlns", " xmlns='u'", " xmlns:a='u'", " xmlns:a=''", " xmlns:xml='u'", "libvirt.org/"]
PIECES += ["<a:b xmlns:a='u' a:c='1'>t</a:b>", "</domain>"]


def read_or_refused(document: str | bytes) -> object:
    try:
        return from_xml(document)
    except InvalidArgumentError:
        return InvalidArgumentError


@given(elements(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_document_is_the_same_as_text_and_as_bytes(element: etree._Element, indented: bool) -> None:
    if indented:
        etree.indent(element)
    text = etree.tostring(element, encoding="unicode")
    assert from_xml(text) == from_xml(text.encode()) == from_xml(etree.fromstring(text))


@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_what_is_wrong_in_a_text_is_wrong_in_bytes(data: st.DataObject) -> None:
    text = GUEST
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.sampled_from([0, 0, 1, 5, 20]))
        text = text[:start] + data.draw(st.sampled_from([*PIECES, ""])) + text[end:]
    assert read_or_refused(text) == read_or_refused(text.encode("utf-8", "surrogatepass"))


def test_many_prefixes_take_no_more_time_and_memory_than_they_have_to() -> None:
    declared = " ".join(f"xmlns:n{number}='u'" for number in range(8000))
    deep = f"<p:a xmlns:p='u' {declared}>{'<p:a>' * 255}{'</p:a>' * 255}</p:a>"
    tracemalloc.start()
    try:
        xmlplain.read(deep, PLAIN)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_a_document_that_was_changed_is_not_what_is_read_again() -> None:
    first = from_xml(GUEST)
    first["domain"]["memory"]["@unit"] = "b"
    first["domain"]["devices"]["disk"][0]["@type"] = "block"
    assert from_xml(GUEST) == from_xml(GUEST.encode()) != first


@pytest.mark.parametrize("document", [GUEST, "<a><b></b><c>x\ny</c></a>", "<a>é\u20ac😀</a>", '<a b="1" />'])
def test_what_libvirt_writes_as_a_rule_needs_no_parser(document: str) -> None:
    assert xmlplain.read(document, PLAIN) == _xml_to_dict(etree.fromstring(document))


def test_what_is_read_is_not_remembered_for_ever_and_secrets_are_not_at_all() -> None:
    from_xml(GUEST)
    assert "name>web1" in xmlplain._pieces
    assert not any("hunter2" in piece for piece in xmlplain._pieces)
    from_xml("<a>" + "".join(f"<b>{number}</b>" for number in range(20_000)) + "</a>")
    assert "name>web1" not in xmlplain._pieces
    assert len(xmlplain._pieces) <= xmlplain._MANY
