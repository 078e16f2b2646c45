"""One command line, and how it is run: the secrets in it go by pipes, and an error tells which image it is about."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import cast

import unix
from kvm import errors, redaction
from kvm.errors import (
    CancelledError,
    CannotConnectError,
    CommandTimeoutError,
    ConnectionLostError,
    InvalidArgumentError,
    KvmError,
    NoQemuImgError,
)
from kvm.groups.image.names import File, Progress, checked_word, file_word, settings_word
from kvm.groups.image.options import option_words
from kvm.groups.image.progress import WasCancelledError, watched
from kvm.virsh.jobs import Cancel, StoppedError
from unix.log import listener
from unix.result import Result
from unix.words import encode

_FIRST, _MOST = 3, 7
"""The first descriptor for a secret, and how many a shell can name."""


class Job:
    """One run of a program: its words, its secrets, who is told of its progress, and which image it is about.

    Its operands are that image, with `more` words behind it, unless others are given; `extra` are words before them.
    """

    def __init__(
        self,
        command: str,
        shape: type,
        given: Mapping[str, object],
        about: File | None,
        *more: str,
        extra: Sequence[str] = (),
        operands: Sequence[str] | None = None,
        program: str = "qemu-img",
    ) -> None:
        self._progress = cast(Progress | None, given.get("progress"))
        self._cancel = cast(Cancel | None, given.get("cancel"))
        self.about = "" if about is None else file_word(about) if isinstance(about, Mapping) else checked_word(about)
        self._secrets = cast(Mapping[str, bytes | str], given.get("secrets") or {})
        self._begin = [program, command]
        self._options: list[str] = []
        for number, name in enumerate(self._secrets, _FIRST):
            told = settings_word({"id": name, "format": "base64", "file": f"/dev/fd/{number}"})
            self._options += ["--object", f"secret,{told}"]
        self._options += option_words(command, shape, given if self._progress is None else {**given, "quiet": None})
        self._options += [*([] if self._progress is None else ["-p"]), *extra]
        if operands is None and about is not None:
            operands = [file_word(about, cast(str | None, given.get("format")))]
        self._operands = [*(operands or []), *more]
        if redaction.secrets(self.words):
            raise self.error(
                InvalidArgumentError,
                "every user of the host can read a secret in its arguments: give it in secrets={'sec0': ...}, and name "
                "that where it is needed, as in 'password-secret': 'sec0'",
            )

    @property
    def words(self) -> list[str]:
        """The words of the program; there are no secrets in them."""
        return [*self._begin, *self._options, *(["--", *self._operands] if self._operands else [])]

    def _command_line(self) -> tuple[list[str], bytes | None]:
        """The words to run, and what goes to their standard input.

        qemu reads a secret from a descriptor. A shell makes pipes for them of the lines of its input.
        """
        if not self._secrets:
            return self.words, None
        numbers = range(_FIRST, _FIRST + len(self._secrets))
        if len(numbers) > _MOST:
            raise self.error(InvalidArgumentError, f"it can be given {_MOST} secrets, not {len(numbers)}")
        read = "; ".join([f"unset s{number}; IFS= read -r s{number}" for number in numbers])
        pipes = " ".join([f"{number}<<E{number}" for number in numbers])
        contents = "\n".join([f"$s{number}\nE{number}" for number in numbers])
        secrets = [encode(each) if isinstance(each, str) else bytes(each) for each in self._secrets.values()]
        data = b"".join([base64.b64encode(each) + b"\n" for each in secrets])
        return ["sh", "-c", f'{read}\nexec "$@" {pipes}\n{contents}\n', "sh", *self.words], data

    def run(self, host: unix.Host, doubt: str = "") -> Result | KvmError:
        """The result, or the error that has come in between; raises what is wrong with the job or the host."""
        words, data = self._command_line()
        if logger := listener("kvm"):
            logger.debug("%s", " ".join(redaction.masked_words(self.words)))
        try:
            with host.set_controls(locale="C.UTF-8", decode="utf-8"):
                if self._progress is not None or self._cancel is not None:
                    result = watched(host, words, data, self._progress, self._cancel)
                else:
                    result = host.run(words, input=data)
        except StoppedError as error:
            stopped = error.reason
        except WasCancelledError:
            return self.error(CancelledError, f"it was cancelled{doubt}")
        except unix.CommandTimeoutError as error:
            return self.error(CommandTimeoutError, f"it did not end within {error.timeout:g} s and was stopped{doubt}")
        except unix.ConnectionLostError as error:
            return self.error(ConnectionLostError, f"{error}{doubt}")
        except unix.ConnectError as error:
            return self.error(CannotConnectError, str(error))
        except unix.ArgumentError as error:
            raise self.error(InvalidArgumentError, str(error)) from error
        else:
            if result.return_code == 127 and self.words[0] in result.stderr:
                reason = f"there is no {self.words[0]} on {host}"
                raise NoQemuImgError(errors.describe(NoQemuImgError, reason), command=self.words)
            return result
        raise stopped

    def error(self, kind: type[KvmError], reason: str, stderr: str = "", return_code: int | None = None) -> KvmError:
        """An error that tells which image it is about."""
        about = "" if self.about in reason else f" ({self.about})"
        message = f"{' '.join(self._begin)}: {reason}{about}"
        return kind(message, command=self.words, stderr=stderr, return_code=return_code)

    def without_names(self, said: str) -> str:
        """What qemu-img said, without the names in it."""
        for name in sorted({self.about, *self._operands} - {""}, key=len, reverse=True):
            said = said.replace(f"'{name}'", "''").replace(f"[{name}]", "[]").replace(f": {name}: ", ": ")
        return said
