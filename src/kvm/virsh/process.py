"""One-shot commands: a virsh process for each.

Its standard input is empty: libvirt may ask for credentials while it connects, and would take any input as the answer.
So virsh reads its data from another descriptor.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, cast

import unix
from kvm import errors, redaction
from kvm.virsh import manners
from kvm.virsh.environment import EVERY_VIRSH
from kvm.virsh.jobs import (
    GLANCE,
    Job,
    NotAbortedError,
    OutOfTimeError,
    Outside,
    StoppedError,
    Watch,
    without_progress,
)
from kvm.virsh.outcome import (
    classify,
    credentials_question,
    is_broken_off,
    lost,
    timed_out,
    too_long,
    unauthenticated,
    unknown,
    unreached,
)
from kvm.virsh.prompt import MAX_REPLY_BYTES
from unix.result import Result

if TYPE_CHECKING:
    from kvm.virsh.transfer import Transfer


_MOVED = {"/dev/stdin": "/dev/fd/3", "/dev/stdout": "/dev/fd/4"}
"""The descriptors from which, or to which, a one-shot command transfers data under these names."""

_READING = 'exec 3<&0 </dev/null "$@"'
_WRITING = 'exec 4>&1 >&2 "$@"'
"""Shell scripts that run a command with its standard input, or output, moved to these descriptors."""


def as_virsh_wants(host: unix.Host, more: Mapping[str, str] = MappingProxyType({})) -> AbstractContextManager[None]:
    """For the duration of a block: the environment of a virsh, with `more` variables, and its output as it is."""
    envs = {**cast(Mapping[str, str], host.get_control("envs")), **EVERY_VIRSH, **more}
    envs.pop("LC_ALL", None)
    return host.set_controls(locale="C.UTF-8", decode=None, envs=envs)


class OneProcessEach:
    """Runs each command in a virsh of its own on `host`, connected to `uri` (None: virsh's own default)."""

    def __init__(self, host: unix.Host, uri: str | None) -> None:
        self._host = host
        self._connect = [f"--connect={uri}"] if uri is not None else []

    def run_words(self, words: Sequence[str], data: bytes | None = None, *, reads: bool = False) -> Result:
        """Run virsh with the words of one command, `data` on its standard input; does the command only read?"""

        def run(argv: Sequence[str]) -> Result:
            argv = argv if data is None else _moved(_READING, argv)
            return self._host.run(argv, input=data, max_output=MAX_REPLY_BYTES)

        return self._classified(words, run, reads=reads)

    def run_job(self, words: Sequence[str], data: bytes | None, job: Job, outside: Outside) -> Result:
        """Run virsh with the words of a command that is a job, which `outside` sees as well."""
        timeout = self._host.time_limit()
        watch = Watch(job, outside, timeout, asks=job.is_silent(words[0]))
        pieces = None if data is None else (data,)

        def run(argv: Sequence[str]) -> Result:
            argv = argv if data is None else _moved(_READING, argv)
            result = self._host.stream(argv, pieces=pieces, heed=watch.heed, timeout=0)
            return Result(result.return_code, result.stdout, cast(str, without_progress(cast(bytes, result.stderr))))

        if job.is_cancelled():
            return Result(1, "", "error: it was cancelled before it was begun\n")
        try:
            result = self._classified(job.asked(words), run, reads=False)
            if result.status and words[0] in manners.GO_ON:
                if not job.waits or outside.is_endless():
                    return result
                result = watch.follow(result)
            watch.has_begun = False  # nor is it there any more
            return watch.judged(result)
        except StoppedError as stopped:
            _noted(stopped.reason, words[0], outside, has_begun=watch.has_begun)
            raise stopped.reason from None
        except OutOfTimeError:
            if job.is_cancelled():
                return lost("it was cancelled, and did not end", unknown(words[0]))
            return timed_out(timeout or 0, unknown(words[0]))
        except NotAbortedError as error:
            if job.is_cancelled():
                return lost(str(error), unknown(words[0]))
            return timed_out(timeout or 0, f"; {error}{unknown(words[0])}")
        except errors.KvmError:  # there is no virsh, or none that could be told this
            raise
        except BaseException as error:
            _noted(error, words[0], outside, has_begun=watch.has_begun)
            raise

    def transfer(self, words: Sequence[str], transfer: Transfer, *, reads: bool) -> Result:
        """Run virsh with the words of a command that transfers a file; does the command only read?"""
        with transfer.opened(), transfer.descriptor() if self._is_here() else nullcontext() as descriptor:

            def run(argv: Sequence[str]) -> Result:
                argv = ["virsh", "--quiet", *argv[1:]] if words[0] in manners.QUIET else argv
                if descriptor is None:
                    argv = _moved(_READING if transfer.take is None else _WRITING, argv)
                    return self._host.stream(argv, pieces=transfer.pieces, take=transfer.take)
                path = f"/proc/{os.getpid()}/fd/{descriptor}"
                argv = transfer.moved(argv, path)
                return self._watched([*argv, "--sparse"] if transfer.sparse else argv, descriptor, transfer.advance)

            result = self._classified(words, run, reads=reads)
            if result.status:
                transfer.conclude(itself=descriptor is not None)
            elif is_broken_off(words[0], result):
                stderr, unknown = f"{result.stderr}error: {transfer.doubts}\n", result.outcome_unknown
                result = Result(result.return_code, result.stdout, stderr, outcome_unknown=unknown)
            return result

    def _is_here(self) -> bool:
        """Whether virsh runs on this machine, as the user that we are."""
        host = self._host
        while isinstance(host, unix.Wrapper):
            host = host.host
        return isinstance(host, unix.Local) and host.get_control("su") is None

    def _watched(self, argv: Sequence[str], descriptor: int, advance: Callable[[int], None]) -> Result:
        """Run virsh, which has our file, and tell how far it is in it."""
        timeout = self._host.time_limit() or math.inf
        deadline = time.monotonic() + timeout
        try:
            process = self._host.popen(argv)
        except FileNotFoundError:
            raise no_virsh(self._host) from None
        with process:
            if process.stdin:
                process.stdin.close()  # so that a question for credentials gets no answer
            stdout, stderr = cast(IO[bytes], process.stdout), cast(IO[bytes], process.stderr)
            while not select.select([stdout], [], [], GLANCE)[0]:
                advance(_position(process.pid, descriptor))
                if time.monotonic() > deadline:
                    raise unix.CommandTimeoutError(argv, timeout)
            said = stdout.read(), stderr.read()
            return Result(process.wait(), *cast(tuple[str, str], said))  # bytes, as nothing decodes them

    def _classified(self, words: Sequence[str], run: Callable[[Sequence[str]], Result], *, reads: bool) -> Result:
        """Run virsh with the words of one command by `run`, and classify the result."""
        doubt = "" if reads else unknown(words[0])
        try:
            with as_virsh_wants(self._host, {"TZ": "UTC"} if words[0] in manners.WITHOUT_ZONE else {}):
                result = run(["virsh", *self._connect, *visible(words)])
        except unix.CommandTimeoutError as error:
            return timed_out(error.timeout, doubt)
        except unix.OutputTooLongError as error:
            return too_long(error.limit, doubt)
        except unix.ConnectionLostError as error:
            return lost(str(error), doubt)
        except unix.ConnectError as error:
            return unreached(error)
        except unix.ArgumentError as error:
            raise errors.InvalidArgumentError(str(error), command=words) from error
        stdout, stderr = cast(
            tuple[bytes, bytes], (result.stdout, result.stderr)
        )  # bytes, because nothing decodes them
        if result.return_code == 127 and b"virsh" in stderr:
            raise no_virsh(self._host)
        if question := credentials_question(stdout, stderr):
            return unauthenticated(question)
        for name, place in _MOVED.items():
            stdout, stderr = (output.replace(place.encode(), name.encode()) for output in (stdout, stderr))
        return classify(words[0], stdout, stderr, reads=reads, return_code=result.return_code)


def _moved(script: str, argv: Sequence[str]) -> list[str]:
    """Return the words that run `argv` by a shell `script`, with the names in `_MOVED` replaced."""
    words = [*argv]
    for name, place in _MOVED.items():
        words = [word.replace(f"={name}", f"={place}") if word.endswith(f"={name}") else word for word in words]
    return ["/bin/sh", "-c", script, "sh", *words]


def visible(words: Sequence[str]) -> Sequence[str]:
    """Return `words` if they contain no secret: every user of the host can read a command line."""
    if redaction.secrets(words):
        raise errors.InvalidArgumentError(
            f"virsh {words[0]}: the secret would be on a command line, which every user of the host can read; "
            "virsh's prompt, which hides it, takes only valid UTF-8, and not every command",
            command=words,
        )
    return words


def no_virsh(host: unix.Host) -> errors.NoVirshError:
    """Return the error for a host without virsh, with the PATH that was searched."""
    path = ""
    with contextlib.suppress(unix.UnixError), host.set_controls(decode="utf-8"):
        path = host.run(["/bin/sh", "-c", 'printf %s "$PATH"']).stdout
    where = (
        f"; if it is in a directory that is not in PATH ({path}), set the control envs={{'PATH': ...}}" if path else ""
    )
    return errors.NoVirshError(errors.describe(errors.NoVirshError, f"there is no virsh on {host}") + where)


def _noted(error: BaseException, name: str, outside: Outside, *, has_begun: bool) -> None:
    """Abort a job whose virsh has been ended by `error`, and note what has become of it."""
    if not has_begun:
        return
    note = unknown(name).removeprefix("; ")
    with contextlib.suppress(NotAbortedError, errors.KvmError):
        if outside.abort().status:
            note = "libvirt was asked to abort it"
    error.add_note(f"virsh {name}: {note}")


def _position(pid: int, descriptor: int) -> int:
    """How far a process of this machine is in the file that we have open."""
    ours = os.fstat(descriptor)
    with contextlib.suppress(OSError):  # it ends, or opens and closes files
        for number in os.listdir(f"/proc/{pid}/fd"):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), ours):
                with open(f"/proc/{pid}/fdinfo/{number}") as info:
                    return int(info.readline().removeprefix("pos:"))
    return 0
