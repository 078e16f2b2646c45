"""libvirt's XML held against libvirt's own schemas, with errors that tell what is wrong, where, and what could be.

Whether a document is valid, libxml2 says; where it goes wrong, `kvm.relaxng` finds out; here it is put into words. What
does not go together is found by reading once more, with a piece left out or an attribute changed.

The schemas are those of the libvirt on this machine, or in the directory that the environment variable
``LIBVIRT_SCHEMAS`` names. The hypervisor's libvirt may be an older or a newer one.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache

from lxml import etree

from kvm import relaxng
from kvm.errors import InvalidArgumentError, NotSupportedError
from kvm.relaxng import Fault, Grammar, Leaf, Pattern, Piece, Reading, leaves

_DIRECTORIES = ("/usr/share/libvirt/schemas", "/usr/local/share/libvirt/schemas", "/opt/homebrew/share/libvirt/schemas")

_LISTED = 20
"""How many names or values a message lists."""


@cache
def _lock() -> threading.Lock:
    """Return the lock for validation: a validator keeps its last error, and patterns are compared by identity."""
    return threading.Lock()


def _forget() -> None:
    """Drop lock and validators in a forked child: another thread of the parent may be using them."""
    _lock.cache_clear()
    _schema.cache_clear()


os.register_at_fork(after_in_child=_forget)


def check(element: etree._Element) -> None:
    """Hold a document against the schema for its root's tag; devices of domains have schemas as well.

    `InvalidArgumentError` with a sentence that names what is wrong, where that is, and what could be there;
    `NotSupportedError` if there is no such schema on this machine.
    """
    with _lock():
        validator, start = _schema(_directory(), str(element.tag))
        if not validator.validate(element):
            reading = Reading()
            try:
                faults = reading.faults(element, relaxng.inside(leaves(start, "element", str(element.tag))))
                place, reason = faults[-1].place, _sentence(reading, faults)
            except (IndexError, RecursionError):  # libxml2 knows better, or elements are nested very deeply
                place, reason = element, getattr(validator.error_log.last_error, "message", "it is not valid")
            raise InvalidArgumentError(f"{place.getroottree().getpath(place)}: {reason}")


def _directory() -> str:
    given = os.environ.get("LIBVIRT_SCHEMAS")
    places = (given,) if given else _DIRECTORIES
    for place in places:
        if os.path.exists(os.path.join(place, "domain.rng")):
            return place
    raise NotSupportedError(
        f"libvirt's schemas are not in {' or '.join(places)}: install libvirt0 or libvirt-common (Debian, Ubuntu), "
        "libvirt-libs (Fedora, RHEL, openSUSE) or libvirt (Arch, Alpine), or let the hypervisor check: "
        "define(..., validate=True)"
    )


@cache
def _schema(directory: str, tag: str) -> tuple[etree.RelaxNG, Pattern]:
    """The schema of what begins with `tag`, for libxml2 and for us."""
    try:
        roots = _roots(directory)
        grammars = f'<grammar><include href="{roots[tag]}"/></grammar>' if tag in roots else ""
        domain = Grammar(relaxng.parsed(directory, "domain.rng"), directory)
        refs = (each for leaf in leaves(domain.named("devices")) for each in leaf.rng.iter(f"{relaxng.RNG}ref"))
        device = [each.get("name", "") for each in refs if any(leaves(domain.pattern(each), "element", tag))]
        if device:  # as of a whole domain, but with another start
            start = "".join(f'<ref name="{name}"/>' for name in device)
            start = f"<start><choice>{start}</choice></start>"
            grammars += f'<grammar><include href="domain.rng">{start}</include></grammar>'
        if not grammars:
            raise NotSupportedError(f"the schemas in {directory} have none for <{tag}>{_meant(tag, roots)}")
        schema = f'<grammar xmlns="{relaxng.NAMESPACE}"><start><choice>{grammars}</choice></start></grammar>'
        root = etree.fromstring(schema, base_url=os.path.join(directory, ""))
        return etree.RelaxNG(root), Grammar(root, directory).named()
    except (OSError, etree.LxmlError) as error:
        raise NotSupportedError(f"the schemas in {directory} cannot be read: {error}") from error


@cache
def _roots(directory: str) -> dict[str, str]:
    """With what documents begin, and the files that have their schemas."""
    roots: dict[str, str] = {}
    for file in sorted(name for name in os.listdir(directory) if name.endswith(".rng")):
        for leaf in leaves(Grammar(relaxng.parsed(directory, file), directory).named()):
            roots.update({name: file for name in leaf.names if name not in roots})
    return roots


# -- sentences ----------------------------------------------------------------------------------------------------


def _sentence(reading: Reading, faults: list[Fault]) -> str:
    """What is wrong."""
    element, pieces, start, expected, wide = fault = faults[-1]
    kind, name, text, _ = pieces[-1]
    tag = _tag(element.tag)
    if kind == "attributes":
        return f"{tag} lacks {_lacking(expected, lambda rest: relaxng.after_attributes(rest) is not relaxng.NEVER)}"
    if kind in ("text", "end"):
        if wanted := [leaf for leaf in leaves(expected) if leaf.kind in ("value", "data")]:
            return f"{tag} {_has_to_be(wanted, text)}"
        if kind == "text":
            return f"{tag} has no text, but there is {_quoted(text.strip())}"
        return f"{tag} lacks {_lacking(start if len(pieces) == 3 else expected, relaxng.may_end)}"
    possible, now = list(leaves(wide, kind, name)), list(leaves(expected, kind, name))
    if not possible:
        return _unknown(fault)
    if kind == "attribute" and now:
        said = f"{name!r} of {tag} {_has_to_be([each for leaf in now for each in leaves(leaf.content)], text)}"
        if not any(relaxng.is_text(leaf.content, text) for leaf in possible):
            return said
    elif now and (lacking := _lacking(expected, relaxng.may_end)):
        return f"{tag} lacks {lacking.split(f' and {_tag(name)}')[0]}, which comes before {_tag(name)}"
    elif any(piece[:2] == (kind, name) for piece in pieces[:-1]):
        return f"{tag} cannot have another {_tag(name)}"
    else:
        others = [_shown_name(*other) for other in _others(reading, fault)]
        what = f"{_shown_name(kind, name)} {'of' if kind == 'attribute' else 'in'} {tag}"
        said = f"{what} does not go with {_listed(others, 'and') or 'what is around it'}"
    remedy = _remedy(reading, faults)
    return f"{said}; it would do with {remedy}" if remedy else said


def _unknown(fault: Fault) -> str:
    """What is wrong with a name that is nowhere possible in this element."""
    kind, name, *_ = fault.pieces[-1]
    tag = _tag(fault.element.tag)
    known = {each for leaf in leaves(fault.expected, kind) for each in leaf.names}
    if kind == "attribute":
        said = f"{tag} has no attribute {name!r}{_meant(name, known)}"
        if any(leaves(fault.wide, "element", name)):
            return f"{said}, but it may have a child {_tag(name)}"
        return f"{said}; it may have {_listed(map(repr, known), 'and')}" if known else said
    said = f"{_tag(name)} is not known in {tag}{_meant(name, known)}"
    if any(leaves(fault.wide, "attribute", name)):
        return f"{said}, but the attribute {name!r} is ('@{name}' in a dict)"
    inside = {each for leaf in leaves(fault.wide, kind) for each in leaf.names if name in _children(leaf)}
    if 0 < len(inside) <= 3:
        return f"{said}, but in {_listed(map(_tag, inside))} it is"
    inner = [_listed(map(_tag, leaf.names)) for leaf in leaves(fault.wide, kind) if leaf.names]
    return f"{said}; there may be {_listed(inner, 'and')}" if inner else said


def _children(leaf: Leaf) -> set[str]:
    return {name for child in leaves(leaf.content, "element") for name in child.names}


def _others(reading: Reading, fault: Fault) -> list[tuple[str, str]]:
    """The kinds and names of the earlier pieces that the wrong one does not go with."""
    *earlier, last = fault.pieces
    found = []
    for other in dict.fromkeys((piece.kind, piece.name) for piece in earlier if piece.name):
        if not reading.wrong([*(piece for piece in earlier if piece[:2] != other), last], fault.start):
            found.append(other)
    return found


def _remedy(reading: Reading, faults: list[Fault]) -> str:
    """The values of attributes, of the element or of one around it, with which the wrong piece would be right."""
    for element, pieces, start, *_ in reversed(faults):
        found: dict[str, list[str]] = {}
        attributes = [(name, leaf) for leaf in leaves(start, "attribute") for name in leaf.names - {pieces[-1].name}]
        for name, value in {(name, each.value) for name, leaf in attributes for each in leaves(leaf.content, "value")}:
            others = [piece for piece in pieces if piece[:2] != ("attribute", name)]
            if not reading.wrong([Piece("attribute", name, value), *others], start):
                found.setdefault(name, []).append(repr(value))
        if found:
            return _listed(f"{name}={_listed(values)} of {_tag(element.tag)}" for name, values in found.items())
    return ""


def _has_to_be(values: list[Leaf], text: str) -> str:
    meant = _meant(text, {leaf.value for leaf in values})
    return f"has to be {_listed(map(_shown, values))}, not {_quoted(text)}{meant}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _lacking(pattern: Pattern, settled: Callable[[Pattern], bool]) -> str:
    """What has to come for a pattern to be settled."""
    if settled(pattern):
        return ""
    if isinstance(pattern, Leaf):
        return _shown(pattern)
    found = list(dict.fromkeys(filter(None, (_lacking(part, settled) for part in pattern.parts))))
    if pattern.kind != "choice":
        return " and ".join(found)
    least = [each for each in found if not any(other != each and other in each.split(" and ") for other in found)]
    return (", or " if " and " in "".join(least) else " or ").join(least)


def _shown(leaf: Leaf) -> str:
    if leaf.kind == "value":
        return repr(leaf.value)
    if leaf.kind in ("element", "attribute"):
        return _listed(_shown_name(leaf.kind, name) for name in leaf.names)
    kind = re.sub("(?<=[a-z])(?=[A-Z])", " ", leaf.rng.get("type", "string")).lower()
    words = "text" if kind == "string" else f"{'an' if kind[0] in 'aiu' else 'a'} {re.sub('int$', 'integer', kind)}"
    for word, name in (("like", "pattern"), ("from", "minInclusive"), ("to", "maxInclusive")):
        words += "".join(f" {word} {each}" for each in leaf.rng.xpath(f"*[@name='{name}'][.!='[0-9]+']/text()"))
    return words


def _shown_name(kind: str, name: str) -> str:
    return _tag(name) if kind == "element" else repr(name)


def _listed(words: Iterable[str], last: str = "or") -> str:
    found = sorted(set(words))
    if len(found) > _LISTED:
        found = [*found[:_LISTED], "others"]
    return f" {last} ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))


def _meant(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(_tag(name)[1:-1], [_tag(each)[1:-1] for each in known], cutoff=0.7)
    return f" (did you mean {_listed(map(repr, found))}?)" if found else ""


def _tag(name: object) -> str:
    """An element as it is written, with the prefix that libvirt uses for its namespace: ``<qemu:commandline>``."""
    return "<" + re.sub("{.*?([^/]*)/[^/]*}", r"\1:", str(name)) + ">"
