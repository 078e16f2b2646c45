"""What the options of ``kvmctl top`` say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from kvm.cli.arguments import Invocation, UsageError
from kvm.cli.messages import of_error
from kvm.cli.top.rates import SORTS
from unix.errors import printable


@dataclass(frozen=True)
class Settings:
    """How often to look, how many times (None: until it is ended), and which rows there are in which order."""

    delay: float = 1.0
    count: int | None = None
    sort: str = "cpu"
    backwards: bool = False
    text: str = ""
    inactive: bool = False

    @property
    def late(self) -> float:
        """Seconds after which a host that has not answered is called silent."""
        return max(3 * self.delay, 5)

    @classmethod
    def of(cls, asked: Invocation) -> Settings:
        """The settings of a command line. `UsageError` if they are none."""
        options = asked.options
        sort, count = str(options.get("sort", "cpu")), options.get("count")
        if sort not in SORTS:
            raise UsageError(f"top: --sort takes one of {', '.join(SORTS)}, not {sort!r}")
        if count is not None and (not isinstance(count, int) or count < 1):
            raise UsageError(f"top: --count is a number from 1, not {count!r}")
        return cls(
            _seconds(str(options.get("delay", "1"))),
            count,
            sort,
            bool(options.get("reverse")),
            " ".join(cast(list[str], options.get("filter", []))),
            bool(options.get("all")),
        )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86400:
        raise UsageError(f"top: --delay is a number of seconds, from 0.1, not {text!r}")
    return seconds


def said(error: BaseException) -> str:
    """An error in one line, safe to show."""
    return printable(of_error(error))
