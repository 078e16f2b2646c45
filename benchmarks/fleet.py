"""How long it takes to ask 200 hosts, beside one after another and beside ssh and virsh started by a shell.

    python benchmarks/fleet.py [HOSTS]

The hosts are this machine: one sshd at several addresses, and for each host a connection and a test hypervisor of its
own. So both ends of all connections share this machine's cores, which is what most of the time is for.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

GUESTS = 10

SAMPLE = 10
"""How many hosts the loop asks; it takes the same time for each."""

import kvm
from hosts import Hosts


def main(count: int = 200) -> None:
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {count} hosts with {GUESTS} guests each\n")
    print("| what | seconds | hosts a second |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        hosts = Hosts(Path(directory), count)
        for name in hosts.names:
            hosts.describe(name, "everywhere", *(f"{name}-{number}" for number in range(1, GUESTS)))
        try:
            compare(hosts, count)
        finally:
            hosts.sshd.remove()


def compare(hosts: Hosts, count: int) -> None:
    before = resident()
    with hosts.fleet() as fleet:
        first_time = row("inventory: node, guests, configurations; connecting", count, lambda: fleet.map(inventory))
        again = row("the same again", count, lambda: fleet.map(inventory))
        print(f"| memory in our process for each host, connected | {(resident() - before) / count / 1e6:.2f} MB | |")
        few = min(count, SAMPLE)
        what = f"inventory of {few} of them by a loop of `ssh HOST virsh ...`"
        looped = row(what, few, lambda: inventory_by_loop(hosts, few)) / few * count
        print(f"| the loop takes so many times as long for each host; connecting | {looped / first_time:.1f} | |")
        print(f"| the same, connected | {looped / again:.1f} | |", flush=True)
    with hosts.fleet() as fleet:
        row("`fleet.domain.list(all=True)`, connecting", count, lambda: fleet.domain.list(all=True))
        row("the same again", count, lambda: fleet.domain.list(all=True))
        row("the same, one host after another", count, lambda: [each.domain.list(all=True) for each in fleet.values()])
        row("`fleet.find(name)`", count, lambda: fleet.find("everywhere"))
        row("`fleet.capacity(over=0)`", count, lambda: fleet.capacity(over=0))
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,  # takes connections and says nothing
            hosts.others(silent=silent.getsockname()[1]) as others,
        ):
            both = kvm.Fleet({**others, **fleet}, timeout=5)
            row("the answers of all but one that is silent", count, lambda: first(both, count))
        row("`fleet.close()`", count, fleet.close)
    row("`xargs -P 32 ssh HOST virsh list --all`", count, lambda: by_shell(hosts))


def inventory(hypervisor: kvm.Hypervisor) -> object:
    """What a host is, its guests, and their configurations: in two round trips."""
    with hypervisor.pipeline() as pipe:
        pipe.generic.nodeinfo()
        pipe.domain.list(all=True)
        node, guests = pipe.execute()
    with hypervisor.pipeline() as pipe:
        for name in guests:
            pipe.domain.conf(name)
        return node, guests, pipe.execute()


def inventory_by_loop(hosts: Hosts, count: int) -> None:
    """The same as text of the first hosts, with a connection and a virsh for each question."""
    ssh = ssh_of(hosts)
    for name, address in zip(hosts.names[:count], hosts.addresses[:count], strict=True):
        virsh = [*ssh, address, "virsh", "-c", hosts.uri(name)]
        printed(*virsh, "nodeinfo")
        for guest in (line.split()[1] for line in printed(*virsh, "list", "--all").splitlines()[2:] if line):
            printed(*virsh, "dumpxml", guest)


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def first(fleet: kvm.Fleet, count: int) -> None:
    answers = fleet.imap(lambda hypervisor: hypervisor.domain.list(all=True))
    for _ in range(count):
        next(answers)


def by_shell(hosts: Hosts) -> None:
    """A process, a connection and a virsh for each, and tables as text."""
    ssh = shlex.join(ssh_of(hosts))
    script = f'{ssh} "${{0%% *}}" virsh -c "${{0##* }}" list --all > /dev/null'
    lines = [f"{address} {hosts.uri(name)}" for name, address in zip(hosts.names, hosts.addresses, strict=True)]
    command = ["xargs", "-d", "\\n", "-P", "32", "-n", "1", "sh", "-c", script]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)


def ssh_of(hosts: Hosts) -> list[str]:
    sshd = hosts.sshd
    options = f"-F none -p {sshd.port} -i {sshd.key} -o UserKnownHostsFile={sshd.known_hosts} -o BatchMode=yes"
    return ["ssh", *options.split(), "-o", f"HostKeyAlias=[127.0.0.1]:{sshd.port}"]


def row(what: str, count: int, function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    took = time.perf_counter() - start
    print(f"| {what} | {took:.2f} | {count / took:.1f} |", flush=True)
    return took


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
