"""A command of virsh as a value, and the words that it becomes. Pure.

Every argument is written with its option's name, ``--domain=web1``: a value can then never be taken for an option,
whatever it begins with. (What is typed shorter at the prompt, `kvm.virsh.prompt` says.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from kvm import errors, redaction
from kvm.errors import InvalidArgumentError, KvmError, NotSupportedError
from kvm.units import converted
from kvm.values import Quantity
from kvm.virsh import units
from kvm.virsh.commands_generated import COMMANDS
from unix.result import Result

if TYPE_CHECKING:
    from kvm.virsh.jobs import Job
    from kvm.virsh.transfer import Transfer

STDIN = "/dev/stdin"
"""Where a virsh in a process of its own finds the XML that it is given."""


_UNLISTED = {"complete": "7.0.0 string"}
"""Commands that virsh's help does not list."""


@cache
def known_options(command: str) -> dict[str, str]:
    """The options of `command`, and the first release of virsh that has each."""
    since, *options = (COMMANDS.get(command) or _UNLISTED[command]).split()
    return {name: later or since for name, _, later in (option.partition("@") for option in options)}


class Command:
    """One command: its name, its options (arguments included) by their names in Python, and whether it only reads.

    One that is a `job` may be long, and be aborted.

    The value of an option is True for a flag, False or None for none, text, a number or a path, a list of these for
    an option that repeats, bytes for the content of a file that virsh shall read, and a Transfer for one that
    nobody has in memory.
    """

    __slots__ = ("job", "name", "options", "reads")

    def __init__(self, name: str, options: Mapping[str, object], *, reads: bool = True, job: Job | None = None) -> None:
        self.name = name
        self.options = options
        self.reads = reads
        self.job = job

    def words(self) -> list[str]:
        """The words of the command line. `TypeError` for an option that the command does not have."""
        words, known = [self.name], known_options(self.name)
        for name, value in self.options.items():
            option = name.removesuffix("_").replace("_", "-")
            if option not in known:
                hint = _suggestion(name, [each.replace("-", "_") for each in known])
                raise TypeError(f"virsh {self.name} has no option {name!r}{hint}")
            for one in value if isinstance(value, list | tuple) else (value,):
                if one is True:
                    words.append(f"--{option}")
                elif one is not None and one is not False:
                    words.append(f"--{option}={_word(self.name, option, one)}")
        return words

    def contents(self) -> list[bytes]:
        """What virsh shall find in files: the first on standard input, where `words` has it look for each."""
        return [value for value in self.options.values() if isinstance(value, bytes)]

    def secrets(self) -> list[str]:
        """Return the secrets in its words, and in the files that virsh reads."""
        texts = [content.decode("utf-8", "surrogateescape") for content in self.contents()]
        return [*redaction.secrets(self.words()), *redaction.secrets_in_files(self.name, texts)]

    def transfer(self) -> Transfer | None:
        """What is transferred, if the command does that."""
        from kvm.virsh.transfer import Transfer

        return next((value for value in self.options.values() if isinstance(value, Transfer)), None)


def _word(command: str, option: str, value: object) -> str:
    if isinstance(value, bytes):
        return STDIN
    if isinstance(value, str | int | float) and (unit := units.unit_of(command, option)):
        return units.word(command, option, value, unit)
    if isinstance(value, Quantity):
        return str(converted(f"virsh {command}: --{option}", value, None))
    if not isinstance(value, str | int | float | os.PathLike):
        from kvm.virsh.transfer import Transfer

        if isinstance(value, Transfer):
            return value.place
        raise TypeError(f"virsh {command}: --{option} takes text, a number or a path, not {type(value).__name__}")
    try:
        text = os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)
    except ValueError:
        raise InvalidArgumentError(f"virsh {command}: --{option} cannot hold thousands of digits") from None
    if "\0" in text:
        raise InvalidArgumentError(f"virsh {command}: --{option} cannot hold a NUL byte, as at {text.index(chr(0))}")
    return text


def concealed(result: Result, secrets: Sequence[str]) -> Result:
    """Return `result` with secrets masked in its stderr, and, if it failed, in its stdout."""
    stdout = result.stdout if result.status else redaction.masked(result.stdout, secrets)
    stderr = redaction.masked(result.stderr, secrets)
    return Result(result.return_code, stdout, stderr, outcome_unknown=result.outcome_unknown)


def failure(words: Sequence[str], result: Result) -> KvmError:
    """The error that a failed command means, be it virsh that does not know the words or libvirt that refuses."""
    first = result.stderr.partition("\n")[0]
    if re.match(r"error: (unknown command: |command '.*' doesn't support option )", first):
        error = _unknown_to_this_virsh(words)
        error.return_code = result.return_code
    else:  # a job that was aborted says so on standard output
        said = result.stderr if result.stderr.strip() else result.stdout
        error = errors.from_stderr(words, said, result.return_code)
    error.stderr = result.stderr
    error.command = words  # the setter masks secrets
    error.outcome_unknown = result.outcome_unknown
    return error


def _unknown_to_this_virsh(words: Sequence[str]) -> KvmError:
    """What to say of a command or an option that virsh has refused: is it wrong, or is virsh too old for it?"""
    name, *rest = words
    if name not in COMMANDS:
        return InvalidArgumentError(f"virsh has no command {name!r}{_suggestion(name, COMMANDS)}")
    known, since = known_options(name), COMMANDS[name].partition(" ")[0]
    options = [word.removeprefix("--").partition("=")[0] for word in rest if word.startswith("--")]
    if wrong := [option for option in options if option not in known]:
        return InvalidArgumentError(f"virsh {name} has no option --{wrong[0]}{_suggestion(wrong[0], known)}")
    newest = max((since, *(known[option] for option in options)), key=_release)
    lacking = [f"--{option}" for option in options if known[option] == newest]
    what = f"the command {name!r}" if since == newest else f"the option {', '.join(lacking)} of {name!r}"
    return NotSupportedError(f"this virsh is too old for {what}; virsh {newest} has it")


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(wrong, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
