"""Writing to standard output and standard error; no other module of kvmctl does.

On a terminal, control characters in the text of guests, hypervisors and files are escaped. In a pipe or a file, data is
written exactly. Messages are always escaped; if standard error is closed or full, only messages are lost.
"""

from __future__ import annotations

import errno
import os
import sys

CANNOT_WRITE = 3
"""The exit status when all was done but the output could not be written."""

_BROKEN_PIPE = 141
"""The exit status when the reader of the output has ended: 128 and the number of SIGPIPE."""


class OutputError(Exception):
    """Standard output cannot be written to; `status` is the exit status. The text is empty for a broken pipe."""

    def __init__(self, error: OSError) -> None:
        is_broken = error.errno == errno.EPIPE
        super().__init__("" if is_broken else f"cannot write to standard output: {error.strerror}")
        self.status = _BROKEN_PIPE if is_broken else CANNOT_WRITE


def open_standard_streams() -> None:
    """Open the descriptors 0 to 2 if they are closed, so that no other file gets these numbers.

    They are opened in the wrong direction: reading standard input, or writing the others, still fails with EBADF.
    """
    for number, name, wrong_mode in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, wrong_mode)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def write(text: str) -> None:
    """Write text to standard output: exactly, or escaped (`unix.errors.printable`) on a terminal."""
    if os.isatty(1):
        from unix.errors import printable

        text = printable(text)
    write_styled(text)


def write_styled(text: str) -> None:
    """Write text whose values are escaped already, and which may have our own escape sequences for colours."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def write_bytes(content: bytes) -> None:
    """Write bytes to standard output, exactly."""
    data = memoryview(content)
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        raise OutputError(error) from error


def complain(message: str, end: str = "\n") -> None:
    """Write a message to standard error; ignore a standard error that is closed or full."""
    from unix.errors import printable

    data = memoryview(f"{printable(message)}{end}".encode("utf-8", "replace"))
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        return
