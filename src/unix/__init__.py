"""A Unix host as an object: run commands on it, hold one open, stream one, read and write its files.

    >>> import unix
    >>> status, stdout, stderr = unix.Local().execute("uname", s=True)
    >>> stdout
    'Linux\\n'

`Local` is this machine, `Remote` any that OpenSSH reaches. Standard library only.
Each name is loaded when it is first asked for.
"""

TYPE_CHECKING = False  # as in typing, which takes longer to load than all of this
if TYPE_CHECKING:
    from unix.controls import CONTROLS, Control, Controls
    from unix.errors import (
        ArgumentError,
        AuthenticationError,
        CommandTimeoutError,
        ConnectError,
        ConnectionLostError,
        ControlError,
        HostKeyError,
        OutputTooLongError,
        UnixError,
        UserError,
    )
    from unix.host import Host
    from unix.local import Local
    from unix.remote import Remote, connect
    from unix.result import Result
    from unix.words import Argument, Option
    from unix.wrapper import Wrapper

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
    "OutputTooLongError",
    "Remote",
    "Result",
    "UnixError",
    "UserError",
    "Wrapper",
    "connect",
]


_HOMES = {
    "CONTROLS": "controls", "Control": "controls", "Controls": "controls",
    "Argument": "words", "Option": "words",
    "Host": "host", "Local": "local", "Remote": "remote", "connect": "remote", "Result": "result", "Wrapper": "wrapper",
}  # fmt: skip
"""The modules that names are in; all others are errors."""

_MODULES = {"controls", "errors", "host", "local", "remote", "result", "words", "wrapper"}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return __import__(f"unix.{name}", fromlist=[name])
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"unix.{_HOMES.get(name, 'errors')}", fromlist=[name])
    return globals().setdefault(name, getattr(module, name))
