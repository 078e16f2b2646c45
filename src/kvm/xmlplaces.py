"""What may repeat where in libvirt's documents: `kvm.lists_generated` as a tree to walk through beside a document."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

Place: TypeAlias = "tuple[frozenset[str], dict[str, Place]]"
"""What is known of an element by its place: the children that may repeat, and the places of its children.

Names that libvirt has in a namespace are ``{uri}local``.
"""

UNKNOWN: Place = (frozenset(), {})


@cache
def roots() -> dict[str, Place]:
    """The places of the roots of documents."""
    from kvm.lists_generated import PLACES, ROOTS

    places: list[Place] = [(lists, {}) for lists, _ in PLACES]
    for (_, below), (_, numbers) in zip(places, PLACES, strict=True):
        below.update({name: places[number] for name, number in numbers.items()})
    return {root: places[number] for root, number in ROOTS.items()}
