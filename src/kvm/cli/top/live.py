"""The live view: rows and summaries in a terminal, and its keys.

What is shown is lines, and only those that have changed are drawn again: a table of cells, as Textual has one, takes
many times as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from kvm.cli.hosts import Target
from kvm.cli.manual import page
from kvm.cli.render import cell
from kvm.cli.top.board import Board, Line, filled, summaries
from kvm.cli.top.look import Look
from kvm.cli.top.rates import SORTS, Host, Row, Sample, chosen, in_order
from kvm.cli.top.settings import Settings, said
from kvm.cli.top.watch import Watch

T = TypeVar("T")

_COLOURS = {"31": "red", "32": "green", "33": "yellow"}
_STYLES = {"heading": Style(reverse=True), "bold": Style(bold=True), "faint": Style(dim=True), "2": Style(dim=True)}
_PLAIN = Style()

_TOGETHER = 0.15
"""Seconds after an answer in which those of other hosts may come before it is shown."""

_DELAYS = (0.2, 0.5, 1, 2, 3, 5, 10, 30, 60)
"""The times between two looks that + and - go through."""

_HELP = ("      " + page("top").partition("Keys: ")[2].partition("\n\nExample")[0]).splitlines()

_KEYS = {
    "c": "sort('cpu')", "P": "sort('cpu')",
    "m": "sort('memory')", "M": "sort('memory')",
    "d": "sort('disk')", "n": "sort('network')", "H": "sort('host')", "N": "sort('name')", "s": "sort('state')",
    "less_than_sign": "next_sort(-1)", "greater_than_sign": "next_sort(1)",
    "r": "reverse", "R": "reverse", "I": "reverse",
    "slash": "type", "escape": "clear", "a": "inactive",
    "p": "pause", "space": "pause",
    "plus": "delay(1)", "equals_sign": "delay(1)", "minus": "delay(-1)",
    "h": "help", "question_mark": "help", "f1": "help",
    "q": "leave(0)", "Q": "leave(0)", "f10": "leave(0)",
}  # fmt: skip


class _Painted(Widget):
    """A widget without a border or a background, whose lines need nothing of what Textual does to lines."""

    def render_lines(self, crop: Region) -> list[Strip]:
        return [self.render_line(y).crop(crop.x, crop.right) for y in range(crop.y, crop.bottom)]


class Lines(_Painted):
    """Lines that are as they are told to be."""

    def __init__(self, clicked: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self._clicked = clicked
        self._lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        """Have these lines instead of those before."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.styles.height = len(lines)
            self.refresh(layout=True)
        elif changed := [y for y, pair in enumerate(zip(before, lines, strict=True)) if pair[0] != pair[1]]:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        return _strip(self._lines[y], self.app) if y < len(self._lines) else Strip.blank(self.size.width)

    def on_click(self, event: events.Click) -> None:
        if self._clicked:
            self._clicked(event.x)


class Rows(_Painted, ScrollView, can_focus=True):
    """Rows of which those are written that are to be seen."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Any] = ()
        self._write: Callable[[Any], Line] | None = None
        self._lines: dict[int, Line] = {}

    def show(self, rows: Sequence[T], write: Callable[[T], Line], width: int) -> None:
        """Have these rows instead of those before, each a line as `write` makes it."""
        before, self._lines = self._lines, {}
        self._rows, self._write = rows, write
        self.virtual_size = Size(width, len(rows))
        if self.scroll_offset.y > (last := max(len(rows) - self.size.height, 0)):
            self.scroll_to(y=last, animate=False)
        top = self.scroll_offset.y
        changed = [y for y in range(self.size.height) if before.get(top + y) != self._line(top + y)]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _line(self, index: int) -> Line | None:
        if index not in self._lines and self._write and index < len(self._rows):
            self._lines[index] = self._write(self._rows[index])
        return self._lines.get(index)

    def render_line(self, y: int) -> Strip:
        line = self._line(self.scroll_offset.y + y)
        return _strip(line, self.app) if line else Strip.blank(self.size.width)


def _strip(line: Line, app: App[int]) -> Strip:
    colourless = app.no_color
    return Strip([Segment(text, _style(colour, colourless)) for text, colour in line], app.size.width)


def _style(colour: str | None, colourless: bool) -> Style:
    if colour is None:
        return _PLAIN
    style = _STYLES.get(colour)
    if style is None:
        style = _STYLES[colour] = Style() if colourless else Style(color=_COLOURS[colour])
    return style


class _Stdout(LinuxDriver):
    """Draws on standard output; standard error may be a file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if sys.__stdout__:
            self._file = sys.__stdout__


class Top(App[int]):
    """`kvmctl top` on a terminal; it returns its exit status."""

    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; overflow: hidden; }
    Lines { height: 1; background: ansi_default; }
    Rows { height: 1fr; background: ansi_default; overflow-x: hidden; scrollbar-size: 0 0; }
    """
    BINDINGS = [  # noqa: RUF012
        Binding("ctrl+c", "leave(130)", priority=True),
        Binding("ctrl+q", "leave(0)", priority=True),
        Binding("ctrl+z", "suspend_process", priority=True),
        Binding("ctrl+l", "redraw"),
    ]

    def __init__(self, found: Sequence[Target], settings: Settings, *, told_apart: bool) -> None:
        super().__init__(_Stdout, ansi_color=True)
        self.animation_level = "none"
        self._set = settings
        self._told_apart = told_apart
        self._hosts = {target.name: Host(target.name) for target in found}
        self._rows: list[Row] = []
        self._text = settings.text
        self._is_typing = self._is_paused = self._is_helping = False
        self._drawing: asyncio.TimerHandle | None = None
        self._drawn = 0.0
        self._board: Board | None = None
        self._events: asyncio.AbstractEventLoop | None = None
        self.watching = Watch(found, Look, self._tell, settings.delay)

    # -- what comes from hosts -------------------------------------------------------------------------------

    def _tell(self, name: str, answer: Sample | Exception) -> None:
        """Take an answer, in the thread that has it."""
        host = self._hosts[name]
        if isinstance(answer, Exception):
            host.fail(said(answer))
        else:
            host.tell(answer)
        if self._events:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._events.call_soon_threadsafe(self._draw_soon)

    def _draw_soon(self) -> None:
        if not self._drawing:
            alone = len(self._hosts) == 1
            self._drawing = asyncio.get_running_loop().call_later(0 if alone else _TOGETHER, self._draw)

    # -- what is shown ---------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        self._summary, self._heading, self._table, self._status = Lines(), Lines(self._click), Rows(), Lines()
        yield from (self._summary, self._heading, self._table, self._status)

    def on_mount(self) -> None:
        self._events = asyncio.get_running_loop()
        for ending in (signal.SIGTERM, signal.SIGHUP):  # an exception could end in a handler that forgets it
            self._events.add_signal_handler(ending, self.exit, 128 + ending)
        self._table.focus()
        self.app_resume_signal.subscribe(self, self.action_redraw)
        self.set_interval(1, self._draw_if_late)
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _draw_if_late(self) -> None:
        """Show how long it is since a host has answered, when none does."""
        if not self._is_paused and time.monotonic() - self._drawn > 1:
            self._draw()

    def _draw(self) -> None:
        """Show what is known by now."""
        self._drawing = None
        self._drawn = time.monotonic()
        if not self._is_paused:
            self._rows = [row for host in self._hosts.values() for row in host.rows]
        rows = chosen(self._rows, self._text, inactive=self._set.inactive)
        rows = in_order(rows, self._set.sort, backwards=self._set.backwards)
        width, height = self.size
        room = max(height // 4, min(5, height - 6), 1)
        self._summary.show(summaries([host.summary for host in self._hosts.values()], width, room, self._notes()))
        self._board = Board(width, rows, with_host=self._told_apart)
        if self._is_helping:
            self._heading.show([filled([("Keys and figures", "heading")], width, "heading")])
            self._table.show(_HELP, lambda line: filled([(line, None)], width), width)
            self._status.show([filled([("any key goes back", "faint")], width)])
        else:
            self._heading.show([self._board.heading(self._set.sort, backwards=self._set.backwards)])
            self._table.show(rows, self._board.line, width)
            self._status.show([self._status_line(len(rows))])

    def _notes(self) -> dict[str, str]:
        """The hosts that are silent, or slower than they are asked."""
        now, notes = time.monotonic(), {}
        for name, host in {} if self._is_paused else self._hosts.items():
            if host.heard is not None and now - host.heard > self._set.late:
                notes[name] = f"no answer for {now - host.heard:.0f} s"
            elif (took := host.summary.took or 0) > self._set.delay:
                notes[name] = f"answers after {took:.1f} s"
        return notes

    def _status_line(self, count: int) -> Line:
        if self._is_typing:
            return filled([(f"/{cell(self._text)}", "bold"), (" ", "heading")], self.size.width)
        told = []
        if self._is_paused:
            told.append("PAUSED")
        if self._text:
            told.append(f"filter: {cell(self._text)}")
        state = "  ".join(told)
        keys = f"{count} shown, every {self._set.delay:g} s  c m d n sort  r reverse  / filter  p pause  h help  q quit"
        return filled([(f"{state}  " if state else "", "bold"), (keys, "faint")], self.size.width)

    # -- keys ------------------------------------------------------------------------------------------------

    async def on_key(self, event: events.Key) -> None:
        if self._is_typing:
            event.stop()
            self._type(event)
        elif self._is_helping:
            event.stop()
            self.action_help()
        elif action := _KEYS.get(event.character or "", _KEYS.get(event.key)):
            event.stop()
            await self.run_action(action)

    def on_paste(self, event: events.Paste) -> None:
        if self._is_typing:
            self._text += event.text
            self._draw()

    def _type(self, event: events.Key) -> None:
        """Take one key of a filter."""
        if event.key in ("enter", "escape"):
            self._is_typing = False
            if event.key == "escape":
                self._text = ""
        elif event.key in ("backspace", "ctrl+h"):
            self._text = self._text[:-1]
        elif event.key in ("ctrl+u", "ctrl+w"):
            self._text = ""
        elif event.is_printable and event.character:
            self._text += event.character
        self._table.scroll_to(y=0, animate=False)
        self._draw()

    def _click(self, place: int) -> None:
        if self._board and (sort := self._board.sort_at(place)):
            self.action_sort(sort)

    def action_sort(self, sort: str) -> None:
        """Order by something; by what they are ordered already, the other way round."""
        backwards = sort == self._set.sort and not self._set.backwards
        self._set = replace(self._set, sort=sort, backwards=backwards)
        self._draw()

    def action_next_sort(self, by: int) -> None:
        """Order by the figure that comes next."""
        sorts = list(SORTS)
        place = sorts.index(self._set.sort) + by
        self._set = replace(self._set, sort=sorts[place % len(sorts)], backwards=False)
        self._draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._set = replace(self._set, backwards=not self._set.backwards)
        self._draw()

    def action_type(self) -> None:
        """Begin with a filter."""
        self._is_typing = True
        self._draw()

    def action_clear(self) -> None:
        """Forget the filter."""
        self._text = ""
        self._draw()

    def action_inactive(self) -> None:
        """Show guests that are not active, or not."""
        self._set = replace(self._set, inactive=not self._set.inactive)
        self._draw()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._is_paused = not self._is_paused
        self.watching.change(paused=self._is_paused)
        self._draw()

    def action_delay(self, by: int) -> None:
        """Look less or more often."""
        now = self._set.delay
        longer = [each for each in _DELAYS if each > now]
        shorter = [each for each in _DELAYS if each < now]
        found = longer[:1] if by > 0 else shorter[-1:]
        if found:
            self._set = replace(self._set, delay=found[0])
            self.watching.change(delay=found[0])
        self._draw()

    def action_help(self) -> None:
        """Show what the keys and figures are, or no more."""
        self._is_helping = not self._is_helping
        self._table.scroll_to(y=0, animate=False)
        self._draw()

    def action_redraw(self, _: object = None) -> None:
        """Draw all that is shown once more: something else has been on the screen."""
        for each in (self._summary, self._heading, self._table, self._status):
            each.refresh()

    def action_leave(self, status: int) -> None:
        """End."""
        self.exit(status)


def live(found: Sequence[Target], settings: Settings, *, told_apart: bool) -> int:
    """Show it until the user has seen enough; the exit status."""
    if os.environ.get("NO_COLOR") == "":  # which Textual takes for a yes
        del os.environ["NO_COLOR"]
    app = Top(found, settings, told_apart=told_apart)
    with app.watching:
        status = app.run()
    return 1 if app.return_code else status or 0
