"""What domains get of the host: CPUs, memory, scheduling, limits."""

from __future__ import annotations

from kvm.groups.group import Group


class Tuning(Group):
    """What domains get of the host: CPUs, memory, scheduling, limits."""
