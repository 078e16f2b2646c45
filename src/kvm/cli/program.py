"""The program: reads its words, asks, prints; errors go to standard error, a line for each host.

It exits with 0; with 1 if something failed on a host; with 2 if the command line is wrong; with 3 if everything was
done but the output could not be written; with 130 after Ctrl-C.
"""

from __future__ import annotations

import sys

from kvm.cli.arguments import Invocation, UsageError, parsed
from kvm.cli.ending import Asked, EndedError, by_exception
from kvm.cli.output import OutputError, complain, write, write_bytes, write_styled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kvm.cli.calls import Watch
    from kvm.cli.hosts import Target
    from kvm.hypervisor import Hypervisor


def run(words: list[str]) -> int:
    """Do what the words of a command line ask for; the exit status."""
    try:
        if words[:1] == ["--complete"]:
            from kvm.cli.completion import complete

            return complete(words[1:])
        return _do(parsed(words))
    except UsageError as error:
        return _complain(str(error), 2)
    except EndedError as error:
        return error.status
    except OutputError as error:
        return _complain(str(error), error.status)


def _complain(message: str, status: int) -> int:
    if message:
        complain(f"kvmctl: {' '.join(message.split())}")
    return status


def _do(asked: Invocation) -> int:
    if "version" in asked.flags:
        import kvm

        write(f"{kvm.__version__}\n")
    elif asked.completion is not None:
        from kvm.cli.completion import script

        write(script(asked.completion))
    elif "help" in asked.flags or asked.command == "help":
        from kvm.cli.manual import page

        write(page(str(asked.options.get("command", "")) if asked.command == "help" else asked.command))
    elif not asked.command:
        from kvm.cli.manual import USAGE

        complain(USAGE, end="")
        return 2
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
                _print(quick.rendered(_rendered))
        except NotQuickError:
            return _on_hosts(asked)
        return 0
    return _on_hosts(asked)


def _prints_xml(asked: Invocation) -> bool:
    from kvm.cli.calls import prints_xml

    return prints_xml(asked)


def _on_hosts(asked: Invocation) -> int:
    from kvm.cli import calls, hosts

    found, with_names = hosts.targets(asked)
    names = [target.name for target in found]
    takes_terminal = calls.wants_terminal(asked) or asked.command.endswith("edit")
    calls.check(asked)
    if calls.streams(asked) and asked.output == "raw" and with_names:
        raise UsageError(f"{asked.command} -o raw is for one host; without -o raw each event has its host")
    if takes_terminal and len(found) > 1:
        raise UsageError(f"{asked.command} takes the terminal, so it is for one host")
    if "dry-run" in asked.flags:
        return _dry_run(asked, found)
    _confirm(asked, names)
    answers = _Answers(asked, names, with_names=with_names)
    with Asked(by_exception):  # a terminal that shows nothing of a password shows again what is typed
        calls.read_files(asked, len(found))
        calls.ask_for_secrets(asked)
        if takes_terminal:
            answers.take(names[0], hosts.on_one(found[0], lambda _, hypervisor: _value(hypervisor, asked)))
    try:
        if not takes_terminal:
            _on_all(asked, found, answers)
    except EndedError:
        answers.complain_of_unanswered()
        if answers.are_there:  # the values of the hosts that have answered, and the results of jobs
            answers.printed()
        raise
    return answers.printed()


def _on_all(asked: Invocation, found: list[Target], answers: _Answers) -> None:
    """Ask all hosts at once, and show how far they are if that takes long."""
    from kvm.cli import calls, hosts, progress

    takes = calls.watched(asked)
    timeout = calls.default_timeout(asked) if asked.timeout is None and len(found) > 1 else asked.timeout
    work = hosts.Calls(found, jobs="cancel" in takes, timeout=timeout)
    names = [target.name for target in found]
    is_verbose = calls.is_verbose(asked)
    with progress.shown(asked.title, names, verbose=is_verbose) if "progress" in takes else progress.Shown() as shown:
        answers.complain = shown.print
        watches = {name: calls.Watch(takes, name, shown, work.cancelled) for name in names}

        def call(target: Target, hypervisor: Hypervisor) -> object:
            host = target.name if answers.with_names else ""
            return _value(hypervisor, asked, watches[target.name], host)

        for name, answer in work.run(call):
            is_job = takes and watches[name].has_begun
            if is_job or not work.cancelled.is_set():  # how a job has ended is to be told in any case
                answers.take(name, answer)


class _Answers:
    """The values of the hosts. An error of one host is printed at once, and does not affect the others' values."""

    def __init__(self, asked: Invocation, names: list[str], *, with_names: bool) -> None:
        self.with_names = with_names
        self._asked = asked
        self._status = 0
        self._names = names
        self._unanswered = dict.fromkeys(names)
        self._values: dict[str, object] = {}
        self._are_printed = False
        self.complain: Callable[[str], object] = complain

    def take(self, name: str, value: object) -> None:
        """Take the value of a host, or its exception."""
        from kvm.cli import calls

        if isinstance(value, OutputError | UsageError):
            raise value
        self._unanswered.pop(name, None)
        if isinstance(value, Exception):
            self._fail(name, value)
        elif isinstance(value, _Ended):
            self._status = max(self._status, value.status)
            self._are_printed = self._are_printed or not value.values
            for line in value.message.splitlines():
                self._complain(name, line)
            self._values.update((name, each) for each in value.values)
        else:
            for comment in calls.comments(value) if self._asked.output != "raw" else ():
                self._complain(name, f"warning: {comment}")
            self._values[name] = value

    def _fail(self, name: str, error: Exception) -> None:
        from kvm.cli.messages import of_error

        self._status = 1
        self._complain(name, of_error(error))

    def _complain(self, name: str, line: str) -> None:
        self.complain(f"{name if self.with_names else 'kvmctl'}: {line}")

    def complain_of_unanswered(self) -> None:
        """Print the names of the hosts that will not answer any more, if there are several hosts."""
        if self._unanswered and self.with_names:
            complain(f"kvmctl: interrupted; no answer from {', '.join(self._unanswered)}")

    @property
    def are_there(self) -> bool:
        return bool(self._values)

    def printed(self) -> int:
        """Print the values, in the order of the hosts; the exit status."""
        asked = self._asked
        values = {name: self._values[name] for name in self._names if name in self._values}
        if asked.output == "raw":
            for name, value in values.items():
                self._status = max(self._status, _print_raw(value, name if self.with_names else ""))
        elif (rendered := self._rendered(values)) is not None:
            _print(rendered)
        return self._status

    def _rendered(self, values: dict[str, object]) -> str | bytes | None:
        """Render the values; a value that cannot be printed (it is nested too deeply) is an error of its host."""
        try:
            return self._rendering(values)
        except Exception:  # noqa: BLE001  # the loop below finds the host
            for name in list(values):
                try:
                    self._rendering({name: values[name]})
                except Exception as error:  # noqa: BLE001  # an error of one host is its result
                    self._fail(name, error)
                    del values[name]
        return self._rendering(values)

    def _rendering(self, values: dict[str, object]) -> str | bytes | None:
        """Render the values; None if there is nothing to print."""
        is_empty_object = self.with_names and self._asked.output != "table" and not self._are_printed
        if not values and not is_empty_object:
            return None
        if self.with_names:
            return _rendered(self._asked, values, with_names=True)
        return _rendered(self._asked, next(iter(values.values())), with_names=False)


class _Ended:
    """The end of a command: its exit status, its message, and its value unless that is printed already."""

    def __init__(self, return_code: int, message: str = "", *values: object) -> None:
        self.status = int(return_code != 0)
        self.message = message
        self.values = values


def _value(hypervisor: Hypervisor, asked: Invocation, watch: Watch | None = None, host: str = "") -> object:
    """The value of a command on one hypervisor. `host` is its name if the output has names."""
    from kvm.cli import calls

    if asked.command == "qemu-img":
        from kvm.cli import images

        return _Ended(*images.answer(hypervisor, asked, watch))
    calls.begin(hypervisor, asked)
    if calls.wants_terminal(asked):
        return _Ended(calls.interactive(hypervisor, asked))
    if calls.streams(asked) and not host:
        return _Ended(calls.interactive(hypervisor, asked))
    if asked.output == "raw" and asked.command != "screenshot":
        return calls.raw(hypervisor, asked)
    if asked.output == "table" and calls.prints_xml(asked):
        return _succeeded(asked, calls.raw(hypervisor, asked))
    value = calls.value_of(hypervisor, asked, watch)
    if hasattr(value, "__next__"):
        return _Ended(_stream(asked, value, host))
    return value


def _stream(asked: Invocation, values: object, host: str) -> int:
    """Print values as they come, each on a line, with the name of its host if there are several."""
    from kvm.cli import render

    for value in values:  # type: ignore[attr-defined]
        shown = render.plain(value)
        if asked.output == "table":
            write_styled(f"{render.cell(host)}: {render.cell(shown)}\n" if host else f"{render.cell(shown)}\n")
            continue
        named = {"host": host, **shown} if host else shown
        write_styled(render.to_json(named, on_one_line=True) if asked.output == "json" else render.document(named))
    return 0


def _succeeded(asked: Invocation, result: object) -> object:
    from typing import cast

    from kvm.cli.calls import command_words
    from kvm.virsh.command import failure
    from unix.result import Result

    if not cast(Result, result).status:
        raise failure(command_words(asked), cast(Result, result))
    return result


def _print_raw(value: object, name: str) -> int:
    """Print virsh's output, on the stream where virsh wrote it; return 1 if it failed."""
    from typing import cast

    from unix.result import Result

    status, stdout, stderr = cast(Result, value)
    prefix = f"{name}: " if name else ""
    write(_prefixed(stdout, prefix))
    complain(_prefixed(stderr, prefix), end="")
    return int(not status)


def _prefixed(text: str, prefix: str) -> str:
    """`text` with a prefix before each line. A line ends with a newline and with nothing else."""
    lines = text.split("\n")
    return "\n".join([*(f"{prefix}{line}" for line in lines[:-1]), f"{prefix}{lines[-1]}" if lines[-1] else ""])


def _rendered(asked: Invocation, value: object, *, with_names: bool) -> str | bytes:
    """Render a value in the requested format. With `with_names` it is a mapping from hosts to values."""
    from kvm.cli import render

    if asked.output == "json":
        return render.to_json(value)
    if asked.output == "yaml":
        return render.to_yaml(value)
    if asked.options.get("name") is True and isinstance(value, dict) and not with_names:
        return "".join(f"{name}\n" for name in value)  # bare names, as virsh prints them
    if asked.options.get("plain") and isinstance(value, bytes):
        return value
    return render.Styled(render.to_table(value, render.Screen.of_stdout(), host=with_names))


def _print(rendered: str | bytes) -> None:
    from kvm.cli.render import Styled

    if isinstance(rendered, bytes):
        write_bytes(rendered)
    elif isinstance(rendered, Styled):
        write_styled(rendered)
    else:
        write(rendered)


def _dry_run(asked: Invocation, found: list[Target]) -> int:
    """Print the commands, for a shell to read, with secrets masked."""
    import shlex

    from kvm.cli.calls import command_line, command_words, read_files
    from kvm.redaction import masked_words

    lines = []
    for target in found:
        words = command_line(asked, target.uri)
        own = 0 if asked.command == "qemu-img" else len(words) - len(command_words(asked))  # virsh's own options
        line = shlex.join([*masked_words(words[:own]), *masked_words(words[own:])])
        lines.append(f"{target.name}: {line}\n" if target.name else f"{line}\n")
    read_files(asked, len(found))  # a missing file is an error in a dry run as well
    write("".join(lines))
    return 0


def _confirm(asked: Invocation, names: list[str]) -> None:
    """Ask before something is destroyed on several hosts. `UsageError` if the answer is not yes."""
    from kvm.cli.calls import is_destructive

    if len(names) < 2 or "yes" in asked.flags or not is_destructive(asked):
        return
    what = f"{asked.title} on {len(names)} hosts"
    if not sys.stdin.isatty():
        raise UsageError(f"refusing to run {what} without confirmation; pass --yes")
    complain(f"{what} ({', '.join(names)})? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(f"{what} was not confirmed, so nothing was done")
