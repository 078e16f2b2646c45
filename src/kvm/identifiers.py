"""New names for new guests: UUIDs and MAC addresses."""

from __future__ import annotations

import os


def gen_uuid() -> str:
    """A random UUID (RFC 4122, version 4), as ``'6695eb01-f6a4-4304-b9aa-97f2502e193f'``."""
    random = bytearray(os.urandom(16))
    random[6] = random[6] & 0x0F | 0x40  # the version
    random[8] = random[8] & 0x3F | 0x80  # the variant
    text = random.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def gen_mac() -> str:
    """A random MAC address with KVM's prefix, as ``'52:54:00:6b:3c:58'``."""
    return "52:54:00:" + os.urandom(3).hex(":")
