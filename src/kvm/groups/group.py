"""The base of all groups. A method of a group describes a command and how to read its output; when and where that
runs is up to the caller that the group is bound to."""

from __future__ import annotations

import os
from _thread import RLock
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, TypeVar

from kvm import text, units, xml
from kvm.groups.caller import Caller
from kvm.values import Outcome
from kvm.virsh.built_xml import acting_on, built, form_of
from kvm.virsh.command import Command
from kvm.virsh.plan import Plan, acting, after, editing, listing, reading, telling
from unix.result import Result

if TYPE_CHECKING:
    from weakref import WeakKeyDictionary

    from kvm.events import EventOptions, Events, Kinds, Reader
    from kvm.virsh.jobs import Job

T = TypeVar("T")
V = TypeVar("V")
D = TypeVar("D")


@cache
def _editing() -> WeakKeyDictionary[Caller, AbstractContextManager[object]]:
    """What each caller that edits has locked."""
    from weakref import WeakKeyDictionary

    return WeakKeyDictionary()


os.register_at_fork(after_in_child=_editing.cache_clear)  # another thread of the parent may hold a lock


class _Care(TypedDict):
    alone: AbstractContextManager[object]
    check: bool


class Group:
    """Commands of virsh that are about one kind of thing."""

    _key: ClassVar[tuple[str, ...]] = ()
    """The parameters that tell one thing of this kind; ``group[...]`` takes their values."""

    _unbound: ClassVar[frozenset[str]] = frozenset()
    """The methods that are not about one thing of this kind, although their parameters look like it."""

    __iter__ = None  # with a number for an id, Python would take what has a __getitem__ for an endless sequence

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __repr__(self) -> str:
        return f"{self._caller!r}.{type(self).__name__.lower()}"

    def _one(self, which: object) -> Any:
        """The thing of this kind that `which` tells: a `kvm.groups.bound.Bound`."""
        from kvm.groups.bound import Bound

        key = which if isinstance(which, tuple) else (which,)
        kinds = [str | int if name == "domain" else str for name in self._key]
        if len(key) != len(kinds) or not all(map(isinstance, key, kinds)):
            wanted = ", ".join(self._key)
            raise TypeError(f"{type(self).__name__.lower()}[{wanted}] is one of them, not {which!r}")
        return Bound(self, key)

    def _read(self, command: str, parse: Callable[[str], T], /, **options: object) -> T:
        """What `parse` makes of the output of a command that only reads."""
        return self._caller.call(reading(Command(command, options), parse))

    def _act(self, command: str, /, **options: object) -> Result:
        """The result of a command that changes something."""
        return self._caller.call(acting(Command(command, options, reads=False), check=self._caller.check))

    def _act_and_tell(
        self, command: str, kind: Callable[[str], V], job: Job | None = None, /, **options: object
    ) -> Outcome[V]:
        """The result of a command that changes something, maybe a `job`, and as a `kind` what it tells."""
        telling_command = Command(command, options, reads=False, job=job)
        return self._caller.call(telling(telling_command, kind, check=self._caller.check))

    def _act_long(self, command: str, job: Job, before: Plan[None] | None = None, /, **options: object) -> Result:
        """The result of a command that is a `job`, and what is to be found out `before` it begins.

        Whether virsh is ``verbose`` is decided by its progress.
        """
        given = {name: value for name, value in options.items() if name != "verbose"}
        plan = acting(Command(command, given, reads=False, job=job), check=self._caller.check)
        return self._caller.call(plan if before is None else after(before, plan))

    def _edit(
        self, tag: str, read: Command, define: str, function: xml.Editor, /, as_: str = "file", **options: object
    ) -> Result:
        """Have `function` change the document that `read` prints; the command `define` takes it in its option `as_`."""

        def command(content: bytes) -> Command:
            return Command(define, {**options, as_: content}, reads=False)

        validate = options.get("validate") is not False
        return self._caller.call(editing(tag, read, command, function, validate=validate, **self._carefully()))

    def _carefully(self) -> _Care:
        """How an edit is carried out: by one thread of the same caller at a moment."""
        return {"alone": _editing().setdefault(self._caller, RLock()), "check": self._caller.check}

    def _listen(
        self,
        command: str,
        reader: Reader[D],
        names: str,
        which: Mapping[str, object],
        options: EventOptions,
        /,
    ) -> Events[D]:
        """The events that a command prints, as `reader` reads them; `names` is the command that lists what has them."""
        if unknown := options.keys() - {"loop", "timeout", "timestamp"}:
            raise TypeError(f"{command} has no option {', '.join(sorted(unknown))} here")
        given = {name: value for name, value in which.items() if value is not None}
        listening = Command(command, {**given, "loop": True, "timestamp": reader.stamped})
        all_names = Command(names, {"all": True, "name": True})
        loop, timeout = options.get("loop", True), options.get("timeout")
        timeout = None if timeout is None else units.seconds(f"virsh {command}: timeout", timeout)
        return self._caller.listen(listening, reader, all_names, timeout=timeout, loop=loop)

    def _listen_or_list(
        self,
        command: str,
        reader: Reader[D],
        names: str,
        which: Mapping[str, object],
        options: EventOptions,
        /,
        *,
        list: bool,
    ) -> Events[D] | Kinds:
        """The events that a command prints, or with `list` the kinds of events that it knows."""
        if list:
            if options:
                raise TypeError(f"{command}: list=True is about no events, so {', '.join(options)} does not go with it")
            return self._read(command, text.lines, list=True)
        return self._listen(command, reader, names, which, options)

    def _act_or_print(
        self, parse: Callable[[str], xml.Conf], command: str, print_xml: bool, /, **options: object
    ) -> Result | xml.Conf:
        """The result of a command, or with `print_xml` what `parse` makes of the XML that it would act with."""
        asked = Command(command, options, reads=False)
        if form := form_of(asked):
            if print_xml:
                return parse(self._caller.call(built(asked, form)))
            return self._caller.call(acting_on(asked, form, check=self._caller.check))
        if print_xml:
            return self._read(command, parse, print_xml=True, **options)
        return self._act(command, **options)

    def _list(self, command: str, shape: type[T], /, **options: object) -> dict[str, T]:
        """The rows of a table by name, as TypedDicts `shape`, of a command that has exact names with ``--name``."""
        return self._caller.call(listing(Command(command, options), Command(command, {**options, "name": True}), shape))

    def _set_or_read(
        self, command: str, parse: Callable[[str], T], given: Mapping[str, object], /, **which: object
    ) -> T | Result:
        """What `parse` makes of the current values, or the result of setting them if any are `given`.

        `which` are the other options: of what, and whether it is about the running domain or its definition.
        """
        if any(value is not None for value in given.values()):
            return self._act(command, **which, **given)
        return self._read(command, parse, **which)
