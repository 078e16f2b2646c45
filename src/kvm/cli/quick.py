"""The short way: what only reads, on this machine, and goes as it should.

A program that is typed has its whole life to load what it needs, and virsh as long to start. Here both happen at the
same time, and of all that a Hypervisor is there is only what one question needs: a virsh at its prompt, and the class
of the method. Whatever is not as expected (it is no reading command, virsh cannot connect, fails, or is not there) ends
in `NotQuickError`; nothing has been changed by then, and the long way, `kvm.cli.hosts`, tells what is wrong.
"""

from __future__ import annotations

import os

from kvm.cli.arguments import Invocation, method_of, reader_of
from kvm.cli.ending import SIGTERM, Asked, Held, at_once
from kvm.virsh.environment import AT_THE_PROMPT, EVERY_VIRSH

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from kvm.virsh.command import Command
    from kvm.virsh.plan import Plan
    from unix.result import Result

    T = TypeVar("T")

_NO_SECONDS = 2000
"""Milliseconds without a word of virsh after which the long way is taken."""


class NotQuickError(Exception):
    """The short way leads nowhere."""


def may_be_quick(asked: Invocation) -> bool:
    """Whether the short way is worth a try."""
    is_here = not (asked.hosts or asked.inventories or asked.groups or asked.ssh_config)
    uri = _uri(asked)
    # a session's daemon takes over an environment, and a name without a colon may be an alias for it
    knows_daemon = ":" in uri and "/session" not in uri if uri else os.geteuid() == 0
    names_domain = isinstance(asked.options.get("domain"), str) and not str(asked.options["domain"]).isdecimal()
    return (
        is_here
        and knows_daemon
        and asked.output != "raw"
        and asked.timeout is None
        and not {"dry-run", "yaml"} & asked.flags
        and reader_of(asked.command) is not None
        and ("domain" not in asked.options or names_domain)
    )


def _uri(asked: Invocation) -> str:
    return _connect(asked) or os.environ.get("LIBVIRT_DEFAULT_URI") or ""


def _connect(asked: Invocation) -> str:
    """Return the URI that virsh connects to; empty for libvirt's default."""
    return asked.connect or os.environ.get("VIRSH_DEFAULT_CONNECT_URI") or ""


class Quick:
    """A virsh that is starting, and the group that a command belongs to: what a Hypervisor is to `value_of`."""

    check = True

    def __init__(self, asked: Invocation) -> None:
        self._asked = asked
        self._pid: int | None = None
        self._in = -1
        self._asked_to_end = Asked(self._end)

    def __enter__(self) -> Quick:
        self._asked_to_end.__enter__()
        try:
            with Held():  # they find a virsh that is known, or none
                self._start()
        except BaseException:
            self._asked_to_end.__exit__()
            raise
        return self

    def _end(self, number: int) -> None:
        """End virsh, and this program."""
        self._kill()
        at_once(number)

    def _start(self) -> None:
        connect = f"--connect={_connect(self._asked)}"  # without it virsh would not connect before it prompts
        env = {**os.environ, **EVERY_VIRSH, **AT_THE_PROMPT, "LC_ALL": "C.UTF-8"}
        theirs, self._in = os.pipe()
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        moved = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate((theirs, out, err))]
        try:
            words = ["virsh", connect]
            self._pid = os.posix_spawnp("virsh", words, env, file_actions=moved, setsid=True, setsigmask=())
        except OSError as error:
            for end in (self._in, self._out, self._err):
                os.close(end)
            raise NotQuickError from error
        finally:
            for end in (theirs, out, err):
                os.close(end)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._kill()  # before its input ends, which would be an answer if libvirt asks for credentials
        if self._in >= 0:
            os.close(self._in)
        if kind is None and self._pid is not None:
            self._await()
        os.close(self._out)
        os.close(self._err)
        self._asked_to_end.__exit__()

    def _kill(self) -> None:
        if self._pid is not None:
            try:
                os.killpg(self._pid, SIGTERM)
            except ProcessLookupError:  # it has just ended
                return
            self._await()

    def _await(self) -> None:
        try:
            os.waitpid(self._pid or 0, 0)
        except ChildProcessError:  # who has started us ignores the ends of children
            return

    def value(self) -> object:
        """What the method of the command returns."""
        from kvm.cli import json, render  # noqa: F401  # while virsh starts, not after it
        from kvm.cli.calls import value_of
        from kvm.errors import KvmError
        from kvm.virsh.prompt import Conversation, new_token

        module, name = reader_of(self._asked.command) or ("", "")
        self._conversation = Conversation(new_token())
        home = __import__(f"kvm.groups.{module}", fromlist=[name])
        setattr(self, method_of(self._asked.command)[0], getattr(home, name)(self))
        try:
            value = value_of(self, self._asked)  # type: ignore[arg-type]
        except (KvmError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise NotQuickError from error
        os.close(self._in)  # virsh ends while its value is printed
        self._in = -1
        return value

    def rendered(self, render: Callable[..., str | bytes]) -> str | bytes:
        """The value as `render` writes it."""
        value = self.value()
        try:
            return render(self._asked, value, with_names=False)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise NotQuickError from error

    def call(self, plan: Plan[T]) -> T:
        """Carry out what a method has described."""
        try:
            commands = next(plan)
            while True:
                commands = plan.send(self._ask(commands))
        except StopIteration as end:
            value: T = end.value
            return value

    def _ask(self, commands: Sequence[Command]) -> tuple[Result, ...]:
        """The results of commands; all of them were successful."""
        import select

        from kvm.virsh import manners, prompt

        lines = [command.words() for command in commands]
        for command, words in zip(commands, lines, strict=True):
            goes_live = prompt.carries(words) and not manners.goes_alone(words) and words[0] not in manners.LONG
            if not command.reads or command.contents() or not goes_live:
                raise NotQuickError
        data = b"".join([self._conversation.ask(words) for words in lines])
        if len(data) > select.PIPE_BUF:  # virsh may not read all of it before it writes
            raise NotQuickError
        results: list[Result] = []
        poll = select.poll()
        for descriptor in (self._out, self._err):
            poll.register(descriptor, select.POLLIN)
        while not self._conversation.has_prompted:
            self._read(poll)
            if self._conversation.question:
                raise NotQuickError
        try:
            os.write(self._in, data)
        except OSError as error:
            raise NotQuickError from error
        while len(results) < len(commands):
            self._read(poll)
            for reply in self._conversation.replies():
                result = manners.judged(commands[len(results)].name, *reply, reads=True)
                if not result.status or result.stderr:
                    raise NotQuickError
                results.append(result)
        return tuple(results)

    def _read(self, poll: select.poll) -> None:
        """Wait for virsh's output, and read it."""
        for descriptor, _ in poll.poll(_NO_SECONDS) or [(-1, 0)]:
            data = os.read(descriptor, 1 << 20) if descriptor >= 0 else b""
            if not data:
                raise NotQuickError
            if descriptor == self._out:
                self._conversation.stdout(data)
            else:
                self._conversation.stderr(data)
