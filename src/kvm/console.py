"""A guest's console for a program: bytes in, bytes out.

virsh connects a terminal to the console, so it gets one whose other end is here. virsh's own messages, such as a lost
connection to libvirtd, come on the same terminal, but separate from the guest's bytes: virsh's standard error is a pipe
to a shell, which writes each line to the terminal behind a marker that no guest can know.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import unix
from kvm import units
from kvm.errors import (
    CommandTimeoutError,
    ConnectionLostError,
    InvalidArgumentError,
    KvmError,
    NoVirshError,
    describe,
)
from kvm.virsh.command import failure
from kvm.virsh.outcome import classify, unauthenticated
from kvm.virsh.terminal import MarkedOutput
from unix.controls import Deadline
from unix.process import GRACE, Process, TimeoutExpired

ESCAPE = "\udcff"
"""What ends the connection if it is typed, as virsh's option: the byte 0xff, which is in no text."""

_BANNER = re.compile(rb"Connected to domain [^\n]*\r?\nEscape character is [^\n]*\n\Z")

_QUESTION = re.compile(rb"(?:\A|\n)(?!error: )([^\n]+): \Z")
"""A question for credentials, if no output follows it."""

_QUESTION_S = 0.1
"""Seconds without output after which text that looks like a question is one."""

_REFUSAL_S = 0.2
"""Seconds in which virsh can still report a failure after its banner, as some releases do."""

_PART_S = 1.0
"""Seconds to wait for the rest of a marker, after bytes that may be its beginning."""

_CHUNK = 1 << 16

_MAX_BYTES = 64 << 20
"""Bytes among which `Console.read_until` looks for its pattern at most."""


class Console:
    """A connection to a console or another character device of a guest.

    It is a context manager; `fileno` makes it usable by others, such as ``pexpect.fdpexpect.fdspawn``, as long as it is
    only used through them. One thread at a time uses it. Any thread may close it: then a `read` that waits in
    another thread returns no bytes.
    """

    def __init__(self, process: Process, words: list[str], mark: str, deadline: Deadline) -> None:
        assert process.stdin
        self._process = process
        self._words = words
        self._output = MarkedOutput(mark)
        self._descriptor = process.stdin.fileno()
        self._using = threading.RLock()  # held to use the descriptor, and to close it
        self._waking = threading.RLock()  # held to wake the thread that uses it
        self._wake, self._waker = socket.socketpair()
        self._unread = bytearray()
        self._has_ended = False
        self._failure: KvmError | None = None
        self._close = weakref.finalize(self, _close, process, (self._wake, self._waker), os.getpid())
        os.set_blocking(self._descriptor, False)
        try:
            self._connect(deadline.end, deadline.seconds)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor of the terminal that virsh is on. `ValueError` once it is closed."""
        if self.closed:
            raise ValueError("I/O operation on a closed console")
        return self._descriptor

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._close.alive

    def read(self, size: int = _CHUNK, timeout: float | None = None) -> bytes:
        """Wait for what the guest writes, and read at most `size` bytes of it; none if the guest has ended.

        `CommandTimeoutError` if nothing comes within `timeout` seconds, and `ConnectionLostError` if the connection is
        lost: virsh was killed, or libvirtd has restarted.
        """
        deadline = _deadline(timeout)
        with self._using:
            while not self._unread and not self._has_ended:
                self._fill(deadline, timeout)
            if not self._unread and self._failure:
                raise self._failure
            return self._taken(size)

    def read_until(self, pattern: bytes | re.Pattern[bytes], timeout: float | None = None) -> bytes:
        """Read up to the end of the first match of `pattern`: bytes as they are, or a compiled regular expression.

        `CommandTimeoutError` if it has not come within `timeout` seconds, `ConnectionLostError` if the connection ends
        before, and `KvmError` if it is not in the first 64 MiB; then what has come is still to be read.
        """
        compiled = re.compile(re.escape(pattern)) if isinstance(pattern, bytes) else pattern
        deadline, has_filled = _deadline(timeout), False
        with self._using:
            while (found := compiled.search(self._unread)) is None:
                if self._has_ended:
                    raise self._failure or ConnectionLostError(
                        f"virsh {self._words[0]}: the connection ended before {compiled.pattern!r} was read; the last "
                        f"output is {bytes(self._unread[-200:])!r}",
                        command=self._words,
                    )
                if has_filled:
                    self._check_not_late(deadline, timeout)
                if len(self._unread) > _MAX_BYTES:
                    message = f"{compiled.pattern!r} is not in the first {_MAX_BYTES >> 20} MiB: read these first"
                    raise KvmError(f"virsh {self._words[0]}: {message}", command=self._words)
                self._fill_up(2 * len(self._unread) + _CHUNK, deadline, timeout)
                has_filled = True
            return self._taken(found.end())

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Have the guest read `data`; what it writes meanwhile is kept for `read`.

        `CommandTimeoutError` if that takes more than `timeout` seconds, `ConnectionLostError` if the connection has
        ended. The byte 0xff cannot be written.
        """
        if b"\xff" in data:
            raise InvalidArgumentError(f"virsh {self._words[0]}: the byte 0xff would end the connection")
        deadline, left = _deadline(timeout), memoryview(data)
        with self._using:
            while left:
                if self._has_ended:
                    message = f"virsh {self._words[0]}: the connection ended"
                    raise self._failure or ConnectionLostError(message, command=self._words)
                ready = self._poll(select.POLLIN | select.POLLOUT, deadline, timeout)
                if ready & ~select.POLLOUT:
                    self._fill(deadline, timeout)
                elif ready:
                    with contextlib.suppress(OSError):  # reading notices the end
                        left = left[os.write(self._descriptor, left[:1024]) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and virsh. The guest goes on."""
        self._has_ended = True
        with self._waking:
            if not self.closed:
                self._waker.shutdown(socket.SHUT_WR)
        with self._using, self._waking:
            self._close()

    def _connect(self, deadline: float | None, timeout: float) -> None:
        """Read what virsh says itself, up to where the guest may begin, and not a byte more."""
        while not _BANNER.search(self._unread):
            self._check_not_late(deadline, timeout)
            self._fill(deadline, timeout, 1)
            if self._has_ended:
                raise self._failure or self._unclear_refusal()
            if (question := _QUESTION.search(self._unread)) and not self._is_ready(_QUESTION_S):
                self._process.end(0)  # before its terminal closes, which would be an empty answer
                raise failure(self._words, unauthenticated(question[1].decode("utf-8", "replace")))
        self._unread.clear()
        refused_by = time.monotonic() + _REFUSAL_S
        with contextlib.suppress(CommandTimeoutError):
            while not (self._unread.strip() or self._is_refused or self._has_ended):
                self._fill(refused_by, _REFUSAL_S)
        while self._is_refused and not self._has_ended:
            self._fill(deadline, timeout)
        if not self._unread.strip() and self._failure:  # virsh ends what it prints with an empty line
            raise self._failure

    @property
    def _is_refused(self) -> bool:
        """Return whether virsh has reported an error, after which it ends."""
        return re.search(rb"^error: ", self._output.stderr, re.MULTILINE) is not None

    def _unclear_refusal(self) -> KvmError:
        message = f"virsh {self._words[0]}: virsh ended before it connected; its output is {bytes(self._unread)!r:.200}"
        return ConnectionLostError(message, command=self._words)

    def _taken(self, size: int) -> bytes:
        """Take the first `size` bytes off what has not been read."""
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _fill_up(self, size: int, deadline: float | None, timeout: float | None) -> None:
        """Wait for something to read, and keep all that is there, until `size` bytes are kept."""
        self._fill(deadline, timeout)
        while len(self._unread) < size and not self._has_ended and self._is_ready(0):
            self._fill(deadline, timeout)

    def _fill(self, deadline: float | None, timeout: float | None, size: int = _CHUNK) -> None:
        """Wait for output of the guest or of virsh, and keep it."""
        if self._output.may_be_mark and not self._is_ready(_PART_S):
            self._unread += self._output.release()
            return
        if not self._poll(select.POLLIN, deadline, timeout):
            return
        data = self._read(size)
        self._unread += self._output.feed(data) if data else self._output.release()
        if not data:
            self._has_ended = True
            self._failure = self._why_ended()

    def _why_ended(self) -> KvmError | None:
        """Return why the connection ended; None if virsh ended normally, because the guest did."""
        try:
            code = self._process.wait(GRACE)
        except TimeoutExpired:
            code = 255
        if code == 127:
            return NoVirshError(describe(NoVirshError, "there is no virsh"), command=self._words)
        result = classify(self._words[0], b"", self._output.stderr, reads=True, return_code=code)
        return None if result.status else failure(self._words, result)

    def _poll(self, events: int, deadline: float | None, timeout: float | None) -> int:
        """Wait for one of `events` of the terminal, and return those that have come; none if it is being closed."""
        poll = select.poll()
        poll.register(self._descriptor, events)
        poll.register(self._wake, select.POLLIN)
        ready = poll.poll(None if deadline is None else max(deadline - time.monotonic(), 0) * 1000)
        if not ready:
            raise CommandTimeoutError(f"virsh {self._words[0]}: no output within {timeout:g} s", command=self._words)
        return 0 if self._has_ended else ready[0][1]

    def _check_not_late(self, deadline: float | None, timeout: float | None) -> None:
        """Raise `CommandTimeoutError` behind `deadline`: what never ceases to come may not be what is waited for."""
        if deadline is not None and time.monotonic() > deadline and self._is_ready(0):
            message = f"virsh {self._words[0]}: the expected output did not come within {timeout:g} s"
            raise CommandTimeoutError(message, command=self._words)

    def _is_ready(self, seconds: float) -> bool:
        """Return whether there is something to read within this time."""
        with contextlib.suppress(CommandTimeoutError):
            return bool(self._poll(select.POLLIN, time.monotonic() + seconds, seconds))
        return False

    def _read(self, size: int) -> bytes:
        """What there is to read; nothing at the end, which a terminal shows as an error."""
        try:
            return os.read(self._descriptor, size)
        except OSError:
            return b""


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + units.seconds("timeout", timeout)


def _close(process: Process, waking: Iterable[socket.socket], owner: int) -> None:
    _end(process, owner)
    for each in waking:
        each.close()


def _end(process: Process, owner: int) -> int:
    """End virsh, in good order, which is what it does when its terminal is gone; its return code."""
    if os.getpid() != owner:
        process.forget()
        return 0
    process.close_pipes()
    with contextlib.suppress(TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(unix.UnixError):
        return process.end()
    return 255
