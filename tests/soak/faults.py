"""The faults that the soak test injects: each is a function of what it may break."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from libvirtd import Libvirtd
from proxy import Proxy
from sshd import Sshd


@dataclass
class Targets:
    """What may be broken: the daemons, the proxy before sshd, and the workers' processes.

    `uri` is the one of the workers: only a virsh that was started with it is one of theirs. Of the workers,
    `interruptible` ones get SIGINT, and `limited` ones limits on files and memory.
    """

    chance: random.Random
    daemon: Libvirtd
    sshd: Sshd
    proxy: Proxy
    uri: str
    workers: Sequence[subprocess.Popen[str]]
    interruptible: Sequence[subprocess.Popen[str]]
    limited: Sequence[subprocess.Popen[str]]

    def virsh_processes(self) -> list[int]:
        return [pid for pid, words in _commands() if b"virsh" in words[0] and f"--connect={self.uri}".encode() in words]

    def ssh_processes(self) -> list[int]:
        workers = {worker.pid for worker in self.workers}
        return [pid for pid, words in _commands() if words[0].endswith(b"ssh") and _parent(pid) in workers]


def kill_virsh(targets: Targets) -> None:
    _signal_one(targets, targets.virsh_processes(), signal.SIGKILL)


def kill_every_virsh(targets: Targets) -> None:
    for pid in targets.virsh_processes():
        _signal(pid, signal.SIGKILL)


def stop_virsh(targets: Targets) -> None:
    _stop_one(targets, targets.virsh_processes())


def kill_libvirtd(targets: Targets) -> None:
    with suppress(OSError, StopIteration, ValueError):  # it was about to start again
        targets.daemon.kill()


def stop_libvirtd(targets: Targets) -> None:
    with suppress(OSError, StopIteration, ValueError), targets.daemon.stopped():
        time.sleep(targets.chance.uniform(0.1, 6))


def keep_libvirtd_down(targets: Targets) -> None:
    with suppress(OSError, StopIteration, ValueError):
        targets.daemon.down()
        time.sleep(targets.chance.uniform(0.1, 3))
    targets.daemon.up()


def kill_ssh(targets: Targets) -> None:
    _signal_one(targets, targets.ssh_processes(), signal.SIGKILL)


def stop_ssh(targets: Targets) -> None:
    _stop_one(targets, targets.ssh_processes())


def kill_sshd_connection(targets: Targets) -> None:
    _signal_one(targets, targets.sshd.sessions(), signal.SIGKILL)


def restart_sshd(targets: Targets) -> None:
    targets.sshd.stop()
    time.sleep(targets.chance.uniform(0, 2))
    targets.sshd.start()


def reset_connections(targets: Targets) -> None:
    targets.proxy.forget()


def silence_network(targets: Targets) -> None:
    targets.proxy.silent = True
    time.sleep(targets.chance.uniform(0.1, 8))
    targets.proxy.silent = False


def interrupt(targets: Targets) -> None:
    for worker in targets.interruptible:
        _signal(worker.pid, signal.SIGINT)


def limit_files(targets: Targets) -> None:
    for worker in targets.limited:
        with suppress(OSError):
            open_files = len(os.listdir(f"/proc/{worker.pid}/fd"))
            _limit(worker.pid, resource.RLIMIT_NOFILE, open_files + targets.chance.randint(0, 6), targets)


def limit_memory(targets: Targets) -> None:
    for worker in targets.limited:
        with suppress(OSError):
            pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[0])
            _limit(worker.pid, resource.RLIMIT_AS, pages * 4096 + targets.chance.randint(0, 1 << 22), targets)


FAULTS: tuple[Callable[[Targets], None], ...] = (
    kill_virsh,
    kill_every_virsh,
    stop_virsh,
    kill_libvirtd,
    stop_libvirtd,
    keep_libvirtd_down,
    kill_ssh,
    stop_ssh,
    kill_sshd_connection,
    restart_sshd,
    reset_connections,
    silence_network,
    interrupt,
    interrupt,
    limit_files,
    limit_memory,
)


def _limit(pid: int, kind: int, soft: int, targets: Targets) -> None:
    before, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, hard))
    time.sleep(targets.chance.uniform(0.1, 1))
    resource.prlimit(pid, kind, (before, hard))


def _signal_one(targets: Targets, pids: Sequence[int], number: int) -> None:
    if pids:
        _signal(targets.chance.choice(pids), number)


def _stop_one(targets: Targets, pids: Sequence[int]) -> None:
    if pids:
        pid = targets.chance.choice(pids)
        _signal(pid, signal.SIGSTOP)
        time.sleep(targets.chance.uniform(0.1, 15))
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _commands() -> Iterator[tuple[int, list[bytes]]]:
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            if words[0]:
                yield int(process), words


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
