"""The devices of domains: attaching, changing and detaching them, and their figures."""

from __future__ import annotations

from kvm.groups.group import Group


class Devices(Group):
    """The devices of domains: attaching, changing and detaching them, and their figures."""
