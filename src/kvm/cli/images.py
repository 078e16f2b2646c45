"""``kvmctl qemu-img``: qemu-img's own command line, on the hosts of the hypervisors.

Its words go there as they are. What is added: ``--output=json``, where that makes a value of what qemu-img prints, and
``-p``, where somebody wants to see how far it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from kvm.cli.arguments import Invocation

if TYPE_CHECKING:
    from kvm.cli.calls import Watch
    from kvm.hypervisor import Hypervisor

_CHANGES = {
    "amend": "", "bench": r"-[nqU]*w|--w", "bitmap": "", "check": r"-[qU]*r|--r", "commit": "", "convert": "",
    "create": "", "dd": "", "rebase": "", "resize": "", "snapshot": r"-[lqU]*[acd]|--[acd]",
}  # fmt: skip
"""The subcommands that change images: with which of their options, or with any."""

_TELLS = {"amend", "commit", "compare", "convert", "rebase"}
"""The subcommands that tell how far they are."""

_JSON = {"check", "info", "map", "measure"}
"""The subcommands that print JSON when they are told to."""

_ANSWERS = {"check": (0, 2, 3), "compare": (0, 1)}
"""The exit statuses that are answers, where others than 0 are."""

SUBCOMMANDS = sorted({*_CHANGES, *_TELLS, *_JSON})

_FLAGS = "[CUWcdnpqsu]"
"""Letters of options without a value, which may stand together, of the subcommands that tell how far they are."""


def _words(asked: Invocation) -> list[str]:
    return cast(list[str], asked.options["subcommand"])


def _has(words: list[str], option: str) -> bool:
    """Whether an option is among the words; a pattern for how it begins."""
    ends = words.index("--") if "--" in words else len(words)
    return any(re.match(option, word) for word in words[:ends])


def _is_value(asked: Invocation) -> bool:
    """Whether what it prints is to become a value."""
    subcommand, *rest = _words(asked)
    return subcommand in _JSON and asked.output != "raw" and not _has(rest, "--ou")


def command_line(asked: Invocation) -> list[str]:
    """The words to run."""
    subcommand, *rest = _words(asked)
    return ["qemu-img", subcommand, *(["--output=json"] if _is_value(asked) else []), *rest]


def changes(asked: Invocation) -> bool:
    """Whether it may change an image."""
    words = _words(asked)
    among = words if words[0].startswith("-") else words[:1]  # qemu-img has a few options before its subcommands
    return any(_has(words, _CHANGES[each]) for each in among if each in _CHANGES)


def is_verbose(asked: Invocation) -> bool:
    """Whether it is told to say how far it is."""
    return _has(_words(asked)[1:], f"-{_FLAGS}*p|--pro")


def watched(asked: Invocation) -> frozenset[str]:
    """Which of ``progress`` and ``cancel`` it is given: what only takes a look just ends."""
    subcommand, *rest = _words(asked)
    if subcommand in _TELLS:
        return frozenset({"cancel"} if _has(rest, f"-{_FLAGS}*q|--q") else {"progress", "cancel"})
    return frozenset({"cancel"} if changes(asked) else ())


def answer(hypervisor: Hypervisor, asked: Invocation, watch: Watch | None) -> tuple[int, str, object]:
    """The exit status, what was said on standard error beside that, and the value: a Result if it is only text."""
    from kvm.errors import KvmError
    from kvm.groups.image.errors import failure
    from kvm.groups.image.job import Job
    from kvm.groups.image.options import ConvertOptions

    _, subcommand, *rest = command_line(asked)
    given = watch.keywords(hypervisor, asked.command, asked.options) if watch else {}
    job = Job(subcommand, ConvertOptions, given, None, extra=rest)  # of the options only who watches is given
    doubt = "; what it was writing may not be complete" if changes(asked) else ""
    result = job.run(hypervisor.host, doubt)
    if isinstance(result, KvmError):
        raise result
    if asked.output == "raw":
        return result.return_code, "", result
    is_answer = result.return_code in _ANSWERS.get(subcommand, (0,))
    if not is_answer or (subcommand == "compare" and result.return_code and result.stderr):
        raise failure(job, result, doubt)
    return result.return_code, result.stderr, _read(subcommand, result.stdout) if _is_value(asked) else result


def _read(subcommand: str, output: str) -> object:
    """The value that qemu-img has printed, as that of a method is; where it has explained itself instead, its text."""
    from kvm.groups.image import outputs
    from unix.result import Result

    if output[:1] not in ("{", "["):
        return Result(0, output, "")
    if subcommand == "info":
        return outputs.infos(output) if output[0] == "[" else outputs.info(output)
    return {"check": outputs.check, "map": outputs.extents, "measure": outputs.measure}[subcommand](output)
