"""Find names in dicts that libvirt does not know, and would ignore without an error. Pure functions.

The known names are those in the schemas of libvirt's release `kvm.names_generated.RELEASE`. Names in the namespaces of
other programs, and names in metadata, are not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from kvm.errors import InvalidArgumentError
from kvm.xmlwriter import NAMESPACES


class _Place(NamedTuple):
    names: frozenset[str]
    """The names of its attributes, and ``#text``."""
    children: dict[str, int]


class Unknown(NamedTuple):
    """A name that libvirt does not know at its place."""

    path: str
    """The path of its element: ``domain/devices/disk``."""
    name: str
    """The key of a dict: an element, an attribute with ``@``, or ``#text`` where there is none."""
    like: tuple[str, ...]
    """Similar keys that libvirt knows."""


def check(path: Sequence[str], value: object, before: object = None) -> None:
    """Check the names in a value to be written at `path`, from a document's root; names in `before` are accepted.

    `InvalidArgumentError` for the first name that libvirt does not know.
    """
    found = list(unknown(path, value))
    known = set(unknown(path, before)) if found and before is not None else ()
    for each in found:
        if each not in known:
            raise InvalidArgumentError(_sentence(each))


def _sentence(found: Unknown) -> str:
    from kvm.names_generated import RELEASE

    element = found.path.rpartition("/")[2]
    meant = f" (did you mean {' or '.join(map(repr, found.like))}?)" if found.like else ""
    return (
        f"/{found.path}: libvirt {RELEASE} does not know {found.name!r} in <{element}>{meant}; "
        "to use it anyway, give XML (kvm.to_xml), or validate=False to a method that has this option"
    )


def unknown(path: Sequence[str], value: object) -> Iterator[Unknown]:
    """Yield the names that libvirt does not know in a value to be written at `path`, from a document's root."""
    root, *inner = path
    if root not in _roots():
        return
    place = _places()[_roots()[root]]
    for index, name in enumerate(inner):
        if name not in place.children:
            around = "/".join(path[: index + 1])
            yield Unknown(around, name, _like(name, place.children))
            return
        place = _places()[place.children[name]]
    yield from _unknown("/".join(path), value, place, NAMESPACES)


def _unknown(path: str, value: object, place: _Place, prefixes: Mapping[str, str]) -> Iterator[Unknown]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _unknown(path, each, place, prefixes)
        return
    if "*" in place.children or value is None or isinstance(value, bool):
        return
    if not isinstance(value, Mapping):
        value = {"#text": value}
    declared = {key[7:]: str(uri) for key, uri in value.items() if isinstance(key, str) and key.startswith("@xmlns:")}
    prefixes = {**prefixes, **declared} if declared else prefixes
    for key, content in value.items():
        is_left_out = content is None or content is False or (isinstance(content, list | tuple) and not content)
        if is_left_out or not isinstance(key, str) or key in ("#content", "#order"):
            continue
        name = _expanded(key.removeprefix("@"), prefixes)
        if name is None or key.startswith("@xmlns"):
            continue
        if key[:1] in "@#":
            if name not in place.names and str(content):
                yield Unknown(path, key, _meant(key, name, place))
        elif name not in place.children:
            if not _has_other_namespace(content):
                yield Unknown(path, key, _meant(key, name, place))
        else:
            for each in _unknown(f"{path}/{key}", content, _places()[place.children[name]], prefixes):
                yield each._replace(like=_instead(name, place)) if each[:2] == (f"{path}/{key}", "#text") else each


def _expanded(name: str, prefixes: Mapping[str, str]) -> str | None:
    """Return a name in the form of libvirt's schema; None if it is in another program's namespace."""
    if ":" not in name:
        return name
    uri, _, local = name[1:].rpartition("}") if name[:1] == "{" else (prefixes.get(name.partition(":")[0], ""), "", "")
    local = local or name.partition(":")[2]
    return f"{{{uri}}}{local}" if str(uri).startswith("http://libvirt.org/") else None


def _has_other_namespace(content: object) -> bool:
    each = content[0] if isinstance(content, list | tuple) and content else content
    return isinstance(each, Mapping) and "@xmlns" in each


def _meant(key: str, name: str, place: _Place) -> tuple[str, ...]:
    """Return similar keys: the same name as an attribute or element instead, or similar names."""
    if key == "#text":
        return ()
    if key[:1] == "@":
        return (name,) if name in place.children else tuple(f"@{each}" for each in _like(name, place.names))
    if name in place.names:
        return (f"@{name}",)
    prefix, colon, _ = key.rpartition(":")
    return tuple(f"{prefix}{colon}{each}" for each in _like(name, place.children))


def _instead(name: str, place: _Place) -> tuple[str, ...]:
    """Return the children with a similar name that may have text."""
    return _like(name, [each for each, number in place.children.items() if "#text" in _places()[number].names])


def _like(name: str, names: Iterable[str]) -> tuple[str, ...]:
    short = sorted({each.rpartition("}")[2] for each in names} - {"*", "#text"})
    by_case = {each.lower(): each for each in short}
    if name.lower() in by_case:
        return (by_case[name.lower()],)
    return tuple(get_close_matches(name.rpartition("}")[2], short, n=2, cutoff=0.7))


@cache
def _places() -> list[_Place]:
    from kvm.names_generated import PLACES

    return [
        _Place(frozenset(names.split()), dict(zip(words[::2], map(int, words[1::2]), strict=True)))
        for names, children in PLACES
        for words in [children.split()]
    ]


@cache
def _roots() -> Mapping[str, int]:
    from kvm.names_generated import ROOTS

    return ROOTS
