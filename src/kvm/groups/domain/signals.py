"""What is sent to a guest: keys, signals, interrupts, a reset, sleep; and whether it can be talked to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, Unpack

from kvm import text
from kvm.errors import UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Quantity
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options


class Control(TypedDict):
    """The state of the way in which a hypervisor talks to a domain.

    `state` is ``'ok'``, ``'background job'``, ``'occupied'`` or ``'error'``; `time` nanoseconds that it has been so,
    where virsh says so, and `reason` why it is an error.
    """

    state: str
    time: NotRequired[Quantity]
    reason: NotRequired[str]


class Signals(Group):
    """What is sent to a guest."""

    def control(self, domain: str | int) -> Control:
        """Whether the hypervisor can talk to a running domain, see `Control`. virsh: ``domcontrol``.

        ``{'state': 'ok'}``, or ``'background job'``, ``'occupied'`` or ``'error'``, with `time` in nanoseconds and
        `reason`.
        """
        return self._read("domcontrol", _control, domain=domain)

    def inject_nmi(self, domain: str | int) -> Result:
        """Send a non-maskable interrupt to a guest. virsh: ``inject-nmi``."""
        return self._act("inject-nmi", domain=domain)

    def pmsuspend(
        self,
        domain: str | int,
        target: Literal["mem", "disk", "hybrid"],
        **options: Unpack[options.DompmsuspendOptions],
    ) -> Result:
        """Have a guest suspend itself: to memory, to disk or to both. virsh: ``dompmsuspend``.

        ``duration=60`` has it wake up after that many seconds, where the hypervisor can do that. `AgentError` without a
        guest agent. It does not wait for the guest; an event ``pm-suspend`` or ``pm-suspend-disk`` reports the
        suspension.
        """
        return self._act("dompmsuspend", domain=domain, target=target, **options)

    def pmwakeup(self, domain: str | int) -> Result:
        """Wake up a guest that has suspended itself. virsh: ``dompmwakeup``.

        It does not wait for the guest; an event ``pm-wakeup`` reports when it is awake.
        """
        return self._act("dompmwakeup", domain=domain)

    def reset(self, domain: str | int) -> Result:
        """Reset a domain, as by the button: its guest cannot prepare for it. virsh: ``reset``."""
        return self._act("reset", domain=domain)

    def send_key(self, domain: str | int, *keycode: int | str, **options: Unpack[options.SendKeyOptions]) -> Result:
        """Press the given keys of a guest's keyboard together. virsh: ``send-key``.

        `keycode`: names or numbers, ``'KEY_LEFTCTRL', 'KEY_C'``, 16 at most; other names with ``codeset='win32'`` and
        the like. ``holdtime=100`` holds them for that many milliseconds.
        """
        return self._act("send-key", domain=domain, keycode=keycode, **options)

    def send_process_signal(self, domain: str | int, pid: int, signame: int | str) -> Result:
        """Send a signal to a process in a guest. virsh: ``send-process-signal``.

        `signame`: ``'term'``, ``'SIGTERM'`` or 15. Containers can do it, QEMU cannot.
        """
        return self._act("send-process-signal", domain=domain, pid=pid, signame=signame)


_CONTROL = re.compile(r"(?P<state>[^:(]+?)(?: \((?P<time>[0-9.]+s)\)|: (?P<reason>.+))?")


def _control(output: str) -> Control:
    found = _CONTROL.fullmatch(text.line(output))
    if not found:
        raise UnreadableOutputError(f"virsh printed no state of a control interface: {output!r}")
    return text.typed(Control, {name: said for name, said in found.groupdict().items() if said})
