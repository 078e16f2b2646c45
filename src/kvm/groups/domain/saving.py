"""Domains to files and other hosts, and back: save, restore, managed save, dump, migration."""

from __future__ import annotations

from kvm.groups.group import Group


class Saving(Group):
    """Domains to files and other hosts, and back: save, restore, managed save, dump, migration."""
