"""How much is done: a run whose percentages, which qemu-img prints as it goes, are told while they come.

It ends at once when it is cancelled: qemu-img has nothing that it would have to put back.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import time
from collections.abc import Sequence
from typing import Any, cast

import unix
from kvm.groups.image.names import Progress
from kvm.virsh.jobs import GLANCE, Cancel, tell
from unix.result import Result

_PROGRESS = re.compile(rb" {4}\(([0-9.]+)/100%\)\r")


class WasCancelledError(Exception):
    """It was ended because somebody wanted that."""


def watched(
    host: unix.Host, words: Sequence[str], data: bytes | None, progress: Progress | None, cancel: Cancel | None
) -> Result:
    """Do what `unix.Host.run` does, tell how much is done, and end it when that is wanted."""
    from unix.process import TimeoutExpired

    if cancel is not None and cancel.is_set():
        raise WasCancelledError
    seconds = host.time_limit()
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        started = host.popen(words)
    except FileNotFoundError as error:
        return Result(127, "", f"{words[0]}: {error.strerror}\n")
    except PermissionError as error:
        return Result(126, "", f"{words[0]}: {error.strerror}\n")
    told: float | None = None
    with started as process:
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(data or b"")
                process.stdin.close()
        read = {process.stdout: b"", process.stderr: b""}
        with selectors.DefaultSelector() as ready:
            for pipe in read:
                ready.register(cast(int, pipe), selectors.EVENT_READ)
            while ready.get_map():
                events = ready.select(_sooner(_left(deadline), None if cancel is None else GLANCE))
                if cancel is not None and cancel.is_set():
                    raise WasCancelledError
                if not events and deadline is not None and time.monotonic() >= deadline:
                    raise unix.CommandTimeoutError(words, seconds or 0)
                for key, _ in events:
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        ready.unregister(key.fileobj)
                    read[cast(Any, key.fileobj)] += chunk
                for found in _PROGRESS.finditer(read[process.stdout]):
                    done = min(float(found[1]) / 100, 1.0)
                    if progress is not None and done != told:
                        tell(progress, done)
                    told = done
                read[process.stdout] = _PROGRESS.sub(b"", read[process.stdout])
        try:
            return_code = process.wait(_left(deadline))
        except TimeoutExpired:
            raise unix.CommandTimeoutError(words, seconds or 0) from None
        process.close_pipes()
        process.conclude()
    stdout, stderr = (each.decode("utf-8", "surrogateescape") for each in read.values())
    return Result(return_code, stdout, stderr)


def _sooner(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)
