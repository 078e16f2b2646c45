"""Help: what kvmctl is, and for each command its options, what its value is, and an example."""

from __future__ import annotations

import re
from inspect import cleandoc

from kvm.cli.arguments import Option, method_of, options_of
from kvm.cli.methods_generated import METHODS

_USAGE = """\
kvmctl: virsh's commands on one hypervisor or many, their values as tables, JSON or YAML

  kvmctl [-c URI] [-H HOST]... [-i INVENTORY [-g GROUP]] [-o FORMAT] COMMAND [ARGUMENTS]

Commands, arguments and options are virsh's; `kvmctl COMMAND --help` shows them. One command is kvmctl's own:

  top                     what guests do, live; `kvmctl top --help`

  -c, --connect URI       the connection, as virsh has it: qemu:///system, test:///default
  -H, --host HOST         a hypervisor that ssh reaches, [USER@]HOST[:PORT]; may be given more than once
  -F, --ssh-config FILE   another configuration for ssh
  -i, --inventory FILE    the hypervisors of an inventory
  -g, --group GROUP       those of one of its groups
  -o, --output FORMAT     table (the default), json, yaml, or raw: virsh's own text
  -n, --dry-run           print the virsh commands instead of running them
  -y, --yes               do not ask before something is destroyed on several hosts
      --yaml              edit values instead of XML (edit, net-edit, ...)
      --completion SHELL  print a script for bash, zsh or fish
  -h, --help   -v, --version

Files with XML, keys and secrets are this machine's, `-` is standard input; all other files are the hypervisor's.
It exits with 1 if something failed on some host, with 2 if the command line is none.
"""

_TOP = """\
kvmctl top [OPTIONS] [FILTER]...

What guests do: CPU, memory, disk and network, on all hosts that are given, live, as top(1) shows processes.
FILTER: words; only guests are shown that have all of them in their host, name or state.

  -d, --delay SECONDS   the time between two looks (1)
  -b, --batch           text instead of a screen; so it is without a terminal, and with -n and -o
  -n, --count NUMBER    end after so many samples
      --sort KEY        cpu (the default), memory, disk, network, or any figure by its name in JSON
      --reverse         the least first
      --all             guests that are shut off as well
  -o json, -o yaml      a line of JSON, or a document of YAML, for each sample

Keys: c, m, d, n   sort by CPU, memory, disk, network; the same key again, or r, turns the order round
      N, H, s      sort by name, host, state; < and > by the figure before or behind; or click on a heading
      /            filter as you type; Enter keeps the filter, Esc ends it
      a            show guests that are shut off as well, or not
      p, space     pause, go on
      +, -         look less or more often
      arrows, PgUp, PgDn, Home, End, wheel   scroll
      h, ?         these lines
      q, Ctrl-C    quit

CPU%    100 is one CPU of the host in full use              (JSON: cpu)
HOST%   100 is all CPUs of the host in full use             (host_cpu)
RSS     the host's memory that the guest takes, in bytes    (rss)
MEM     the memory that the guest has (its balloon)         (memory)
USED    what the guest itself uses of it, if it tells       (used)
READ/s, WRIT/s   bytes of its disks a second                (read, write)
RREQ/s, WREQ/s   requests to its disks a second             (read_requests, write_requests)
RX/s, TX/s       bytes that it receives and sends a second  (rx, tx)

A figure that nobody knows is -, in JSON null: at the first look, after a restart, or where libvirt does not tell.

Example:  kvmctl -H hv1 -H hv2 top --sort disk web
          kvmctl top -n 1 -o json | jq '.guests[] | select(.cpu > 50).name'
"""

_EXAMPLES = {
    "domain": "web1", "network": "default", "pool": "images", "vol": "web1.qcow2", "file": "web1.xml", "path": "vda",
    "interface": "eth0", "snapshotname": "before", "checkpointname": "monday", "secret": "UUID", "device": "net_eth0",
    "name": "web1", "count": "4", "size": "4G", "capacity": "20G", "user": "alice", "type": "bridge", "source": "br0",
    "target": "vdb", "newname": "copy.qcow2", "keycode": "KEY_ENTER", "uri": "https://example.org/app", "nwfilter":
    "clean-traffic", "arch": "x86_64", "desturi": "qemu+ssh://other/system", "pid": "1", "signame": "term",
    "xml": "web1.xml", "state": "up", "vcpulist": "0-3", "cpulist": "0-3", "cmd": "query-status",
}  # fmt: skip


def page(command: str) -> str:
    """The help for a command, or, without one, for all."""
    return _of_command(command) if command else _USAGE + "\n" + _all()


def _all() -> str:
    groups: dict[str, list[str]] = {}
    for command in METHODS:
        groups.setdefault(method_of(command)[0], []).append(command)
    lines = []
    for group, commands in sorted(groups.items()):
        lines.append(f"{group}\n")
        line = " "
        for command in commands:
            if len(line) + len(command) > 98:
                lines.append(f"{line}\n")
                line = " "
            line += f" {command}"
        lines.append(f"{line}\n")
    return "".join(lines)


def _of_command(command: str) -> str:
    if command == "top":
        return _TOP
    options = options_of(command)
    required = " ".join(f"<{option.name}>{'...' if option.repeats else ''}" for option in options if option.is_required)
    rest = " [OPTIONS]" if any(not option.is_required for option in options) else ""
    lines = [f"kvmctl {command} {required}".rstrip() + f"{rest}\n\n", f"{_doc(command)}\n"]
    if options:
        shown = [(_shown(option), _kind(option)) for option in options]
        width = max(len(name) for name, _ in shown)
        lines += ["\n", *(f"  {name:{width}}  {kind}".rstrip() + "\n" for name, kind in shown)]
    needed = " ".join(_EXAMPLES.get(option.name, option.name.upper()) for option in options if option.is_required)
    lines.append(f"\nExample:  kvmctl {command} {needed}".rstrip() + " -o json\n")
    return "".join(lines)


def _doc(command: str) -> str:
    """What the method says of itself, in the words of a command line."""
    from kvm.hypervisor import Hypervisor
    from unix import Local

    group, name = method_of(command)
    doc = getattr(getattr(getattr(Hypervisor(Local()), group), name, None), "__doc__", None)
    if not doc:
        return f"What virsh prints for it; see `virsh help {command}`."
    text = re.sub(r"\s*virsh: ``[^`]*``\.?", "", cleandoc(doc))
    text = re.sub(r"``(\w+)=True``", lambda found: f"--{found[1].replace('_', '-')}", text)
    text = re.sub(r"``(\w+)=([^`{\[]+)``", lambda found: f"--{found[1].replace('_', '-')} {found[2]}", text)
    return text.replace("``", "").replace("`", "")


def _shown(option: Option) -> str:
    value = {"=": " TEXT", "#": " NUMBER", "*": " ..."}.get(option.kind, "")
    name = f"--{option.name}{value}"
    return name if not option.by_place else f"[--{option.name}]{value}"


def _kind(option: Option) -> str:
    told = []
    if option.is_required:
        told.append("required")
    if option.is_document:
        told.append("a file with XML")
    if option.repeats:
        told.append("may be repeated")
    return ", ".join(told)
