"""How commands end: done, failed, or lost, and then the outcome of an action is unknown.

A session, a one-shot command, a job and a transfer all have their results classified here, so that the same loss has
the same result in each of them.

What virsh prints proves that an action failed only if it is libvirt's answer. If the connection breaks, or virsh is
killed, libvirt may go on and finish the action.
"""

from __future__ import annotations

import re
import signal

from kvm.errors import CommandTimeoutError, ConnectionLostError
from kvm.virsh import manners
from kvm.virsh.command import failure
from unix.result import Result

_NO_ANSWER = "error: Timed out during operation: virsh did not answer"
"""Begins the error of a command without a reply in time."""

_NOT_CONNECTED = b"failed to connect to the hypervisor"
"""Follows ``error: ``, which virsh writes separately, so that a line of libvirt's log can come in between."""

_ANSWER = re.compile(r"^error: .*\n", re.MULTILINE)
"""A complete error message of virsh. Without the newline it was cut off."""

_NOT_BEGUN = re.compile(manners.NEWS.decode() + r"error: Failed to reconnect to the hypervisor\n")
"""virsh reconnects before it begins with a command, so then the command was not begun."""


def classify(name: str, stdout: bytes, stderr: bytes, *, reads: bool, return_code: int = 0) -> Result:
    """Return the result of a command, from its output at the prompt or in a one-shot virsh.

    Args:
        name: The name of the command.
        reads: Whether it only reads; otherwise it is an action.
        return_code: The exit status of a one-shot virsh; 0 at the prompt, which has none.
    """
    result = manners.judged(name, stdout, stderr, reads=reads, return_code=return_code)
    if result.status:
        return result
    doubt = "" if reads else unknown(name)
    if return_code and (how := _unexpected_end(name, result)):
        message = f"error: {how}{doubt}\n{result.stderr}"  # the first message decides on the class
        return Result(return_code, result.stdout, message, outcome_unknown=not reads)
    if not reads and (manners.is_undecided(result.stderr) or _is_lost_under_way(name, result)):
        noted = f"{_whole(result.stderr)}error: {doubt.removeprefix('; ')}\n"
        return Result(result.return_code, result.stdout, noted, outcome_unknown=True)
    return result


def unknown(name: str) -> str:
    """Return the end of a message about an action whose outcome is unknown; the reason comes before it."""
    return f"; the outcome of {name} is unknown"


def timed_out(timeout: float, doubt: str = "") -> Result:
    """Return the result of a command without a reply in `timeout` seconds; `doubt` (see `unknown`) if it had begun."""
    return Result(255, "", f"{_NO_ANSWER} within {timeout:g} s{doubt}\n", outcome_unknown=bool(doubt))


def not_asked() -> Result:
    """Return the result of a command that did not run, because an earlier one had no reply in time."""
    return Result(255, "", f"{_NO_ANSWER} an earlier command, so this one was not begun\n")


def is_unanswered(result: Result) -> bool:
    """Return whether virsh itself gave no reply in time; libvirt can also answer that an operation timed out."""
    return result.return_code == 255 and result.stderr.startswith(_NO_ANSWER)


def too_long(limit: int, doubt: str = "") -> Result:
    """Return the result of a command whose output exceeds `limit` bytes; `doubt` (see `unknown`) if it is an action."""
    message = f"error: virsh printed more than {limit >> 20} MiB for one command and was ended{doubt}\n"
    return Result(255, "", message, outcome_unknown=bool(doubt))


def lost(why: str, doubt: str) -> Result:
    """Return the result of a command that was running when its connection or its virsh was lost."""
    return Result(255, "", f"error: {why}{doubt}\n", outcome_unknown=bool(doubt))


def unreached(error: Exception) -> Result:
    """Return the result of a command that did not run, because the host cannot be reached."""
    return Result(255, "", f"error: {error}\n")


def unauthenticated(question: str) -> Result:
    """Return the result of a command for which libvirt wanted credentials; `question` begins with what it asked."""
    first = question.strip().partition(": ")[0].removesuffix(":")
    return Result(255, "", f"error: authentication required: libvirt asks {first!r}\n")


def credentials_question(stdout: bytes, stderr: bytes) -> str:
    """Return the question for credentials that made a one-shot virsh fail to connect; empty if there was none.

    A question has no newline. It is the only text on standard output; if that and standard error are one stream, it
    comes before the error.
    """
    if _NOT_CONNECTED not in stdout + stderr:
        return ""
    on_its_own, before_error = (output.partition(_NOT_CONNECTED)[0] for output in (stdout, stderr))
    question = on_its_own.strip() or before_error.rpartition(b"\n")[2]
    return question.strip().removesuffix(b"error:").decode("utf-8", "replace")


def is_lost(name: str, result: Result) -> bool:
    """Return whether a command failed because its connection, or its virsh, was lost."""
    return not result.status and isinstance(failure([name], result), ConnectionLostError)


def is_broken_off(name: str, result: Result) -> bool:
    """Return whether a command was lost, or ran out of time."""
    return not result.status and isinstance(failure([name], result), ConnectionLostError | CommandTimeoutError)


def _unexpected_end(name: str, result: Result) -> str:
    """Return how virsh has ended without an answer from libvirt; empty if there was an answer.

    virsh itself exits with 0 or 1. Above 128 a shell, sudo or ssh means that a signal ended it.
    """
    code = result.return_code
    if _ANSWER.search(result.stderr):
        return ""
    if code < 0:
        return f"virsh ended unexpectedly, by {_signal(-code)}"
    if code > 128:
        return f"virsh ended unexpectedly, with the status {code}"
    if result.stdout.strip() or result.stderr.strip() or manners.says_no(name, result.stdout):
        return ""
    return f"virsh ended unexpectedly, with the status {code} and without an error message"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_lost_under_way(name: str, result: Result) -> bool:
    """Return whether an action that had begun failed because virsh lost its connection to libvirt."""
    return is_lost(name, result) and not _NOT_BEGUN.match(result.stderr)


def _whole(stderr: str) -> str:
    """Return `stderr` with a newline at its end, if there is anything in it."""
    return f"{stderr.rstrip()}\n" if stderr.strip() else ""
