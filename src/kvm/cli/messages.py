"""Errors as one-line messages, with advice for the command line instead of for Python."""

from __future__ import annotations

import os
import re
import traceback

_ADVICE = (
    (r"; or connect with host_key='accept-new'", ""),
    (r"; a password goes with password=\.\.\.", "; a password goes into an inventory (-i)"),
    (r": give that as password=\.\.\.", ", which goes into an inventory (-i)"),
    (r", which password=\.\.\. does not answer", ", which a password does not answer"),
    (r"(not in PATH \(.*\)), set the control envs=\{'PATH': \.\.\.\}", r"\1, add that directory"),
    (r"named '([0-9]+)' \(an id is given as an int\)", r"with the id or the name '\1'"),
    (r"\b([a-z]\w*)=True\b", lambda match: f"--{match[1].replace('_', '-')}"),
)
"""Patterns of advice for Python in the library's messages, and their replacements for the command line."""

_LONGEST = 2000
"""The longest message, in characters; of a longer one the middle is left out."""


def of_error(error: BaseException) -> str:
    """Return the message of an error, with its notes."""
    from kvm.errors import KvmError
    from unix.errors import UnixError

    if isinstance(error, KvmError | UnixError):
        message = str(error)
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, RecursionError):
        message = "a value is nested too deeply"
    elif isinstance(error, MemoryError):
        message = "there is not enough memory for a value"
    else:
        message = _unexpected(error)
    for pattern, replacement in _ADVICE:
        message = re.sub(pattern, replacement, message)
    parts = (message or type(error).__name__, *getattr(error, "__notes__", ()))
    line = " ".join("; ".join(parts).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def _unexpected(error: BaseException) -> str:
    """Return the message of an error that should not happen, with what is needed to report it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}: {error}; please report this"
