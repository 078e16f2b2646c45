"""Wait for conditions. A test waits for what it needs to see, never for a time in which that should have happened."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMEOUT_S = 60
"""Far beyond what anything takes on a busy machine: it only bounds a test that fails."""


def wait_until(condition: Callable[[], object], describe: Callable[[], object] | None = None) -> None:
    """Wait until `condition` returns something true; fail after `TIMEOUT_S` seconds with what `describe` returns."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(describe() if describe else f"the condition did not hold within {TIMEOUT_S} s")
        time.sleep(0.02)
