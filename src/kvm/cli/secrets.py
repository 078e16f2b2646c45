"""Secrets that are typed, or piped in: never words of a command line, unless the user put them there."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from kvm.cli.arguments import UsageError
from kvm.cli.calls import content


def password(prompt: str) -> str:
    """A password: typed twice on the terminal, or the first line of standard input."""
    if not sys.stdin.isatty():
        line = content("-").partition(b"\n")[0].decode("utf-8", "surrogateescape")
        if not line:
            raise UsageError("there is no password on standard input")
        return line
    import getpass

    from unix.errors import printable

    typed = getpass.getpass(printable(prompt))
    if typed != getpass.getpass("Repeat password: "):
        raise UsageError("the passwords do not match")
    return typed


def secret_value(options: Mapping[str, object]) -> bytes:
    """The value of a secret: from ``--base64``, ``--file`` (base64, or with ``--plain`` as it is), or asked for.

    What is typed, or comes on standard input, is the value as it is.
    """
    if (encoded := options.get("base64")) is not None:
        return _decoded(str(encoded).encode(), "--base64")
    if (file := options.get("file")) is not None:
        found = content(str(file))
        return found if options.get("plain") else _decoded(found, str(file))
    if sys.stdin.isatty():
        return password("Value of the secret: ").encode()
    return content("-")


def _decoded(encoded: bytes, where: str) -> bytes:
    import base64
    import binascii

    try:
        return base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error as error:
        raise UsageError(f"{where} has no base64: {error}; --plain takes a file as it is") from error
