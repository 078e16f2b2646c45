"""The files of a host by commands, for a host that can do no more than run them.

What a command complains about becomes the error that Python has for it. Only what every Unix has is used: sh, cat, ls,
mkdir, rm, mv, and where there is one, a stat that tells owner and mode.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import threading
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from unix.errors import CommandTimeoutError
from unix.host import Host, Path
from unix.result import Result
from unix.words import word

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer, WriteableBuffer

    from unix.process import Process


class FilesByCommand(Host):
    """A host whose files are reached by commands."""

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        """As `Host.open`, for ``'r'``, ``'w'``, ``'x'`` and ``'a'``: files are read and written from beginning to end.

        What is written to ``'w'`` and ``'x'`` becomes the file when it is closed, all of it; not if the block ends with
        an exception, or the connection breaks. Where no other file can take its place (see `write`) it is written where
        it is.
        """
        kind = mode.replace("b", "")
        if kind == "r":
            return cast(
                BinaryIO, io.BufferedReader(_Reading(self._file_process(_READ, path, stdin=False), path), 1 << 16)
            )
        if kind in ("w", "x", "a"):
            return cast(BinaryIO, _Writing(self._file_process(_WRITE, path, kind, stdin=True), path))
        raise ValueError(f"a file of {self} is opened with 'r', 'w', 'x' or 'a', not with {mode!r}")

    def read(self, path: Path) -> bytes:
        """As `Host.read`. `CommandTimeoutError` if it takes longer than the ``timeout`` control allows."""
        return super().read(path) if self.time_limit() is None else self._file_output(_READ, path)

    def write(self, path: Path, data: bytes | str) -> None:
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else memoryview(data).cast("B")
        with _Writing(self._file_process(_WRITE, path, "w", stdin=True), path, self.time_limit()) as file:
            file.write(content)

    def exists(self, path: Path) -> bool:
        if not path or "\0" in os.fsdecode(path):
            return False
        return self._file_output(_EXISTS, path) == b"0"

    def listdir(self, path: Path = ".") -> list[str]:
        names = self._file_output(_LIST, path).split(b"\0")
        return sorted(os.fsdecode(name) for name in names if name)

    def mkdir(self, path: Path, *, parents: bool = False) -> None:
        self._file_output('mkdir -p -- "$1"' if parents else 'mkdir -- "$1"', path)

    def remove(self, path: Path, *, recursive: bool = False) -> None:
        self._file_output(_REMOVE, path, "-r" if recursive else "")

    def which(self, command: str) -> str | None:
        envs = cast(Mapping[str, str], self.get_control("envs"))
        path = word(envs["PATH"]) if "PATH" in envs else self._file_command('printf %s "$PATH"', "").stdout
        found = self._file_command(_WHICH, command, path)
        if not found.status:
            raise _os_error(found.stderr, command)
        return os.fsdecode(found.stdout[1:]) or None

    def _file_command(self, script: str, *given: str | bytes) -> _Bytes:
        with self._controls.changed({"locale": "C", "decode": None, "envs": {}}):
            return cast(_Bytes, self.run(["/bin/sh", "-c", script, "sh", *given]))

    def _file_output(self, script: str, path: Path, *more: str) -> bytes:
        """What `script` prints about the file at `path`; what it complains about is raised as an `OSError`."""
        result = self._file_command(script, _given(path), *more)
        if not result.status:
            raise _os_error(result.stderr, path)
        return result.stdout

    def _file_process(self, script: str, path: Path, *more: str, stdin: bool) -> Process:
        with self._controls.changed({"locale": "C", "envs": {}}):
            return self._start(["/bin/sh", "-c", script, "sh", _given(path), *more], stdin=stdin, held=True)


_READ = 'exec cat -- "$1"'

_LIST = """
ls -a -- "$1" > /dev/null || exit
[ -e "$1" ] || { echo "No such file or directory" >&2; exit 1; }
[ -d "$1" ] || { echo "Not a directory" >&2; exit 1; }
cd -- "$1" || { echo "Permission denied" >&2; exit 1; }
for name in * .*; do
  case $name in .|..) continue; esac
  if [ -e "$name" ] || [ -L "$name" ]; then printf '%s\\0' "$name"; fi
done
"""

_REMOVE = """
if [ ! -d "$1" ] || [ -L "$1" ]; then exec rm -- "$1"; fi
if [ -n "$2" ]; then exec rm -r -- "$1"; fi
exec rmdir -- "$1"
"""

_EXISTS = '[ -e "$1" ]; printf %s $?'

_WHICH = """
printf /
case $1 in
  */*) [ ! -f "$1" ] || [ ! -x "$1" ] || printf %s "$1" ;;
  *) set -f; IFS=:
     for directory in $2; do
       if [ -f "$directory/$1" ] && [ -x "$directory/$1" ]; then printf %s "$directory/$1"; exit; fi
     done ;;
esac
"""

_WRITE = """
path=$1 mode=$2
if [ -d "$path" ]; then echo "Is a directory" >&2; exit 1; fi
if [ "$mode" = a ]; then : >> "$path" && printf '\\0' && exec cat >> "$path"; exit 1; fi
if [ "$mode" = x ] && { [ -e "$path" ] || [ -L "$path" ]; }; then echo "File exists" >&2; exit 1; fi
if [ -L "$path" ]; then path=$(readlink -f "$path" && printf x); path=${path%?x}; fi
if [ -e "$path" ] && [ ! -f "$path" ]; then printf '\\0'; exec cat > "$path"; fi
owner=; [ ! -e "$path" ] || owner=$(stat -c %u:%g -- "$path")
if new=$(mktemp "${path%/*}/.unix-XXXXXXXX"); then
  trap 'rm -f "$new"; exit 1' HUP INT PIPE TERM
  if [ -n "$owner" ] && [ "$owner" != "$(id -u):$(id -g)" ] && ! chown "$owner" "$new" 2> /dev/null; then
    rm -f "$new"
    trap - HUP INT PIPE TERM
    : >> "$path" && printf '\\0' && exec cat > "$path"
    exit 1
  fi
else
  [ -e "$path" ] && : >> "$path" && printf '\\0' && exec cat > "$path"
  exit 1
fi
printf '%s\\0' "$new"
cat > "$new" || { rm -f "$new"; exit 1; }
if [ -e "$path" ]; then  # now, because writing takes away what chmod u+s gives
  chmod "$(stat -c %a -- "$path")" "$new"
else
  chmod "$(printf %o $((0666 & ~$(umask))))" "$new"
fi
sync "$new" & wait $!  # the shell hears a signal meanwhile, which it would not with sync in the foreground
ready=
trap 'ready=yes' USR1
printf '%s\\0' "$(wc -c < "$new")"
while [ -z "$ready" ]; do sleep 0.02; done
if [ "$mode" = x ]; then ln -- "$new" "$path"; status=$?; rm -f -- "$new"; exit $status; fi
mv -f -- "$new" "$path" || { rm -f "$new"; exit 1; }
"""
"""Tells, each ended by a NUL, where it writes, and at the end of its input how much that is. Then it waits for the sign
to go on: whoever ends it before, as when the connection is lost, has what was written removed. Where nothing can be put
beside the file, it tells nothing and writes to the file itself."""


class _Bytes(Result):
    """A Result under the control ``decode=None``: its outputs are bytes."""

    stdout: bytes  # type: ignore[assignment]
    stderr: bytes  # type: ignore[assignment]


_TIME_TO_REMOVE = 10.0
"""Seconds that a process has for removing what it has written: a disk that is busy takes its time."""


class _Reading(io.RawIOBase):
    """The content of a file, as it comes from a process."""

    def __init__(self, process: Process, path: Path) -> None:
        self._process = process
        self._path = path
        self._has_ended = False
        self._first = self._chunk(1 << 16)  # so that what is wrong with the file is said now

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._first or self._chunk(len(view))
        self._first = data[len(view) :]
        view[: len(data[: len(view)])] = data[: len(view)]
        return min(len(data), len(view))

    def close(self) -> None:
        if not self.closed:
            self._process.end()
        super().close()

    def _chunk(self, size: int) -> bytes:
        if self._has_ended or self._process.stdout is None:
            return b""
        data = os.read(self._process.stdout.fileno(), size)
        if not data:
            self._has_ended = True
            _check(self._process, self._path)
        return data


class _Writing(io.RawIOBase):
    """A file that is written beside its target, and replaces it when it is closed, within `limit` seconds."""

    def __init__(self, process: Process, path: Path, limit: float | None = None) -> None:
        self._process = process
        self._path = path
        self._size = 0
        self._limit = limit
        self._deadline = None if limit is None else time.monotonic() + limit
        self._writing = threading.RLock()  # held to write to the process and to close its input
        try:
            self._is_beside = self._told() != ""
        except BaseException:
            self._process.end()
            raise

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        left = view
        with self._writing:
            if self.closed:
                raise ValueError("I/O operation on closed file")
            stdin = cast(IO[bytes], self._process.stdin)
            os.set_blocking(stdin.fileno(), self._limit is None)
            try:
                while left:
                    self._wait_for(stdin, select.POLLOUT)
                    with contextlib.suppress(BlockingIOError):
                        left = left[os.write(stdin.fileno(), left[: 1 << 20]) :]
            except BrokenPipeError:
                super().close()
                _check(self._process, self._path)
                raise
            self._size += len(view)
        return len(view)

    def close(self) -> None:
        with self._writing:
            self._finish()

    def _finish(self) -> None:
        if self.closed:
            return
        super().close()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            if self._is_beside:
                if int(self._told()) != self._size:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(self._path))
                self._process.go_on()
            self._wait_for(self._process.stdout, select.POLLIN)  # until it is closed
            _check(self._process, self._path)
        finally:
            self._process.end(_TIME_TO_REMOVE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def __del__(self) -> None:
        self._discard()  # nobody has closed it, so nobody knows that it is complete

    def _discard(self) -> None:
        with self._writing:
            if not self.closed:
                super().close()
                self._process.end(_TIME_TO_REMOVE)

    def _wait_for(self, pipe: IO[bytes] | None, event: int) -> None:
        """Wait until a pipe of the process is ready; `CommandTimeoutError` if it is not before the deadline."""
        if pipe is None or self._deadline is None or self._limit is None:
            return
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(self._deadline - time.monotonic(), 0) * 1000):
            raise CommandTimeoutError(["write", os.fsdecode(self._path)], self._limit)

    def _told(self) -> str:
        """What the process says up to a NUL."""
        said = b""
        while not said.endswith(b"\0"):
            self._wait_for(self._process.stdout, select.POLLIN)
            data = os.read(cast(IO[bytes], self._process.stdout).fileno(), 1)
            if not data:
                _check(self._process, self._path)
                raise OSError(errno.EIO, os.strerror(errno.EIO), self._path)
            said += data
        return os.fsdecode(said[:-1])


def _check(process: Process, path: Path) -> None:
    """Wait for the end of a process that has closed its output; what it has complained about is raised."""
    if process.stdin:
        process.stdin.close()
    stderr = process.stderr.read() if process.stderr else b""
    process.wait()
    process.close_pipes()
    process.conclude()
    if process.returncode:
        raise _os_error(stderr, path)


def _os_error(stderr: bytes, path: Path) -> OSError:
    """The error that Python has for what a command has complained about."""
    said = stderr.decode("utf-8", "replace").strip()
    for number in errno.errorcode:
        if said.endswith(os.strerror(number)):
            return OSError(number, os.strerror(number), os.fspath(path))
    if said.endswith(("Directory nonexistent", "No such file")):  # as dash has it
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    return OSError(errno.EIO, said or os.strerror(errno.EIO), os.fspath(path))


def _given(path: Path) -> str:
    """A path as a word that no command takes for an option."""
    text = word(path)
    if not text:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    return text if text.startswith("/") else f"./{text}"
