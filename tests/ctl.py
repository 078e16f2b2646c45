"""kvmctl as its users have it: a process, in a terminal and in pipes, and hosts for it that ssh knows by name."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sshd import Sshd

ROOT = Path(__file__).parents[1]
TEST = "test:///default"
COMMAND = [sys.executable, "-m", "kvm.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


Done = subprocess.CompletedProcess[str]


def kvmctl(*words: str, input: str | bytes = b"", env: dict[str, str] | None = None) -> Done:
    data = input.encode() if isinstance(input, str) else input
    done = subprocess.run(
        [*COMMAND, *words], input=data, capture_output=True, check=False, env={**ENVIRONMENT, **(env or {})}, timeout=60
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode()
    )


def value(*words: str, input: str | bytes = b"") -> Any:
    """What kvmctl says as JSON."""
    done = kvmctl(*words, "-o", "json", input=input)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_terminal(
    *words: str,
    columns: int = 80,
    env: dict[str, str] | None = None,
    typed: Sequence[bytes] = (),
    until: bytes | None = None,
) -> tuple[int, str]:
    """The exit status and all that is seen in a terminal of so many columns, with Ctrl-C once it shows `until`."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            hear_ctrl_c()
            os.execve(sys.executable, [*COMMAND, *words], {**ENVIRONMENT, "TERM": "xterm", **(env or {})})
        finally:
            os._exit(127)
    seen = b""
    for line in typed:
        asked = b""
        while not asked.endswith((b"] ", b": ")):
            asked += os.read(terminal, 4096)
        os.write(terminal, line)
        seen += asked
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 4096):
            seen += data
            if until and until in seen:
                os.write(terminal, b"\x03")
                until = None
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen.decode().replace("\r\n", "\n")


def ssh_config(sshd: Sshd, directory: Path) -> Path:
    """A configuration in which ssh knows the tests' host by two names, and a third that nobody answers at."""
    config = directory / "config"
    same = f"UserKnownHostsFile {sshd.known_hosts}\n  IdentityFile {sshd.key}\n  HostKeyAlias [127.0.0.1]:{sshd.port}"
    near = f"HostName 127.0.0.1\n  Port {sshd.port}\n  {same}"
    config.write_text(f"Host near also\n  {near}\nHost gone\n  HostName 127.0.0.1\n  Port 1\n  {same}\n")
    return config


def hear_ctrl_c() -> None:
    """What a shell starts in the background, as it may have started these tests, does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
