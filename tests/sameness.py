"""Compare XML documents by what they say: without comments, processing instructions and insignificant blanks."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

_NO_TEXT = re.compile(r"(?:[ \t]*\n[ \t\n]*)?").fullmatch
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"


def normal(element: etree._Element, *, keeps_blanks: bool = False) -> Any:
    """A value that is equal for two elements that say the same, in the same order."""
    keeps_blanks = element.get(_SPACE, "preserve" if keeps_blanks else "") == "preserve"
    pieces: list[Any] = [element.text or ""]
    for node in element:
        if isinstance(node.tag, str):
            pieces += [normal(node, keeps_blanks=keeps_blanks), ""]
        pieces[-1] += node.tail or ""
    texts, children = pieces[::2], pieces[1::2]
    attributes = sorted(element.items())
    name = (element.tag, element.prefix)
    if keeps_blanks:
        return name, attributes, pieces
    if not children:
        return name, attributes, "" if _NO_TEXT(texts[0]) else texts[0]
    if any(text.strip(" \t\n") for text in texts[1:]):
        return name, attributes, pieces
    text = texts[0] if texts[0].strip(" \t\n") else ""
    return name, attributes, text, children


def unordered(element: etree._Element) -> Any:
    """A value that is equal for two elements that say the same, apart from the order of children of different names."""
    return _sorted(normal(element))


def _sorted(value: Any) -> Any:
    name, attributes, *content = value
    if isinstance(content[-1], list):
        children = [_sorted(each) if isinstance(each, tuple) else each for each in content[-1]]
        is_mixed = len(content) == 1
        content[-1] = children if is_mixed else sorted(children, key=lambda child: str(child[0]))
    return name, attributes, *content


def parse(document: str | bytes) -> etree._Element:
    """With another parser's settings than the package's."""
    data = document.encode() if isinstance(document, str) else document
    return etree.fromstring(data, etree.XMLParser(remove_blank_text=False, huge_tree=True))
