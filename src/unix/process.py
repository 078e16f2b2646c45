"""Processes of this machine: start one, feed it, read it, and end it with all that it started.

Each gets a session of its own (unless it takes over the terminal), so that it can be ended as a whole and
can never ask anything on the terminal. This is the only room that imports `subprocess`, and it is entered
when the first command runs: importing `unix` stays cheap.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Literal

from unix.errors import CommandTimeoutError
from unix.words import encode

logger = logging.getLogger("unix")
logger.addHandler(logging.NullHandler())

GRACE = 0.5
"""Seconds between asking a process group to end (SIGTERM) and ending it (SIGKILL)."""

_CHUNK = 1 << 16


class Process(subprocess.Popen[bytes]):
    """A running command with three binary pipes. As a context manager it is ended when the block is left.

    What it takes from `subprocess.Popen` works as there: `stdin`, `stdout`, `stderr`, `poll`, `wait`.
    """

    words: list[str]
    owns_group: bool

    def end(self, grace: float = GRACE) -> int:
        """End the process and everything in its process group, close its pipes; its return code.

        The group is asked first (SIGTERM) and killed after `grace` seconds. The process itself is reaped
        last: as long as it is not, no other group can have its number.
        """
        if self.returncode is None:
            self._signal_group(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while not self._has_ended() and time.monotonic() < deadline:
                time.sleep(0.005)
            self._signal_group(signal.SIGKILL)
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return self.wait()

    def __exit__(self, *_: object) -> None:
        self.end()

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.owns_group:
                os.killpg(self.pid, number)
            else:
                self.send_signal(number)


class CannotStartError(Exception):
    """There is no such command (127) or it cannot be started (126): the status and what a shell would say."""

    def __init__(self, return_code: int, message: str) -> None:
        super().__init__(return_code, message)
        self.return_code = return_code
        self.message = message


def start(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    terminal: bool = False,
    stdin: bool = True,
    user: int | None = None,
    group: int | None = None,
    extra_groups: Sequence[int] | None = None,
) -> Process:
    """Start `words` with exactly the environment `env`, as `user` if given; raise `CannotStartError` if it can't.

    Without `stdin` its standard input is empty; `terminal` leaves it this process's own three files.
    """
    logger.debug("start %s", words)
    pipe = None if terminal else subprocess.PIPE
    arguments = [encode(word) for word in words]
    environment = {encode(name): encode(text) for name, text in env.items()}
    try:
        process = Process(
            arguments,
            env=environment,
            stdin=None if terminal else subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=not terminal,
            user=user,
            group=group,
            extra_groups=extra_groups,
        )
    except OSError as error:
        if error.errno in (
            errno.EMFILE,
            errno.ENFILE,
            errno.EAGAIN,
            errno.ENOMEM,
        ):  # of this program, not of the command
            raise
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "command not found" if missing else error.strerror
        raise CannotStartError(127 if missing else 126, f"{words[0]}: {reason}\n") from error
    process.words = list(words)
    process.owns_group = not terminal
    return process


def finish(process: Process, data: bytes | None, timeout: float | None) -> tuple[int, bytes, bytes]:
    """Feed `data` to the process and read both its outputs to their ends; its return code and what it wrote."""
    try:
        stdout, stderr = process.communicate(data, timeout or None)
    except subprocess.TimeoutExpired:
        process.end()
        raise CommandTimeoutError(process.words, timeout or 0) from None
    except BaseException:
        process.end()
        raise
    return process.returncode, stdout, stderr


def lines(process: Process, timeout: float | None) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
    """The lines of both outputs as they come, without their newlines, until the process has ended."""
    deadline = time.monotonic() + timeout if timeout else None
    with selectors.DefaultSelector() as ready:
        rest: dict[Literal["stdout", "stderr"], bytes] = {"stdout": b"", "stderr": b""}
        for name in rest:
            pipe: IO[bytes] | None = getattr(process, name)
            if pipe:
                ready.register(pipe, selectors.EVENT_READ, name)
        while ready.get_map():
            for key, _ in ready.select(_left(process, deadline, timeout)):
                chunk = os.read(key.fd, _CHUNK)
                *whole, rest[key.data] = (rest[key.data] + chunk).split(b"\n")
                for line in whole:
                    yield key.data, line
                if not chunk:
                    ready.unregister(key.fileobj)
                    if rest[key.data]:
                        yield key.data, rest[key.data]
        try:
            process.wait(_left(process, deadline, timeout))
        except subprocess.TimeoutExpired:
            raise CommandTimeoutError(process.words, timeout or 0) from None


def _left(process: Process, deadline: float | None, timeout: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise CommandTimeoutError(process.words, timeout or 0)
    return left


def attend(process: Process, timeout: float | None) -> int:
    """Wait for a process that has the terminal; Ctrl-C is for it and not for us. Its return code."""
    with _interrupts_ignored():
        try:
            return process.wait(timeout or None)
        except subprocess.TimeoutExpired:
            raise CommandTimeoutError(process.words, timeout or 0) from None
        finally:
            process.end()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # a handler, unlike SIG_IGN, is not inherited
    found = signal.signal(signal.SIGINT, nothing)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, found)
