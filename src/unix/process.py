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

from unix.errors import CommandTimeoutError, UnixError
from unix.words import encode

logger = logging.getLogger("unix")
logger.addHandler(logging.NullHandler())

GRACE = 0.5
"""Seconds between asking a process group to end (SIGTERM) and ending it (SIGKILL)."""

UNKILLABLE = 5.0
"""Seconds after SIGKILL until a process counts as one that may not be killed."""

_CHUNK = 1 << 16


class Process(subprocess.Popen[bytes]):
    """A running command with three binary pipes. As a context manager it is ended, with its group, with the block.

    What it takes from `subprocess.Popen` works as there: `stdin`, `stdout`, `stderr`, `poll`, `wait`.
    """

    words: list[str]
    owns_group: bool

    def end(self, grace: float = GRACE) -> int:
        """End the process and everything that it started in its process group, close its pipes; its return code.

        They are asked first (SIGTERM), and killed after `grace` seconds.
        """
        if self._lives():
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self._lives() and time.monotonic() < deadline:
                time.sleep(0.005)
            self._signal(signal.SIGKILL)
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            return self.wait(UNKILLABLE)
        except subprocess.TimeoutExpired:
            raise UnixError(f"{self.words[0]} (process {self.pid}) runs as another user and cannot be ended") from None

    def __exit__(self, *_: object) -> None:
        self.end()

    def _lives(self) -> bool:
        """Whether the process or one of its group is still there."""
        if self.poll() is None:
            return True
        if not self.owns_group or os.path.exists(f"/proc/{self.pid}"):  # reaped, so that is another process
            return False
        try:
            os.killpg(self.pid, 0)  # the number of a group stays taken as long as it has members
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal(self, number: int) -> None:
        targets = [-self.pid] if self.owns_group else [self.pid, *_descendants(self.pid)]
        for target in targets if self._lives() else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(target, number)


def _descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and those that they have."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_descendants(child))]


class CannotStartError(Exception):
    """There is no such command (127) or it cannot be started (126): the status and what a shell would say."""

    def __init__(self, return_code: int, message: str) -> None:
        super().__init__(return_code, message)
        self.return_code = return_code
        self.said = message.encode("utf-8", "surrogateescape")


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
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise UnixError(
            "SIGCHLD is ignored in this program, so that no command's exit status can be known: set it back"
        )
    logger.debug("start %s", words)
    pipe = None if terminal else subprocess.PIPE
    ours = theirs = None
    if stdin and user is not None:
        theirs, ours = os.pipe()
        os.fchown(theirs, user, -1)  # so that the command may open /dev/stdin
    try:
        process = Process(
            [encode(word) for word in words],
            env={encode(name): encode(text) for name, text in env.items()},
            stdin=None if terminal else theirs if theirs is not None else pipe if stdin else subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=not terminal,
            user=user,
            group=group,
            extra_groups=extra_groups,
        )
    except OSError as error:
        if ours is not None:
            os.close(ours)
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):  # of this program, not the command
            raise
        missing = isinstance(error, FileNotFoundError | NotADirectoryError) or not _is_there(words[0], env)
        reason = "command not found" if missing else error.strerror
        raise CannotStartError(127 if missing else 126, f"{words[0]}: {reason}\n") from error
    finally:
        if theirs is not None:
            os.close(theirs)
    if ours is not None:
        process.stdin = open(ours, "wb")  # noqa: SIM115  # closed with the process
    process.words = list(words)
    process.owns_group = not terminal
    return process


def _is_there(program: str, env: Mapping[str, str]) -> bool:
    """Whether there is a file that `program` could mean; execve tells of directories that it may not search."""
    directories = [""] if "/" in program else env.get("PATH", os.defpath).split(":")
    return any(os.path.exists(os.path.join(directory, program)) for directory in directories)


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
        rest: dict[Literal["stdout", "stderr"], list[bytes]] = {"stdout": [], "stderr": []}
        for name in rest:
            pipe: IO[bytes] | None = getattr(process, name)
            if pipe:
                ready.register(pipe, selectors.EVENT_READ, name)
        while ready.get_map():
            events = ready.select(_left(deadline))
            if not events:
                raise CommandTimeoutError(process.words, timeout or 0)
            for key, _ in events:
                chunk = os.read(key.fd, _CHUNK)
                first, *others = chunk.split(b"\n")
                rest[key.data].append(first)
                for line in others:
                    yield key.data, b"".join(rest[key.data])
                    rest[key.data] = [line]
                if not chunk:
                    ready.unregister(key.fileobj)
                    if last := b"".join(rest[key.data]):
                        yield key.data, last
        try:
            process.wait(_left(deadline))
        except subprocess.TimeoutExpired:
            raise CommandTimeoutError(process.words, timeout or 0) from None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)


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
