"""The disks of domains: their jobs, sizes, limits and figures."""

from __future__ import annotations

from kvm.groups.group import Group


class Blocks(Group):
    """The disks of domains: their jobs, sizes, limits and figures."""
