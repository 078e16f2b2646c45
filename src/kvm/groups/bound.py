"""One object of a group, by its name: ``hypervisor.domain['web1'].start()``.

It has the methods of the group that are about one object, without the parameters that say which. What their types are
is in `bound_generated`, which is for editors and type checkers and never loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvm.groups.group import Group


class Bound:
    """One object of a group, ``hv.domain['web1']``: it has the group's methods without the parameters that say which.

    ``dir()`` names them, ``help(hv.domain.start)`` explains them. Two are equal if they are of the same group of the
    same Hypervisor.
    """

    __slots__ = ("_group", "_key")

    def __init__(self, group: Group, key: tuple[str | int, ...]) -> None:
        self._group = group
        self._key = key

    def __getattr__(self, name: str) -> Callable[..., Any]:
        by_place = None if name.startswith("_") else bound_by_place(type(self._group), name)
        if by_place is None:
            raise AttributeError(f"{self!r} has no method {name!r}")
        left = len(self._key) - by_place
        by_name = dict(zip(self._group._key[:left], self._key, strict=False))
        method = partial(getattr(self._group, name), *self._key[left:], **by_name)
        method.__doc__ = method.func.__doc__
        return method

    def __dir__(self) -> list[str]:
        group = type(self._group)
        return [*super().__dir__(), *(name for name in dir(group) if bound_by_place(group, name) is not None)]

    def __repr__(self) -> str:
        return f"{self._group!r}[{', '.join(map(repr, self._key))}]"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self._told() == other._told()

    def __hash__(self) -> int:
        return hash(self._told())

    def __reduce__(self) -> tuple[type[Bound], tuple[Group, tuple[str | int, ...]]]:
        return Bound, (self._group, self._key)

    def _told(self) -> tuple[object, ...]:
        return type(self._group), self._group._caller, self._key


def bound_by_place(group: type[Group], name: str) -> int | None:
    """How many of the group's key a method takes as its first parameters; None if it is not about one object.

    They are all of the key, or its end: then the rest is given by name.
    """
    method = getattr(group, name, None)
    if name.startswith("_") or name in group._unbound or not isinstance(method, FunctionType):
        return None
    first = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    for start in range(len(group._key)):
        if first[: len(group._key) - start] == group._key[start:]:
            return len(group._key) - start
    return None
