"""Long jobs: how far they are, and how they are cancelled.

Ctrl-C, which has virsh abort a job, needs a terminal: without one most commands do nothing about SIGINT, and to kill
virsh would leave the job to libvirt. So another virsh does what it would do, and has libvirt abort the job; this one
then says how the job has ended. Only if it does not say that in time is the outcome unknown, and said to be. The job
that libvirt knows of can be somebody else's, for which ours has to wait: that one is left alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from unix.result import Result

GLANCE = 0.1
"""Seconds between two looks at whether a job is to be cancelled."""

_AGAIN = 0.2
"""Seconds until libvirt is asked again for a job that it did not know of."""

PATIENCE = 10.0
"""Seconds that a job which is out of time has for being aborted, before its virsh is left to itself."""

Progress = Callable[[float], object]
"""Told how much is done, from 0 to 1."""

_PROGRESS = re.compile(rb"(?:\r|^)[A-Z][A-Za-z ]*: \[ *([0-9.]+) %\]\n?", re.MULTILINE)
"""virsh writes over its line, or, from some release on and where there is no terminal, one below the other."""

_LONGEST = 200


class Cancel(Protocol):
    """What tells whether a job is to be cancelled, such as a `threading.Event`."""

    def is_set(self) -> bool: ...


class Job:
    """What is to be done about a job while it goes on: tell its `progress`, and `cancel` it once that is set."""

    def __init__(self, progress: Progress | None = None, cancel: Cancel | None = None) -> None:
        self.progress = progress
        self.cancel = cancel

    def is_cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    def asked(self, words: Sequence[str]) -> list[str]:
        """The words of its command, and those that make virsh wait for what it does and tell how far that is."""
        waits = words[0].startswith("block") and (self.progress or self.cancel) and "--wait" not in words
        return [*words, *(["--wait"] if waits else []), *(["--verbose"] if self.progress else [])]


class Watch:
    """Watches one run of a job; `abort` tells libvirt to abort it, and gives the result of that."""

    def __init__(self, job: Job, abort: Callable[[], Result], timeout: float | None) -> None:
        self._job = job
        self._abort = abort
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout if timeout else None
        self._told = -1.0
        self._unread = b""
        self._next = 0.0
        self._is_aborted = False
        self.has_begun = False

    def heed(self, said: bytes) -> None:
        """Take what virsh has said by now, and look whether the job is to go on."""
        self.has_begun = True
        self._report(said)
        is_late = self._deadline is not None and time.monotonic() > self._deadline
        if is_late and time.monotonic() > (self._deadline or 0) + PATIENCE:
            raise OutOfTimeError
        if (is_late or self._job.is_cancelled()) and not self._is_aborted and time.monotonic() >= self._next:
            self._is_aborted = self._abort().status
            self._next = time.monotonic() + _AGAIN

    def judged(self, result: Result) -> Result:
        """`result`, when virsh has ended: of a job that was aborted, with why."""
        if result.status or not self._is_aborted:
            return result
        if self._job.is_cancelled():
            why = "it was cancelled"
        else:
            why = f"Timed out during operation: it was aborted after {self._timeout:g} s"
        return Result(result.return_code, result.stdout, f"{result.stderr.rstrip()}\nerror: {why}\n".lstrip())

    def _report(self, said: bytes) -> None:
        if self._job.progress is None:
            return
        self._unread += said
        last = 0
        for found in _PROGRESS.finditer(self._unread):
            last = found.end()
            done = float(found[1]) / 100
            if done > self._told:
                self._told = done
                self._job.progress(done)
        self._unread = self._unread[last:][-_LONGEST:]


class OutOfTimeError(Exception):
    """A job goes on although libvirt was told to abort it."""


class OthersJobError(Exception):
    """What goes on is the job of somebody else, and is left to go on; what ours waits for, or whether, nobody tells."""


OPERATIONS = (
    "unknown",
    "start",
    "save",
    "restore",
    "incoming migration",
    "outgoing migration",
    "snapshot",
    "snapshot revert",
    "dump",
    "backup",
    "snapshot delete",
)
"""What the job of a domain is about, as libvirt numbers it."""

_OF_COMMANDS = {"migrate": "outgoing migration", "save": "save", "managedsave": "save", "dump": "dump"}

_OPERATION = re.compile(r"^operation: ([0-9]+)$", re.MULTILINE)


def has_begun(command: str, raw: str) -> bool:
    """Whether the job of a domain, in libvirt's own figures, can be that of a command.

    False if there is none; `OthersJobError` if it is another one.
    """
    if re.match(r"Job type: +0$", raw, re.MULTILINE):
        return False
    found = _OPERATION.search(raw)
    number = int(found[1]) if found else 0
    operation = OPERATIONS[number] if number < len(OPERATIONS) else str(number)
    if operation != _OF_COMMANDS.get(command):
        raise OthersJobError(f"the domain has another job, {operation}, which was not aborted")
    return True


def without_progress(stderr: bytes) -> bytes:
    """What virsh said beside its progress."""
    return _PROGRESS.sub(b"", stderr)
