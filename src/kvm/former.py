"""Names of kvm 1.1.1 that nothing here needs, for programs that were written for it.

The states are what `domain.state` and `domain.list` say. virsh has never called a domain that shuts down ``shutdown``,
as 1.1.1 had it, and calls none ``dying``, which is kept for the name alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvm.errors import CommandTimeoutError

RUNNING = "running"
IDLE = "idle"
PAUSED = "paused"
SHUTDOWN = "in shutdown"
SHUTOFF = "shut off"
CRASHED = "crashed"
DYING = "dying"
SUSPENDED = "pmsuspended"

TimeoutException = CommandTimeoutError
"""Another name of `CommandTimeoutError`."""


def pprint(value: Any) -> Any:
    """A copy of `value` in plain dicts and lists; whatever comes from here is made of these already."""
    if isinstance(value, Mapping):
        return {key: pprint(each) for key, each in value.items()}
    return [pprint(each) for each in value] if isinstance(value, list) else value
