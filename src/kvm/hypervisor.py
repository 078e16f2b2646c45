"""A hypervisor: a host, the URI of its libvirt, and the groups of virsh's commands.

A group's module is loaded when the group is first asked for, so that `import kvm` costs no more than it has to.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import unix
from kvm import text
from kvm.errors import InvalidArgumentError
from kvm.virsh.command import failure
from kvm.virsh.plan import Plan
from kvm.virsh.process import OneProcessEach
from unix.controls import is_bool
from unix.words import options_to_words, split, word

if TYPE_CHECKING:
    from kvm.groups.domain import Domain, ListedDomain
    from kvm.groups.generic import Generic
    from kvm.groups.options_generated import ListOptions

T = TypeVar("T")

_KNOWN = {"parse": unix.Control(False, is_bool, "True or False")}

CONTROLS: Mapping[str, object] = MappingProxyType({name: control.default for name, control in _KNOWN.items()})
"""The controls that a Hypervisor adds to its host's, and their defaults.

``parse``: whether `Hypervisor.virsh` returns the lines of the output or raises, instead of returning a Result.
"""


_GROUPS = ("generic", "domain")
"""The attributes that are made when they are asked for."""


class Controls(unix.Controls, total=False):
    """The controls of a Hypervisor: its host's, and ``parse``."""

    parse: bool


class Hypervisor(unix.Wrapper):
    """The hypervisor on `host`, a `unix.Local` or anything else that is a `unix.Host`.

    `uri` is libvirt's connection URI, as ``'qemu:///system'``; without one virsh takes its own default. With
    ``check=False`` an action that fails returns its `unix.Result` instead of raising.

    Everything that the host can do (`execute`, `open`, `set_controls`, ...) can be asked of the Hypervisor. It is a
    context manager, may be used from several threads, and pickles. Nothing runs before the first command.
    """

    def __init__(self, host: unix.Host, uri: str | None = None, *, check: bool = True) -> None:
        if not isinstance(host, unix.Host):
            raise TypeError(f"a Hypervisor stands on a host such as unix.Local(), not on {host!r}")
        if uri is not None and (not isinstance(uri, str) or not uri or "\0" in uri):
            raise InvalidArgumentError(f"a connection URI is a text such as 'qemu:///system', not {uri!r}")
        super().__init__(host, _KNOWN)
        self.uri = uri
        self._check = check
        self._virsh = OneProcessEach(host, uri)

    def __repr__(self) -> str:
        return f"Hypervisor({self.host!r}, {self.uri!r})"

    def __getstate__(self) -> dict[str, object]:
        kept = {name: value for name, value in vars(self).items() if name not in ("_controls", "_virsh", *_GROUPS)}
        return {**kept, "_controls": self._controls.given}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        Hypervisor.__init__(self, self.host, self.uri, check=self._check)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what runs on the host; the next command starts it anew."""

    @cached_property
    def generic(self) -> Generic:
        """The hypervisor itself: its hardware, its versions, what it can run."""
        from kvm.groups.generic import Generic

        return Generic(self)

    @cached_property
    def domain(self) -> Domain:
        """Domains: virtual machines, running or only defined."""
        from kvm.groups.domain import Domain

        return Domain(self)

    @property
    def hypervisor(self) -> Generic:
        """Another name of `generic`."""
        return self.generic

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
        try:
            words = [*split(command), *map(word, args), *options_to_words(kwargs)]
        except unix.ArgumentError as error:
            raise InvalidArgumentError(str(error)) from error
        if not words:
            raise InvalidArgumentError("there is no command for virsh to run: it is empty")
        result = self._virsh.run_words(words)
        if not self.get_control("parse"):
            return result
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

    def set_controls(self, **controls: Unpack[Controls]) -> AbstractContextManager[None]:
        """Set controls, this object's or its host's, for the duration of a block, in this thread or task only."""
        return self._controls.changed(controls)

    def list_domains(self, **options: Unpack[ListOptions]) -> dict[str, ListedDomain]:
        """The domains; the same as ``domain.list``."""
        return self.domain.list(**options)
