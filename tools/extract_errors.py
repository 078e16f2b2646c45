#!/usr/bin/env python3
"""List the texts of all errors that virsh itself reports, read from libvirt's sources.

    tools/extract_errors.py LIBVIRT_SOURCE... > tests/virsh_errors.txt

Each line has the class that `kvm.errors` gives to a text, a tab, and the text, with ``%`` for what virsh puts in. The
classes are to be read by a person: what a caller would handle has one of its own, and is not a plain KvmError.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from kvm import errors

_CALL = re.compile(r"vshError\s*\(\s*ctl\s*,")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CONVERSION = re.compile(r"%(?:\d+\$)?(?:ll|l|z)?[sudcxi]")


def texts(source: Path) -> Iterator[str]:
    """The texts of all errors in one libvirt source tree."""
    for file in sorted([*source.glob("tools/virsh*.[ch]"), *source.glob("tools/vsh*.[ch]")]):
        code = re.sub(r"\\\n", "\n", file.read_text(errors="replace"))
        for call in _CALL.finditer(code):
            yield from _alternatives(_arguments(code, call.end()))


def _arguments(code: str, start: int) -> str:
    """The code of the arguments from `start` to the parenthesis that closes them."""
    depth, position = 1, start
    while depth:
        if string := _STRING.match(code, position):
            position = string.end()
            continue
        depth += {"(": 1, ")": -1}.get(code[position], 0)
        position += 1
    return code[start : position - 1]


def _alternatives(arguments: str) -> Iterator[str]:
    """The texts that the first arguments of a call can be; a format that is only ``%s`` leaves it to the next one."""
    format_only = re.match(r'\s*"%s"\s*,', arguments)
    rest = arguments[format_only.end() :] if format_only else arguments
    first = re.split(r"\)\s*,|\"\s*,", rest)[0] + '"'
    for alternative in first.split("?", 1)[-1].split(" : ") if "?" in first and '"?' not in first else [first]:
        text = "".join(_STRING.findall(alternative)).replace('\\"', '"').removesuffix("\\n")
        if text and text != "%s":
            yield _CONVERSION.sub("%", text)


def main() -> None:
    found = {text for source in sys.argv[1:] for text in texts(Path(source))}
    for text in sorted(found):
        kind = type(errors.from_stderr(["x"], f"error: {text.replace('%', '1')}\n", 1))
        print(f"{kind.__name__}\t{text}")


if __name__ == "__main__":
    main()
