"""A TCP proxy on loopback that delays what goes through it, lets it disappear, or forgets its connections.

As a program, `proxy.py PORT SECONDS`, it prints its own port, and ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections import deque

_ENDED = b""


class Proxy:
    """Listens on `port` and passes everything on to another port, each way `delay` seconds later; `silent`: never."""

    def __init__(self, target: int, delay: float = 0) -> None:
        self.delay = delay
        self.silent = False
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._under_way: dict[socket.socket, deque[tuple[float, bytes]]] = {}
        self._open: set[socket.socket] = set()
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Break every connection, and make no more."""
        os.write(self._wake, b"x")
        self._thread.join()
        for each in (self._listening, *self._peers):
            each.close()
        os.close(self._woken)
        os.close(self._wake)

    def forget(self) -> None:
        """Break every connection, and lose what is under way; others can be made at once."""
        os.write(self._wake, b"f")

    def _run(self) -> None:
        """Read as fast as it comes and write when it is due, so that a delay does not make the link narrow."""
        while True:
            due = [packets[0][0] for packets in self._under_way.values() if packets]
            wait = max(min(due) - time.monotonic(), 0) if due else None
            reading: list[int | socket.socket] = [self._woken, self._listening, *self._open]
            ready = select.select(reading, [], [], wait)[0]
            if self._woken in ready:
                if os.read(self._woken, 1) == b"x":
                    return
                self._break()
                continue
            if self._listening in ready:
                self._accept()
            for source in self._open & set(ready):
                self._read(source)
            for source in [source for source, packets in self._under_way.items() if packets]:
                self._pass_on(source)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        self._peers |= {client: server, server: client}
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._under_way[each] = deque()
            self._open.add(each)

    def _break(self) -> None:
        for each in self._peers:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
            each.close()
        for known in (self._peers, self._under_way, self._open):
            known.clear()

    def _read(self, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 18)
        except OSError:
            data = _ENDED
        if data == _ENDED:
            self._open.discard(source)
        self._under_way[source].append((time.monotonic() + self.delay, data))

    def _pass_on(self, source: socket.socket) -> None:
        packets, now, data = self._under_way[source], time.monotonic(), []
        while packets and packets[0][0] <= now:
            data.append(packets.popleft()[1])
        if not data or self.silent:
            return
        with contextlib.suppress(OSError):
            self._peers[source].sendall(b"".join(data))
        if data[-1] == _ENDED:
            with contextlib.suppress(OSError):
                self._peers[source].shutdown(socket.SHUT_WR)
            del self._under_way[source]


if __name__ == "__main__":
    sys.stdout.write(f"{Proxy(int(sys.argv[1]), float(sys.argv[2])).port}\n")
    sys.stdout.flush()
    sys.stdin.read()
