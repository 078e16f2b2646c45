"""Runs commands through live virshes.

What must not happen twice does not: after a lost connection a command that only reads is asked once more, an action
never, unless it is known that the virsh that has ended had not read it. That is known of a virsh that had ended before
it was asked, and of one that ends while its host stays connected, since all that it printed is here then.
"""

from __future__ import annotations

import errno
import os
import resource
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import unix
from kvm.errors import InvalidArgumentError, NoVirshError
from kvm.virsh import manners, prompt
from kvm.virsh.command import Command
from kvm.virsh.environment import EVERY_VIRSH, PRINT_RUNTIME_DIRECTORY
from kvm.virsh.outcome import classify, is_lost, lost, timed_out, unknown, unreached
from kvm.virsh.process import OneProcessEach
from kvm.virsh.session import Session, replies
from kvm.virsh.sessions import Loan, Sessions
from unix.log import listener
from unix.result import Result

_SHARE = 50
"""Commands that are worth one more live virsh."""

_SHARES = 3
"""Among how many live virshes commands are divided at most."""

_SOON = 1.0
"""Seconds for one more live virsh to start in, where sshd may have no room for it."""

Early = Callable[[int, Result], None]


class Line:
    """A command on its way. `InvalidArgumentError` if it has a secret that everybody would see."""

    __slots__ = ("command", "name", "reads", "words")

    def __init__(self, name: str, words: Sequence[str], *, reads: bool) -> None:
        self.command: Command | None = None
        self.name = name
        self.words = words
        self.reads = reads
        hidden = manners.secrets(words)
        if hidden and not prompt.carries(words):
            raise InvalidArgumentError(
                f"virsh {name}: a secret with control characters cannot be told to virsh's prompt, and on a command "
                "line everybody would see it"
            )
        if logger := listener("kvm"):
            logger.debug("virsh %s", " ".join(manners.masked(word, hidden) for word in words))


class Live:
    """The live virshes on `host` that are connected to `uri`.

    At most `sessions` are alive at once; one that is not used for `idle` seconds ends. The drivers that live in virsh
    itself (``test:``) have their state there (`is_in_process`): for them there is one, it stays, and everything goes
    through it.
    """

    def __init__(
        self, host: unix.Host, uri: str | None, processes: OneProcessEach, *, sessions: int, idle: float
    ) -> None:
        self._host = host
        self._uri = uri
        self.is_in_process = uri is not None and uri.startswith("test:")
        self._most = 1 if self.is_in_process else sessions
        self._idle = None if self.is_in_process else idle
        self._may_divide = uri is not None and ":" in uri and not uri.startswith("test")  # or state would be divided
        self._start = _Starter(host, uri, processes)
        self._sessions: dict[object, Sessions] = {}
        weakref.finalize(self, _close, self._sessions)

    @property
    def may_spawn(self) -> bool:
        """Whether the next virsh may start a daemon."""
        return self._start.may_spawn

    def start(self) -> None:
        """Start a live virsh for the next command, if none is waiting for it."""
        sessions = self._here()
        if session := sessions.take(0):
            sessions.give(session)

    def close(self) -> None:
        """End all that nobody has at the moment; the next command starts one."""
        _close(self._sessions)

    def run(self, lines: Sequence[Line], early: Early | None = None) -> list[Result]:
        """Run commands through a live virsh; those that only read once more, if it was lost with them."""
        if not lines:
            return []
        results = self._exchange(lines, early)
        if self.is_in_process:  # what is asked again would be answered by another hypervisor
            return results
        again = [place for place, line in enumerate(lines) if line.reads and is_lost(line.name, results[place])]
        if again:
            for place, result in zip(again, self._exchange([lines[place] for place in again]), strict=True):
                results[place] = result
        return results

    def _exchange(self, lines: Sequence[Line], early: Early | None = None) -> list[Result]:
        """Run commands through a live virsh, or the next one if it had ended before it read any of them.

        All that wait unused may have ended, so as many are tried, and one more.
        """
        why = ""
        for _ in range(1 if self.is_in_process else self._most + 1):
            try:
                return self._try(lines, early)
            except _NothingReadError as error:
                why = str(error)
        return [self._lost(line, why) for line in lines]

    def _try(self, lines: Sequence[Line], early: Early | None) -> list[Result]:
        """The results that one live virsh has for commands; `_NothingReadError` if it had ended before."""
        timeout = self._host.time_limit()
        sessions = self._here()
        try:
            session = sessions.take(timeout)
        except NoVirshError as error:
            error.command = list(lines[0].words)
            raise
        except unix.CommandTimeoutError:
            session = None
        except unix.ConnectionLostError as error:
            raise _NothingReadError(str(error)) from error
        except unix.ConnectError as error:
            return [unreached(error) for _ in lines]
        if session is None:
            return [_timed_out(line, timeout, has_begun=False) for line in lines]
        with Loan(sessions, session) as loan:
            if not session.is_waiting() and session.has_prompted:  # it ended while nobody used it
                loan.drop(session)
                raise _NothingReadError(session.why_ended())
            self._take_more(loan, lines)
            return self._divided(lines, early, loan, timeout)

    def _take_more(self, loan: Loan, lines: Sequence[Line]) -> None:
        """Take more live virshes for commands, if they are many that only read, and about many things."""
        if not self._may_divide or len(lines) < 2 * _SHARE or not all(line.reads for line in lines):
            return
        wanted = min(len(lines) // _SHARE, len({_thing(line) for line in lines}), _SHARES)
        envs, su = (self._host.get_control(name) for name in ("envs", "su"))

        def start() -> Session:
            if len(os.listdir("/dev/fd")) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 2:
                raise OSError(errno.EMFILE, "files that may be open are better left for what has to be")
            with self._host.set_controls(timeout=_SOON, envs=cast(Mapping[str, str], envs), su=cast(str | None, su)):
                return self._start()

        loan.take_more(wanted - 1, start)

    def _divided(self, lines: Sequence[Line], early: Early | None, loan: Loan, timeout: float | None) -> list[Result]:
        """The results of commands, of which each live virsh of a loan is asked a share."""
        shares = {
            session: _Share(session, places, [lines[place] for place in places])
            for session, places in zip(loan.sessions, _places(lines, len(loan.sessions)), strict=True)
        }
        for session, share in shares.items():
            session.ask([line.words for line in share.lines])
        for session, reply in replies(loan.sessions, timeout):
            place, result = shares[session].judge(reply)
            if early and result.status:
                early(place, result)
        results: dict[int, Result] = {}
        for share in sorted(shares.values(), key=lambda share: len(share.missing)):  # whole ones are given back first
            try:
                found = self._concluded(share, loan, timeout)
            except _NothingReadError as error:
                if len(shares) == 1:  # and nothing has been made of any result
                    raise
                found = [self._lost(line, str(error)) for line in share.lines]
            results.update(zip(share.places, found, strict=True))
        return [results[place] for place in range(len(lines))]

    def _concluded(self, share: _Share, loan: Loan, timeout: float | None) -> list[Result]:
        """All the results of one live virsh, which is given back, or ended if it is of no more use.

        `_NothingReadError` if it had ended before it read any of the commands.
        """
        session, lines, results, missing = share.session, share.lines, share.results, share.missing
        if not missing and not any(is_lost(line.name, result) for line, result in zip(lines, results, strict=True)):
            loan.give(session)
            return results
        last_words = session.last_words() if session.has_ended else ""
        code = loan.drop(session)
        if not session.has_ended:
            return results + [_timed_out(line, timeout, has_begun=True) for line in missing]  # virsh may have done any
        if not session.has_prompted and last_words.strip() and last_words.endswith("\n"):
            # it could not connect, or not even start; without the newline it was killed while it said so
            return [Result(code, "\n", last_words) for _ in lines]
        why = session.why_ended()
        if not results and not session.is_reading and (not session.loss or all(line.reads for line in lines)):
            raise _NothingReadError(why)
        return results + [self._lost(line, why) for line in missing]

    def _lost(self, line: Line, why: str) -> Result:
        state = f"; all that {self._uri} was is gone with it" if self.is_in_process else ""
        return lost(f"{why}{state}", "" if line.reads else unknown(line.name))

    def _here(self) -> Sessions:
        """The sessions with the environment and user that the controls of the moment ask for."""
        envs = {**cast(Mapping[str, str], self._host.get_control("envs")), **EVERY_VIRSH}
        envs.pop("LC_ALL", None)  # as a virsh that has a job has them, which is asked about here
        key = (self._host.get_control("su"), tuple(sorted(envs.items())))
        found = self._sessions.get(key)
        if found is None:
            found = self._sessions.setdefault(key, Sessions(self._start, most=self._most, idle=self._idle))
            if not self.is_in_process:
                self._host.when_full(found.make_room)
        return found


class _Share:
    """What one live virsh is asked of many commands, which `places` they have among these, and its results so far."""

    def __init__(self, session: Session, places: Sequence[int], lines: Sequence[Line]) -> None:
        self.session = session
        self.places = places
        self.lines = lines
        self.results: list[Result] = []

    @property
    def missing(self) -> Sequence[Line]:
        """The commands that have no result yet."""
        return self.lines[len(self.results) :]

    def judge(self, reply: prompt.Reply) -> tuple[int, Result]:
        """The place and the result of the next command, of which this is the reply."""
        place, line = self.places[len(self.results)], self.lines[len(self.results)]
        result = classify(line.name, *reply, reads=line.reads)
        self.results.append(result)
        return place, result


class _NothingReadError(Exception):
    """A live virsh has ended before it read any of the commands."""


class _Starter:
    """Starts sessions.

    A session daemon (``qemu:///session``) is started by the first virsh that connects to it, and inherits its
    environment. That has to be the user's, not that of a session; so where there may be such a daemon, a one-shot
    command goes first, and the session looks for the daemon's socket in the same directory.
    """

    def __init__(self, host: unix.Host, uri: str | None, processes: OneProcessEach) -> None:
        self._host = host
        self._uri = uri
        self._processes = processes
        self.may_spawn = uri is None or "/session" in uri

    def __call__(self) -> Session:
        if not self.may_spawn:
            return Session(self._host, self._uri)
        uri = self._processes.run_words(["uri"])
        self.may_spawn = not uri.status or "/session" in uri.stdout
        with self._host.set_controls(decode="utf-8"):
            found, directory, _ = self._host.run(["sh", "-c", PRINT_RUNTIME_DIRECTORY])
        return Session(self._host, self._uri, {"XDG_RUNTIME_DIR": directory} if found else {})


def _places(lines: Sequence[Line], among: int) -> list[Sequence[int]]:
    """The places of commands that each of so many virshes is asked: about one thing it is always the same one.

    So what is told of a thing later is not older than what was told of it before.
    """
    if among == 1:
        return [range(len(lines))]
    numbers: dict[str, int] = {}
    found: list[list[int]] = [[] for _ in range(among)]
    for place, line in enumerate(lines):
        found[numbers.setdefault(_thing(line), len(numbers)) % among].append(place)
    return [*found]


def _thing(line: Line) -> str:
    """What a command is about: its first argument, a domain or a network for example; the hypervisor if it has none."""
    return line.words[1] if len(line.words) > 1 and "=" in line.words[1] else ""


def _timed_out(line: Line, timeout: float | None, *, has_begun: bool) -> Result:
    return timed_out(timeout or 0, unknown(line.name) if has_begun and not line.reads else "")


def _close(sessions: Mapping[object, Sessions]) -> None:
    for each in list(sessions.values()):
        each.close()
