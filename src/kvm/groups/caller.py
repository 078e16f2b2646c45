"""Who carries out what the groups describe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from kvm.virsh.plan import Plan

T = TypeVar("T")


class Caller(ABC):
    """Whoever carries plans out: a Hypervisor at once, a Pipeline later."""

    @property
    @abstractmethod
    def check(self) -> bool:
        """Whether an action that fails raises; otherwise it gives its Result."""

    @abstractmethod
    def call(self, plan: Plan[T]) -> T:
        """Carry `plan` out and give its value."""
