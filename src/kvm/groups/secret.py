"""Secrets, such as the passphrases of encrypted volumes."""

from __future__ import annotations

from kvm.groups.group import Group


class Secret(Group):
    """Secrets, such as the passphrases of encrypted volumes."""
