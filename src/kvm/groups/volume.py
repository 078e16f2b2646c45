"""Storage volumes, each in a pool."""

from __future__ import annotations

from kvm.groups.group import Group


class Volume(Group):
    """Storage volumes, each in a pool."""
