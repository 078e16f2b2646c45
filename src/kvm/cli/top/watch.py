"""Hypervisors that are asked again and again, each by a thread of its own, so that none waits for another."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from kvm.cli.hosts import AT_ONCE, Target, children, end

if TYPE_CHECKING:
    from kvm.hypervisor import Hypervisor

T = TypeVar("T")

RETRY = 3
"""Seconds until a host that has failed is tried again."""

TIMEOUT = 15
"""Seconds that an answer may take, if the time between questions is not longer."""

PATIENCE = 3
"""Seconds for which the end of what still runs is waited for."""


class Watch(Generic[T]):
    """Asks all hosts every `delay` seconds, at the same times, and gives each answer, or exception, to `told`.

    `ask` is what to ask a Hypervisor once it is reached: a function that is made for it, and asks again at each call.
    `told` is called by many threads. Leaving it as a context manager leaves nothing running.
    """

    def __init__(
        self,
        found: Sequence[Target],
        ask: Callable[[Hypervisor], Callable[[], T]],
        told: Callable[[str, T | Exception], None],
        delay: float,
    ) -> None:
        self._ask = ask
        self._told = told
        self._delay = delay
        self._begun = time.monotonic()
        self._changed = threading.Condition()
        self._is_paused = self._has_ended = False
        self._connecting = threading.Semaphore(AT_ONCE)
        self._opened: list[Hypervisor] = []
        self._threads = [threading.Thread(target=partial(self._watch, each), daemon=True) for each in found]

    def __enter__(self) -> Self:
        self._others = children()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        enders = [threading.Thread(target=end, args=(each,), daemon=True) for each in list(self._opened)]
        for thread in enders:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        for thread in enders:
            thread.join(max(deadline - time.monotonic(), 0))
        deadline = min(deadline, time.monotonic() + 0.5)
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if any(thread.is_alive() for thread in self._threads):  # connections that are still being made
            for child in children() - self._others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)

    def change(self, *, delay: float | None = None, paused: bool | None = None) -> None:
        """Ask after another time from now on, or not at all while it is paused."""
        with self._changed:
            self._delay = self._delay if delay is None else delay
            self._is_paused = self._is_paused if paused is None else paused
            self._begun = time.monotonic()
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._has_ended

    def _watch(self, target: Target) -> None:
        while not self._has_ended:
            try:
                with contextlib.ExitStack() as opened:
                    with self._connecting:
                        if self._is_over():
                            return
                        hypervisor = opened.enter_context(target.opened())
                    self._opened.append(hypervisor)
                    opened.callback(self._opened.remove, hypervisor)
                    self._ask_again(target.name, hypervisor)
            except Exception as error:  # noqa: BLE001  # whoever is told tells them apart
                if not self._has_ended:
                    self._told(target.name, error)
                self._wait(RETRY)

    def _ask_again(self, name: str, hypervisor: Hypervisor) -> None:
        with hypervisor.set_controls(timeout=max(TIMEOUT, self._delay)):
            ask = self._ask(hypervisor)
            while not self._has_ended:
                self._told(name, ask())
                self._wait()

    def _wait(self, seconds: float | None = None) -> None:
        """Until it is time to ask again, which is the same time for all hosts; or for so many seconds."""
        with self._changed:
            asked = self._begun
            while not self._has_ended:
                now = time.monotonic()
                if seconds is not None:
                    left = seconds
                elif self._begun != asked and not self._is_paused:
                    return
                else:
                    left = self._delay - (now - self._begun) % self._delay
                if not self._changed.wait(None if self._is_paused else left) and not self._is_paused:
                    return
