"""Ports for the servers that tests start.

Programs are told a port before they listen to it, and meanwhile it looks free to everybody else: to other tests, to
another libvirtd, and, where the kernel chooses ports for connections, to these. So ports are claimed, below those that
the kernel chooses.
"""

from __future__ import annotations

import functools
import itertools
import socket
from collections.abc import Iterator

_FIRST, _LAST = 10000, 32767


class Ports:
    """`COUNT` ports from `first` on, which no other program of the tests claims until they are closed."""

    COUNT = 128

    def __init__(self) -> None:
        self._claim = socket.socket(socket.AF_UNIX)
        for first in range(_FIRST, _LAST - self.COUNT, self.COUNT):
            try:
                self._claim.bind(f"\0kvm-tests-ports-{first}")  # an abstract name, which ends with its process
            except OSError:
                continue
            self.first = first
            return
        raise RuntimeError("other tests have claimed all ports")

    def close(self) -> None:
        self._claim.close()


@functools.cache
def _own() -> tuple[Ports, Iterator[int]]:
    """The ports of this process, and the order in which they are given."""
    ports = Ports()
    return ports, itertools.cycle(range(ports.first, ports.first + ports.COUNT))


def free_port() -> int:
    """A port of 127.0.0.1 to which nothing listens."""
    for port in itertools.islice(_own()[1], Ports.COUNT):
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("all ports of this process are in use")
