"""libvirt's XML and dicts, both ways. Pure functions; nothing is fetched, no entity is expanded.

The form of an element: a string for text alone, True for an empty element, otherwise a dict in which ``@name`` is
an attribute, ``#text`` the text beside attributes or before children, and a list stands for an element that repeats, or
that could repeat there: what that is, libvirt's own schemas say (`kvm.lists_generated`).

Names have the prefixes that they are written with, ``qemu:arg``, and ``@xmlns:qemu`` is where the prefix is declared.
Where text goes on between or behind children, in the metadata of other programs, all of it is in ``#content``, a list
of text and of one-key dicts in their order: ``<p>one <b>two</b> three</p>`` is ``{'#content': ['one ', {'b': 'two'},
' three']}``. White space is kept in text. If it is all there is between two tags, and has a newline, it is indentation
and left out, unless ``xml:space='preserve'`` says otherwise.

The keys of a dict are in the order of the elements, and elements of the same name are together in their list. libvirt
reads elements by their names, so no other order matters to it, except in two of its elements: ``<filter>``, a network
filter with its rules and references, and ``<interconnects>`` of NUMA nodes. In these, ``#order`` is a list of the
children's names in the order of the document: ``['rule', 'filterref', 'rule']`` is the first rule, the reference, the
second rule. Elements of other programs have ``#order`` where children of different names alternate. To add or remove
one of several elements that alternate with others, add or remove its name in ``#order`` as well: `to_xml` refuses a
dict whose ``#order`` is ambiguous. Without ``#order``, elements are written as the dict has them.

Comments, processing instructions, and the difference between text and CDATA are left out. Document types (DTDs) and
elements nested more than 256 deep, which libvirt does not read, either, are refused.

lxml takes longer to load than all the rest of this package, so it is loaded by the functions that need it; what reads
and writes documents is, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from kvm.errors import InvalidArgumentError, UnreadableOutputError
from kvm.xmlplaces import FOREIGN, PLAIN, Place, document_roots

if TYPE_CHECKING:
    from lxml import etree

Value: TypeAlias = "bool | str | dict[str, Value] | list[Value]"
"""What an element becomes."""

Conf: TypeAlias = dict[str, Any]
"""A document without its root's name: what ``conf`` methods give and ``define`` methods take."""

Document: TypeAlias = "Mapping[str, Any] | str | bytes | os.PathLike[str] | etree._Element"
"""What a method takes where virsh wants a file with XML: a dict, XML as text, an lxml element, or the path of a file
on the hypervisor. A str is XML if it begins with ``<``, otherwise a path. A dict with a name that libvirt does not
know, and would ignore, is refused."""


class TextEditor(NamedTuple):
    """For an ``edit`` method: a function that edits libvirt's own text, which has everything that a dict leaves out."""

    edit: Callable[[str], str]
    """It takes the XML, and returns the changed XML."""


Editor: TypeAlias = "Callable[[Conf], Document | None] | TextEditor"
"""For an ``edit`` method: a function that changes the configuration that it gets and returns None, or returns a new
one. Text that is not XML is refused, because a path would not be read."""

Node: TypeAlias = Any
"""One node of a document: a dict, a list, or text."""

_XML = re.compile(r"\s*<|\ufeff")
_WRITTEN = re.compile(
    r"""<!\[CDATA\[.*?\]\]>|<!--.*?-->|<\?.*?\?>  # what has no references
    |='[^'\n\t<>]*[\n\t][^'<>]*'                # an attribute of more than one line, or the like in text
    |\r""",
    re.DOTALL | re.VERBOSE,
)
"""White space in libvirt's text that a parser would change; CDATA, comments and the like match first, to be skipped."""


@cache
def _parser(encoding: str | None, *, keep: bool) -> etree.XMLParser[etree._Element]:
    """A parser, which may `keep` comments and processing instructions. It is costly to make; threads may share it."""
    from lxml import etree

    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=not keep,
        remove_pis=not keep,
    )


os.register_at_fork(after_in_child=_parser.cache_clear)  # another thread of the parent may hold a parser's lock


def parse(text: str | bytes) -> etree._Element:
    """The root element of a document, without comments. `InvalidArgumentError` if not well-formed, or with a DTD."""
    return _parsed(text, keep=False)


def _parsed(text: str | bytes, *, keep: bool) -> etree._Element:
    from lxml import etree

    try:
        parser = _parser("utf-8" if isinstance(text, str) else None, keep=keep)
        root = etree.fromstring(_encoded(text).lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        from_xml(text)  # raises with a better message
        raise InvalidArgumentError(f"the XML is not well-formed: {getattr(error, 'msg', error)}") from error
    if (isinstance(text, bytes) or "<!DOCTYPE" in text) and root.getroottree().docinfo.doctype:
        from_xml(text)
    return root


def _encoded(text: str | bytes) -> bytes:
    """Text as UTF-8, without a declaration that may say otherwise; bytes as they are, but for blanks before one."""
    return re.sub(r"\A[\s\ufeff]*<\?xml\s[^>]*>", "", text).encode() if isinstance(text, str) else text.lstrip()


def _xml_to_dict(elt: etree._Element) -> dict[str, Any]:
    """Transform an XML element to a dictionary of its tag: ``<a b='1'/>`` -> ``{'a': {'@b': '1'}}``.

    The plain conversion: an element is a list only where it does repeat.
    """
    from kvm.xmlreader import read

    return read(_text_of(elt), PLAIN)


def from_xml(document: str | bytes | etree._Element) -> dict[str, Any]:
    """A document as a dictionary of its root's tag: ``{'domain': {...}}``.

    What libvirt's schema allows to repeat at its place is a list, also where there is one. ``#order`` names the
    children of ``<filter>``, of ``<interconnects>`` and, where children of different names alternate, of elements that
    are not libvirt's, in the order of the document. Comments and processing instructions are left out.

    `document` is XML as text or bytes, or an lxml element. `InvalidArgumentError` if it is not well-formed, has a DTD,
    or is nested more than 256 elements deep.
    """
    from kvm.xmlreader import read

    return read(document if isinstance(document, (str, bytes)) else _text_of(document), document_roots())


def _text_of(element: etree._Element) -> bytes:
    """The XML of an element, without the namespaces that are declared around it and not used in it."""
    from lxml import etree

    if not isinstance(element, etree._Element):
        raise InvalidArgumentError(f"XML to read is text, bytes or an lxml element, not {element!r}")
    if (parent := element.getparent()) is not None:
        import copy

        element, around = copy.deepcopy(element), parent.nsmap
        own = {prefix for each in element.iter() for prefix, uri in each.nsmap.items() if around.get(prefix) != uri}
        etree.cleanup_namespaces(element, keep_ns_prefixes=filter(None, own))
    return etree.tostring(element, encoding="utf-8", with_tail=False)


def to_xml(tag: str, conf: Mapping[str, Any] | str | bool, *, validate: bool = False) -> str:
    """The XML of an element `tag` with the content `conf`, in the order given.

    Beside what `from_xml` gives (its whole document as well, if `tag` is the root of one of libvirt's), numbers are
    written as such, True as an attribute is ``yes`` and as an element is empty, False as an attribute is ``no``, and
    what is None, and an element that is False, is left out. A `Quantity`, or a text with a unit as ``'128 MiB'``, is
    written in the unit that libvirt has at its place: ``<memory unit='b'>134217728</memory>``,
    ``<model vram='131072'/>``. The prefixes of libvirt's own namespaces, as ``qemu:``, need not be declared.

    With `validate` it is held against libvirt's own schema, where that is installed on this machine (otherwise
    `NotSupportedError` says which package has it). The hypervisor does so with ``validate=True`` of `define`.

    `InvalidArgumentError`, with the element and the reason, for what XML cannot hold, for a `Quantity` where libvirt
    has no unit, with another dimension or not a whole number of the unit, and for what the schema does not allow.
    """
    if isinstance(conf, Mapping) and tag in document_roots().below:
        conf = _without_tag(tag, conf)
    from kvm.xmlwriter import write

    text = f"{write(tag, conf)}\n"
    if validate:
        from kvm import schema

        schema.check(parse(text))
    return text


def _without_tag(tag: str, conf: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a dict that may be wrapped in its tag, as `from_xml` returns it."""
    whole = conf.get(tag) if len(conf) == 1 else None
    return whole if isinstance(whole, Mapping) else conf


def document(tag: str, given: Document, validate: bool | None = None) -> bytes | str:
    """Return what to pass to virsh for `given`: well-formed XML as bytes, or a path as text.

    If `validate` is None, a name in a dict that libvirt does not know is an `InvalidArgumentError`. With True the
    hypervisor checks the names.
    """
    return _document((tag,), given, validate)


def part(path: Sequence[str], given: Document) -> bytes | str:
    """Return what to pass to virsh for an element of a document; `path` has the names from the root to it."""
    return _document(path, given, None)


def _document(path: Sequence[str], given: Document, validate: bool | None) -> bytes | str:
    from lxml import etree

    tag = path[-1]
    if isinstance(given, Mapping):
        text = to_xml(tag, _without_tag(tag, given))
        if validate is None:
            from kvm import xmlnames

            xmlnames.check(path, _without_tag(tag, given))
        return text.encode()
    if isinstance(given, etree._Element):
        return etree.tostring(given, with_tail=False)
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    if isinstance(given, str) and not _XML.match(given):
        return given
    if not isinstance(given, str | bytes):
        raise InvalidArgumentError(f"a <{tag}> is a dict, XML as text, an lxml element or a path, not {given!r}")
    root, data = parse(given), _encoded(given)
    return etree.tostring(root) if b"\0" in data else data  # UTF-16, which libvirt does not read


def documents(tag: str, given: Document | Sequence[Document]) -> bytes | str:
    """What to hand to virsh for one or several documents."""
    if isinstance(given, list | tuple):
        from lxml import etree

        found = [document(tag, each, validate=False) for each in given]
        if paths := [each for each in found if isinstance(each, str)]:
            raise InvalidArgumentError(f"several <{tag}> must be dicts, XML or elements, not the path {paths[0]!r}")
        return b"".join(etree.tostring(parse(each)) for each in found)
    return document(tag, cast(Document, given), validate=False)


def revised(printed: str, tag: str, wanted: object, *, validate: bool) -> bytes:
    """Return the XML of a document that virsh `printed`, changed to what the function of an edit `wanted`.

    A dict has less than the XML, so only what differs in it is written. With `validate`, a new name that libvirt does
    not know is an `InvalidArgumentError`.
    """
    if isinstance(wanted, Mapping):
        from kvm import xmlnames
        from kvm.xmlpatch import patch

        text = patch(_printed(printed), tag, _without_tag(tag, wanted), document_roots())
        if validate:
            xmlnames.check((tag,), _without_tag(tag, wanted), conf(printed))
        return text.encode()
    from lxml import etree

    is_xml = isinstance(wanted, bytes | etree._Element) or (isinstance(wanted, str) and _XML.match(wanted))
    if not is_xml:
        raise InvalidArgumentError(
            f"the function of an edit must change the <{tag}> that it gets and return None, or return a new one as a "
            f"dict, XML or an lxml element; it returned {wanted!r}"
        )
    return cast(bytes, document(tag, cast(Document, wanted)))


def on_one_line(element: Mapping[str, Any] | str | bytes | etree._Element) -> str:
    """The XML of one element of another program, without control characters, which virsh's prompt could not take."""
    from lxml import etree

    given = element
    if isinstance(given, Mapping):
        if len(given) != 1:
            raise InvalidArgumentError(f"metadata must be a dict with one tag, not {', '.join(given) or 'none'}")
        ((tag, content),) = given.items()
        given = to_xml(tag, content)
    if isinstance(given, etree._Element):
        given = etree.tostring(given, with_tail=False)
    text = etree.tostring(_parsed(given, keep=True), encoding="unicode")
    return re.sub(r"<!--.*?-->|<\?.*?\?>|[\x00-\x1f\x7f]", _without_control_characters, text, flags=re.DOTALL)


def _without_control_characters(found: re.Match[str]) -> str:
    written = found[0]
    return f"&#{ord(written)};" if len(written) == 1 else re.sub(r"[\x00-\x1f\x7f]", " ", written)


def revised_element(printed: str, wanted: Mapping[str, Any]) -> str:
    """Return the XML of an element of another program that virsh `printed`, changed to a dict of its tag."""
    from kvm.xmlpatch import patch

    ((tag, content),) = wanted.items()
    return patch(_printed(printed), tag, content, FOREIGN)


# -- readers of virsh's output ------------------------------------------------------------------------------------


def root(text: str) -> etree._Element:
    """The root element of a document that virsh printed."""
    try:
        return parse(_printed(text))
    except InvalidArgumentError as error:
        raise UnreadableOutputError(f"virsh printed no XML: {error}") from error


def conf(text: str) -> Conf:
    """The content of the document that virsh printed, without its root's tag."""
    (value,) = _read_printed(text, document_roots()).values()
    return value if isinstance(value, dict) else {}


def element(text: str) -> dict[str, Any]:
    """Return an element of another program that virsh printed, as a dict of its tag."""
    return _read_printed(text, FOREIGN)


def _read_printed(text: str, top: Place) -> dict[str, Any]:
    from kvm.xmlreader import read

    try:
        return read(_printed(text), top)
    except InvalidArgumentError as error:
        raise UnreadableOutputError(f"virsh printed no XML: {error}") from error


def printed_text(text: str) -> str:
    """Return what virsh printed, with white space escaped that a parser would change."""
    return f"{_printed(text)}\n"


def _printed(text: str) -> str:
    """What virsh printed, as XML: libvirt writes all white space as it is, of which a parser would make another.

    Of a carriage return that is a newline, of a newline or tab in an attribute a blank.
    """
    text = text.rstrip("\n")
    lines_end_with_tags = text.count("\n") == text.count(">\n")
    is_plain = lines_end_with_tags and "\t" not in text and "\r" not in text
    return text if is_plain else _WRITTEN.sub(_referred, text)


def _referred(found: re.Match[str]) -> str:
    written = found[0]
    if written.startswith("<![CDATA["):  # in which references are text
        return written.replace("\r", "]]>&#13;<![CDATA[")
    if written.startswith("<"):
        return written
    return written.replace("\n", "&#10;").replace("\t", "&#9;").replace("\r", "&#13;")


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
    if isinstance(found, bool | float | tuple):
        return found
    from kvm.xmlreader import read

    return read(_text_of(found), Place(frozenset(), {str(found.tag): _place_of(found)}, add=document_roots().add))


def _place_of(element: etree._Element) -> Place:
    """The place that an element has in its document."""
    parent = element.getparent()
    place = document_roots() if parent is None else _place_of(parent)
    return place.child(str(element.tag))


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


# -- devices: parts of a domain's document --------------------------------------------------------------------------


def device(given: Document) -> bytes | str:
    """What to hand to virsh for a device; as a dict it has its tag: ``{'disk': {...}}``, as `from_xml` gives."""
    if not isinstance(given, Mapping):
        return document("device", given)
    tag, content = next(iter(given.items()), ("", None))
    if len(given) != 1 or not (isinstance(content, Mapping) or content is True):
        raise InvalidArgumentError(f"a device as a dict has its tag: {{'disk': {{...}}}}, which has not {given!r}")
    return part(("domain", "devices", tag), content if isinstance(content, Mapping) else {})


def printed_device(text: str) -> Conf:
    """The device that virsh printed, as a dict of its tag."""
    devices = document_roots().below["domain"].below["devices"]
    return _read_printed(text, Place(frozenset(), devices.below, add=document_roots().add))


def attribute(element: etree._Element, child: str, *names: str) -> str | None:
    """The first attribute of these names that one of the children named `child` has; None if there is none."""
    found = (value for each in element.iterfind(child) for name, value in each.items() if name in names and value)
    return next(found, None)
