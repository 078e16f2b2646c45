"""The protocol that OpenSSH speaks on its control socket, as far as sessions need it (its PROTOCOL.mux).

Numbers are big-endian; a message is its length, its type, and its fields. Nothing here waits: bytes to messages and
back. The process at the other end of the socket is the connection's own ``ssh``; it is sent the descriptors of a
command's three pipes, copies between them and the remote command, and tells the exit status.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VERSION = 4
HELLO = 0x00000001
NEW_SESSION = 0x10000002
DENIED = 0x80000002
FAILURE = 0x80000003
EXIT_MESSAGE = 0x80000004
SESSION_OPENED = 0x80000006

_NO_ESCAPE = 0xFFFFFFFF


class Message(NamedTuple):
    """A message from ssh: its type, its first two numbers (0 where it has none), and the rest."""

    kind: int
    first: int
    second: int
    rest: bytes

    def reason(self) -> str:
        """Why something was denied or failed."""
        return self.rest.decode("utf-8", "replace")


def hello() -> bytes:
    """What each side says first."""
    return _message(HELLO, VERSION)


def new_session(command: str) -> bytes:
    """The request to run `command`, without a terminal; the descriptors of its three files follow.

    The agent is forwarded if the connection's configuration says so.
    """
    tty, x11, agent, subsystem = 0, 0, 1, 0
    return _message(NEW_SESSION, 0, b"", tty, x11, agent, subsystem, _NO_ESCAPE, b"", command.encode())


def taken(data: bytearray) -> Message | None:
    """The first whole message in `data`, which is taken out of it; None if there is none yet."""
    if len(data) < 4 or len(data) < 4 + (length := int.from_bytes(data[:4], "big")):
        return None
    body = bytes(data[4 : 4 + length]).ljust(16, b"\0")
    del data[: 4 + length]
    kind, first, second = struct.unpack_from(">III", body)
    return Message(kind, first, second, body[12 : 12 + second] if kind in (DENIED, FAILURE) else b"")


def _message(kind: int, *fields: int | bytes) -> bytes:
    body = struct.pack(">I", kind)
    for field in fields:
        body += struct.pack(">I", field) if isinstance(field, int) else struct.pack(">I", len(field)) + field
    return struct.pack(">I", len(body)) + body
