"""A connection: one ``ssh`` that holds it, and the commands that go through it.

That ssh is the connection's master: it opens a control socket in a private directory, through which every command is
given to it with the descriptors of its pipes (`unix.mux`), without a process or a connection of its own. The master's
own session is the keeper (`unix.script`), whose input is a pipe from here. When this program ends, in whatever way,
the kernel closes that pipe; then the keeper ends what still runs there, and the master follows.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import random
import re
import secrets
import select
import signal
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, cast

from unix import mux, script, ssh
from unix.errors import ConnectError, ConnectionLostError, UnixError, UserError
from unix.process import GRACE, CannotStartError, LocalProcess, Process, TimeoutExpired, start
from unix.startups import PAUSES_S, startup
from unix.words import encode

_PIPE_SIZE = 1 << 20
_CHUNK = 1 << 16

_LAST_OUTPUT = 1 << 12
"""The number of bytes, from the end of a login's output, that are kept for an error message."""

_MOST_OUTPUT = 8 << 20
"""The most bytes that a login may print before a command begins."""

_PATIENCE = {False: 5, True: 600}
"""Seconds for which sshd may refuse a session while there are others, or none: it takes note of their ends late."""

_POLITE = 0.5
"""Seconds of waiting for room until those who do not use theirs are asked for it; at most half of the time there is."""

_ENDS = (signal.SIGTERM, signal.SIGKILL)
"""The signals with which the keeper ends what runs."""

_LATE = 60.0
"""Seconds after which a command that was sent and has not begun will not begin any more."""


class Connection:
    """A connection to `destination` by the `deadline`, or a `ConnectError`. `facts` is what is known of the host.

    `begun` is told the ssh that tries to connect, so that another thread can ask it to end. `make_room` is called as
    long as sshd allows no more sessions than there are.
    """

    def __init__(
        self,
        destination: ssh.Destination,
        password: str | None,
        begun: Callable[[LocalProcess], object],
        make_room: Callable[[], object],
        deadline: float,
    ) -> None:
        self.destination = destination
        self._make_room = make_room
        self._session_ended = threading.Condition()
        self._sessions = 0
        self._held: set[RemoteProcess] = set()
        self._starts = 0
        self._is_closed = False
        self._late: list[threading.Thread] = []
        self._last_words: list[str] = []
        self._telling = threading.Lock()
        self._closing = threading.Lock()  # held, and never for long, to read from the files below and to close them
        self._socket = os.path.join(ssh.private_directory(), secrets.token_hex(4))
        mark = secrets.token_hex(8)
        with ssh.askpass(password) as askpass, contextlib.ExitStack() as made:
            self._said = made.enter_context(ssh.message_file())
            env = askpass.env if askpass else {}
            self._master = ssh.start_master(destination, self._socket, env, self._said.fileno())
            self._end = weakref.finalize(self, _end, self._master, self._said, self._closing, os.getpid())
            made.pop_all()  # closed with the connection from here on
            if askpass:
                askpass.allow(self._master.pid)
            try:
                begun(self._master)
                self._tell(f"{script.FOR_ZSH}{script.keeper(mark)}\n")
                _skip_to(script.printed(mark), [self._master.stdout], deadline, {})
                self.facts = script.facts(_line(self._master.stdout, deadline, {}))
            except _TimeIsUpError:
                if os.path.exists(self._socket):  # ssh makes it when it is authenticated
                    reason = ssh.no_shell(destination)
                else:
                    reason = ssh.no_answer(destination, self._ssh_said(), askpass.unanswered() if askpass else ())
                self.close()
                raise reason from None
            except _EndlessError as error:
                self.close()
                raise ConnectError(f"cannot connect to {destination}: {error}") from None
            except (_EndedError, OSError, ValueError) as error:
                self.is_lost()
                instead = getattr(error, "said", b"").decode("utf-8", "replace").split("\n")
                said = self._ssh_said() or [line for line in instead if line.strip()]
                left = destination._replace(timeout=max(deadline - time.monotonic(), 1))  # to ask for a fingerprint in
                reason = ssh.refusal(left, said, askpass.unanswered() if askpass else ())
                self.close()
                raise reason from None
            except BaseException:
                self.close()
                raise
            os.set_blocking(cast(IO[bytes], self._master.stdout).fileno(), False)
            self._said.seek(0)  # a later error is not explained by the host's banner
            _all.add(self)

    @property
    def is_alive(self) -> bool:
        """Whether ssh and the keeper at its other end are there."""
        with self._closing:
            return self._master.poll() is None and not _has_ended(self._master.stdout)

    @property
    def has_ended_all(self) -> bool:
        """Whether the keeper was made to end all that runs, or has ended itself."""
        return self._is_closed or not self.is_alive

    def is_lost(self) -> bool:
        """Whether the connection has ended, or is about to: its pipes end a moment before it does."""
        deadline = time.monotonic() + 0.5
        while self.is_alive and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.is_alive

    def lost(self) -> ConnectionLostError:
        """The error that tells how the connection was lost."""
        said = self._ssh_said()
        said = [line for line in said if not line.startswith(("Warning: ", "mux_"))]
        return ConnectionLostError(
            f"lost the connection to {self.destination}: "
            + (said[-1].strip() if said else f"ssh ended with the status {self._master.poll()} and without a message")
        )

    def close(self) -> None:
        """End what runs through the connection, and the connection."""
        is_whole = hasattr(self, "facts") and self.is_alive
        deadline = time.monotonic() + 2
        with self._session_ended:
            self._is_closed = True
            if is_whole:  # the keeper ends what it knows of
                self._session_ended.wait_for(lambda: self._starts == 0, 2)
        for thread in self._late if is_whole else ():
            thread.join(max(deadline - time.monotonic(), 0))
        with self._telling:
            self._last_words = self._ssh_said()
            self._end()
        with contextlib.suppress(TimeoutExpired):
            self._master.wait(2 * GRACE + 1 if is_whole else 0)
        self._master.end()
        with contextlib.suppress(OSError):
            os.unlink(self._socket)

    def forget(self) -> None:
        """In a forked child: leave the connection to the parent."""
        self._end.detach()
        self._master.forget()
        self._said.close()

    def start(
        self,
        words: Sequence[str],
        *,
        envs: Mapping[str, str],
        user: str | None,
        stdin: bool,
        held: bool,
        named: bool,
        timeout: float | None,
        full_after: float | None = None,
    ) -> RemoteProcess:
        """Start `words` there, once sshd allows one more session.

        Raises `CannotStartError` if the host cannot start them, `GoneError` if the connection was lost before, and
        `FullError` if open processes still hold all sessions after `full_after` seconds (None: wait until one of them
        ends).
        """
        mark = secrets.token_hex(8)
        fed = stdin and not held
        line = script.command(
            words, mark=mark, envs=envs, user=user, remote=self.facts, held=held, fed=fed, named=named
        )
        longest = max(len(encode(text)) for text in (*words, *(f"{name}={value}" for name, value in envs.items())))
        if len(line) >= script.LONGEST or longest >= script.LONGEST_ARGUMENT:
            raise CannotStartError(126, words, os.strerror(errno.E2BIG)) from OSError(errno.E2BIG, words[0])
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._starting():
            process = RemoteProcess(self, words, mark, self._session(deadline, full_after))
            if held:
                with self._session_ended:
                    self._held.add(process)
            try:
                process.begin(f"{script.FOR_ZSH}{line}\n".encode(), keep_stdin=stdin, deadline=deadline)
            except (_EndedError, BrokenPipeError) as error:
                process.end()
                if self.is_lost():
                    raise self.lost() from None
                said = getattr(error, "said", b"").decode("utf-8", "replace").strip() or "it said nothing"
                raise UnixError(f"{self.destination} did not run {words[0]}: {said}") from None
            except _EndlessError as error:
                process.end()
                raise UnixError(f"{self.destination} did not run {words[0]}: {error}") from None
            except _TimeIsUpError:
                process.end()
                raise TimeoutExpired(list(words), timeout or 0) from None
            except _NoSuchUserError:
                process.end()
                raise UserError(
                    f"there is no user {user!r} on {self.destination} to run commands as (control su)"
                ) from None
            except BaseException:
                process.end()
                raise
            return process

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """For the duration of a block, in which a process begins: the connection is not closed before it is known."""
        with self._session_ended:
            if self._is_closed:
                raise GoneError(str(self.destination))
            self._starts += 1
        try:
            yield
        finally:
            with self._session_ended:
                self._starts -= 1
                self._session_ended.notify_all()

    def for_terminal(
        self, words: Sequence[str], *, envs: Mapping[str, str], user: str | None, own: bool = False
    ) -> LocalProcess:
        """Start `words` there on this program's own terminal, or on a terminal of its `own`."""
        line = script.for_terminal(words, envs=envs, user=user, remote=self.facts)
        on_terminal = ["-t", "-e", "none"] if own else ["-t"] if os.isatty(0) else []
        argv = ["ssh", "-F", "none", "-S", self._socket, "-o", "ProxyCommand=false", *on_terminal, "-q", "--"]
        return start([*argv, "remote", line], env=os.environ, terminal=not own, own_terminal=own)

    def told(self, what: str, group: int, grace: float = GRACE) -> None:
        """Tell the keeper of a process group: it has begun (``+``), ended (``-``), or is to be ended (``x``, ``g``).

        Or of a process that it is to go on (``u``).
        """
        self._tell(f"{what} {group} {round(grace * 10)}\n")

    def later(self, end: Callable[[], None]) -> None:
        """Have a process ended that is not known yet to have begun, without waiting for that."""
        thread = threading.Thread(target=end, daemon=True)
        self._late = [*(each for each in self._late if each.is_alive()), thread]
        thread.start()

    def ended(self, process: RemoteProcess | None = None) -> None:
        """Record the end of a session, that of `process` if it had one, so that another one can begin."""
        with self._session_ended:
            self._sessions -= 1
            if process:
                self._held.discard(process)
            self._session_ended.notify()

    def _tell(self, line: str) -> None:
        with self._telling, contextlib.suppress(BrokenPipeError, ValueError):
            if self._master.stdin:
                self._master.stdin.write(line.encode())
                self._master.stdin.flush()

    def _session(self, deadline: float | None, full_after: float | None) -> _Session:
        """Return a new session; if sshd allows no further one (MaxSessions), wait until another one ends."""
        self._forget_old_messages()
        begun = time.monotonic()
        asks = begun + (_POLITE if deadline is None else min(_POLITE, (deadline - begun) / 2))
        while True:
            with self._session_ended:
                self._sessions += 1
            try:
                return _Session(self._socket, deadline)
            except BaseException as error:
                self.ended()
                if isinstance(error, ConnectionError | FileNotFoundError | _EndedError):
                    raise GoneError(str(self.destination)) from None
                if isinstance(error, _TimeIsUpError):
                    raise TimeoutExpired(["ssh"], 0) from None
                if not isinstance(error, _NoRoomError):
                    raise
                reason = str(error)
            with self._session_ended:
                others, held = self._sessions, [_shown(each.words) for each in self._held]
                waited = time.monotonic() - begun
                if full_after is not None and waited > full_after and others == len(held):
                    raise FullError(f"all {others} sessions to {self.destination} are held, by {', '.join(held)}")
                if waited > _PATIENCE[others > 0]:
                    by = f", {len(held)} of which are held by {', '.join(held)}" if held else ""
                    raise ConnectError(
                        f"sshd on {self.destination} allows no session beside {others} others{by} ({reason}): "
                        "close one, such as an unused Hypervisor, or raise MaxSessions in its configuration"
                    )
                self._session_ended.wait(0.05)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutExpired(["ssh"], 0)
            if time.monotonic() > asks:
                self._make_room()

    def _ssh_said(self) -> list[str]:
        """Return ssh's messages; once connected only the later ones, without the host's banner."""
        with self._closing:
            if self._said.closed:
                return self._last_words
            return ssh.messages(self._said)

    def _forget_old_messages(self) -> None:
        """Let ssh overwrite its first messages before the file is full."""
        with self._closing:
            if not self._said.closed and self._said.tell() > ssh.MESSAGES_SIZE // 2:
                self._said.seek(0)


def _shown(words: Sequence[str]) -> str:
    """Return a command line without its options, whose values may be secret."""
    return " ".join([word for word in words if not word.startswith("-")])[:80]


def connected(
    destination: ssh.Destination,
    password: str | None,
    begun: Callable[[LocalProcess], object],
    make_room: Callable[[], object],
) -> Connection:
    """Return a `Connection`. One that sshd drops at once is tried again, after a pause that grows."""
    deadline = time.monotonic() + destination.timeout
    tries = 0
    while True:
        tries += 1
        try:
            with startup(destination, deadline):
                return Connection(destination, password, begun, make_room, deadline)
        except ssh.DroppedError as error:
            pause = random.uniform(0.5, 1) * (PAUSES_S[tries - 1] if tries <= len(PAUSES_S) else math.inf)
            if time.monotonic() + pause > deadline:
                raise ConnectError(
                    f"{error} ({tries} tries; sshd drops new connections while too many others to it, or to a jump "
                    "host, are not authenticated yet: MaxStartups in its configuration, 10 by default)"
                ) from None
        time.sleep(pause)


class RemoteProcess(Process):
    """A process at the other end of a connection."""

    def __init__(self, connection: Connection, words: Sequence[str], mark: str, session: _Session) -> None:
        self._connection = connection
        self._mark = mark
        self._session = session
        self.words = list(words)
        self.stdin, self.stdout, self.stderr = session.pipes
        self.pid = 0
        self.returncode: int | None = None
        self._owner = os.getpid()
        self._waiting = threading.RLock()
        self._seen: dict[int, bytes] = {}
        self._seen_behind: dict[int, bytes] = {}
        self._is_begun = False
        self._signal = 0

    def begin(self, line: bytes, *, keep_stdin: bool, deadline: float | None) -> None:
        """Send the line that runs the command, and read up to the marks that it prints."""
        if self.stdin:
            self._is_begun = True
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(line)
                self.stdin.flush()
            if not keep_stdin:
                with contextlib.suppress(BrokenPipeError):
                    self.stdin.close()
                self.stdin = None
        state = self._read_marks(deadline)
        if state == 1:
            raise _NoSuchUserError
        if state == 127:
            raise CannotStartError(127, self.words, "command not found")
        if state != 0:
            raise CannotStartError(126, self.words, os.strerror(errno.EACCES))

    def _read_marks(self, deadline: float | None) -> int:
        """Read up to the marks; the state that they tell. Then it is known which process it is.

        After an interruption it goes on where it was. A Ctrl-C can lose the byte that has just been read, too; that is
        why the number of the process, to which signals will go, is there twice.
        """
        _skip_to(script.printed(self._mark), [self.stderr, self.stdout], deadline, self._seen)
        pid, state, same = map(int, _line(self.stderr, deadline, self._seen_behind).split())
        if pid != same:
            raise ValueError(f"the process may be {pid} or {same}")
        if state == 0:
            self.pid = pid
            self._connection.told("+", pid)
        _line(self.stdout, deadline, self._seen_behind)
        return state

    def poll(self) -> int | None:
        with contextlib.suppress(TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and self._owner != os.getpid():
            self.forget()
        begun = time.monotonic()
        if not self._waiting.acquire(timeout=-1 if timeout is None else timeout):  # another thread waits for its end
            raise TimeoutExpired(self.words, timeout or 0)
        try:
            if self.returncode is None:
                left = None if timeout is None else max(timeout - (time.monotonic() - begun), 0)
                self.returncode = self._session.exit_status(left, self.words)
                self._connection.ended(self)
                if self.pid:
                    self._connection.told("-", self.pid)
            return self.returncode
        finally:
            self._waiting.release()

    def end(self, grace: float = GRACE) -> int:
        if self._owner != os.getpid():
            self.forget()
            return 0
        if not self.pid and self._is_begun:  # it may have begun by now, and has to be known to be ended
            with contextlib.suppress(_EndedError, _EndlessError, OSError, ValueError):
                try:
                    self._read_marks(time.monotonic() + grace)
                except _TimeIsUpError:
                    self._connection.later(self._end_later)
                    return 255
        return self._end_now(grace)

    def _end_later(self) -> None:
        """End it when it is known to have begun, however slow the network is."""
        with contextlib.suppress(_EndedError, _EndlessError, _TimeIsUpError, OSError, ValueError):
            self._read_marks(time.monotonic() + _LATE)
        self._end_now(GRACE)

    def _end_now(self, grace: float) -> int:
        if self.pid:
            self._connection.told("x" if self.poll() is None else "g", self.pid, grace)
        super().close_pipes()
        if self.pid:
            with contextlib.suppress(TimeoutExpired):
                self.wait(grace + 1)
        self._session.leave()
        try:
            return self.wait()
        finally:
            with self._waiting:  # a thread that waits here has been woken, and leaves
                self._session.close()

    def go_on(self) -> None:
        """Send the process the signal USR1."""
        self._connection.told("u", self.pid)

    def close_pipes(self) -> None:
        super().close_pipes()
        if self.returncode is not None:
            self._session.close()

    def forget(self) -> None:
        self._leave_pipes()
        self._session.close()
        self.returncode = 0

    def cleaned(self, stderr: bytes) -> bytes:
        before, mark, behind = stderr.rpartition(self._mark.encode())
        found = re.match(rb" (\d+);", behind) if mark else None
        if found is None:
            return stderr
        self._signal = int(found[1])
        return before + behind[found.end() :]

    def conclude(self) -> None:
        if self._signal in _ENDS and self._connection.has_ended_all:
            where = self._connection.destination
            raise ConnectionLostError(f"{self.words[0]} was ended with the connection to {where}, which was closed")
        if self._session.status is None:
            if self._connection.is_lost():
                raise self._connection.lost()
            where = self._connection.destination
            raise ConnectionLostError(f"the session on {where} ended before {self.words[0]} did")
        if self._signal and self.returncode == 255:
            self.returncode = -self._signal


class _Session:
    """A session on a control socket: its three pipes, and the exit status, None as long as there is none."""

    def __init__(self, path: str, deadline: float | None) -> None:
        self._unread = bytearray()
        self.status: int | None = None
        self._closing = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs: list[int] = []
        ours: list[IO[bytes]] = []
        try:
            self._limit_sending(deadline)
            self._socket.connect(path)
            self._socket.sendall(mux.hello())
            for write in (True, False, False):
                reading, writing = os.pipe()
                with contextlib.suppress(OSError):
                    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
                theirs.append(reading if write else writing)
                ours.append(os.fdopen(writing, "wb") if write else os.fdopen(reading, "rb"))
            self._socket.sendall(mux.new_session(script.BOOT))
            for descriptor in theirs:
                socket.send_fds(self._socket, [b"\0"], [descriptor])
            self._open(deadline)
        except BaseException as error:
            self._socket.close()
            for pipe in ours:
                pipe.close()
            if isinstance(error, BlockingIOError):
                raise _TimeIsUpError from None
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self.pipes = (ours[0], ours[1], ours[2])

    def _limit_sending(self, deadline: float | None) -> None:
        """Limit connecting and sending to the `deadline`, because a stopped ssh accepts nothing."""
        if deadline is not None:
            microseconds = max(round((deadline - time.monotonic()) * 1e6), 1)
            limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def exit_status(self, timeout: float | None, words: Sequence[str]) -> int:
        """Wait for the end of the session, for at most `timeout` seconds; 255 if there is no exit status."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                message = self._message(deadline)
                if message.kind == mux.EXIT_MESSAGE:
                    self.status = message.second
                    return self.status
        except _TimeIsUpError:
            raise TimeoutExpired(list(words), timeout or 0) from None
        except (_EndedError, OSError):
            self.close()
        return 255 if self.status is None else self.status

    def leave(self) -> None:
        """Leave the session, whatever its state, and wake the thread that waits for its end. Thread-safe."""
        with self._closing, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, once no thread waits for its messages."""
        with self._closing:
            self._socket.close()

    def _open(self, deadline: float | None) -> None:
        while True:
            message = self._message(deadline)
            if message.kind == mux.SESSION_OPENED:
                return
            if message.kind in (mux.FAILURE, mux.DENIED):
                raise _NoRoomError(message.reason())

    def _message(self, deadline: float | None) -> mux.Message:
        while (message := mux.taken(self._unread)) is None:
            if self._socket.fileno() < 0:
                raise _EndedError(b"")
            _wait_for([self._socket.fileno()], deadline)
            data = self._socket.recv(_CHUNK)
            if not data:
                raise _EndedError(b"")
            self._unread += data
        return message


class GoneError(Exception):
    """The connection has gone before a command was given to it."""


class FullError(Exception):
    """All sessions that sshd allows are in use, and may never end."""


class _EndedError(Exception):
    """A pipe or a socket has ended; `said` is what came before."""

    def __init__(self, said: bytes) -> None:
        super().__init__(said)
        self.said = said


class _EndlessError(Exception):
    """The output before a mark exceeds the limit."""


class _TimeIsUpError(Exception):
    """Nothing came in time."""


class _NoRoomError(Exception):
    """sshd refuses one more session."""


class _NoSuchUserError(Exception):
    """There is no user of that name."""


def _wait_for(descriptors: Collection[int], deadline: float | None) -> list[int]:
    """Wait until there is something to read, or the end of it; the descriptors where there is."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    ready = poll.poll(None if deadline is None else max(deadline - time.monotonic(), 0) * 1000)
    if not ready:
        raise _TimeIsUpError
    return [descriptor for descriptor, _ in ready]


def _skip_to(mark: bytes, pipes: Collection[IO[bytes] | None], deadline: float | None, seen: dict[int, bytes]) -> None:
    """Read from all `pipes` up to the end of `mark`, and not a byte more; whichever has something comes first.

    The end of what was read is in `seen`, by descriptor; if it raises, it can go on with that later.
    """
    descriptors = [pipe.fileno() for pipe in pipes if pipe]
    count = 0
    while missing := [each for each in descriptors if not seen.get(each, b"").endswith(mark)]:
        for descriptor in _wait_for(missing, deadline):
            found = seen.get(descriptor, b"")
            data = os.read(descriptor, len(mark) - _begun_at_end(mark, found))
            if not data:
                raise _EndedError(b"".join(seen.get(each, b"") + _rest(each) for each in descriptors))
            seen[descriptor] = (found if len(found) < 2 * _LAST_OUTPUT else found[-_LAST_OUTPUT:]) + data
            count += len(data)
        _go_on_until(deadline)
        if count > _MOST_OUTPUT:
            raise _EndlessError(f"its login printed more than {_MOST_OUTPUT >> 20} MiB before it ran the command")


def _begun_at_end(mark: bytes, data: bytes) -> int:
    """Return the length of the longest beginning of `mark` at the end of `data`."""
    end = data[-len(mark) :]
    start = end.find(mark[:1])
    while start >= 0 and not mark.startswith(end[start:]):
        start = end.find(mark[:1], start + 1)
    return len(end) - start if start >= 0 else 0


def _line(pipe: IO[bytes] | None, deadline: float | None, seen: dict[int, bytes]) -> str:
    """Read the rest of a line, and not a byte more; it, too, can go on with what it has `seen`."""
    if pipe is None:
        return ""
    descriptor = pipe.fileno()
    while not (line := seen.get(descriptor, b"")).endswith(b"\n"):
        _wait_for([descriptor], deadline)
        data = os.read(descriptor, 1)
        if not data or len(line) > _CHUNK:
            raise _EndedError(line)
        seen[descriptor] = line + data
        _go_on_until(deadline)
    return line.decode("utf-8", "surrogateescape")


def _go_on_until(deadline: float | None) -> None:
    """Raise `_TimeIsUpError` after the deadline, even if there is data to read."""
    if deadline is not None and time.monotonic() > deadline:
        raise _TimeIsUpError


def _rest(descriptor: int) -> bytes:
    """What still comes from a pipe whose other end is closing."""
    rest = b""
    with contextlib.suppress(_TimeIsUpError, OSError):
        while len(rest) < _CHUNK and _wait_for([descriptor], time.monotonic() + 0.2):
            data = os.read(descriptor, _CHUNK)
            if not data:
                break
            rest += data
    return rest


def _has_ended(pipe: IO[bytes] | None) -> bool:
    """Whether a pipe that does not block has come to its end; what login scripts still print into it is dropped."""
    if pipe is None or pipe.closed:
        return True
    try:
        return not os.read(pipe.fileno(), _CHUNK)
    except BlockingIOError:
        return False


_leaving: list[LocalProcess] = []
"""The masters that are on their way out; somebody has to take note of their ends."""


def _end(master: LocalProcess, said: IO[bytes], closing: threading.Lock, owner: int) -> None:
    """Close the keeper's input, also where a Connection was dropped: it ends all there, and the master follows."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            if master.stdin:
                master.stdin.close()
        with closing:
            master.close_pipes()
            said.close()
        _leaving[:] = [each for each in (*_leaving, master) if each.poll() is None]


_all: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forget_all() -> None:
    for connection in list(_all):
        connection.forget()


os.register_at_fork(after_in_child=_forget_all)
