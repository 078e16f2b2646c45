"""Commands that write the texts of their options into XML, which virsh does not always escape. Pure.

If such a text contains markup, virsh prints the XML that it would build (``--print-xml``) with placeholders, and the
command that takes a document gets this XML with the texts. So the result does not depend on what a release of virsh
escapes.

Text that libvirt cannot keep is refused: it writes tabs and line breaks in attributes unescaped, which XML then reads
as blanks, and leaves out all other control characters. A disk at ``/a\\tb`` would become the one at ``/a b``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, NoReturn

from kvm import xml
from kvm.errors import InvalidArgumentError, KvmError
from kvm.virsh.command import Command, failure
from kvm.virsh.plan import Lookup, Plan, acting, checked
from unix.result import Result

_MARKUP = re.compile("[&<>'\"]").search
_NOT_IN_ATTRIBUTES = re.compile(r"[\x00-\x1f]").search
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f]").search


class Form(NamedTuple):
    """How to replace a command with options by a command with a document."""

    command: str
    """The command that takes the document as its ``file``."""
    common: frozenset[str]
    """The options that this command accepts, too."""
    elements: frozenset[str]
    """The options whose texts virsh writes into elements, without escaping them."""
    attributes: frozenset[str]
    """Those whose texts it writes into attributes, without escaping them."""
    escaped: frozenset[str] = frozenset()
    """Those whose texts it writes into attributes, and escapes."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WHERE = "domain persistent config live current"
_POOL = (
    _names("name target source_name"),
    _names(
        """
        type source_host source_path source_dev source_format auth_type auth_username secret_usage secret_uuid
        adapter_name adapter_wwnn adapter_wwpn adapter_parent adapter_parent_wwnn adapter_parent_wwpn
        adapter_parent_fabric_wwn source_protocol_ver source_initiator
        """
    ),
)
_FORMS = {
    "attach-disk": Form(
        "attach-device",
        _names(_WHERE),
        _names("serial"),
        _names("target targetbus alias throttle_groups"),
        _names(
            """
            source driver subdriver iothread cache io type source_protocol source_host_name source_host_transport
            source_host_socket
            """
        ),
    ),
    "attach-interface": Form(
        "attach-device", _names(_WHERE), frozenset(), _names("source target mac script model alias")
    ),
    "pool-create-as": Form("pool-create", _names("build overwrite no_overwrite"), *_POOL),
    "pool-define-as": Form("pool-define", frozenset(), *_POOL),
    "vol-create-as": Form(
        "vol-create", _names("pool prealloc_metadata"), _names("name"), _names("format backing_vol_format")
    ),
}

_SEPARATORS = {"throttle_groups": ","}
"""The separator of an option with several texts."""

_RAW_IN_SPECS = re.compile(r"(?:^|,)(?:snapshot|driver|stype|checkpoint|bitmap)=[^,]*[&<>'\"]").search


def form_of(command: Command) -> Form | None:
    """Return how to run `command` with a document, if virsh would write one of its texts wrongly; otherwise None.

    `InvalidArgumentError` for a text that libvirt cannot keep.
    """
    form = _FORMS.get(command.name)
    if form is None:
        return None
    is_needed = False
    for name, value in command.options.items():
        if name in form.attributes or name in form.escaped:
            refuse_in_attribute(command.name, name, value)
        elif name in form.elements:
            refuse_in_text(command.name, name, value)
        else:
            continue
        is_needed = is_needed or (name not in form.escaped and any(map(_MARKUP, _parts(name, value))))
    return form if is_needed else None


def refuse_specs(command: str, **specs: object) -> None:
    """Raise `InvalidArgumentError` for a disk specification with text that virsh would write wrongly."""
    for option, given in specs.items():
        texts: Iterable[object] = given if isinstance(given, list | tuple) else [given]
        for text in texts:
            refuse_in_attribute(command, option, text)
            if isinstance(text, str) and _RAW_IN_SPECS(text):
                _refuse(command, option, text, "which virsh does not escape; give it as XML")


def refuse_in_attribute(command: str, option: str, text: object) -> None:
    """Raise `InvalidArgumentError` for a text that libvirt would change in an attribute."""
    if isinstance(text, str | os.PathLike) and _NOT_IN_ATTRIBUTES(os.fsdecode(text)):
        _refuse(command, option, text, "whose control characters libvirt would replace or leave out")


def refuse_in_text(command: str, option: str, text: object) -> None:
    """Raise `InvalidArgumentError` for a text that libvirt would change in an element."""
    if isinstance(text, str | os.PathLike) and _NOT_IN_TEXT(os.fsdecode(text)):
        _refuse(command, option, text, "whose control characters libvirt would replace or leave out")


def _refuse(command: str, option: str, text: object, why: str) -> NoReturn:
    raise InvalidArgumentError(f"virsh {command}: {option} cannot hold {text!r}, {why}")


def built(command: Command, form: Form) -> Plan[str]:
    """Return the document that `command` would build, with its texts escaped correctly."""
    raw = form.elements | form.attributes
    texts = {name: _parts(name, value) for name, value in command.options.items() if name in raw}
    marked = dict.fromkeys(part for parts in texts.values() for part in parts if _MARKUP(part))
    prefix, others = "text", " ".join(map(str, command.options.values()))
    while prefix in others:
        prefix += "x"
    words = {text: f"{prefix}{number}z" for number, text in enumerate(marked)}
    given = {
        name: _SEPARATORS.get(name, "").join(words.get(part, part) for part in parts) for name, parts in texts.items()
    }
    options = {**command.options, **{name: value for name, value in given.items() if value}}
    (printed,) = yield Lookup((Command(command.name, {**options, "print_xml": True}),))
    if not printed.status:
        stderr = printed.stderr
        for text, word in words.items():
            stderr = stderr.replace(word, text)
        raise failure(command.words(), Result(printed.return_code, printed.stdout, stderr))
    return _with_texts(printed.stdout, {word: text for text, word in words.items()})


def acting_on(command: Command, form: Form, *, check: bool) -> Plan[Result]:
    """Run `command` by way of the document that it would build; the value is the result."""
    options = {name: value for name, value in command.options.items() if name in form.common}
    try:
        document = yield from built(command, form)
    except KvmError as error:
        return _failed(error, check=check)
    return (yield from acting(Command(form.command, {**options, "file": document.encode()}, reads=False), check=check))


def _failed(error: KvmError, *, check: bool) -> Result:
    if check:
        raise error
    return Result(error.return_code or 1, "", error.stderr or f"error: {error}\n")


def _parts(name: str, value: object) -> list[str]:
    if not isinstance(value, str | os.PathLike):
        return []
    text, separator = os.fsdecode(value), _SEPARATORS.get(name)
    return text.split(separator) if separator else [text]


def _with_texts(document: str, texts: Mapping[str, str]) -> str:
    """Return a document with its placeholders replaced by texts."""
    from lxml import etree

    root = xml.root(document)
    try:
        for element in root.iter():
            if element.text and element.text in texts:
                element.text = texts[element.text]
            for name, value in element.items():
                if value in texts:
                    element.set(name, texts[value])
    except ValueError as error:
        raise InvalidArgumentError(f"XML cannot hold one of the texts {[*texts.values()]!r}: {error}") from error
    return etree.tostring(root, encoding="unicode")


# -- volumes: the path of another one, and the XML of another one ----------------------------------------------------


def creating_over(command: Command, *, check: bool, prints: bool) -> Plan[Result | xml.Conf]:
    """``vol-create-as`` with a ``backing_vol``, whose path libvirt knows and virsh does not escape."""
    form, backing, pool = _FORMS[command.name], command.options["backing_vol"], command.options["pool"]
    in_pool, anywhere = yield Lookup(
        (Command("vol-path", {"vol": backing, "pool": pool}), Command("vol-path", {"vol": backing}))
    )
    path = next((found.stdout.rstrip("\n") for found in (in_pool, anywhere) if found.status), "")
    if not path or not (_MARKUP(path) or form_of(command)):  # virsh reports the error, or builds the right document
        if not prints:
            return (yield from acting(command, check=check))
        asked = Command(command.name, {**command.options, "print_xml": True})
        (printed,) = yield (asked,)
        return xml.conf(checked(asked, printed).stdout)
    bare = {name: value for name, value in command.options.items() if not name.startswith("backing_vol")}
    try:
        conf = xml.conf((yield from built(Command(command.name, bare, reads=False), form)))
    except KvmError as error:
        return _failed(error, check=check or prints)
    kind = command.options.get("backing_vol_format")
    conf["backingStore"] = {"path": path, **({} if kind is None else {"format": {"@type": kind}})}
    if prints:
        return conf
    options = {name: value for name, value in bare.items() if name in form.common}
    file = xml.to_xml("volume", conf).encode()
    return (yield from acting(Command(form.command, {**options, "file": file}, reads=False), check=check))


def has_markup(text: str) -> bool:
    """Return whether virsh would read a part of a text as XML."""
    return _MARKUP(text) is not None


def cloning(command: Command, *, check: bool, prints: bool) -> Plan[Result | xml.Conf]:
    """``vol-clone`` to a name that virsh would read as XML."""
    options = dict(command.options)
    vol, pool, name = (options.pop(each, None) for each in ("vol", "pool", "newname"))
    read, home = Command("vol-dumpxml", {"vol": vol, "pool": pool}), Command("vol-pool", {"vol": vol})
    document, found = yield Lookup((read, home))
    try:
        conf = xml.conf(checked(read, document).stdout)
        pool = pool or checked(home, found).stdout.rstrip("\n")
    except KvmError as error:
        return _failed(error, check=check or prints)
    conf["name"] = name
    if prints:
        return conf
    options |= {"pool": pool, "file": xml.to_xml("volume", conf).encode(), "vol": vol, "inputpool": pool}
    return (yield from acting(Command("vol-create-from", options, reads=False, job=command.job), check=check))
