"""How far what takes long is: on standard error, a line for each host, if that is a terminal.

Methods tell it in one of two ways, from 0.0 to 1.0 or as a number of bytes. ``--verbose`` has it told where there is no
terminal as well, a percentage a line.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from kvm.cli.output import complain

if TYPE_CHECKING:
    from rich.progress import Progress

Told = Callable[[float], None]
"""Takes how much is done: of 1.0, or as an int bytes."""


def shown(title: str, names: list[str], *, verbose: bool) -> Shown:
    """Where the progress of a command goes, on hosts of these names."""
    labels = {name: f"{title} on {name}" if name else title for name in names}
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        try:
            return Bars(labels)
        except ImportError:  # the library that draws them is an extra
            pass
    return Lines(labels) if verbose else Shown()


class Shown:
    """Where progress goes: nowhere."""

    is_wanted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def of(self, name: str, total: int | None) -> Told:  # noqa: ARG002  # it is shown by others
        """What is told how far one host is; `total` is how many bytes there are, if that is known."""
        return lambda done: None  # noqa: ARG005

    def print(self, line: str) -> None:
        """A line on standard error that is about something else."""
        complain(line)


class Lines(Shown):
    """A line for each new percentage."""

    is_wanted = True

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def of(self, name: str, total: int | None) -> Told:
        last = -1

        def told(done: float) -> None:
            nonlocal last
            whole = total if isinstance(done, int) else 1
            if whole and (percentage := int(100 * done / whole)) > last:
                last = percentage
                self.print(f"{self._labels[name]}: {percentage} %")

        return told


class Bars(Shown):
    """A bar for each host that has begun; in the end they are gone."""

    is_wanted = True

    def __init__(self, labels: dict[str, str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        from unix.errors import printable

        self._labels = {name: printable(label) for name, label in labels.items()}
        self._beginning = threading.Lock()
        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
            TextColumn("{task.fields[size]}"), TimeRemainingColumn(compact=True),
            console=Console(stderr=True), transient=True, redirect_stdout=False,
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def of(self, name: str, total: int | None) -> Told:
        from kvm.cli.render import size

        with self._beginning:
            self._progress.start()
        whole = size(total) if total else ""
        bar = self._progress.add_task(self._labels[name], total=total, size="")

        def told(done: float) -> None:
            if isinstance(done, int):
                self._progress.update(bar, completed=done, size=f"{size(done)}/{whole}" if whole else size(done))
            else:
                self._progress.update(bar, completed=done, total=1.0)

        return told

    def print(self, line: str) -> None:
        from unix.errors import printable

        if self._progress.live.is_started:
            self._progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        else:
            super().print(line)
