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

    logger = _quiet(name)
    return logger if logger.isEnabledFor(logging.DEBUG) else None


def warn(name: str, message: str, *values: object) -> None:
    """Log a warning for the logger `name`. A program that does not configure logging does not see it."""
    _quiet(name).warning(message, *values)


def _quiet(name: str) -> Logger:
    """The logger `name`; it prints nothing itself, which `logging` would have it do with warnings."""
    import logging

    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
