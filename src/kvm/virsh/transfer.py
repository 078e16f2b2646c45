"""The other end of what virsh streams: a file here, whichever host virsh runs on.

It goes through virsh's standard input or output, a piece at a time. Where virsh runs on this machine as the same user,
and all of a file is meant, virsh is given the file itself: then it sees the holes, and nobody copies in between.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import BinaryIO, Protocol, cast

from kvm.errors import InvalidArgumentError

_PIECE = 1 << 20
"""How many bytes are read at once."""

_HOLE = 1 << 16
"""How many zeros are looked for at once, to make a hole of them."""

Progress = Callable[[int], object]
"""Told how many bytes are done."""


class Readable(Protocol):
    """A binary file object to read from."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """A binary file object to write to."""

    def write(self, data: bytes, /) -> object: ...


Source = str | os.PathLike[str] | Readable
Target = str | os.PathLike[str] | Writable


class Transfer(ABC):
    """A transfer between `what` (``volume 'disk'``) and a file here: a path, or a binary file object.

    `length`: how many bytes it has to have, None for as many as there are; `sparse`: whether holes stay holes.
    """

    place: str
    """The path where virsh finds the file."""

    doubt: str
    """What is to be said of `what` if it was broken off."""

    method: str
    """What the file object has to have."""

    def __init__(
        self,
        file: object,
        what: str,
        *,
        length: int | None = None,
        sparse: bool = False,
        progress: Progress | None = None,
    ) -> None:
        is_path = isinstance(file, str | os.PathLike)
        if not is_path and (isinstance(file, io.TextIOBase) or not hasattr(file, self.method)):
            raise TypeError(f"the other end of {what} is a path or a binary file object, not {type(file).__name__}")
        self._given = file
        self._file = cast(BinaryIO, None if is_path else file)
        self._what = what
        self._length = length
        self._progress = progress
        self.sparse = sparse
        self._done = 0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have the file open for the duration of a block. Errors that pass through are told what they have broken."""
        self._done = 0
        try:
            if isinstance(self._given, str | os.PathLike):
                with self._open(self._given) as self._file:
                    yield
            else:
                yield
        except BaseException as error:
            error.add_note(f"{self.doubts}; {self._done} bytes were done")
            raise

    @property
    def doubts(self) -> str:
        """What is to be said if it was broken off."""
        return f"{self.doubt} {self._what}"

    def moved(self, words: Sequence[str], path: str) -> list[str]:
        """The words of a command, for which the file is at `path`."""
        return [f"--file={path}" if word == f"--file={self.place}" else word for word in words]

    @contextmanager
    def descriptor(self) -> Iterator[int | None]:
        """Provide, for the duration of a block, a duplicate descriptor of the file, if virsh may open it itself."""
        with ExitStack() as held:
            yield self._own_descriptor(held)

    def _own_descriptor(self, held: ExitStack) -> int | None:
        if _regular(self._file, self.method) is None:
            return None
        # the file's owner may close it, and open another file with its number
        descriptor = held.enter_context(io.FileIO(os.dup(self._file.fileno()), "rb")).fileno()
        if not self._is_whole(descriptor):
            return None
        may_open = os.access(f"/proc/self/fd/{descriptor}", os.R_OK if self.method == "read" else os.W_OK)
        return descriptor if may_open else None

    def advance(self, done: int) -> None:
        """Take note that so many bytes are done."""
        if done > self._done:
            self._done = done
            if self._progress:
                self._progress(done)

    def conclude(self, *, itself: bool) -> None:
        """Take note that virsh has succeeded; had it the file itself?"""
        if itself:
            self.advance(self._file.seek(0, os.SEEK_END))

    @abstractmethod
    def _open(self, path: str | os.PathLike[str]) -> AbstractContextManager[BinaryIO]: ...

    @abstractmethod
    def _is_whole(self, descriptor: int) -> bool:
        """Whether the transfer is all that there is of a file, from its beginning to its end."""

    @property
    def pieces(self) -> Iterator[bytes] | None:
        """What virsh reads, None for nothing."""
        return None

    @property
    def take(self) -> Callable[[bytes], object] | None:
        """What takes what virsh writes, None if that is only what it says."""
        return None


class Upload(Transfer):
    """What virsh reads from a file here."""

    place = "/dev/stdin"
    doubt = "there may be a part of what was sent in"
    method = "read"

    def _open(self, path: str | os.PathLike[str]) -> BinaryIO:
        return cast(BinaryIO, open(path, "rb", buffering=0))

    def _is_whole(self, descriptor: int) -> bool:
        return self._file.tell() == 0 and self._length in (None, os.fstat(descriptor).st_size)

    @property
    def pieces(self) -> Iterator[bytes]:
        done = 0
        while self._length is None or done < self._length:
            piece = self._file.read(_PIECE if self._length is None else min(_PIECE, self._length - done))
            if not isinstance(piece, bytes | bytearray | memoryview):  # None, if it would have to be waited for
                raise TypeError(f"{self._given!r} must give bytes, not {type(piece).__name__}")
            if not piece:
                break
            yield bytes(piece)
            done += len(piece)
            self.advance(done)
        if self._length is not None and done < self._length:
            raise InvalidArgumentError(f"there were {done} bytes for {self._what}, and not {self._length}")


class Download(Transfer):
    """What virsh writes to a file here."""

    place = "/dev/stdout"
    doubt = "only a part was read of"
    method = "write"
    _has_succeeded = False
    _holes: _Holes | None = None

    @contextmanager
    def _open(self, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
        """Open a file; if it is new, it goes again with a failure."""
        self._has_succeeded = False
        is_new = not os.path.lexists(path)
        try:
            with open(path, "wb", buffering=0) as file:
                yield cast(BinaryIO, file)
        finally:
            if is_new and not self._has_succeeded:
                with suppress(OSError):
                    os.unlink(path)

    def _is_whole(self, descriptor: int) -> bool:
        self._file.flush()
        return self._file.tell() == os.fstat(descriptor).st_size == 0

    @property
    def take(self) -> Callable[[bytes], object]:
        if self.sparse and _regular(self._file, self.method) is not None:
            self._holes = _Holes(self._file)

        def take(data: bytes) -> None:
            if self._holes:
                self._holes.write(data)
            else:
                _write(self._file, data)
            self.advance(self._done + len(data))

        return take

    def conclude(self, *, itself: bool) -> None:
        super().conclude(itself=itself)
        if self._holes:
            self._holes.finish()
        if self._length is not None and self._done != self._length:
            raise InvalidArgumentError(f"there were {self._done} bytes in {self._what}, and not {self._length}")
        self._has_succeeded = True


class _Holes:
    """Writes to a regular file, and leaves out the zeros behind its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.flush()
        self._position = file.tell()
        self._end = os.fstat(file.fileno()).st_size

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), _HOLE):
            part = data[start : start + _HOLE]
            if self._position >= self._end and part.count(0) == len(part):
                self._file.seek(len(part), os.SEEK_CUR)
            else:
                _write(self._file, part)
            self._position += len(part)

    def finish(self) -> None:
        """The file ends where it was written to, also if that is a hole."""
        if self._position > self._end:
            self._file.truncate(self._position)


def _write(file: Writable, data: bytes) -> None:
    """Write all of `data`, also to what takes a part of it at a time."""
    rest = memoryview(data)
    while rest:
        written = file.write(data if len(rest) == len(data) else bytes(rest))
        if isinstance(file, io.RawIOBase) and written is None:
            raise BlockingIOError(f"{file!r} takes nothing without waiting")
        rest = rest[written:] if isinstance(written, int) else rest[:0]


def _regular(file: object, method: str) -> int | None:
    """The descriptor of a regular file, if `file` is what Python's `open` gives for one, and nothing that wraps it."""
    is_buffered = type(file) in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
    raw = cast(io.BufferedReader, file).raw if is_buffered else file
    if type(raw) is not io.FileIO or not (raw.readable() if method == "read" else raw.writable()):
        return None
    flags = fcntl.fcntl(raw, fcntl.F_GETFL)
    is_regular = stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
    return raw.fileno() if is_regular and not flags & os.O_APPEND else None
