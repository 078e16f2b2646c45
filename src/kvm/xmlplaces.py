"""Properties of elements by their place in libvirt's documents: which children may repeat, and whether order matters.

The elements that may repeat are in `kvm.lists_generated`, from libvirt's schemas. The schemas do not say where order
matters: libvirt's parsers read children by name, so the order among children with different names only matters in the
elements in `_IN_ORDER`. In the elements of other programs (metadata), it may always matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

_IN_ORDER = frozenset(["filter", "interconnects"])
"""Elements whose children libvirt reads as one sequence, whatever their names: the rules of a network filter and its
references to others, and the latencies and bandwidths between NUMA nodes."""

_WITH_METADATA = frozenset(["domain", "inactiveDomain", "network"])
"""Elements with metadata of other programs."""

Add: TypeAlias = "Callable[[Any, str, dict[str, Any], Place], None]"


class Place:
    """A place of documents; names that libvirt has in a namespace are ``{uri}local``."""

    __slots__ = ("add", "below", "lists", "others")

    def __init__(
        self, lists: frozenset[str], below: dict[str, Place], *, add: Add, others: Place | None = None
    ) -> None:
        self.lists = lists
        """The children that may repeat."""
        self.below = below
        """The places of children that have entries of their own."""
        self.add = add
        """Adds a child to the dictionary of an element at this place."""
        self.others: Place = others or self
        """The place of other children."""

    def child(self, name: str) -> Place:
        """Return the place of a child. (The XML readers inline this: a call takes a third longer.)"""
        place = self.below.get(name, self.others)
        return FOREIGN if place is UNKNOWN and ":" in name else place


def add(content: Any, name: str, element: dict[str, Any], place: Place) -> None:
    """Add a child, in a list if it may repeat at this place, or if it does repeat."""
    if name not in element:
        element[name] = [content] if name in place.lists else content
    elif type(found := element[name]) is list:
        found.append(content)
    else:
        element[name] = [found, content]


def add_in_order(content: Any, name: str, element: dict[str, Any], place: Place) -> None:
    """Add a child, and its name to ``#order``."""
    add(content, name, element, place)
    element.setdefault("#order", []).append(name)


def add_alternating(content: Any, name: str, element: dict[str, Any], place: Place) -> None:
    """Add a child, and its name to ``#order`` if it does not follow the children of the same name."""
    if "#order" not in element and name in element and next(reversed(element)) != name:
        element["#order"] = names(element)
    add(content, name, element, place)
    if "#order" in element:
        element["#order"].append(name)


def names(element: dict[str, Any]) -> list[str]:
    """Return the names of an element's children, equal names together."""
    children = ((name, content) for name, content in element.items() if name[0] not in "@#")
    return [name for name, content in children for _ in range(len(content) if type(content) is list else 1)]


PLAIN = Place(frozenset(), {}, add=add)
"""Any element, without properties."""

UNKNOWN = Place(frozenset(), {}, add=add)
"""An element of libvirt's in which nothing repeats."""

FOREIGN = Place(frozenset(), {}, add=add_alternating)
"""An element of another program."""


@cache
def document_roots() -> Place:
    """The place of the roots of documents."""
    from kvm.lists_generated import PLACES, ROOTS

    places = [Place(lists, {}, add=add, others=UNKNOWN) for lists, _ in PLACES]

    def place(name: str, number: int) -> Place:
        found = places[number]
        if name in _WITH_METADATA:
            found.below["metadata"] = FOREIGN
        if name in _IN_ORDER:
            return Place(found.lists, found.below, add=add_in_order, others=UNKNOWN)
        return found

    for known, (_, numbers) in zip(places, PLACES, strict=True):
        known.below.update({name: place(name, number) for name, number in numbers.items()})
    roots = {name: place(name, number) for name, number in ROOTS.items()}
    return Place(frozenset(), roots, add=add, others=FOREIGN)
