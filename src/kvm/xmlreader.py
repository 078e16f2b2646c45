"""XML as dicts. Pure functions; the form of the dicts is that of `kvm.xml`.

Text that is plain is for `kvm.xmlplain`. For all else, and for bytes, expat calls `start` and `end` for each element,
so a document becomes a dict without a tree in between: as fast as by way of lxml's tree, in a third of the memory.
Most documents have neither namespaces nor text between children; the few that have are read with two more steps for
names, or once more for the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

from kvm import xmlplain
from kvm.errors import InvalidArgumentError
from kvm.xmlplaces import FOREIGN, UNKNOWN, Place, add
from kvm.xmlplain import BLANKS, MOST_NESTED, Memory

_SEPARATOR = "\x01"
"""Between the parts of a name in expat's calls; no document can hold it."""

_keys = Memory("@{}".format)
"""The keys of attributes by their names, which all that is read shares; the usual ones, in little memory."""

_MANY = 1000
"""How many indentations there may be before they are looked at."""


def read(document: str | bytes, top: Place) -> dict[str, Any]:
    """Read a document as a dict of its root's tag; `top` is the place of roots.

    `InvalidArgumentError` if it is not well-formed, has a document type, or is nested too deeply.
    """
    encoding = "utf-8" if isinstance(document, str) else None
    if encoding and "\0" in document:  # of which expat would guess another encoding
        raise InvalidArgumentError("the XML is not well-formed: it has a NUL character")
    try:
        if isinstance(document, str):
            with suppress(xmlplain.NotPlainError):
                return xmlplain.read(document, top)
        data = (document.encode() if isinstance(document, str) else document).lstrip()
        has_space = b"xml:space" in data or b"\0" in data  # in UTF-16, anything may be
        found = None if has_space else _read(data, top, encoding)
        return _read(data, top, encoding, in_order=True) or {} if found is None else found
    except InvalidArgumentError:
        raise
    except (ExpatError, ValueError, LookupError) as error:
        raise InvalidArgumentError(f"the XML is not well-formed: {error}") from error


def _read(data: bytes, place: Place, encoding: str | None, *, in_order: bool = False) -> dict[str, Any] | None:
    """The dictionary of a document; None if there is text beside children, and they are not taken `in_order`."""
    value: dict[str, Any] = {}  # of the innermost element that is known to have children
    leaf: dict[str, Any] | None = None  # what has begun behind it, and may turn out to have children as well
    leaf_name = ""  # by which its place is known
    is_mixed = False
    texts: list[str] = []  # a leaf takes its own; what is left is beside children
    first = 0  # where the texts of this leaf begin
    outer: list[Any] = []
    push, pop = outer.append, outer.pop

    def start(name: str, attributes: list[str]) -> None:
        nonlocal value, place, leaf, leaf_name, first
        if leaf is not None:
            push(value)
            push(place)
            value = leaf
            place = place.below.get(leaf_name, place.others)
            if place is UNKNOWN and ":" in leaf_name:
                place = FOREIGN
            if len(outer) >= 2 * MOST_NESTED:
                raise InvalidArgumentError(f"the XML is nested more than {MOST_NESTED} elements deep")
        leaf = {}
        leaf_name = name
        if attributes:
            parts = iter(attributes)
            for attribute in parts:
                leaf[_keys[attribute]] = next(parts)
        first = len(texts)
        if first > _MANY:
            look_beside_children()
            first = 0

    def end(name: str) -> None:
        nonlocal value, place, leaf
        content: Any
        if leaf is None:
            content = value
            place = pop()
            value = pop()
        else:
            content = leaf
            leaf = None
            if len(texts) > first:
                text = texts.pop()
                if len(texts) > first:
                    text = "".join([*texts[first:], text])
                    del texts[first:]
                if text[0] <= " " and "\n" in text and not text.strip(BLANKS) and not keeps_blanks:
                    content = content or True
                elif content:
                    content["#text"] = text
                else:
                    content = text
            elif not content:
                content = True
        if name not in value and place.add is add:  # a call of `add` for each takes 5 % longer
            value[name] = [content] if name in place.lists else content
        else:
            place.add(content, name, value, place)

    def look_beside_children() -> None:
        nonlocal is_mixed
        is_mixed = is_mixed or bool("".join(texts).strip(BLANKS))
        texts.clear()

    pieces: list[str | dict[str, Any]] = []
    outer_pieces: list[list[str | dict[str, Any]]] = []

    def start_in_order(name: str, attributes: list[str]) -> None:
        nonlocal pieces
        pieces += texts
        outer_pieces.append(pieces)
        texts.clear()
        start(name, attributes)
        pieces = []

    def end_in_order(name: str) -> None:
        nonlocal pieces
        if leaf is None:
            pieces += texts
            texts.clear()
        end(name)
        own, pieces = pieces, outer_pieces.pop()
        content = value[name][-1] if isinstance(value[name], list) else value[name]
        if own:
            _take_texts(content, own, keeps_blanks)
        pieces.append({name: content})

    declared: list[str] = []
    keeps_blanks = False  # set by xml:space
    outer_keeps: list[bool] = []

    def declare(prefix: str | None, uri: str | None) -> None:
        declared.extend((f"xmlns:{prefix}" if prefix else "xmlns", uri or ""))

    def start_named(name: str, attributes: list[str]) -> None:
        nonlocal leaf_name, keeps_blanks
        attributes[::2] = map(_qualified, attributes[::2])
        outer_keeps.append(keeps_blanks)
        if in_order and "xml:space" in attributes[::2]:
            keeps_blanks = attributes[2 * attributes[::2].index("xml:space") + 1] == "preserve"
        start_any(_qualified(name), declared + attributes)
        leaf_name = _expanded(name)
        declared.clear()

    def end_named(name: str) -> None:
        nonlocal keeps_blanks
        key = _qualified(name)
        end_any(key)
        keeps_blanks = outer_keeps.pop()
        if _expanded(name) in place.lists and not isinstance(value[key], list):
            value[key] = [value[key]]

    parser = ParserCreate(encoding, _SEPARATOR)
    parser.buffer_text = parser.ordered_attributes = parser.namespace_prefixes = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartNamespaceDeclHandler = declare
    parser.CharacterDataHandler = texts.append
    start_any, end_any = (start_in_order, end_in_order) if in_order else (start, end)
    has_names = b"xmlns" in data or b"xml:" in data or b"\0" in data
    parser.StartElementHandler = start_named if has_names else start_any
    parser.EndElementHandler = end_named if has_names else end_any
    parser.Parse(data, True)
    look_beside_children()
    return None if is_mixed and not in_order else value


def _take_texts(content: dict[str, Any], pieces: Sequence[str | dict[str, Any]], keeps_blanks: bool) -> None:
    """Give an element's `content`, its attributes and children, the texts among `pieces`, in which these are in order.

    If there is text after the first child, all pieces are kept in order. Blanks are not text unless `keeps_blanks`.
    """
    joined: list[Any] = []
    for kind, run in groupby(pieces, type):
        found: list[Any] = list(run)
        joined += ["".join(found)] if kind is str else found
    significant = [isinstance(piece, str) and (keeps_blanks or bool(piece.strip(BLANKS))) for piece in joined]
    if any(significant[1:]):
        for child in [key for key in content if key[0] != "@"]:
            del content[child]
        content["#content"] = joined
    elif significant[0]:
        content["#text"] = joined[0]


def _qualified(name: str) -> str:
    """A name as it was written, with its prefix."""
    _, *local = name.split(_SEPARATOR)
    return ":".join(reversed(local)) or name


def _expanded(name: str) -> str:
    """A name with its namespace: ``{uri}local``."""
    uri, *local = name.split(_SEPARATOR)
    return f"{{{uri}}}{local[0]}" if local else name


def _refuse(*_: object) -> None:
    raise InvalidArgumentError("the XML has a document type (DTD), which is refused: libvirt needs none; remove it")
