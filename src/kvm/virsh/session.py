"""One live virsh: its process and its three pipes; and the loop over one or several that have been asked.

It is one loop over whatever is ready, with one deadline: it writes as long as virsh reads and reads as long as virsh
writes, so that no full pipe can stop either. What the bytes mean is the conversation's business.

libvirt may ask for credentials whenever virsh connects, and takes the next input of virsh as the answer. So nothing is
written before the first prompt, and a command with a secret only after all replies before it: then virsh reads it at
its prompt, even if it has to reconnect afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import unix
from kvm import redaction
from kvm.virsh import prompt
from kvm.virsh.process import as_virsh_wants, no_virsh
from kvm.virsh.prompt import Conversation, Reply, new_token

if TYPE_CHECKING:
    from unix.process import Process

_PIPE_SIZE = 1 << 20

_SHORT = 1.0
"""Milliseconds for which standard output may wait to be read: virsh writes it in many small pieces."""


class Session:
    """A virsh on `host` that connects to `uri`, and then reads commands at its prompt; with `envs` added.

    It may be used by one thread at a time, and not by a forked child.
    """

    def __init__(self, host: unix.Host, uri: str, envs: Mapping[str, str] = MappingProxyType({})) -> None:
        self._conversation = Conversation(new_token())
        self._process = _start(host, uri, envs)
        self._end = weakref.finalize(self, self._process.close_pipes)  # if a Ctrl-C loses it, virsh ends by that
        self._end.atexit = False
        self._in, self._out, self._err = (
            pipe.fileno() for pipe in (self._process.stdin, self._process.stdout, self._process.stderr) if pipe
        )
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._open = {self._out: self._conversation.stdout, self._err: self._conversation.stderr}
        self._unanswered = 0
        self._to_write = memoryview(b"")
        self._later: deque[tuple[int, bytes]] = deque()

    def await_prompt(self, deadline: float) -> bool:
        """Wait until virsh is at its first prompt, asks a question, or has ended; False if that exceeds `deadline`."""
        while not (self.has_prompted or self.has_ended or self.question or self.is_too_long):
            if not _poll(self._open).poll(_milliseconds(deadline)):
                return False
            self._read(self._err)
            self._read(self._out)
        return True

    def ask(self, commands: Sequence[Sequence[str]]) -> None:
        """Write as many of `commands` as the pipe takes at once; `replies` writes the rest, and reads the replies.

        virsh must have been at its first prompt.
        """
        self._unanswered = len(commands)
        start = 0
        for number, words in enumerate(commands):
            if number and redaction.secrets(words):
                self._write_later(commands, start, number)
                start = number
        self._write_later(commands, start, len(commands))
        self._write()

    def _write_later(self, commands: Sequence[Sequence[str]], start: int, end: int) -> None:
        """Postpone writing `commands[start:end]` until all commands before them have their replies."""
        data = b"".join([self._conversation.ask(words) for words in commands[start:end]])
        self._later.append((len(commands) - start, data))

    def is_waiting(self) -> bool:
        """Return whether an idle virsh is connected and at its prompt, without waiting."""
        self._read(self._err)
        self._read(self._out)
        return self.has_prompted and not self.has_ended and not self._conversation.is_disconnected

    @property
    def has_prompted(self) -> bool:
        """Whether virsh has come to its prompt."""
        return self._conversation.has_prompted

    @property
    def question(self) -> str:
        """The question for credentials whose answer virsh waits for; empty if there is none."""
        return self._conversation.question

    @property
    def is_reading(self) -> bool:
        """Whether virsh has read, and so may have done, the command that it was to answer next."""
        return self._conversation.is_reading

    @property
    def is_too_long(self) -> bool:
        """Return whether virsh has printed more than any reply may have, so that it is not read any further."""
        return self._conversation.is_too_long

    @property
    def has_ended(self) -> bool:
        """Whether virsh has closed its output."""
        return self._out not in self._open

    def last_words(self) -> str:
        """What virsh said on standard error before it ended."""
        said = _poll([self._err])
        while self._err in self._open and said.poll(1000):
            self._read(self._err)
        return self._conversation.last_words().decode("utf-8", "surrogateescape")

    @property
    def loss(self) -> unix.ConnectionLostError | None:
        """The loss of the connection to its host, if this is how virsh ended: what it printed last may be lost, too."""
        try:
            self._process.conclude()
        except unix.ConnectionLostError as error:
            return error
        return None

    def why_ended(self) -> str:
        """Why virsh ended without an error of its own: it was killed, or the connection to its host was lost."""
        return str(self.loss or "Disconnected from virsh due to its end")

    def close(self) -> int:
        """End virsh, by the end of its input if that does not take long, and return its exit status.

        A virsh that is still connecting is killed: the end of its input would be an empty answer to a question.
        """
        self._end.detach()
        try:
            if self._process.stdin and self.has_prompted and not self.question:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            deadline = time.monotonic() + (0 if self._is_answering else 0.2)
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:  # also after a Ctrl-C
            code = self._process.end()
        return code

    def forget(self) -> None:
        """Let go of the pipes without ending virsh: in a forked child it is the parent's."""
        self._end.detach()
        self._process.forget()

    @property
    def _is_answering(self) -> bool:
        is_asking = self._conversation.is_disconnected and self.question
        return self._unanswered > 0 and not (self.has_ended or is_asking or self.is_too_long)

    def _write(self) -> None:
        """Write what the pipe takes; nothing if virsh no longer reads."""
        if not self._to_write and self._later and self._later[0][0] == self._unanswered:
            self._to_write = memoryview(self._later.popleft()[1])
        try:
            while self._to_write:
                self._to_write = self._to_write[os.write(self._in, self._to_write) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._to_write = self._to_write[:0]

    def _replies(self) -> list[Reply]:
        """Read what there is, without waiting for more; the replies that have become complete."""
        self._read(self._err)
        self._read(self._out)
        replies = self._conversation.replies()
        self._unanswered -= len(replies)
        if self._later:
            self._write()
        return replies

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
            del self._open[descriptor]


def replies(
    sessions: Sequence[Session], timeout: float | None, deadline: float = math.inf
) -> Iterator[tuple[Session, Reply]]:
    """The replies of `sessions` that were asked, each one's in order and all as they come.

    There are fewer than commands from a session whose virsh ended (`has_ended`), asks for credentials (`question`) or
    prints without end (`is_too_long`), or if the first did not come by `deadline` or the next for `timeout` seconds;
    then this is its end. `is_reading` tells whether virsh has read the first of the others, `last_words` what it said
    last.
    """
    patience = math.inf if timeout is None else timeout
    deadline = min(deadline, time.monotonic() + patience)
    registered: list[int] = []
    while answering := [session for session in sessions if session._is_answering]:
        opened = [descriptor for session in answering for descriptor in session._open]
        if opened != registered:  # not for each round: mostly it is the same ones, and many rounds
            registered = opened
            said, outputs = _poll([session._err for session in answering if session._err in opened]), _poll(opened)
            owners = {descriptor: session for session in answering for descriptor in session._open}
        writing = {session._in: session for session in answering if session._to_write}
        ready = [] if writing else said.poll(_SHORT)
        if not ready:
            for descriptor in writing:
                outputs.register(descriptor, select.POLLOUT)
            ready = outputs.poll(_milliseconds(deadline))
            for descriptor in writing:
                outputs.unregister(descriptor)
            if not ready:
                return
        for descriptor, _ in ready:
            if descriptor in writing:
                writing[descriptor]._write()
                continue
            found = owners[descriptor]._replies()
            for reply in found:
                yield owners[descriptor], reply
            if found:
                deadline = time.monotonic() + patience
            elif time.monotonic() > deadline:  # what never ceases to come is no reply
                return


def _milliseconds(deadline: float) -> float | None:
    """Return the time until `deadline`, for `select.poll`."""
    return None if deadline == math.inf else max(deadline - time.monotonic(), 0) * 1000


def _poll(descriptors: Iterable[int]) -> select.poll:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return poll


def _start(host: unix.Host, uri: str, envs: Mapping[str, str]) -> Process:
    try:  # without --connect virsh would connect at its first command, not before its first prompt
        with as_virsh_wants(host, {**prompt.ENVIRONMENT, **envs}):
            return host.popen(["virsh", f"--connect={uri}"])
    except FileNotFoundError:
        raise no_virsh(host) from None
