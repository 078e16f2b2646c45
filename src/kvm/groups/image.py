"""Disk images, by qemu-img and qemu-nbd on the hypervisor's host. No virsh has a part in it.

An image is told by the path of its file, which then is that file whatever its name looks like: qemu itself would take
``a:b`` for a protocol and ``-a`` for an option. What qemu is to read in its own way is told by another type: a dict of
block device options, or a `Url`.

An option stands once, in the TypedDict of its subcommand: its name (the long one of qemu-img 11), its type, the letter
that every release knows, and how the value is written where that is not as plain text.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import os
import re
import selectors
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    get_args,
    get_type_hints,
    overload,
)

import unix
from kvm import errors, text
from kvm.errors import (
    AlreadyExistsError,
    CannotConnectError,
    CommandTimeoutError,
    ConnectionLostError,
    DeniedError,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NoQemuImgError,
    NotFoundError,
    NotSupportedError,
    UnreadableOutputError,
)
from unix.host import Path
from unix.result import Result
from unix.words import encode, word

T = TypeVar("T")

logger = logging.getLogger("kvm")


# -- what is given ------------------------------------------------------------------------------------------------


class Url(str):
    """An image as qemu itself reads its name: ``Url('nbd://hv2/web1')``, ``Url('json:{"driver": ...}')``."""

    __slots__ = ()


Setting = Path | int | bool | None | Mapping[str, "Setting"] | Sequence["Setting"]
"""The value of an option of a format, of a block device or of an object; what is in a mapping has a dotted name."""

Settings = Mapping[str, Setting]

File = Path | Settings | Url
"""An image: the path of a file, a dict of block device options as ``{'driver': 'nbd', ...}``, or a `Url`."""

Size = int | str
"""Bytes, or a text with a suffix for a power of 1024: ``'10G'``."""

Cache = Literal["none", "writeback", "writethrough", "directsync", "unsafe"]

Progress = Callable[[float], object]
"""Is told how much is done, from 0.0 to 1.0. What it raises ends qemu-img, and is raised."""


def _word(argument: unix.Argument) -> str:
    """An argument as one word."""
    try:
        return word(argument)
    except unix.ArgumentError as error:
        raise InvalidArgumentError(f"qemu-img: {error}") from error


def _path(path: Path) -> str:
    """A path as a word that qemu takes neither for an option nor for a protocol."""
    named = _word(path)
    if not named:
        raise InvalidArgumentError("the name of an image is empty")
    has_protocol = re.match(r"[^/]*:", named) is not None
    return f"./{named}" if has_protocol or named.startswith("-") else named


def _file(file: File, format: str | None = None) -> str:
    """An image as a word; `format` is what it was said to be beside that."""
    if isinstance(file, Url):
        return _word(str(file))
    if not isinstance(file, Mapping):
        return _path(file)
    if format is not None:
        raise InvalidArgumentError(f"an image that is told by its options has its format there, as driver: {format!r}")
    return f"json:{json.dumps(_plain(file), ensure_ascii=False)}"


def _plain(setting: Setting) -> object:
    """A setting as JSON has it."""
    if isinstance(setting, Mapping):
        return {name: _plain(each) for name, each in setting.items()}
    if isinstance(setting, list | tuple):
        return [_plain(each) for each in setting]
    return int(setting) if isinstance(setting, int) and not isinstance(setting, bool) else _unless_path(setting)


def _unless_path(setting: object) -> object:
    return setting if isinstance(setting, bool | None) else _word(cast(Path, setting))


def _settings(settings: Settings) -> str:
    """Settings as ``name=value,...``."""
    return ",".join([f"{name}={value.replace(',', ',,')}" for name, value in _flat(settings)])


def _flat(settings: Settings | Sequence[Setting], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and texts; members of a list are numbered, and what is None is left out."""
    flat: list[tuple[str, str]] = []
    for name, value in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
        if isinstance(value, Mapping | list | tuple):
            flat += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            flat.append((f"{prefix}{name}", "on" if value else "off"))
        elif value is not None:
            flat.append((f"{prefix}{name}", _text(value)))
    return flat


def _text(value: object) -> str:
    """A number, a text or a path as a word."""
    if isinstance(value, bool | float):
        raise InvalidArgumentError(f"expected a whole number or a text, not {value!r}")
    return str(int(value)) if isinstance(value, int) else _word(cast(Path, value))


def _snapshot(snapshot: str | int) -> str:
    """The internal snapshot with an id (an int) or of a name, as -l takes it."""
    return _settings({"snapshot.id" if isinstance(snapshot, int) else "snapshot.name": snapshot})


# -- the options of the subcommands -------------------------------------------------------------------------------


class Objects(TypedDict, total=False):
    """What the options of an image may refer to by its id.

    `secrets` are passphrases by id, bytes or text (in UTF-8): ``secrets={'sec0': b'...'}``. They get to qemu-img by a
    pipe, and are on no command line. `objects` are others, as ``[{'qom-type': 'tls-creds-x509', 'id': 'tls0', ...}]``.
    """

    secrets: Mapping[str, bytes | str]
    objects: Annotated[Sequence[Settings], "--object", _settings]


class AmendOptions(Objects, total=False):
    """qemu-img: ``amend``."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    force: Annotated[bool, "--force"]
    progress: Progress | None
    quiet: Annotated[bool, "-q"]


class BenchOptions(Objects, total=False):
    """qemu-img: ``bench``. Sizes and the offset in bytes."""

    format: Annotated[str, "-f"]
    cache: Annotated[Cache, "-t"]
    count: Annotated[int, "-c"]
    depth: Annotated[int, "-d"]
    offset: Annotated[Size, "-o"]
    buffer_size: Annotated[Size, "-s"]
    step_size: Annotated[Size, "-S"]
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
    granularity: Annotated[Size, "-g"]
    source_file: Annotated[File, "-b", _file]
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
    base: Annotated[File, "-b", _file]
    rate_limit: Annotated[Size, "-r"]
    progress: Progress | None
    quiet: Annotated[bool, "-q"]


class CompareOptions(Objects, total=False):
    """qemu-img: ``compare``."""

    a_format: Annotated[str, "-f"]
    b_format: Annotated[str, "-F"]
    strict: Annotated[bool, "-s"]
    cache: Annotated[Cache, "-T"]
    force_share: Annotated[bool, "-U"]
    progress: Progress | None
    quiet: bool


class ConvertOptions(Objects, total=False):
    """qemu-img: ``convert``. `sparse_size` in bytes, `rate_limit` in bytes per second."""

    source_format: Annotated[str, "-f"]
    source_cache: Annotated[Cache, "-T"]
    snapshot: Annotated[str | int, "-l", _snapshot]
    bitmaps: Annotated[bool, "--bitmaps"]
    skip_broken_bitmaps: Annotated[bool, "--skip-broken-bitmaps"]
    salvage: Annotated[bool, "--salvage"]
    target_format: Annotated[str, "-O"]
    target_format_options: Annotated[Settings, "-o", _settings]
    target_cache: Annotated[Cache, "-t"]
    backing: Annotated[File, "-B", _file]
    backing_format: Annotated[str, "-F"]
    sparse_size: Annotated[Size, "-S"]
    no_create: Annotated[bool, "-n"]
    target_is_zero: Annotated[bool, "--target-is-zero"]
    compress: Annotated[bool, "-c"]
    force_share: Annotated[bool, "-U"]
    rate_limit: Annotated[Size, "-r"]
    parallel: Annotated[int, "-m"]
    copy_range_offloading: Annotated[bool, "-C"]
    oob_writes: Annotated[bool, "-W"]
    progress: Progress | None
    quiet: Annotated[bool, "-q"]


class CreateOptions(Objects, total=False):
    """qemu-img: ``create``."""

    format: Annotated[str, "-f"]
    options: Annotated[Settings, "-o", _settings]
    backing: Annotated[File, "-b", _file]
    backing_format: Annotated[str, "-F"]
    backing_unsafe: Annotated[bool, "-u"]
    quiet: Annotated[bool, "-q"]


class DdOptions(Objects, total=False):
    """qemu-img: ``dd``. `bs` in bytes, `count` and `skip` in blocks of that."""

    format: Annotated[str, "-f"]
    output_format: Annotated[str, "-O"]
    force_share: Annotated[bool, "-U"]
    bs: Annotated[Size, "bs="]
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
    start_offset: Annotated[Size, "--start-offset"]
    max_length: Annotated[Size, "--max-length"]
    force_share: Annotated[bool, "-U"]
    output: str


class MeasureOptions(Objects, total=False):
    """qemu-img: ``measure``. `size` in bytes."""

    format: Annotated[str, "-f"]
    snapshot: Annotated[str | int, "-l", _snapshot]
    target_format: Annotated[str, "-O"]
    target_format_options: Annotated[Settings, "-o", _settings]
    size: Annotated[Size, "--size"]
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
    load_snapshot: Annotated[str | int, "--load-snapshot", _snapshot]
    offset: Annotated[int, "--offset"]
    nocache: Annotated[bool, "--nocache"]
    cache: Annotated[Cache, "--cache"]
    aio: Annotated[Literal["threads", "native", "io_uring"], "--aio"]
    discard: Annotated[Literal["ignore", "unmap"], "--discard"]
    detect_zeroes: Annotated[Literal["off", "on", "unmap"], "--detect-zeroes"]
    persistent: Annotated[bool, "--persistent"]
    shared: Annotated[int, "--shared"]
    socket: Annotated[Path, "--socket", _path]
    pid_file: Annotated[Path, "--pid-file", _path]


# -- what is told -------------------------------------------------------------------------------------------------


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


# -- the subcommands ----------------------------------------------------------------------------------------------


class Image:
    """Disk images on `host`, by its qemu-img. Without `check` an action that fails returns its Result.

    Wherever there are options, `Objects` are among them. An action returns a Result. `format`, `cache`, `quiet` and
    the like are those of qemu-img; `output` and, where there is a value, `quiet` make no difference.
    """

    def __init__(self, host: unix.Host, *, check: bool = True) -> None:
        self._host = host
        self._check = check

    def amend(self, filename: File, options: Settings, **more: Unpack[AmendOptions]) -> Result:
        """Change options of an image's format: ``{'compat': '1.1'}``. qemu-img: ``amend``.

        ``force=True`` allows what is not safe, as erasing the last key of a LUKS image.
        """
        return self._act(_Job("amend", AmendOptions, more, filename).with_words("-o", _settings(options)))

    def bench(self, filename: File, **options: Unpack[BenchOptions]) -> float:
        """How long requests to an image take together, in seconds. qemu-img: ``bench``.

        `count` requests of `buffer_size` bytes, `depth` of them at once; from `offset` on, each `step_size` after the
        one before. They read; with ``write=True`` they *overwrite the image* with the byte `pattern`.
        """
        return self._value(_Job("bench", BenchOptions, options, filename), _seconds, repeat=False)

    def bitmap(self, filename: File, bitmap: str | None = None, **options: Unpack[BitmapOptions]) -> Result:
        """Do something with a persistent bitmap of an image; several things in the order given. qemu-img: ``bitmap``.

        ``add=True`` makes it, with a `granularity` in bytes; `remove`, `clear`, `enable`, `disable`; ``merge='other'``
        adds what is set in another one, which may be in `source_file`. ``remove_all=True`` needs no `bitmap`.
        """
        return self._act(_Job("bitmap", BitmapOptions, options, filename, *([] if bitmap is None else [bitmap])))

    def check(self, filename: File, **options: Unpack[CheckOptions]) -> Check:
        """Whether an image is consistent; what is wrong with it is in the value. qemu-img: ``check``.

        ``repair='leaks'`` or ``'all'`` repairs it first. `NotSupportedError` for formats that have no check.
        """
        job = _Job("check", CheckOptions, options, filename).with_words("--output=json")
        return self._value(job, _check, answers=(0, 2, 3), repeat=not options.get("repair"))

    def commit(self, filename: File, **options: Unpack[CommitOptions]) -> Result:
        """Write what an image has into its backing file, or into `base` further down. qemu-img: ``commit``.

        The image is emptied after that; not with ``drop=True``, nor with `base`.
        """
        return self._act(_Job("commit", CommitOptions, options, filename))

    def compare(self, filename1: File, filename2: File, **options: Unpack[CompareOptions]) -> bool:
        """Whether a guest would see the same in two images. qemu-img: ``compare``.

        What one has beyond the end of the other may be zeros; with ``strict=True`` sizes and allocation must be equal.
        """
        second = _file(filename2, options.get("b_format"))
        job = _Job("compare", CompareOptions, options, filename1, second, format=options.get("a_format"))
        return self._value(job, _same, answers=(0, 1))

    def convert(
        self, filename: File | Sequence[File], output_filename: File, **options: Unpack[ConvertOptions]
    ) -> Result:
        """Copy an image, or several one behind the other, to a new one in `target_format`. qemu-img: ``convert``.

        `target_format` is raw if it is not given. ``compress=True``, ``snapshot='name'`` (or an id, as an int) for the
        state in an internal snapshot, ``no_create=True`` to write to one that is there. If it fails, what was written
        until then is left.
        """
        sources = filename if isinstance(filename, list | tuple) else [cast(File, filename)]
        files = [_file(each, options.get("source_format")) for each in sources]
        job = _Job("convert", ConvertOptions, options, output_filename, operands=[*files, _target(output_filename)])
        return self._act(job.with_words(*(["--target-image-opts"] if isinstance(output_filename, Mapping) else [])))

    def create(self, filename: File, size: Size | None = None, **options: Unpack[CreateOptions]) -> Result:
        """Make an image of `size` bytes in `format`, raw if none is given. qemu-img: ``create``.

        **What is at `filename` is overwritten.** With `backing` it has only what differs from that image; its name is
        written down as it is given, and read from the directory of the new image. `size` is then that image's if not
        given. `options` are the format's: ``{'cluster_size': 65536, 'encrypt': {'format': 'luks', ...}}``.
        """
        return self._act(_Job("create", CreateOptions, options, filename, *([] if size is None else [_text(size)])))

    def dd(self, if_: File, of: File, **options: Unpack[DdOptions]) -> Result:
        """Copy blocks of an image to a new one in `output_format`, raw if none is given. qemu-img: ``dd``.

        The first `count` blocks of `bs` bytes (512) without the first `skip` of them: `count` counts these as well.
        """
        files = [f"if={_file(if_, options.get('format'))}", f"of={_file(of)}"]
        return self._act(_Job("dd", DdOptions, options, of, operands=files))

    @overload
    def info(
        self, filename: File, *, backing_chain: Literal[False] = False, **options: Unpack[InfoOptions]
    ) -> ImageInfo: ...
    @overload
    def info(
        self, filename: File, *, backing_chain: Literal[True], **options: Unpack[InfoOptions]
    ) -> list[ImageInfo]: ...
    def info(
        self, filename: File, *, backing_chain: bool = False, **options: Unpack[InfoOptions]
    ) -> ImageInfo | list[ImageInfo]:
        """What an image is, see `ImageInfo`. qemu-img: ``info``.

        With `backing_chain` a list: the image, its backing file, that one's, ... ``force_share=True`` for an image that
        a running guest writes to.
        """
        job = _Job("info", InfoOptions, options, filename).with_words("--output=json")
        if backing_chain:
            return self._value(job.with_words("--backing-chain"), _infos)
        return self._value(job, _info)

    def map(self, filename: File, **options: Unpack[MapOptions]) -> list[Extent]:
        """Where in an image and its backing files the data is, from `start_offset` on. qemu-img: ``map``."""
        job = _Job("map", MapOptions, options, filename).with_words("--output=json")
        return self._value(job, lambda output: cast(list[Extent], _parsed(output, list)))

    def measure(self, filename: File | None = None, **options: Unpack[MeasureOptions]) -> Measure:
        """The size that a new image in `target_format` would need. qemu-img: ``measure``.

        For a copy of `filename`, or for an empty one of `size` bytes.
        """
        job = _Job("measure", MeasureOptions, options, filename).with_words("--output=json")
        return self._value(job, lambda output: cast(Measure, _parsed(output, dict)))

    def rebase(self, filename: File, backing: File | None, **options: Unpack[RebaseOptions]) -> Result:
        """Give an image another backing file, or none, with its content as it was. qemu-img: ``rebase``.

        ``backing_unsafe=True`` only writes down the name, for a backing file that has moved. A relative name is read
        from the directory of the image.
        """
        job = _Job("rebase", RebaseOptions, options, filename)
        return self._act(job.with_words("-b", _file(backing) if backing is not None else ""))

    def resize(self, filename: File, size: Size, **options: Unpack[ResizeOptions]) -> Result:
        """Make an image `size` bytes long, or longer or shorter by that: ``'+10G'``. qemu-img: ``resize``.

        ``shrink=True`` is needed to make it shorter, which cuts off what is there.
        """
        return self._act(_Job("resize", ResizeOptions, options, filename, _text(size)))

    @overload
    def snapshot(
        self, filename: File, *, list: Literal[True] = True, **options: Unpack[SnapshotOptions]
    ) -> list[Snapshot]: ...
    @overload
    def snapshot(self, filename: File, *, create: str, **options: Unpack[SnapshotOptions]) -> Result: ...
    @overload
    def snapshot(self, filename: File, *, apply: str | int, **options: Unpack[SnapshotOptions]) -> Result: ...
    @overload
    def snapshot(self, filename: File, *, delete: str | int, **options: Unpack[SnapshotOptions]) -> Result: ...
    def snapshot(
        self,
        filename: File,
        *,
        list: Literal[True] | None = None,
        create: str | None = None,
        apply: str | int | None = None,
        delete: str | int | None = None,
        **options: Unpack[SnapshotOptions],
    ) -> list[Snapshot] | Result:
        """The internal snapshots of an image, in order; or make, go back to, or delete one. qemu-img: ``snapshot``.

        ``create='name'`` makes one, whether or not another has that name. To `apply` and `delete` a str is a name, of
        which the first counts, and an int is an id.
        """
        actions = {letter: each for letter, each in (("-c", create), ("-a", apply), ("-d", delete)) if each is not None}
        if len(actions) > 1 or (actions and list):
            raise InvalidArgumentError("qemu-img snapshot: give one of list, create, apply and delete")
        if not actions:
            shown = {name: value for name, value in options.items() if name != "quiet"}
            job = _Job("info", InfoOptions, shown, filename).with_words("--output=json")
            return self._value(job, lambda output: _info(output).get("snapshots", []))
        ((letter, wanted),) = actions.items()
        if letter == "-c" and len(encode(_text(wanted))) > _LONGEST_NAME:
            raise InvalidArgumentError(f"qemu-img snapshot: a name has at most {_LONGEST_NAME} bytes: {wanted!r}")
        exact = str(wanted)
        if isinstance(wanted, int) or (letter == "-a" and wanted.isdecimal()):
            try:
                exact = _exactly(letter, wanted, self.snapshot(filename, **options))
            except KvmError as error:
                if self._check:
                    raise
                return Result(1, "", f"{error}\n")
        return self._act(_Job("snapshot", SnapshotOptions, options, filename).with_words(letter, exact))

    def load(self, path: File, device: str = "nbd0", **options: Unpack[LoadOptions]) -> Result:
        """Make an image a block device of the host, ``/dev/nbd0``, until `unload`. qemu-nbd: ``--connect``.

        ``read_only=True``; ``snapshot=True`` forgets in the end what was written; ``load_snapshot='name'`` (or an id,
        as an int) shows an internal snapshot. The host's kernel needs its module nbd.
        """
        return self._act(_Job(f"--connect={_device(device)}", LoadOptions, options, path, program="qemu-nbd"))

    def unload(self, device: str = "nbd0") -> Result:
        """Take an image away from ``/dev/nbd0``. qemu-nbd: ``--disconnect``."""
        return self._act(_Job("--disconnect", Objects, {}, _device(device), program="qemu-nbd"))

    def version(self) -> str:
        """The version of qemu-img, as ``'7.2.22'``. qemu-img: ``--version``."""
        return self._value(_Job("--version", Objects, {}, None), _version)

    # -- running it ----------------------------------------------------------------------------------------------

    def _act(self, job: _Job) -> Result:
        """The result of what changes something."""
        doubt = f"; what is at {job.about} may not be complete"
        result = self._run(job, doubt)
        if isinstance(result, KvmError):
            if self._check:
                raise result
            return Result(255, "", f"{result}\n")
        if self._check and not result.status:
            raise _failure(job, result, doubt)
        return result

    def _value(
        self, job: _Job, parse: Callable[[str], T], *, answers: Collection[int] = (0,), repeat: bool = True
    ) -> T:
        """What `parse` makes of an output; `answers` are the exit statuses of which there is one.

        What only reads may be asked a second time, if the connection was lost.
        """
        result = self._run(job)
        if isinstance(result, ConnectionLostError) and repeat:
            result = self._run(job)
        if isinstance(result, KvmError):
            raise result
        if result.return_code in answers:
            try:
                return parse(result.stdout)
            except UnreadableOutputError:
                if result.status:
                    raise
        raise _failure(job, result)  # an exit status that may be an answer may be an error all the same

    def _run(self, job: _Job, doubt: str = "") -> Result | KvmError:
        """The result of a job, or what has come in between; raises what is wrong with the job or the host."""
        words, data = job.command_line()
        logger.debug("%s", " ".join(job.words))
        try:
            with self._host.set_controls(locale="C.UTF-8", decode="utf-8"):
                if job.progress:
                    result = _watched(self._host, words, data, job.progress)
                else:
                    result = self._host.run(words, input=data)
        except _StoppedError as error:
            stopped = error.reason
        except unix.CommandTimeoutError as error:
            return job.error(CommandTimeoutError, f"it did not end within {error.timeout:g} s and was stopped{doubt}")
        except unix.ConnectionLostError as error:
            return job.error(ConnectionLostError, f"{error}{doubt}")
        except unix.ConnectError as error:
            return job.error(CannotConnectError, str(error))
        except unix.ArgumentError as error:
            raise job.error(InvalidArgumentError, str(error)) from error
        else:
            if result.return_code == 127 and job.words[0] in result.stderr:
                reason = f"there is no {job.words[0]} on {self._host}"
                raise NoQemuImgError(errors.describe(NoQemuImgError, reason), command=job.words)
            return result
        raise stopped


class _Job:
    """One run of a program: its words, its secrets, who is told of its progress, and which image it is about.

    Its operands are that image, with `more` words behind it, unless others are given.
    """

    def __init__(
        self,
        command: str,
        shape: type,
        given: Mapping[str, object],
        about: File | None,
        *more: str,
        format: str | None = None,
        operands: Sequence[str] | None = None,
        program: str = "qemu-img",
    ) -> None:
        self.progress = cast(Progress | None, given.get("progress"))
        self.about = "" if about is None else _file(about) if isinstance(about, Mapping) else _word(about)
        self._secrets = cast(Mapping[str, bytes | str], given.get("secrets") or {})
        self._begin = [program, command]
        self._options: list[str] = []
        for number, name in enumerate(self._secrets, _FIRST):
            told = _settings({"id": name, "format": "base64", "file": f"/dev/fd/{number}"})
            self._options += ["--object", f"secret,{told}"]
        self._options += _options(command, shape, {**given, "quiet": None} if self.progress else given)
        self._options += ["-p"] if self.progress else []
        if operands is None and about is not None:
            operands = [_file(about, format or cast(str | None, given.get("format")))]
        self._operands = [*(operands or []), *more]

    def with_words(self, *words: str) -> _Job:
        """The same with more words before the operands."""
        self._options += words
        return self

    @property
    def words(self) -> list[str]:
        """The words of the program; there are no secrets in them."""
        return [*self._begin, *self._options, *(["--", *self._operands] if self._operands else [])]

    def command_line(self) -> tuple[list[str], bytes | None]:
        """The words to run, and what goes to their standard input.

        qemu reads a secret from a descriptor. A shell makes pipes for them of the lines of its input.
        """
        if not self._secrets:
            return self.words, None
        numbers = range(_FIRST, _FIRST + len(self._secrets))
        if len(numbers) > _MOST:
            raise self.error(InvalidArgumentError, f"it can be given {_MOST} secrets, not {len(numbers)}")
        read = "; ".join([f"unset s{number}; IFS= read -r s{number}" for number in numbers])
        pipes = " ".join([f"{number}<<E{number}" for number in numbers])
        contents = "\n".join([f"$s{number}\nE{number}" for number in numbers])
        secrets = [encode(each) if isinstance(each, str) else bytes(each) for each in self._secrets.values()]
        data = b"".join([base64.b64encode(each) + b"\n" for each in secrets])
        return ["sh", "-c", f'{read}\nexec "$@" {pipes}\n{contents}\n', "sh", *self.words], data

    def error(self, kind: type[KvmError], reason: str, stderr: str = "", return_code: int | None = None) -> KvmError:
        """An error that tells which image it is about."""
        about = "" if self.about in reason else f" ({self.about})"
        message = f"{' '.join(self._begin)}: {reason}{about}"
        return kind(message, command=self.words, stderr=stderr, return_code=return_code)

    def without_names(self, said: str) -> str:
        """What qemu-img said, without the names in it."""
        for name in sorted({self.about, *self._operands} - {""}, key=len, reverse=True):
            said = said.replace(f"'{name}'", "''").replace(f"[{name}]", "[]").replace(f": {name}: ", ": ")
        return said


_FIRST, _MOST = 3, 7
"""The first descriptor for a secret, and how many a shell can name."""

_LONGEST_NAME = 255
"""The bytes that are kept of the name of a snapshot."""


@cache
def _declared(shape: type) -> dict[str, tuple[str, Callable[[Any], str] | None]]:
    """The options of a TypedDict: how each is called on the command line, and how its value, if any, is written."""
    declared: dict[str, tuple[str, Callable[[Any], str] | None]] = {}
    for name, kind in get_type_hints(shape, include_extras=True).items():
        flag, convert = (*getattr(kind, "__metadata__", ("",)), _text)[:2]
        declared[name] = (flag, None if get_args(kind)[:1] == (bool,) else convert)
    return declared


def _options(command: str, shape: type, given: Mapping[str, object]) -> list[str]:
    """The words of options, in their order. `TypeError` for one that the subcommand does not have."""
    words: list[str] = []
    known = _declared(shape)
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


def _target(file: File) -> str:
    """The word for what is converted to; a dict goes as a list of options, because as ``json:`` it would be raw."""
    return _settings(file) if isinstance(file, Mapping) else _file(file)


def _device(device: str) -> str:
    return device if "/" in device else f"/dev/{device}"


def _exactly(letter: str, wanted: str | int, snapshots: Sequence[Snapshot]) -> str:
    """What to tell qemu-img so that it takes the snapshot that is wanted: it applies by id or name, deletes by name."""
    by = "id" if isinstance(wanted, int) else "name"
    found = [each for each in snapshots if each[by] == wanted]  # type: ignore[literal-required]
    if not found:
        raise NotFoundError(f"qemu-img snapshot: there is no snapshot with the {by} {wanted!r}")
    if letter == "-a":
        return str(found[0]["id"])
    name = found[0]["name"]
    if next(each for each in snapshots if each["name"] == name) is not found[0]:
        raise NotSupportedError(f"qemu-img snapshot: another snapshot is named {name!r} and comes first: delete that")
    return name


# -- its progress -------------------------------------------------------------------------------------------------

_PROGRESS = re.compile(rb" {4}\(([0-9.]+)/100%\)\r")


class _StoppedError(Exception):
    """Who was told of the progress has raised `reason`."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


def _watched(host: unix.Host, words: Sequence[str], data: bytes | None, progress: Progress) -> Result:
    """Do what `unix.Host.run` does, and tell how much is done."""
    from unix.process import TimeoutExpired

    seconds = cast(float | None, host.get_control("timeout"))
    deadline = time.monotonic() + seconds if seconds and seconds != math.inf else None
    try:
        started = host.popen(words)
    except FileNotFoundError as error:
        return Result(127, "", f"{words[0]}: {error.strerror}\n")
    except PermissionError as error:
        return Result(126, "", f"{words[0]}: {error.strerror}\n")
    told: float | None = None
    with started as process:
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(data or b"")
                process.stdin.close()
        read = {process.stdout: b"", process.stderr: b""}
        with selectors.DefaultSelector() as ready:
            for pipe in read:
                ready.register(cast(int, pipe), selectors.EVENT_READ)
            while ready.get_map():
                events = ready.select(_left(deadline))
                if not events and deadline is not None and time.monotonic() >= deadline:
                    raise unix.CommandTimeoutError(words, seconds or 0)
                for key, _ in events:
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        ready.unregister(key.fileobj)
                    read[cast(Any, key.fileobj)] += chunk
                for found in _PROGRESS.finditer(read[process.stdout]):
                    if told != (told := min(float(found[1]) / 100, 1.0)):
                        _tell(progress, told)
                read[process.stdout] = _PROGRESS.sub(b"", read[process.stdout])
        try:
            return_code = process.wait(_left(deadline))
        except TimeoutExpired:
            raise unix.CommandTimeoutError(words, seconds or 0) from None
        process.close_pipes()
        process.conclude()
    stdout, stderr = (each.decode("utf-8", "surrogateescape") for each in read.values())
    return Result(return_code, stdout, stderr)


def _tell(progress: Progress, fraction: float) -> None:
    try:
        progress(fraction)
    except BaseException as error:  # noqa: BLE001  # the caller's own, whatever it is: it goes on as it came
        raise _StoppedError(error) from None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0)


# -- its outputs --------------------------------------------------------------------------------------------------


def _parsed(output: str, kind: type[T]) -> T:
    """JSON with keys as they are everywhere here: ``virtual-size`` -> ``virtual_size``."""
    try:
        value = json.loads(output, object_pairs_hook=lambda pairs: {text.key(name): each for name, each in pairs})
    except ValueError as error:
        raise UnreadableOutputError(f"qemu-img printed no JSON: {output!r}") from error
    if not isinstance(value, kind):
        raise UnreadableOutputError(f"qemu-img printed other JSON than expected: {output!r}")
    return value


def _info(output: str) -> ImageInfo:
    return _with_dates(_parsed(output, dict))


def _infos(output: str) -> list[ImageInfo]:
    return [_with_dates(each) for each in _parsed(output, list)]


def _with_dates(info: dict[str, Any]) -> ImageInfo:
    if "snapshots" in info:
        info["snapshots"] = [_read_snapshot(each) for each in info["snapshots"]]
    return cast(ImageInfo, info)


def _read_snapshot(told: dict[str, Any]) -> Snapshot:
    """A snapshot with its id, its times and its date in one piece each."""
    made = datetime.fromtimestamp(told.pop("date_sec"), UTC) + timedelta(microseconds=told.pop("date_nsec") // 1000)
    clock = told.pop("vm_clock_sec") * 10**9 + told.pop("vm_clock_nsec")
    number = int(told["id"]) if told["id"].isdecimal() else told["id"]
    return cast(Snapshot, {**told, "id": number, "date": made, "vm_clock": clock})


def _check(output: str) -> Check:
    none = {"corruptions": 0, "leaks": 0, "corruptions_fixed": 0, "leaks_fixed": 0}
    return cast(Check, {**none, **_parsed(output, dict)})


def _same(output: str) -> bool:
    if "Images are identical." in output:
        return True
    if re.search(r"^(Content mismatch at|Strict mode: |Offset [0-9]+ )", output, re.MULTILINE):
        return False
    raise UnreadableOutputError(f"qemu-img did not say whether the images are the same: {output!r}")


def _seconds(output: str) -> float:
    found = re.search(r"^Run completed in ([0-9.]+) seconds\.$", output, re.MULTILINE)
    if not found:
        raise UnreadableOutputError(f"qemu-img did not say how long it took: {output!r}")
    return float(found[1])


def _version(output: str) -> str:
    found = re.match(r"qemu-img version ([0-9.]+)", output)
    if not found:
        raise UnreadableOutputError(f"qemu-img did not tell its version: {output!r}")
    return found[1]


# -- its errors ---------------------------------------------------------------------------------------------------

_REASONS: dict[type[KvmError], str] = {
    InvalidStateError: r'Failed to get (shared )?"[\w ]+" lock|Device or resource busy|is corrupt; cannot be opened'
    r"|does not have a backing file|active dirty bitmaps|which has snapshots|is currently in use|is inconsistent"
    r"|contains a dirty log",
    DeniedError: r"(Permission denied|Operation not permitted|Read-only file system|Invalid password, .*)\Z",
    NotFoundError: r"No such file or directory\b|snapshot not found|Can't find snapshot|itmap '.*' (not found|does not)"
    r"|Did not find '.*' in the backing chain|No secret with id",
    AlreadyExistsError: r"[Bb]itmap already exists|File exists\Z",
    NotSupportedError: r"not support(ed)?\b|unrecognized option|invalid option -- |can only be resized",
    InvalidArgumentError: r"[Ii]nvalid |Unknown |Parameter '|Unexpected |[Ee]xpect(s|ing) |[Mm]ust |should be "
    r"|requires? |required|Use the --shrink|Could not parse|is not (in|valid)|mutually exclusive|conflicts with"
    r"|[Cc]annot |needs a |only |too (big|large|small|long)|greater than|smaller than|no effect|parsing|was expected"
    r"|Need at least",
}
"""What qemu-img says, by what it means to a caller; the first counts."""

_ASIDE = re.compile(r"^(WARNING: .*|( {9}|Try '|Specify ).*|qemu-(img|nbd): warning: .*)$\n?", re.MULTILINE)
_WHO = re.compile(r"^\S*qemu-(img|nbd)( \w+)?: ", re.MULTILINE)


def _failure(job: _Job, result: Result, doubt: str = "") -> KvmError:
    """The error that a run has ended with; `doubt` is what to say if it has not ended by itself."""
    said = _ASIDE.sub("", result.stderr).strip()
    reason = "; ".join([line.strip() for line in _WHO.sub("", said).split("\n")])
    if not reason:
        reason = f"it ended with {result.return_code} and did not say why{doubt}"
    if option := re.search(r"unrecognized option '(.*)'|invalid option -- '(.*)'", reason):
        reason = f"this {job.words[0]} has no option {option[1] or '-' + option[2]}: it is too old"
        return job.error(NotSupportedError, reason, result.stderr, result.return_code)
    meant = job.without_names(said)
    kind = next((kind for kind, pattern in _REASONS.items() if re.search(pattern, meant)), KvmError)
    if job.words[0] == "qemu-nbd" and kind is NotFoundError and "/dev/" in reason:
        reason = f"{reason}; is the module nbd loaded? (modprobe nbd)"
    return job.error(kind, reason, result.stderr, result.return_code)
