"""One live virsh: its process and its three pipes.

One loop over whatever is ready, with one deadline: it writes as long as virsh reads and reads as long as virsh writes,
so that no full pipe can stop either. What the bytes mean is the conversation's business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import unix
from kvm.virsh import prompt
from kvm.virsh.process import as_virsh_wants, no_virsh
from kvm.virsh.prompt import Conversation, Reply, new_token

if TYPE_CHECKING:
    from unix.process import Process

_PIPE_SIZE = 1 << 20

_SHORT = 1.0
"""Milliseconds for which standard output may wait to be read: virsh writes it in many small pieces."""


class Session:
    """A virsh on `host`, waiting at its prompt; connected to `uri`, or to virsh's own default.

    It may be used by one thread at a time, and not by a forked child.
    """

    def __init__(self, host: unix.Host, uri: str | None) -> None:
        self._conversation = Conversation(new_token())
        self._process = _start(host, uri)
        self._in, self._out, self._err = (
            pipe.fileno() for pipe in (self._process.stdin, self._process.stdout, self._process.stderr) if pipe
        )
        self._poll = select.poll()
        self._said = select.poll()
        self._said.register(self._err, select.POLLIN)
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._open = {self._out: self._conversation.stdout, self._err: self._conversation.stderr}
        for descriptor in self._open:
            self._poll.register(descriptor, select.POLLIN)

    def exchange(self, commands: Sequence[Sequence[str]], timeout: float | None, take: Callable[[Reply], None]) -> None:
        """Ask all `commands` and give the replies, in order and as they come, to `take`, for at most `timeout` seconds.

        There are fewer replies than commands if virsh ended (`has_ended`) or the time was up; then this is the end of
        the session. `is_reading` tells whether virsh has read the first of the others, `last_words` what it said last.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        to_write = memoryview(b"".join([self._conversation.ask(words) for words in commands]))
        to_write = self._write(to_write)
        left_to_answer = len(commands)
        while left_to_answer and self._out in self._open:
            if not to_write and self._said.poll(_SHORT):
                self._read(self._err)
                self._read(self._out)
            else:
                if to_write:
                    self._poll.register(self._in, select.POLLOUT)
                left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
                ready = self._poll.poll(left)
                if to_write:
                    self._poll.unregister(self._in)
                if not ready:
                    break
                for descriptor, _ in ready:
                    if descriptor == self._in:
                        to_write = self._write(to_write)
                    else:
                        self._read(descriptor)
            for reply in self._conversation.replies():
                left_to_answer -= 1
                take(reply)

    @property
    def has_prompted(self) -> bool:
        """Whether virsh has come to its prompt."""
        return self._conversation.has_prompted

    @property
    def is_reading(self) -> bool:
        """Whether virsh has read, and so may have done, the command that it was to answer next."""
        return self._conversation.is_reading

    @property
    def has_ended(self) -> bool:
        """Whether virsh has closed its output."""
        return self._out not in self._open

    def last_words(self) -> str:
        """What virsh said on standard error before it ended."""
        while self._err in self._open and self._poll.poll(1000):
            self._read(self._err)
        return self._conversation.last_words().decode("utf-8", "surrogateescape")

    def why_ended(self) -> str:
        """Why virsh ended without an error of its own: it was killed, or the connection to its host was lost."""
        try:
            self._process.conclude()
        except unix.ConnectionLostError as error:
            return str(error)
        return "Disconnected from virsh due to its end"

    def close(self) -> int:
        """End virsh, in good order if it does not take long; its return code."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        deadline = time.monotonic() + 0.2
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._process.end()

    def forget(self) -> None:
        """Let go of the pipes without ending virsh: in a forked child it is the parent's."""
        self._process.forget()

    def _write(self, data: memoryview) -> memoryview:
        """Write what the pipe takes of `data`; the rest, or nothing if virsh no longer reads."""
        try:
            while data:
                data = data[os.write(self._in, data) :]
        except BlockingIOError:
            return data
        except BrokenPipeError:
            return data[:0]
        return data

    def _read(self, descriptor: int) -> None:
        if descriptor not in self._open:
            return
        try:
            data = os.read(descriptor, _PIPE_SIZE)
        except BlockingIOError:
            return
        if data:
            self._open[descriptor](data)
        else:
            self._poll.unregister(descriptor)
            if descriptor == self._err:
                self._said.unregister(descriptor)
            del self._open[descriptor]


def _start(host: unix.Host, uri: str | None) -> Process:
    try:
        with as_virsh_wants(host, prompt.ENVIRONMENT):
            return host.popen(["virsh", *([f"--connect={uri}"] if uri is not None else [])])
    except FileNotFoundError:
        raise no_virsh(host) from None
