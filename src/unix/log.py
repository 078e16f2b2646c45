"""What is logged: nothing until the program loads `logging` itself, which takes longer than all that is here."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger


def listener(name: str) -> Logger | None:
    """The logger `name`, if somebody wants to hear what it has to say at DEBUG."""
    if "logging" not in sys.modules:
        return None
    import logging

    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger if logger.isEnabledFor(logging.DEBUG) else None
