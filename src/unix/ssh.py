"""How ``ssh`` is called, and what its words mean: options, passwords, host keys, and why there is no connection."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unix import script
from unix.errors import AuthenticationError, ConnectError, HostKeyError, UnixError
from unix.process import CannotStartError, LocalProcess, finish, start
from unix.words import encode

_ASKPASS = """#!/bin/sh
case $1 in
  *"@$UNIX_ASKPASS_HOST"*[Pp]assword*) exec cat "$UNIX_ASKPASS_PIPE" ;;
  [Pp]assword*) [ -n "$UNIX_ASKPASS_DIRECT" ] && exec cat "$UNIX_ASKPASS_PIPE" ;;
esac
exit 1
"""
"""Answers ssh's question for this host's password, and no other: not a passphrase, not a jump host's password."""


class Destination(NamedTuple):
    """Where to connect to, and how: what `Remote.connect` was given, but the password."""

    host: str
    username: str | None
    port: int | None
    key_filename: str | None
    timeout: float
    config: str | None
    known_hosts: str | None
    host_key: str
    options: Mapping[str, str]
    keepalive: float

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username and "@" not in self.host else ""
        return f"{user}{self.host}" + (f":{self.port}" if self.port else "")

    def options_for_people(self) -> list[str]:
        """What a person would write behind ``ssh`` to get there."""
        words = ["-F", self.config] if self.config is not None else []
        words += ["-o", f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts is not None else []
        words += [word for name, value in self.options.items() for word in ("-o", f"{name}={value}")]
        words += ["-p", str(self.port)] if self.port is not None else []
        return [*words, f"{self.username}@{self.host}" if self.username else self.host]

    def options_of_ssh(self) -> list[str]:
        """What tells ssh where and how. The user's options come first, because ssh takes what it finds first."""
        ours = {
            "ConnectTimeout": max(1, round(self.timeout)),
            "StrictHostKeyChecking": "accept-new" if self.host_key == "accept-new" else "yes",
            "ServerAliveInterval": max(1, round(self.keepalive)),
            "ServerAliveCountMax": 3,
        }
        if self.known_hosts is not None:
            ours |= {"UserKnownHostsFile": f'"{self.known_hosts}"', "GlobalKnownHostsFile": "/dev/null"}
        if self.key_filename is not None:
            ours |= {"IdentitiesOnly": "yes"}
        words = ["-F", self.config] if self.config is not None else []
        for name, value in [*self.options.items(), *ours.items()]:
            words += ["-o", f"{name}={value}"]
        for flag, given in (("-l", self.username), ("-p", self.port), ("-i", self.key_filename)):
            if given is not None:
                words += [flag, str(given)]
        return words


def start_master(destination: Destination, path: str, env: Mapping[str, str], stderr: int) -> LocalProcess:
    """The ssh that holds a connection: it can ask nobody anything, and does nothing else that a configuration wants."""
    options = {
        "ControlMaster": "yes",
        "ControlPath": '"' + path.replace("%", "%%") + '"',
        "ControlPersist": "no",
        "RemoteCommand": "none",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "LogLevel": "INFO",
        **({"NumberOfPasswordPrompts": "1"} if env else {"BatchMode": "yes"}),
    }
    words = ["ssh", "-T", "-x", *[word for name, value in options.items() for word in ("-o", f"{name}={value}")]]
    try:
        return start(
            [*words, *destination.options_of_ssh(), "--", destination.host, script.BOOT],
            env={**os.environ, **env},
            stderr=stderr,
        )
    except CannotStartError as error:
        raise ConnectError(
            f"cannot connect to {destination}: this machine has no ssh (install openssh-client)"
        ) from error.__cause__


class Askpass:
    """For the duration of a block: what lets ssh ask for the password, in `env`. The password itself is in a pipe."""

    def __init__(self, destination: Destination, password: str | None) -> None:
        self._destination = destination
        self._password = password
        self.env: dict[str, str] = {}

    def __enter__(self) -> Askpass:
        if self._password is None:
            return self
        self._directory = tempfile.mkdtemp(dir=private_directory())
        program = os.path.join(self._directory, "askpass")
        with open(os.open(program, os.O_CREAT | os.O_WRONLY, 0o700), "w") as file:
            file.write(_ASKPASS)
        self._pipe, writing = os.pipe()
        os.write(writing, encode(self._password) + b"\n")
        os.close(writing)
        meant = _meant(self._destination)
        self.env = {
            "SSH_ASKPASS": program,
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": os.environ.get("DISPLAY") or "none",  # older releases ask nobody without one
            "UNIX_ASKPASS_HOST": meant.get("hostname", self._destination.host),
            "UNIX_ASKPASS_PIPE": f"/proc/{os.getpid()}/fd/{self._pipe}",
            "UNIX_ASKPASS_DIRECT": "" if meant.keys() & {"proxyjump", "proxycommand"} else "yes",
        }
        return self

    def __exit__(self, *_: object) -> None:
        if self._password is not None:
            os.close(self._pipe)
            os.unlink(os.path.join(self._directory, "askpass"))
            os.rmdir(self._directory)


def _meant(destination: Destination) -> dict[str, str]:
    """What ssh makes of a destination and the user's configuration."""
    asking = start(["ssh", "-G", *destination.options_of_ssh(), "--", destination.host], env=os.environ, stdin=False)
    _, stdout, _ = finish(asking, None, destination.timeout)
    lines = [line.partition(" ") for line in stdout.decode("utf-8", "replace").splitlines()]
    return {name: value for name, _, value in lines}


def no_answer(destination: Destination, said: Sequence[str]) -> ConnectError:
    """The error when there was no connection in time, and what ssh `said` meanwhile."""
    last = "".join(f"; ssh said: {line}" for line in said[-1:])
    return ConnectError(f"cannot connect to {destination}: no answer within {destination.timeout:g} s{last}")


def refusal(destination: Destination, said: Sequence[str]) -> ConnectError:
    """The error when ssh has ended: why, as it `said`, and what to do."""
    reason = said[-1] if said else "ssh ended and said nothing"
    if any("Host key verification failed" in line for line in said):
        return HostKeyError(_about_host_key(destination, said))
    if any(re.search(r"Permission denied \(|Too many authentication failures", line) for line in said):
        return AuthenticationError(
            f"cannot connect to {destination}: {reason} Is the user right, and is a key of yours known there "
            "(ssh-copy-id)? A key with a passphrase has to be in the agent (ssh-add); a password goes with password=..."
        )
    return ConnectError(f"cannot connect to {destination}: {reason}")


def _about_host_key(destination: Destination, said: Sequence[str]) -> str:
    """What to say of a host key that was refused: whose it is, which it is, and what to do."""
    text = "\n".join(said)
    refused = re.search(r"host key is known for (\S+) and|[Hh]ost key for (\S+) has changed", text)
    name = next(filter(None, refused.groups()), destination.host) if refused else destination.host
    kind, fingerprint = _fingerprint(destination)
    key = f"{kind} {fingerprint}" if fingerprint else "its key"
    elsewhere = shlex.join(["ssh", "-o", "StrictHostKeyChecking=accept-new", *destination.options_for_people(), "true"])
    if (offending := re.search(r"Offending \S+ key in (.+):(\d+)", text)) or "has changed" in text:
        file = offending[1] if offending else "~/.ssh/known_hosts"
        forget = shlex.join(["ssh-keygen", "-f", file, "-R", name])
        return (
            f"cannot connect to {destination}: the host key of {name} has changed to {key}. Is somebody in between? "
            f"If you know why, forget the old one with: {forget} ; and accept the new one with: {elsewhere}"
        )
    return (
        f"cannot connect to {destination}: the host key of {name} is not known: {key}. Compare it with the host's own "
        f"(there: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then accept it with: {elsewhere} ; or connect with "
        "host_key='accept-new'"
    )


def _fingerprint(destination: Destination) -> tuple[str, str]:
    """Type and fingerprint of the key that was refused. ssh tells it only when it is asked to say more."""
    words = ["ssh", "-v", "-T", "-o", "BatchMode=yes", "-o", "ControlPath=none", *destination.options_of_ssh()]
    asking = start([*words, "--", destination.host, "true"], env=os.environ, stdin=False)
    with contextlib.suppress(UnixError):
        _, _, stderr = finish(asking, None, destination.timeout)
        before, _, _ = stderr.decode("utf-8", "replace").partition("Host key verification failed")
        if found := re.findall(r"Server host key: (\S+) (\S+)", before):
            kind, fingerprint = found[-1]
            return kind.removeprefix("ssh-").upper(), fingerprint
    return "", ""


def private_directory() -> str:
    """The directory for control sockets, which nobody else can enter."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        path = os.path.join(parent, f"python-unix-{os.geteuid()}") if parent else ""
        if not path or len(path) > 80:  # a socket's path has 107 bytes at most, and ssh adds some of its own
            continue
        with contextlib.suppress(FileExistsError, PermissionError, FileNotFoundError):
            os.mkdir(path, 0o700)
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
                return path
    return tempfile.mkdtemp(prefix="python-unix-", dir="/tmp")
