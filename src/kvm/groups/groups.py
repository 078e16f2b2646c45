"""All groups together: what a Hypervisor and a Pipeline have in common.

A group's module is loaded when the group is first asked for, so that `import kvm` costs no more than it has to.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Unpack

from kvm.groups.caller import Caller

if TYPE_CHECKING:
    from kvm.groups.domain import Domain, ListedDomain
    from kvm.groups.generic import Generic
    from kvm.groups.options_generated import ListOptions


class Groups(Caller):
    """The groups of virsh's commands, bound to the caller that inherits this."""

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

    def list_domains(self, **options: Unpack[ListOptions]) -> dict[str, ListedDomain]:
        """The domains; the same as ``domain.list``."""
        return self.domain.list(**options)


def is_group(attribute: str) -> bool:
    """Whether an attribute is a group, made when it was asked for."""
    return isinstance(vars(Groups).get(attribute), cached_property)
