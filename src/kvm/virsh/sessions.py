"""The live virshes of one hypervisor: at most so many at once, lent to one thread at a time, ended when idle.

A forked child starts its own: it never touches those of its parent.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable

from kvm.virsh.session import Session


class Sessions:
    """Lends what `start` makes, at most `most` at once, and ends what is unused for `idle` seconds (None: never)."""

    def __init__(self, start: Callable[[], Session], *, most: int, idle: float | None) -> None:
        self._start = start
        self._most = most
        self._idle = idle
        self._changed = threading.Condition()
        self._unused: list[tuple[float, Session]] = []
        self._count = 0
        self._timer: threading.Timer | None = None
        _all.add(self)

    def take(self, timeout: float | None) -> Session | None:
        """A session that nobody else has, for at most `timeout` seconds of waiting; None if there was none.

        It may have ended while it was not used. It must be given back, to `give` or to `drop`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._unused and self._count >= self._most:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            found = self._unused.pop()[1] if self._unused else None
            self._count += found is None
        try:
            return found or self._start()
        except BaseException:
            self._release(None)
            raise

    def give(self, session: Session) -> None:
        """Take back a session that is in order."""
        self._release(session)

    def drop(self, session: Session) -> int:
        """End a session that is of no more use; the return code of its virsh."""
        try:
            return session.close()
        finally:
            self._release(None)

    def close(self) -> None:
        """End all sessions that nobody has at the moment."""
        with self._changed:
            ended, self._unused = self._unused, []
            self._count -= len(ended)
            self._changed.notify_all()
        for _, session in ended:
            session.close()

    def _release(self, session: Session | None) -> None:
        with self._changed:
            if session:
                self._unused.append((time.monotonic(), session))
                self._watch()
            else:
                self._count -= 1
            self._changed.notify()

    def _watch(self) -> None:
        """See to it that unused sessions end in time."""
        if self._idle is not None and self._timer is None:
            self._timer = threading.Timer(self._idle, _end_idle, [weakref.ref(self)])
            self._timer.daemon = True
            self._timer.start()

    def end_idle(self) -> None:
        """End the sessions that have not been used for long."""
        with self._changed:
            self._timer = None
            oldest = time.monotonic() - (self._idle or 0)
            ended = [each for each in self._unused if each[0] <= oldest]
            self._unused = [each for each in self._unused if each[0] > oldest]
            self._count -= len(ended)
            if self._unused:
                self._watch()
            self._changed.notify_all()
        for _, session in ended:
            session.close()

    def forget(self) -> None:
        """In a forked child: begin anew, and leave the parent's sessions to the parent."""
        for _, session in self._unused:
            session.forget()
        self._changed = threading.Condition()
        self._unused, self._count, self._timer = [], 0, None


_all: weakref.WeakSet[Sessions] = weakref.WeakSet()


def _end_idle(reference: weakref.ref[Sessions]) -> None:
    if sessions := reference():
        sessions.end_idle()


def _forget_all() -> None:
    for sessions in list(_all):
        sessions.forget()


os.register_at_fork(after_in_child=_forget_all)
