"""Completion for shells: scripts that ask ``kvmctl --complete``, and its answers.

The words before the cursor come in, candidates go out, a line each. Names of guests, networks, pools, volumes and the
like are those that there are at this moment; what cannot be asked quickly, or not at all, has no candidates.
"""

from __future__ import annotations

import os

from kvm.cli.arguments import (
    COMMANDS,
    FLAGS,
    FORMATS,
    OWN,
    SHORT,
    VERBATIM,
    Invocation,
    Option,
    UsageError,
    method_of,
    options_of,
)  # fmt: skip
from kvm.cli.methods_generated import METHODS
from kvm.cli.output import write_styled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvm.inventory import Inventory

SECONDS = 3
"""How long a hypervisor may take to tell names."""

_SCRIPTS = {
    "bash": """\
_kvmctl() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} words=() word
    local cur prefix
    COMPREPLY=()
    words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    # bash takes words apart at = and :, kvmctl puts them together
    cur=${words[-1]}
    while read -r word; do
        COMPREPLY+=("$(printf '%q' "$word")")
    done < <(kvmctl --complete --bash "$line" 2> /dev/null)
    if [ "${#COMPREPLY[@]}" = 0 ]; then compopt -o default; fi
    case ${COMPREPLY[0]} in *=) compopt -o nospace;; esac
}
complete -F _kvmctl kvmctl
""",
    "zsh": """\
#compdef kvmctl
_kvmctl() {
    local -a found
    found=("${(@f)$(kvmctl --complete -- "${(@Q)words[2,CURRENT]}" 2> /dev/null)}")
    if [[ -n "$found" ]]; then compadd -Q -- "${(@q)found}"; else _files; fi
}
compdef _kvmctl kvmctl
""",
    "fish": """\
function __kvmctl_complete
    set -l words (commandline -opc)
    kvmctl --complete -- $words[2..] (commandline -ct) 2> /dev/null
end
complete -c kvmctl -f -a '(__kvmctl_complete)'
""",
}


def script(shell: str) -> str:
    """What a shell is to read."""
    if shell not in _SCRIPTS:
        raise UsageError(f"there is completion for {', '.join(_SCRIPTS)}, not for {shell!r}")
    return _SCRIPTS[shell]


def complete(words: list[str]) -> int:
    """Print the candidates for the last of the words."""
    if words[:1] == ["--"]:
        words = words[1:]
    cut = 0
    if words[:1] == ["--bash"]:
        words, cut = _of_line(words[1])
    # what is not printable could not be typed, and would act on the terminal
    write_styled("".join(f"{each[cut:]}\n" for each in candidates(words) if each.isprintable()))
    return 0


def _of_line(line: str) -> tuple[list[str], int]:
    """The words of a line that bash completes, and how much of the last bash has set aside (up to a = or :)."""
    import shlex

    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
            break
        except ValueError:
            continue
    else:
        return [""], 0
    if line[-1:].isspace() or len(words) < 2:
        words.append("")
    last = words[-1]
    return words[1:], max(last.rfind("="), last.rfind(":")) + 1


def candidates(words: list[str]) -> list[str]:
    """What the last of the words could be."""
    *before, current = words or [""]
    state = _State()
    for word in before:
        state.take(word)
    if state.awaits is not None:
        return _starting(current, state.values_of(state.awaits))
    name, has_value, value = current.partition("=")
    if has_value and name.startswith("--") and not state.ended:
        return [f"{name}={each}" for each in _starting(value, state.values_of(name))]
    if current.startswith("-") and not state.ended:
        return _starting(current, state.flags())
    if not state.asked.command:
        return _starting(current, [*METHODS, *COMMANDS])
    return _starting(current, state.values_by_place())


def _starting(prefix: str, among: list[str]) -> list[str]:
    return [each for each in among if each.startswith(prefix)]


class _State:
    """What the words before the cursor have said."""

    def __init__(self) -> None:
        self.asked = Invocation()
        self.options: dict[str, Option] = {}
        self.awaits: str | None = None
        self.ended = False

    def take(self, word: str) -> None:
        if self.awaits is not None:
            self._give(self.awaits, word)
            self.awaits = None
        elif word == "--":
            self.ended = True
        elif word.startswith("-") and not self.ended:
            word = SHORT.get(self.asked.command, {}).get(word, word)
            name, has_value, value = word.partition("=")
            if has_value:
                self._give(name, value)
            elif self._takes_value(name):
                self.awaits = name
            else:
                self.asked.options[name.lstrip("-")] = True
        elif not self.asked.command:
            self.asked.command = word
            if word in METHODS or word in COMMANDS:
                self.options = {option.name: option for option in options_of(word)}
                self.ended = self.ended or word in VERBATIM
        elif option := self._next():
            self.asked.options[option.name] = word

    def _takes_value(self, name: str) -> bool:
        option = self.options.get(name[2:])
        return bool(option.kind) if option and name.startswith("--") else name in OWN

    def _give(self, name: str, value: str) -> None:
        if name.startswith("--") and name[2:] in self.options:
            self.asked.options[name[2:]] = value
        elif name in OWN:
            try:
                self.asked.take(OWN[name], value)
            except UsageError:
                return

    def _next(self) -> Option | None:
        left = (each for each in self.options.values() if each.by_place)
        return next((each for each in left if each.repeats or each.name not in self.asked.options), None)

    def flags(self) -> list[str]:
        """Options that have not been given."""
        mine = [f"--{name}" for name, each in self.options.items() if each.repeats or name not in self.asked.options]
        return [*mine, *(each for each in (*OWN, *FLAGS) if each not in mine)]

    def values_by_place(self) -> list[str]:
        option = self._next()
        return self._values(option.name) if option else []

    def values_of(self, name: str) -> list[str]:
        """The values that an option could have."""
        if name.startswith("--") and name[2:] in self.options:
            return self._values(name[2:])
        own = OWN.get(name)
        if own == "host" and self.asked.inventories:
            return [name for each in _inventories(self.asked) for name in each.names]
        if own == "host":
            return ssh_hosts(self.asked.ssh_config or os.path.expanduser("~/.ssh/config"))
        if own == "group":
            return [name for each in _inventories(self.asked) for name in each.groups]
        if own == "output":
            return list(FORMATS)
        if own == "completion":
            return list(_SCRIPTS)
        return ["qemu:///system", "qemu:///session", "test:///default"] if own == "connect" else []

    def _values(self, option: str) -> list[str]:
        """The names that there are, asked of the hypervisor that the words before name."""
        command = self.asked.command
        if command == "top" and option == "sort":
            from kvm.cli.top.rates import SORTS

            return list(SORTS)
        if command == "qemu-img":
            from kvm.cli.images import SUBCOMMANDS

            return [] if "subcommand" in self.asked.options else SUBCOMMANDS
        group = method_of(command)[0]
        asks = {
            "domain": "domain", "network": "network", "pool": "pool", "vol": "volume", "secret": "secret",
            "nwfilter": "nwfilter", "snapshotname": "snapshot", "checkpointname": "checkpoint", "device": "nodedev",
            "interface": "interface", "bridge": "interface", "filter": "domain",
        }.get(option)  # fmt: skip
        if (asks == "interface" and group != "interface") or (asks == "nodedev" and group != "nodedev"):
            return []
        if asks is None:
            return []
        try:
            return self._names(asks, str(self.asked.options.get("domain", "")), str(self.asked.options.get("pool", "")))
        except Exception:  # noqa: BLE001  # a prompt is no place for errors
            return []

    def _names(self, kind: str, domain: str, pool: str) -> list[str]:
        from kvm.cli.hosts import targets

        (target, *_), _ = targets(self.asked)
        with target.opened() as hypervisor, hypervisor.set_controls(timeout=SECONDS):
            if kind in ("domain", "network", "pool"):
                return list(getattr(hypervisor, kind).list(all=True))
            if kind == "volume":
                pools = [pool] if pool else list(hypervisor.pool.list())
                return [volume for each in pools for volume in hypervisor.volume.list(each)]
            if kind in ("snapshot", "checkpoint"):
                return list(getattr(hypervisor, kind).list(domain))
            if kind == "interface":
                return list(hypervisor.interface.list(all=True))
            return list(getattr(hypervisor, kind).list())


def _inventories(asked: Invocation) -> list[Inventory]:
    """The inventories that the words before name, if they can be read."""
    from kvm import inventory

    try:
        return [inventory.read(path) for path in asked.inventories]
    except Exception:  # noqa: BLE001  # a prompt is no place for errors
        return []


def ssh_hosts(config: str) -> list[str]:
    """The hosts that a configuration of ssh names, those of the files that it includes as well."""
    import glob

    found: list[str] = []
    todo, seen = [config], set()
    while todo:
        path = todo.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            keyword, _, rest = line.strip().replace("=", " ", 1).partition(" ")
            if keyword.lower() == "host":
                found += [name for name in rest.split() if not set(name) & set("*?!")]
            elif keyword.lower() == "include":
                for name in rest.split():
                    todo += sorted(glob.glob(os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(name))))
    return list(dict.fromkeys(found))
