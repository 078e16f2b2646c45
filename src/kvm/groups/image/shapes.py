"""What is told of an image."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NotRequired, TypedDict


class Snapshot(TypedDict):
    """An internal snapshot.

    `id` is an int, or a text where the format numbers none. `vm_state_size` in bytes, 0 without a state of the machine;
    `date` is when it was made, `vm_clock` how long the guest had run, in nanoseconds. Names need not be unique.
    """

    id: int | str
    name: str
    vm_state_size: int
    date: datetime
    vm_clock: int
    icount: NotRequired[int]


class FormatSpecific(TypedDict):
    """What only one format has: `type` is its name, `data` what qemu tells, such as the `bitmaps` of a qcow2."""

    type: str
    data: dict[str, Any]


class Child(TypedDict):
    """A node below an image, as its ``'file'``."""

    name: str
    info: ImageInfo


class ImageInfo(TypedDict):
    """An image; what it does not have is not there.

    `virtual_size` is the guest's, `actual_size` what the file takes up on the host, `cluster_size`: all in bytes.
    `backing_filename` is as written in the image, `full_backing_filename` as it is found from here. Bytes of a name
    that are no UTF-8 are U+FFFD.
    """

    filename: str
    format: str
    virtual_size: int
    dirty_flag: bool
    actual_size: NotRequired[int]
    cluster_size: NotRequired[int]
    encrypted: NotRequired[bool]
    compressed: NotRequired[bool]
    backing_filename: NotRequired[str]
    full_backing_filename: NotRequired[str]
    backing_filename_format: NotRequired[str]
    snapshots: NotRequired[list[Snapshot]]
    format_specific: NotRequired[FormatSpecific]
    children: NotRequired[list[Child]]
    limits: NotRequired[dict[str, Any]]


class Check(TypedDict):
    """What a check has found: numbers of clusters, and `image_end_offset` in bytes.

    `corruptions` harm the guest's data, `leaks` only take up space. After a repair these are what is left, and
    `corruptions_fixed` and `leaks_fixed` what was repaired.
    """

    filename: str
    format: str
    check_errors: int
    corruptions: int
    leaks: int
    corruptions_fixed: int
    leaks_fixed: int
    image_end_offset: NotRequired[int]
    total_clusters: NotRequired[int]
    allocated_clusters: NotRequired[int]
    fragmented_clusters: NotRequired[int]
    compressed_clusters: NotRequired[int]


class Extent(TypedDict):
    """A part of an image; `start`, `length` and `offset` in bytes.

    `depth` is where it was found: 0 in the image, 1 in its backing file, ... `present`: whether one of them has it;
    `zero`: whether it reads as zeros; `data`: whether it has data of its own, at `offset` in the file if that is there.
    """

    start: int
    length: int
    depth: int
    zero: bool
    data: bool
    present: NotRequired[bool]
    compressed: NotRequired[bool]
    offset: NotRequired[int]


class Measure(TypedDict):
    """The size that a new image needs, in bytes: for what is in it now, when all is written, and for its bitmaps."""

    required: int
    fully_allocated: int
    bitmaps: NotRequired[int]
