"""The man page, made of what ``--help`` shows."""

from __future__ import annotations

from kvm.cli import manual
from kvm.cli.arguments import method_of, options_of
from kvm.cli.examples import example
from kvm.cli.methods_generated import METHODS

_DESCRIPTION = """\
Every command of virsh, by virsh's name and with virsh's arguments and options: an option is --name VALUE or
--name=VALUE, and what stands alone goes to the options in brackets, in their order.

kvmctl COMMAND --help tells of each option what the virsh of this machine says of it."""

_TITLES = {
    "checkpoint": "Checkpoints", "domain": "Domains", "generic": "The hypervisor", "interface": "Host interfaces",
    "network": "Networks", "nodedev": "Host devices", "nwfilter": "Network filters", "pool": "Storage pools",
    "secret": "Secrets", "snapshot": "Snapshots", "volume": "Storage volumes",
}  # fmt: skip
"""What the groups of commands are about."""


def man_page(version: str) -> str:
    """kvmctl(1), for man."""
    lines = [f'.TH KVMCTL 1 "" "python-kvm {version}" "python-kvm"', ".nh", ".ad l"]
    lines += [".SH NAME", _text(f"kvmctl - {manual.SUMMARY}")]
    lines += [".SH SYNOPSIS", f".B {_text(manual.SYNOPSIS)}"]
    lines += [".SH DESCRIPTION", *_paragraphs(_DESCRIPTION)]
    lines += [".SH OPTIONS", *_items(manual.OPTIONS)]
    for heading, text in manual.SECTIONS.items():
        lines += [f".SH {heading.upper()}", *_paragraphs(text)]
    lines += [".SH EXAMPLES", *_items(manual.EXAMPLES)]
    for group in sorted({method_of(command)[0] for command in METHODS}):
        lines.append(f".SH COMMANDS: {_TITLES.get(group, group).upper()}")
        for command in METHODS:
            if method_of(command)[0] == group:
                lines += _command(command)
    for heading, told in (("LIVE", manual.TOP), ("IMAGES", manual.IMAGES)):
        lines += [f".SH {heading}", ".nf", *map(_text, told.splitlines()), ".fi"]
    lines += [".SH SEE ALSO", ".BR virsh (1),", ".BR qemu-img (1),", ".BR ssh (1),", ".BR jq (1)"]
    return "\n".join(lines) + "\n"


def _command(command: str) -> list[str]:
    lines = [f".SS {_text(command)}", f".B {_text(manual.usage(command))}", ".PP"]
    lines += _paragraphs(manual.described(command))
    if options := options_of(command):
        lines.append(".RS 4")
        for option in options:
            lines += [f"\\fB{_text(manual.shown(option))}\\fR  {_text(manual.kind(option))}".rstrip(), ".br"]
        lines[-1] = ".RE"
    return [*lines, ".PP", "Example:", f".B {_text(f'kvmctl {example(command)}')}"]


def _items(items: dict[str, str]) -> list[str]:
    return [line for name, what in items.items() for line in (".TP", f".B {_text(name)}", _text(what))]


def _paragraphs(text: str) -> list[str]:
    """Paragraphs; lines that begin with a dash are items, and those that are indented belong to what is above."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines.append(".PP")
        for line in paragraph.splitlines():
            if line.startswith("- "):
                lines += [".IP \\(bu 2", _text(line[2:].strip())]
            else:
                lines.append(_text(line.strip()))
    return lines[1:]


def _text(text: str) -> str:
    """Text as it is: nothing of it is a request or an escape of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text
