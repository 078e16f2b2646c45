"""The program: reads its words, asks, prints; errors go to standard error, a line for each host.

It exits with 0; with 1 if something failed on some host; with 2 if the command line is none; with 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from kvm.cli.arguments import Invocation, UsageError, parsed
from kvm.cli.ending import Asked, EndedError, by_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kvm.cli.calls import Watch
    from kvm.cli.hosts import Target
    from kvm.hypervisor import Hypervisor


def run(words: list[str]) -> int:
    """Do what the words of a command line ask for; the exit status."""
    if words[:1] == ["--complete"]:
        from kvm.cli.completion import complete

        return complete(words[1:])
    try:
        return _flushed(_do(parsed(words)))
    except UsageError as error:
        return _complain(f"kvmctl: {error}", 2)
    except EndedError as error:
        return error.status
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _complain(message: str, status: int) -> int:
    if message:
        sys.stderr.write(f"{message}\n")
    return status


def _flushed(status: int) -> int:
    sys.stdout.flush()
    return status


def _write(text: str) -> None:
    sys.stdout.flush()
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(1, data) :]


def _do(asked: Invocation) -> int:
    if "version" in asked.flags:
        import kvm

        _write(f"{kvm.__version__}\n")
    elif asked.completion is not None:
        from kvm.cli.completion import script

        _write(script(asked.completion))
    elif "help" in asked.flags or not asked.command:
        from kvm.cli.manual import page

        _write(page(asked.command))
        return 0 if "help" in asked.flags else 2
    else:
        return _command(asked)
    return 0


def _command(asked: Invocation) -> int:
    if asked.command == "top":
        from kvm.cli.top import run as run_top

        with Asked(by_exception):
            return run_top(asked)
    from kvm.cli.quick import NotQuickError, Quick, may_be_quick

    if may_be_quick(asked) and not (asked.output == "table" and _prints_xml(asked)):
        try:
            with Quick(asked) as quick:
                _print(asked, quick.value(), told_apart=False)
        except NotQuickError:
            return _on_hosts(asked)
        return 0
    return _on_hosts(asked)


def _prints_xml(asked: Invocation) -> bool:
    from kvm.cli.calls import prints_xml

    return prints_xml(asked)


def _on_hosts(asked: Invocation) -> int:
    from kvm.cli import calls, hosts

    found, told_apart = hosts.targets(asked)
    names = [target.name for target in found]
    if "dry-run" in asked.flags:
        return _dry_run(asked, names)
    _confirm(asked, names)
    takes_terminal = calls.wants_terminal(asked) or asked.command.endswith("edit")
    if told_apart and len(found) > 1 and takes_terminal:
        raise UsageError(f"{asked.command} takes the terminal, so it is for one host")
    answers = _Answers(told_apart=told_apart)
    with Asked(by_exception):  # a terminal that shows nothing of a password shows again what is typed
        calls.prepare(asked)
        if takes_terminal:
            answers.take(names[0], hosts.on_one(found[0], lambda _, hypervisor: _value(hypervisor, asked)))
    try:
        if not takes_terminal:
            _on_all(asked, found, answers)
    except EndedError:
        if answers.are_there:  # what jobs have come to is told in any case
            answers.printed(asked, names)
        raise
    return answers.printed(asked, names)


def _on_all(asked: Invocation, found: list[Target], answers: _Answers) -> None:
    """Ask all hosts at once, and show how far they are if that takes long."""
    from kvm.cli import calls, hosts, progress

    takes = calls.watched(asked)
    work = hosts.Calls(found, jobs="cancel" in takes)
    names = [target.name for target in found]
    is_verbose = calls.is_verbose(asked)
    with progress.shown(asked.title, names, verbose=is_verbose) if "progress" in takes else progress.Shown() as shown:
        answers.complain = shown.print
        watches = {name: calls.Watch(takes, name, shown, work.cancelled) for name in names}
        for name, answer in work.run(lambda target, hypervisor: _value(hypervisor, asked, watches[target.name])):
            is_job = takes and watches[name].has_begun
            if is_job or not work.cancelled.is_set():  # how a job has ended is to be told in any case
                answers.take(name, answer)


class _Answers:
    """What the hosts have answered; who has failed is told at once."""

    def __init__(self, *, told_apart: bool) -> None:
        self._told_apart = told_apart
        self._status = 0
        self._values: dict[str, object] = {}
        self.complain: Callable[[str], object] = lambda line: sys.stderr.write(f"{line}\n")

    def take(self, name: str, value: object) -> None:
        """Take the value of a host, or its exception."""
        from kvm.errors import KvmError
        from unix.errors import UnixError

        if isinstance(value, BrokenPipeError) or (
            isinstance(value, Exception) and not isinstance(value, KvmError | UnixError | OSError)
        ):
            raise value
        who = name if self._told_apart else "kvmctl"
        if isinstance(value, Exception):
            self._status = 1
            self.complain(f"{who}: {_said(value)}")
        elif isinstance(value, _Ended):
            self._status = max(self._status, value.status)
            for line in value.said.splitlines():
                self.complain(f"{who}: {line}")
            self._values.update((name, each) for each in value.values)
        else:
            self._values[name] = value

    @property
    def are_there(self) -> bool:
        return bool(self._values)

    def printed(self, asked: Invocation, names: list[str]) -> int:
        """Print the values, in the order of the hosts; the exit status."""
        values = {name: self._values[name] for name in names if name in self._values}
        if asked.output == "raw":
            for name, value in values.items():
                self._status = max(self._status, _print_raw(value, name if self._told_apart else ""))
        elif self._told_apart:
            if values or asked.output != "table":
                _print(asked, values, told_apart=True)
        elif values:
            _print(asked, next(iter(values.values())), told_apart=False)
        return self._status


class _Ended:
    """A command that has ended: 1 if it failed, what it has said, and its value unless that is printed already."""

    def __init__(self, return_code: int, said: str = "", *values: object) -> None:
        self.status = int(return_code != 0)
        self.said = said
        self.values = values


def _value(hypervisor: Hypervisor, asked: Invocation, watch: Watch | None = None) -> object:
    from kvm.cli import calls

    if asked.command == "qemu-img":
        from kvm.cli import images

        return _Ended(*images.answer(hypervisor, asked, watch))
    calls.begin(hypervisor, asked)
    if calls.wants_terminal(asked) or calls.streams(hypervisor, asked):
        return _Ended(calls.interactive(hypervisor, asked))
    if asked.output == "raw" and asked.command != "screenshot":
        return calls.raw(hypervisor, asked)
    if asked.output == "table" and calls.prints_xml(asked):
        return _succeeded(asked, calls.raw(hypervisor, asked))
    value = calls.value_of(hypervisor, asked, watch)
    if hasattr(value, "__next__"):
        return _Ended(_stream(asked, value))
    return value


def _stream(asked: Invocation, values: object) -> int:
    """Print values as they come, each on a line."""
    from kvm.cli import render

    for value in values:  # type: ignore[attr-defined]
        shown = render.plain(value) if asked.output == "table" else None
        _write(f"{render.cell(shown)}\n" if shown else render.to_json(value, on_one_line=True))
    return 0


def _succeeded(asked: Invocation, result: object) -> object:
    from typing import cast

    from kvm.cli.calls import command_words
    from kvm.virsh.command import failure
    from unix.result import Result

    if not cast(Result, result).status:
        raise failure(command_words(asked), cast(Result, result))
    return result


def _said(error: BaseException) -> str:
    """An error on one line, with what became known of it later."""
    said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    told = (said or type(error).__name__, *getattr(error, "__notes__", ()))
    return " ".join("; ".join(told).split())


def _print_raw(value: object, name: str) -> int:
    """What virsh has printed, where it prints it, and whether it failed."""
    from typing import cast

    from unix.result import Result

    status, stdout, stderr = cast(Result, value)
    prefix = f"{name}: " if name else ""
    _write("".join(f"{prefix}{line}" for line in stdout.splitlines(keepends=True)))
    sys.stderr.write("".join(f"{prefix}{line}" for line in stderr.splitlines(keepends=True)))
    return int(not status)


def _print(asked: Invocation, value: object, *, told_apart: bool) -> None:
    from kvm.cli import render

    if asked.output == "json":
        _write(render.to_json(value))
    elif asked.output == "yaml":
        _write(render.to_yaml(value))
    elif asked.options.get("name") is True and isinstance(value, dict) and not told_apart:
        _write("".join(f"{name}\n" for name in value))  # names and nothing else, as virsh has them
    elif asked.options.get("plain") and isinstance(value, bytes):
        os.write(1, value)
    else:
        _write(render.to_table(value, render.Screen.of_stdout(), host=told_apart))


def _dry_run(asked: Invocation, names: list[str]) -> int:
    """Print the commands, for a shell to read, with secrets masked."""
    import shlex

    from kvm.cli.calls import command_line, command_words
    from kvm.redaction import masked_words

    words = command_line(asked)
    own = 0 if asked.command == "qemu-img" else len(words) - len(command_words(asked))  # virsh's own options
    line = shlex.join([*masked_words(words[:own]), *masked_words(words[own:])])
    for name in names:
        _write(f"{name}: {line}\n" if name else f"{line}\n")
    return 0


def _confirm(asked: Invocation, names: list[str]) -> None:
    """Ask before something is destroyed on several hosts. `UsageError` if nobody says yes."""
    from kvm.cli.calls import is_destructive

    if len(names) < 2 or "yes" in asked.flags or not is_destructive(asked):
        return
    what = f"{asked.title} on {len(names)} hosts"
    if not sys.stdin.isatty():
        raise UsageError(f"{what} is to be confirmed: --yes")
    sys.stderr.write(f"{what} ({', '.join(names)})? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(f"{what} was not confirmed, so nothing was done")
