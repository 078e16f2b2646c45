"""What kind of connection a URI makes: where the state of its hypervisor is. Pure; nothing else looks into a URI."""

from __future__ import annotations

import re
from typing import NamedTuple

_IS_EMBEDDED = re.compile(r"[a-z]+:(//)?/embed(?![^?#])")
"""A whole driver runs in virsh."""

_KEEPS_STATE = re.compile(r"test[+:]|vmware(player|ws|fusion):")
"""The other drivers of which at least a part of the state is gone with the connection.

For the test driver that is all of it, also where a daemon serves it (``test+unix:``). VMware's driver forgets guests
that do not run.
"""


class Connection(NamedTuple):
    """A connection to `uri`, which names the driver."""

    uri: str

    @property
    def keeps_state(self) -> bool:
        """Whether state is gone with the connection, so that all commands have to go through one and the same."""
        return _KEEPS_STATE.match(self.uri) is not None or self.is_exclusive

    @property
    def is_exclusive(self) -> bool:
        """Whether no other virsh can make this connection as long as it stands."""
        return _IS_EMBEDDED.match(self.uri) is not None

    @property
    def may_spawn(self) -> bool:
        """Whether connecting may start a daemon, which takes over the environment of who connects."""
        return "/session" in self.uri


def named(uri: str | None) -> Connection | None:
    """The connection to `uri`; None if only libvirt knows which it is: its default, or an alias in libvirt.conf."""
    return Connection(uri) if uri is not None and ":" in uri else None
