"""Disk images, by qemu-img and qemu-nbd on the hypervisor's host. No virsh has a part in it."""

from __future__ import annotations

from kvm.groups.image.image import Image
from kvm.groups.image.names import File, Progress, Setting, Settings, Size, Url
from kvm.groups.image.shapes import Check, Extent, ImageInfo, Measure, Snapshot

__all__ = [
    "Check",
    "Extent",
    "File",
    "Image",
    "ImageInfo",
    "Measure",
    "Progress",
    "Setting",
    "Settings",
    "Size",
    "Snapshot",
    "Url",
]
