"""A tour of one hypervisor: what it is, what it has, which domains it runs, and how one of them is configured.

python examples/tour.py                  # libvirt's in-process test hypervisor
python examples/tour.py qemu:///system   # a real one
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import kvm
import unix

MIB, GIB = 1024**2, 1024**3


def main(uri: str) -> None:
    with kvm.Hypervisor(unix.Local(), uri) as hypervisor:
        generic = hypervisor.generic
        title(f"{generic.hostname()} at {generic.uri()}")
        show("Version", generic.version)
        show("Node", generic.nodeinfo)
        show("CPUs online", generic.nodecpumap)
        show("CPU time so far, in nanoseconds", generic.nodecpustats)
        show("Memory", generic.nodememstats)
        show("Free memory by NUMA cell", lambda: generic.freecell(all=True))
        show("Capabilities", lambda: capabilities(generic.capabilities()))
        domains = hypervisor.list_domains(all=True)
        show("Domains", lambda: domains)
        for name in list(domains)[:1]:
            show(f"Domain {name}", partial(hypervisor.domain.info, name))
            show(f"Configuration of {name}", partial(hypervisor.domain.conf, name))
            show(f"Disks of {name}", partial(hypervisor.domain.blklist, name))
        show("Networks", lambda: hypervisor.list_networks(all=True))
        pools: dict[str, Any] = {}
        show("Storage pools", lambda: pools.update(hypervisor.pool.list(all=True, details=True)) or pools)
        for name in [name for name, pool in pools.items() if pool["state"] == "running"][:1]:
            show(f"Volumes in {name}", partial(hypervisor.volume.list, name, details=True))
        if uri.startswith("test:"):  # nothing of anybody's
            show("The life of a guest", partial(life_of_a_guest, hypervisor))


GUEST = {"@type": "test", "name": "guest", "memory": kvm.Quantity("64 MiB"), "vcpu": 1, "os": {"type": "hvm"}}


def life_of_a_guest(hypervisor: kvm.Hypervisor) -> dict[str, str]:
    """A guest from its definition to its end: what was done, and its state then."""
    domain = hypervisor.domain
    steps: dict[str, Callable[[], object]] = {
        "define": lambda: domain.define(GUEST),
        "start": lambda: domain.start("guest"),
        "snapshot": lambda: hypervisor.snapshot.create_as("guest", "first"),
        "suspend": lambda: domain.suspend("guest"),
        "resume": lambda: domain.resume("guest"),
        "destroy": lambda: domain.destroy("guest"),
        "undefine": lambda: domain.undefine("guest", snapshots_metadata=True),
    }
    states = {}
    for name, step in steps.items():
        step()
        listed = hypervisor.list_domains(all=True)
        states[name] = listed["guest"]["state"] if "guest" in listed else "gone"
    return states


def capabilities(found: dict[str, Any]) -> dict[str, str]:
    """The part of the capabilities that fits on a screen."""
    cpu, guests = found["host"]["cpu"], found.get("guest", [])
    kinds = {guest["arch"]["@name"] for guest in (guests if isinstance(guests, list) else [guests])}
    return {"host CPU": cpu.get("model", cpu["arch"]), "guest architectures": ", ".join(sorted(kinds))}


def title(text: str) -> None:
    print(f"{bold(text)}\n")


def show(heading: str, ask: Callable[[], object]) -> None:
    """Print a heading and the answer, or why there is none."""
    print(bold(heading))
    try:
        for line in lines(ask()) or ["none"]:
            print(f"  {line}")
    except kvm.NotSupportedError as error:
        print(f"  not supported here: {str(error).rpartition(': ')[2]}")
    print()


def lines(value: object, indent: str = "") -> list[str]:
    """A value as indented lines, one for each figure."""
    if isinstance(value, list):
        value = {f"[{place}]": each for place, each in enumerate(value)}
    if not isinstance(value, Mapping):
        return [indent + plain(value)]
    width = max((len(str(name)) for name in value), default=0)
    found = []
    for name, each in value.items():
        if isinstance(each, Mapping) or (isinstance(each, list) and each and isinstance(each[0], Mapping)):
            found += [f"{indent}{name}", *lines(each, indent + "  ")]
        else:
            found.append(f"{indent}{name!s:{width}}  {plain(each)}")
    return found


def plain(value: object) -> str:
    """One figure as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, kvm.Quantity) and str(value).endswith("KiB"):
        return f"{value / GIB:.2f} GiB" if value >= GIB else f"{value / MIB:.1f} MiB"
    if isinstance(value, int):
        return str(value) if isinstance(value, kvm.Quantity) else f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "test:///default")
    except kvm.KvmError as error:
        sys.exit(f"{type(error).__name__}: {error}")
