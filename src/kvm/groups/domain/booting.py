"""What tells that a guest is up, in its configuration and in what it tells."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
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


def macs(conf: Mapping[str, Any]) -> set[str]:
    """Return the hardware addresses of a domain's interfaces, in lower case."""
    cards = conf.get("devices", {}).get("interface", [])
    return {card["mac"]["@address"].lower() for card in cards if "mac" in card}


def reachable(addresses: Mapping[str, InterfaceAddresses], macs: Collection[str]) -> str | None:
    """Return an address of an interface with one of `macs` that is reachable from outside the guest's own link.

    The guest also has internal interfaces, such as bridges of containers, which are not reachable from outside.
    """
    for card in addresses.values():
        if (card["hwaddr"] or "").lower() in macs:
            for each in card["addresses"]:
                address = ipaddress.ip_address(each["address"].partition("%")[0])
                is_special = address.is_loopback or address.is_link_local or address.is_multicast
                if not is_special and not address.is_unspecified:
                    return each["address"]
    return None
