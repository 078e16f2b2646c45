"""How many connections begin at once: sshd's MaxStartups.

While more than ten connections to an sshd are not authenticated yet, it drops new ones at random. A program that
connects to many hosts does that to a gate (ProxyJump) in front of them, and to an address that is many hosts. So there
are fewer at once here for each gate and address, and a connection that was dropped all the same is tried again.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator

from unix.errors import ConnectError, UnixError
from unix.process import finish, start
from unix.ssh import Destination

PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""Seconds before each further try of a connection that was dropped; a random part of that is left out."""

_UNKNOWN_AT_ONCE = 3
"""Connections that begin without a look at where they lead: most programs have no more."""

_AT_ONCE = 6
"""Further ones through the same gate, or to the same address."""

_UNKNOWN = "-"
"""Stands for the gate of a connection that begins without a look at where it leads."""


class _Startups:
    """The connections of this program that are beginning: a token for each, and what it leads to first."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: in a forked child they are the parent's."""
        self._changed = threading.Condition()
        self._gates: dict[object, str] = {}

    def begin(self, token: object, gate: str, most: int, timeout: float) -> bool:
        """Begin with one to `gate` once there are less than `most`; return whether there were within `timeout` s."""
        with self._changed:
            is_free = self._changed.wait_for(lambda: [*self._gates.values()].count(gate) < most, max(timeout, 0))
            if is_free:
                self._gates[token] = gate
            return is_free

    def end(self, token: object) -> None:
        """Note that a connection has begun, or failed, or never came so far."""
        with self._changed:
            self._gates.pop(token, None)
            self._changed.notify_all()


_startups = _Startups()


@contextlib.contextmanager
def startup(destination: Destination, deadline: float) -> Iterator[None]:
    """Wait until one more connection may begin, which it does in the block; `ConnectError` at the `deadline`."""
    token = object()
    try:  # so that a Ctrl-C leaves no token
        if not _startups.begin(token, _UNKNOWN, _UNKNOWN_AT_ONCE, 0):
            gate = _gate(destination)
            if not _startups.begin(token, gate, _AT_ONCE, deadline - time.monotonic()):
                raise ConnectError(
                    f"cannot connect to {destination}: {_AT_ONCE} other connections that lead to {gate} first were not "
                    f"authenticated within {destination.timeout:g} s"
                )
        yield
    finally:
        _startups.end(token)


def _gate(destination: Destination) -> str:
    """Return what ssh connects to first, in the words of its configuration."""
    words = ["ssh", "-G", *destination.options_of_ssh(), "--", destination.host]
    configuration = ""
    with contextlib.suppress(UnixError):
        _, stdout, _ = finish(start(words, env=os.environ, stdin=False), None, destination.timeout)
        configuration = stdout.decode("utf-8", "replace")
    values = dict(re.findall(r"^(proxyjump|proxycommand|hostname|port) (.+)$", configuration, re.MULTILINE))
    jump = values.get("proxyjump", "").partition(",")[0]
    address = f"{values.get('hostname', destination.host)}:{values.get('port', destination.port)}"
    return jump or values.get("proxycommand") or address


os.register_at_fork(after_in_child=_startups.clear)
