"""The files of a host by commands, for a host that can do no more than run them.

What a command complains about becomes the error that Python has for it. Only what every Unix has is used: sh, cat, ls,
mkdir, rm, mv, and where there is one, a stat that tells owner and mode.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, BinaryIO, cast

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
        an exception, or the connection breaks.
        """
        kind = mode.replace("b", "")
        if kind == "r":
            return cast(
                BinaryIO, io.BufferedReader(_Reading(self._file_process(_READ, path, stdin=False), path), 1 << 16)
            )
        if kind in ("w", "x", "a"):
            return cast(BinaryIO, _Writing(self, path, kind))
        raise ValueError(f"a file of {self} is opened with 'r', 'w', 'x' or 'a', not with {mode!r}")

    def write(self, path: Path, data: bytes | str) -> None:
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else memoryview(data).cast("B")
        with self.open(path, "w") as file:
            file.write(content)

    def exists(self, path: Path) -> bool:
        return bool(path) and self._file_command('[ -e "$1" ]', _given(path)).status

    def listdir(self, path: Path = ".") -> list[str]:
        names = self._file_output(_LIST, path).split(b"\0")
        return sorted(os.fsdecode(name) for name in names if name)

    def mkdir(self, path: Path, *, parents: bool = False) -> None:
        self._file_output('mkdir -p -- "$1"' if parents else 'mkdir -- "$1"', path)

    def remove(self, path: Path, *, recursive: bool = False) -> None:
        self._file_output(_REMOVE, path, "-r" if recursive else "")

    def which(self, command: str) -> str | None:
        envs = cast(Mapping[str, str], self.get_control("envs"))
        return os.fsdecode(self._file_command(_WHICH, command, envs=envs).stdout) or None

    def _file_command(self, script: str, given: str, *more: str, envs: Mapping[str, str] | None = None) -> _Bytes:
        with self._controls.changed({"locale": "C", "decode": None, "envs": envs or {}}):
            return cast(_Bytes, self.run(["/bin/sh", "-c", script, "sh", given, *more]))

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
[ -d "$1" ] || { echo "$1: Not a directory" >&2; exit 1; }
cd -- "$1" || exit
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

_WHICH = """
case $1 in
  */*) [ ! -f "$1" ] || [ ! -x "$1" ] || printf %s "$1" ;;
  *) set -f; IFS=:
     for directory in $PATH; do
       if [ -f "$directory/$1" ] && [ -x "$directory/$1" ]; then printf %s "$directory/$1"; exit; fi
     done ;;
esac
"""

_WRITE = """
path=$1 mode=$2
if [ "$mode" = a ]; then printf '\\0'; exec cat >> "$path"; fi
if [ "$mode" = x ] && { [ -e "$path" ] || [ -L "$path" ]; }; then echo "$path: File exists" >&2; exit 1; fi
if [ -L "$path" ]; then path=$(readlink -f "$path" && printf x); path=${path%?x}; fi
if [ -e "$path" ] && [ ! -f "$path" ]; then printf '\\0'; exec cat > "$path"; fi
if ! new=$(mktemp "$(dirname "$path")/.unix-XXXXXXXX"); then
  [ -e "$path" ] || exit
  printf '\\0'; exec cat > "$path"
fi
trap 'rm -f "$new"; exit 1' HUP INT PIPE TERM
printf '%s\\0%s\\0' "$new" "$path"
cat > "$new" || { rm -f "$new"; exit 1; }
if [ -e "$path" ]; then  # now, because writing takes away what chmod u+s gives
  chown "$(stat -c %u:%g -- "$path")" "$new" 2> /dev/null
  chmod "$(stat -c %a -- "$path")" "$new"
else
  chmod "$(printf %o $((0666 & ~$(umask))))" "$new"
fi
sync "$new" & wait $!  # the shell hears a signal meanwhile, which it would not with sync in the foreground
printf '\\0'
while [ -e "$new" ]; do sleep 0.02; done
"""
"""Tells, each ended by a NUL, where it writes and what that is to become; nothing if it writes to the file itself. At
the end of its input it tells one more NUL, and stays until what it has written has become the file: whoever ends it
before, as when the connection is lost, has it removed."""

_BECOME = """
new=$1 path=$2
if [ "$(wc -c < "$new")" -ne "$4" ]; then echo "$path: Input/output error" >&2; rm -f "$new"; exit 1; fi
if [ "$3" = x ]; then ln -- "$new" "$path"; status=$?; rm -f -- "$new"; exit $status; fi
exec mv -f -- "$new" "$path"
"""


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
    """A file that is being written: beside its place, and put there when it is closed."""

    def __init__(self, host: FilesByCommand, path: Path, kind: str) -> None:
        self._host = host
        self._path = path
        self._kind = kind
        self._size = 0
        self._process = host._file_process(_WRITE, path, kind, stdin=True)
        try:
            self._new = self._told()
            self._place = self._told() if self._new else ""
        except BaseException:
            self._process.end()
            raise

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        left = view
        try:
            while left:
                left = left[os.write(cast(IO[bytes], self._process.stdin).fileno(), left[: 1 << 20]) :]
        except BrokenPipeError:
            super().close()
            _check(self._process, self._path)
            raise
        self._size += len(view)
        return len(view)

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            if self._new:
                self._told()
                self._host._file_output(_BECOME, self._new, self._place, self._kind, str(self._size))
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
        if not self.closed:
            super().close()
            self._process.end(_TIME_TO_REMOVE)

    def _told(self) -> str:
        """What the process says up to a NUL."""
        said = b""
        while not said.endswith(b"\0"):
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
    stderr = process.concluded(stderr)
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
