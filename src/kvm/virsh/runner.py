"""Runs commands: through a live virsh where that can be, in a process of their own where it cannot.

Either way a command has the same result. What must not happen twice does not: after a lost connection a command that
only reads is asked once more, an action never.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import unix
from kvm.errors import ConnectionLostError, InvalidArgumentError, KvmError, NoVirshError
from kvm.virsh import manners, prompt
from kvm.virsh.another import AnotherVirsh
from kvm.virsh.command import STDIN, Command, failure
from kvm.virsh.environment import EVERY_VIRSH
from kvm.virsh.plan import checked
from kvm.virsh.process import OneProcessEach, as_virsh_wants, lost, no_virsh, timed_out, unknown, unreached
from kvm.virsh.session import Session
from kvm.virsh.sessions import Sessions
from kvm.virsh.transfer import Transfer
from unix.log import listener
from unix.result import Result

if TYPE_CHECKING:
    from kvm.virsh.stream import Framing, Stream
    from unix.process import Process

_TO_FILE = 'umask 077; file=$(mktemp 2> /dev/null || TMPDIR=/tmp mktemp) && cat > "$file" && printf %s "$file"'
"""Puts standard input into a file that only this user can read, and tells its name."""

Early = Callable[[int, Result], None]


class Runner:
    """Runs the commands of one hypervisor: the virsh on `host`, connected to `uri`.

    At most `sessions` virshes are alive at once; one that is not used for `idle` seconds ends. The drivers that live in
    virsh itself (``test:``) have their state there: for them there is one, it stays, and everything goes through it.
    """

    def __init__(self, host: unix.Host, uri: str | None, *, sessions: int, idle: float) -> None:
        self._host = host
        self._uri = uri
        self._in_process = uri is not None and uri.startswith("test:")
        self._most = 1 if self._in_process else sessions
        self._idle = None if self._in_process else idle
        self._processes = OneProcessEach(host, uri)
        self._start = _Starter(host, uri, self._processes)
        self._sessions: dict[object, Sessions] = {}
        weakref.finalize(self, _close, self._sessions)

    def run(self, commands: Sequence[Command], early: Early | None = None) -> tuple[Result, ...]:
        """The results of `commands`, in order; what the prompt takes is written ahead.

        `early` is given the place and the result of commands that have succeeded while others are still under way.
        """
        results: list[Result] = []
        ahead: list[_Line] = []
        for command in commands:
            line = _Line(command.name, command.words(), reads=command.reads)
            line.command = command
            contents, transfer = command.contents(), command.transfer()
            if transfer is None and self._goes_live(line) and not contents:
                ahead.append(line)
                continue
            results += self._live(ahead, _moved(early, len(results)))
            ahead = []
            results.append(self._apart(line, contents) if transfer is None else self._transferred(line, transfer))
        return (*results, *self._live(ahead, _moved(early, len(results))))

    def run_words(self, words: Sequence[str]) -> Result:
        """The result of any command of virsh, of which it is not known whether it only reads."""
        line = _Line(words[0], words, reads=False)
        return self._live([line])[0] if self._goes_live(line) else self._processes.run_words(words)

    def start(self) -> None:
        """Start a live virsh for the next command, if none is waiting for it."""
        sessions = self._here()
        if session := sessions.take(0):
            sessions.give(session)

    def stream(self, command: Command, framing: Framing) -> Stream:
        """What a command prints that goes on, as records; it listens when this returns."""
        from kvm.virsh.stream import Stream

        words = command.words()
        connect = self._before_apart(command.name)
        return Stream(self._host, connect, words, framing, registers=not self._in_process)

    def interact(self, command: Command) -> Result:
        """The result of a command that takes over this program's terminal, where its output goes."""
        words = command.words()
        connect = self._before_apart(command.name)
        with as_virsh_wants(self._host):
            return_code = self._host.interactive("virsh", *connect, *words).return_code
        if return_code == 127:
            raise no_virsh(self._host)
        return Result(return_code, "", "")

    def on_terminal(self, command: Command, options: Sequence[str]) -> Process:
        """Start a command on a terminal of its own."""
        words = command.words()
        connect = self._before_apart(command.name)
        with as_virsh_wants(self._host):
            try:
                return self._host.popen(["virsh", *connect, *options, *words], terminal=True)
            except FileNotFoundError:
                raise no_virsh(self._host) from None

    def _before_apart(self, name: str) -> list[str]:
        """How to connect for a command that goes on; a session daemon it might start has been started before."""
        if self._start.may_spawn:
            checked(Command("uri", {}), self.run((Command("uri", {}),))[0])
        if logger := listener("kvm"):
            logger.debug("virsh %s", name)
        return [f"--connect={self._uri}"] if self._uri is not None else []

    def close(self) -> None:
        """End all live virshes; the next command starts one."""
        _close(self._sessions)

    def _goes_live(self, line: _Line) -> bool:
        if manners.goes_alone(line.words) or not prompt.carries(line.words):
            return False
        return self._in_process or line.name not in manners.LONG

    def _apart(self, line: _Line, contents: Sequence[bytes]) -> Result:
        """Run a command in a process of its own; but what changes a driver in virsh has to go there, by a file.

        So has a second content, as there is one standard input.
        """
        live = bool(contents) and self._in_process and prompt.carries(line.words)
        by_file = contents if live else contents[1:]
        if not by_file:
            return self._in_process_of_its_own(line, contents[0] if contents else None)
        places = [place for place, word in enumerate(line.words) if word.endswith(f"={STDIN}")][-len(by_file) :]
        words, paths = list(line.words), []
        try:
            for place, data in zip(places, by_file, strict=True):
                path = self._put(line, data)
                if isinstance(path, Result):
                    return path
                paths.append(path)
                words[place] = words[place].replace(f"={STDIN}", f"={path}")
            moved = _Line(line.name, words, reads=line.reads)
            moved.command = line.command
            result = self._live([moved])[0] if live else self._in_process_of_its_own(moved, contents[0])
        finally:
            if paths:
                with contextlib.suppress(unix.UnixError):
                    self._host.run(["rm", "-f", *paths])
        stdout, stderr = result.stdout, result.stderr
        for path in paths:
            stdout, stderr = stdout.replace(path, STDIN), stderr.replace(path, STDIN)
        return Result(result.return_code, stdout, stderr)

    def _in_process_of_its_own(self, line: _Line, data: bytes | None) -> Result:
        if (command := line.command) and command.job:
            outside = AnotherVirsh(self._host, lambda question: self.run([question])[0], command)
            return self._processes.run_job(line.words, data, command.job, outside)
        result = self._processes.run_words(line.words, data, reads=line.reads)
        again = line.reads and _is_lost(line, result)
        return self._processes.run_words(line.words, data, reads=True) if again else result

    def _transferred(self, line: _Line, transfer: Transfer) -> Result:
        """Run a command that transfers a file; what a driver in virsh has to show comes by a file."""
        if not self._in_process or not self._goes_live(line):
            return self._processes.transfer(line.words, transfer)
        path = self._put(line, b"")
        if isinstance(path, Result):
            return path
        try:
            moved = _Line(line.name, transfer.moved(line.words, path), reads=line.reads)
            result = self._live([moved])[0]
            with transfer.opened():
                if result.status and (take := transfer.take):
                    take(self._host.read(path) + result.stdout.replace(path, transfer.place).encode())
                    transfer.conclude(itself=False)
            return result
        finally:
            with contextlib.suppress(unix.UnixError):
                self._host.run(["rm", "-f", path])

    def _put(self, line: _Line, data: bytes) -> str | Result:
        """The path of a new file with `data` on the host, or the result of a command that could not get there."""
        try:
            with self._host.set_controls(decode="utf-8"):
                written, path, stderr = self._host.run(["sh", "-c", _TO_FILE], input=data)
        except (unix.ConnectError, unix.ConnectionLostError) as error:
            return unreached(error)  # to no virsh, that is
        except unix.CommandTimeoutError as error:
            return timed_out(error.timeout)
        if not written:
            raise KvmError(f"virsh {line.name}: cannot put the XML into a file on {self._host}: {stderr.strip()}")
        return path

    def _live(self, lines: Sequence[_Line], early: Early | None = None) -> list[Result]:
        """Run commands through a live virsh; those that only read once more, if it was lost with them."""
        if not lines:
            return []
        results = self._exchange(lines, early)
        if self._in_process:  # what is asked again would be answered by another hypervisor
            return results
        again = [place for place, line in enumerate(lines) if line.reads and _is_lost(line, results[place])]
        if again:
            for place, result in zip(again, self._exchange([lines[place] for place in again]), strict=True):
                results[place] = result
        return results

    def _exchange(self, lines: Sequence[_Line], early: Early | None = None) -> list[Result]:
        """Run commands through a live virsh, or the next one if it had ended before it read any of them.

        All that wait unused may have ended, so as many are tried, and one more.
        """
        why = ""
        for _ in range(1 if self._in_process else self._most + 1):
            try:
                return self._try(lines, early)
            except _NothingReadError as error:
                why = str(error)
        return [self._lost(line, why) for line in lines]

    def _try(self, lines: Sequence[_Line], early: Early | None) -> list[Result]:
        """The results that one live virsh has for commands; `_NothingReadError` if it had ended before."""
        timeout = cast(float | None, self._host.get_control("timeout")) or None
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
            return [_timed_out(line, timeout, begun=False) for line in lines]
        results: list[Result] = []

        def take(reply: prompt.Reply) -> None:
            line = lines[len(results)]
            results.append(manners.judged(line.name, *reply, reads=line.reads))
            if early and results[-1].status:
                early(len(results) - 1, results[-1])

        try:
            session.exchange([line.words for line in lines], timeout, take)
        except BaseException:
            sessions.drop(session)
            raise
        missing = lines[len(results) :]
        if not missing and not any(_is_lost(line, result) for line, result in zip(lines, results, strict=True)):
            sessions.give(session)
            return results
        last_words = session.last_words() if session.has_ended else ""
        code = sessions.drop(session)
        if not session.has_ended:
            return results + [_timed_out(line, timeout, begun=line is missing[0]) for line in missing]
        if not session.has_prompted and last_words.strip() and last_words.endswith("\n"):
            # it could not connect, or not even start; without the newline it was killed while it said so
            return [Result(code, "\n", last_words) for _ in lines]
        why = session.why_ended()
        if not results and not session.is_reading:
            raise _NothingReadError(why)
        return results + [self._lost(line, why) for line in missing]

    def _lost(self, line: _Line, why: str) -> Result:
        state = f"; all that {self._uri} was is gone with it" if self._in_process else ""
        return lost(f"{why}{state}", "" if line.reads else unknown(line.name))

    def _here(self) -> Sessions:
        """The sessions with the environment and user that the controls of the moment ask for."""
        envs = {**cast(Mapping[str, str], self._host.get_control("envs")), **EVERY_VIRSH}
        envs.pop("LC_ALL", None)  # as a virsh that has a job has them, which is asked about here
        key = (self._host.get_control("su"), tuple(sorted(envs.items())))
        found = self._sessions.get(key)
        if found is None:
            found = self._sessions.setdefault(key, Sessions(self._start, most=self._most, idle=self._idle))
        return found


class _NothingReadError(Exception):
    """A live virsh has ended before it read any of the commands."""


class _Starter:
    """Starts live virshes.

    A session daemon is started by the first virsh that wants it, and takes over its environment. That must be the
    user's, not the one that a live virsh has; so another virsh goes first where there may be such a daemon.
    """

    def __init__(self, host: unix.Host, uri: str | None, processes: OneProcessEach) -> None:
        self._host = host
        self._uri = uri
        self._processes = processes
        self.may_spawn = uri is None or "/session" in uri

    def __call__(self) -> Session:
        if self.may_spawn:
            told = self._processes.run_words(["uri"])
            self.may_spawn = not told.status or "/session" in told.stdout
        return Session(self._host, self._uri)


class _Line:
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


def _moved(early: Early | None, by: int) -> Early | None:
    """`early`, for places that are counted from another beginning."""
    return None if early is None else lambda place, result: early(place + by, result)


def _is_lost(line: _Line, result: Result) -> bool:
    return not result.status and isinstance(failure(line.words, result), ConnectionLostError)


def _timed_out(line: _Line, timeout: float | None, *, begun: bool) -> Result:
    return timed_out(timeout or 0, unknown(line.name) if begun and not line.reads else "")


def _close(sessions: Mapping[object, Sessions]) -> None:
    for each in list(sessions.values()):
        each.close()
