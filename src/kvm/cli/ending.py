"""Ctrl-C, and the other signals that ask a program to end.

They end this one at once and without a word, as long as nothing has been begun that would outlive it. Who begins
something says for a block what is to be done instead, so that no exception ever comes out of the middle of a call.
"""

from __future__ import annotations

# signal itself has enums, which take as long to load as all of this
import _signal as signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

SIGTERM = signal.SIGTERM

_SIGNALS = (signal.SIGINT, SIGTERM, signal.SIGHUP)


class EndedError(BaseException):
    """The program was asked to end by a signal, and has ended all that it had begun."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def at_once(number: int) -> NoReturn:
    """End the program."""
    os._exit(128 + number)


def by_exception(number: int) -> NoReturn:
    """End the program when all blocks have been left."""
    raise EndedError(number)


class Asked:
    """For the duration of a block: what is done when the program is asked to end; `then` is given the signal's number.

    What is ignored, as by a program that nohup has started, stays so.
    """

    def __init__(self, then: Callable[[int], object]) -> None:
        self._then = then
        self._before: dict[int, object] = {}

    def __enter__(self) -> Asked:
        def handle(number: int, _: FrameType | None) -> None:
            self._then(number)

        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Held:
    """For the duration of a block the signals wait."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
