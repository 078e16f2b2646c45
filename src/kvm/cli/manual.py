"""Help: what kvmctl is, and for each command its options, what its value is, and an example.

``--help`` shows it, and the man page is made of it (`kvm.cli.roff`).
"""

from __future__ import annotations

import re
from inspect import cleandoc

from kvm.cli.arguments import Option, method_of, options_of
from kvm.cli.examples import example
from kvm.cli.methods_generated import METHODS

SUMMARY = "virsh's commands on one hypervisor or many, their values as tables, JSON or YAML"

SYNOPSIS = "kvmctl [-c URI] [-H HOST]... [-i INVENTORY]... [-g GROUP]... [-o FORMAT] COMMAND [ARGUMENTS]"

USAGE = f"""\
usage: {SYNOPSIS}

  kvmctl list --all                    the guests here
  kvmctl -H root@hv1 -H hv2 list       the guests of two hosts

kvmctl help             the options, and a line for each command
kvmctl help COMMAND     its arguments and options, and an example
"""

OPTIONS = {
    "-c, --connect URI": "the connection, as virsh has it: qemu:///system, test:///default; overrides an inventory's",
    "-H, --host HOST": "a hypervisor that ssh reaches, [USER@]HOST[:PORT], or with -i a host of the inventory, also by "
    "a pattern ('hv*'); may be repeated",
    "-F, --ssh-config FILE": "another configuration for ssh",
    "-i, --inventory FILE": "the hypervisors of an inventory: TOML, an ssh config, or Ansible's; may be repeated",
    "-g, --group GROUP": "only those of a group of the inventory; may be repeated",
    "-t, --timeout SECONDS": "the time limit for each host; the default is 60 with several hosts",
    "-o, --output FORMAT": "table (the default), json, yaml, or raw: virsh's own text",
    "-n, --dry-run": "print the virsh commands instead of running them",
    "-y, --yes": "do not ask before something is destroyed on several hosts",
    "--yaml": "edit values instead of XML (edit, net-edit, ...)",
    "--completion SHELL": "print a script for bash, zsh or fish",
    "-h, --help": "this, or the help for a command",
    "-v, --version": "the version",
}

SECTIONS = {
    "Formats": """\
table: for people. Sizes and times are rounded; on a terminal rows are cut to its width, and states have colours. Names
alone (list --name) are lines, and documents are XML.

json, yaml: what the library's method returns, exactly. Quantities are numbers of bytes, Hz or nanoseconds, dates ISO
8601, bytes base64, nothing is null, and an action has the four fields status, return_code, stdout, stderr. With several
hosts it is an object by host, without those that failed. Events are an object a line.

raw: virsh's own text.""",
    "Hosts": """\
Several hosts are called at the same time. Each failure is a line on standard error that begins with the name of the
host; the others' values are printed. Each of several hosts has 60 seconds, or 600 for commands that may take long; jobs
that show their progress, and events, have no limit but --timeout.

With an inventory, -g selects its groups and -H its hosts: -g rack1 -H 'hv0*' selects the hosts of rack1 whose names
begin with hv0. A user or port that is written with a host overrides the inventory's setting, and so do -c and -F.""",
    "Files": """\
Files with XML, keys, secrets, screenshots and those of vol-upload and vol-download are this machine's, and - is
standard input; all other files are the hypervisor's. In place of XML, JSON or YAML may be
given, in the form of -o json, -o yaml and edit --yaml.""",
    "Long commands": """\
Those that take long (uploads, migrations, block jobs, images) show on standard error how far they are, if that is a
terminal, or a percentage a line with --verbose, where virsh's command has that. Ctrl-C cancels them.""",
    "Exit status": """\
0; 1 if something failed on a host; 2 if the command line is wrong; 3 if everything was done but the output could not be
written; 128 plus the number of the signal that ended it: 130 after Ctrl-C, which leaves nothing running, locally or on
the hosts, and names the hosts that have not answered; 141 if the reader of a pipe has ended. A signal that ends the
editor of edit ends kvmctl in the same way.""",
    "Environment": """\
LIBVIRT_DEFAULT_URI: the connection without -c. VISUAL, EDITOR: the editor. NO_COLOR: no colours. COLUMNS: the width of
tables.""",
}

EXAMPLES = {
    "kvmctl list --all": "the guests here",
    "kvmctl -H root@hv1 -H hv2 list": "the guests of two hosts, in one table",
    "kvmctl -i hosts.toml -g rack1 dominfo web1 -o json": "a guest, wherever it is in a rack",
    "kvmctl nodeinfo -o json | jq .memory_size": "a number of bytes",
    "kvmctl dumpxml web1 > web1.xml; kvmctl define web1.xml": "a configuration, there and back",
}

TOP = """\
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

IMAGES = """\
kvmctl [OPTIONS] qemu-img SUBCOMMAND [ARGUMENTS]

qemu-img's own command line, on all hosts that are given; images are their files. Every word behind qemu-img is
qemu-img's, so kvmctl's own options stand before it. kvmctl qemu-img SUBCOMMAND --help is qemu-img's help.

info, check, map, measure   are values, by --output=json, unless an --output is given; -o raw is qemu-img's text
amend, commit, compare,     show how far they are, if standard error is a terminal, or with -p a percentage a line;
convert, rebase             not with -q; Ctrl-C cancels them

On several hosts, what may change an image asks before it does so, or wants --yes (before the word qemu-img).
The exit status is 1 where qemu-img's is not 0: also if check finds something, or images that compare looks at differ.

Example:  kvmctl -H hv1 -H hv2 -o json qemu-img info --backing-chain /images/web1.qcow2
          kvmctl -H hv1 qemu-img convert -c -O qcow2 /images/web1.raw /images/web1.qcow2
"""

HELP = """\
kvmctl help [COMMAND]

The options of kvmctl and a line for each command, or all about one command; the same as --help.

Example:  kvmctl help migrate
"""

PAGES = {"top": TOP, "qemu-img": IMAGES, "help": HELP}
"""The help for commands that are kvmctl's own."""


def page(command: str) -> str:
    """The help for a command, or, without one, for all."""
    return _of_command(command) if command else _overview()


def _overview() -> str:
    width = max(map(len, OPTIONS))
    lines = [f"kvmctl: {SUMMARY}\n\n  {SYNOPSIS}\n\n"]
    lines.append("Commands, arguments and options are virsh's; `kvmctl COMMAND --help` shows them. ")
    lines.append("Two are kvmctl's own:\ntop, what guests do, live; qemu-img, its command line on the hosts.\n\n")
    for name, what in OPTIONS.items():
        lines += _wrapped(f"  {name:{width}}  {what}", width + 4)
    lines += [f"\n{heading}\n\n{text}\n" for heading, text in SECTIONS.items()]
    lines += ["\nExamples\n\n", *(f"  {words}\n" for words in EXAMPLES), "\nCommands\n\n", _all()]
    return "".join(lines)


def _all() -> str:
    """Return a line for each command, by groups."""
    groups: dict[str, list[str]] = {}
    for command in METHODS:
        groups.setdefault(method_of(command)[0], []).append(command)
    width = max(map(len, METHODS))
    lines = []
    for group, commands in sorted(groups.items()):
        lines.append(f"{group}\n")
        lines += [f"  {command:{width}}  {summary(command)}".rstrip() + "\n" for command in commands]
    return "".join(lines)


_MAX_SUMMARY = 84
"""The width, in columns, of the summary of a command."""


def summary(command: str) -> str:
    """Return a summary of a command on one line: the first sentence of its docstring, cut to `_MAX_SUMMARY`."""
    text = " ".join(described(command).split())
    first = re.sub(r", see \w+$", "", re.split(r"(?<=[\w)'])[.:;] ", f"{text} ")[0].strip().rstrip("."))
    if len(first) <= _MAX_SUMMARY:
        return first
    cut = first[: _MAX_SUMMARY - 3].rpartition(" ")[0].rstrip(",;")
    return re.sub(r"( (a|an|the|of|in|on|or|and|with|by|to|for|as|at|its))+$", "", cut) + " ..."


def _of_command(command: str) -> str:
    if command in PAGES:
        return PAGES[command]
    lines = [f"{usage(command)}\n\n", f"{described(command)}\n"]
    if options := options_of(command):
        explained = _explained_by_virsh(command)
        rows = [(shown(option), kind(option), explained.get(option.name, "")) for option in options]
        width = max(len(name) for name, _, _ in rows)
        lines.append("\n")
        for name, told, what in rows:
            both = "; ".join(filter(None, (what, told)))
            lines += _wrapped(f"  {name:{width}}  {both}".rstrip(), width + 4)
    lines.append(f"\nExample:  kvmctl {example(command)}\n")
    return "".join(lines)


def usage(command: str) -> str:
    """The command, what it requires, and whether there is more."""
    options = options_of(command)
    required = [f"<{option.name}>{'...' if option.repeats else ''}" for option in options if option.is_required]
    rest = ["[OPTIONS]"] if any(not option.is_required for option in options) else []
    return " ".join(["kvmctl", command, *required, *rest])


_ANY_DOCUMENT = (
    r"a\s+dict\s+of\s+``(<\w+>)``,\s+XML,\s+an\s+element\s+or\s+the\s+path\s+of\s+a\s+file\s+on\s+the\s+hypervisor"
)
"""What methods take for a document; here it is in a file."""


def described(command: str) -> str:
    """What the method says of itself, in the words of a command line."""
    from kvm.hypervisor import Hypervisor
    from unix import Local

    group, name = method_of(command)
    doc = getattr(getattr(getattr(Hypervisor(Local()), group), name, None), "__doc__", None)
    if not doc:
        return f"What virsh prints for it; see 'virsh help {command}'."
    text = re.sub(r"\s*virsh: ``[^`]*``(, [^.]*)?\.?", "", cleandoc(doc))
    text = "\n\n".join(filter(None, map(_without_python, text.split("\n\n"))))
    text = re.sub(_ANY_DOCUMENT, r"XML (\1) in a file here", text)
    text = re.sub(r"``(\w+)=``", lambda found: f"--{found[1].replace('_', '-')}", text)
    text = re.sub(r"(adds?|tells?) `(\w+)`", r"\1 \2", text)  # a key, although there may be an option of that name
    text = re.sub(r"``(\w+?)_?=True``", lambda found: f"--{found[1].replace('_', '-')}", text)
    text = re.sub(r"``(\w+?)_?=([^`{\[]+)``", lambda found: f"--{found[1].replace('_', '-')} {found[2]}", text)
    names = {option.name.replace("-", "_"): option.name for option in options_of(command) if not option.is_required}
    text = re.sub(r"`(\w+?)(_?)`", lambda found: f"--{names[found[1]]}" if found[1] in names else found[1], text)
    return text.replace("``", "").replace("`", "")


_OF_PYTHON = r"`(progress|cancel|function|edit)`"


def _without_python(paragraph: str) -> str:
    """A paragraph without what is about Python: sentences on functions and on events to set, examples."""
    if paragraph.startswith((">>>", "`CommandTimeoutError`")) or "``wait=" in paragraph:
        return ""
    if not re.search(_OF_PYTHON, paragraph):
        return paragraph
    sentences = re.split(r"(?<=[.])\s+(?=[`A-Z])", " ".join(paragraph.split()))
    kept, is_about_it = [], False
    for sentence in sentences:
        is_about_it = bool(re.search(rf"{_OF_PYTHON}|Error`", sentence)) or (
            is_about_it and sentence.startswith(("What it", "Once", "A job of", "If all"))
        )
        if not is_about_it:
            kept.append(sentence)
    return "\n".join(_wrapped(" ".join(kept), 0)).replace("\n\n", "\n").rstrip()


def shown(option: Option) -> str:
    """An option as it is written; in brackets if its value may stand alone, by its place."""
    value = {"=": " TEXT", "#": " NUMBER", "*": " ..."}.get(option.kind, "")
    name = f"--{option.name}{value}"
    return name if not option.by_place else f"[--{option.name}]{value}"


def kind(option: Option) -> str:
    """What is to be known of an option that its name does not tell."""
    told = []
    if option.is_required:
        told.append("required")
    if option.is_document:
        told.append("a file with XML, here")
    if option.repeats:
        told.append("may be repeated")
    return ", ".join(told)


def _explained_by_virsh(command: str) -> dict[str, str]:
    """What the virsh of this machine says of the options of a command; nothing where there is none."""
    import subprocess

    try:
        told = subprocess.run(["virsh", "help", command], capture_output=True, text=True, check=False, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = re.findall(r"^    \[?--([\w-]+)\]?(?: <\w+>)? +(.*)$", told.partition("  OPTIONS\n")[2], re.MULTILINE)
    return {name: what.strip() for name, what in found}


def _wrapped(text: str, indent: int) -> list[str]:
    import textwrap

    wrapped = textwrap.wrap(
        text, 110, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False, drop_whitespace=True,
    )  # fmt: skip
    return [f"{line}\n" for line in wrapped]
