"""virsh's prompt as a pure conversation: words in, bytes for the prompt out; bytes from the prompt in, replies out.

Each command is followed by a mark, a line ``TOKEN\\7`` that is no command. Its echo on standard output ends what the
command printed there, and what virsh says to it on standard error, ``error: unknown command: 'TOKEN7'``, ends what was
said there. The backslash tells the one from the other, and nobody who could put text into an output can guess the
token. How the bytes are split makes no difference, and nothing here waits, reads or writes.

Lines are as short as can be, because readline reads its input byte by byte, with three system calls each: a domain
is told by its place, and the token is typed once, killed, and from then on yanked, as by somebody at a keyboard.

The line goes through GNU readline before virsh sees it: a TAB would complete a file name, control characters would
edit the line. So a line with such characters is pasted, as a terminal does that. Only text that is not valid UTF-8
cannot be typed (`carries`).

Nothing may be written before virsh's first prompt. Until then virsh connects, and libvirt may ask for a user name or a
password (`Conversation.question`): it would take any input as the answer, and send it over the network.
"""

from __future__ import annotations

import os
import re
from binascii import b2a_base64
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from kvm.virsh.commands_generated import COMMANDS
from kvm.virsh.environment import AT_THE_PROMPT

PROMPT = b"virsh # "

LONGEST = 1 << 16
"""The longest line, in characters, that readline (4 µs each) reads faster than another virsh starts."""

MAX_REPLY_BYTES = 256 << 20
"""The largest reply, in bytes: far more than the statistics of 10,000 guests, some 60 MB."""

MAX_GREETING_BYTES = 1 << 20
"""The most output before the first prompt, in bytes, all of which is searched for the prompt."""

_GREETING = b"Welcome to "
"""The first output of a virsh that has connected."""

_DISCONNECTED = b"error: Disconnected from "
_RECONNECTED = b"error: Reconnected to the hypervisor\n"

ENVIRONMENT = AT_THE_PROMPT

_DOMAIN = "--domain="

_KILL, _YANK = "\x15", "\x19"
"""The keys, of both of readline's editing modes, that kill the line so far, and that insert what was killed."""

_LITERAL = "\x16"
"""The key, in both of readline's editing modes, that inserts the next character literally."""

_PASTE, _PASTED = "\x1b[200~", "\x1b[201~"
"""What a terminal sends before and after pasted text, which readline inserts literally and at once."""

_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_CONTROL = re.compile("[\x01-\x1f\x7f]")
_NOT_FOR_PASTING = re.compile("[\x1b\r]")


class Reply(NamedTuple):
    """What virsh printed for one command."""

    stdout: bytes
    stderr: bytes


def carries(words: Sequence[str]) -> bool:
    """Return whether a command of these words can be typed at the prompt."""
    line = "".join(words)
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in line


def is_long(words: Sequence[str]) -> bool:
    """Return whether typing a command of these words takes longer than starting another virsh for it."""
    return sum(map(len, words)) >= LONGEST


def quoted(word: str) -> str:
    """`word` as virsh's parser reads it back."""
    return word if _PLAIN.fullmatch(word) else "'" + word.replace("'", r"'\''") + "'"


def typed(words: Sequence[str]) -> str:
    """A command of these words as it is typed at the prompt: a domain without its option's name, where it is first."""
    command, *arguments = words
    if arguments and COMMANDS.get(command, "").split(" ", 2)[1:2] == ["domain"]:
        domain = arguments[0].removeprefix(_DOMAIN)
        if domain != arguments[0] and _PLAIN.fullmatch(domain) and domain[0] != "-":
            arguments[0] = domain
    line = " ".join(map(quoted, [command, *arguments]))
    if not _CONTROL.search(line):
        return line
    pasted = _NOT_FOR_PASTING.sub(rf"{_PASTED}{_LITERAL}\g<0>{_PASTE}", line)
    return f"{_PASTE}{pasted}{_PASTED}"


def new_token() -> str:
    """A word that nobody can guess, of 48 random bits."""
    return "m" + b2a_base64(os.urandom(6), newline=False).decode()


class Conversation:
    """What is to be written to one virsh, and what its output means."""

    def __init__(self, token: str) -> None:
        self._to_be_killed = f"{token}\\{_KILL}"  # typed before the first command; every mark yanks it
        self._asked = 0
        self._is_disconnected = False
        self._stdout = _Stream(f"virsh # {token}\\%d\n")
        self._stderr = _Stream(f"unknown command: '{token}%d'\n")  # "error: " is written before, by itself

    def ask(self, words: Sequence[str]) -> bytes:
        """What to write for a command of these words, which the prompt must be able to carry."""
        asked = f"{self._to_be_killed}{typed(words)}\n{_YANK}{self._asked}\n"
        self._to_be_killed = ""
        self._asked += 1
        return asked.encode()

    def stdout(self, data: bytes) -> None:
        """Take what came from standard output."""
        self._stdout.take(data)

    def stderr(self, data: bytes) -> None:
        """Take what came from standard error."""
        self._stderr.take(data)

    def replies(self) -> list[Reply]:
        """The replies that have become complete, in the order in which they were asked for."""
        both = min(len(self._stdout.parts), len(self._stderr.parts))
        replies = [
            Reply(_output(self._stdout.parts.popleft()), _said(self._stderr.parts.popleft())) for _ in range(both)
        ]
        for reply in replies:
            if reply.stderr:
                self._is_disconnected = _is_disconnected(reply.stderr, before=self._is_disconnected)
        return replies

    @property
    def has_prompted(self) -> bool:
        """Whether virsh has ever come to its prompt: if not, it could not connect."""
        return self._stdout.number > 0 or PROMPT in self._stdout.rest

    @property
    def is_too_long(self) -> bool:
        """Return whether virsh has printed more than any reply may have, without an end."""
        printed = len(self._stdout.rest) + len(self._stderr.rest)
        return printed > MAX_GREETING_BYTES and (printed > MAX_REPLY_BYTES or not self.has_prompted)

    @property
    def is_disconnected(self) -> bool:
        """Return whether virsh has lost its connection, so that it reconnects before its next command."""
        return _is_disconnected(self._stderr.rest, before=self._is_disconnected)

    @property
    def question(self) -> str:
        """Return the question for credentials that virsh has printed, and whose answer it waits for; empty if none.

        libvirt asks while it connects: before virsh's first prompt, or before a command that reconnects.
        """
        if not self.has_prompted:
            output = bytes(self._stdout.rest)
            has_asked = not output.startswith(_GREETING[: len(output)])
        else:
            output = _output(bytes(self._stdout.rest)) if self.is_disconnected and self.is_reading else b""
            has_asked = output.endswith(b": ")
        return output.decode("utf-8", "replace").partition(": ")[0].removesuffix(":") if has_asked else ""

    @property
    def is_reading(self) -> bool:
        """Whether virsh has read the command that is to be answered next.

        Its echo ends with a newline, which is written before the command is acted upon.
        """
        part = self._stdout.parts[0] if self._stdout.parts else bytes(self._stdout.rest)
        prompt = part.find(PROMPT)
        return prompt >= 0 and b"\n" in part[prompt:]

    def last_words(self) -> bytes:
        """What standard error said behind the last mark; that there is no place for a history is not worth a word."""
        return re.sub(rb"error: Failed to create '/dev/null/[^\n]*\n", b"", bytes(self._stderr.rest))


class _Stream:
    """One output of virsh, cut at the marks."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.number = 0
        self._next = (mark % 0).encode()
        self._searched = 0
        self.rest = bytearray()
        self.parts: deque[bytes] = deque()

    def take(self, data: bytes) -> None:
        self.rest += data
        while (found := self.rest.find(self._next, self._searched)) >= 0:
            self.parts.append(bytes(self.rest[:found]))
            del self.rest[: found + len(self._next)]
            self.number += 1
            self._next = (self._mark % self.number).encode()
            self._searched = 0
        self._searched = max(len(self.rest) - len(self._next), 0)


def _output(part: bytes) -> bytes:
    """What a command printed: all that is behind the line in which the prompt and its echo are."""
    echo = part.find(PROMPT)
    return part[part.find(b"\n", echo) + 1 :]


def _said(part: bytes) -> bytes:
    """What was said to a command; within the complaint about the mark, another thread of virsh may have said more."""
    return part.removesuffix(b"error: ")


def _is_disconnected(stderr: bytes | bytearray, *, before: bool) -> bool:
    """Return whether virsh is disconnected after it has printed `stderr`; `before`: whether it was before that."""
    lost, back = stderr.rfind(_DISCONNECTED), stderr.rfind(_RECONNECTED)
    return before if lost == back else lost > back
