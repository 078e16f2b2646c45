"""A Unix host as an object: run commands on it, hold one open, stream one, read and write its files.

    >>> import unix
    >>> status, stdout, stderr = unix.Local().execute("uname", s=True)
    >>> stdout
    'Linux\\n'

`Local` is this machine, `Remote` any that OpenSSH reaches. Standard library only.
"""

from typing import TYPE_CHECKING

from unix.controls import CONTROLS, Control, Controls
from unix.errors import (
    ArgumentError,
    AuthenticationError,
    CommandTimeoutError,
    ConnectError,
    ConnectionLostError,
    ControlError,
    HostKeyError,
    UnixError,
    UserError,
)
from unix.host import Host
from unix.local import Local
from unix.result import Result
from unix.words import Argument, Option
from unix.wrapper import Wrapper

if TYPE_CHECKING:
    from unix.remote import Remote, connect

__all__ = [
    "CONTROLS",
    "Argument",
    "ArgumentError",
    "AuthenticationError",
    "CommandTimeoutError",
    "ConnectError",
    "ConnectionLostError",
    "Control",
    "ControlError",
    "Controls",
    "Host",
    "HostKeyError",
    "Local",
    "Option",
    "Remote",
    "Result",
    "UnixError",
    "UserError",
    "Wrapper",
    "connect",
]


def __getattr__(name: str) -> object:
    """What is about other machines is loaded when it is first asked for."""
    if name not in ("Remote", "connect"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from unix import remote

    return globals().setdefault(name, getattr(remote, name))
