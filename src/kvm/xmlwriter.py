"""Dicts as XML. Pure functions; the form of the dicts is that of `kvm.xml`.

The text is put together here rather than by lxml, because prefixes are what libvirt and people go by, and lxml would
choose its own.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, islice
from typing import NoReturn, TypeAlias, cast

from kvm.errors import InvalidArgumentError
from kvm.values import Quantity
from kvm.xmlunits import with_units

NAMESPACES = {
    **{name: f"http://libvirt.org/schemas/domain/{name}/1.0" for name in ("bhyve", "lxc", "qemu", "vmware", "xen")},
    **{name: f"http://libvirt.org/schemas/storagepool/{name}/1.0" for name in ("fs", "rbd")},
    "dnsmasq": "http://libvirt.org/schemas/network/dnsmasq/1.0",
    "xml": "http://www.w3.org/XML/1998/namespace",
}
"""libvirt's own namespaces by their usual prefixes, which need not be declared."""

_OF_DECLARATIONS = "http://www.w3.org/2000/xmlns/"
"""The namespace of what declares namespaces; nothing else may be in it."""

_ASCII_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII).fullmatch
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]").search
_SPECIAL = re.compile(r"[&<>\r]")
_SPECIAL_IN_ATTRIBUTE = re.compile(r"[&<>\"\t\n\r]")
_REFERENCES = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"
}  # fmt: skip

_Scope: TypeAlias = Mapping[str, str]
"""The namespaces that are declared at a place, by their prefixes."""


def write(tag: str, value: object) -> str:
    """Return the XML of a document, without a newline at its end, with quantities in the units of their places.

    `InvalidArgumentError` for what XML cannot hold, naming the element.
    """
    return write_part(tag, with_units(tag, value), "\n", {})


def write_part(tag: str, value: object, line: str, scope: _Scope) -> str:
    """Return the XML of an element of a document, whose quantities are plain numbers.

    `line` begins a new line at the element's indentation; `scope` are the namespaces that are declared around it.
    """
    parts: list[str] = []
    try:
        _element(parts, tag, value, line, scope)
    except InvalidArgumentError:
        raise
    except ValueError as error:  # an int of thousands of digits
        raise InvalidArgumentError(f"cannot write <{tag}> as XML: {error}") from error
    except RecursionError:
        raise InvalidArgumentError(
            f"cannot write <{tag}> as XML: it is nested too deeply, or contains itself"
        ) from None
    return "".join(parts)


def _element(parts: list[str], tag: str, value: object, line: str, scope: _Scope) -> None:
    """Write one element; `line` begins a new line at its indentation, or is empty inside of text."""
    if not isinstance(value, Mapping):
        name, declared = _name(tag, tag, scope)
        text = "" if value is True else _escaped(value, tag, _SPECIAL)
        parts.append(f"<{name}{_declarations(declared)}" + (f">{text}</{name}>" if text else "/>"))
        return
    attributes: list[tuple[str, object]] = []
    namespaces: dict[str, str] = {}
    children: list[tuple[str, object]] = []
    text, mixed, order = "", None, None
    for name, content in value.items():
        key = name if type(name) is str else _plain(name, tag)
        if key[:1] == "@":
            if content is not None:
                attributes.append((key[1:], content))
                if key == "@xmlns" or key[:7] == "@xmlns:":
                    namespaces[key[7:]] = _namespace(key, content, tag)
        elif key == "#text":
            text = "" if content is None else _escaped(content, tag, _SPECIAL)
        elif key == "#content":
            mixed = content
        elif key == "#order":
            order = content
        else:
            children.append((key, content))
    scope = {**scope, **namespaces} if namespaces else scope
    name, declared = _name(tag, tag, scope)
    scope = {**scope, **declared} if declared else scope
    parts.append(f"<{name}{_declarations(declared)}")
    known: set[tuple[str, str]] = set()
    for given, content in attributes:
        attribute = given
        if not _is_name(given) and given[:6] != "xmlns:":
            attribute, declared = _name(given, tag, scope, of_attribute=True)
            scope = {**scope, **declared} if declared else scope
            parts.append(_declarations(declared))
            prefix, _, local = attribute.partition(":")
            if (scope.get(prefix, prefix), local) in known:
                _refuse(tag, f"the attribute {given!r} is there twice")
            known.add((scope.get(prefix, prefix), local))
        parts.append(f' {attribute}="{_escaped(content, tag, _SPECIAL_IN_ATTRIBUTE)}"')
    parts.append(f">{text}")
    is_inline = text or mixed is not None or not line or value.get("@xml:space") == "preserve"
    start, inner = len(parts), "" if is_inline else line + "  "
    if mixed is not None:
        _mixed(parts, tag, mixed, scope)
    for key, content in children if order is None else _arranged(tag, order, children):
        for one in content if isinstance(content, list | tuple) else (content,):
            if one is not None and one is not False:
                parts.append(inner)
                _element(parts, key, one, inner, scope)
    if len(parts) > start:
        parts.append(f"{line if inner else ''}</{name}>")
    else:
        parts[-1] = f">{text}</{name}>" if text else "/>"


def _arranged(tag: str, order: object, children: Sequence[tuple[str, object]]) -> list[tuple[str, object]]:
    """Return the single children in the order of the names in `order`; names that it lacks come last.

    If the children of a name are adjacent, `order` may have the name more or less often than there are children. If
    other children are between them, it must have the name once for each. An `order` with a name that no child has, and
    without the name of another child, may be misspelt: it is refused.
    """
    if not isinstance(order, list | tuple):
        _refuse(tag, f"'#order' must be a list of the children's names, not {order!r}")
    of_name = {key: content if isinstance(content, list | tuple) else (content,) for key, content in children}
    names = [_plain(each, tag) for each in order]
    absent = next((name for name in names if name not in of_name), None)
    there = [name for name, content in of_name.items() if any(one is not None and one is not False for one in content)]
    unnamed = next((name for name in there if name not in names), None)
    if absent is not None and unnamed is not None:
        _refuse(tag, f"'#order' names {absent!r}, which is not among the children, but not {unnamed!r}, which is")
    named = [name for name in names if of_name.get(name)]
    counts, runs = Counter(named), Counter(name for name, _ in groupby(named))
    for name, count in counts.items():
        if runs[name] > 1 and count != len(of_name[name]):
            _refuse(
                tag,
                f"'#order' names {name!r} {count} times, but there are {len(of_name[name])}, with other elements "
                "between them; name each one at its place",
            )
    left = {name: iter(content) for name, content in of_name.items()}
    arranged: list[tuple[str, object]] = []
    for name, run in groupby(named):
        length = None if runs[name] == 1 else len(list(run))
        arranged += [(name, one) for one in islice(left[name], length)]
    return arranged + [(name, one) for name, content in left.items() for one in content]


def _mixed(parts: list[str], tag: str, mixed: object, scope: _Scope) -> None:
    """Write text and elements in the order that they have."""
    if not isinstance(mixed, list | tuple):
        _refuse(tag, f"'#content' is a list of text and of one-key dicts, not {mixed!r}")
    for piece in mixed:
        if isinstance(piece, Mapping):
            for key, value in piece.items():
                for one in value if isinstance(value, list | tuple) else (value,):
                    if one is not None and one is not False:
                        _element(parts, _plain(key, tag), one, "", scope)
        elif piece is not None:
            parts.append(_escaped(piece, tag, _SPECIAL))


def _plain(key: object, tag: str) -> str:
    """A key of a dictionary as a str."""
    if not isinstance(key, str):
        _refuse(tag, f"the name {key!r} is no text")
    return str.__str__(key)


def _namespace(key: str, uri: object, tag: str) -> str:
    """The namespace that a key declares."""
    prefix, is_default = key[7:], key == "@xmlns"
    if not (is_default or _is_name(prefix)) or prefix == "xmlns":
        _refuse(tag, f"{key!r} declares no prefix")
    is_right = isinstance(uri, str) and (uri or is_default) and uri != _OF_DECLARATIONS
    if not is_right or (prefix == "xml") != (uri == NAMESPACES["xml"]):
        _refuse(tag, f"{uri!r} is no namespace for {key!r}")
    return str.__str__(cast(str, uri))


def _name(name: str, tag: str, scope: _Scope, *, of_attribute: bool = False) -> tuple[str, dict[str, str]]:
    """The name as it is written, and the namespace that has to be declared for it."""
    if _is_name(name):
        return name, {}
    uri, _, local = name[1:].partition("}") if name[:1] == "{" else ("", "", "")
    if uri not in ("", _OF_DECLARATIONS) and _is_name(local):
        known = [prefix for prefix, each in scope.items() if each == uri and (prefix or not of_attribute)]
        usual = (prefix for prefix, each in NAMESPACES.items() if each == uri and prefix not in scope)
        free = (prefix for prefix in _prefixes() if prefix not in scope)
        prefix = known[0] if known else next(usual, None) or next(free)
        return (f"{prefix}:{local}" if prefix else local), ({} if known or prefix == "xml" else {prefix: uri})
    prefix, _, local = name.partition(":")
    if not (_is_name(prefix) and _is_name(local)):
        _refuse(tag, f"{name!r} is no name of an {'attribute' if of_attribute else 'element'}")
    if prefix in scope or prefix == "xml":
        return name, {}
    if prefix not in NAMESPACES:
        _refuse(tag, f"the prefix {prefix!r} of {name!r} is not declared: add '@xmlns:{prefix}'")
    return name, {prefix: NAMESPACES[prefix]}


@lru_cache(4096)
def _is_name(name: str) -> bool:
    """Whether a name without a prefix is right."""
    if name.isascii():
        return _ASCII_NAME(name) is not None
    from lxml import etree

    try:
        return etree.QName(name).namespace is None and ":" not in name
    except ValueError:
        return False


def _prefixes() -> Iterator[str]:
    return (f"ns{number}" for number in range(1 << 31))


def _declarations(declared: Mapping[str, str]) -> str:
    if not declared:
        return ""
    return "".join(
        f' xmlns:{prefix}="{_escaped(uri, prefix, _SPECIAL_IN_ATTRIBUTE)}"' for prefix, uri in declared.items()
    )


def _escaped(value: object, tag: str, special: re.Pattern[str]) -> str:
    """A value as libvirt writes it, with what is special in XML as references."""
    if isinstance(value, str):
        text = value if type(value) is str else str.__str__(value)  # what an enum is, not what it is called
        if text.isalnum():
            return text
    elif isinstance(value, bool):
        return "yes" if value else "no"
    elif isinstance(value, int):
        if isinstance(value, Quantity) and value.dimension is not None:
            _refuse(tag, f"no unit is known here for {str(value)!r}; give a plain number, in the unit that libvirt has")
        return str(int(value))
    elif isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)
    elif isinstance(value, bytes | os.PathLike):
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else os.fsdecode(value)
    else:
        given = repr(value) if isinstance(value, float) else type(value).__name__
        _refuse(tag, f"a value must be text, a finite number or a boolean, not {given}")
    if found := _NOT_IN_XML(text):
        _refuse(tag, f"XML cannot hold the character {found[0]!r}, which is at position {found.start()} of a value")
    return special.sub(lambda match: _REFERENCES[match[0]], text) if special.search(text) else text


def _refuse(tag: str, why: str) -> NoReturn:
    raise InvalidArgumentError(f"cannot write <{tag}> as XML: {why}")
