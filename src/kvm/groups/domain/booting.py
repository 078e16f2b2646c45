"""What tells that a guest is up, in its configuration and in what it tells."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvm.groups.domain.devices import InterfaceAddresses

AGENT = "org.qemu.guest_agent.0"
"""The name of the channel of QEMU's guest agent."""


def has_agent(conf: Mapping[str, Any]) -> bool:
    """Whether a domain has a channel for a guest agent."""
    channels = conf.get("devices", {}).get("channel", [])
    return any(channel.get("target", {}).get("@name") == AGENT for channel in channels)


def networks(conf: Mapping[str, Any]) -> dict[str, set[str]]:
    """The networks of libvirt's that a domain is in, and the addresses of its cards there."""
    found: dict[str, set[str]] = {}
    for card in conf.get("devices", {}).get("interface", []):
        if card.get("@type") == "network":
            found.setdefault(card["source"]["@network"], set()).add(card["mac"]["@address"])
    return found


def reachable(told: Mapping[str, InterfaceAddresses]) -> str | None:
    """An address that others than the guest and its neighbours on a link can use."""
    for card in told.values():
        for each in card["addresses"]:
            address = ipaddress.ip_address(each["address"].partition("%")[0])
            if not address.is_loopback and not address.is_link_local:
                return each["address"]
    return None
