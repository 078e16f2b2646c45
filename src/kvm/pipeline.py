"""Many commands at once: recorded, written ahead of their answers, answered in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar, cast

from kvm.errors import KvmError
from kvm.groups.groups import Groups
from kvm.virsh.command import Command
from kvm.virsh.outcome import is_unanswered, not_asked
from kvm.virsh.plan import Lookup, Plan
from unix.result import Result

T = TypeVar("T")

_Run = Callable[[Sequence[Command], Callable[[int, Result], None]], tuple[Result, ...]]


class Pipeline(Groups):
    """Records calls of the groups' methods and carries all of them out with `execute`.

    >>> with hypervisor.pipeline() as pipe:
    ...     for name in names:
    ...         pipe.domain.info(name)
    ...     infos = pipe.execute()

    A recorded call returns None, whatever type its method has. What is wrong with its arguments raises at once. A block
    that is left without `execute` has done nothing. A Pipeline may be used again after `execute`, and by one thread.
    """

    def __init__(self, run: _Run, *, check: bool) -> None:
        self._run = run
        self._check = check
        self._recorded: list[tuple[Plan[Any], tuple[Command, ...]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._recorded.clear()

    def __len__(self) -> int:
        return len(self._recorded)

    @property
    def check(self) -> bool:
        """Whether an action that fails is an error; otherwise its value is its Result."""
        return self._check

    def call(self, plan: Plan[T]) -> T:
        """Record what a method of a group has described."""
        commands = next(plan)
        for command in commands:
            command.words()  # what is wrong with them is said now
        self._recorded.append((plan, commands))
        return cast(T, None)

    def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Run the recorded calls, and return their values in the same order.

        A hundred or more calls that only read may go to several virsh processes in parallel. Then calls about one
        object (a domain, or the hypervisor) run in their order, and those about different objects in any order.

        All calls run, even after one that fails. Then the first error is raised, or, without `raise_on_error`, each
        error is in the place of its value. After a lost connection, calls that only read are repeated once; one that
        acts is a `ConnectionLostError` whose `outcome_unknown` is True. The control ``timeout`` limits the time between
        the end of one call and the end of the next. When it is exceeded, that call and all later ones are a
        `CommandTimeoutError`; the later ones are not begun.
        """
        recorded, self._recorded = self._recorded, []
        values = _Carrying(self._run).out(recorded)
        if raise_on_error:
            for value in values:
                if isinstance(value, KvmError):
                    raise value
        return values


class _Carrying:
    """Plans being carried out."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._is_unanswered = False

    def out(self, plans: Sequence[tuple[Plan[Any], tuple[Command, ...]]]) -> list[Any]:
        """The values of `plans`, each given with the commands that it asks first.

        All ask at once, but where one looks something up before it goes on, what is behind it waits: a later call must
        not overtake an earlier one.
        """
        values: list[Any] = [None] * len(plans)
        together: list[int] = []
        try:
            for place, (_, commands) in enumerate(plans):
                together.append(place)
                if isinstance(commands, Lookup) or place == len(plans) - 1:
                    going = {each: plans[each] for each in together}
                    while going:
                        going = self._step(going, values)
                    together = []
        finally:
            for plan, _ in plans:
                plan.close()
        return values

    def _step(
        self, going: dict[int, tuple[Plan[Any], tuple[Command, ...]]], values: list[Any]
    ) -> dict[int, tuple[Plan[Any], tuple[Command, ...]]]:
        """Ask what all plans ask now; those that go on, with what they ask next.

        A plan goes on as soon as its own results are there: one is read while virsh prints the next. Behind one that
        looks something up nothing is printed, and what it does then, an editor's function, may ask virsh, or fail.
        """
        owners = [place for place, (_, commands) in going.items() for _ in commands]
        came: dict[int, dict[int, Result]] = {place: {} for place in going}
        onwards = {}

        def advance(place: int, results: Sequence[Result]) -> None:
            plan, _ = going[place]
            try:
                onwards[place] = (plan, plan.send(tuple(results)))
            except StopIteration as end:
                values[place] = end.value
            except KvmError as error:
                values[place] = error

        def early(index: int, result: Result) -> None:
            place = owners[index]
            came[place][index] = result
            asked = going[place][1]
            if len(came[place]) == len(asked) and not isinstance(asked, Lookup):
                advance(place, [result for _, result in sorted(came.pop(place).items())])

        results = self._asked([command for _, commands in going.values() for command in commands], early)
        rest: dict[int, list[Result]] = {place: [] for place in came}
        for place, result in zip(owners, results, strict=True):
            if place in rest:
                rest[place].append(result)
        for place, its_results in rest.items():
            advance(place, its_results)
        return dict(sorted(onwards.items()))

    def _asked(self, commands: Sequence[Command], early: Callable[[int, Result], None]) -> tuple[Result, ...]:
        """Return the results of `commands`; after one without a reply in time, the others are not begun."""
        if self._is_unanswered:
            return tuple(not_asked() for _ in commands)
        results = self._run(commands, early)
        self._is_unanswered = any(map(is_unanswered, results))
        return results
