"""Long jobs: how far they are, and how they are cancelled.

Ctrl-C, which has virsh abort a job, needs a terminal: without one most commands do nothing about SIGINT, and to kill
virsh would leave the job to libvirt. So another virsh does what it would do, and has libvirt abort the job; this one
then says how the job has ended. Only if it does not say that in time is the outcome unknown, and said to be. The job
that libvirt knows of can be somebody else's, for which ours has to wait: that one is left alone. What libvirt cannot
abort goes on there, as it does after Ctrl-C, and its outcome is said to be unknown.

Where virsh itself does not tell how far a job is (``--verbose``), libvirt is asked for its figures.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from unix.result import Result

GLANCE = 0.1
"""Seconds between two looks at how far a virsh is, or whether its job is to be cancelled."""

_AGAIN = 0.2
"""Seconds until libvirt is asked again: for a job that it did not know of, or how far one is."""

PATIENCE = 10.0
"""Seconds that a job which is out of time has for being aborted, before its virsh is left to itself."""

_TO_THE_END = 60.0
"""Seconds that a job which is cancelled has before it is out of time, where nothing else bounds it."""

Progress = Callable[[float], object]
"""Told how much is done, from 0 to 1."""

_VERBOSE = {"migrate", "save", "managedsave", "dump", "blockcopy", "blockcommit", "blockpull"}
"""The commands that tell how far they are themselves."""

_PROGRESS = re.compile(rb"(?:\r|^)[A-Z][A-Za-z ]*: \[ *([0-9.]+) %\]\n?", re.MULTILINE)
"""virsh writes over its line, or, from some release on and where there is no terminal, one below the other."""

_LONGEST = 200


class Cancel(Protocol):
    """What tells whether a job is to be cancelled, such as a `threading.Event`."""

    def is_set(self) -> bool: ...


class Job:
    """What is to be done about a job while it goes on: tell its `progress`, and `cancel` it once that is set.

    With either, or if it `waits`, it is waited for where virsh would leave it to libvirt. `domain` and `copy` are what
    it is about, where the command does not say so: a domain, or a volume that is made.
    """

    def __init__(self, progress: Progress | None = None, cancel: Cancel | None = None, *, waits: bool = False) -> None:
        self.progress = progress
        self.cancel = cancel
        self.waits = waits or progress is not None or cancel is not None
        self.domain: str | None = None
        self.copy: Copy | None = None

    def is_cancelled(self) -> bool:
        return self.cancel is not None and self.cancel.is_set()

    def asked(self, words: Sequence[str]) -> list[str]:
        """The words of its command, and those that make virsh wait for what it does and tell how far that is."""
        is_waiting = words[0].startswith("block") and self.waits and "--wait" not in words
        is_verbose = self.progress is not None and words[0] in _VERBOSE
        return [*words, *(["--wait"] if is_waiting else []), *(["--verbose"] if is_verbose else [])]

    def is_silent(self, command: str) -> bool:
        """Whether libvirt is to be asked how far it is."""
        return self.progress is not None and command not in _VERBOSE


class Copy(NamedTuple):
    """A volume that is made as a copy of one that takes up `size` bytes."""

    pool: str
    name: str
    size: int


class Outside(Protocol):
    """A job as others than its own virsh see it."""

    def abort(self) -> Result:
        """Have libvirt abort it, if it has begun. `NotAbortedError` if that is not to be, or cannot be."""

    def how_far(self) -> float | None:
        """How much is done, from 0 to 1; None if libvirt does not tell."""

    def is_endless(self) -> bool:
        """Whether it goes on until somebody ends it."""

    def ended(self) -> Result | None:
        """How it has ended, of one that goes on when its virsh has; None if it still does."""


class Watch:
    """Watches one run of a job."""

    def __init__(self, job: Job, outside: Outside, timeout: float | None, *, asks: bool = False) -> None:
        self._job = job
        self._outside = outside
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout if timeout else None
        self._told = -1.0
        self._unread = b""
        self._next = 0.0
        self._asks = asks
        self._next_question = 0.0
        self._is_aborted = False
        self.has_begun = False

    def heed(self, said: bytes) -> None:
        """Take what virsh has said by now, and look whether the job is to go on."""
        self.has_begun = True
        self._report(said)
        if self._deadline is None and self._job.is_cancelled():
            self._deadline = time.monotonic() + _TO_THE_END
        is_late = self._deadline is not None and time.monotonic() > self._deadline
        if is_late and time.monotonic() > (self._deadline or 0) + PATIENCE:
            raise OutOfTimeError
        if (is_late or self._job.is_cancelled()) and not self._is_aborted and time.monotonic() >= self._next:
            self._is_aborted = self._outside.abort().status
            self._next = time.monotonic() + _AGAIN

    def follow(self, begun: Result) -> Result:
        """How the job has ended whose virsh has ended when it had `begun`."""
        while (result := self._outside.ended()) is None:
            self.heed(b"")
            time.sleep(GLANCE)
        stdout, unknown = begun.stdout + result.stdout, result.outcome_unknown
        return Result(result.return_code, stdout, result.stderr, outcome_unknown=unknown)

    def judged(self, result: Result) -> Result:
        """`result`, when it has ended: of a job that was aborted, with why."""
        if result.status and self._asks:
            self._tell(1.0)
        if result.status or not self._is_aborted:
            return result
        if self._job.is_cancelled():
            why = "it was cancelled"
        else:
            why = f"Timed out during operation: it was aborted after {self._timeout:g} s"
        stderr, unknown = f"error: {why}\n{result.stderr}", result.outcome_unknown
        return Result(result.return_code, result.stdout, stderr, outcome_unknown=unknown)

    def _report(self, said: bytes) -> None:
        if self._job.progress is None:
            return
        if self._asks and time.monotonic() >= self._next_question:
            done = self._outside.how_far()
            self._next_question = time.monotonic() + _AGAIN
            if done is not None:
                self._tell(done)
        self._unread += said
        last = 0
        for found in _PROGRESS.finditer(self._unread):
            last = found.end()
            self._tell(float(found[1]) / 100)
        self._unread = self._unread[last:][-_LONGEST:]

    def _tell(self, done: float) -> None:
        if self._job.progress is not None and done > self._told:
            self._told = done
            tell(self._job.progress, done)


def tell(progress: Progress, done: float) -> None:
    """Tell how much is done. `StoppedError` with what `progress` raises, which is none of ours, whatever it is."""
    try:
        progress(done)
    except BaseException as error:  # noqa: BLE001  # it goes on as it came
        raise StoppedError(error) from None


class StoppedError(Exception):
    """Who was told of the progress has raised `reason`."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


class OutOfTimeError(Exception):
    """A job goes on although libvirt was told to abort it."""


class NotAbortedError(Exception):
    """What goes on is left to go on, and how it ends nobody tells."""


class OthersJobError(NotAbortedError):
    """What goes on is the job of somebody else; what ours waits for, or whether, nobody tells."""


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

_OF_COMMANDS = {
    "migrate": "outgoing migration",
    "save": "save",
    "managedsave": "save",
    "dump": "dump",
    "snapshot-create": "snapshot",
    "snapshot-create-as": "snapshot",
    "backup-begin": "backup",
}

_TYPE = re.compile(r"^Job type: +([0-9]+)$", re.MULTILINE)
_OPERATION = re.compile(r"^operation: ([0-9]+)$", re.MULTILINE)
_MESSAGE = re.compile(r"^errmsg: (.+)$", re.MULTILINE)
_FIGURE = re.compile(r"^((?:data|memory|disk)_(?:total|remaining)): ([0-9]{1,40})$", re.MULTILINE)

_COMPLETED, _FAILED, _CANCELLED = "3", "4", "5"
"""The types of jobs that have ended, as libvirt numbers them."""


def has_begun(command: str, raw: str) -> bool:
    """Whether the job of a domain, in libvirt's own figures, can be that of a command.

    False if there is none; `OthersJobError` if it is another one.
    """
    if (found := _TYPE.search(raw)) and found[1] == "0":
        return False
    if (operation := _operation(raw)) != _OF_COMMANDS.get(command):
        raise OthersJobError(f"the domain has another job, {operation}, which was not aborted")
    return True


def fraction(raw: str) -> float | None:
    """How much is done of the job of a domain, in libvirt's own figures; None if they do not tell."""
    figures = {name: int(figure) for name, figure in _FIGURE.findall(raw)}
    kinds = ("data",) if figures.get("data_total") else ("memory", "disk")
    total = sum(figures.get(f"{kind}_total", 0) for kind in kinds)
    remaining = sum(figures.get(f"{kind}_remaining", 0) for kind in kinds)
    return 1 - remaining / total if total >= remaining and total else None


def conclusion(command: str, raw: str, doubt: str) -> Result:
    """How the last job of a domain has ended, in libvirt's own figures; in `doubt` if it was not that of a command."""
    kind = found[1] if (found := _TYPE.search(raw)) else ""
    told = found[1] if (found := _MESSAGE.search(raw)) else ""
    if _operation(raw) != _OF_COMMANDS.get(command) or kind not in (_COMPLETED, _FAILED, _CANCELLED):
        message = f"error: the job has ended, but libvirt does not report its result{doubt}\n"
        return Result(1, "", message, outcome_unknown=True)
    if kind == _COMPLETED:
        return Result(0, f"{_OF_COMMANDS[command].capitalize()} completed\n", "")
    if kind == _CANCELLED:
        return Result(1, "", f"error: operation aborted: {told or 'the job was cancelled'}\n")
    return Result(1, "", f"error: {told or 'the job has failed, but libvirt does not report why'}\n")


def _operation(raw: str) -> str:
    found = _OPERATION.search(raw)
    number = int(found[1]) if found else 0
    return OPERATIONS[number] if number < len(OPERATIONS) else str(number)


def without_progress(stderr: bytes) -> bytes:
    """What virsh said beside its progress."""
    return _PROGRESS.sub(b"", stderr)
