"""Consoles of domains, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from kvm import units
from kvm.console import ESCAPE, Console
from kvm.groups.group import Group
from kvm.virsh.command import Command, failure
from kvm.virsh.terminal import new_mark
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options


_CONNECT_S = 30.0
"""The default time limit for connecting to a console, in seconds."""


class Consoles(Group):
    """Consoles of domains."""

    def console(self, domain: str | int, **options: Unpack[options.ConsoleOptions]) -> Result:
        """Connect this program's terminal with a domain's serial console, until Ctrl-] is typed. virsh: ``console``.

        ``devname='serial1'`` is another device, by its alias; ``force=True`` disconnects who is connected,
        ``safe=True`` connects only if nobody else can be, ``resume=True`` then lets a suspended domain go on. What
        virsh has to say is on the terminal, and not in the error.
        """
        return self._interact(Command("console", {"domain": domain, **options}, reads=False))

    def open_console(
        self, domain: str | int, *, timeout: float | None = None, **options: Unpack[options.ConsoleOptions]
    ) -> Console:
        """A domain's serial console for a program to talk to, see `kvm.console.Console`. virsh: ``console``.

        The options are those of `console`. `timeout` is for the connection, in seconds: the default is 30, or the
        control ``timeout`` if that is less. `InvalidStateError` if the domain does not run, or another client is
        connected.

        >>> with hypervisor.domain.open_console("web1") as console:
        ...     console.write(b"\\n")
        ...     console.read_until(b"login: ", timeout=60)
        """
        command = Command("console", {"domain": domain, **options}, reads=False)
        mark = new_mark()
        timeout = None if timeout is None else units.seconds("virsh console: timeout", timeout)
        with self._caller.bounded(timeout, _CONNECT_S) as deadline:
            process = self._caller.on_terminal(command, f"--escape={ESCAPE}", mark=mark)
            return Console(process, command.words(), mark, deadline)

    def lxc_enter_namespace(self, domain: str | int, *cmd: str, noseclabel: bool = False) -> Result:
        """Run a command in a container, with this program's terminal. virsh: ``lxc-enter-namespace``.

        `cmd` is its words, the first of them the path of a program. ``noseclabel=True`` leaves the command its security
        label. What the command and virsh print is on the terminal.
        """
        words = {"domain": domain, "cmd": cmd, "noseclabel": noseclabel}
        return self._interact(Command("lxc-enter-namespace", words, reads=False))

    def _interact(self, command: Command) -> Result:
        result = self._caller.interact(command)
        if self._caller.check and not result.status:
            raise failure(command.words(), result)
        return result
