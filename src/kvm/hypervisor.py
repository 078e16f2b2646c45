"""A hypervisor: a host, the URI of its libvirt, and the groups of virsh's commands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import unix
from kvm import redaction
from kvm.cached import cached_property
from kvm.errors import InvalidArgumentError
from kvm.groups.groups import Groups
from unix.controls import Deadline, is_bool
from unix.words import command_line

if TYPE_CHECKING:
    from kvm.events import Events, Reader
    from kvm.groups.image import Image
    from kvm.pipeline import Pipeline
    from kvm.virsh.command import Command
    from kvm.virsh.plan import Plan
    from kvm.virsh.runner import Runner
    from unix.process import Process

T = TypeVar("T")
D = TypeVar("D")

_KNOWN = {"parse": unix.Control(False, is_bool, "True or False")}

_LEAST = 5.0
"""The least time of a request, in seconds, near a method's own deadline, unless the control ``timeout`` is less."""

CONTROLS: Mapping[str, object] = MappingProxyType({name: control.default for name, control in _KNOWN.items()})
"""The controls that a Hypervisor adds to its host's, and their defaults.

``parse``: whether `Hypervisor.virsh` returns the lines of the output or raises, instead of returning a Result.
"""


class Controls(unix.Controls, total=False):
    """The controls of a Hypervisor: its host's, and ``parse``."""

    parse: bool


class Hypervisor(unix.Wrapper, Groups):
    """The hypervisor on `host`, a `unix.Local` or anything else that is a `unix.Host`.

    `uri` is libvirt's connection URI, as ``'qemu:///system'``; without one virsh takes its own default. With
    ``check=False`` an action that fails returns its `unix.Result` instead of raising.

    Everything that the host can do (`execute`, `open`, `set_controls`, ...) can be asked of the Hypervisor. It is a
    context manager, may be used from several threads, and pickles. Nothing runs before the first command; then a live
    virsh answers one command after the other. At most `sessions` virshes run at once, for as many threads and for
    pipelines of many calls that only read; one that is not used for `idle` seconds ends.
    """

    known_controls = _KNOWN

    def __init__(
        self, host: unix.Host, uri: str | None = None, *, check: bool = True, sessions: int = 4, idle: float = 60
    ) -> None:
        if not isinstance(host, unix.Host):
            raise TypeError(f"host must be a unix.Host such as unix.Local(), not {host!r}")
        if uri is not None and (not isinstance(uri, str) or not uri or "\0" in uri):
            raise InvalidArgumentError("a connection URI must be a text such as 'qemu:///system', without a NUL byte")
        if uri is not None and redaction.secrets([uri]):
            raise InvalidArgumentError(
                f"a connection URI must not hold a password ({redaction.masked(uri)}); put it into libvirt's auth.conf"
            )
        super().__init__(host)
        self.uri = uri
        self._check = check
        self._sessions = sessions
        self._idle = idle

    def __repr__(self) -> str:
        return f"Hypervisor({self.host!r}, {self.uri!r})"

    def __getstate__(self) -> dict[str, object]:
        state = super().__getstate__().items()
        return {
            name: value for name, value in state if not isinstance(getattr(type(self), name, None), cached_property)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start a live virsh now, so that the first command does not have to wait for it."""
        self._virsh.start()

    def close(self) -> None:
        """End the live virshes; the next command starts one. What a ``test:`` hypervisor was is gone then."""
        if "_virsh" in vars(self):
            self._virsh.close()

    @cached_property
    def _virsh(self) -> Runner:
        """What runs the commands; made for the first of them, and only once: it may have a hypervisor in it."""
        from kvm.virsh.runner import Runner

        return Runner(self.host, self.uri, sessions=self._sessions, idle=self._idle)

    @cached_property
    def image(self) -> Image:
        """Disk images on the host, by qemu-img."""
        from kvm.groups.image import Image

        return Image(self.host, check=self._check)

    @property
    def check(self) -> bool:
        """Whether an action that fails raises; otherwise it returns its Result."""
        return self._check

    def virsh(self, command: str, *args: unix.Argument, **kwargs: unix.Option) -> unix.Result | list[str]:
        """Run any command of virsh; options come after the arguments.

        `command`, `args` and `kwargs` are what `unix.Host.execute` takes: ``hv.virsh('list', all=True)`` runs
        ``virsh list --all``. Arguments are passed verbatim, so one that begins with ``--`` is an option to virsh.

        Returns a `unix.Result`; under the control ``parse`` the lines of standard output, or raises `KvmError`.
        """
        from kvm import text
        from kvm.virsh.command import concealed, failure

        try:
            words = command_line(command, args, kwargs, options_place="after")
        except unix.ArgumentError as error:
            raise InvalidArgumentError(f"virsh: {error}") from error
        result = self._virsh.run_words(words)
        if not self.get_control("parse"):
            return concealed(result, redaction.secrets(words))
        if not result.status:
            raise failure(words, result)
        return text.lines(result.stdout)

    def call(self, plan: Plan[T]) -> T:
        """Carry out what a method of a group has described."""
        try:
            commands = next(plan)
            while True:
                commands = plan.send(self._virsh.run(commands))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            plan.close()

    @contextmanager
    def bounded(self, timeout: float | None, default: float = math.inf) -> Iterator[Deadline]:
        """Limit all requests in a block by one deadline, see `Caller.bounded`."""
        limit = self.time_limit() or math.inf
        deadline = Deadline(min(default, limit) if timeout is None else timeout, min(limit, _LEAST))
        with self.set_controls(timeout=deadline):
            yield deadline

    def listen(
        self, command: Command, reader: Reader[D], names: Command, *, timeout: float | None, loop: bool
    ) -> Events[D]:
        """Carry out what a method of a group has described as a command that goes on, and what reads what it prints."""
        from kvm import text
        from kvm.events import Events
        from kvm.virsh.plan import reading, resolved

        stream = self._virsh.stream(self.call(resolved(command)), reader)
        return Events(stream, reader, lambda: self.call(reading(names, text.lines)), timeout=timeout, loop=loop)

    def interact(self, command: Command) -> unix.Result:
        """Run a command that takes over this program's terminal."""
        from kvm.virsh.plan import resolved

        return self.interact_words(self.call(resolved(command)).words())

    def interact_words(self, words: Sequence[str]) -> unix.Result:
        """Run the words of any command of virsh with this program's terminal."""
        return self._virsh.interact(words)

    def on_terminal(self, command: Command, *options: str, mark: str) -> Process:
        """Start a command on a terminal of its own; `options` are virsh's own, before the command.

        Its standard error goes to the terminal as well, with a `mark` before each line.
        """
        from kvm.virsh.plan import resolved

        return self._virsh.on_terminal(self.call(resolved(command)), options, mark)

    def pipeline(self) -> Pipeline:
        """Something that records calls of the same groups and methods, and carries them out all at once."""
        from kvm.pipeline import Pipeline

        return Pipeline(self._virsh.run, check=self._check)

    def set_controls(self, **controls: Unpack[Controls]) -> AbstractContextManager[None]:
        """Set controls, this object's or its host's, for the duration of a block, in this thread or task only."""
        return self._controls.changed(controls)
