"""What is inside of domains: the guest agent, users, keys, the screen, QEMU's monitor."""

from __future__ import annotations

from kvm.groups.group import Group


class Guest(Group):
    """What is inside of domains: the guest agent, users, keys, the screen, QEMU's monitor."""
