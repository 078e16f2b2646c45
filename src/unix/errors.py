"""What can go wrong before a command gives a Result of its own.

A command that runs and fails is not an error here: its Result says so. Errors of files are Python's own
(`FileNotFoundError`, `PermissionError`, ...), whichever host the file is on.
"""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """Return `text` with unprintable characters escaped (``\\x1b``), except line breaks and tabs.

    Text from guests, hypervisors and files is shown on terminals. Control characters in it could move the cursor, hide
    text, or make the terminal send input as if the user had typed it.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class UnixError(Exception):
    """The base of all errors of this package. As a text it is safe to print: see `printable`."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ControlError(UnixError, ValueError):
    """A control that does not exist, or a value that it cannot have."""


class ArgumentError(UnixError, ValueError):
    """A command line that no process could be given: a NUL byte, an open quote, an object without a text."""


class UserError(UnixError, LookupError):
    """The user of the ``su`` control does not exist on the host."""


class CommandTimeoutError(UnixError, TimeoutError):
    """A command took longer than the ``timeout`` control allows; its whole process group was ended.

    `command` is the command line as a list of words, `timeout` the limit in seconds.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        super().__init__(command, timeout)
        self.command = list(command)
        self.timeout = timeout

    def __str__(self) -> str:
        return printable(f"{self.command[0]} did not end within {self.timeout:g} s and was stopped")


class OutputTooLongError(UnixError):
    """A command printed more than `limit` bytes; its whole process group was ended."""

    def __init__(self, command: Sequence[str], limit: int) -> None:
        super().__init__(command, limit)
        self.command = list(command)
        self.limit = limit

    def __str__(self) -> str:
        return printable(f"{self.command[0]} printed more than {self.limit} bytes and was stopped")


class ConnectError(UnixError, ConnectionError):
    """There is no connection to the host: it does not answer, refuses, or cannot be found. Nothing was run there."""


class HostKeyError(ConnectError):
    """The host's key is unknown, or is not the one that it had before."""


class AuthenticationError(ConnectError):
    """The host refuses this user with these keys or this password."""


class ConnectionLostError(UnixError, ConnectionError):
    """The connection broke; what became of the command is not known."""
