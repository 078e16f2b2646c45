"""Virtual networks and their ports."""

from __future__ import annotations

from kvm.groups.group import Group


class Network(Group):
    """Virtual networks and their ports."""
