"""RELAX NG: where a document leaves its grammar, and what was expected there.

libxml2 knows whether a document is valid, but not why it is not ("Extra element devices in interleave"). Here an
element is read piece by piece: attributes, text, children. After each piece, what may still come is a pattern again
(the derivative of the one before). The first piece after which nothing may come is wrong.

What libvirt's schemas do without (lists, mixed content, exceptions among names) is not known here.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple, TypeAlias

from lxml import etree

from kvm.cached import cached_property

Element: TypeAlias = "etree._Element"

NAMESPACE = "http://relaxng.org/ns/structure/1.0"
RNG = f"{{{NAMESPACE}}}"


@cache
def parsed(directory: str, file: str) -> Element:
    """The root of a schema file. It may only refer to files beside it, so that nothing is fetched."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    root = etree.parse(os.path.join(directory, file), parser).getroot()
    for each in root.iter(f"{RNG}include", f"{RNG}externalRef"):
        if os.path.basename(each.get("href", "")) != each.get("href"):
            raise OSError(f"{file} refers to {each.get('href')!r}")
    return root


class Grammar:
    """The definitions of a grammar, with all that it includes."""

    def __init__(self, grammar: Element, directory: str) -> None:
        self._directory = directory
        self._definitions: dict[str, list[Element]] = {}
        self._patterns: dict[str, Pattern] = {}
        self._included: set[str] = set()
        self._add(grammar, frozenset())

    def _add(self, grammar: Element, replaced: frozenset[str]) -> None:
        for part in grammar.iterchildren(f"{RNG}*"):
            file = part.get("href", "")
            if part.tag != f"{RNG}include":
                if part.get("name", "") not in replaced:
                    self._definitions.setdefault(part.get("name", ""), []).append(part)
            elif file not in self._included:
                self._included.add(file)
                own = frozenset(each.get("name", "") for each in part.iterchildren(f"{RNG}*"))
                self._add(parsed(self._directory, file), replaced | own)
                self._add(part, replaced)

    def named(self, name: str = "") -> Pattern:
        """The definition of that name, without one the start."""
        if name not in self._patterns:
            found = self._definitions.get(name, [])
            parts = [_all("group", map(self.pattern, each.iterchildren(f"{RNG}*"))) for each in found]
            combined = {each.get("combine") for each in found}
            self._patterns[name] = _all("interleave", parts) if "interleave" in combined else _choice(parts)
        return self._patterns[name]

    def pattern(self, rng: Element) -> Pattern:
        kind = etree.QName(rng).localname
        if kind in ("element", "attribute", "text", "value", "data"):
            return Leaf(kind, rng, self)
        if kind == "ref":
            return self.named(rng.get("name", ""))
        if kind == "grammar":
            return Grammar(rng, self._directory).named()
        parts = map(self.pattern, rng.iterchildren(f"{RNG}*"))
        if kind in ("choice", "notAllowed"):
            return _choice(parts)
        whole = _all("interleave" if kind == "interleave" else "group", parts)
        if kind in ("zeroOrMore", "oneOrMore"):
            whole = _many(whole)
        return _choice([EMPTY, whole]) if kind in ("zeroOrMore", "optional") else whole


class Leaf:
    """An element, an attribute, or what a text can be. A grammar has each of them once."""

    def __init__(self, kind: str, rng: Element, grammar: Grammar) -> None:
        self.kind = kind
        self.rng = rng
        self.value = " ".join((rng.text or "").split())
        self._grammar = grammar

    @cached_property
    def names(self) -> frozenset[str]:
        """What an element or attribute may be called; empty if it may have any name."""
        given = self.rng.xpath("@name | self::*[not(@name)]/*[1]/descendant-or-self::*/text()[normalize-space()]")
        namespace = self.rng.xpath("string(ancestor-or-self::*[@ns][1]/@ns)") if self.kind == "element" else ""
        return frozenset(f"{{{namespace}}}{name}" if namespace else str(name) for name in given)

    @cached_property
    def content(self) -> Pattern:
        """What an element or attribute consists of."""
        parts = list(self.rng.iterchildren(f"{RNG}*"))[0 if "name" in self.rng.attrib else 1 :]
        if not parts and self.kind == "attribute":
            parts = [etree.Element(f"{RNG}text")]
        return _all("group", map(self._grammar.pattern, parts))

    def is_called(self, kind: str, name: str) -> bool:
        return self.kind == kind and (not self.names or name in self.names)

    def accepts(self, text: str) -> bool:
        if self.kind == "value":
            return " ".join(text.split()) == self.value
        if self.kind != "data":
            return self.kind == "text"
        element = etree.Element("text")
        element.text = text
        return self._validator.validate(element)

    @cached_property
    def _validator(self) -> etree.RelaxNG:
        """libxml2 knows data types: this takes an element that has this type of content."""
        library = self.rng.xpath("string(ancestor-or-self::*[@datatypeLibrary][1]/@datatypeLibrary)")
        schema = etree.Element(f"{RNG}element", name="text", datatypeLibrary=library)
        schema.append(copy.deepcopy(self.rng))
        return etree.RelaxNG(schema)


class Compound(NamedTuple):
    """One of several patterns (choice), all of them in order (group) or in any (interleave), or one repeated (many)."""

    kind: str
    parts: tuple[Pattern, ...] = ()


Pattern: TypeAlias = "Leaf | Compound"

EMPTY = Compound("group")
NEVER = Compound("choice")


def _choice(parts: Iterable[Pattern]) -> Pattern:
    found: dict[Pattern, None] = {}
    for part in parts:
        if part is NEVER:
            continue
        found.update(dict.fromkeys(part.parts if isinstance(part, Compound) and part.kind == "choice" else [part]))
    return next(iter(found)) if len(found) == 1 else Compound("choice", tuple(found)) if found else NEVER


def _all(kind: str, parts: Iterable[Pattern]) -> Pattern:
    found: list[Pattern] = []
    for part in parts:
        if part is NEVER:
            return NEVER
        found += part.parts if isinstance(part, Compound) and (part.kind == kind or part is EMPTY) else [part]
    return found[0] if len(found) == 1 else Compound(kind, tuple(found)) if found else EMPTY


def _many(pattern: Pattern) -> Pattern:
    return pattern if pattern in (EMPTY, NEVER) else Compound("many", (pattern,))


def leaves(pattern: Pattern, kind: str = "", name: str | None = None) -> Iterator[Leaf]:
    """The leaves of a pattern, of a kind, that may be called so."""
    if isinstance(pattern, Compound):
        for part in pattern.parts:
            yield from leaves(part, kind, name)
    elif kind in ("", pattern.kind) and (name is None or pattern.is_called(kind, name)):
        yield pattern


def _first(pattern: Pattern) -> Iterator[Leaf]:
    """The leaves that may come first."""
    if isinstance(pattern, Leaf):
        yield pattern
    else:
        for part in pattern.parts:
            yield from _first(part)
            if pattern.kind == "group" and not may_end(part):
                break


def inside(found: Iterable[Leaf]) -> Pattern:
    """What any of these elements or attributes may consist of."""
    return _choice(leaf.content for leaf in found)


def may_end(pattern: Pattern) -> bool:
    """Whether a pattern is content with nothing."""
    if isinstance(pattern, Leaf):
        return pattern.kind == "text"
    return (any if pattern.kind == "choice" else all)(map(may_end, pattern.parts))


def is_text(pattern: Pattern, text: str) -> bool:
    """Whether a text is all that a pattern wants."""
    return may_end(_after(pattern, lambda leaf: leaf.accepts(text))) or (not text.strip() and may_end(pattern))


def after_attributes(pattern: Pattern) -> Pattern:
    """What may come when there are no more attributes."""
    if isinstance(pattern, Leaf):
        return NEVER if pattern.kind == "attribute" else pattern
    parts = map(after_attributes, pattern.parts)
    if pattern.kind == "choice":
        return _choice(parts)
    return _many(next(parts)) if pattern.kind == "many" else _all(pattern.kind, parts)


def _after(pattern: Pattern, fits: Callable[[Leaf], bool], ordered: bool = True) -> Pattern:
    """What may come after something that fits a leaf. Attributes are not ordered."""
    if isinstance(pattern, Leaf):
        return NEVER if not fits(pattern) else pattern if pattern.kind == "text" else EMPTY
    if pattern.kind == "choice":
        return _choice(_after(part, fits, ordered) for part in pattern.parts)
    if pattern.kind == "many":
        return _all("group", [_after(pattern.parts[0], fits, ordered), _choice([EMPTY, pattern])])
    ordered = ordered and pattern.kind == "group"
    found = []
    for number, part in enumerate(pattern.parts):
        rest = _after(part, fits, ordered)
        if rest is not NEVER:
            before = () if ordered else pattern.parts[:number]
            found.append(_all(pattern.kind, [*before, rest, *pattern.parts[number + 1 :]]))
        if ordered and not may_end(part):
            break
    return _choice(found)


class Piece(NamedTuple):
    """An attribute, a text, an element, or the end: of the attributes ("attributes"), or of all ("end")."""

    kind: str
    name: str = ""
    text: str = ""
    element: Element | None = None


def _pieces(element: Element) -> list[Piece]:
    found = [Piece("attribute", name, value) for name, value in element.items()] + [Piece("attributes")]
    text = element.text or ""
    children = False
    for child in element:
        if isinstance(child.tag, str):
            children = True
            found += [Piece("text", text=text), Piece("element", child.tag, element=child)]
            text = ""
        text += child.tail or ""
    found += [Piece("text", text=text), Piece("end")]
    return [each for each in found if each.kind != "text" or not children or each.text.strip()]


class Fault(NamedTuple):
    """An element that is not as it should be."""

    element: Element
    pieces: list[Piece]
    """Of what the element consists, up to the piece that is wrong."""
    start: Pattern
    """What the element could be, as what is around it wants it."""
    expected: Pattern
    """What could have come instead of the last piece."""
    wide: Pattern
    """What the element could be, if what is around it was different."""

    @property
    def place(self) -> Element:
        """The child that should not be there, or else the element."""
        child = self.pieces[-1].element
        return self.element if child is None else child


class Reading:
    """A document that is read; what is known of its elements is kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[Element, Leaf], bool] = {}

    def faults(self, element: Element, start: Pattern) -> list[Fault]:
        """The first fault, within those of the elements around it: the outermost comes first."""
        found: list[Fault] = []
        wide = start
        while wrong := self.wrong(_pieces(element), start):
            pieces, expected = wrong
            found.append(Fault(element, pieces, start, expected, wide))
            kind, name, _, child = pieces[-1]
            if child is None:
                break
            start = inside(leaf for leaf in _first(expected) if leaf.is_called(kind, name))
            element, wide = child, inside(leaves(wide, kind, name))
            if start is NEVER:
                break
        return found

    def wrong(self, pieces: list[Piece], pattern: Pattern) -> tuple[list[Piece], Pattern] | None:
        """The pieces up to the first that is wrong, and what could have come instead of that."""
        for number, piece in enumerate(pieces, 1):
            rest = self._rest(pattern, piece)
            if rest is NEVER:
                return pieces[:number], pattern
            pattern = rest
        return None

    def _rest(self, pattern: Pattern, piece: Piece) -> Pattern:
        """What may come after a piece."""
        kind, name, text, child = piece
        if kind == "attribute":
            return _after(pattern, lambda leaf: leaf.is_called(kind, name) and is_text(leaf.content, text), False)
        if kind == "attributes":
            return after_attributes(pattern)
        if kind == "text":
            rest = _after(pattern, lambda leaf: leaf.accepts(text))
            return rest if text.strip() else _choice([rest, pattern])
        if child is not None:
            return _after(pattern, lambda leaf: leaf.is_called(kind, name) and self._fits(child, leaf))
        return EMPTY if may_end(pattern) else NEVER

    def _fits(self, element: Element, leaf: Leaf) -> bool:
        if (element, leaf) not in self._known:
            self._known[element, leaf] = self.wrong(_pieces(element), leaf.content) is None
        return self._known[element, leaf]
