"""One process of virsh for each command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import cast

import unix
from kvm import errors
from kvm.virsh import manners
from kvm.virsh.environment import EVERY_VIRSH
from unix.result import Result


def as_virsh_wants(host: unix.Host, more: Mapping[str, str] = MappingProxyType({})) -> AbstractContextManager[None]:
    """For the duration of a block: the environment of a virsh, with `more` variables, and its output as it is."""
    envs = {**cast(Mapping[str, str], host.get_control("envs")), **EVERY_VIRSH, **more}
    envs.pop("LC_ALL", None)
    return host.set_controls(locale="C.UTF-8", decode=None, envs=envs)


ENVIRONMENT = EVERY_VIRSH


class OneProcessEach:
    """Runs each command in a virsh of its own on `host`, connected to `uri` (None: virsh's own default)."""

    def __init__(self, host: unix.Host, uri: str | None) -> None:
        self._host = host
        self._connect = [f"--connect={uri}"] if uri is not None else []

    def run_words(self, words: Sequence[str], data: bytes | None = None, *, reads: bool = False) -> Result:
        """Run virsh with the words of one command, `data` on its standard input; does the command only read?"""
        try:
            with as_virsh_wants(self._host, {"TZ": "UTC"} if words[0] in manners.WITHOUT_ZONE else {}):
                result = self._host.run(["virsh", *self._connect, *words], input=data)
        except unix.CommandTimeoutError as error:
            return timed_out(error.timeout)
        except unix.ConnectionLostError as error:
            return lost(str(error), words[0], reads=reads)
        except unix.ConnectError as error:
            return unreached(error)
        except unix.ArgumentError as error:
            raise errors.InvalidArgumentError(str(error), command=words) from error
        stdout, stderr = cast(
            tuple[bytes, bytes], (result.stdout, result.stderr)
        )  # bytes, because nothing decodes them
        if result.return_code == 127 and b"virsh" in stderr:
            raise no_virsh(self._host)
        return manners.judged(words[0], stdout, stderr, reads=reads, return_code=result.return_code)


def no_virsh(host: unix.Host) -> errors.NoVirshError:
    return errors.NoVirshError(errors.describe(errors.NoVirshError, f"there is no virsh on {host}"))


def timed_out(timeout: float, doubt: str = "") -> Result:
    """The result of a command that virsh did not answer in `timeout` seconds."""
    return Result(255, "", f"error: Timed out during operation: virsh did not answer within {timeout:g} s{doubt}\n")


def lost(why: str, name: str, *, reads: bool) -> Result:
    """The result of a command that was under way when the connection to the host, or virsh itself, was lost."""
    doubt = "" if reads else f"; whether {name} was done is not known"
    return Result(255, "", f"error: {why}{doubt}\n")


def unreached(error: unix.ConnectError | unix.ConnectionLostError) -> Result:
    """The result of a command that was not given to any virsh, because the host cannot be reached."""
    return Result(255, "", f"error: {error}\n")
