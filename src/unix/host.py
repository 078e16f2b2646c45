"""What every host can do, in terms of the little that each kind of host does in its own way.

A kind of host says how to start a process and how to reach a file; the rest, from quoting to timeouts, is here
and therefore the same on all of them.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Unpack, cast

from unix.controls import HOST_CONTROLS, Controls, ControlSet, Deadline
from unix.errors import ArgumentError
from unix.result import Result
from unix.words import Argument, Option, command_line, encode, words_of

if TYPE_CHECKING:
    from unix.process import Process

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Line = tuple[Literal["stdout", "stderr"], str] | tuple[Literal["status"], bool]


class Host(ABC):
    """A Unix host: run commands on it, read and write its files.

    Commands run in the host's locale ``C.UTF-8`` and without a shell; `set_controls` changes that and more,
    see `unix.Controls`.
    """

    _controls: ControlSet

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_controls": self._controls.given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._controls = self._control_set(state["_controls"])

    def _control_set(self, given: Mapping[str, object]) -> ControlSet:
        """The controls of this kind of host, with the values that are `given`."""
        return ControlSet(HOST_CONTROLS, given)

    # -- commands --------------------------------------------------------------------------------------------

    def execute(self, command: str, *args: Argument, **options: Option) -> Result:
        """Run `command` and wait for its end.

        `command` is split into words as a shell would do it, but nothing is expanded: ``"ls -l"`` is two
        words. Each of `args` is passed verbatim as one word. An option ``all=True`` becomes ``--all``,
        ``c='x'`` becomes ``-c x``, a list repeats the option, False and None leave it out; ``_`` in its name
        becomes ``-``, and one trailing ``_`` is dropped (``from_='x'``).

        Returns a `Result`, also for a command that fails or does not exist. Raises `ArgumentError` for what
        cannot be passed to a process, and `CommandTimeoutError` when the ``timeout`` control ends it.
        """
        return self.run(self._words(command, args, options))

    def run(
        self,
        argv: Sequence[Argument],
        *,
        input: bytes | str | None = None,
        timeout: float | None = None,
        max_output: int | None = None,
    ) -> Result:
        """Run the words `argv` verbatim, with `input` (or nothing) on standard input, and wait for the end.

        `timeout` in seconds overrides the control of that name; 0 is no limit. Returns and raises what `execute` does,
        and `OutputTooLongError` if the command prints more than `max_output` bytes, where that is given.
        """
        from unix.process import CannotStartError, finish

        if timeout is not None:
            with self._controls.changed({"timeout": timeout}):
                return self.run(argv, input=input, max_output=max_output)
        data = encode(input) if isinstance(input, str) else input
        if not isinstance(data, bytes | None):
            raise ArgumentError(f"the input of a command must be bytes or text, not {type(input).__name__}")
        decode = self._decoder()
        try:
            process = self._start(words_of(argv), stdin=data is not None)
        except CannotStartError as error:
            return Result(error.return_code, decode(b""), decode(error.said))
        return_code, stdout, stderr = finish(process, data, self.time_limit(), max_output)
        return Result(return_code, decode(stdout), decode(stderr))

    def stream(
        self,
        argv: Sequence[Argument],
        *,
        pieces: Iterable[bytes] | None = None,
        take: Callable[[bytes], object] | None = None,
        heed: Callable[[bytes], object] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Run the words `argv` verbatim, with any amount of input and output, of which little is in memory at a time.

        `pieces` are written to standard input as the command reads them (without, it is empty), `take` is given what
        comes from standard output (without, that is in the result), `heed` what comes from standard error (it is in the
        result as well), and ten times a second nothing. The command may open the first two as /dev/stdin and
        /dev/stdout, on every host. What the three raise is raised here, once the command has been ended; where it ends
        without reading all pieces, the rest is not asked for.

        `timeout`, what is returned and what else is raised as with `run`.
        """
        from unix.process import CannotStartError, stream

        if timeout is not None:
            with self._controls.changed({"timeout": timeout}):
                return self.stream(argv, pieces=pieces, take=take, heed=heed)
        decode = self._decoder()
        try:
            process = self._start(words_of(argv), stdin=pieces is not None, named=True)
        except CannotStartError as error:
            return Result(error.return_code, decode(b""), decode(error.said))
        kept: list[bytes] = []
        return_code, stderr = stream(process, pieces or (), take or kept.append, self.time_limit(), heed)
        return Result(return_code, decode(b"".join(kept)), decode(stderr))

    def popen(self, argv: Sequence[Argument], *, terminal: bool = False) -> Process:
        """Start the words `argv` and hold the process open, with three binary pipes.

        With `terminal` it gets a terminal of its own instead, which passes on every byte as it is: `stdin` and `stdout`
        are our end of it, and there is no `stderr`.

        The process is a context manager: leaving the block ends it and everything that it started in its
        process group. Raises `FileNotFoundError` if there is no such command.
        """
        from unix.process import CannotStartError

        try:
            return self._start(words_of(argv), held=True, own_terminal=terminal)
        except CannotStartError as error:
            raise (error.__cause__ or error.as_os_error) from None

    def iter(self, command: str, *args: Argument, **options: Option) -> Iterator[Line]:
        """Run `command` as `execute` does, and yield its output while it comes.

        Yields ``("stdout", line)`` and ``("stderr", line)``, lines without their newline, and at last
        ``("status", bool)``. Closing the iterator ends the command. The ``timeout`` control holds for the
        whole run.
        """
        from unix.process import CannotStartError, lines

        decode = self._decoder()
        try:
            process = self._start(self._words(command, args, options), stdin=False)
        except CannotStartError as error:
            return iter((("stderr", decode(error.said.rstrip(b"\n"))), ("status", False)))

        def stream(timeout: float | None) -> Iterator[Line]:
            with process:
                yield "status", False  # taken below: from here on, dropping the iterator ends the process
                for name, line in lines(process, timeout):
                    yield name, decode(line)
                yield "status", process.returncode == 0

        started = stream(self.time_limit())
        next(started)
        return started

    def interactive(self, command: str, *args: Argument, **options: Option) -> Result:
        """Run `command` as `execute` does, but with this program's terminal as its own, until it ends.

        Returns a `Result` without output. Ctrl-C goes to the command.
        """
        from unix.process import CannotStartError, attend

        decode = self._decoder()
        try:
            process = self._start(self._words(command, args, options), terminal=True)
        except CannotStartError as error:
            return Result(error.return_code, decode(b""), decode(error.said))
        return Result(attend(process, self.time_limit()), decode(b""), decode(b""))

    def when_full(self, make_room: Callable[[], object]) -> None:  # noqa: B027  # most hosts are never full
        """Have a method called as long as a command waits for room on the host, as sshd's MaxSessions may have it wait.

        It is to end processes that were started by `popen` and are of no use at the moment; the thread that waits calls
        it, again and again. It is forgotten with the object that it is of.
        """

    @abstractmethod
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
        """Start `words` under the controls of the moment.

        Without `stdin` its standard input is empty; with `terminal` it has this program's own three files, and with
        `own_terminal` a new terminal instead of pipes; it is `held` if somebody else than this class reads its pipes.
        It may open its input as /dev/stdin unless it is held, and if that is `named`, its output as /dev/stdout.
        """

    # -- files -----------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        """Open a file; always binary, so ``'r'`` means ``'rb'``. A context manager."""

    @abstractmethod
    def write(self, path: Path, data: bytes | str) -> None:
        """Make `data` (text in UTF-8) the content of the file: all of it, or the file stays as it was.

        Unless it is another user's, or its directory may not be written to: then no other file can take its place, it
        is written where it is, and what was written before an error stays. It may take as long as the ``timeout``
        control allows.
        """

    @abstractmethod
    def exists(self, path: Path) -> bool:
        """Whether there is something at `path`; not for a symbolic link that leads nowhere."""

    @abstractmethod
    def listdir(self, path: Path = ".") -> list[str]:
        """The names in a directory, sorted, without ``.`` and ``..``."""

    @abstractmethod
    def mkdir(self, path: Path, *, parents: bool = False) -> None:
        """Make a directory; with `parents` also those above it, and it may be there already."""

    @abstractmethod
    def remove(self, path: Path, *, recursive: bool = False) -> None:
        """Remove a file, a symbolic link or an empty directory; with `recursive` a directory and all in it."""

    @abstractmethod
    def which(self, command: str) -> str | None:
        """The path of the program that `command` would run, or None."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file. It may take as long as the ``timeout`` control allows."""
        with self.open(path) as file:
            return file.read()

    # -- controls --------------------------------------------------------------------------------------------

    @property
    def controls(self) -> dict[str, object]:
        """All controls with the values that hold here and now."""
        return self._controls.current()

    def get_control(self, name: str) -> object:
        """The value of a control; `ControlError` if there is none of that name."""
        return self._controls.get(name)

    def set_control(self, name: str, value: object) -> None:
        """Set a control from here on, in this thread or task; inside a `set_controls` block, until its end."""
        self._controls.set(name, value)

    def set_controls(self, **controls: Unpack[Controls]) -> AbstractContextManager[None]:
        """Set controls for the duration of a ``with`` block, in this thread or task only."""
        return self._controls.changed(controls)

    # -- what the operations share ---------------------------------------------------------------------------

    def _words(self, command: str, args: Sequence[Argument], options: Mapping[str, Option]) -> list[str]:
        controls = cast(Controls, self.controls)
        return command_line(
            command,
            args,
            options,
            options_place=controls["options_place"],
            escape_args=controls["escape_args"],
            shell=controls["shell"],
        )

    def time_limit(self) -> float | None:
        """The seconds that a command may take, as the control ``timeout`` has it; None if there is no limit."""
        timeout = cast(float | Deadline | None, self.get_control("timeout"))
        seconds = timeout.limit if isinstance(timeout, Deadline) else timeout
        return seconds if seconds and seconds != math.inf else None

    def _decoder(self) -> Callable[[bytes], str]:
        """From bytes to text by the ``decode`` control; under None bytes stay bytes, whatever the type says."""
        codec = cast(str | None, self.get_control("decode"))
        return lambda data: data.decode(codec, "surrogateescape") if codec else cast(str, data)
