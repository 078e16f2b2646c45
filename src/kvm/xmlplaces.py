"""What may repeat where in libvirt's documents: `kvm.lists_generated` as a tree to walk through beside a document."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

Place: TypeAlias = "tuple[frozenset[str], dict[str, Place]]"
"""What is known of an element by its place: the children that may repeat, and the places of its children.

Names that libvirt has in a namespace are ``{uri}local``.
"""

UNKNOWN: Place = (frozenset(), {})


def add(content: Any, name: str, element: dict[str, Any], place: Place) -> None:
    """Add a child to the dictionary of an `element` at this place: in a list, if it may repeat there, or does."""
    if name not in element:
        element[name] = [content] if name in place[0] else content
    elif type(found := element[name]) is list:
        found.append(content)
    else:
        element[name] = [found, content]


@cache
def roots() -> dict[str, Place]:
    """The places of the roots of documents."""
    from kvm.lists_generated import PLACES, ROOTS

    places: list[Place] = [(lists, {}) for lists, _ in PLACES]
    for (_, below), (_, numbers) in zip(places, PLACES, strict=True):
        below.update({name: places[number] for name, number in numbers.items()})
    return {root: places[number] for root, number in ROOTS.items()}
