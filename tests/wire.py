"""A Unix socket that passes everything on to another one, and keeps what was sent to it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path


class Wire:
    """Listens at `path` and passes everything on to the socket at `target`; `sent` is what clients have sent."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.sent = bytearray()
        self._target = target
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._start(self._accept)

    def move(self, target: Path) -> None:
        """Break all connections, and pass those that come on to `target`."""
        self._target = target
        for end in [*self._ends]:
            with contextlib.suppress(OSError):  # it is closed
                end.shutdown(socket.SHUT_RDWR)

    def has_sent(self, text: str) -> bool:
        """Whether clients have sent a text; libvirt's protocol has three zero bytes before each of some characters."""
        return text.encode().replace(b"\0", b"") in bytes(self.sent).replace(b"\0", b"")

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads.pop(0).join()
        self._listening.close()
        self.move(self._target)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *ends: socket.socket) -> None:
        thread = threading.Thread(target=target, args=ends, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._target))
                self._ends += [client, server]
                self._start(self._pass_on, client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if end is client:
                        self.sent += data
                    (server if end is client else client).sendall(data)
