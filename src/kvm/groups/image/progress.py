"""How much is done: a run whose percentages, which qemu-img prints as it goes, are told while they come."""

from __future__ import annotations

import contextlib
import math
import os
import re
import selectors
import time
from collections.abc import Sequence
from typing import Any, cast

import unix
from kvm.groups.image.names import Progress
from unix.result import Result

_PROGRESS = re.compile(rb" {4}\(([0-9.]+)/100%\)\r")


class StoppedError(Exception):
    """Who was told of the progress has raised `reason`."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


def watched(host: unix.Host, words: Sequence[str], data: bytes | None, progress: Progress) -> Result:
    """Do what `unix.Host.run` does, and tell how much is done."""
    from unix.process import TimeoutExpired

    seconds = cast(float | None, host.get_control("timeout"))
    deadline = time.monotonic() + seconds if seconds and seconds != math.inf else None
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
                events = ready.select(_left(deadline))
                if not events and deadline is not None and time.monotonic() >= deadline:
                    raise unix.CommandTimeoutError(words, seconds or 0)
                for key, _ in events:
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        ready.unregister(key.fileobj)
                    read[cast(Any, key.fileobj)] += chunk
                for found in _PROGRESS.finditer(read[process.stdout]):
                    if told != (told := min(float(found[1]) / 100, 1.0)):
                        _tell(progress, told)
                read[process.stdout] = _PROGRESS.sub(b"", read[process.stdout])
        try:
            return_code = process.wait(_left(deadline))
        except TimeoutExpired:
            raise unix.CommandTimeoutError(words, seconds or 0) from None
        process.close_pipes()
        process.conclude()
    stdout, stderr = (each.decode("utf-8", "surrogateescape") for each in read.values())
    return Result(return_code, stdout, stderr)


def _tell(progress: Progress, fraction: float) -> None:
    try:
        progress(fraction)
    except BaseException as error:  # noqa: BLE001  # the caller's own, whatever it is: it goes on as it came
        raise StoppedError(error) from None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)
