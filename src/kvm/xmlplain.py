"""Plain documents as dicts, several times as fast as by a parser. Pure functions; the dicts' form is that of `kvm.xml`.

Guests differ in few of their lines, and a guest of now from itself a minute ago in fewer. So a document is cut before
each tag, and what a piece says, a tag with the text behind it, is found out once and remembered; what is left to do is
to put the pieces together, and to see that they belong together.

Plain is what libvirt writes as a rule: tags, attributes in quotes, text that is alone in its element, names in ASCII,
and prefixes that other programs declare for elements of theirs. What has more, or is wrong, is `NotPlainError`: nothing
is guessed here, and no error explained; `kvm.xmlreader` has expat for both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from kvm.xmlplaces import FOREIGN, UNKNOWN, Place, add

T = TypeVar("T")

MOST_NESTED = 256
"""The deepest nesting of elements: the limit of libxml2, and so of libvirt."""

BLANKS = " \t\n"
"""White space that can be for the eye alone; a carriage return that is left in text was written as a reference."""

_CHARACTERS = bytes({*b"\t\n", *range(0x20, 0x100)})
"""The bytes of UTF-8 that may be in a plain document; of a carriage return a parser makes a newline."""

_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*+"
_QNAME = re.compile(rf"(?:(?!xml)({_NAME}):)?({_NAME})")
_KEY = re.compile(rf" +((?!xmlns=)(?:{_NAME}:)?{_NAME})=")
"""What is before the value of an attribute; a namespace without a prefix would change the names of elements."""

_OWN = ("http://libvirt.org/", "http://www.w3.org/")
"""Namespaces in which names mean something to libvirt, or to XML itself."""

_MANY = 5000
"""How many pieces are remembered, which takes some 3 MB; as many keys and prefixes."""

_DEEPEST = 3 * MOST_NESTED
"""The stack size for elements nested one deeper than `MOST_NESTED`."""

_LONG = 300
"""So many characters of a piece are not worth remembering."""


class NotPlainError(Exception):
    """The document has more than tags, attributes and text, or is not well-formed."""


_Piece: TypeAlias = "tuple[str, bool, bool, str, dict[str, str], str]"
"""A tag and the text behind it: the prefix of its name, whether it ends an element, whether it is one that is empty
(``<a/>``), its name with the prefix, its attributes, and the text that its element begins with, unless that is for the
eye alone."""


class Memory(dict[str, T]):
    """What `find_out` says of texts, remembered: of so many, and of none that is long or names a password."""

    def __init__(self, find_out: Callable[[str], T]) -> None:
        self._find_out = find_out

    def __missing__(self, written: str) -> T:
        found = self._find_out(written)
        if len(written) < _LONG and "passw" not in written:
            if len(self) >= _MANY:
                self.clear()
            self[written] = found
        return found


def read(document: str, top: Place) -> dict[str, Any]:
    """Read a document as a dict of its root's tag; `top` is the place of roots. `NotPlainError` if it is not plain."""
    try:
        others = document.encode().translate(None, _CHARACTERS)
    except UnicodeEncodeError as error:
        raise NotPlainError("half characters") from error
    if others or "\ufffe" in document or "\uffff" in document:
        raise NotPlainError("other characters")
    before, *written = document.split("<")
    if before.strip(BLANKS):
        raise NotPlainError(before)
    pieces = [_pieces[each] for each in written]
    try:
        _check_prefixes(piece for piece in pieces if piece[0])
        return _together(pieces, top)
    except IndexError:
        raise NotPlainError("more ends than beginnings") from None


def _together(pieces: Iterable[_Piece], place: Place) -> dict[str, Any]:
    """The dictionary of a document."""
    value: dict[str, Any] = {}  # of the innermost element that is known to have children
    leaf: dict[str, Any] | None = None  # of the element begun last, of which no child has been seen
    leaf_name = leaf_text = ""
    outer: list[Any] = []
    push, pop = outer.append, outer.pop
    content: Any
    for _, is_end, is_empty, name, attributes, text in pieces:
        if is_end:
            if leaf is None:
                content = value
                leaf_name = pop()
                place = pop()
                value = pop()
            elif leaf and leaf_text:
                content = leaf
                leaf["#text"] = leaf_text
            else:
                content = leaf or leaf_text or True
            if name != leaf_name:
                raise NotPlainError(name)
            leaf = None
        else:
            if leaf is not None:
                if leaf_text:
                    raise NotPlainError(leaf_text)
                push(value)
                push(place)
                push(leaf_name)
                value = leaf
                place = place.below.get(leaf_name, place.others)
                if place is UNKNOWN and ":" in leaf_name:
                    place = FOREIGN
                leaf = None
                if len(outer) >= _DEEPEST:
                    raise NotPlainError("too deep")
            if not is_empty:
                leaf = attributes.copy()
                leaf_name = name
                leaf_text = text
                continue
            content = attributes.copy() or True
        if name not in value and place.add is add:  # a call of `add` for each takes 5 % longer
            value[name] = [content] if name in place.lists else content
        else:
            place.add(content, name, value, place)
    if outer or leaf is not None or len(value) != 1 or list in map(type, value.values()):
        raise NotPlainError("no root, or several, or no end of it")
    return value


def _check_prefixes(pieces: Iterable[_Piece]) -> None:
    """Check that the prefixes of these pieces, which are all that have one, are declared where they are used."""
    declared: dict[str, int] = {}  # how many of the elements that are open declare each
    outer: list[list[str]] = []
    for prefix, is_end, is_empty, _, attributes, _ in pieces:
        if is_end:
            for each in outer.pop():
                declared[each] -= 1
            continue
        here = [key[len("@xmlns:") :] for key in attributes if key.startswith("@xmlns:")]
        if not declared.get(prefix) and prefix not in here:
            raise NotPlainError(prefix)
        if not is_empty:
            for each in here:
                declared[each] = declared.get(each, 0) + 1
            outer.append(here)


def _piece(written: str) -> _Piece:
    """What a piece says, without the ``<`` in front."""
    tag, closed, text = written.partition(">")
    if not closed or ">" in text or "&" in written:
        raise NotPlainError(written)
    is_end, is_empty = tag[:1] == "/", tag[-1:] == "/"
    if is_end or is_empty:
        if text.strip(BLANKS):
            raise NotPlainError(written)
        text = ""
    elif "\n" in text and not text.strip(BLANKS):
        text = ""
    if is_end:
        return _prefixes[tag[1:]], True, False, tag[1:], {}, ""
    name, blank, rest = (tag[:-1] if is_empty else tag).partition(" ")
    prefix = _prefixes[name]
    return prefix, False, is_empty, name, _attributes(f" {rest}", prefix) if blank else {}, text


def _prefix(name: str) -> str:
    """The prefix of an element's name."""
    if not (found := _QNAME.fullmatch(name)):
        raise NotPlainError(name)
    return found[1] or ""


def _key(written: str) -> str:
    """The key of an attribute by what is before its value: ``@type`` of `` type=``."""
    if not (found := _KEY.fullmatch(written)):
        raise NotPlainError(written)
    return f"@{found[1]}"


def _attributes(written: str, prefix: str) -> dict[str, str]:
    """The attributes of an element that has this prefix; they may have the same, and declare others."""
    parts = written.split('"' if '"' in written else "'")
    behind = parts.pop()
    found: dict[str, str] = {}
    each = iter(parts)
    for before in each:  # a comprehension of pairs would take twice as long
        found[_keys[before]] = next(each, "")
    if len(found) * 2 != len(parts) or "\n" in written or "\t" in written or behind.strip(" "):
        raise NotPlainError(written)
    if ":" in written and ":" in "".join(found):
        for key, value in found.items():
            first, colon, name = key[1:].partition(":")
            declares = first == "xmlns" and not name.startswith("xml") and value and not value.startswith(_OWN)
            if colon and not (prefix and (first == prefix or declares)):
                raise NotPlainError(written)
    return found


_pieces = Memory(_piece)
_prefixes = Memory(_prefix)
_keys = Memory(_key)
