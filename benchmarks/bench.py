"""Speed and memory beside libvirt-python, kvm 1.1.1 (a process for each command), and virsh, ssh and scp themselves.

On a real libvirtd of the benchmark's own with 200 defined guests, here and behind a real sshd, whose answers a proxy
delays to a round trip of 20 ms. Each comparison runs both sides in turn, many times,
in one run; the figures are medians, and the ratio is the median of the ratios pair by pair. `make bench` sets up what
it needs and prints the table that is in benchmarks/README.md.
"""

from __future__ import annotations

import compileall
import fcntl
import os
import pty
import resource
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import libvirt
import xmltodict

import kvm
import unix
from kvm import xmlplain
from kvm.virsh.environment import EVERY_VIRSH as VIRSH
from kvm.virsh.prompt import ENVIRONMENT as PROMPT
from libvirtd import Libvirtd
from sshd import Sshd
from test_networks import Apart

GUESTS = 200
DELAY = 0.01
"""Seconds that the proxy takes in each direction."""

OLD_PYTHON = ROOT / ".venv-kvm1" / "bin" / "python"
OLD = """
import sys, time, unix, kvm
hv = kvm.Hypervisor(unix.Local(), sys.argv[1])
for _ in range(20):
    start = time.perf_counter()
    hv.hypervisor.nodeinfo()
    print(time.perf_counter() - start)
"""


def main() -> None:
    print(
        f"Python {sys.version.split()[0]}, virsh {run('virsh', '--version')}, {os.cpu_count()} cores, {GUESTS} guests"
    )
    print()
    print("| what | ours | peer | ratio | target |")
    print("| --- | --- | --- | --- | --- |")
    daemon, sshd = Libvirtd(), Sshd()
    try:
        names = compare_here(daemon.uri)
        compare_xml(daemon.uri)
        compare_over_ssh(daemon.uri, sshd, names)
        compare_streams(daemon.uri, sshd)
        compare_events(daemon.uri)
    finally:
        sshd.remove()
        daemon.stop()
    watch_guests()


def compare_here(uri: str) -> list[str]:
    connection = libvirt.open(uri)
    with kvm.Hypervisor(unix.Local(), uri) as hypervisor:
        names = define_guests(hypervisor)
        domain = hypervisor.domain

        row("`nodeinfo` / `getInfo()`", hypervisor.generic.nodeinfo, connection.getInfo, 500, "<= 2.0")
        old_nodeinfo(uri, hypervisor)
        row("`domain.info` / its ten calls", lambda: domain.info(names[0]),
            lambda: ten_calls(connection, names[0]), 300, "<= 1.7")  # fmt: skip
        row("`list_domains(all=True)` / `listAllDomains()`", lambda: hypervisor.list_domains(all=True),
            lambda: name_id_state(connection), 30, "<= 1.3")  # fmt: skip
        row("200 configurations / `XMLDesc()` and xmltodict", lambda: conf_of_all(hypervisor, names),
            lambda: [xmltodict.parse(d.XMLDesc()) for d in connection.listAllDomains()], 15, "< 1.0")  # fmt: skip
        row("`domain.stats()` / `getAllDomainStats()`", domain.stats, connection.getAllDomainStats, 15, "<= 1.3")
        floors(uri, connection, names)
        row("first call / a bare `virsh nodeinfo`", lambda: first_call(uri),
            lambda: run("virsh", "-c", uri, "nodeinfo"), 30, "<= 1.2")  # fmt: skip
        row("`import kvm` / `import lxml.etree`", lambda: run(sys.executable, "-c", "import kvm"),
            lambda: run(sys.executable, "-c", "import lxml.etree"), 30, "<= 1.3")  # fmt: skip
        growth(hypervisor)
    compare_start(uri, "a real libvirtd")
    compare_start("test:///default", "`test:///default`")
    connection.close()
    return names


def compare_start(uri: str, where: str) -> None:
    """kvmctl as it is when it is installed: a program of its own, whose bytecode is there."""
    compileall.compile_dir(ROOT / "src", quiet=1)
    kvmctl = Path(sys.executable).with_name("kvmctl")
    row(f"`kvmctl list -o json` / `virsh list`, {where}", lambda: run(str(kvmctl), "-c", uri, "list", "-o", "json"),
        lambda: run("virsh", "-c", uri, "list"), 60, "<= 2.5")  # fmt: skip


def compare_xml(uri: str) -> None:
    """Twenty documents a turn, because one is read in microseconds: all read before, or as if none had been."""
    with kvm.Hypervisor(unix.Local(), uri) as hypervisor:
        guests = [hypervisor.virsh("dumpxml", f"guest{number:03}").stdout for number in range(20)]
        documents = {"a domain": guests, "capabilities": [hypervisor.virsh("capabilities").stdout] * 20}
    for name, texts in documents.items():
        ours, theirs = [kvm.from_xml(text).popitem() for text in texts], [xmltodict.parse(text) for text in texts]
        row(f"`from_xml` of {name}, read before / `xmltodict.parse`", each(kvm.from_xml, texts),
            each(xmltodict.parse, texts), 100, "<= 0.5")  # fmt: skip
        row(f"`from_xml` of {name}, the first / `xmltodict.parse`", each(from_xml_anew, texts),
            each(xmltodict.parse, texts), 50, "")  # fmt: skip
        row(f"`to_xml` of {name} / `xmltodict.unparse`", each(lambda value: kvm.to_xml(*value), ours),
            each(partial(xmltodict.unparse, pretty=True), theirs), 50, "<= 1.0")  # fmt: skip

    def from_nothing() -> None:
        forget_xml()
        each(kvm.from_xml, guests)()

    row(f"`from_xml` of {len(guests)} domains, none read before / `xmltodict.parse`", from_nothing,
        each(xmltodict.parse, guests), 100, "<= 0.5")  # fmt: skip
    large = f"<domains>{guests[0] * 1000}</domains>"
    ours, theirs = (int(run(sys.executable, "-c", PEAK.format(what), stdin=large)) / 1024
                    for what in ("kvm.from_xml", "xmltodict.parse"))  # fmt: skip
    print(f"| memory for 1,000 domains | {ours:.1f} MB | {theirs:.1f} MB | {ours / theirs:.2f} | <= 1.5 |")


PEAK = """
import sys, kvm, xmltodict
text = sys.stdin.read()
{0}("<a><b/></a>")

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

with open("/proc/self/clear_refs", "w") as references:
    references.write("5")  # forget the peak so far
before = peak()
value = {0}(text)
print(peak() - before)
"""


def each(function: Callable[[Any], object], values: Sequence[object]) -> Callable[[], object]:
    return lambda: [function(value) for value in values]


def from_xml_anew(text: str) -> object:
    """A document as a program reads its first one."""
    forget_xml()
    return kvm.from_xml(text)


def forget_xml() -> None:
    for memory in (xmlplain._pieces, xmlplain._prefixes, xmlplain._keys):
        memory.clear()


def compare_over_ssh(uri: str, sshd: Sshd, names: list[str]) -> None:
    """Behind a round trip of 20 ms, and without."""
    with delayed(sshd, DELAY) as port, sshd.connect(port=port, options=alias(sshd)) as host:
        round_trip = 2 * DELAY * 1e3
        with kvm.Hypervisor(host, uri) as hypervisor:
            connection = libvirt.open(uri_over_ssh(uri, sshd, port))
            nodeinfo = median(hypervisor.generic.nodeinfo, 100) * 1e3
            print(
                f"| 20 ms: `nodeinfo` / a round trip | {nodeinfo:.2f} ms | {round_trip:.2f} ms "
                f"| {nodeinfo / round_trip:.2f} | <= 1.15 |"
            )
            row("20 ms: 200 configurations / `XMLDesc()`", lambda: conf_of_all(hypervisor, names),
                lambda: [d.XMLDesc() for d in connection.listAllDomains()], 5, "<= 0.033")  # fmt: skip
            row("20 ms: `list_domains(all=True)` / the same", lambda: hypervisor.list_domains(all=True),
                lambda: name_id_state(connection), 5, "<= 0.017")  # fmt: skip
            connection.close()
    with sshd.connect() as host, kvm.Hypervisor(host, uri) as hypervisor, kvm.Hypervisor(unix.Local(), uri) as local:
        row("SSH: `nodeinfo` / the same here", hypervisor.generic.nodeinfo, local.generic.nodeinfo, 300, "<= 2.5")
        through = ["ssh", "-F", "none", "-S", host._connected()._socket, "there", "true"]
        row('SSH: `execute("true")` / `ssh -S`', lambda: host.execute("true"), lambda: run(*through), 50, "<= 2")
        alone = ["ssh", "-F", "none", *host._connected().destination.options_of_ssh(), "127.0.0.1"]
        data, file = os.urandom(1 << 20) * 200, f"{sshd.home}/file"
        row("SSH: `write` of 200 MB / `ssh HOST 'cat > FILE'`", lambda: host.write(file, data),
            lambda: subprocess.run([*alone, f"cat > {file}.2"], input=data, check=True), 5, "<= 1.25")  # fmt: skip
        row("SSH: `read` of 200 MB / `ssh HOST cat FILE`", lambda: host.read(file),
            lambda: subprocess.run([*alone, f"cat {file}"], capture_output=True, check=True), 5, "<= 1.25")  # fmt: skip


def compare_streams(uri: str, sshd: Sshd) -> None:
    """A volume of 1 GiB from a file and to a file, here and over SSH."""
    given, got, copy = (sshd.home / name for name in ("given", "got", "copy"))
    block = os.urandom(1 << 20)
    with given.open("wb") as file:
        file.writelines(block for _ in range(1024))
    (sshd.home / "images").mkdir()
    virsh = ["virsh", "-c", uri]
    scp = ["scp", "-q", "-F", "none", "-P", str(sshd.port), "-o", f"IdentityFile={sshd.key}",
           "-o", f"UserKnownHostsFile={sshd.known_hosts}"]  # fmt: skip
    there = f"127.0.0.1:{copy}"
    with kvm.Hypervisor(unix.Local(), uri) as local, sshd.connect() as host, kvm.Hypervisor(host, uri) as remote:
        local.pool.create_as("bench", "dir", target=str(sshd.home / "images"))
        local.volume.create_as("bench", "disk", 1 << 30)
        row("`upload` of 1 GiB / `virsh vol-upload`", lambda: local.volume.upload("disk", given, pool="bench"),
            lambda: run(*virsh, "vol-upload", "disk", str(given), "bench"), 5, "<= 1.11")  # fmt: skip
        row("`download` of 1 GiB / `virsh vol-download`", lambda: local.volume.download("disk", got, pool="bench"),
            lambda: run(*virsh, "vol-download", "disk", str(got), "bench"), 5, "<= 1.11", got)  # fmt: skip
        row("SSH: `upload` of 1 GiB / `scp`", lambda: remote.volume.upload("disk", given, pool="bench"),
            lambda: run(*scp, str(given), there), 5, "<= 1.25")  # fmt: skip
        row("SSH: `download` of 1 GiB / `scp`", lambda: remote.volume.download("disk", got, pool="bench"),
            lambda: run(*scp, there, str(got)), 5, "<= 1.25", got)  # fmt: skip
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = peak()
        remote.volume.upload("disk", given, pool="bench")
        remote.volume.download("disk", got, pool="bench")
        print(f"| SSH: growth while both go on | {(peak() - before) / 1e3:.1f} MB | | | < 32 MB |", flush=True)
        local.pool.destroy("bench")


def peak() -> int:
    """The most memory that we had, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


EVENTS = 40


def compare_events(uri: str) -> None:
    """From the time that QEMU gives an event to the iterator's next, and to the line on a terminal, in turn."""
    guest = {"@type": "qemu", "name": "noisy", "memory": 8192, "os": {"type": {"@arch": "x86_64", "#text": "hvm"}}}
    with kvm.Hypervisor(unix.Local(), uri) as hypervisor:
        hypervisor.domain.create(guest)
        pairs = []
        for _ in range(5):
            with hypervisor.domain.event("noisy", event="lifecycle") as events:
                ours = delays(hypervisor, lambda: next(events))
            with shown_events(uri) as line:
                pairs.append((ours, delays(hypervisor, line)))
        hypervisor.domain.destroy("noisy")
    mine, other = (statistics.median(times) for times in zip(*pairs, strict=True))
    show("an event / `virsh event` on a terminal", mine, other, statistics.median(a / b for a, b in pairs), "<= 2")


def delays(hypervisor: kvm.Hypervisor, take: Callable[[], object]) -> float:
    """How long it takes, in the median, until an event is taken."""
    seen = []

    def follow() -> None:
        for _ in range(EVENTS):
            take()
            seen.append(time.time())

    thread = threading.Thread(target=follow)
    thread.start()
    with hypervisor.domain.qemu_monitor_event("noisy") as events:
        for number in range(EVENTS):
            call = hypervisor.domain.resume if number % 2 else hypervisor.domain.suspend
            call("noisy")
            time.sleep(0.02)
        thread.join()
        happened = [next(events).time.timestamp() for _ in range(EVENTS)]
    return statistics.median(late - at for late, at in zip(seen, happened, strict=True))


@contextmanager
def shown_events(uri: str) -> Iterator[Callable[[], object]]:
    """What takes the next line that virsh shows on a terminal."""
    ours, theirs = os.openpty()
    words = ["virsh", "-c", uri, "event", "--domain", "noisy", "--event", "lifecycle", "--loop"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as virsh:
        os.close(theirs)
        time.sleep(1)  # it does not say when it listens
        with open(ours, "rb") as terminal:
            yield terminal.readline
            virsh.terminate()


@contextmanager
def delayed(sshd: Sshd, delay: float) -> Iterator[int]:
    """The port of a proxy, a program of its own, that delays all that goes to the sshd and comes from it."""
    program = [sys.executable, str(ROOT / "tests" / "proxy.py"), str(sshd.port), str(delay)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin
        assert proxy.stdout
        yield int(proxy.stdout.readline())
        proxy.stdin.close()


def alias(sshd: Sshd) -> dict[str, str]:
    """The proxy has the key of the sshd behind it."""
    return {"HostKeyAlias": f"[127.0.0.1]:{sshd.port}"}


def uri_over_ssh(uri: str, sshd: Sshd, port: int) -> str:
    """What libvirt's own client connects to over the same SSH."""
    lines = [f"IdentityFile {sshd.key}", "IdentitiesOnly yes", f"UserKnownHostsFile {sshd.known_hosts}"]
    lines += [f"{name} {value}" for name, value in alias(sshd).items()]
    (sshd.home / "ssh_config").write_text("\n".join(lines))
    program = sshd.home / "ssh"
    program.write_text(f'#!/bin/sh\nexec ssh -F {sshd.home}/ssh_config "$@"\n')
    program.chmod(0o755)
    return f"qemu+ssh://127.0.0.1:{port}/system?socket={uri.partition('socket=')[2]}&command={program}"


def conf_of_all(hypervisor: kvm.Hypervisor, names: list[str]) -> list[object]:
    with hypervisor.pipeline() as pipe:
        for name in names:
            pipe.domain.conf(name)
        return pipe.execute()


def floors(uri: str, connection: libvirt.virConnect, names: list[str]) -> None:
    """What one virsh's prompt takes for the same, with nothing around it: no faster is possible through one."""
    env = {**os.environ, **PROMPT, **VIRSH, "LC_ALL": "C.UTF-8"}
    pipe = subprocess.PIPE
    with subprocess.Popen(["virsh", "-c", uri], stdin=pipe, stdout=pipe, stderr=pipe, env=env) as virsh:
        assert virsh.stdin
        assert virsh.stdout
        assert virsh.stderr
        write, out, read = virsh.stdin.fileno(), virsh.stdout.fileno(), virsh.stderr.fileno()
        fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 1 << 20)

        def prompt(*lines: str) -> None:
            os.write(write, "".join(f"{line}\n" for line in (*lines, "m\\1")).encode())
            said = b""
            while b"'m1'" not in said:
                said += os.read(read, 4096)
            os.read(out, 1 << 20)

        row("floor: `nodeinfo`", lambda: prompt("nodeinfo"), connection.getInfo, 500, "")
        row("floor: `dominfo`", lambda: prompt(f"dominfo {names[0]}"),
            lambda: ten_calls(connection, names[0]), 300, "")  # fmt: skip
        row("floor: 200 `dumpxml`", lambda: prompt(*(f"dumpxml {name}" for name in names)),
            lambda: [xmltodict.parse(d.XMLDesc()) for d in connection.listAllDomains()], 15, "")  # fmt: skip
        row("floor: `domstats`", lambda: prompt("domstats"), connection.getAllDomainStats, 15, "")
        virsh.stdin.close()


def define_guests(hypervisor: kvm.Hypervisor) -> list[str]:
    names = [f"guest{number:03}" for number in range(GUESTS)]
    for number, name in enumerate(names):
        disk = {"@type": "file", "@device": "disk", "source": {"@file": f"/nowhere/{name}.qcow2"},
                "driver": {"@name": "qemu", "@type": "qcow2"}, "target": {"@dev": "vda", "@bus": "virtio"}}  # fmt: skip
        interface = {"@type": "user", "mac": {"@address": f"52:54:00:00:00:{number:02x}"}, "model": {"@type": "virtio"}}
        hypervisor.domain.define({
            "@type": "qemu", "name": name, "memory": kvm.Quantity("64 MiB"), "vcpu": 1,
            "os": {"type": {"@arch": "x86_64", "@machine": "q35", "#text": "hvm"}}, "features": {"acpi": True},
            "devices": {"disk": disk, "interface": interface, "console": {"@type": "pty"}},
        })  # fmt: skip
    return names


IDLE = b"\xfb\xf4\xeb\xfc".ljust(510, b"\0") + b"\x55\xaa"
"""A disk that a machine boots from and waits: sti, hlt, and again."""


def watch_guests(seconds: float = 60) -> None:
    """What `kvmctl top` takes of a core for 200 active guests, on a terminal, and the virsh that it asks."""
    daemon = Apart()
    try:
        (daemon.home / "disk").write_bytes(IDLE * 64)
        disk = {"@type": "file", "@device": "disk", "source": {"@file": f"{daemon.home}/disk"}, "readonly": True,
                "driver": {"@name": "qemu", "@type": "raw"}, "target": {"@dev": "vda", "@bus": "virtio"}}  # fmt: skip
        with kvm.Hypervisor(unix.Local(), daemon.uri) as hypervisor:
            for number in range(GUESTS):  # most of them are paused: two cores are not enough for so many
                hypervisor.domain.create({
                    "@type": "qemu", "name": f"guest{number:03}", "memory": kvm.Quantity("16 MiB"), "vcpu": 1,
                    "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
                    "devices": {"disk": disk, "interface": {"@type": "ethernet", "model": {"@type": "virtio"}}},
                }, paused=number >= 20)  # fmt: skip
        looks, ours, virsh = top_for(daemon.uri, seconds)
        print(
            f"| `kvmctl top`, {GUESTS} guests, a look a second: share of a core / its virsh's "
            f"| {ours / looks:.1%} | {virsh / looks:.1%} | ({looks / seconds:.2f} looks a second) | <= 3 % |"
        )
    finally:
        daemon.stop()


def top_for(uri: str, seconds: float) -> tuple[int, float, float]:
    """How many samples `kvmctl top` has shown in so many seconds, and the seconds of CPU that it and its virsh took."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 140, 0, 0))
        kvmctl = [sys.executable, "-m", "kvm.cli", "-c", uri, "top"]
        os.execve(sys.executable, kvmctl, {**os.environ, "TERM": "xterm-256color"})
    drawn: list[float] = []

    def read() -> None:
        last = 0.0
        with suppress(OSError):
            while os.read(terminal, 1 << 16):
                now = time.monotonic()
                if now - last > 0.1:  # what is drawn comes in one piece
                    drawn.append(now)
                last = now

    threading.Thread(target=read, daemon=True).start()
    time.sleep(10)
    (virsh,) = (int(child) for task in os.listdir(f"/proc/{pid}/task")
                for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split())  # fmt: skip
    before, looks = (cpu_of(pid), cpu_of(virsh)), len(drawn)
    time.sleep(seconds)
    ours, its = cpu_of(pid) - before[0], cpu_of(virsh) - before[1]
    looks = len(drawn) - looks
    os.write(terminal, b"q")
    os.waitpid(pid, 0)
    return looks, ours, its


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def name_id_state(connection: libvirt.virConnect) -> list[tuple[object, ...]]:
    return [(domain.name(), domain.ID(), domain.state()) for domain in connection.listAllDomains()]


def ten_calls(connection: libvirt.virConnect, name: str) -> tuple[object, ...]:
    """What `virsh dominfo` asks of libvirt."""
    domain = connection.lookupByName(name)
    return (
        domain.ID(), domain.name(), domain.UUIDString(), domain.OSType(), domain.info(), domain.isPersistent(),
        domain.autostart(), domain.hasManagedSaveImage(), connection.getSecurityModel(), domain.messages(0),
    )  # fmt: skip


def first_call(uri: str) -> None:
    with kvm.Hypervisor(unix.Local(), uri) as hypervisor:
        hypervisor.generic.nodeinfo()


def old_nodeinfo(uri: str, hypervisor: kvm.Hypervisor) -> None:
    """kvm 1.1.1 has the same import name, so it runs in a program of its own."""
    old = [float(line) for line in run(str(OLD_PYTHON), "-c", OLD, uri).split()]
    ours = [timed(hypervisor.generic.nodeinfo) for _ in range(200)]
    ratio = statistics.median(ours) / statistics.median(old)
    show("`nodeinfo` / kvm 1.1.1", statistics.median(ours), statistics.median(old), ratio, "<= 0.04")


def growth(hypervisor: kvm.Hypervisor, calls: int = 100_000) -> None:
    for _ in range(1000):
        hypervisor.generic.nodeinfo()
    memory, descriptors = resident(), len(os.listdir("/proc/self/fd"))
    for _ in range(calls):
        hypervisor.generic.nodeinfo()
    megabytes = (resident() - memory) / 1e6
    more = len(os.listdir("/proc/self/fd")) - descriptors
    print(f"| growth in {calls:,} `nodeinfo` | {megabytes:.2f} MB, {more} descriptors | | | < 5 MB, 0 |")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def row(
    what: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int,
    target: str,
    made: Path | None = None,
) -> None:
    """Compare two, which both make the file `made`, if it is given."""

    def alone(function: Callable[[], object]) -> float:
        if made:
            made.unlink(missing_ok=True)  # scp would write over it, which takes less than to make it
        return timed(function)

    ours(), peer()
    pairs = [(alone(ours), alone(peer)) for _ in range(rounds)]
    mine, other = (statistics.median(times) for times in zip(*pairs, strict=True))
    show(what, mine, other, statistics.median(a / b for a, b in pairs), target)


def show(what: str, ours: float, peer: float, ratio: float, target: str) -> None:
    digits = 2 if ratio >= 0.1 else 3
    print(f"| {what} | {ours * 1e3:.2f} ms | {peer * 1e3:.2f} ms | {ratio:.{digits}f} | {target} |", flush=True)


def median(function: Callable[[], object], rounds: int) -> float:
    function()
    return statistics.median(timed(function) for _ in range(rounds))


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def run(*command: str, stdin: str = "") -> str:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
