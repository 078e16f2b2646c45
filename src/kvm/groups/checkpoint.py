"""Checkpoints of domains: points in time from which incremental backups are made."""

from __future__ import annotations

from kvm.groups.group import Group


class Checkpoint(Group):
    """Checkpoints of domains: points in time from which incremental backups are made."""
