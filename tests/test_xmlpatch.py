"""Changing one thing in a document's text changes no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree

from kvm import InvalidArgumentError, from_xml, to_xml
from kvm.xmlpatch import patch
from kvm.xmlplaces import document_roots

DISK = "<disk type='file' ><source file='/a>'/></disk>"
GUEST = """\
<!-- before --><domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web1</name>
  <metadata>
    <a:job xmlns:a="urn:a"><a:run/><?a step?><a:wait>1</a:wait><a:run/><!-- twice --><a:wait>2</a:wait></a:job>
    <b:text xmlns:b="urn:b"><![CDATA[<&]]>
    </b:text>
  </metadata>
  <vcpu>2</vcpu>
  <devices>
    DISK
    <interface type='user'/>
    <disk type='file'><source file="/b"/>
    </disk>
    <interface type='network'/>
  </devices>
  <qemu:commandline><qemu:arg value='&#9;x'/></qemu:commandline>
</domain>
<?behind?>""".replace("DISK", DISK)


USER = "'user'/>\n    <interface>\n      <a/>\n    </interface>"


def devices(conf: Any) -> Any:
    return conf["devices"]


def steps(conf: Any) -> Any:
    return conf["metadata"]["a:job"]["a:wait"]


def arguments(conf: Any) -> Any:
    return conf["qemu:commandline"]["qemu:arg"]


def changed(text: str, change: Callable[[Any], object]) -> str:
    """The text with its dict changed, which is what it says then."""
    ((tag, conf),) = from_xml(text).items()
    change(conf)
    result = patch(text, tag, conf, document_roots())
    assert from_xml(result) == from_xml(to_xml(tag, conf))
    return result


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        (lambda conf: None, "", ""),
        (lambda conf: conf.update(vcpu=2), "", ""),
        (lambda conf: conf.update(vcpu=4), "<vcpu>2</vcpu>", "<vcpu>4</vcpu>"),
        (lambda conf: conf.pop("vcpu"), "  <vcpu>2</vcpu>\n", ""),
        (lambda conf: conf.update(title="a<b"), "\n</domain>", "\n  <title>a&lt;b</title>\n</domain>"),
        (lambda conf: devices(conf)["disk"][1]["source"].update({"@file": "/c"}), '"/b"', '"/c"'),
        (lambda conf: devices(conf)["disk"].pop(0), f"    {DISK}\n", ""),
        (lambda conf: devices(conf)["disk"].insert(0, {"@x": 1}), DISK, f'<disk x="1"/>\n    {DISK}'),
        (lambda conf: devices(conf)["interface"].insert(1, {"a": {}}), "'user'/>", USER),
        (lambda conf: devices(conf).update(hub=True), "'network'/>", "'network'/>\n    <hub/>"),
        (lambda conf: steps(conf).__setitem__(1, "3"), "<a:wait>2", "<a:wait>3"),
        (lambda conf: arguments(conf).append({"@value": "y"}), "x'/>", 'x\'/><qemu:arg value="y"/>'),
    ],
)
def test_a_change_leaves_the_rest_of_the_text_alone(change: Callable[[Any], object], old: str, new: str) -> None:
    assert changed(GUEST, change) == (GUEST.replace(old, new, 1) if old else GUEST)


def test_a_start_tag_is_written_anew_without_what_it_holds() -> None:
    result = changed(GUEST, lambda conf: devices(conf)["disk"][0].update({"@id": 1}))
    assert result == GUEST.replace("<disk type='file' >", '<disk type="file" id="1">')


def test_a_step_of_other_programs_is_added_where_its_order_says() -> None:
    def add(conf: Any) -> None:
        job = conf["metadata"]["a:job"]
        job["a:wait"].insert(1, "new")
        job["#order"].insert(2, "a:wait")

    assert changed(GUEST, add) == GUEST.replace("</a:wait>", "</a:wait><a:wait>new</a:wait>", 1)
    with pytest.raises(InvalidArgumentError, match="'#order' names 'a:wait' 2 times, but there are 3"):
        changed(GUEST, lambda conf: conf["metadata"]["a:job"]["a:wait"].append("3"))


def test_another_root_and_other_namespaces_are_written_anew() -> None:
    assert patch("<a><b/><!-- c --></a>", "d", {"b": True}, document_roots()) == "<d>\n  <b/>\n</d>"
    result = changed("<a xmlns:p='u'><p:b/><!-- c --></a>", lambda conf: conf.update({"@xmlns:p": "v"}))
    assert etree.fromstring(result)[0].tag == "{v}b"


TAGS = ("disk", "interface", "hub", "source", "filterref", "rule")
texts = st.text("a<&>'\"é\n\t ]", min_size=1, max_size=5)


@st.composite
def elements(draw: st.DrawFn, depth: int = 2) -> etree._Element:
    """An element of libvirt's names, with others beside it that alternate, comments and instructions between them."""
    element = etree.Element(draw(st.sampled_from(TAGS)))
    for name in draw(st.lists(st.sampled_from(["x", "y"]), unique=True)):
        element.set(name, draw(texts))
    children = draw(st.integers(0, 3 if depth else 0))
    for _ in range(children):
        element.append(draw(elements(depth - 1)))
        if draw(st.booleans()):
            element.append(etree.Comment("a") if draw(st.booleans()) else etree.ProcessingInstruction("a", "b"))
    if not children and draw(st.booleans()):
        element.text = draw(texts)
    return element


@st.composite
def documents(draw: st.DrawFn) -> etree._Element:
    root = etree.Element(draw(st.sampled_from(["domain", "network", "filter", "{urn:x}job"])))
    for _ in range(draw(st.integers(1, 5))):
        root.append(draw(elements()))
    if draw(st.booleans()):
        etree.indent(root)
    return root


def find(conf: Any, element: etree._Element, root: etree._Element) -> tuple[Any, str, int | None]:
    """The dict around what an element became, its key, and its index if it is in a list."""
    parent = element.getparent()
    assert parent is not None
    around = conf if parent is root else value_of(*find(conf, parent, root))
    key = str(element.tag)
    index = sum(1 for each in element.itersiblings(key, preceding=True))
    return around, key, index if isinstance(around[key], list) else None


def value_of(around: Any, key: str, index: int | None) -> Any:
    return around[key] if index is None else around[key][index]


@given(documents(), st.data())
@settings(max_examples=80, deadline=None)
def test_one_change_anywhere_changes_nothing_else(root: etree._Element, data: st.DataObject) -> None:
    text = etree.tostring(root, encoding="unicode")
    ((tag, conf),) = from_xml(text).items()
    target = data.draw(st.sampled_from([each for each in root.iterdescendants() if isinstance(each.tag, str)]))
    around, key, index = find(conf, target, root)
    order = around.get("#order")
    position = sum(1 for each in target.itersiblings(preceding=True) if isinstance(each.tag, str))
    kind = data.draw(st.sampled_from(["attribute", "text", "remove", "add"]))
    if kind == "attribute":
        target.set("new", "a\n'b")
        put(around, key, index, with_attribute(value_of(around, key, index), "a\n'b"))
    elif kind == "text":
        assume(not len(target))
        target.text = "new <"
        put(around, key, index, {**{f"@{name}": each for name, each in target.items()}, "#text": "new <"})
    elif kind == "remove":
        parent = target.getparent()
        assert parent is not None
        assume(len(parent.findall("*")) > 1)
        assume(index is None or around[key].count(around[key][index]) == 1)
        parent.remove(target)
        if index is None:
            del around[key]
        else:
            del around[key][index]
        if order:
            del order[position]
    else:
        target.addnext(etree.Element(target.tag, new="1"))
        value, another = value_of(around, key, index), {"@new": "1"}
        if index is None:
            around[key] = [value, another]
        else:
            around[key].insert(index + 1, another)
        if order:
            order.insert(position + 1, key)
    result = patch(text, tag, conf, document_roots())
    assert canonical(etree.fromstring(result)) == canonical(root)
    assert from_xml(result) == from_xml(to_xml(tag, conf))


def with_attribute(value: Any, new: str) -> dict[str, Any]:
    """What an element is with another attribute."""
    return {**({"#text": value} if isinstance(value, str) else {} if value is True else value), "@new": new}


def put(around: Any, key: str, index: int | None, value: Any) -> None:
    if index is None:
        around[key] = value
    else:
        around[key][index] = value


def canonical(element: etree._Element) -> str:
    """All that an element has, comments and instructions included, but for indentation."""
    for each in element.iter():
        if not (each.text or "").strip(" \t\n") and (len(each) or "\n" in (each.text or "")):
            each.text = None
        if not (each.tail or "").strip():
            each.tail = None
    return etree.tostring(element, method="c14n").decode()
