"""libvirt's XML and dicts, both ways. Pure functions; nothing is fetched, no entity is expanded.

The form of an element: a string for text alone, True for an empty element, otherwise a dict in which ``@name`` is
an attribute, ``#text`` the text beside attributes or before children, and a list stands for an element that repeats, or
that could repeat there: what that is, libvirt's own schemas say (`kvm.lists_generated`).

Names have the prefixes that they are written with, ``qemu:arg``, and ``@xmlns:qemu`` is where the prefix is declared.
Where text goes on between or behind children, in the metadata of other programs, all of it is in ``#content``, a list
of text and of one-key dicts in their order: ``<p>one <b>two</b> three</p>`` is ``{'#content': ['one ', {'b': 'two'},
' three']}``. White space is kept in text, and is none if it is all there is between tags, over more than one line.

lxml takes longer to load than all the rest of this package, so it is loaded by the functions that need it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from kvm.errors import InvalidArgumentError, UnreadableOutputError
from kvm.xmlwriter import write

if TYPE_CHECKING:
    from lxml import etree

Value: TypeAlias = "bool | str | dict[str, Value] | list[Value]"
"""What an element becomes."""

Conf: TypeAlias = dict[str, Any]
"""A document without its root's name: what ``conf`` methods give and ``define`` methods take."""

Document: TypeAlias = "Mapping[str, Any] | str | bytes | os.PathLike[str] | etree._Element"
"""What a method takes where virsh wants a file with XML: a dict, XML as text, an lxml element, or the path of a file
on the hypervisor. A str is XML if it begins with ``<``, otherwise a path."""

Editor: TypeAlias = "Callable[[Conf], Document | None]"
"""What an ``edit`` method takes: it changes the configuration that it is given, or returns another one."""

Node: TypeAlias = Any
"""One node of a document: a dict, a list, or text."""

_INDENTATION = re.compile(r"(?:[ \t]*\n[ \t\n]*)?").fullmatch
_BLANKS = " \t\r\n"
_XML_ITSELF = "http://www.w3.org/XML/1998/namespace"
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
    if (isinstance(text, bytes) or "<!DOCTYPE" in text) and root.getroottree().docinfo.doctype:
        raise InvalidArgumentError("the XML has a document type (DTD), which libvirt has no use for: leave it out")
    return root


def _encoded(text: str | bytes) -> bytes:
    """Text as UTF-8, without a declaration that may say otherwise; bytes as they are."""
    return re.sub(r"\A\s*<\?xml\s[^>]*>", "", text).encode() if isinstance(text, str) else text


def _xml_to_dict(elt: etree._Element) -> dict[str, Any]:
    """Transform an XML element to a dictionary of its tag: ``<a b='1'/>`` -> ``{'a': {'@b': '1'}}``.

    The plain conversion: an element is a list only where it does repeat.
    """
    return _tagged(elt, _UNKNOWN, _ANY)


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


_Names: TypeAlias = "Mapping[str | None, str]"
"""The namespaces that are declared around an element, by their prefixes."""

_ANY: _Names = {}
"""None are, as around a root."""


def _tagged(element: etree._Element, place: _Place, names: _Names | None) -> dict[str, Any]:
    """A dictionary of an element's tag; `names` is None if there are no namespaces in it."""
    try:
        return {_name(element): _value(element, place, names)}
    except RecursionError:
        raise InvalidArgumentError(f"the elements in <{_name(element)}> are nested too deeply") from None


def _value(element: etree._Element, place: _Place, names: _Names | None) -> Value:
    """What `element` becomes. Configurations are read by the hundred, so this does without a call for each leaf."""
    lists, below = place
    value: dict[str, Value] = {}
    if names is None:
        for attribute, text in element.items():
            value[f"@{attribute}"] = text
    else:
        value, names = _attributes(element, names)
    if not len(element):
        return _leaf(value, element.text)
    own = element.text or ""
    blank: str | None = None
    has_children = is_mixed = False
    for node in element:
        tag = node.tag
        if tag.__class__ is not str:  # a comment or a processing instruction
            own += "" if has_children else node.tail or ""
        else:
            has_children = True
            content: Value
            if names is not None or len(node):
                content = _value(node, below.get(tag, _UNKNOWN), names)
            else:
                inner = node.text
                if not inner or (inner[0] <= " " and _INDENTATION(inner)):
                    inner = None
                if attributes := node.items():
                    content = {}
                    for attribute, text in attributes:
                        content[f"@{attribute}"] = text
                    if inner is not None:
                        content["#text"] = inner
                else:
                    content = True if inner is None else inner
            name = tag if names is None else _name(node)
            if name not in value:
                value[name] = [content] if tag in lists else content
            elif isinstance(found := value[name], list):
                found.append(content)
            else:
                value[name] = [found, content]
        if (tail := node.tail) != blank and has_children:  # siblings are likely to have the same indentation
            blank = tail
            is_mixed = is_mixed or bool(tail and tail.strip(_BLANKS))
    if is_mixed:
        kept: dict[str, Value] = {name: each for name, each in value.items() if name[0] == "@"}
        return {**kept, "#content": _content_of(element, place, names)}
    if not has_children:
        return _leaf(value, own)
    if own.strip(_BLANKS):
        value["#text"] = own
    return value


def _leaf(value: dict[str, Value], text: str | None) -> Value:
    """What an element without children becomes, of whose attributes `value` is made."""
    is_empty = not text or _INDENTATION(text)
    if not value:
        return True if is_empty else cast(str, text)
    if not is_empty:
        value["#text"] = cast(str, text)
    return value


def _content_of(element: etree._Element, place: _Place, names: _Names | None) -> list[Value]:
    """Text and children in the order that they have."""
    _, below = place
    content: list[Value] = []
    text = element.text or ""
    for node in element:
        if isinstance(node.tag, str):
            content += [text] if text else []
            content.append({_name(node): _value(node, below.get(node.tag, _UNKNOWN), names)})
            text = ""
        text += node.tail or ""
    return [*content, text] if text else content


def _attributes(element: etree._Element, names: _Names) -> tuple[dict[str, Value], _Names]:
    """The namespaces that `element` declares and its attributes, and the namespaces that are declared in it."""
    inner: _Names = element.nsmap
    value: dict[str, Value] = {
        f"@xmlns:{prefix}" if prefix else "@xmlns": uri for prefix, uri in inner.items() if names.get(prefix) != uri
    }
    if None in names and None not in inner:
        value["@xmlns"] = ""
    prefixes = {uri: prefix for prefix, uri in inner.items() if prefix} | {_XML_ITSELF: "xml"}
    for attribute, text in element.items():
        uri, brace, local = attribute[1:].partition("}")
        value[f"@{prefixes[uri]}:{local}" if brace else f"@{attribute}"] = text
    return value, inner


def _name(element: etree._Element) -> str:
    """The name of an element as it was written, with its prefix."""
    tag = str(element.tag)
    local = tag.rpartition("}")[2]
    return f"{element.prefix}:{local}" if element.prefix else local


def _names_in(document: str | bytes | etree._Element) -> _Names | None:
    """The namespaces around a document; None if there can be none in it, which is seen quickly in most."""
    return None if isinstance(document, str) and "xmlns" not in document and "xml:" not in document else _ANY


def from_xml(document: str | bytes | etree._Element) -> dict[str, Any]:
    """A document as a dictionary of its root's tag: ``{'domain': {...}}``.

    What libvirt's schema allows to repeat at its place is a list, also where there is one. `document` is XML as text
    or bytes, or an lxml element. `InvalidArgumentError` if it is not well-formed, or has a DTD.
    """
    from lxml import etree

    element = document if isinstance(document, etree._Element) else parse(document)
    return _tagged(element, _roots().get(str(element.tag), _UNKNOWN), _names_in(document))


def to_xml(tag: str, conf: Mapping[str, Any] | str | bool) -> str:
    """The XML of an element `tag` with the content `conf`, in the order given.

    Beside what `from_xml` gives (its whole document as well, if `tag` is the root of one of libvirt's), numbers are
    written as such, True as an attribute is ``yes`` and as an element is empty, False as an attribute is ``no``, and
    what is None, and an element that is False, is left out. An element that is a `Quantity` gets its unit:
    ``<memory unit='b'>``. The prefixes of libvirt's own namespaces, as ``qemu:``, need not be declared.

    `InvalidArgumentError` for what XML cannot hold.
    """
    if isinstance(conf, Mapping) and len(conf) == 1 and isinstance(conf.get(tag), Mapping) and tag in _roots():
        conf = conf[tag]
    return write(tag, conf)


def document(tag: str, given: Document) -> bytes | str:
    """What to hand to virsh for `given`: XML as bytes, known to be well-formed, or a path as text."""
    from lxml import etree

    if isinstance(given, Mapping):
        return to_xml(tag, given).encode()
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
        from lxml import etree

        return b"".join(etree.tostring(parse(content(tag, each))) for each in given)
    return document(tag, cast(Document, given))


def content(tag: str, given: Document) -> bytes:
    """The XML of a document that is at hand, and no path."""
    found = document(tag, given)
    if isinstance(found, str):
        raise InvalidArgumentError(f"expected a <{tag}> as a dict, XML or an element, and not the path {found!r}")
    return found


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
    value = _value(element, _roots().get(str(element.tag), _UNKNOWN), _names_in(text))
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
    parent = found.getparent()
    needs_names = parent is None or any(each.prefix for each in found.iter())
    return _tagged(found, _place_of(found), _ANY if needs_names else parent.nsmap)


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
