"""Snapshots of domains."""

from __future__ import annotations

from kvm.groups.group import Group


class Snapshot(Group):
    """Snapshots of domains."""
