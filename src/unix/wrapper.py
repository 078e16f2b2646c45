"""A host that stands on another: the base of objects that add something to a host of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from unix.controls import Control, ControlSet
from unix.host import Host, Path

if TYPE_CHECKING:
    from unix.process import Process


class Wrapper(Host):
    """A host that does everything through `host`, shares its controls, and may add controls of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._controls = self._control_set({})

    known_controls: ClassVar[Mapping[str, Control]] = {}
    """The controls of its own."""

    def _control_set(self, given: Mapping[str, object]) -> ControlSet:
        return ControlSet(self.known_controls, given, base=self.host._controls)

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
        return self.host._start(
            words, stdin=stdin, terminal=terminal, held=held, own_terminal=own_terminal, named=named
        )

    def when_full(self, make_room: Callable[[], object]) -> None:
        self.host.when_full(make_room)

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        return self.host.open(path, mode)

    def read(self, path: Path) -> bytes:
        return self.host.read(path)

    def write(self, path: Path, data: bytes | str) -> None:
        self.host.write(path, data)

    def exists(self, path: Path) -> bool:
        return self.host.exists(path)

    def listdir(self, path: Path = ".") -> list[str]:
        return self.host.listdir(path)

    def mkdir(self, path: Path, *, parents: bool = False) -> None:
        self.host.mkdir(path, parents=parents)

    def remove(self, path: Path, *, recursive: bool = False) -> None:
        self.host.remove(path, recursive=recursive)

    def which(self, command: str) -> str | None:
        return self.host.which(command)
