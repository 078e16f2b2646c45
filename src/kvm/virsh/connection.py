"""Properties of a hypervisor that follow from its connection URI. Pure; no other module of kvm.virsh parses URIs."""

from __future__ import annotations

import re

_EMBEDDED = re.compile(r"[a-z]+:(//)?/embed(?![^?#])")
"""The whole driver runs inside virsh."""

_KEEPS_STATE = re.compile(r"test[+:]|vmware(player|ws|fusion):")
"""The other drivers that lose at least a part of their state with the connection.

The test driver loses all of it, even if a daemon serves it (``test+unix:``). VMware's driver forgets guests that do not
run.
"""

_IN_DAEMON = re.compile(r"(qemu|xen|lxc|ch|bhyve)(\+\w+)?://[^/?#]*/(?!embed\b)")
"""The drivers that are never in virsh itself: it calls a daemon for each command."""


class Connection:
    """A connection to `uri`, which names the driver.

    Attributes:
        uri: The connection URI.
        keeps_state: Whether state is lost with the connection, so that all commands have to go through it.
        is_exclusive: Whether no other virsh can connect to `uri` while this connection is open.
        calls_daemon: Whether the driver is certainly not in virsh itself.
        may_spawn: Whether connecting may start a daemon, which inherits the environment of the virsh that connects.
    """

    __slots__ = ("calls_daemon", "is_exclusive", "keeps_state", "may_spawn", "uri")

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.is_exclusive = _EMBEDDED.match(uri) is not None
        self.keeps_state = self.is_exclusive or _KEEPS_STATE.match(uri) is not None
        self.calls_daemon = _IN_DAEMON.match(uri) is not None
        self.may_spawn = "/session" in uri


def named(uri: str | None) -> Connection | None:
    """Return the connection to `uri`; None for libvirt's default and for an alias, which only libvirt can resolve."""
    return Connection(uri) if uri is not None and ":" in uri else None
