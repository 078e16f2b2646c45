"""What a connection URI says about the hypervisor behind it. Pure; no other module of kvm.virsh looks into a URI."""

from __future__ import annotations

import re

_EMBEDDED = re.compile(r"[a-z]+:(//)?/embed(?![^?#])")
"""A whole driver runs in virsh."""

_KEEPS_STATE = re.compile(r"test[+:]|vmware(player|ws|fusion):")
"""The other drivers of which at least a part of the state is gone with the connection.

For the test driver that is all of it, also where a daemon serves it (``test+unix:``). VMware's driver forgets guests
that do not run.
"""

_IN_DAEMON = re.compile(r"(qemu|xen|lxc|ch|bhyve)(\+\w+)?://[^/?#]*/(?!embed\b)")
"""The drivers that are never in virsh itself: it calls a daemon for each command."""


class Connection:
    """A connection to `uri`, which names the driver.

    Attributes:
        uri: The connection URI.
        keeps_state: Whether state is gone with the connection, so that all commands have to go through it.
        is_exclusive: Whether no other virsh can connect to `uri` as long as this connection stands.
        calls_daemon: Whether the driver is certainly not in virsh itself.
        may_spawn: Whether connecting may start a daemon, which takes over the environment of the virsh that connects.
    """

    __slots__ = ("calls_daemon", "is_exclusive", "keeps_state", "may_spawn", "uri")

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.is_exclusive = _EMBEDDED.match(uri) is not None
        self.keeps_state = self.is_exclusive or _KEEPS_STATE.match(uri) is not None
        self.calls_daemon = _IN_DAEMON.match(uri) is not None
        self.may_spawn = "/session" in uri


def named(uri: str | None) -> Connection | None:
    """Return the connection to `uri`; None if only libvirt knows which: its default, or an alias in libvirt.conf."""
    return Connection(uri) if uri is not None and ":" in uri else None
