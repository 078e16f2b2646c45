"""The options of the subcommands.

An option stands once, in the TypedDict of its subcommand: its name (the long one of qemu-img 11), its type, the letter
that every release knows, and how the value is written where that is not as plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, get_args, get_type_hints

from kvm.errors import InvalidArgumentError
from kvm.groups.image.names import (
    Cache,
    File,
    Progress,
    Setting,
    Settings,
    Size,
    file_word,
    path_word,
    rate_word,
    settings_word,
    size_word,
    snapshot_word,
    text_word,
)
from kvm.virsh.jobs import Cancel
from unix.host import Path


class Objects(TypedDict, total=False):
    """What the options of an image may refer to by its id.

    `secrets` are passphrases by id, bytes or text (in UTF-8): ``secrets={'sec0': b'...'}``. They get to qemu-img by a
    pipe, and are on no command line. `objects` are others, as ``[{'qom-type': 'tls-creds-x509', 'id': 'tls0', ...}]``.
    """

    secrets: Mapping[str, bytes | str]
    objects: Annotated[Sequence[Settings], "--object", settings_word]


class AmendOptions(Objects, total=False):
    """qemu-img: ``amend``."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    force: Annotated[bool, "--force"]
    progress: Progress | None
    cancel: Cancel | None
    quiet: Annotated[bool, "-q"]


class BenchOptions(Objects, total=False):
    """qemu-img: ``bench``. Sizes and the offset in bytes."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    count: Annotated[int, "-c"]
    depth: Annotated[int, "-d"]
    offset: Annotated[Size, "-o", size_word]
    buffer_size: Annotated[Size, "-s", size_word]
    step_size: Annotated[Size, "-S", size_word]
    write: Annotated[bool, "-w"]
    pattern: Annotated[int, "--pattern"]
    flush_interval: Annotated[int, "--flush-interval"]
    no_drain: Annotated[bool, "--no-drain"]
    aio: Annotated[Literal["threads", "native", "io_uring"], "-i"]
    native: Annotated[bool, "-n"]
    force_share: Annotated[bool, "-U"]
    quiet: bool


class BitmapOptions(Objects, total=False):
    """qemu-img: ``bitmap``. `granularity` in bytes."""

    format: Annotated[str, "-f"]
    add: Annotated[bool, "--add"]
    remove: Annotated[bool, "--remove"]
    remove_all: Annotated[bool, "--remove-all"]
    clear: Annotated[bool, "--clear"]
    enable: Annotated[bool, "--enable"]
    disable: Annotated[bool, "--disable"]
    merge: Annotated[str | Sequence[str], "--merge"]
    granularity: Annotated[Size, "-g", size_word]
    source_file: Annotated[File, "-b", file_word]
    source_format: Annotated[str, "-F"]


class CheckOptions(Objects, total=False):
    """qemu-img: ``check``."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-T"]
    repair: Annotated[Literal["leaks", "all"], "-r"]
    force_share: Annotated[bool, "-U"]
    output: str
    quiet: bool


class CommitOptions(Objects, total=False):
    """qemu-img: ``commit``. `rate_limit` in bytes per second."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    drop: Annotated[bool, "-d"]
    base: Annotated[File, "-b", file_word]
    rate_limit: Annotated[Size, "-r", rate_word]
    progress: Progress | None
    cancel: Cancel | None
    quiet: Annotated[bool, "-q"]


class CompareOptions(Objects, total=False):
    """qemu-img: ``compare``."""

    a_format: Annotated[str, "-f"]
    b_format: Annotated[str, "-F"]
    strict: Annotated[bool, "-s"]
    cache: Annotated[Cache, "-T"]
    force_share: Annotated[bool, "-U"]
    progress: Progress | None
    cancel: Cancel | None
    quiet: bool


class ConvertOptions(Objects, total=False):
    """qemu-img: ``convert``. `sparse_size` in bytes, `rate_limit` in bytes per second."""

    source_format: Annotated[str, "-f"]
    source_cache: Annotated[Cache, "-T"]
    snapshot: Annotated[str | int, "-l", snapshot_word]
    bitmaps: Annotated[bool, "--bitmaps"]
    skip_broken_bitmaps: Annotated[bool, "--skip-broken-bitmaps"]
    salvage: Annotated[bool, "--salvage"]
    target_format: Annotated[str, "-O"]
    target_format_options: Annotated[Settings, "-o", settings_word]
    target_cache: Annotated[Cache, "-t"]
    backing: Annotated[File, "-B", file_word]
    backing_format: Annotated[str, "-F"]
    sparse_size: Annotated[Size, "-S", size_word]
    no_create: Annotated[bool, "-n"]
    target_is_zero: Annotated[bool, "--target-is-zero"]
    compress: Annotated[bool, "-c"]
    force_share: Annotated[bool, "-U"]
    rate_limit: Annotated[Size, "-r", rate_word]
    parallel: Annotated[int, "-m"]
    copy_range_offloading: Annotated[bool, "-C"]
    oob_writes: Annotated[bool, "-W"]
    progress: Progress | None
    cancel: Cancel | None
    quiet: Annotated[bool, "-q"]


class CreateOptions(Objects, total=False):
    """qemu-img: ``create``."""

    format: Annotated[str, "-f"]
    options: Annotated[Settings, "-o", settings_word]
    backing: Annotated[File, "-b", file_word]
    backing_format: Annotated[str, "-F"]
    backing_unsafe: Annotated[bool, "-u"]
    quiet: Annotated[bool, "-q"]


class DdOptions(Objects, total=False):
    """qemu-img: ``dd``. `bs` in bytes, `count` and `skip` in blocks of that."""

    format: Annotated[str, "-f"]
    output_format: Annotated[str, "-O"]
    force_share: Annotated[bool, "-U"]
    bs: Annotated[Size, "bs=", size_word]
    count: Annotated[int, "count="]
    skip: Annotated[int, "skip="]


class InfoOptions(Objects, total=False):
    """qemu-img: ``info``."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    force_share: Annotated[bool, "-U"]
    limits: Annotated[bool, "--limits"]
    output: str


class MapOptions(Objects, total=False):
    """qemu-img: ``map``. `start_offset` and `max_length` in bytes."""

    format: Annotated[str, "-f"]
    start_offset: Annotated[Size, "--start-offset", size_word]
    max_length: Annotated[Size, "--max-length", size_word]
    force_share: Annotated[bool, "-U"]
    output: str


class MeasureOptions(Objects, total=False):
    """qemu-img: ``measure``. `size` in bytes."""

    format: Annotated[str, "-f"]
    snapshot: Annotated[str | int, "-l", snapshot_word]
    target_format: Annotated[str, "-O"]
    target_format_options: Annotated[Settings, "-o", settings_word]
    size: Annotated[Size, "--size", size_word]
    force_share: Annotated[bool, "-U"]
    output: str


class RebaseOptions(Objects, total=False):
    """qemu-img: ``rebase``."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    backing_format: Annotated[str, "-F"]
    backing_cache: Annotated[Cache, "-T"]
    backing_unsafe: Annotated[bool, "-u"]
    compress: Annotated[bool, "-c"]
    force_share: Annotated[bool, "-U"]
    progress: Progress | None
    cancel: Cancel | None
    quiet: Annotated[bool, "-q"]


class ResizeOptions(Objects, total=False):
    """qemu-img: ``resize``."""

    format: Annotated[str, "-f"]
    shrink: Annotated[bool, "--shrink"]
    preallocation: Annotated[Literal["off", "metadata", "falloc", "full"], "--preallocation"]
    quiet: Annotated[bool, "-q"]


class SnapshotOptions(Objects, total=False):
    """qemu-img: ``snapshot``."""

    format: Annotated[str, "-f"]
    force_share: Annotated[bool, "-U"]
    quiet: Annotated[bool, "-q"]


class LoadOptions(Objects, total=False):
    """qemu-nbd: ``--connect``. `offset` in bytes."""

    format: Annotated[str, "--format"]
    read_only: Annotated[bool, "--read-only"]
    snapshot: Annotated[bool, "--snapshot"]
    load_snapshot: Annotated[str | int, "--load-snapshot", snapshot_word]
    offset: Annotated[Size, "--offset", size_word]
    nocache: Annotated[bool, "--nocache"]
    cache: Annotated[Cache, "--cache"]
    aio: Annotated[Literal["threads", "native", "io_uring"], "--aio"]
    discard: Annotated[Literal["ignore", "unmap"], "--discard"]
    detect_zeroes: Annotated[Literal["off", "on", "unmap"], "--detect-zeroes"]
    persistent: Annotated[bool, "--persistent"]
    shared: Annotated[int, "--shared"]
    socket: Annotated[Path, "--socket", path_word]
    pid_file: Annotated[Path, "--pid-file", path_word]


@cache
def declared(shape: type) -> dict[str, tuple[str, Callable[[Any], str] | None]]:
    """The options of a TypedDict: how each is called on the command line, and how its value, if any, is written."""
    declared: dict[str, tuple[str, Callable[[Any], str] | None]] = {}
    hints = get_type_hints(shape, localns={"Setting": Setting}, include_extras=True)  # Setting names itself
    for name, kind in hints.items():
        flag, convert = (*getattr(kind, "__metadata__", ("",)), text_word)[:2]
        declared[name] = (flag, None if get_args(kind)[:1] == (bool,) else convert)
    return declared


def option_words(command: str, shape: type, given: Mapping[str, object]) -> list[str]:
    """The words of options, in their order. `TypeError` for one that the subcommand does not have."""
    words: list[str] = []
    known = declared(shape)
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"qemu-img {command} has no option {name!r}")
        flag, convert = known[name]
        if not flag or value is None or value is False or value == {}:
            continue
        if convert is None:
            if value is not True:
                raise InvalidArgumentError(f"qemu-img {command}: {name} is True or False, not {value!r}")
            words.append(flag)
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [flag + convert(one)] if flag.endswith("=") else [flag, convert(one)]
    return words
