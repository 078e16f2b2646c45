#!/usr/bin/env python3
"""Print, as JSON, the commands and options that a virsh offers, as its own `help` tells them.

    tools/extract_commands.py > tools/virsh/commands-12.8.0.json
    tools/extract_commands.py chroot DIR        # a virsh behind another command

{"virsh": version, "groups": {group: {command: [option, ...]}}}, an option being
  name        as virsh spells it, without dashes
  kind        flag (takes no value), string, number, or argv (the rest of the line)
  positional  may be given without its --name
  required    virsh refuses the command without it
  repeated    may be given more than once
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

HEADING = re.compile(r" (\S.*) \(help keyword '(\S+)'\)")
ENTRY = re.compile(r"    (\S+)\s")
OPTION = re.compile(
    r"    (?:\[--(?P<bracketed>[\w-]+)\]|--(?P<named>[\w-]+)|<(?P<argv>[\w-]+)>)"
    r"(?: <(?P<kind>\w+)>)?(?:\.\.\.)?(?:\s|$)"
)


def virsh(prefix: list[str], *arguments: str) -> str:
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run([*prefix, "virsh", *arguments], check=False, capture_output=True, text=True, env=env).stdout


def options(text: str) -> Iterator[dict[str, str | bool]]:
    heading = re.search(r"SYNOPSIS\n(.*?)\n\n", text, re.S)
    synopsis = " ".join(heading[1].split()) if heading else ""
    body = re.search(r"OPTIONS\n(.*)\Z", text, re.S)
    for line in body[1].splitlines() if body else ():
        found = OPTION.match(line)
        if not found:
            continue
        name = re.escape(found["bracketed"] or found["named"] or found["argv"])
        kind = "argv" if found["argv"] else found["kind"] or "flag"
        many = rf"(?:\[?--{name}\]? <\w+>|<{name}>)[\]}}]?\.\.\."
        optional = rf"\[--{name}(?![\w-])(?!\] <\w+>}})|\[<{name}>\]|\[\[--{name}\]"
        yield {
            "name": found["bracketed"] or found["named"] or found["argv"],
            "kind": kind,
            "positional": bool(found["bracketed"] or found["argv"]),
            "required": not re.search(optional, synopsis),
            "repeated": kind != "flag" and bool(re.search(many, synopsis)),
        }


def main() -> None:
    prefix = sys.argv[1:]
    groups: dict[str, dict[str, list[dict[str, str | bool]]]] = {}
    group: dict[str, list[dict[str, str | bool]]] | None = None
    for line in virsh(prefix, "help").splitlines():
        if heading := HEADING.match(line):
            group = groups.setdefault(heading[2], {})
        elif (entry := ENTRY.match(line)) and group is not None:
            group[entry[1]] = list(options(virsh(prefix, "help", entry[1])))
    groups.pop("virsh", None)  # cd, echo, quit, ...: the prompt's own
    blocks = []
    for name, commands in groups.items():
        lines = ",\n".join(f"  {json.dumps(c)}: {json.dumps(o)}" for c, o in commands.items())
        blocks.append(f" {json.dumps(name)}: {{\n{lines}\n }}")
    release = json.dumps(virsh(prefix, "--version").strip())
    print(f'{{"virsh": {release}, "groups": {{')
    print(",\n".join(blocks))
    print("}}")


if __name__ == "__main__":
    main()
