"""Rates without a terminal: samples as text, or as a line of JSON each."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from kvm.cli.hosts import Target
from kvm.cli.output import complain, write
from kvm.cli.top.board import Board, Line, summaries
from kvm.cli.top.look import Look
from kvm.cli.top.rates import Host, Row, Sample, Summary, chosen, in_order
from kvm.cli.top.settings import Settings, said
from kvm.cli.top.watch import Watch

_FIRST = 5
"""Seconds that hosts have, beside the time between two looks, before the first sample is told without them."""

_WIDTH = 1000
"""The columns of lines that go to no terminal."""


class Rounds:
    """The samples of several hosts, put together: each round has one of every host that answers."""

    def __init__(self, names: Sequence[str], settings: Settings, complain: Callable[[str, str], None]) -> None:
        self._hosts = {name: Host(name) for name in names}
        self._settings = settings
        self._complain = complain
        self._changed = threading.Condition()
        self._looks = dict.fromkeys(names, 0)
        self._expected = set(names)
        self._told: set[str] = set()
        self._is_first = True

    def tell(self, name: str, answer: Sample | Exception) -> None:
        """Take an answer of a host, and then complain if it is a new error."""
        error = said(answer) if isinstance(answer, Exception) else None
        with self._changed:
            host = self._hosts[name]
            is_new = host.summary.error != error
            if error is not None:
                host.fail(error)
                self._expected.discard(name)
                self._told.discard(name)
                self._looks[name] = 0
            elif not isinstance(answer, Exception):
                host.tell(answer)
                self._looks[name] += 1
                if self._looks[name] > 1:  # rates need two
                    self._told.add(name)
            self._changed.notify()
        if error is not None and is_new:
            self._complain(name, error)

    def next(self) -> tuple[list[Summary], list[Row]]:
        """The next round: when all have answered that did so before, or, if one does not, a little later."""
        delay = self._settings.delay
        deadline = time.monotonic() + delay + (_FIRST if self._is_first else max(delay, 1))
        with self._changed:
            while not (self._told and self._told >= self._expected):
                left = deadline - time.monotonic()
                is_over = left <= 0 or (self._is_first and not self._expected)
                if is_over and (self._told or not self._expected):
                    break
                self._changed.wait(left if left > 0 else 1)
            self._told, self._expected, self._is_first = set(), self._told, False
            late = time.monotonic() - self._settings.late
            known = [host for host in self._hosts.values() if host.heard is not None and host.heard > late]
            rows = [row for host in known for row in host.rows if self._looks[host.name] > 1]
            return [self._summary(host, is_known=host in known) for host in self._hosts.values()], rows

    @staticmethod
    def _summary(host: Host, *, is_known: bool) -> Summary:
        return host.summary if is_known or host.summary.error is not None else Summary(host.name, error="no answer")


def batch(found: Sequence[Target], settings: Settings, output: str, *, told_apart: bool) -> int:
    """Print rounds, as many as there are to be; the exit status."""

    def complain_of(name: str, error: str) -> None:
        complain(f"{name if told_apart else 'kvmctl'}: {error}")

    rounds = Rounds([target.name for target in found], settings, complain_of)
    status, number = 0, 0
    with Watch(found, Look, rounds.tell, settings.delay):
        while settings.count is None or number < settings.count:
            hosts, rows = rounds.next()
            rows = chosen(rows, settings.text, inactive=settings.inactive)
            rows = in_order(rows, settings.sort, backwards=settings.backwards)
            status = max(status, int(any(host.error is not None for host in hosts)))
            number += 1
            write(_written(hosts, rows, settings, output, told_apart=told_apart))
    return status


def _written(hosts: list[Summary], rows: list[Row], settings: Settings, output: str, *, told_apart: bool) -> str:
    if output == "table":
        return _text(hosts, rows, settings, told_apart=told_apart)
    from kvm.cli.render import document, to_json

    value = as_value(hosts, rows, told_apart=told_apart)
    return to_json(value, on_one_line=True) if output == "json" else document(value)


def as_value(hosts: Sequence[Summary], rows: Sequence[Row], *, told_apart: bool) -> Mapping[str, object]:
    """A round as JSON and YAML have it; the only host has the name None."""

    def named(each: Summary | Row) -> dict[str, object]:
        value = each._asdict()
        return {name: round(figure, 3) if isinstance(figure, float) else figure for name, figure in value.items()} | (
            {} if told_apart else {"host": None}
        )

    now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    return {"time": now, "hosts": [named(host) for host in hosts], "guests": [named(row) for row in rows]}


def _text(hosts: list[Summary], rows: list[Row], settings: Settings, *, told_apart: bool) -> str:
    from kvm.cli.render import Screen

    width = Screen.of_stdout().width or _WIDTH
    board = Board(width, rows, with_host=told_apart)
    lines = summaries(hosts, width, len(hosts) + 1, {})
    lines += [board.heading(settings.sort, backwards=settings.backwards), *map(board.line, rows)]
    return "".join(f"{_bare(line)}\n" for line in lines) + "\n"


def _bare(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()
