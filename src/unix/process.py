"""Processes: what every running command can do, and those of this machine.

A process here gets a session of its own (unless it takes over the terminal), so that it can be ended as a whole and
can never ask anything on the terminal. This is the only room that imports `subprocess`, and it is entered when the
first command runs: importing `unix` stays cheap.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import subprocess
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Literal, Self, cast

from unix.errors import CommandTimeoutError, OutputTooLongError, UnixError
from unix.log import listener
from unix.words import encode

GRACE = 0.5
"""Seconds between asking a process group to end (SIGTERM) and ending it (SIGKILL)."""

UNKILLABLE = 5.0
"""Seconds after SIGKILL until a process counts as one that may not be killed."""

_CHUNK = 1 << 16

_GLANCE = 0.1
"""Seconds between two looks at what goes on, where nothing else happens."""

_STREAMED = 1 << 20
"""How much is in a pipe at most, where much goes through it."""

TimeoutExpired = subprocess.TimeoutExpired
"""What `Process.wait` raises when the time is up."""


class Process(ABC):
    """A running command with three binary pipes. As a context manager it is ended, with its group, with the block.

    `words` is its command line; `stdin`, `stdout` and `stderr` are its pipes, None where it has none; `pid` is its
    number, and that of its process group, on the host where it runs; `returncode` is None until it is known to have
    ended, and then as in `unix.Result`.
    """

    words: list[str]
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    pid: int
    returncode: int | None

    @abstractmethod
    def poll(self) -> int | None:
        """The return code, or None as long as the process runs."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, for at most `timeout` seconds (`TimeoutExpired`); its return code."""

    @abstractmethod
    def end(self, grace: float = GRACE) -> int:
        """End the process and everything that it started in its process group, close its pipes; its return code.

        They are asked first (SIGTERM), and killed after `grace` seconds.
        """

    @abstractmethod
    def go_on(self) -> None:
        """Send the process the signal USR1."""

    @abstractmethod
    def forget(self) -> None:
        """Let go of it without ending it: in a forked child it is the parent's."""

    def cleaned(self, stderr: bytes) -> bytes:
        """Standard error, or a line of it, without what only tells how the process ended, which is taken note of."""
        return stderr

    def conclude(self) -> None:  # noqa: B027  # nothing to be done here
        """Now that the process has ended and all was read: raise what has become of it if it did not end by itself."""

    def close_pipes(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _leave_pipes(self) -> None:
        """Close the pipes in a forked child: their locks and what they have not written yet are the parent's."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                cast(IO[bytes], getattr(pipe, "raw", pipe)).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class LocalProcess(Process):
    """A process of this machine; `owns_group` if it leads a process group of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], words: Sequence[str], *, owns_group: bool) -> None:
        self._popen = popen
        self.words = list(words)
        self.stdin, self.stdout, self.stderr = popen.stdin, popen.stdout, popen.stderr
        self.pid = popen.pid
        self._owns_group = owns_group

    @property
    def returncode(self) -> int | None:  # type: ignore[override]
        return self._popen.returncode

    def poll(self) -> int | None:
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self._popen.wait(timeout)

    def end(self, grace: float = GRACE) -> int:
        if self._lives():
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self._lives() and time.monotonic() < deadline:
                time.sleep(0.005)
            self._signal(signal.SIGKILL)
        self.close_pipes()
        try:
            return self.wait(UNKILLABLE)
        except TimeoutExpired:
            raise UnixError(f"{self.words[0]} (process {self.pid}) runs as another user and cannot be ended") from None

    def go_on(self) -> None:
        self._popen.send_signal(signal.SIGUSR1)

    def ask_to_end(self) -> None:
        """Ask the process and its group to end (SIGTERM), and leave it to others to wait for that."""
        self._signal(signal.SIGTERM)

    def forget(self) -> None:
        self._leave_pipes()
        self._popen.returncode = 0  # there is nothing here to wait for

    def _lives(self) -> bool:
        """Whether the process or one of its group is still there."""
        if self.poll() is None:
            return True
        if not self._owns_group or os.path.exists(f"/proc/{self.pid}"):  # reaped, so that is another process
            return False
        try:
            os.killpg(self.pid, 0)  # the number of a group stays taken as long as it has members
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal(self, number: int) -> None:
        targets = [-self.pid] if self._owns_group else [self.pid, *_descendants(self.pid)]
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

    def __init__(self, return_code: int, words: Sequence[str], reason: str) -> None:
        super().__init__(return_code, reason)
        self.return_code = return_code
        self.said = f"{words[0]}: {reason}\n".encode("utf-8", "surrogateescape")
        number = errno.ENOENT if return_code == 127 else errno.EACCES
        self.as_os_error = OSError(number, os.strerror(number), words[0])


def start(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    terminal: bool = False,
    own_terminal: bool = False,
    stdin: bool = True,
    named: bool = False,
    stderr: int | None = None,
    user: int | None = None,
    group: int | None = None,
    extra_groups: Sequence[int] | None = None,
) -> LocalProcess:
    """Start `words` with exactly the environment `env`, as `user` if given; raise `CannotStartError` if it can't.

    Without `stdin` its standard input is empty; `terminal` leaves it this process's own three files; `own_terminal`
    gives it a new one instead of pipes, which passes on every byte as it is; its standard error may go to the
    descriptor `stderr`. It may open its standard input as /dev/stdin, and with `named` its standard output as
    /dev/stdout, also as another user.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise UnixError(
            "SIGCHLD is ignored in this program, so that no command's exit status can be known: set it back"
        )
    if logger := listener("unix"):
        logger.debug("start %s", words)
    pipe = None if terminal else subprocess.PIPE
    of_user = None if terminal or own_terminal else user
    ours = theirs = output = filled = None
    if own_terminal:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        stderr = pipe = theirs
    elif stdin and of_user is not None:
        theirs, ours = _pipe_of(of_user)
    if named and of_user is not None:
        output, filled = _pipe_of(of_user)
    try:
        popen = subprocess.Popen(
            [encode(word) for word in words],
            env={encode(name): encode(text) for name, text in env.items()},
            stdin=None if terminal else theirs if theirs is not None else pipe if stdin else subprocess.DEVNULL,
            stdout=pipe if filled is None else filled,
            stderr=pipe if stderr is None else stderr,
            start_new_session=not terminal,
            user=user,
            group=group,
            extra_groups=extra_groups,
        )
    except OSError as error:
        for descriptor in (ours, output):
            if descriptor is not None:
                os.close(descriptor)
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):  # of this program, not the command
            raise
        missing = isinstance(error, FileNotFoundError | NotADirectoryError) or not _is_there(words[0], env)
        reason = "command not found" if missing else str(error.strerror)
        raise CannotStartError(127 if missing else 126, words, reason) from error
    finally:
        for descriptor in (theirs, filled):
            if descriptor is not None:
                os.close(descriptor)
    if own_terminal and ours is not None:
        output = os.dup(ours)
    if ours is not None:
        popen.stdin = open(ours, "wb", buffering=0 if own_terminal else -1)  # noqa: SIM115  # closed with the process
    if output is not None:
        popen.stdout = open(output, "rb", buffering=0 if own_terminal else -1)  # noqa: SIM115  # closed with the process
    return LocalProcess(popen, words, owns_group=not terminal)


def _pipe_of(user: int) -> tuple[int, int]:
    """A pipe that `user` may open by its name: the end to read from, and the end to write to."""
    reading, writing = os.pipe()
    os.fchown(reading, user, -1)
    return reading, writing


def _is_there(program: str, env: Mapping[str, str]) -> bool:
    """Whether there is a file that `program` could mean; execve tells of directories that it may not search."""
    directories = [""] if "/" in program else env.get("PATH", os.defpath).split(":")
    return any(os.path.exists(os.path.join(directory, program)) for directory in directories)


def finish(
    process: Process, data: bytes | None, timeout: float | None, max_output: int | None = None
) -> tuple[int, bytes, bytes]:
    """Feed `data` to the process and read both its outputs to their ends; its return code and what it wrote."""
    stdout: list[bytes] = []
    return_code, stderr = exchange(process, (data or b"",), stdout.append, timeout, max_output=max_output)
    return return_code, b"".join(stdout), stderr


def exchange(
    process: Process,
    pieces: Iterable[bytes],
    take: Callable[[bytes], object],
    timeout: float | None,
    *,
    at_once: int = _CHUNK,
    heed: Callable[[bytes], object] | None = None,
    max_output: int | None = None,
) -> tuple[int, bytes]:
    """Feed `pieces` to the process, have what it writes taken as it comes; its return code and its standard error.

    A piece is asked for when the one before has been written, and none any more once nobody reads them. What `pieces`
    or `take` raise ends the process. `take` is given at most so many bytes `at_once`; `heed` what comes from standard
    error, and nothing ten times a second. `OutputTooLongError` behind `max_output` bytes of both outputs.
    """
    said: list[bytes] = []
    printed = 0
    deadline = _deadline(timeout)
    try:
        for name, chunk in _chunks(process, pieces, deadline, at_once, _GLANCE if heed else None):
            printed += len(chunk)
            _check_size(process, printed, max_output)
            if name == "stderr":
                said.append(chunk)
                if heed:
                    heed(chunk)
            elif chunk:
                take(chunk)
            if chunk:  # what never ceases to come is no reason to go on
                _go_on_until(deadline)
        process.wait(_left(deadline))
    except TimeoutExpired:
        process.end()
        raise CommandTimeoutError(process.words, timeout or 0) from None
    except BaseException:
        process.end()
        raise
    process.close_pipes()
    stderr = process.cleaned(b"".join(said))
    process.conclude()
    return process.returncode or 0, stderr


def stream(
    process: Process,
    pieces: Iterable[bytes],
    take: Callable[[bytes], object],
    timeout: float | None,
    heed: Callable[[bytes], object] | None = None,
) -> tuple[int, bytes]:
    """As `exchange`, for much: its pipes hold as much as the system allows."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _STREAMED)
    return exchange(process, pieces, take, timeout, at_once=_STREAMED, heed=heed)


def lines(process: Process, timeout: float | None) -> Iterator[tuple[_Name, bytes]]:
    """The lines of both outputs as they come, without their newlines, until the process has ended."""
    rest: dict[_Name, list[bytes]] = {"stdout": [], "stderr": []}
    deadline = _deadline(timeout)
    try:
        for name, chunk in _chunks(process, (), deadline):
            first, *others = chunk.split(b"\n")
            rest[name].append(first)
            for line in others:
                whole = b"".join(rest[name])
                yield name, process.cleaned(whole) if name == "stderr" else whole
                rest[name] = [line]
            last = b"".join(rest[name]) if not chunk else b""
            if last := process.cleaned(last) if name == "stderr" else last:
                yield name, last
        process.wait(_left(deadline))
    except TimeoutExpired:
        raise CommandTimeoutError(process.words, timeout or 0) from None
    process.conclude()


_Name = Literal["stdout", "stderr"]


def _chunks(
    process: Process,
    pieces: Iterable[bytes],
    deadline: float | None,
    at_once: int = _CHUNK,
    glance: float | None = None,
) -> Iterator[tuple[_Name, bytes]]:
    """What comes from both outputs, each ended by an empty chunk, while `pieces` are fed to the process.

    If nothing happens for `glance` seconds, there is an empty chunk as well.
    """
    more = filter(None, pieces)
    to_write = memoryview(next(more, b"") if process.stdin else b"")
    with selectors.DefaultSelector() as ready:
        if process.stdin and not to_write:
            _close_input(process)
        elif process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            ready.register(process.stdin, selectors.EVENT_WRITE)
        names: tuple[_Name, ...] = ("stdout", "stderr")
        for name in names:
            if pipe := getattr(process, name):
                ready.register(pipe, selectors.EVENT_READ, name)
        while ready.get_map():
            events = ready.select(min((each for each in (glance, _left(deadline)) if each is not None), default=None))
            if to_write or not events:
                _go_on_until(deadline)
            if not events:
                yield "stderr", b""
            for key, _ in events:
                if key.data is None:
                    rest = _fed(key.fd, to_write)
                    to_write = memoryview(b"") if rest is None else rest or memoryview(next(more, b""))
                    if not to_write:
                        ready.unregister(key.fileobj)
                        _close_input(process)
                    continue
                chunk = os.read(key.fd, at_once)
                if not chunk:
                    ready.unregister(key.fileobj)
                yield key.data, chunk


def _fed(descriptor: int, data: memoryview) -> memoryview | None:
    """What is left of `data` to be written; None if nobody reads it any more."""
    try:
        return data[os.write(descriptor, data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return None


def _close_input(process: Process) -> None:
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _deadline(timeout: float | None) -> float | None:
    return time.monotonic() + timeout if timeout else None


def _go_on_until(deadline: float | None) -> None:
    if _left(deadline) == 0:
        raise TimeoutExpired([], 0)


def _check_size(process: Process, printed: int, max_output: int | None) -> None:
    if max_output is not None and printed > max_output:
        raise OutputTooLongError(process.words, max_output)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)


def attend(process: Process, timeout: float | None) -> int:
    """Wait for a process that has the terminal; Ctrl-C is for it and not for us. Its return code."""
    with _interrupts_ignored():
        try:
            return process.wait(timeout or None)
        except TimeoutExpired:
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
