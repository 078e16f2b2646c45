"""The base of all groups. A method of a group describes a command and how to read its output; when and where that
runs is up to the caller that the group is bound to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kvm.groups.caller import Caller
from kvm.virsh.command import Command
from kvm.virsh.plan import acting, reading
from unix.result import Result

T = TypeVar("T")


class Group:
    """Commands of virsh that are about one kind of thing."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def _read(self, command: str, parse: Callable[[str], T], /, **options: object) -> T:
        """What `parse` makes of the output of a command that only reads."""
        return self._caller.call(reading(Command(command, options), parse))

    def _act(self, command: str, /, **options: object) -> Result:
        """The result of a command that changes something."""
        return self._caller.call(acting(Command(command, options, reads=False), check=self._caller.check))
