"""Logging, which loads `logging` only for a warning: that takes longer than loading the rest of this package."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger


def listener(name: str) -> Logger | None:
    """Return the logger `name` if the program uses `logging`, at level DEBUG."""
    if "logging" not in sys.modules:
        return None
    import logging

    logger = _quiet(name)
    return logger if logger.isEnabledFor(logging.DEBUG) else None


def warn(name: str, message: str, *values: object) -> None:
    """Log a warning for the logger `name`. A program that does not configure logging does not see it."""
    _quiet(name).warning(message, *values)


def _quiet(name: str) -> Logger:
    """Return the logger `name`, with a handler that prints nothing: without one, `logging` would print warnings."""
    import logging

    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
