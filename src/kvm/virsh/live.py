"""Runs commands through live virshes.

What must not happen twice does not: after a lost connection a command that only reads is asked once more, an action
never, unless it is known that the virsh that has ended had not read it. That is known of a virsh that had ended before
it was asked, and of one that ends while its host stays connected, since all that it printed is here then.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import unix
from kvm import redaction
from kvm.errors import NoVirshError
from kvm.virsh import prompt
from kvm.virsh.command import Command
from kvm.virsh.connection import Connection, named
from kvm.virsh.environment import EVERY_VIRSH, PRINT_RUNTIME_DIRECTORY
from kvm.virsh.outcome import classify, is_lost, lost, timed_out, too_long, unauthenticated, unknown, unreached
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
    """A command on its way."""

    __slots__ = ("command", "has_secrets", "name", "reads", "words")

    def __init__(self, name: str, words: Sequence[str], *, reads: bool) -> None:
        self.command: Command | None = None
        self.name = name
        self.words = words
        self.reads = reads
        self.has_secrets = bool(redaction.secrets(words))
        if logger := listener("kvm"):
            logger.debug("virsh %s", " ".join(redaction.masked_words(words)))


class Live:
    """Runs commands in the sessions on `host` that are connected to `uri`, or to libvirt's default.

    At most `sessions` are open at once; a session ends after `idle` seconds without use. Where the state of a
    hypervisor is lost with the connection (`Connection.keeps_state`), all commands go through one session, which stays
    open.
    """

    def __init__(
        self, host: unix.Host, uri: str | None, processes: OneProcessEach, *, sessions: int, idle: float
    ) -> None:
        self._host = host
        self._uri = uri
        self._processes = processes
        self._most = sessions
        self._idle = idle
        self._pools: dict[object, Pool] = {}
        weakref.finalize(self, _close, self._pools)

    def start(self) -> None:
        """Start a live virsh for the next command, if none is waiting for it."""
        pool = self.pool()
        if isinstance(pool, Pool) and (session := pool.sessions.take(0)):
            pool.sessions.give(session)

    def close(self) -> None:
        """End all that nobody has at the moment; the next command starts one."""
        _close(self._pools)

    def run(self, pool: Pool, lines: Sequence[Line], early: Early | None = None) -> list[Result]:
        """Run commands through a session of `pool`; if it is lost, repeat once those that only read."""
        if not lines:
            return []
        results = self._exchange(pool, lines, early)
        if pool.connection.keeps_state:  # a repeated command would go to another hypervisor
            return results
        again = [place for place, line in enumerate(lines) if line.reads and is_lost(line.name, results[place])]
        if again:
            for place, result in zip(again, self._exchange(pool, [lines[place] for place in again]), strict=True):
                results[place] = result
        return results

    def _exchange(self, pool: Pool, lines: Sequence[Line], early: Early | None = None) -> list[Result]:
        """Run commands through a live virsh, or the next one if it had ended before it read any of them.

        All that wait unused may have ended, so as many are tried, and one more.
        """
        why = ""
        for _ in range(1 if pool.connection.keeps_state else self._most + 1):
            try:
                return self._try(pool, lines, early)
            except _NothingReadError as error:
                why = str(error)
        return [_lost(line, why, pool.connection) for line in lines]

    def _try(self, pool: Pool, lines: Sequence[Line], early: Early | None) -> list[Result]:
        """The results that one live virsh has for commands; `_NothingReadError` if it had ended before."""
        timeout = self._host.time_limit()
        sessions = pool.sessions
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
            if not session.is_waiting() and session.has_prompted:  # it ended, or lost its connection, while unused
                loan.drop(session)
                raise _NothingReadError(session.why_ended())
            deadline = time.monotonic() + (math.inf if timeout is None else timeout)
            if not session.await_prompt(deadline):
                return [_timed_out(line, timeout, has_begun=False) for line in lines]
            if question := session.question:
                return [unauthenticated(question) for _ in lines]
            if not session.has_prompted and session.is_too_long:
                return [too_long(prompt.MAX_GREETING_BYTES) for _ in lines]
            self._take_more(pool, loan, lines)
            return self._divided(pool, lines, early, loan, timeout, deadline)

    def _take_more(self, pool: Pool, loan: Loan, lines: Sequence[Line]) -> None:
        """Acquire more sessions for commands, if they are many, only read, and are about many objects."""
        if pool.connection.keeps_state or len(lines) < 2 * _SHARE or not all(line.reads for line in lines):
            return
        wanted = min(len(lines) // _SHARE, len({_thing(line) for line in lines}), _SHARES)
        envs, su = (self._host.get_control(name) for name in ("envs", "su"))

        def start() -> Session:
            if len(os.listdir("/dev/fd")) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 2:
                raise OSError(errno.EMFILE, "files that may be open are better left for what has to be")
            with self._host.set_controls(timeout=_SOON, envs=cast(Mapping[str, str], envs), su=cast(str | None, su)):
                return pool.start()

        loan.take_more(wanted - 1, start)

    def _divided(
        self,
        pool: Pool,
        lines: Sequence[Line],
        early: Early | None,
        loan: Loan,
        timeout: float | None,
        deadline: float,
    ) -> list[Result]:
        """Return the results of commands, which are divided among the acquired sessions."""
        shares = {
            session: _Share(session, places, [lines[place] for place in places])
            for session, places in zip(loan.sessions, _places(lines, len(loan.sessions)), strict=True)
        }
        for session, share in shares.items():
            session.ask([line.words for line in share.lines])
        for session, reply in replies(loan.sessions, timeout, deadline):
            place, result = shares[session].judge(reply)
            if early and result.status:
                early(place, result)
        results: dict[int, Result] = {}
        for share in sorted(shares.values(), key=lambda share: len(share.missing)):  # whole ones are given back first
            try:
                found = self._concluded(pool, share, loan, timeout)
            except _NothingReadError as error:
                if len(shares) == 1:  # and nothing has been made of any result
                    raise
                found = [_lost(line, str(error), pool.connection) for line in share.lines]
            results.update(zip(share.places, found, strict=True))
        return [results[place] for place in range(len(lines))]

    def _concluded(self, pool: Pool, share: _Share, loan: Loan, timeout: float | None) -> list[Result]:
        """Return the results of one session, and release it, or discard it if it is not usable any more.

        `_NothingReadError` if its virsh had ended before it read any of the commands.
        """
        session, lines, results, missing = share.session, share.lines, share.results, share.missing
        if not missing and not any(is_lost(line.name, result) for line, result in zip(lines, results, strict=True)):
            loan.give(session)
            return results
        last_words, question = session.last_words() if session.has_ended else "", session.question
        code = loan.drop(session)
        if session.is_too_long:  # virsh may have run any
            doubts = ["" if line.reads else unknown(line.name) for line in missing]
            return results + [too_long(prompt.MAX_REPLY_BYTES, doubt) for doubt in doubts]
        if question:  # virsh was reconnecting; the text after the command may have been the answer
            why = f"lost the connection to {pool.connection.uri}, and libvirt asked {question!r} to connect again"
            return results + [_lost(line, why, pool.connection) for line in missing]
        if not session.has_ended:
            return results + [_timed_out(line, timeout, has_begun=True) for line in missing]  # virsh may have run any
        if not session.has_prompted and last_words.strip() and last_words.endswith("\n"):
            # it could not connect, or not even start; without the newline it was killed while it said so
            return [Result(code, "\n", last_words) for _ in lines]
        why = session.why_ended()
        if not results and not session.is_reading and (not session.loss or all(line.reads for line in lines)):
            raise _NothingReadError(why)
        return results + [_lost(line, why, pool.connection) for line in missing]

    def pool(self) -> Pool | Result:
        """Return the session pool for the environment and user that the current controls set.

        If only libvirt can resolve the URI, ``virsh uri`` is run first; if that fails, its result is returned.
        """
        envs = {**cast(Mapping[str, str], self._host.get_control("envs")), **EVERY_VIRSH}
        envs.pop("LC_ALL", None)  # as in the environment of a job's virsh, which these sessions observe
        key = (self._host.get_control("su"), tuple(sorted(envs.items())))
        if (pool := self._pools.get(key)) is not None:
            return pool
        if is_asked := (connection := named(self._uri)) is None:
            answer = self._processes.run_words(["uri"], reads=True)
            if not answer.status:
                return answer
            connection = Connection(answer.stdout.strip())
        start = _Starter(self._host, connection, self._processes, has_spawned=is_asked)
        most, idle = (1, None) if connection.keeps_state else (self._most, self._idle)
        pool = self._pools.setdefault(key, Pool(connection, start, Sessions(start, most=most, idle=idle)))
        if not connection.keeps_state:
            self._host.when_full(pool.sessions.make_room)
        return pool


class Pool(NamedTuple):
    """The session pool of one connection, and the function that starts a session."""

    connection: Connection
    start: _Starter
    sessions: Sessions


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
    """Starts sessions for one connection.

    The first virsh that connects to a session daemon (``qemu:///session``) starts it; the daemon inherits the
    environment, which has to be the user's, not that of our session. So where there may be such a daemon, a one-shot
    command connects first (unless one has already: `has_spawned`), and the session looks for the daemon's socket in the
    same directory.
    """

    def __init__(
        self, host: unix.Host, connection: Connection, processes: OneProcessEach, *, has_spawned: bool
    ) -> None:
        self._host = host
        self._connection = connection
        self._processes = processes
        self._has_spawned = has_spawned

    def __call__(self) -> Session:
        uri = self._connection.uri
        if not self._connection.may_spawn:
            return Session(self._host, uri)
        if not self._has_spawned:
            self._processes.run_words(["uri"], reads=True)
        self._has_spawned = False  # the daemon may have ended when the next session starts
        with self._host.set_controls(decode="utf-8"):
            found, directory, _ = self._host.run(["sh", "-c", PRINT_RUNTIME_DIRECTORY])
        return Session(self._host, uri, {"XDG_RUNTIME_DIR": directory} if found else {})


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


def _lost(line: Line, why: str, connection: Connection) -> Result:
    state = f"; the state of {connection.uri} is lost with it" if connection.keeps_state else ""
    return lost(f"{why}{state}", "" if line.reads else unknown(line.name))


def _timed_out(line: Line, timeout: float | None, *, has_begun: bool) -> Result:
    return timed_out(timeout or 0, unknown(line.name) if has_begun and not line.reads else "")


def _close(pools: Mapping[object, Pool]) -> None:
    for pool in list(pools.values()):
        pool.sessions.close()
