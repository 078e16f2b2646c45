"""Inventories in ssh_config(5) form: the Host entries without wildcards. ssh itself reads their settings."""

from __future__ import annotations

import glob
import os
import pwd
import re
import shlex
from collections.abc import Iterator

from kvm.inventory._model import MAX_HOSTS, File, Inventory, InventoryError, Settings, is_word

_MAX_DEPTH = 16
"""The deepest nesting of Include that ssh accepts."""


def read(text: str, file: File) -> Inventory:
    """Return the hosts, not the patterns, that an ssh config and the files that it includes name."""
    own = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".ssh")
    path = os.path.abspath(file.name)
    is_default = os.path.realpath(path) == os.path.realpath(os.path.join(own, "config"))
    settings: Settings = {} if is_default else {"config": path}
    hosts = dict.fromkeys(_hosts(text, file, own, [os.path.realpath(path)], set()))
    if not hosts:
        raise file.error("", "no Host entry in it names a host without wildcards")
    if len(hosts) > MAX_HOSTS:
        raise file.error("", f"the file names more than {MAX_HOSTS:,} hosts; split it")
    return Inventory({name: settings.copy() for name in hosts}, {})


def _hosts(text: str, file: File, own: str, within: list[str], read_already: set[str]) -> Iterator[str]:
    """Yield the names of hosts in a file that the files `within` include; each file is read once."""
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*(Host|Include)(?:\s*=\s*|\s+)(.*)", line, re.IGNORECASE)
        if not match:
            continue
        keyword, rest = match.groups()
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:
            raise file.error(f"line {number}", f"a quote in {rest!r} is open; close it") from None
        if not words:
            raise file.error(f"line {number}", f"{keyword} needs a name after it")
        if keyword.lower() == "host":
            yield from (word for word in words if is_word(word) and not re.search(r"[*?!]", word))
            continue
        for word in words:
            pattern = os.path.join(os.path.dirname(own), word[2:]) if word.startswith("~/") else os.path.join(own, word)
            for path in sorted(glob.glob(pattern)):
                real = os.path.realpath(path)
                if real in within or len(within) == _MAX_DEPTH:
                    raise file.error(f"line {number}", "files include one another without end; remove this Include")
                if real in read_already or not os.path.isfile(path):
                    continue
                read_already.add(real)
                included = File(path)
                yield from _hosts(_text(included), included, own, [*within, real], read_already)


def _text(file: File) -> str:
    """Return the content of an included file; like ssh, accept any encoding."""
    try:
        return file.text()
    except InventoryError:
        with open(file.name, encoding="utf-8", errors="replace") as opened:
            return opened.read(1 << 20)
