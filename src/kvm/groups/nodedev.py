"""Devices of the host."""

from __future__ import annotations

from kvm.groups.group import Group


class Nodedev(Group):
    """Devices of the host."""
