"""A virsh that keeps printing: what it says of events, record by record, from when it listens until it is closed.

A thread reads what comes at once, however slow the one is for whom it is: a virsh that cannot write does not answer
libvirtd either, and loses its connection. virsh does not say when it has begun to listen. Its libvirt can: it is asked
to log its calls to libvirtd on standard error, and the reply to its registration is among them. This log also ends a
virsh whose reader was killed: the next sign of life from libvirtd, in seconds, cannot be written anywhere.

A driver inside virsh (``test:``) calls no libvirtd, so nothing is logged, and nothing delays its registration. To
distinguish the two cases, virsh prints its URI and a sentinel before it registers: a libvirtd was called by then or
not.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import unix
from kvm.errors import CommandTimeoutError, ConnectionLostError, KvmError, NotSupportedError
from kvm.virsh import prompt
from kvm.virsh.command import failure
from kvm.virsh.connection import Connection
from kvm.virsh.outcome import credentials_question, unauthenticated
from kvm.virsh.process import as_virsh_wants, no_virsh
from kvm.virsh.prompt import new_token
from unix.process import Process, TimeoutExpired
from unix.result import Result

ENVIRONMENT = {
    "LIBVIRT_DEBUG": "",
    "LIBVIRT_LOG_FILTERS": "2:rpc.netclient",
    "LIBVIRT_LOG_OUTPUTS": "2:stderr",
}
"""Has libvirt note, on standard error, which calls were made and answered: their numbers, not what was in them."""

_NOTE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: \d+: \w+ : ")
_CALL = b": RPC_CLIENT_"
"""Occurs in every log line about a call to libvirtd."""

_ANSWERED = re.compile(rb"RPC_CLIENT_MSG_RX: .* prog=(\d+) vers=\d+ proc=(\d+) type=1 ")

_KIND = re.compile(rb"[a-z0-9-]+")

_OF_LIBVIRT, _OF_QEMU = b"536903814", b"536903815"
_REGISTRATIONS = {
    *((_OF_LIBVIRT, b"%d" % number) for number in (167, 313, 316, 368, 374, 380)),
    (_OF_QEMU, b"4"),
}
"""The calls of libvirt's protocol that register for events; their numbers are for good."""

_DISCONNECTED = b"error: Disconnected from "
"""What virsh says, and goes on to wait for events that will not come."""

_NOT_THERE = (b"error: failed to get ", b"error: Could not find ")
"""What virsh says before it listens to all, where it should listen to one that is not there."""

_QUIET = 50
"""Milliseconds of silence after which a record whose end cannot be told is taken for whole."""

_REFUSED = 0.1
"""Seconds in which virsh reports that its internal driver has no events."""

_CHUNK = 1 << 16

_MAX_LINES = 64
"""Lines of a record that are searched for its end as they come; a longer one ends with the next record, or silence."""

_MAX_BYTES = 16 << 20
"""Bytes of a record, of a line, and of what virsh says on standard error, at most."""

_LINE_BYTES = 128
"""Bytes that a line counts beside its own, as it takes memory, too."""


class Framing(Protocol):
    """How records are told apart: a line that matches `begins` begins one, and `is_whole` tells some that are over."""

    @property
    def begins(self) -> re.Pattern[bytes]: ...

    def is_whole(self, record: str) -> bool: ...


class Stream:
    """Records from a virsh in a process of its own on `host`, which runs `words` until it is closed.

    It listens when it has been made: what happens from then on is among the records. An error of virsh's is raised
    there, or when all that came before it has been taken. It may be closed by any thread.
    """

    def __init__(self, host: unix.Host, connect: Sequence[str], words: Sequence[str], framing: Framing) -> None:
        self._host = host
        self._words = words
        self._framing = framing
        self._records: deque[str] = deque()
        self._changed = threading.Condition()
        self._failure: KvmError | None = None
        self._is_over = self._is_closed = self._is_connected = self._is_registered = self._is_broken = False
        self._calls_daemon = False
        self._uri = b""
        self._sentinel = new_token()
        self._kinds = self._answers = 0
        self._to_register: int | None = 1
        self._record: list[str] = []
        self._record_size = self._grumbled_size = 0
        self._grumbled: list[bytes] = []
        self._owner = os.getpid()
        before = ["uri", f"echo --err {self._sentinel}"]
        if "--all" in words:  # so many registrations as there are kinds, which virsh tells before it listens
            self._to_register = None
            before.append(f"{words[0]} --list")
        script = "; ".join([*before, " ".join(map(prompt.quoted, words))])
        with contextlib.ExitStack() as undo:
            reading, writing = os.pipe()
            self._wake, self._waker = (undo.enter_context(open(*end, 0)) for end in ((reading, "rb"), (writing, "wb")))
            self._process = _start(host, ["virsh", *connect, script])
            undo.pop_all()  # from here on they end with the process
        if self._process.stdin and self._process.stderr:
            self._process.stdin.close()  # so that a question for credentials gets no answer
        self._thread = threading.Thread(target=self._follow, name=f"virsh {words[0]}", daemon=True)
        try:
            self._thread.start()
            self._await_registration()
        except BaseException:
            self.close()
            raise

    def take(self, deadline: float | None) -> str | None:
        """The next record; None if there is none by `deadline`, or any more because the stream was closed."""
        with self._changed:
            while not self._records and not self._is_over:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            if self._records and not self._is_closed:
                return self._records.popleft()
            if self._failure and not self._is_closed:
                raise self._failure
            return None

    def close(self) -> None:
        """End virsh. Records that nobody has taken are dropped."""
        if os.getpid() != self._owner:  # a forked child: the thread, the lock, and virsh are the parent's
            self._process.forget()
            return
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
            if not self._waker.closed:  # by the thread, under this lock
                self._waker.write(b"x")
        if self._thread not in threading.enumerate():  # it has ended, or could not be started
            self._end()
        elif threading.current_thread() is not self._thread:
            with contextlib.suppress(RuntimeError):  # a Ctrl-C came before it ran
                self._thread.join()

    def _await_registration(self) -> None:
        """Wait until virsh has registered. `CommandTimeoutError`, or the error with which virsh has ended."""
        timeout = self._host.time_limit()
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_registered or self._is_inside or self._is_over, timeout):
                raise CommandTimeoutError(
                    f"virsh {self._words[0]}: no registration for events within {timeout:g} s", command=self._words
                )
            if self._is_inside:
                self._changed.wait_for(lambda: self._is_over, _REFUSED)
            if self._is_inside and Connection(_text(self._uri)).calls_daemon:
                raise NotSupportedError(
                    f"virsh {self._words[0]}: libvirt's client on {self._host} does not log its calls, so the "
                    "registration for events cannot be observed",
                    command=self._words,
                )
            if self._failure and not self._is_registered:
                raise self._failure

    @property
    def _is_inside(self) -> bool:
        """Return whether the driver is inside virsh, which then has connected without a call."""
        return self._is_connected and not self._calls_daemon

    # -- what the thread does

    def _follow(self) -> None:
        """Read until virsh ends, or is to end; then see to it that it has."""
        why: KvmError | None = None
        try:
            why = self._read_all()
        except unix.UnixError as error:
            why = ConnectionLostError(f"virsh {self._words[0]}: {error}", command=self._words)
        finally:
            with self._changed:
                self._failure = why or ConnectionLostError(f"virsh {self._words[0]}: it was given up")
                self._is_over = True
                self._changed.notify_all()
            self._end()

    def _end(self) -> None:
        """End virsh, and close the pipe that wakes the thread. Only the thread does this, if there is one."""
        with contextlib.suppress(unix.UnixError):
            self._process.end()
        with self._changed:  # both at once: `close` writes to the one as long as it is open, for the other to be read
            self._wake.close()
            self._waker.close()

    def _read_all(self) -> KvmError | None:
        """Read until virsh ends; why it did, or None if it is to end."""
        poll, wake = select.poll(), self._wake.fileno()
        poll.register(wake, select.POLLIN)
        outputs: dict[int, _Lines] = {}
        if self._process.stdout:
            outputs[self._process.stdout.fileno()] = _Lines(self._printed)
        if self._process.stderr:
            outputs[self._process.stderr.fileno()] = _Lines(self._noted)
        for descriptor in outputs:
            poll.register(descriptor, select.POLLIN)
        while outputs:
            ready = poll.poll(_QUIET if self._record else None)
            if not ready:
                self._end_record()
            for descriptor, _ in ready:
                if descriptor == wake:
                    return None
                try:
                    data = os.read(descriptor, _CHUNK)
                except OSError:  # the end of a terminal
                    data = b""
                outputs[descriptor].feed(data)
                if outputs[descriptor].size > _MAX_BYTES:
                    self._break_off("a line")
                if not data:
                    poll.unregister(descriptor)
                    del outputs[descriptor]
            if self._is_broken:
                self._end_record()
                return self._error(1)
        self._end_record()
        return self._why_ended()

    def _printed(self, line: bytes) -> None:
        """Take a line from standard output."""
        if self._framing.begins.match(line):
            self._end_record()
            self._record, self._record_size = [_text(line)], len(line)
        elif self._record:
            self._record.append(_text(line))
            self._record_size += len(line) + _LINE_BYTES
            if self._record_size > _MAX_BYTES:
                self._break_off("an event")
        elif _NOTE.match(line) or line.startswith(b"error: "):  # on a terminal both outputs are one
            self._noted(line)
        elif not self._uri:
            self._uri = line
        elif self._to_register is None:
            if _KIND.fullmatch(line):
                self._kinds += 1
            elif not line and self._kinds:
                self._to_register = self._kinds
                self._count()
        if 0 < len(self._record) <= _MAX_LINES and self._framing.is_whole("\n".join(self._record)):
            self._end_record()

    def _noted(self, line: bytes) -> None:
        """Take a line from standard error."""
        if line == f"error: {self._sentinel}".encode():
            with self._changed:
                self._is_connected = True
                self._changed.notify_all()
        elif not _NOTE.match(line):
            self._grumbled.append(line)
            self._grumbled_size += len(line) + _LINE_BYTES
            if self._grumbled_size > _MAX_BYTES:
                self._break_off("errors")
                return
            missing = not self._is_registered and line.startswith(_NOT_THERE)
            self._is_broken = self._is_broken or missing or line.startswith(_DISCONNECTED)
        elif not self._is_registered:
            self._calls_daemon = self._calls_daemon or _CALL in line
            answered = _ANSWERED.search(line)
            if answered and (answered[1], answered[2]) in _REGISTRATIONS:
                self._answers += 1
                self._count()

    def _count(self) -> None:
        """See whether all that is to be registered for has been."""
        if self._to_register is not None and self._answers >= self._to_register and not self._is_broken:
            with self._changed:
                self._is_registered = True
                self._changed.notify_all()

    def _break_off(self, what: str) -> None:
        """Note that virsh prints without end, which ends it."""
        self._record = []
        self._grumbled = [f"error: virsh printed {what} of more than {_MAX_BYTES >> 20} MiB and was ended".encode()]
        self._is_broken = True

    def _end_record(self) -> None:
        if self._record:
            record, self._record = "\n".join(self._record), []
            with self._changed:
                self._records.append(record)
                self._changed.notify_all()

    def _why_ended(self) -> KvmError:
        """Why virsh has ended, which it does not do by itself."""
        try:
            code = self._process.wait(1)
            self._process.conclude()
            code = self._process.returncode or code
        except TimeoutExpired:
            code = 255
        except unix.ConnectionLostError as error:
            return ConnectionLostError(f"virsh {self._words[0]}: {error}", command=self._words)
        if code == 127:
            return no_virsh(self._host)
        if any(line.startswith(b"error: ") for line in self._grumbled):
            return self._error(code)
        return ConnectionLostError(
            f"virsh {self._words[0]}: it has ended, with {code}, and said nothing", command=self._words
        )

    def _error(self, code: int) -> KvmError:
        stderr = b"\n".join(self._grumbled)
        if question := credentials_question(self._uri, stderr):
            return failure(self._words, unauthenticated(question))
        return failure(self._words, Result(code, "", stderr.decode("utf-8", "surrogateescape")))


class _Lines:
    """Bytes, cut into lines for `take`."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest: list[bytes] = []
        self.size = 0
        """Bytes of the line that has not ended yet."""

    def feed(self, data: bytes) -> None:
        """Go on with `data`; none is the end."""
        first, *others = data.split(b"\n")
        self._rest.append(first)
        self.size += len(first)
        for line in others:
            self._take(b"".join(self._rest))
            self._rest, self.size = [line], len(line)
        if not data and (last := b"".join(self._rest)):
            self._rest = []
            self._take(last)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _start(host: unix.Host, words: Sequence[str]) -> Process:
    """Start a virsh whose output comes at once: virsh 7 sees to that on a terminal only, and fills blocks otherwise."""
    with as_virsh_wants(host, ENVIRONMENT):
        try:
            return host.popen(["stdbuf", "-oL", *words])
        except FileNotFoundError:
            pass
        try:
            return host.popen(["/bin/sh", "-c", 'exec "$@" </dev/null', "sh", *words], terminal=True)
        except FileNotFoundError:
            raise no_virsh(host) from None
