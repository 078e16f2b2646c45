"""Who carries out what the groups describe."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from unix.controls import Deadline

if TYPE_CHECKING:
    from kvm.events import Events, Reader
    from kvm.virsh.command import Command
    from kvm.virsh.plan import Plan
    from unix.process import Process
    from unix.result import Result

T = TypeVar("T")
D = TypeVar("D")


class Caller(ABC):
    """Whoever carries plans out: a Hypervisor at once, a Pipeline later."""

    @property
    @abstractmethod
    def check(self) -> bool:
        """Whether an action that fails raises; otherwise it gives its Result."""

    @abstractmethod
    def call(self, plan: Plan[T]) -> T:
        """Carry `plan` out and give its value."""

    def bounded(self, timeout: float | None, default: float = math.inf) -> AbstractContextManager[Deadline]:
        """Limit all requests in a block by one deadline, `timeout` seconds from now.

        If `timeout` is None: `default` seconds, or the control ``timeout`` if that is less.
        """
        return nullcontext(Deadline(default if timeout is None else timeout))

    def listen(
        self,
        command: Command,
        reader: Reader[D],  # noqa: ARG002  # as all of these: for who can
        names: Command,  # noqa: ARG002
        *,
        timeout: float | None,  # noqa: ARG002
        loop: bool,  # noqa: ARG002
    ) -> Events[D]:
        """What `reader` makes of what a command goes on printing, from now on; `names` lists the names there are."""
        raise self._only_at_once(command)

    def interact(self, command: Command) -> Result:
        """Run a command that takes over this program's terminal."""
        raise self._only_at_once(command)

    def on_terminal(self, command: Command, *options: str, mark: str) -> Process:  # noqa: ARG002
        """Start a command on a terminal of its own; `options` are virsh's own, before the command.

        Its standard error goes to the terminal as well, with a `mark` before each line.
        """
        raise self._only_at_once(command)

    def _only_at_once(self, command: Command) -> TypeError:
        return TypeError(f"virsh {command.name} goes on while others run: it cannot be in a {type(self).__name__}")
