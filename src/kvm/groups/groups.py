"""All groups together: what a Hypervisor and a Pipeline have in common.

A group's module is loaded when the group is first asked for, so that `import kvm` costs no more than it has to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from kvm.cached import cached_property
from kvm.groups.caller import Caller

if TYPE_CHECKING:
    from kvm.groups.checkpoint import Checkpoint
    from kvm.groups.domain import Domain, ListedDomain
    from kvm.groups.generic import Generic
    from kvm.groups.interface import Interface, ListedInterface
    from kvm.groups.network import ListedNetwork, Network
    from kvm.groups.nodedev import Nodedev
    from kvm.groups.nwfilter import Nwfilter
    from kvm.groups.options_generated import (
        IfaceListOptions,
        ListOptions,
        NetListOptions,
        PoolListOptions,
        SecretListOptions,
        SnapshotListOptions,
        VolListOptions,
    )
    from kvm.groups.pool import ListedPool, Pool
    from kvm.groups.secret import ListedSecret, Secret
    from kvm.groups.snapshot import ListedSnapshot, Snapshot
    from kvm.groups.volume import ListedVolume, Volume


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

    @cached_property
    def network(self) -> Network:
        """Virtual networks and their ports."""
        from kvm.groups.network import Network

        return Network(self)

    @cached_property
    def interface(self) -> Interface:
        """The host's network interfaces, as netcf or udev tells of them."""
        from kvm.groups.interface import Interface

        return Interface(self)

    @cached_property
    def pool(self) -> Pool:
        """Storage pools."""
        from kvm.groups.pool import Pool

        return Pool(self)

    @cached_property
    def volume(self) -> Volume:
        """Storage volumes, each in a pool."""
        from kvm.groups.volume import Volume

        return Volume(self)

    @cached_property
    def secret(self) -> Secret:
        """Secrets, such as the passphrases of encrypted volumes."""
        from kvm.groups.secret import Secret

        return Secret(self)

    @cached_property
    def snapshot(self) -> Snapshot:
        """Snapshots of domains."""
        from kvm.groups.snapshot import Snapshot

        return Snapshot(self)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Checkpoints of domains: points in time from which incremental backups are made."""
        from kvm.groups.checkpoint import Checkpoint

        return Checkpoint(self)

    @cached_property
    def nwfilter(self) -> Nwfilter:
        """Network filters and their bindings to interfaces of guests."""
        from kvm.groups.nwfilter import Nwfilter

        return Nwfilter(self)

    @cached_property
    def nodedev(self) -> Nodedev:
        """Devices of the host."""
        from kvm.groups.nodedev import Nodedev

        return Nodedev(self)

    @property
    def hypervisor(self) -> Generic:
        """Another name of `generic`."""
        return self.generic

    def list_domains(self, **options: Unpack[ListOptions]) -> dict[str, ListedDomain]:
        """The domains; the same as ``domain.list``."""
        return self.domain.list(**options)

    def list_pools(self, **options: Unpack[PoolListOptions]) -> dict[str, ListedPool]:
        """The storage pools; the same as ``pool.list``."""
        return self.pool.list(**options)

    def list_volumes(self, pool: str, **options: Unpack[VolListOptions]) -> dict[str, ListedVolume]:
        """The volumes of a pool; the same as ``volume.list``."""
        return self.volume.list(pool, **options)

    def list_secrets(self, **options: Unpack[SecretListOptions]) -> dict[str, ListedSecret]:
        """The secrets; the same as ``secret.list``."""
        return self.secret.list(**options)

    def list_snapshots(self, domain: str | int, **options: Unpack[SnapshotListOptions]) -> dict[str, ListedSnapshot]:
        """The snapshots of a domain; the same as ``snapshot.list``."""
        return self.snapshot.list(domain, **options)

    def list_interfaces(self, **options: Unpack[IfaceListOptions]) -> dict[str, ListedInterface]:
        """The host's network interfaces; the same as ``interface.list``."""
        return self.interface.list(**options)

    def list_networks(self, **options: Unpack[NetListOptions]) -> dict[str, ListedNetwork]:
        """The virtual networks; the same as ``network.list``."""
        return self.network.list(**options)


def is_group(attribute: str) -> bool:
    """Whether an attribute is a group, made when it was asked for."""
    return isinstance(vars(Groups).get(attribute), cached_property)
