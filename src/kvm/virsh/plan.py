"""What to ask virsh and what to make of its answers, without asking.

A plan is a generator: it yields commands, all that it can ask at once, is sent their results, and returns its value.
So one body of knowledge serves whoever does the asking: a process for each command, one live virsh, a pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar, cast

from kvm import table, text, xml
from kvm.errors import ChangedMeanwhileError, InvalidStateError, KvmError, NotFoundError, UnreadableOutputError
from kvm.values import Outcome
from kvm.virsh import manners
from kvm.virsh.command import Command, concealed, failure
from unix.result import Result

T = TypeVar("T")
V = TypeVar("V")

Plan = Generator[tuple[Command, ...], tuple[Result, ...], T]


ATTEMPTS = 10
"""The most attempts to read all objects, if one of them disappears during each."""


class Lookup(tuple[Command, ...]):
    """Commands whose results decide what is asked next; what was asked later must not come in between."""


def reading(command: Command, parse: Callable[[str], T]) -> Plan[T]:
    """One command that reads; the value is what `parse` makes of its output."""
    command = yield from resolved(command)
    (result,) = yield (command,)
    return parse(checked(command, result).stdout)


def reading_all(command: Command, parse: Callable[[str], T]) -> Plan[T]:
    """Read a command about all objects; repeat it if it fails because one of them has disappeared."""
    for _ in range(ATTEMPTS):
        (result,) = yield (command,)
        if not is_gone(command, result):
            break
    return parse(checked(command, result).stdout)


def is_gone(command: Command, result: Result) -> bool:
    """Return whether a command about many objects may have failed because one of them has disappeared or stopped."""
    if result.status:
        return False
    error = failure(command.words(), result)
    return isinstance(error, NotFoundError | InvalidStateError) or type(error) is KvmError  # not in English


def acting(command: Command, *, check: bool) -> Plan[Result]:
    """One command that acts; the value is its result. A failure raises, unless not `check`."""
    try:
        command = yield from resolved(command)
    except NotFoundError as error:
        if check:
            raise
        return Result(1, "", f"error: {error}\n")
    (result,) = yield (command,)
    if check:
        checked(command, result)
    else:
        _log_comments(command, result)
    return concealed(result, command.secrets()) if result.stderr or not result.status else result


def telling(command: Command, kind: Callable[[str], V], *, check: bool) -> Plan[Outcome[V]]:
    """One command that acts, and as a `kind` what it has told."""
    result = yield from acting(command, check=check)
    found = re.fullmatch(manners.TELLS[command.name], result.stdout, re.DOTALL) if result.status else None
    return Outcome(result, kind(found[1]) if found else None)


def after(before: Plan[None], plan: Plan[T]) -> Plan[T]:
    """`plan`, once what it needs has been found out."""
    yield from before
    return (yield from plan)


def listing(rows: Command, names: Command, shape: type[T]) -> Plan[dict[str, T]]:
    """A table by name, as TypedDicts `shape`; `names` is the command that prints the exact names, a line each."""
    listed: dict[str, T] = {}
    for _ in range(ATTEMPTS):
        printed, exact = yield (rows, names)
        if is_gone(rows, printed):
            continue
        wanted = text.lines(checked(names, exact).stdout)
        listed = table.by_name(shape, checked(rows, printed).stdout, wanted)
        if listed.keys() == set(wanted):  # otherwise one came or went in between
            break
    checked(rows, printed)
    return listed


def answering(command: Command, parse: Callable[[str], T]) -> Plan[T]:
    """A command that answers a question: to virsh, "no" is a failure, but one that it says no error about."""
    (result,) = yield (command,)
    try:
        return parse(result.stdout)
    except UnreadableOutputError:
        checked(command, result)
        raise


def before_others(plan: Plan[T]) -> Plan[T]:
    """`plan`, before whose end nothing is asked that could change what is asked about it next."""
    commands = next(plan)
    while True:
        results = yield Lookup(commands)
        try:
            commands = plan.send(results)
        except StopIteration as end:
            return cast(T, end.value)


def each_left(commands: Mapping[str, Command], parse: Callable[[str], T]) -> Plan[dict[str, T]]:
    """What `parse` makes of the output of each command, without those that ask for what has gone in between."""
    results = (yield tuple(commands.values())) if commands else ()
    told: dict[str, T] = {}
    for (name, command), result in zip(commands.items(), results, strict=True):
        with suppress(NotFoundError):
            told[name] = parse(checked(command, result).stdout)
    return told


def editing(
    tag: str,
    read: Command,
    define: Callable[[bytes], Command],
    function: xml.Editor,
    *,
    alone: AbstractContextManager[object],
    check: bool,
    validate: bool = True,
) -> Plan[Result]:
    """Change the document that `read` prints by `function`, and run the command that `define` makes of it.

    With `validate`, names that libvirt does not know are refused.
    """

    def write(told: str, wanted: object) -> Command:
        return define(xml.revised(told, tag, wanted, validate=validate))

    if isinstance(function, xml.TextEditor):
        return revising(f"<{tag}>", read, printed, xml.printed_text, write, function.edit, alone=alone, check=check)
    return revising(f"<{tag}>", read, printed, xml.conf, write, function, alone=alone, check=check)


def revising(
    what: str,
    read: Command,
    part: Callable[[Command, Result], Plan[str]],
    parse: Callable[[str], V],
    write: Callable[[str, Any], Command],
    function: Callable[[V], object],
    *,
    alone: AbstractContextManager[object],
    check: bool,
) -> Plan[Result]:
    """Change a `part` of what `read` prints, parsed by `parse`, by `function`.

    `write` makes the command that sets it, from that part and the changed value.

    Before that command, it is read again, so that a change by another program is not overwritten. The second reading
    and the command run within `alone`.
    """
    read = yield from resolved(read)
    (first,) = yield Lookup((read,))
    told = yield from part(read, first)
    before, value = parse(told), parse(told)
    wanted = function(value)
    if wanted is None:
        wanted = value
    if wanted == before:
        return Result(0, f"{what} is unchanged\n", "")
    change = write(told, wanted)
    with alone:
        (again,) = yield Lookup((read,))
        if (yield from part(read, again)) != told:
            words = " ".join(word for word in read.words() if not word.startswith("--") or "=" in word)
            raise ChangedMeanwhileError(
                f"{words}: another program has changed this {what} in the meantime, so the edit was not written; "
                "edit it again",
                command=read.words(),
            )
        return (yield from acting(change, check=check))


def printed(command: Command, result: Result) -> Plan[str]:
    """Return the output of a command, if it succeeded, without another request."""
    yield from ()
    return checked(command, result).stdout


def completing(*words: str, most_lines: int) -> Plan[list[str]]:
    """Texts of which some are all the names that virsh itself completes the last of the `words` of a command to.

    These are exact where a table is not. virsh quotes them as a shell (7.0) or itself (9.0) wants them, and ends each
    with a newline, of which names may have some, so one is of `most_lines`: whoever asks is to look which there are.
    """
    (result,) = yield Lookup((Command("complete", {"string": words}),))
    pieces = result.stdout.split("\n")
    found = ["\n".join(pieces[at : at + many]) for many in range(1, most_lines + 1) for at in range(len(pieces))]
    plain = [each.replace("\\ ", " ") for each in found]
    quoted = [each[1:-1].replace("'\\''", "'") for each in found if re.fullmatch("'.*'", each, re.DOTALL)]
    return [*dict.fromkeys([*found, *plain, *quoted])]


def checked(command: Command, result: Result) -> Result:
    """`result`, if the command succeeded; otherwise its error is raised."""
    if not result.status:
        error = failure(command.words(), result)
        error.conceal(command.secrets())
        raise error
    _log_comments(command, result)
    return result


def _log_comments(command: Command, result: Result) -> None:
    """Log errors of a command that has succeeded, such as a disk that `undefine` did not remove."""
    if result.stderr and (lines := manners.comments(concealed(result, command.secrets()))):
        from unix.log import warn

        warn("kvm", "virsh %s: %s", command.name, "; ".join(lines))


def resolved(command: Command) -> Plan[Command]:
    """`command`, with its domains told by their UUIDs where virsh would take a name for an id or an id for a name.

    For virsh a number is an id if there is one, and otherwise a name. Here an int is an id, and a str is a name or a
    UUID, never an id.
    """
    given = command.options.get("domain", ())
    domains = [_domain(command, each) for each in (given if isinstance(given, list | tuple) else [given])]
    if not any(_is_ambiguous(domain) for domain in domains):
        return command
    listing = Command("list", {"all": True, "uuid": True, "id": True, "name": True})
    (result,) = yield Lookup((listing,))
    told: dict[str | int, str] = {}
    for uuid, number, name in text.domains(checked(listing, result).stdout):
        told |= {name: uuid} if number is None else {name: uuid, number: uuid}
    for domain in domains:
        if _is_ambiguous(domain) and domain not in told:
            which = (
                f"with the id {domain}" if isinstance(domain, int) else f"named {domain!r} (an id is given as an int)"
            )
            raise NotFoundError(f"virsh {command.name}: there is no domain {which}", command=command.words())
    clear = [told[domain] if _is_ambiguous(domain) else domain for domain in domains]
    options = {**command.options, "domain": clear if isinstance(given, list | tuple) else clear[0]}
    return Command(command.name, options, reads=command.reads, job=command.job)


def _domain(command: Command, given: object) -> str | int:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise TypeError(
            f"virsh {command.name}: a domain is a name or UUID (a str) or an id (an int), not {type(given).__name__}"
        )
    return given


def _is_ambiguous(domain: str | int) -> bool:
    """Whether virsh could take a domain for another one."""
    return isinstance(domain, int) or re.fullmatch(r"[ \t-\r]*[+-]?[0-9]+", domain) is not None
