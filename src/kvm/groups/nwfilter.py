"""Network filters and their bindings to interfaces of guests."""

from __future__ import annotations

from kvm.groups.group import Group


class Nwfilter(Group):
    """Network filters and their bindings to interfaces of guests."""
