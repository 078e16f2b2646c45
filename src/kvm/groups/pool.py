"""Storage pools."""

from __future__ import annotations

from kvm.groups.group import Group


class Pool(Group):
    """Storage pools."""
