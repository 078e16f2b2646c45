"""How ``ssh`` is called, and what its words mean: options, passwords, host keys, and why there is no connection."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from glob import glob
from typing import IO, NamedTuple

from unix import script
from unix.controls import LONGEST
from unix.errors import ArgumentError, AuthenticationError, ConnectError, HostKeyError, UnixError
from unix.process import CannotStartError, LocalProcess, finish, start
from unix.words import encode

_OTHER_QUESTIONS = (
    "Enter ", "ew ", "eues ", "ouveau", "ne-time", "ne time", "OTP", "inmal", "ode", "oken", "actor", "erif",
)  # fmt: skip
"""Occurs in questions for a passphrase, a new password, a one-time password, a code or a second factor."""

_PASSWORD_QUESTIONS = (
    "assword", "PASSWORD", "asswort", "ot de passe", "ontraseña", "enha", "achtwoord", "asło", "eslo", "ösenord",
    "dgangskode", "alasana", "ароль", "arola", "elszó", "パスワード", "密码", "密碼", "암호",
)  # fmt: skip
"""Occurs in PAM's question for the password, in the languages that PAM is translated to."""

_ASKPASS = f"""#!/bin/sh
while [ ! -s "$0.for" ]; do sleep 0.05; done
[ "$(cat "$0.for")" = $PPID ] || exit 1
case ${{1#(*) }} in
  *"'s password: ") exec cat "$UNIX_ASKPASS_PIPE" ;;
  {"|".join(f"*'{part}'*" for part in _OTHER_QUESTIONS)}) ;;
  {"|".join(f"*'{part}'*" for part in _PASSWORD_QUESTIONS)}) exec cat "$UNIX_ASKPASS_PIPE" ;;
esac
printf '%.200s\\n' "$1" >> "$0.unanswered"
exit 1
"""
"""Answers the question for the password if the ssh master asks it, but not the ssh of a jump host, which inherits this.

Any other question is recorded, and gets no answer.
"""


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
            ours |= {"IdentitiesOnly": "yes", "IdentityFile": _quoted(self.key_filename)}
        words = ["-F", self.config] if self.config is not None else []
        for name, value in [*self.options.items(), *ours.items()]:
            words += ["-o", f"{name}={value}"]
        for flag, given in (("-l", self.username), ("-p", self.port)):
            if given is not None:
                words += [flag, str(given)]
        return words


class Address(NamedTuple):
    """A host, with the user and the port if they are given."""

    username: str | None
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: object) -> Address:
        """Read ``HOST``, ``USER@HOST``, ``HOST:PORT``, ``[IPV6]:PORT`` or ``ssh://USER@HOST:PORT``.

        An IPv6 address without brackets has no port. `ArgumentError` if the text is none of these.
        """
        if isinstance(text, str) and re.match(r"[^@/]*:.*@", text.removeprefix("ssh://"), re.DOTALL):
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


class Askpass:
    """The program, in a directory, that ssh runs for a password; the password is in the pipe `reading`."""

    def __init__(self, directory: str, reading: int) -> None:
        self._program = os.path.join(directory, "askpass")
        with open(os.open(self._program, os.O_CREAT | os.O_WRONLY, 0o700), "w", encoding="utf-8") as file:
            file.write(_ASKPASS)
        self.env = {
            "SSH_ASKPASS": self._program,
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": os.environ.get("DISPLAY") or "none",  # older releases run askpass only if it is set
            "UNIX_ASKPASS_PIPE": f"/proc/{os.getpid()}/fd/{reading}",
        }

    def allow(self, pid: int) -> None:
        """Allow a process to get the password."""
        with open(f"{self._program}.for", "w") as file:
            file.write(str(pid))

    def unanswered(self) -> list[str]:
        """Return the questions that got no answer."""
        try:
            with open(f"{self._program}.unanswered", encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def askpass(password: str | None) -> Iterator[Askpass | None]:
    """Provide the askpass program for the duration of a block; None without a password."""
    if password is None:
        yield None
        return
    with contextlib.ExitStack() as made:
        directory = made.enter_context(tempfile.TemporaryDirectory(dir=private_directory()))
        reading, writing = os.pipe()
        made.callback(os.close, reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(encode(password) + b"\n")
        yield Askpass(directory, reading)


MESSAGES_SIZE = 1 << 20


def message_file() -> IO[bytes]:
    """Return a file in memory for ssh's standard error.

    It cannot grow beyond `MESSAGES_SIZE`, so that no host can fill a disk. ssh shares our file position, and writes
    there.
    """
    file = os.fdopen(os.memfd_create("ssh", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", buffering=0)
    file.truncate(MESSAGES_SIZE)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return file


def messages(file: IO[bytes]) -> list[str]:
    """Return the last lines of ssh's output. ssh's own end with a carriage return; others mostly do not."""
    size = file.tell()
    data = os.pread(file.fileno(), _LAST_MESSAGES, max(size - _LAST_MESSAGES, 0))[:size]
    return [line for line in data.decode("utf-8", "replace").split("\n") if line.strip()]


_LAST_MESSAGES = 1 << 16

_DETAILS = r"Warning: Identity file|no such identity: |Load key |Permissions \d+ for |.*: [Bb]ad (configuration|owner)"
"""Begins ssh's messages that explain an error that comes later."""

_DROPPED = r"(kex|ssh)_exchange_identification: |banner exchange: |Connection (closed|reset) by "
"""Begins ssh's messages about a connection that sshd has dropped at once."""


class DroppedError(ConnectError):
    """sshd dropped the connection at once, as it does while too many others are beginning."""


def no_answer(destination: Destination, said: Sequence[str], questions: Sequence[str] = ()) -> ConnectError:
    """Return the error for a timeout while connecting, with what ssh `said` and the `questions` that it got."""
    own = [line.strip() for line in said if line.endswith("\r")]
    last = f"; ssh said: {own[-1]}" if own else ""
    asked = f"; the host asked {', '.join(map(repr, questions))}" if questions else ""
    return ConnectError(f"cannot connect to {destination}: no answer within {destination.timeout:g} s{last}{asked}")


def no_shell(destination: Destination) -> ConnectError:
    """Return the error for a login that did not run our command in time."""
    return ConnectError(
        f"cannot connect to {destination}: ssh is connected, but the login did not run a command within "
        f"{destination.timeout:g} s. Do its scripts (such as .bashrc) print without end, ask something, or start "
        "another program where there is no terminal?"
    )


def refusal(destination: Destination, said: Sequence[str], questions: Sequence[str] = ()) -> ConnectError:
    """Return the error when ssh has ended: the reason in what it `said`, unanswered `questions`, and what to do."""
    if any("Host key verification failed" in line for line in said):
        return HostKeyError(_about_host_key(destination, [line.strip() for line in said]))
    details = [line.strip(" .\r") for line in said if re.match(_DETAILS, line)]
    reason = ". ".join([*dict.fromkeys(details), _reason(said)])
    if questions:
        asked = ", ".join(map(repr, questions))
        reason = f"{reason} The host asked {asked}, which password=... does not answer."
    if any(re.search(r"Permission denied \(|Too many authentication failures", line) for line in said):
        return AuthenticationError(
            f"cannot connect to {destination}: {reason} Is the user right, and is a key of yours known there "
            "(ssh-copy-id)? A key with a passphrase has to be in the agent (ssh-add); a password goes with password=..."
        )
    own = [line for line in said if line.endswith("\r")]
    dropped = any("exchange" in line for line in own) and all(re.match(_DROPPED, line) for line in own)
    return (DroppedError if dropped else ConnectError)(f"cannot connect to {destination}: {reason}")


def _reason(said: Sequence[str]) -> str:
    """Return ssh's own last message; without one, other output such as a host's banner."""
    own = [line.strip() for line in said if line.endswith("\r")]
    if own:
        return own[-1]
    return "ssh ended without a message" + (f"; the host said: {said[-1].strip()}" if said else "")


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
    """Return the directory for control sockets, which no other user can enter.

    `ConnectError` if there is no place for one.
    """
    reasons: list[str] = []
    for parent in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR"), *_temporary_directories())):
        path = os.path.join(parent, f"python-unix-{os.geteuid()}") if parent else ""
        # a socket's path has 107 bytes at most, to which ssh adds some of its own; and ssh expands ${...}
        if not path or len(os.fsencode(path)) > 80 or re.search(r'["\n]|\$\{', path):
            continue
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
                _try_to_write(path)
                return path
            reasons.append(f"{path} belongs to another user")
        except OSError as error:
            reasons.append(f"{error.strerror}: {path}")
    try:
        return _directory_of_this_process()
    except OSError as error:
        reasons.append(f"{error.strerror}: {error.filename}")
    raise ConnectError(
        f"cannot create a directory for the sockets of ssh ({'; '.join(dict.fromkeys(reasons))}): free space in one "
        "of them, or set XDG_RUNTIME_DIR or TMPDIR to a writable directory"
    )


def _temporary_directories() -> Iterator[str]:
    """Yield the directories for temporary files. `tempfile` names the working directory if it can write to no other."""
    with contextlib.suppress(OSError):
        if (usual := tempfile.gettempdir()) != os.getcwd():
            yield usual
    yield from (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp", "/dev/shm")


def _try_to_write(directory: str) -> None:
    """Raise an `OSError` if `directory` is full or read-only."""
    handle, path = tempfile.mkstemp(dir=directory)
    try:
        os.write(handle, bytes(4096))
    finally:
        os.close(handle)
        os.unlink(path)


@cache
def _directory_of_this_process() -> str:
    """Make a directory where others have taken the usual one; it goes with the process."""
    path = tempfile.mkdtemp(prefix="python-unix-", dir="/tmp")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
