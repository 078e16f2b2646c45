"""Run the soak test: `python -m soak --minutes 60`. It fails if anything was wrong, or too little checked."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kvm
import unix
from libvirtd import Libvirtd
from proxy import Proxy
from soak.faults import FAULTS, Targets
from soak.ledger import Ledger
from sshd import Sshd

GUESTS = 30
PAUSE_S = (0.2, 3.0)
"""Between two faults: long enough that most work is done while nothing breaks."""

END_TIMEOUT_S = 300.0

KINDS = (
    {"name": "local", "remote": False, "forks": False},
    {"name": "remote", "remote": True, "forks": False},
    {"name": "forks", "remote": False, "forks": True},
    {"name": "limits", "remote": False, "forks": False},
)
"""The workers. `local` and `remote` are interrupted as well; `limits` is the one that runs out of files and memory."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description="Check values and outcomes under random faults.")
    parser.add_argument("--minutes", type=float, default=60, help="how long to go on (default: 60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which faults, in which order")
    parser.add_argument("--values", type=int, default=80, help="values that must be checked a second (default: 80)")
    arguments = parser.parse_args()
    print(f"soak: {arguments.minutes:g} minutes, seed {arguments.seed}", flush=True)
    ledger = Ledger()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory, _daemons() as (daemon, sshd, proxy):
        described = _describe(daemon)
        workers = [
            _Worker({**described, **kind, "seed": arguments.seed, "directory": directory}, sshd, proxy)
            for kind in KINDS
        ]
        processes = {worker.name: worker.process for worker in workers}
        targets = Targets(
            random.Random(arguments.seed),
            daemon,
            sshd,
            proxy,
            described["uri"],
            workers=list(processes.values()),
            interruptible=[processes["local"], processes["remote"]],
            limited=[processes["limits"]],
        )
        end = time.monotonic() + arguments.minutes * 60
        interrupted = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: interrupted.set())  # ends it early, with the figures so far
        while time.monotonic() < end and all(worker.process.poll() is None for worker in workers):
            if interrupted.wait(targets.chance.uniform(*PAUSE_S)):
                break
            fault = targets.chance.choice(FAULTS)
            print(f"{time.strftime('%H:%M:%S')} {fault.__name__}", flush=True)
            fault(targets)
            ledger.faults[fault.__name__] += 1
        for worker in workers:
            worker.end(ledger)
        if virsh_left := targets.virsh_processes():
            ledger.defects.append(f"{len(virsh_left)} virsh processes are left")
        if files_left := [name for name in os.listdir(directory) if not name.startswith("python-unix-")]:
            ledger.defects.append(f"files are left: {files_left}")
    seconds = time.monotonic() - begun
    print(ledger.report(seconds))
    if ledger.values < arguments.values * min(seconds, arguments.minutes * 60):
        print(f"too few values: expected {arguments.values} a second", file=sys.stderr)
        return 1
    return 1 if ledger.defects else 0


class _Worker:
    """A worker's process, and the thread that reads what it prints."""

    def __init__(self, settings: dict[str, Any], sshd: Sshd, proxy: Proxy) -> None:
        self.name: str = settings["name"]
        index = [kind["name"] for kind in KINDS].index(self.name)
        guest = f"guest{index}"
        settings |= {"guest": guest, "uuid": settings["names"][guest], "timeout": 20}
        settings["remote"] = _destination(sshd, proxy) if settings["remote"] else None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "soak.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": settings["directory"]},
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._ready = threading.Event()
        self._reader.start()
        if not self._ready.wait(60) or self.process.poll() is not None:
            raise RuntimeError(f"worker {self.name} did not start")

    def end(self, ledger: Ledger) -> None:
        """Have the worker end, and add its figures to `ledger`."""
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin
            self.process.stdin.close()
        try:
            self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            self.process.kill()
            ledger.defects.append(f"worker {self.name} did not end within {END_TIMEOUT_S:g} s")
            return
        self._reader.join(10)
        if self.process.returncode:
            ledger.defects.append(f"worker {self.name} ended with {self.process.returncode}")
        else:
            ledger.add(json.loads(self._lines[-1]))

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines = [line]
            self._ready.set()
        self._ready.set()


def _describe(daemon: Libvirtd) -> dict[str, Any]:
    """Define guests and a pool; return what the workers know of them."""
    pool = daemon.home / "soak"
    pool.mkdir()
    names = {}
    with kvm.Hypervisor(unix.Local(timeout=60), daemon.uri) as hypervisor:
        for number in range(GUESTS):
            _define(hypervisor, f"guest{number}")
            names[f"guest{number}"] = hypervisor.domain.uuid(f"guest{number}")
        for kind in KINDS:
            _define(hypervisor, f"{kind['name']}-saved")
        hypervisor.pool.define_as("soak", "dir", target=str(pool))
        hypervisor.pool.start("soak")
        hypervisor.pool.autostart("soak")
    return {
        "uri": daemon.uri,
        "truth_uri": daemon.uri.replace("qemu:", "qemu+unix:"),
        "names": names,
        "cpus": os.cpu_count(),
    }


def _define(hypervisor: kvm.Hypervisor, name: str) -> None:
    hypervisor.domain.define({"@type": "qemu", "name": name, "memory": 32768, "os": {"type": "hvm"}})


def _destination(sshd: Sshd, proxy: Proxy) -> dict[str, Any]:
    names = {"HostKeyAlias": f"[127.0.0.1]:{sshd.port}"}
    arguments = sshd.arguments(port=proxy.port, options=names, keepalive=1, timeout=10)
    return {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}


@contextlib.contextmanager
def _daemons() -> Iterator[tuple[Libvirtd, Sshd, Proxy]]:
    with contextlib.ExitStack() as running:
        daemon = Libvirtd()
        running.callback(daemon.stop)
        sshd = Sshd("MaxStartups 1000")
        running.callback(sshd.remove)
        proxy = Proxy(sshd.port)
        running.callback(proxy.close)
        yield daemon, sshd, proxy


if __name__ == "__main__":
    sys.exit(main())
