"""The words of a command line -> what is asked for. Pure.

A command's words are read as virsh reads them: ``--option value``, ``--option=value``, flags, and everything else goes,
in order, to the options that are still without a value. kvmctl's own options may stand anywhere before ``--``, except
where a command of virsh has one of that name, and behind a command that is a command line of its own.
"""

from __future__ import annotations

from kvm.cli.methods_generated import METHODS

FORMATS = ("table", "json", "yaml", "raw")

OWN = {
    "-c": "connect", "--connect": "connect",
    "-H": "host", "--host": "host",
    "-F": "ssh-config", "--ssh-config": "ssh-config",
    "-i": "inventory", "--inventory": "inventory",
    "-g": "group", "--group": "group",
    "-o": "output", "--output": "output",
    "-t": "timeout", "--timeout": "timeout",
    "--completion": "completion",
}  # fmt: skip
"""kvmctl's own options with a value."""

FLAGS = {
    "-y": "yes", "--yes": "yes",
    "-n": "dry-run", "--dry-run": "dry-run",
    "-h": "help", "--help": "help",
    "-v": "version", "--version": "version",
    "--yaml": "yaml",
}  # fmt: skip
"""kvmctl's own options without one."""

MAY_BE_ASKED_FOR = {("set-user-password", "password")}
"""Options that virsh requires and kvmctl does not: without them it asks."""


COMMANDS = {
    "top": "top filter*. delay= count# sort= reverse all batch",
    "qemu-img": "qemu-img subcommand*!.",
    "help": "help command.",
}
"""Commands that are kvmctl's own, in the form of METHODS."""

VERBATIM = {"qemu-img"}
"""Those of them behind which no word is kvmctl's, but for --help if that is the first."""

SHORT = {"top": {"-d": "--delay", "-n": "--count", "-b": "--batch"}}
"""Short options of such commands, behind their names."""


class UsageError(Exception):
    """The command line is not one; what to say about it."""


class Option:
    """One option of a command of virsh."""

    __slots__ = ("by_place", "is_document", "is_required", "kind", "name", "repeats")

    def __init__(self, told: str) -> None:
        self.name = told.rstrip("=#*!.+@")
        marks = told[len(self.name) :]
        self.kind = marks[:1] if marks[:1] in ("=", "#", "*") else ""
        self.is_required = "!" in marks
        self.by_place = "." in marks
        self.repeats = "+" in marks or self.kind == "*"
        self.is_document = "@" in marks


class Invocation:
    """A command line that has been read.

    `command` and the `options` of virsh, by virsh's names: True for a flag, a list for what repeats, an int for a plain
    number. The rest is kvmctl's own.
    """

    def __init__(self) -> None:
        self.command = ""
        self.options: dict[str, object] = {}
        self.connect: str | None = None
        self.hosts: list[str] = []
        self.ssh_config: str | None = None
        self.inventories: list[str] = []
        self.groups: list[str] = []
        self.output = "table"
        self.timeout: float | None = None
        self.completion: str | None = None
        self.flags: set[str] = set()
        self._set: set[str] = set()

    @property
    def title(self) -> str:
        """What to call it: the command, and its subcommand if there is one."""
        words = self.options.get("subcommand")
        return f"{self.command} {words[0]}" if isinstance(words, list) else self.command

    def take(self, name: str, value: str) -> None:
        """Set one of kvmctl's own options. Those that name hosts add up; another one that is repeated is an error."""
        if (several := {"host": self.hosts, "inventory": self.inventories, "group": self.groups}.get(name)) is not None:
            several.append(value)
            return
        if name in self._set:
            raise UsageError(f"--{name} is given twice")
        self._set.add(name)
        if name == "output" and value not in FORMATS:
            raise UsageError(f"-o takes one of {', '.join(FORMATS)}, not {value!r}")
        setattr(self, name.replace("-", "_"), _seconds(value) if name == "timeout" else value)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 1_000_000:
        raise UsageError(f"--timeout takes a number of seconds from 0.1, not {text!r}")
    return seconds


def options_of(command: str) -> list[Option]:
    """The options of a command, in virsh's order."""
    told = METHODS.get(command) or COMMANDS.get(command)
    if told is None:
        among = [*METHODS, *COMMANDS]
        raise UsageError(f"there is no command {command!r}{_suggestion(command, among)}; see kvmctl --help")
    return [Option(each) for each in told.split()[1:]]


def method_of(command: str) -> tuple[str, str]:
    """The group and the method of a command; those of kvmctl's own have none."""
    group, _, method = METHODS.get(command, "").partition(" ")[0].partition("@")[0].partition(".")
    return group, method


def reader_of(command: str) -> tuple[str, str] | None:
    """The module and the class of the method of a command, if that may only read."""
    module, _, name = METHODS.get(command, "").partition(" ")[0].partition("@")[2].partition(":")
    return (module, name) if name else None


def parsed(words: list[str]) -> Invocation:
    """The command line `words`. `UsageError` if it is none."""
    asked = Invocation()
    known: dict[str, Option] = {}
    given: dict[str, list[object]] = {}
    left, ended = list(reversed(words)), False
    while left:
        word = left.pop()
        if not ended and (long := SHORT.get(asked.command, {}).get(word[:2])):
            word = f"{long}={word[2:]}" if word[2:] else long
        name, has_value, value = word.partition("=")
        if ended or word == "-" or not word.startswith("-"):
            if not asked.command:
                asked.command = word
                known = {option.name: option for option in options_of(word)}
                ended = ended or (word in VERBATIM and left[-1:] not in (["-h"], ["--help"]))
                continue
            _by_place(asked.command, known, given, word)
        elif word == "--":
            ended = True
        elif name.startswith("--") and name[2:] in known:
            option = known[name[2:]]
            if not option.kind:
                if has_value:
                    raise UsageError(f"{asked.command}: {name} takes no value")
                given[option.name] = [True]
            else:
                value = value if has_value else _next(left, name)
                _give(asked.command, given, option, value)
        elif name in OWN or (word[:2] in OWN and not word.startswith("--")):
            if name not in OWN or (has_value and not word.startswith("--")):  # -ojson
                name, has_value, value = word[:2], "=", word[2:]
            asked.take(OWN[name], value if has_value else _next(left, name))
        elif word in FLAGS:
            asked.flags.add(FLAGS[word])
        elif asked.command and not word.startswith("--"):  # virsh has no short options: -1, for instance
            _by_place(asked.command, known, given, word)
        else:
            whose = asked.command or "kvmctl"
            among = [f"--{each}" for each in known] + [*OWN, *FLAGS]
            raise UsageError(f"{whose} has no option {name}{_suggestion(name, among)}; see {_help(asked.command)}")
    if asked.command and "help" not in asked.flags:
        _check(asked.command, known, given)
    asked.options = {name: values if known[name].repeats else values[0] for name, values in given.items()}
    return asked


def _by_place(command: str, known: dict[str, Option], given: dict[str, list[object]], word: str) -> None:
    for option in known.values():
        if option.by_place and (option.name not in given or option.repeats):
            _give(command, given, option, word)
            return
    from kvm.redaction import holds_secrets

    extra = "" if holds_secrets(command) else f" {word!r}"  # a part of a password, unquoted, for example
    raise UsageError(f"{command}: unexpected argument{extra}; see {_help(command)}")


def _give(command: str, given: dict[str, list[object]], option: Option, value: str) -> None:
    if option.name in given and not option.repeats:
        raise UsageError(f"{command}: --{option.name} is given twice")
    is_number = option.kind == "#" and value.removeprefix("-").isdecimal() and value.isascii()
    given.setdefault(option.name, []).append(int(value) if is_number else value)


def _check(command: str, known: dict[str, Option], given: dict[str, list[object]]) -> None:
    for option in known.values():
        if option.is_required and option.name not in given and (command, option.name) not in MAY_BE_ASKED_FOR:
            raise UsageError(f"{command} needs <{option.name}>; see {_help(command)}")


def _next(left: list[str], name: str) -> str:
    if not left:
        raise UsageError(f"{name} needs a value")
    return left.pop()


def _help(command: str) -> str:
    return f"kvmctl {command} --help" if command else "kvmctl --help"


def _suggestion(wrong: str, among: object) -> str:
    import difflib

    close = difflib.get_close_matches(wrong, list(among), 1)  # type: ignore[call-overload]
    return f"; did you mean {close[0]}?" if close else ""
