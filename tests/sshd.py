"""An sshd of the tests' own on loopback: its own keys, configuration, port and users, gone with the tests.

As root it runs in a private mount namespace, where the user database is the tests': with users whose login shells are
others, and with passwords. As another user it lets in that user alone, by key.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import unix
from ports import free_port

SHELLS = ("sh", "bash", "zsh", "fish", "tcsh")
"""The login shells that there are users of, named as these are with a ``t`` before it: tsh, tbash, ..."""

PASSWORD = "pass word'$\"\\é"

CONFIG = """
ListenAddress 127.0.0.1
ListenAddress ::1
Port {port}
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication yes
PrintMotd no
SetEnv PATH={path}
Subsystem sftp internal-sftp
"""


class Sshd:
    """A running sshd. `port` is where it listens, `key` a key that it lets in, `known_hosts` has its own.

    `config` are lines of its configuration; `sh` is what is /bin/sh there, and `pam` a file with PAM's rules for it, if
    root runs it.
    """

    def __init__(self, *config: str, sh: str = "/bin/sh", pam: Path | None = None) -> None:
        self.sh = Path(sh).resolve()
        self._pam = pam
        self.home = Path(tempfile.mkdtemp(prefix="sshd-"))
        self.home.chmod(0o755)
        self.port = free_port()
        self.key = self.home / "key"
        self.known_hosts = self.home / "known_hosts"
        keygen(self.key)
        shutil.copy(self.home / "key.pub", self.home / "authorized_keys")
        self.new_host_key()
        lines = CONFIG.format(home=self.home, port=self.port, path=os.environ["PATH"])
        (self.home / "config").write_text("\n".join([*config, lines]))
        self.is_system = os.geteuid() == 0
        self._make_users()
        self.start()

    def new_host_key(self) -> None:
        """Give the host another key, as if it was another host; `known_hosts` is told of it."""
        keygen(self.home / "host_key")
        public = (self.home / "host_key.pub").read_text()
        names = ",".join(f"[{name}]:{self.port}" for name in ("127.0.0.1", "::1", "localhost"))
        self.known_hosts.write_text(f"{names} {public}")

    def start(self) -> None:
        daemon = [shutil.which("sshd", path="/usr/sbin:/sbin") or "sshd", "-D", "-e", "-f", str(self.home / "config")]
        if self.is_system:
            mounts = [f"mount --bind {self.home}/{name} /etc/{name}" for name in ("passwd", "shadow")]
            mounts.append(f"mount --bind {self.sh} {Path('/bin/sh').resolve()}")
            if self._pam:
                mounts.append(f"mount --bind {self._pam} /etc/pam.d/sshd")
            script = " && ".join([*mounts, "mkdir -p /run/sshd", 'exec "$@"'])
            daemon = ["unshare", "--mount", "--propagation=slave", "sh", "-c", script, "sh", *daemon]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {self.log()}")

    def stop(self) -> None:
        """End the daemon and every connection, as when the host loses its power."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def sessions(self) -> list[int]:
        """The sshd processes that serve connections."""
        serving = [child for process in _children(self.process.pid) for child in (*_children(process), process)]
        return [pid for pid in serving if _program(pid).startswith("sshd")]

    def arguments(self, **more: Any) -> dict[str, Any]:
        """What `Remote.connect` needs to get here, by key."""
        return {
            "host": "127.0.0.1", "port": self.port, "key_filename": self.key, "known_hosts": self.known_hosts,
            "config": "/dev/null", "timeout": 60, **more,
        }  # fmt: skip

    def connect(self, controls: Mapping[str, Any] | None = None, **more: Any) -> unix.Remote:
        return unix.Remote(**(controls or {})).connect(**self.arguments(**more))

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def _make_users(self) -> None:
        if not self.is_system:
            return
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
        ).stdout.strip()  # fmt: skip
        homes = self.home / "users"
        root = f"root:x:0:0:root:{homes}/root:/bin/sh"
        others = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
        passwd, shadow = "\n".join([root, *others, ""]), f"root:{hashed}:19000:0:99999:7:::\n"
        (homes / "root").mkdir(parents=True)
        for number, shell in enumerate(SHELLS, 61000):
            home = homes / f"t{shell}"
            home.mkdir()
            os.chown(home, number, number)
            passwd += f"t{shell}:x:{number}:{number}:a b,c:{home}:{shutil.which(shell)}\n"
            shadow += f"t{shell}:{hashed}:19000:0:99999:7:::\n"
        (self.home / "passwd").write_text(passwd)
        (self.home / "shadow").write_text(shadow)
        (self.home / "shadow").chmod(0o600)


def keygen(path: Path, passphrase: str = "") -> None:
    for file in (path, path.with_suffix(".pub")):
        file.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)


def user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def missing() -> list[str]:
    """The programs without which there is no sshd to test with."""
    needed = ("sshd", "ssh", "ssh-keygen", "ssh-agent", "openssl", "setpriv", *SHELLS)
    return [name for name in needed if not shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
