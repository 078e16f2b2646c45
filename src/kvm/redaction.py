"""Find the secrets in commands, and mask them in words and messages; no other module knows what is secret.

A secret is the value of certain options (``set-user-password --password``), a value with such a name in a command for a
guest agent or QEMU's monitor, and, in any text, the password in a URL and what libvirt shows only with
``--security-info``. Errors, results, log lines and kvmctl's output are masked here. These functions raise no errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

MASK = "***"

_OPTIONS = {
    "set-user-password": (("domain", "user", "password"), "password"),
    "secret-set-value": (("secret", "base64"), "base64"),
}
"""The options that can be positional, in virsh's order, and the one that is a secret."""

_FILES = {"secret-set-value"}
"""Commands whose file is a secret."""

_COMMANDS = {"qemu-agent-command", "qemu-monitor-command"}
"""Commands whose argument is itself a command, which may contain secrets."""

_STRING = r'"(?P<secret>(?:[^"\\]|\\.)*)"?'
_IN_TEXT = (
    r"(?<![\w+.-])[A-Za-z][\w+.-]*://[^/\s:@?#]*:(?P<secret>[^/\s@]+)@",
    r"[?&]passw(?:or)?d=(?P<secret>[^&\s'\"]+)",
    r"\bpasswd\\?[\"']?\s*[=:]\s*(?P<quote>\\?[\"'])(?P<secret>.*?)(?:(?P=quote)|$)",
    r"@passwd[\"']\s*:\s*(?P<secret>b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|[^,}]+)",
    r"<cookie\b[^>]*>(?P<secret>[^<]+)",
    rf'"passw(?:or)?d"\s*:\s*{_STRING}',
)
"""Patterns of a secret in any text: in a URL, in XML or a dict of it, in JSON."""

_IN_COMMAND = (
    rf'"(?:[\w-]*(?:pass|secret|token)[\w-]*|data|key|cookie|crypted|buf-b64|input-data)"\s*:\s*{_STRING}',
    r'"(?:arg|env)"\s*:\s*\[(?P<secret>[^\]]*)',
    r"\b(?:set_password|block_passwd)\s+\S+\s+(?P<secret>\S+)",
    r"\bchange\s+\S+\s+password\s+(?P<secret>\S+)",
    r"(?:^|[\s,])(?:[\w.-]*\.)?(?:password|passwd|secret|data|cookie)=(?P<secret>(?:[^,\s]|,,)+)",
)
"""Patterns of a secret in a command for a guest agent or QEMU's monitor, in JSON or as people type it."""

_IMAGES = {"qemu-img", "qemu-nbd"}
"""Programs whose options may have secrets, although they can read them from elsewhere."""

_IN_OPTIONS = (
    r"^(?=.*\bsecret\b)(?:.*?[,=])?data=(?P<secret>(?:[^,]|,,)+)",
    rf'"(?:[\w.-]*\.)?(?:passw(?:or)?d|cookie|key|data)"\s*:\s*{_STRING}',
    r"(?:^|[,=])(?:[\w-]+\.)*(?:passw(?:or)?d|cookie)=(?P<secret>(?:[^,]|,,)+)",
    r"\brbd:.*:key=(?P<secret>[^:]+)",
)
"""Patterns of a secret in an option of such a program, and in the name of an image."""

_HOLDING = {*_OPTIONS, *_COMMANDS, *_IMAGES}

_SHORT = 4
"""A secret with fewer characters may occur in any text by chance, so it is only masked where it is quoted."""


def secrets(words: Sequence[str]) -> list[str]:
    """Return the secrets in the words of a command of virsh, or of qemu-img."""
    line = " ".join(words)
    if _HOLDING.isdisjoint(words) and not _may_be_in(line):
        return []
    return list(dict.fromkeys(line[start:end] for start, end in _places(words, line)))


def masked_words(words: Sequence[str]) -> list[str]:
    """Return the words of such a command, with the secrets masked."""
    line, found, start = " ".join(words), [], 0
    places = _places(words, line)
    for word in words:
        end = start + len(word)
        inside = sorted((max(a, start) - start, min(b, end) - start) for a, b in places if a < end and b > start)
        found.append(_without(word, inside))
        start = end + 1
    return found


def holds_secrets(command: str) -> bool:
    """Return whether a command has an argument that is, or may contain, a secret."""
    return command in _HOLDING


def secrets_in_files(command: str, texts: Sequence[str]) -> list[str]:
    """Return the secrets in the files, mostly documents, of a command of virsh."""
    if command in _FILES:
        return [*texts]
    return [text[start:end] for text in texts if _may_be_in(text) for start, end in _matches(_IN_TEXT, text)]


def masked(text: str, hidden: Sequence[str] = ()) -> str:
    """Return a text in which everything that looks like a secret, and all of `hidden` in any quoting, is masked."""
    if _may_be_in(text):
        text = _without(text, sorted(_matches(_IN_TEXT, text)))
    forms = {form for secret in hidden for form in _forms(secret)} - {"", MASK}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) < _SHORT:
            text = re.sub(rf"(?<=['\"=]){re.escape(form)}(?=['\",\s]|$)", MASK, text)
        else:
            text = text.replace(form, MASK)
    return text


def _may_be_in(text: str) -> bool:
    return "://" in text or "passw" in text or "<cookie" in text


def _places(words: Sequence[str], line: str) -> list[tuple[int, int]]:
    """Return the positions of the secrets in a command's words, within the line that they form."""
    found = list(_matches(_IN_TEXT, line))
    # virsh options, or another command that its prompt does not accept, may come before the command
    first = next((place for place, word in enumerate(words) if word in _HOLDING), len(words))
    words, offset = words[first:], sum(len(word) + 1 for word in words[:first])
    if words and words[0] in _COMMANDS:  # the inner command may be in several words
        found += _matches(_IN_COMMAND, line)
    elif words:
        starts = [offset + sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
        inside = _values(words) if words[0] in _OPTIONS else _in_options(words)
        found += [(starts[place] + start, starts[place] + end) for place, start, end in inside]
    return [(start, end) for start, end in found if start < end]


def _in_options(words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the words that contain a secret, and its position."""
    for place, word in enumerate(words):
        yield from ((place, start, end) for start, end in _matches(_IN_OPTIONS, word))


def _values(words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the words that contain the value of a secret option, and its position."""
    order, secret = _OPTIONS[words[0]]
    bare: list[int] = []
    given: set[str] = set()
    is_next = has_ended = False
    before = ""
    for place, word in enumerate(words[1:], 1):
        name, has_value, _ = word[2:].partition("=")
        if is_next:  # --password VALUE
            is_next = False
            if before == secret:
                yield place, 0, len(word)
        elif word == "--" and not has_ended:
            has_ended = True
        elif has_ended or not word.startswith("--"):
            bare.append(place)
        elif name in order:
            given.add(name)
            is_next, before = not has_value, name
            if has_value and name == secret:
                yield place, len(name) + 3, len(word)
    left = [name for name in order if name not in given]
    if secret in left:  # the text after the last one may be a part of it
        yield from ((place, 0, len(words[place])) for place in bare[left.index(secret) :])


def _matches(patterns: Sequence[str], text: str) -> Iterator[tuple[int, int]]:
    for pattern in patterns:
        yield from (found.span("secret") for found in _compiled(pattern).finditer(text))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


def _without(text: str, places: Sequence[tuple[int, int]]) -> str:
    """Return a text with certain places masked; they are in order and may overlap."""
    parts, position = [], 0
    for start, end in places:
        if end > position and start < end:
            parts += [text[position : max(start, position)], MASK] if start >= position else []
            position = end
    return "".join([*parts, text[position:]])


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret may be repeated: unchanged, in XML, in Python, in JSON."""
    yield secret
    yield secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield secret.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    yield repr(secret)[1:-1]
    yield secret.replace("\\", "\\\\").replace('"', '\\"')
    if "\\" in secret or '"' in secret:  # as JSON has it, or several of them
        yield from (each for each in re.findall(r'"((?:[^"\\]|\\.)*)"', secret) if len(each) >= _SHORT)
        yield re.sub(r"\\(.)", r"\1", secret)
