"""A TCP proxy on loopback that delays what goes through it, lets it disappear, or forgets its connections.

As a program, `proxy.py PORT SECONDS`, it prints its own port, and ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
import threading
import time
from collections import deque

_ENDED = b""


class Proxy:
    """Listens on `port` and passes everything on to another port, each way `delay` seconds later; `silent`: never.

    A connection that the other port refuses is reset. `accepted` is the number of connections so far.
    """

    def __init__(self, target: int, delay: float = 0) -> None:
        self.delay = delay
        self.silent = False
        self.accepted = 0
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._under_way: dict[socket.socket, deque[tuple[float, bytes]]] = {}
        self._woken, self._wake = os.pipe()
        self._selector = selectors.DefaultSelector()  # select(2) takes no descriptor above 1023
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Break every connection, and make no more."""
        os.write(self._wake, b"x")
        self._thread.join()
        self._selector.close()
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
            ready = [key.fileobj for key, _ in self._selector.select(wait)]
            if self._woken in ready:
                if os.read(self._woken, 1) == b"x":
                    return
                self._break()
                continue
            for each in ready:
                if each is self._listening:
                    self._accept()
                elif isinstance(each, socket.socket):
                    self._read(each)
            for source in [source for source, packets in self._under_way.items() if packets]:
                self._pass_on(source)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        self.accepted += 1
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            _reset(client)
            return
        self._peers |= {client: server, server: client}
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._under_way[each] = deque()
            self._selector.register(each, selectors.EVENT_READ)

    def _break(self) -> None:
        for each in self._peers:
            self._ignore(each)
            _reset(each)
        self._peers.clear()
        self._under_way.clear()

    def _ignore(self, source: socket.socket) -> None:
        """Read no more from a socket."""
        with contextlib.suppress(KeyError):  # it has ended before
            self._selector.unregister(source)

    def _read(self, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 18)
        except OSError:
            data = _ENDED
        if data == _ENDED:
            self._ignore(source)
        self._under_way[source].append((time.monotonic() + self.delay, data))

    def _pass_on(self, source: socket.socket) -> None:
        packets, now, data = self._under_way[source], time.monotonic(), []
        while packets and packets[0][0] <= now:
            data.append(packets.popleft()[1])
        if not data or self.silent:
            return
        peer = self._peers[source]
        with contextlib.suppress(OSError):
            peer.sendall(b"".join(data))
        if data[-1] == _ENDED:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            del self._under_way[source]
            if peer not in self._under_way:  # both directions have ended
                for each in (source, peer):
                    del self._peers[each]
                    each.close()


def _reset(connection: socket.socket) -> None:
    """Close a connection by a reset, not by an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


if __name__ == "__main__":
    sys.stdout.write(f"{Proxy(int(sys.argv[1]), float(sys.argv[2])).port}\n")
    sys.stdout.flush()
    sys.stdin.read()
