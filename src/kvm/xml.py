"""libvirt's XML and dicts, both ways. Pure functions; nothing is fetched, no entity is expanded.

The form of an element: a string for text alone, True for an empty element, otherwise a dict in which ``@name`` is
an attribute, ``#text`` the text beside attributes or children, and a list stands for an element that repeats, or that
could repeat there: what that is, libvirt's own schemas say (`kvm.lists_generated`).

lxml takes longer to load than all the rest of this package, so it is loaded by the functions that need it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from kvm.errors import InvalidArgumentError, UnreadableOutputError
from kvm.values import Quantity

if TYPE_CHECKING:
    from lxml import etree

Value: TypeAlias = "bool | str | dict[str, Value] | list[Value]"
"""What an element becomes."""

Conf: TypeAlias = dict[str, Any]
"""A document without its root's name: what ``conf`` methods give and ``define`` methods take."""

Document: TypeAlias = "Mapping[str, Any] | str | bytes | os.PathLike[str] | etree._Element"
"""What a method takes where virsh wants a file with XML: a dict, XML as text, an lxml element, or the path of a file
on the hypervisor. A str is XML if it begins with ``<``, otherwise a path."""

Node: TypeAlias = Any
"""One node of a document: a dict, a list, or text."""

_INDENTATION = re.compile(r"(?:[ \t]*\n[ \t\n]*)?").fullmatch
_XML = re.compile(r"\s*<|\ufeff")


@cache
def _parser(encoding: str | None) -> etree.XMLParser[etree._Element]:
    """The parser of all documents: it is costly to make, and may be used by several threads."""
    from lxml import etree

    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )


def parse(text: str | bytes) -> etree._Element:
    """The root element of a document. `InvalidArgumentError` if it is not well-formed, or has a DTD."""
    from lxml import etree

    try:
        root = etree.fromstring(_encoded(text).strip(), _parser("utf-8" if isinstance(text, str) else None))
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise InvalidArgumentError(f"the XML is not well-formed: {getattr(error, 'msg', error)}") from error
    if root.getroottree().docinfo.doctype:
        raise InvalidArgumentError("the XML has a document type (DTD), which libvirt has no use for: leave it out")
    return root


def _encoded(text: str | bytes) -> bytes:
    """Text as UTF-8, without a declaration that may say otherwise; bytes as they are."""
    return re.sub(r"\A\s*<\?xml\s[^>]*>", "", text).encode() if isinstance(text, str) else text


def _xml_to_dict(elt: etree._Element) -> dict[str, Any]:
    """Transform an XML element to a dictionary of its tag: ``<a b='1'/>`` -> ``{'a': {'@b': '1'}}``.

    The plain conversion: an element is a list only where it does repeat.
    """
    return {str(elt.tag): _value(elt, _UNKNOWN)}


_Place: TypeAlias = "tuple[frozenset[str], dict[str, _Place]]"
"""What is known of an element by its place: the children that may repeat, and the places of its children."""

_UNKNOWN: _Place = (frozenset(), {})


@cache
def _roots() -> dict[str, _Place]:
    """The places of the roots of documents."""
    from kvm.lists_generated import PLACES, ROOTS

    places: list[_Place] = [(lists, {}) for lists, _ in PLACES]
    for (_, below), (_, numbers) in zip(places, PLACES, strict=True):
        below.update({name: places[number] for name, number in numbers.items()})
    return {root: places[number] for root, number in ROOTS.items()}


def _value(element: etree._Element, place: _Place) -> Value:
    """What `element` becomes. Configurations are read by the hundred, so this does without a call for each leaf."""
    lists, below = place
    value: dict[str, Value] = {}
    for name, text in element.items():
        value[f"@{name}"] = text
    if not len(element):
        return _leaf(value, element.text)
    own = element.text or ""
    has_children = False
    for node in element:
        own += node.tail or ""
        tag = node.tag
        if not isinstance(tag, str):  # a comment or a processing instruction
            continue
        has_children = True
        content: Value
        if len(node) or node.attrib:
            content = _value(node, below.get(tag, _UNKNOWN))
        else:
            own_of_leaf = node.text
            content = own_of_leaf if own_of_leaf and not _INDENTATION(own_of_leaf) else True
        if tag not in value:
            value[tag] = [content] if tag in lists else content
        elif isinstance(found := value[tag], list):
            found.append(content)
        else:
            value[tag] = [found, content]
    if not has_children:
        return _leaf(value, own)
    if own and not own.isspace():
        value["#text"] = own.strip()
    return value


def _leaf(value: dict[str, Value], text: str | None) -> Value:
    """What an element without children becomes, of whose attributes `value` is made."""
    if not value:
        return text if text and not _INDENTATION(text) else True
    if text and not text.isspace():
        value["#text"] = text
    return value


def from_xml(document: str | bytes | etree._Element) -> dict[str, Any]:
    """A document as a dictionary of its root's tag: ``{'domain': {...}}``.

    What libvirt's schema allows to repeat at its place is a list, also where there is one. `document` is XML as text
    or bytes, or an lxml element. `InvalidArgumentError` if it is not well-formed.
    """
    from lxml import etree

    element = document if isinstance(document, etree._Element) else parse(document)
    return {str(element.tag): _value(element, _roots().get(str(element.tag), _UNKNOWN))}


def to_xml(tag: str, conf: Mapping[str, Any]) -> str:
    """The XML of an element `tag` with the content `conf`, in the order given.

    Beside what `from_xml` gives, numbers are written as such, True as an attribute is ``yes`` and as an element is
    empty, False as an attribute is ``no``, and what is False or None is left out. An element that is a `Quantity`
    gets its unit: ``<memory unit='b'>``.
    """
    from lxml import etree

    return etree.tostring(_element(tag, conf), encoding="unicode", pretty_print=True)


def _element(tag: str, value: object) -> etree._Element:
    from lxml import etree

    try:
        element = etree.Element(tag)
        _fill(element, value)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"cannot write <{tag}> as XML: {error}") from error
    return element


def _fill(element: etree._Element, value: object) -> None:
    if isinstance(value, Quantity):
        element.set("unit", "b")
    if not isinstance(value, Mapping):
        element.text = None if value is True else _text(value)
        return
    for name, content in value.items():
        if name == "#text":
            element.text = None if content is None else _text(content)
        elif name.startswith("@"):
            if content is not None:
                element.set(name[1:], _text(content))
        else:
            for one in content if isinstance(content, list | tuple) else [content]:
                if one is not None and one is not False:
                    element.append(_element(name, one))


def _text(value: object) -> str:
    """A value as libvirt writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int):
        return str(int(value))
    if not isinstance(value, str | float):
        raise TypeError(f"a value is text, a number or a boolean, not {value!r}")
    return str(value)


def document(tag: str, given: Document) -> bytes | str:
    """What to hand to virsh for `given`: XML as bytes, known to be well-formed, or a path as text."""
    from lxml import etree

    if isinstance(given, Mapping):
        whole = given.get(tag) if len(given) == 1 else None  # what `from_xml` gave
        return to_xml(tag, whole if isinstance(whole, Mapping) else given).encode()
    if isinstance(given, etree._Element):
        return etree.tostring(given, with_tail=False)
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    if isinstance(given, str) and not _XML.match(given):
        return given
    if not isinstance(given, str | bytes):
        raise InvalidArgumentError(f"a <{tag}> is a dict, XML as text, an lxml element or a path, not {given!r}")
    parse(given)
    return _encoded(given)


def documents(tag: str, given: Document | Sequence[Document]) -> bytes | str:
    """What to hand to virsh for one or several documents."""
    if isinstance(given, list | tuple):
        return b"".join(_content(tag, each) for each in given)
    return document(tag, cast(Document, given))


def _content(tag: str, given: Document) -> bytes:
    from lxml import etree

    content = document(tag, given)
    if isinstance(content, str):
        raise InvalidArgumentError(f"several documents are dicts, XML or elements, not the path {content!r}")
    return etree.tostring(parse(content))


# -- readers of virsh's output ------------------------------------------------------------------------------------


def root(text: str) -> etree._Element:
    """The root element of a document that virsh printed."""
    try:
        return parse(text.replace("\r", "&#13;"))  # libvirt writes it as it is, and a parser would make it a newline
    except InvalidArgumentError as error:
        raise UnreadableOutputError(f"virsh printed no XML: {error}") from error


def conf(text: str) -> Conf:
    """The content of the document that virsh printed, without its root's tag."""
    element = root(text)
    value = _value(element, _roots().get(str(element.tag), _UNKNOWN))
    return value if isinstance(value, dict) else {}


def asked(xpath: str | None) -> Callable[[str], Conf | list[Node]]:
    """The reader of a document: its content, or, with an `xpath`, a list of what that finds in it.

    Newer virsh could evaluate it, too (``--xpath``), but what it prints then cannot be told apart.
    """
    if xpath is None:
        return conf
    from lxml import etree

    try:
        etree.XPath(xpath)
    except (etree.XPathError, ValueError, TypeError) as error:
        raise InvalidArgumentError(f"{xpath!r} is no XPath: {error}") from error
    return lambda text: nodes(text, xpath)


def nodes(text: str, xpath: str) -> list[Node]:
    """What an XPath finds in a document: elements as dictionaries of their tags, all else as it is."""
    from lxml import etree

    document = root(text)
    prefixes = {prefix: uri for element in document.iter() for prefix, uri in element.nsmap.items() if prefix}
    try:
        found = document.xpath(xpath, namespaces=prefixes)
    except etree.XPathError as error:
        raise InvalidArgumentError(f"the XPath {xpath!r} cannot be evaluated: {error}") from error
    return [_node(each) for each in found] if isinstance(found, list) else [_node(found)]


def _node(found: Any) -> Node:
    if isinstance(found, str):
        return str(found)
    if isinstance(found, bool | float):
        return found
    return {str(found.tag): _value(found, _place_of(found))}


def _place_of(element: etree._Element) -> _Place:
    """The place that an element has in its document."""
    parent = element.getparent()
    if parent is None:
        return _roots().get(str(element.tag), _UNKNOWN)
    _, below = _place_of(parent)
    return below.get(str(element.tag), _UNKNOWN)


def unwrapped(options: Mapping[str, object]) -> dict[str, object]:
    """`options` without ``--wrap``: what an XPath finds comes as a list anyway."""
    return {name: value for name, value in options.items() if name != "wrap"}


def sysinfo(text: str) -> dict[str, Any]:
    """Sections as dicts of their entries; those that may repeat as lists; entries without a name as a list of text."""
    found = root(text)
    value: dict[str, Any] = {"type": found.get("type")}
    for section in found:
        tag = str(section.tag)
        entries = {entry.get("name"): entry.text or "" for entry in section}
        content = [entry.text or "" for entry in section] if None in entries else entries
        if tag in ("baseBoard", "processor", "memory_device"):
            value.setdefault(tag, []).append(content)
        else:
            value[tag] = content
    return value
