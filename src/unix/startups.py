"""A limit for connections that begin at the same time, because of sshd's MaxStartups.

While more than ten connections to an sshd are not authenticated yet, it drops new ones at random. A program that
connects to many hosts can exceed that at a jump host (ProxyJump), and at an address that many hosts share. So fewer
connections at once begin for each of these, and a connection that was dropped nevertheless is retried.
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
"""Seconds before each retry of a dropped connection, shortened by a random part."""

_UNKNOWN_AT_ONCE = 3
"""The most connections that begin without finding out their gate; most programs have no more."""

_AT_ONCE = 6
"""The most further connections through the same gate (jump host), or to the same address."""

_UNKNOWN = "-"
"""Stands for the gate of a connection that begins without finding it out."""


class _Startups:
    """The connections of this program that are beginning: a token for each, and its gate."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all connections; in a forked child they are the parent's."""
        self._changed = threading.Condition()
        self._gates: dict[object, str] = {}

    def begin(self, token: object, gate: str, most: int, timeout: float) -> bool:
        """Wait for fewer than `most` connections to `gate`, and add one; False after `timeout` seconds."""
        with self._changed:
            is_free = self._changed.wait_for(lambda: [*self._gates.values()].count(gate) < most, max(timeout, 0))
            if is_free:
                self._gates[token] = gate
            return is_free

    def end(self, token: object) -> None:
        """Remove a connection, which was made, has failed, or was never added."""
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
                    f"cannot connect to {destination}: {_AT_ONCE} other connections by way of {gate} were not "
                    f"authenticated within {destination.timeout:g} s"
                )
        yield
    finally:
        _startups.end(token)


def _gate(destination: Destination) -> str:
    """Return the gate: the jump host, proxy command or address to which ssh connects first."""
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
