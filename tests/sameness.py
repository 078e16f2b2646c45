"""When two XML documents say the same: all but comments, insignificant blanks and the order of unlike siblings."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

_NO_TEXT = re.compile(r"(?:[ \t]*\n[ \t\n]*)?").fullmatch


def normal(element: etree._Element) -> Any:
    """A value that is equal for two elements that say the same."""
    pieces: list[Any] = [element.text or ""]
    for node in element:
        if isinstance(node.tag, str):
            pieces += [normal(node), ""]
        pieces[-1] += node.tail or ""
    texts, children = pieces[::2], pieces[1::2]
    attributes = sorted(element.items())
    name = (element.tag, element.prefix)
    if not children:
        return name, attributes, "" if _NO_TEXT(texts[0]) else texts[0]
    if any(text.strip(" \t\n") for text in texts[1:]):
        return name, attributes, pieces
    text = texts[0] if texts[0].strip(" \t\n") else ""
    return name, attributes, text, sorted(children, key=lambda child: str(child[0]))


def parse(document: str | bytes) -> etree._Element:
    """With another parser's settings than the package's."""
    data = document.encode() if isinstance(document, str) else document
    return etree.fromstring(data, etree.XMLParser(remove_blank_text=False, huge_tree=True))
