"""The live virshes of one hypervisor: at most so many at once, lent to one thread at a time, ended when idle.

A thread that has much to ask may have more than one. Nobody waits for these: they are started behind the thread's back,
for the next time, and lent when they have come to their prompts, which they may never do (libvirtd does not answer
clients beyond its limit). One is always left for other threads.

A forked child starts its own: it never touches those of its parent.

What counts is what there is: a session that a Ctrl-C has lost anywhere is collected, and takes no place any more.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Self

from kvm.virsh.session import Session

_LATER = 60.0
"""Seconds until more sessions are started again, where one could not be, or has ended unused."""

_MUCH_LATER = 600.0
"""The same where the host had no room for something else."""

_LOST = 1.0
"""Seconds after which somebody who waits for a session looks again, as what a Ctrl-C has lost tells nobody."""

_STARTED = 2.0
"""Seconds for which `Sessions.close` waits for those that are being started."""


class Sessions:
    """Lends what `start` makes, at most `most` at once, and ends what is unused for `idle` seconds (None: never)."""

    def __init__(self, start: Callable[[], Session], *, most: int, idle: float | None) -> None:
        self._start = start
        self._most = most
        self._idle = idle
        self._changed = threading.Condition()
        self._unused: list[tuple[float, Session]] = []
        self._coming: list[tuple[float, Session]] = []  # that nobody has seen at their prompts
        self._starting: set[_Start] = set()
        self._places: weakref.WeakSet[Session | _Start] = weakref.WeakSet()
        self._timer: threading.Timer | None = None
        self._were_wanted = False
        self._none_before = 0.0
        self._times_closed = 0
        _all.add(self)

    def take(self, timeout: float | None) -> Session | None:
        """A session that nobody else has, for at most `timeout` seconds of waiting; None if there was none.

        It may have ended while it was not used. It must be given back, to `give` or to `drop`.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._come() and not self._coming and self._is_full:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, _LOST))
            if self._unused:
                return self._unused.pop()[1]
            replaced = self._coming.pop()[1] if self._is_full else None
            start = _Start()
            self._places.add(start)
        try:
            if replaced:
                self.drop(replaced)
            session = self._start()
            self._places.add(session)
            return session
        finally:
            self._leave(start)

    def take_more(self, wanted: int, start: Callable[[], Session]) -> list[Session]:
        """Up to `wanted` sessions, for somebody who has one: as many as are unused and wait at their prompts.

        If these are too few, others are started for the next time: by `start`, in threads of their own. Not at the
        first time, as there may be no other, and for a minute not after one could not be started or has ended unused.
        """
        with self._changed:
            self._come()
            there = [*self._unused, *self._coming]
            ended = [each for each in there if each[1].has_ended]
            if ended:
                self._start_none_for(_LATER)
            elif self._were_wanted and not self._starting and time.monotonic() > self._none_before:
                self._start_more(min(wanted - len(there), self._most - 1 - len(self._places)), start)
            self._were_wanted = True
            self._unlist(ended)
        for _, session in ended:
            self.drop(session)
        with self._changed:
            in_use = len(self._places) - len(self._unused) - len(self._coming) - len(self._starting)
            waiting = [each for each in self._unused if each[1].is_waiting()]
            taken = waiting[: max(min(wanted, self._most - 1 - in_use), 0)]
            self._unlist(taken)
            return [session for _, session in taken]

    def give(self, session: Session) -> None:
        """Take back a session that is in order."""
        with self._changed:
            self._unused.append((time.monotonic(), session))
            self._changed.notify()
            self._watch()

    def drop(self, session: Session) -> int:
        """End a session that is of no more use; the return code of its virsh."""
        try:
            return session.close()
        finally:
            self._leave(session)

    def close(self) -> None:
        """End all sessions that nobody has at the moment."""
        with self._changed:
            self._times_closed += 1
        self._end(lambda _: True)
        with self._changed:
            if self._timer and not (self._unused or self._coming):
                self._timer.cancel()
                self._timer = None
        if not hasattr(_this_thread, "starts"):
            with self._changed:
                self._changed.wait_for(lambda: not self._starting, _STARTED)

    def make_room(self) -> None:
        """End sessions that nobody has: those that only make it faster at first, then all.

        It is called again and again, as long as the host has no room for something else.
        """
        if hasattr(_this_thread, "starts"):
            return  # what nobody waits for is not worth it
        newest = max(self._unused, default=None, key=lambda each: each[0])
        if self._unused or self._coming:
            self._start_none_for(_MUCH_LATER)
        if not self._end(lambda each: each is not newest):
            self._end(lambda _: True)

    def end_idle(self) -> None:
        """End the sessions that have not been used for long."""
        oldest = time.monotonic() - (self._idle or 0)
        with self._changed:
            self._timer = None
        self._end(lambda each: each[0] <= oldest)
        with self._changed:
            self._watch()

    def forget(self) -> None:
        """In a forked child: begin anew, and leave the parent's sessions to the parent."""
        for _, session in (*self._unused, *self._coming):
            session.forget()
        self._changed = threading.Condition()
        self._places = weakref.WeakSet()
        self._unused, self._coming, self._starting, self._timer = [], [], set(), None

    @property
    def _is_full(self) -> bool:
        return len(self._places) >= self._most

    def _come(self) -> bool:
        """Make use of those that have come to their prompts by now; whether there is an unused session."""
        come = [each for each in self._coming if each[1].is_waiting()]
        self._unused[:0] = come
        self._coming = [each for each in self._coming if each not in come]
        return bool(self._unused)

    def _end(self, is_over: Callable[[tuple[float, Session]], bool]) -> bool:
        """End the sessions that nobody has and that are over; whether there were any."""
        with self._changed:
            ended = [each for each in (*self._unused, *self._coming) if is_over(each)]
            self._unlist(ended)
        for _, session in ended:
            self.drop(session)
        return bool(ended)

    def _unlist(self, those: Sequence[tuple[float, Session]]) -> None:
        """Take sessions off the lists of those that nobody has."""
        self._unused = [each for each in self._unused if each not in those]
        self._coming = [each for each in self._coming if each not in those]

    def _leave(self, place: Session | _Start) -> None:
        with self._changed:
            self._places.discard(place)
            self._changed.notify_all()

    def _start_more(self, count: int, start: Callable[[], Session]) -> None:
        """Start `count` sessions, each in a thread of its own; they count from now on."""
        for place in [_Start() for _ in range(count)]:
            arguments = (start, place, self._times_closed)
            starter = threading.Thread(target=self._start_one, args=arguments, daemon=True)
            self._starting.add(place)
            self._places.add(place)
            try:  # a Ctrl-C in here does not stop the thread
                starter.start()
            except RuntimeError:  # there are as many threads as there may be, or Python ends
                self._starting.discard(place)

    def _start_one(self, start: Callable[[], Session], place: _Start, times_closed: int) -> None:
        """Start a session for whoever takes it; it is ended if `close` has been called in the meantime."""
        _this_thread.starts = True
        session = None
        try:
            session = start()
        except Exception:  # noqa: BLE001  # nobody waits for it, so nobody is told
            self._start_none_for(_LATER)
        with self._changed:
            if session and times_closed == self._times_closed:
                self._places.add(session)
                self._coming.append((time.monotonic(), session))
                self._starting.discard(place)
                self._leave(place)
                self._watch()
                return
        if session:
            session.close()
        with self._changed:
            self._starting.discard(place)
            self._leave(place)

    def _start_none_for(self, seconds: float) -> None:
        self._none_before = max(self._none_before, time.monotonic() + seconds)

    def _watch(self) -> None:
        """See to it that unused sessions end in time."""
        there = [*self._unused, *self._coming]
        if self._idle is None or self._timer or not there:
            return
        oldest = min(since for since, _ in there)
        timer = threading.Timer(max(oldest + self._idle - time.monotonic(), 0), _end_idle, [weakref.ref(self)])
        timer.daemon = True
        with contextlib.suppress(RuntimeError):  # Python ends, and all virshes with it
            timer.start()
            self._timer = timer


class _Start:
    """A session that is being started."""


class Loan:
    """What a thread has of `lender`: a session, and maybe more. It ends what has not been given back with its block."""

    def __init__(self, lender: Sessions, session: Session) -> None:
        self._lender = lender
        self.sessions = [session]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as ends:
            for session in self.sessions:
                ends.callback(self._lender.drop, session)

    def take_more(self, wanted: int, start: Callable[[], Session]) -> None:
        """Take more, as `Sessions.take_more` does."""
        self.sessions += self._lender.take_more(wanted, start)

    def give(self, session: Session) -> None:
        """Give back a session that is in order."""
        self.sessions.remove(session)
        self._lender.give(session)

    def drop(self, session: Session) -> int:
        """End a session that is of no more use; the return code of its virsh."""
        self.sessions.remove(session)
        return self._lender.drop(session)


_this_thread = threading.local()
"""It `starts` a session that nobody waits for."""

_all: weakref.WeakSet[Sessions] = weakref.WeakSet()


def _end_idle(reference: weakref.ref[Sessions]) -> None:
    if sessions := reference():
        sessions.end_idle()


def _forget_all() -> None:
    for sessions in list(_all):
        sessions.forget()


os.register_at_fork(after_in_child=_forget_all)
