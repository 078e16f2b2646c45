"""A machine that OpenSSH reaches, as a host."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, Unpack, cast

from unix.controls import Controls
from unix.errors import ArgumentError, CommandTimeoutError, ConnectError, ConnectionLostError
from unix.files import FilesByCommand
from unix.host import Path

if TYPE_CHECKING:
    from types import TracebackType

    from unix.connection import Connection, FullError
    from unix.process import LocalProcess, Process
    from unix.ssh import Destination


_FULL_AFTER = 1.0
"""Seconds to wait for a session before a further connection is made, if open processes hold all sessions."""

_FURTHER = 3
"""The most further connections to a host, used while open processes hold all sessions of the first one."""


class Remote(FilesByCommand):
    """A machine that OpenSSH reaches. It does what `Local` does, there.

    >>> with unix.Remote().connect("root@hv1") as host:
    ...     host.execute("uname", s=True)

    Keyword arguments are the controls that it starts with. Everything goes through one connection, from as many threads
    as there are. There are further ones while processes that were left open (`popen`) hold all sessions that sshd
    allows on the first. A connection that was lost is made anew when it is next needed. A command under way when it was
    lost is a `ConnectionLostError` and is not repeated. It pickles, without the password, and connects again where it
    lands.
    """

    def __init__(self, **controls: Unpack[Controls]) -> None:
        self._controls = self._control_set(controls)
        self._destination: Destination | None = None
        self._password: str | None = None
        self._connection: Connection | None = None
        self._further: list[Connection] = []
        self._attempt: LocalProcess | None = None
        self._connecting = threading.Lock()
        self._failure: tuple[float, ConnectError | None] = (0.0, None)
        self._when_full: list[weakref.WeakMethod[Callable[[], object]]] = []
        _all.add(self)

    def connect(
        self,
        host: str,
        username: str | None = None,
        port: int | None = None,
        key_filename: Path | None = None,
        password: str | None = None,
        timeout: float = 10,
        *,
        config: Path | None = None,
        known_hosts: Path | None = None,
        host_key: Literal["known", "accept-new"] = "known",
        options: Mapping[str, str] | None = None,
        keepalive: float = 5,
    ) -> Self:
        """Connect with this machine's ``ssh``, as ``ssh HOST`` does: with your configuration, agent, keys, jump hosts.

        - `host`: a name, an address or an alias of your configuration; also ``user@host``, ``host:port``,
          ``[IPv6]:port`` and ``ssh://user@host:port``.
        - `key_filename`: the only private key to try; one with a passphrase has to be in the agent.
        - `password`: the user's password there; no other process sees it, and it is never written down.
        - `timeout`: seconds until it is given up.
        - `config`, `known_hosts`: files to take instead of ``~/.ssh/config`` and the known hosts of user and machine.
        - `host_key`: ``'known'`` refuses a host whose key is not known; ``'accept-new'`` accepts and remembers it. A
          key that has changed is always refused.
        - `options`: any others of ssh_config(5), as ``{'ProxyJump': 'gate'}``; they come before your configuration's.
        - `keepalive`: seconds between signs of life. A network that goes silent is found out within four times that.

        Returns itself, a context manager that disconnects in the end. Raises `ConnectError`, or its kinds
        `AuthenticationError` and `HostKeyError`; ssh never asks anything on the terminal.
        """
        from unix.ssh import Address, Destination

        address = Address.parse(host)
        port = port if port is None else int(port)
        username = None if username is None else _checked_name("username", username)
        for name, given, written in (("username", username, address.username), ("port", port, address.port)):
            if given is not None and written is not None and given != written:
                raise ArgumentError(f"{name}={given!r} contradicts the host {host!r}; give one of them")
        destination = Destination(
            host=address.host,
            username=username or address.username,
            port=port or address.port,
            key_filename=_path(key_filename),
            timeout=timeout,
            config=_path(config),
            known_hosts=_path(known_hosts),
            host_key=host_key,
            options=dict(options or {}),
            keepalive=keepalive,
        )
        if host_key not in ("known", "accept-new"):
            raise ArgumentError(f"host_key is 'known' or 'accept-new', not {host_key!r}")
        self.disconnect()
        self._destination, self._password = destination, password
        self._connected()
        return self

    def disconnect(self) -> None:
        """End what still runs through the connection, and the connection. `connect` makes another one.

        Another thread that is about to connect has a `ConnectError`.
        """
        self._destination = self._password = None
        if attempt := self._attempt:
            attempt.ask_to_end()
        with self._connecting:
            connections, self._connection, self._further = [self._connection, *self._further], None, []
        for connection in connections:
            if connection:
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.disconnect()

    def __str__(self) -> str:
        return str(self._destination or "a host that is not connected")

    def __repr__(self) -> str:
        return f"<Remote {self}>"

    def __getstate__(self) -> dict[str, object]:
        left_behind = {"_password": None, "_connection": None, "_connecting": None, "_failure": (0.0, None)}
        return {**super().__getstate__(), **left_behind, "_attempt": None, "_when_full": [], "_further": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """In a forked child: have no connection; the parent's is the parent's."""
        self._connection = self._attempt = None
        self._further = []
        self._connecting = threading.Lock()

    def when_full(self, make_room: Callable[[], object]) -> None:
        self._when_full.append(weakref.WeakMethod(make_room, self._when_full.remove))

    def _make_room(self) -> None:
        for each in list(self._when_full):
            if make_room := each():
                make_room()

    def _begun(self, attempt: LocalProcess) -> None:
        """Take note of the ssh that tries to connect, and end it if nobody wants that any more."""
        self._attempt = attempt
        if self._destination is None:
            attempt.ask_to_end()

    def _connected(self, asked: float | None = None) -> Connection:
        """Return the connection, made anew if it was lost.

        If that fails, all calls that `asked` for it before get the same error: none of them tries once more.
        """
        from unix.connection import connected

        asked = time.monotonic() if asked is None else asked
        if not self._connecting.acquire(timeout=self.time_limit() or -1):
            raise ConnectError(f"cannot connect to {self}: another thread is still trying to")
        try:
            destination, connection = self._destination, self._connection
            if connection and not connection.is_alive:
                connection.close()
                connection = self._connection = None
            if connection:
                return connection
            if destination is None:
                raise ConnectError("this Remote is not connected: call connect(host) first")
            failed, error = self._failure
            if error and failed > asked:
                raise type(error)(*error.args)
            try:
                self._connection = connected(destination, self._password, self._begun, self._make_room)
            except ConnectError as error:
                self._failure = (time.monotonic(), error)
                raise
            finally:
                self._attempt = None
            return self._connection
        finally:
            self._connecting.release()

    # -- commands --------------------------------------------------------------------------------------------

    def _start(
        self,
        words: Sequence[str],
        *,
        stdin: bool = True,
        terminal: bool = False,
        held: bool = False,
        own_terminal: bool = False,
        named: bool = False,
    ) -> Process:
        from unix.connection import Connection, FullError, GoneError
        from unix.log import listener
        from unix.process import TimeoutExpired

        if logger := listener("unix"):
            logger.debug("%s: start %s", self, words)
        controls = cast(Controls, self.controls)
        timeout = self.time_limit()
        asked = time.monotonic()
        for _ in range(2):  # what was gone before the command was given to it can be replaced
            connection = self._connected(asked)
            envs = dict(controls["envs"])
            if controls["locale"] is not None:
                envs = {"LC_ALL": _locale(controls["locale"], connection.facts.locales), "LANGUAGE": "", **envs}
            if terminal or own_terminal:
                return connection.for_terminal(words, envs=envs, user=controls["su"], own=own_terminal)
            start = partial(
                Connection.start, words=words, envs=envs, user=controls["su"], stdin=stdin, held=held, named=named,
                timeout=timeout,
            )  # fmt: skip
            try:
                try:
                    return start(connection, full_after=0 if self._further else _FULL_AFTER)
                except FullError as full:
                    return self._start_further(start, full)
            except GoneError:
                with self._connecting:
                    if self._connection is connection:  # what still runs through it may; with the last it ends
                        self._connection = None
            except TimeoutExpired:
                raise CommandTimeoutError(words, timeout or 0) from None
        raise ConnectionLostError(f"lost the connection to {self} twice in a row")

    def _start_further(self, start: Callable[..., Process], full: FullError) -> Process:
        """Start a process through a further connection, because open processes hold all sessions of the first one."""
        from unix.connection import FullError, GoneError

        for number in range(_FURTHER):
            try:
                full_after = None if number == _FURTHER - 1 else 0
                return start(self._further_connection(number), full_after=full_after)
            except (FullError, GoneError):
                continue
            except ConnectError as error:
                raise ConnectError(f"{full}; and through a further connection: {error}") from None
        raise ConnectError(str(full))

    def _further_connection(self, number: int) -> Connection:
        """Return one of the further connections; make it if there is none with this number."""
        from unix.connection import connected

        with self._connecting:
            for connection in [each for each in self._further if not each.is_alive]:
                self._further.remove(connection)
                connection.close()
            if number < len(self._further):
                return self._further[number]
            if self._destination is None:
                raise ConnectError("this Remote was disconnected")
            try:
                connection = connected(self._destination, self._password, self._begun, self._make_room)
            finally:
                self._attempt = None
            self._further.append(connection)
            return connection


P = ParamSpec("P")


def _of_a_new_one(method: Callable[Concatenate[Remote, P], Remote]) -> Callable[P, Remote]:
    def connect(*args: P.args, **kwargs: P.kwargs) -> Remote:
        """Connect to a host; as `Remote.connect`, for a ``with`` block.

        >>> with unix.connect("root@hv1") as host:
        ...     host.execute("uname", s=True)
        """
        return method(Remote(), *args, **kwargs)

    return connect


connect = _of_a_new_one(Remote.connect)


# -- what is checked before anything is done ----------------------------------------------------------------------


def _checked_name(what: str, name: str) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[^\x00-\x20\x7f-][^\x00-\x20\x7f]*", name):
        raise ArgumentError(f"a {what} is a text such as 'hv1' or 'root@hv1', without blanks, not {name!r}")
    return name


def _path(path: Path | None) -> str | None:
    if path is None:
        return None
    text = os.path.expanduser(os.fsdecode(path))
    if re.search(r'["\n]|\$\{', text):
        raise ArgumentError(f"ssh cannot be given a file with a quote, a line break or ${{...}} in its name: {text!r}")
    return text


def _locale(wanted: str, known: frozenset[str]) -> str:
    """The locale `wanted`; for C.UTF-8, which old systems do not have, the next best that is `known` there."""
    if wanted != "C.UTF-8" or not known or known & {"C.UTF-8", "C.utf8"}:
        return wanted
    of_utf8 = sorted(name for name in known if name.lower().endswith((".utf8", ".utf-8")))
    return next((name for name in of_utf8 if name.startswith("en_US")), (of_utf8 or ["C"])[0])


_all: weakref.WeakSet[Remote] = weakref.WeakSet()


def _forget_all() -> None:
    for remote in list(_all):
        remote.forget()


os.register_at_fork(after_in_child=_forget_all)
