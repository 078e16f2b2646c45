"""The host's network interfaces, as netcf or udev tells of them."""

from __future__ import annotations

from kvm.groups.group import Group


class Interface(Group):
    """The host's network interfaces, as netcf or udev tells of them."""
