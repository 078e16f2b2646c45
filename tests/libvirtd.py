"""A libvirtd of the tests' own: its own state, sockets and guests, gone with the tests however they end.

As root it is the system daemon (``qemu:///system``) in private mount and process namespaces: the directories that
libvirt insists on are the tests' there, and when the namespace's first process dies, the kernel ends daemon and guests.
As another user it is that user's session daemon (``qemu:///session``), with every directory it uses in a place of its
own. In both cases the kernel ends it should the tests be killed.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree, which

from ports import Ports

DIRECTORIES = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}

LIBVIRTD_CONF = """
auth_unix_ro = "none"
auth_unix_rw = "{auth}"
log_outputs = "2:file:{log}/libvirtd.log"
"""

SASL_CONF = """
mech_list: plain
sasldb_path: {database}
"""

AUTH_CONF = """
[credentials-tests]
{credentials}

[auth-libvirt-localhost]
credentials=tests
"""
"""What libvirt's client sends to this machine's daemon instead of asking for it."""

QEMU_CONF = """
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""

PORTS_CONF = """
migration_port_min = {0}
migration_port_max = {1}
remote_display_port_min = {2}
remote_display_port_max = {3}
"""

DMIDECODE = Path(__file__).parent / "bin" / "dmidecode"


class Libvirtd:
    """A running libvirtd.

    `uri` is how to connect to it, `home` the directory with all that it has, `ksm` its copy of the kernel's directory
    of that name (None if there is none), `has_firmware` whether it sees the firmware that ``bin/dmidecode`` describes.
    Its messages are in `language`, where libvirt is translated to that. With `users`, passwords by names, it wants its
    clients to authenticate (SASL); `credentials` writes what they need.
    """

    def __init__(self, language: str = "", users: Mapping[str, str] | None = None) -> None:
        self._language = language
        self._users = users or {}
        self.home = Path(tempfile.mkdtemp(prefix="d"))  # short: a socket's path has 107 bytes at most
        for name in DIRECTORIES:
            (self.home / name).mkdir()
        self.ksm: Path | None = None
        self.has_firmware = False
        self.is_system = os.geteuid() == 0
        self._ports = Ports()
        self._env = self._sasl() if self._users else {}
        self._client = {**os.environ}
        if self._users:
            self._client["LIBVIRT_AUTH_FILE"] = self.credentials(*next(iter(self._users.items())))
        self.process = self._start_system() if self.is_system else self._start_session()
        self._wait_until_it_answers()

    def credentials(self, name: str | None = None, password: str | None = None) -> str:
        """The path of a new auth.conf, for LIBVIRT_AUTH_FILE, with this name and password as far as they are given."""
        lines = [f"{key}={value}" for key, value in (("authname", name), ("password", password)) if value is not None]
        handle, path = tempfile.mkstemp(prefix="auth-", dir=self.home)
        with open(handle, "w") as file:
            file.write(AUTH_CONF.format(credentials="\n".join(lines)))
        return path

    def stop(self) -> None:
        """End the daemon and its guests, and wait until the last of them is gone."""
        if self.is_system and self.process.poll() is None:
            # the namespace's first process: when it dies all others do, and unshare ends after the last
            for child in _children(self.process.pid):
                os.kill(child, signal.SIGKILL)
        else:
            self.process.terminate()
        self.process.wait(60)
        self._ports.close()
        rmtree(self.home, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The daemon's process, as this machine numbers it (system daemons only)."""
        (shell,) = _children(self.process.pid)
        return next(child for child in _children(shell) if _program(child) == "libvirtd")

    def qemu(self, name: str) -> list[int]:
        """The QEMU processes of its guest `name`; other libvirtds may have guests of that name."""
        found, word = [], f"guest={name},debug-threads=on".encode()
        ours = os.readlink(f"/proc/{self.pid if self.is_system else 'self'}/ns/mnt")
        for process in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if word in words and os.readlink(f"/proc/{process}/ns/mnt") == ours:
                    found.append(int(process))
        return found

    def kill(self) -> None:
        """Kill the daemon, and wait for its end; it starts again at once, unless it is to be `down`."""
        process = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            poll = select.poll()
            poll.register(process, select.POLLIN)
            poll.poll()  # a daemon that is being killed may answer once more
        finally:
            os.close(process)

    def down(self) -> None:
        """Kill the daemon and keep it from starting again until it is `up`."""
        (self.home / "down").touch()
        self.kill()

    def up(self) -> None:
        """Let the daemon start again, and wait until it answers."""
        (self.home / "down").unlink(missing_ok=True)
        self._wait_until_it_answers()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have the daemon not answer for the duration of a block."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self.go_on()

    def go_on(self) -> None:
        """Have the daemon answer again."""
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        files = [self.home / "out", self.home / "log" / "libvirtd.log"]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def _start_system(self) -> subprocess.Popen[bytes]:
        self._configure(self.home / "etc", "/var/log/libvirt")
        (self.home / "etc" / "qemu.conf").write_text(QEMU_CONF + self._ports_conf())
        ksm = Path("/sys/kernel/mm/ksm")
        mounts = {str(self.home / name): where for name, where in DIRECTORIES.items()}
        if ksm.exists():  # tuning it would tune this machine, so the daemon gets a copy
            self.ksm = self.home / "ksm"
            self.ksm.mkdir()
            for file in ksm.iterdir():
                (self.ksm / file.name).write_text(file.read_text())
            mounts[str(self.ksm)] = str(ksm)
        script = ["set -e", "mount -t tmpfs tmpfs /run", "mkdir /run/lock"]  # consoles are locked there
        for source, where in mounts.items():
            script += [f"mkdir -p {where}", f"mount --bind {source} {where}"]
        if dmidecode := which("dmidecode", path="/usr/sbin:/sbin"):
            script.append(f"mount --bind {DMIDECODE} {dmidecode}")
            self.has_firmware = True
        # the shell stays as the namespace's first process: somebody has to reap the guests that daemonize
        daemon = f"libvirtd --pid-file {self.home}/pid"
        script += [
            f"while [ ! -e {self.home}/down ] || sleep 0.05; do [ -e {self.home}/down ] || {daemon} || true; done"
        ]
        self.uri = f"qemu:///system?socket={self.home}/run/libvirt-sock"
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
        return self._start([*namespaces, "sh", "-c", "\n".join(script)], {})

    def _ports_conf(self) -> str:
        first, after = self._ports.first, self._ports.first + self._ports.COUNT
        middle = (first + after) // 2
        return PORTS_CONF.format(first, middle - 1, middle, after - 1)

    def _start_session(self) -> subprocess.Popen[bytes]:
        home = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run")}
        home |= {f"XDG_{name}_HOME": str(self.home) for name in ("CONFIG", "CACHE", "DATA", "STATE")}
        (self.home / "libvirt").mkdir()
        (self.home / "libvirt" / "qemu.conf").write_text(self._ports_conf())
        self.uri = f"qemu:///session?socket={self.home}/run/libvirt/libvirt-sock"
        if self._users:
            self._configure(self.home / "libvirt", str(self.home / "log"))
        return self._start(["libvirtd", "--pid-file", f"{self.home}/pid"], home)

    def _configure(self, directory: Path, log: str) -> None:
        auth = "sasl" if self._users else "none"
        (directory / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(log=log, auth=auth))

    def _sasl(self) -> dict[str, str]:
        """The environment of a daemon that knows `users`."""
        database = self.home / "passwd.db"
        for name, password in self._users.items():
            words = ["saslpasswd2", "-a", "libvirt", "-f", str(database), "-c", "-p", name]
            subprocess.run(words, input=password.encode(), env={**os.environ, "PATH": _path()}, check=True)
        configuration = self.home / "sasl"
        configuration.mkdir()
        (configuration / "libvirt.conf").write_text(SASL_CONF.format(database=database))
        return {"SASL_CONF_PATH": str(configuration)}

    def _start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.home / "out").open("wb") as out:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env={
                    **os.environ,
                    "PATH": _path(),
                    "LC_ALL": "C.UTF-8",
                    "LANGUAGE": self._language,
                    **self._env,
                    **env,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 60
        words = ["virsh", "-c", self.uri, "uri"]
        while subprocess.run(
            words, env=self._client, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.log()
                self.stop()
                raise RuntimeError(f"libvirtd did not start:\n{said}")
            time.sleep(0.1)


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def missing() -> list[str]:
    """The programs without which there is no libvirtd to test with."""
    needed = ("libvirtd", "virsh", "qemu-system-x86_64", "setpriv", "saslpasswd2")
    return [name for name in needed if not which(name, path=_path())]
