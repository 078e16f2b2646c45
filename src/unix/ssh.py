"""How ``ssh`` is called, and what its words mean: options, passwords, host keys, and why there is no connection."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from glob import glob
from typing import NamedTuple

from unix import script
from unix.controls import LONGEST
from unix.errors import ArgumentError, AuthenticationError, ConnectError, HostKeyError, UnixError
from unix.process import CannotStartError, LocalProcess, finish, start
from unix.words import encode

_ASKPASS = """#!/bin/sh
while [ ! -s "$0.for" ]; do sleep 0.05; done
[ "$(cat "$0.for")" = $PPID ] || exit 1
case $1 in
  Enter\\ passphrase*|Enter\\ PIN*) exit 1 ;;
  *[Pp]assword*) exec cat "$UNIX_ASKPASS_PIPE" ;;
esac
exit 1
"""
"""Answers a question for a password if it is the master who asks: not the ssh of a jump host, which inherits this."""


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
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if self.port and ":" in self.host else self.host
        return f"{user}{host}" + (f":{self.port}" if self.port else "")

    def options_for_people(self) -> list[str]:
        """What a person would write behind ``ssh`` to get there."""
        words = ["-F", self.config] if self.config is not None else []
        words += ["-o", f"UserKnownHostsFile={_quoted(self.known_hosts)}"] if self.known_hosts is not None else []
        words += [word for name, value in self.options.items() for word in ("-o", f"{name}={value}")]
        words += ["-p", str(self.port)] if self.port is not None else []
        return [*words, f"{self.username}@{self.host}" if self.username else self.host]

    def options_of_ssh(self) -> list[str]:
        """What tells ssh where and how. The user's options come first, because ssh takes what it finds first."""
        ours = {
            "ConnectTimeout": max(1, round(min(self.timeout, LONGEST))),
            "StrictHostKeyChecking": "accept-new" if self.host_key == "accept-new" else "yes",
            "ServerAliveInterval": max(1, round(self.keepalive)),
            "ServerAliveCountMax": 3,
        }
        if self.known_hosts is not None:
            ours |= {"UserKnownHostsFile": _quoted(self.known_hosts), "GlobalKnownHostsFile": "/dev/null"}
        if self.key_filename is not None:
            ours |= {"IdentitiesOnly": "yes"}
        words = ["-F", self.config] if self.config is not None else []
        for name, value in [*self.options.items(), *ours.items()]:
            words += ["-o", f"{name}={value}"]
        key = None if self.key_filename is None else self.key_filename.replace("%", "%%")
        for flag, given in (("-l", self.username), ("-p", self.port), ("-i", key)):
            if given is not None:
                words += [flag, str(given)]
        return words


class Address(NamedTuple):
    """A host, and the user and the port if they are written with it."""

    username: str | None
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: object) -> Address:
        """Read ``HOST``, ``USER@HOST``, ``HOST:PORT``, ``[IPV6]:PORT`` or ``ssh://USER@HOST:PORT``.

        An IPv6 address without brackets has no port. `ArgumentError` if the text is none of these.
        """
        if isinstance(text, str) and re.match(r"(ssh://)?[^@/]*:.*@", text, re.DOTALL):
            raise ArgumentError(
                "a host must be a text such as 'root@hv1', without a password: give that as password=..."
            )
        expected = "'hv1', 'root@hv1', 'root@hv1:2222', '[::1]:2222' or 'ssh://root@hv1:2222'"
        wrong = ArgumentError(f"a host must be a text such as {expected}, without blanks, not {text!r}")
        if not isinstance(text, str) or not re.fullmatch(r"[^\x00-\x20\x7f-][^\x00-\x20\x7f]*", text):
            raise wrong
        is_uri = text.startswith("ssh://")
        user, at, rest = (text.removeprefix("ssh://").removesuffix("/") if is_uri else text).rpartition("@")
        forms = r"\[([^\[\]]+)\](?::([0-9]+))?", r"([^:\[\]]+)(?::([0-9]+))?", r"([^\[\]]*:[^\[\]]*:[^\[\]]*)"
        found = re.fullmatch("|".join(forms), rest)
        if not found or (at and not user) or (is_uri and "/" in rest):
            raise wrong
        host, port = found[1] or found[3] or found[5], found[2] or found[4]
        if host.startswith("-") or user.startswith("-") or (port and not (len(port) < 6 and 0 < int(port) < 65536)):
            raise wrong
        return cls(user or None, host, int(port) if port else None)


def _quoted(path: str) -> str:
    """A path as the value of an option, in which ssh expands nothing."""
    return '"' + path.replace("%", "%%") + '"'


def start_master(destination: Destination, path: str, env: Mapping[str, str], stderr: int) -> LocalProcess:
    """The ssh that holds a connection: it can ask nobody anything, and does nothing else that a configuration wants."""
    options = {
        "ControlMaster": "yes",
        "ControlPath": _quoted(path),
        "ControlPersist": "no",
        "RemoteCommand": "none",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "LogLevel": "INFO",
        "IgnoreUnknown": "StdinNull,SessionType",
        "StdinNull": "no",
        "SessionType": "default",
        **({"NumberOfPasswordPrompts": "1"} if env else {"BatchMode": "yes"}),
    }
    words = ["ssh", "-T", "-x", *[word for name, value in options.items() for word in ("-o", f"{name}={value}")]]
    try:
        return start(
            [*words, *destination.options_of_ssh(), *_preferring_aes(destination), "--", destination.host, script.BOOT],
            env={**os.environ, **env},
            stderr=stderr,
        )
    except CannotStartError as error:
        raise ConnectError(
            f"cannot connect to {destination}: this machine has no ssh (install openssh-client)"
        ) from error.__cause__


_CIPHERS = (
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
)
"""All that OpenSSH itself would offer; the first that the other side has as well is taken."""


def _preferring_aes(destination: Destination) -> list[str]:
    """Options that have much data encrypted in half the time, where this CPU has instructions for AES.

    None if the user's or the system's configuration says anything about ciphers, or includes what cannot be seen here.
    """
    of_system = ["/etc/ssh/ssh_config", *glob("/etc/ssh/ssh_config.d/*.conf")]
    files = [os.path.expanduser("~/.ssh/config"), *of_system] if destination.config is None else [destination.config]
    is_said = r"^\s*(ciphers\b|include\b(?!\s+/etc/ssh/ssh_config\.d/\*\.conf\s*$))"
    try:
        if any(re.search(is_said, _content(file), re.IGNORECASE | re.MULTILINE) for file in files):
            return []
        has_aes = re.search(r"^(flags|Features)\s*:.*\baes\b", _content("/proc/cpuinfo"), re.MULTILINE)
    except OSError:
        return []
    return ["-o", f"Ciphers={_CIPHERS}"] if has_aes else []


def _content(path: str) -> str:
    """What is in a text file, nothing if it is not there. What can be read only once is left to ssh: an `OSError`."""
    if path == os.devnull or not os.path.exists(path):
        return ""
    if not os.path.isfile(path):
        raise OSError(f"{path} is not a regular file")
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


@contextlib.contextmanager
def askpass(password: str | None) -> Iterator[tuple[dict[str, str], Callable[[int], None]]]:
    """For the duration of a block: the environment in which ssh can ask for the password, which itself is in a pipe.

    And what has to be told the process that may ask.
    """
    if password is None:
        yield {}, lambda _: None
        return
    with contextlib.ExitStack() as made:
        directory = made.enter_context(tempfile.TemporaryDirectory(dir=private_directory()))
        program = os.path.join(directory, "askpass")
        with open(os.open(program, os.O_CREAT | os.O_WRONLY, 0o700), "w") as file:
            file.write(_ASKPASS)
        reading, writing = os.pipe()
        made.callback(os.close, reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(encode(password) + b"\n")
        env = {
            "SSH_ASKPASS": program,
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": os.environ.get("DISPLAY") or "none",  # older releases ask nobody without one
            "UNIX_ASKPASS_PIPE": f"/proc/{os.getpid()}/fd/{reading}",
        }

        def is_for(pid: int) -> None:
            with open(f"{program}.for", "w") as file:
                file.write(str(pid))

        yield env, is_for


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
    return _directory_of_this_process()


@cache
def _directory_of_this_process() -> str:
    """For want of the usual one, which somebody else has taken; it goes with the process."""
    path = tempfile.mkdtemp(prefix="python-unix-", dir="/tmp")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
