"""`cached_property` without a lock, and with one value for all threads.

`functools.cached_property` of Python 3.11 holds a lock, for which a child waits for ever if it is forked while another
thread holds it. Since Python 3.12 it has none, but threads that come together may get different values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801  # named as what it stands for
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
