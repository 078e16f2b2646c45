"""`cached_property` without a lock, and with one value for all threads.

`functools.cached_property` of Python 3.11 holds a lock. If the program forks while another thread holds it, the child
waits for it for ever. Since Python 3.12 there is no lock, but threads that read at the same time may get different
values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801  # named like the decorator that it replaces
    """A property that is computed when it is first read; two threads may compute it, and both get the same value."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.__doc__ = function.__doc__
        self.func = function

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Self | T:
        if instance is None:
            return self
        value: T = vars(instance).setdefault(self._name, self.func(instance))  # setdefault is atomic
        return value
