"""Runs commands: through a live virsh where that can be, in a process of their own where it cannot.

Either way a command has the same result.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import unix
from kvm.errors import InvalidArgumentError, KvmError, NotSupportedError, NoVirshError
from kvm.virsh import manners, prompt
from kvm.virsh.another import AnotherVirsh
from kvm.virsh.command import STDIN, Command, failure
from kvm.virsh.connection import Connection
from kvm.virsh.live import Early, Line, Live, Pool
from kvm.virsh.outcome import is_lost, is_unanswered, not_asked, timed_out, unreached
from kvm.virsh.plan import checked
from kvm.virsh.process import OneProcessEach, as_virsh_wants, no_virsh, visible
from kvm.virsh.terminal import marking
from kvm.virsh.transfer import Transfer
from unix.log import listener
from unix.result import Result

if TYPE_CHECKING:
    from kvm.virsh.jobs import Job
    from kvm.virsh.stream import Framing, Stream
    from unix.process import Process

_URI = Command("uri", {})

_TO_FILE = 'umask 077; file=$(mktemp 2> /dev/null || TMPDIR=/tmp mktemp) && cat > "$file" && printf %s "$file"'
"""Puts standard input into a file that only this user can read, and tells its name."""


class Runner:
    """Runs the commands of one hypervisor: the virsh on `host`, connected to `uri`.

    At most `sessions` live virshes run at once; one that is not used for `idle` seconds ends.
    """

    def __init__(self, host: unix.Host, uri: str | None, *, sessions: int, idle: float) -> None:
        self._host = host
        self._uri = uri
        self._processes = OneProcessEach(host, uri)
        self._live = Live(host, uri, self._processes, sessions=sessions, idle=idle)

    def run(self, commands: Sequence[Command], early: Early | None = None) -> tuple[Result, ...]:
        """The results of `commands`, in order; what the prompt takes is written ahead.

        Behind one that is not answered in time nothing is waited for anew.
        `early` is given the place and the result of commands that have succeeded while others are still under way.
        """
        lines = [Line(command.name, command.words(), reads=command.reads) for command in commands]
        pool = self._pool(lines)
        if isinstance(pool, Result):
            return (pool,) * len(lines)
        connection = pool.connection
        results: list[Result] = []
        ahead: list[Line] = []
        for command, line in zip(commands, lines, strict=True):
            line.command = command
            contents, transfer = command.contents(), command.transfer()
            is_live = _goes_live(line, connection)
            if transfer is None and is_live and not contents:
                ahead.append(line)
                continue
            results += self._live.run(pool, ahead, _moved(early, len(results)))
            ahead = []
            if any(map(is_unanswered, results)):
                return (*results, *[not_asked()] * (len(commands) - len(results)))
            results.append(
                self._apart(pool, line, contents)
                if transfer is None
                else self._transferred(pool, line, transfer, is_live=is_live and connection.keeps_state)
            )
        if ahead and any(map(is_unanswered, results)):
            return (*results, *[not_asked()] * len(ahead))
        return (*results, *self._live.run(pool, ahead, _moved(early, len(results))))

    def run_words(self, words: Sequence[str]) -> Result:
        """The result of any command of virsh, of which it is not known whether it only reads."""
        line = Line(words[0], words, reads=False)
        pool = self._pool([line])
        if isinstance(pool, Result):
            return pool
        return (
            self._live.run(pool, [line])[0] if _goes_live(line, pool.connection) else self._processes.run_words(words)
        )

    def start(self) -> None:
        """Start a live virsh for the next command, if none is waiting for it."""
        self._live.start()

    def stream(self, command: Command, framing: Framing) -> Stream:
        """What a command prints that goes on, as records; it listens when this returns."""
        from kvm.virsh.stream import Stream

        words = visible(command.words())
        connect = self._before_apart(command.name)
        return Stream(self._host, connect, words, framing)

    def interact(self, words: Sequence[str]) -> Result:
        """The result of a command that takes over this program's terminal, where its output goes."""
        words = visible(words)
        connect = self._before_apart(words[0])
        pool = self._live.pool()
        if isinstance(pool, Pool) and pool.connection.keeps_state and manners.acts_alone(words):
            raise _acts_elsewhere(words, pool.connection)
        if not os.isatty(0):  # other input would be taken as the answer to a question for credentials
            checked(_URI, self.run((_URI,))[0])
        with as_virsh_wants(self._host):
            return_code = self._host.interactive("virsh", *connect, *words).return_code
        if return_code == 127:
            raise no_virsh(self._host)
        return Result(return_code, "", "")

    def on_terminal(self, command: Command, options: Sequence[str], mark: str) -> Process:
        """Start a command on a terminal of its own, with a mark before each line of its standard error."""
        words = visible(command.words())
        connect = self._before_apart(command.name)
        with as_virsh_wants(self._host):
            return self._host.popen(marking(["virsh", *connect, *options, *words], mark), terminal=True)

    def _before_apart(self, name: str) -> list[str]:
        """How to connect for a command that goes on; a session daemon it might start has been started before."""
        pool = self._live.pool()
        if isinstance(pool, Result):
            raise failure([name], pool)
        connection = pool.connection
        if connection.is_exclusive:
            raise NotSupportedError(
                f"virsh {name}: this command needs a virsh process of its own, which cannot connect to "
                f"{connection.uri} while another virsh has it open",
                command=[name],
            )
        if connection.may_spawn:
            checked(_URI, self.run((_URI,))[0])
        if logger := listener("kvm"):
            logger.debug("virsh %s", name)
        return [f"--connect={self._uri}"] if self._uri is not None else []

    def close(self) -> None:
        """End all live virshes; the next command starts one."""
        self._live.close()

    def _pool(self, lines: Sequence[Line]) -> Pool | Result:
        """Return the session pool for commands, or their result if ``virsh uri`` fails."""
        try:
            return self._live.pool()
        except NoVirshError as error:
            error.command = lines[0].words
            raise

    def _apart(self, pool: Pool, line: Line, contents: Sequence[bytes]) -> Result:
        """Run a one-shot command; where state is lost with the connection, use the session and a temporary file.

        A second input needs a file as well, because there is only one standard input.
        """
        live = bool(contents) and pool.connection.keeps_state
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
            moved = Line(line.name, words, reads=line.reads)
            moved.command = line.command
            result = self._live.run(pool, [moved])[0] if live else self._in_process_of_its_own(moved, contents[0])
        finally:
            if paths:
                with contextlib.suppress(unix.UnixError):
                    self._host.run(["rm", "-f", *paths])
        stdout, stderr = result.stdout, result.stderr
        for path in paths:
            stdout, stderr = stdout.replace(path, STDIN), stderr.replace(path, STDIN)
        return Result(result.return_code, stdout, stderr, outcome_unknown=result.outcome_unknown)

    def _in_process_of_its_own(self, line: Line, data: bytes | None) -> Result:
        if (command := line.command) and command.job:
            outside = AnotherVirsh(self._host, lambda question: self.run([question])[0], command)
            return self._processes.run_job(line.words, data, command.job, outside)
        result = self._processes.run_words(line.words, data, reads=line.reads)
        again = line.reads and is_lost(line.name, result)
        return self._processes.run_words(line.words, data, reads=True) if again else result

    def _transferred(self, pool: Pool, line: Line, transfer: Transfer, *, is_live: bool) -> Result:
        """Run a command that transfers a file; in a session, the data goes through a temporary file."""
        if not is_live:
            return self._processes.transfer(line.words, transfer, reads=line.reads)
        path = self._put(line, b"")
        if isinstance(path, Result):
            return path
        try:
            moved = Line(line.name, transfer.moved(line.words, path), reads=line.reads)
            result = self._live.run(pool, [moved])[0]
            with transfer.opened():
                if result.status and (take := transfer.take):
                    take(self._host.read(path) + result.stdout.replace(path, transfer.place).encode())
                    transfer.conclude(itself=False)
            return result
        finally:
            with contextlib.suppress(unix.UnixError):
                self._host.run(["rm", "-f", path])

    def _put(self, line: Line, data: bytes) -> str | Result:
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


def _job(line: Line) -> Job | None:
    return line.command.job if line.command else None


def _moved(early: Early | None, by: int) -> Early | None:
    """`early`, for places that are counted from another beginning."""
    return None if early is None else lambda place, result: early(place + by, result)


def _goes_live(line: Line, connection: Connection) -> bool:
    """Return whether a command runs in a session. Raises if it would have to, and cannot."""
    at_prompt = not manners.goes_alone(line.words)
    if not connection.keeps_state:
        is_short = line.name not in manners.LONG and not prompt.is_long(line.words)
        return at_prompt and prompt.carries(line.words) and (is_short or (line.has_secrets and not _job(line)))
    if at_prompt and not prompt.carries(line.words):
        raise InvalidArgumentError(
            f"virsh {line.name}: {connection.uri} is inside one virsh process, whose prompt takes only valid UTF-8",
            command=line.words,
        )
    if not at_prompt and manners.acts_alone(line.words):
        raise _acts_elsewhere(line.words, connection)
    return at_prompt


def _acts_elsewhere(words: Sequence[str], connection: Connection) -> NotSupportedError:
    """Return the error of an action whose effect would be lost with its one-shot virsh."""
    return NotSupportedError(
        f"virsh {words[0]}: this command needs a virsh process of its own, in which {connection.uri} is another "
        "hypervisor, so its effect would be lost; use a command that needs no terminal",
        command=words,
    )
