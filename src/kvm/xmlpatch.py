"""Change a document's text in the places where its dict was changed, and nowhere else. Pure functions.

A dict has no comments, no processing instructions, no indentation, and in most of libvirt's elements no order among
children of different names. Writing a whole document from a changed dict would lose them. So the text of every
unchanged element is kept, and only changed elements are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, TypeAlias
from xml.parsers.expat import ParserCreate

from kvm import xmlreader, xmlwriter
from kvm.xmlplaces import Place, add, names

_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_INDENTATION = re.compile(rb"\n[ \t]*\Z")

_Child: TypeAlias = "tuple[str, Any]"
"""The name of a child, and its value: a dict, a str or True."""


@dataclass
class _Element:
    """The position of an element in the text."""

    name: str
    start: int
    content: int
    """Where its start tag ends."""
    close: int = 0
    """Where its end tag begins."""
    end: int = 0
    children: list[_Element] = field(default_factory=list)


def patch(document: str, tag: str, conf: Mapping[str, Any], top: Place) -> str:
    """Return `document` with the differences to `conf`, its new content as a dict, written into it.

    `top` is the place of the document's root. `InvalidArgumentError` for what XML cannot hold.
    """
    wanted = xmlwriter.write(tag, conf)
    ((_, new),) = xmlreader.read(wanted, top).items()
    ((name, old),) = xmlreader.read(document, top).items()
    if name != tag:
        return wanted
    text = document.encode()
    root = _root(text)
    place = top.child(tag)
    changed = _Patch(text).element(root, old, new, place, "\n", {})
    return (text[: root.start] + changed + text[root.end :]).decode()


def _root(text: bytes) -> _Element:
    """Find the elements of a document."""
    top = _Element("", 0, 0)
    outer = [top]
    parser = ParserCreate("utf-8")

    def start(name: str, _: dict[str, str]) -> None:
        index = parser.CurrentByteIndex
        found = _TAG.match(text, index)
        element = _Element(name, index, found.end() if found else index)
        outer[-1].children.append(element)
        outer.append(element)

    def end(_: str) -> None:
        element = outer.pop()
        is_empty = text[element.content - 2 : element.content] == b"/>"
        element.close = element.content if is_empty else parser.CurrentByteIndex
        element.end = element.content if is_empty else text.index(b">", element.close) + 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(text, True)
    return top.children[0]


class _Patch:
    """Builds the text of the changed document from that of the old one."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def element(
        self, element: _Element, old: Any, new: Any, place: Place, line: str, scope: Mapping[str, str]
    ) -> bytes:
        """Return the text of an element, changed from `old` to `new`; `line` is a newline with its indentation."""
        if old == new:
            return self._text[element.start : element.end]
        scope = {**scope, **_namespaces(old)}
        is_similar = _has_children(old) and _has_children(new) and old.get("#text") == new.get("#text")
        if not is_similar or _namespaces(old) != _namespaces(new):
            return xmlwriter.write_part(element.name, new, line, scope).encode()
        start = self._text[element.start : element.content]
        if (attributes := _attributes(new)) != _attributes(old):
            start = xmlwriter.write_part(element.name, attributes, line, scope).removesuffix("/>").encode() + b">"
        return start + self._content(element, old, new, place, scope) + self._text[element.close : element.end]

    def _content(self, element: _Element, old: Any, new: Any, place: Place, scope: Mapping[str, str]) -> bytes:
        """Return the text between the tags of an element whose children change."""
        first = element.children[0].start
        before = self._text[element.content : first]
        indentation = None if "#text" in new else _INDENTATION.search(before)
        line = indentation[0].decode() if indentation else ""
        was = [(child.name, value) for child, value in zip(element.children, _values(element, old), strict=True)]
        stay, added = _compared(was, list(_children(new)), in_order=place.add is not add)

        def written(position: int) -> list[bytes]:
            return [xmlwriter.write_part(*child, line, scope).encode() for child in added.get(position, ())]

        parts = [before, *(part for each in written(-1) for part in (each, line.encode()))]
        last = element.children[-1]
        for index, child in enumerate(element.children):
            if index in stay:
                below = place.child(child.name)
                parts.append(self.element(child, was[index][1], stay[index], below, line, scope))
            elif parts[-1] and not parts[-1].strip():
                parts.pop()
            parts += [part for each in written(index) for part in (line.encode(), each)]
            if child is not last:
                parts.append(self._text[child.end : element.children[index + 1].start])
        return b"".join([*parts, self._text[last.end : element.close]])


def _compared(
    old: list[_Child], new: list[_Child], *, in_order: bool
) -> tuple[dict[int, Any], dict[int, list[_Child]]]:
    """Compare the old children of an element with its new ones.

    Return the new values of the old children that stay, by index, and the children to add after each index (-1: at the
    beginning). Those that stay keep their order. If not `in_order`, only the order of children of the same name counts.
    """
    indexes: dict[str, list[int]] = {}
    groups: dict[str, list[_Child]] = {}
    for index, (name, _) in enumerate(old):
        indexes.setdefault("" if in_order else name, []).append(index)
    for child in new:
        groups.setdefault("" if in_order else child[0], []).append(child)
    stay: dict[int, Any] = {}
    added: dict[int, list[_Child]] = {}
    behind = -1
    for key, group in groups.items():
        known = indexes.get(key, [])
        if known:
            behind = known[0] - 1
        for child, position in zip(group, _matches([old[index] for index in known], group), strict=True):
            if position is None:
                added.setdefault(behind, []).append(child)
            else:
                behind = known[position]
                stay[behind] = child[1]
    return stay, added


def _matches(old: list[_Child], new: list[_Child]) -> list[int | None]:
    """Match each new child with an old one: the equal ones, and between these the ones with the same name."""
    before, now = ([json.dumps(child, sort_keys=True) for child in side] for side in (old, new))
    blocks = [
        block for block in SequenceMatcher(None, before, now, autojunk=False).get_opcodes() if block[0] != "insert"
    ]
    unmoved = sum(map(str.__eq__, before, now))
    if len(before) == len(now) and unmoved >= sum(end - start for kind, start, end, *_ in blocks if kind == "equal"):
        blocks = [("replace", index, index + 1, index, index + 1) for index in range(len(now))]
    found: list[int | None] = [None] * len(new)
    for _, start, end, first, last in blocks:
        left = list(range(start, end))
        for position in range(first, last):
            index = next((index for index in left if old[index][0] == new[position][0]), None)
            if index is not None:
                found[position] = index
                left = left[left.index(index) + 1 :]
    return found


def _values(element: _Element, value: dict[str, Any]) -> Iterator[Any]:
    """Yield the value of each child of an element, in the order of the document."""
    left = _by_name(value)
    return (next(left[child.name]) for child in element.children)


def _children(value: dict[str, Any]) -> Iterator[_Child]:
    """Yield the children of an element in the order in which they would be written."""
    left = _by_name(value)
    return ((name, next(left[name])) for name in value.get("#order") or names(value))


def _by_name(value: dict[str, Any]) -> dict[str, Iterator[Any]]:
    return {name: iter(content if type(content) is list else [content]) for name, content in value.items()}


def _has_children(value: Any) -> bool:
    return isinstance(value, dict) and "#content" not in value and bool(names(value))


def _attributes(value: dict[str, Any]) -> dict[str, Any]:
    return {name: content for name, content in value.items() if name[0] == "@"}


def _namespaces(value: Any) -> dict[str, str]:
    """Return the namespaces that an element declares, by their prefixes."""
    attributes = _attributes(value) if isinstance(value, dict) else {}
    return {name[7:]: uri for name, uri in attributes.items() if name == "@xmlns" or name.startswith("@xmlns:")}
