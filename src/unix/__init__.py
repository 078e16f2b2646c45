"""A Unix host as an object: run commands on it, hold one open, stream one, read and write its files.

    >>> import unix
    >>> status, stdout, stderr = unix.Local().execute("uname", s=True)
    >>> stdout
    'Linux\\n'

`Local` is this machine. Standard library only.
"""

from unix.controls import CONTROLS, Control, Controls
from unix.errors import ArgumentError, CommandTimeoutError, ControlError, UnixError, UserError
from unix.host import Host
from unix.local import Local
from unix.result import Result
from unix.words import Argument, Option
from unix.wrapper import Wrapper

__all__ = [
    "CONTROLS",
    "Argument",
    "ArgumentError",
    "CommandTimeoutError",
    "Control",
    "ControlError",
    "Controls",
    "Host",
    "Local",
    "Option",
    "Result",
    "UnixError",
    "UserError",
    "Wrapper",
]
