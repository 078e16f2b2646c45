"""All that there is of domains, in one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm.groups.domain.blocks import Blocks
from kvm.groups.domain.console import Consoles
from kvm.groups.domain.cpus import Cpus
from kvm.groups.domain.detaching import Detaching
from kvm.groups.domain.devices import Devices
from kvm.groups.domain.events import DomainEvents
from kvm.groups.domain.guest import Guest
from kvm.groups.domain.labels import Labels
from kvm.groups.domain.lifecycle import Lifecycle
from kvm.groups.domain.memory import Memory
from kvm.groups.domain.monitor import Monitor
from kvm.groups.domain.saving import Saving
from kvm.groups.domain.signals import Signals
from kvm.groups.domain.tuning import Tuning

if TYPE_CHECKING:
    from kvm.groups.bound_generated import BoundDomain


class Domain(
    Detaching,
    DomainEvents,
    Consoles,
    Lifecycle,
    Monitor,
    Devices,
    Blocks,
    Cpus,
    Memory,
    Tuning,
    Labels,
    Signals,
    Saving,
    Guest,
):
    """Domains: virtual machines, running or only defined.

    A domain is given by its name or UUID as a str, or by its id as an int. A str is never taken for an id.

    `options` are keywords of virsh's names; ``kvmctl COMMAND --help`` lists them. Of these, everywhere: ``live=True``
    is the running domain, ``config=True`` what its next start takes, both are both; ``current=True``, or none, the
    running domain if it runs and its definition otherwise, unless a method says so. `verbose`, `wrap`, `pretty` and
    `table` make no difference. Dicts that are named here (`DomainInfo`) are TypedDicts of the modules in
    `kvm.groups.domain`.
    """

    _key = ("domain",)

    def __getitem__(self, domain: str | int) -> BoundDomain:
        """One domain: the methods about it, without `domain`."""
        one: BoundDomain = self._one(domain)
        return one
