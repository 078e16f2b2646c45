"""The subcommands of qemu-img, and qemu-nbd, as methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeVar, Unpack, cast, overload

import unix
from kvm.errors import ConnectionLostError, InvalidArgumentError, KvmError, UnreadableOutputError
from kvm.groups.image import outputs, snapshots
from kvm.groups.image.errors import failure
from kvm.groups.image.job import Job
from kvm.groups.image.names import (
    File,
    Settings,
    Size,
    change_word,
    device_word,
    file_word,
    settings_word,
    size_word,
    target_word,
)
from kvm.groups.image.options import (
    AmendOptions,
    BenchOptions,
    BitmapOptions,
    CheckOptions,
    CommitOptions,
    CompareOptions,
    ConvertOptions,
    CreateOptions,
    DdOptions,
    InfoOptions,
    LoadOptions,
    MapOptions,
    MeasureOptions,
    Objects,
    RebaseOptions,
    ResizeOptions,
    SnapshotOptions,
)
from kvm.groups.image.shapes import Check, Extent, ImageInfo, Measure, Snapshot
from unix.result import Result

T = TypeVar("T")

_JSON = ("--output=json",)


class Image:
    """Disk images on `host`, by its qemu-img. Without `check` an action that fails returns its Result.

    Wherever there are options, `Objects` are among them. An action returns a Result. `format`, `cache`, `quiet` and
    the like are those of qemu-img; `output` and, where there is a value, `quiet` make no difference. `progress` is told
    how much is done, from 0.0 to 1.0; once `cancel`, such as a `threading.Event`, is set, qemu-img is ended
    (`CancelledError`).
    """

    def __init__(self, host: unix.Host, *, check: bool = True) -> None:
        self._host = host
        self._check = check

    def amend(self, filename: File, options: Settings, **more: Unpack[AmendOptions]) -> Result:
        """Change options of an image's format: ``{'compat': '1.1'}``. qemu-img: ``amend``.

        ``force=True`` allows what is not safe, as erasing the last key of a LUKS image.
        """
        return self._act(Job("amend", AmendOptions, more, filename, extra=["-o", settings_word(options)]))

    def bench(self, filename: File, **options: Unpack[BenchOptions]) -> float:
        """How long requests to an image take together, in seconds. qemu-img: ``bench``.

        `count` requests of `buffer_size` bytes, `depth` of them at once; from `offset` on, each `step_size` after the
        one before. They read; with ``write=True`` they *overwrite the image* with the byte `pattern`.
        """
        return self._value(Job("bench", BenchOptions, options, filename), outputs.seconds, repeat=False)

    def bitmap(self, filename: File, bitmap: str | None = None, **options: Unpack[BitmapOptions]) -> Result:
        """Do something with a persistent bitmap of an image; several things in the order given. qemu-img: ``bitmap``.

        ``add=True`` makes it, with a `granularity` in bytes; `remove`, `clear`, `enable`, `disable`; ``merge='other'``
        adds what is set in another one, which may be in `source_file`. ``remove_all=True`` needs no `bitmap`.
        """
        return self._act(Job("bitmap", BitmapOptions, options, filename, *([] if bitmap is None else [bitmap])))

    def check(self, filename: File, **options: Unpack[CheckOptions]) -> Check:
        """Whether an image is consistent; what is wrong with it is in the value. qemu-img: ``check``.

        ``{'corruptions': 0, 'leaks': 0, 'check_errors': 0, ...}``, numbers of clusters; see `Check`. ``repair='leaks'``
        or ``'all'`` repairs it first. `NotSupportedError` for formats that have no check.
        """
        job = Job("check", CheckOptions, options, filename, extra=_JSON)
        return self._value(job, outputs.check, answers=(0, 2, 3), repeat=not options.get("repair"))

    def commit(self, filename: File, **options: Unpack[CommitOptions]) -> Result:
        """Write what an image has into its backing file, or into `base` further down. qemu-img: ``commit``.

        The image is emptied after that; not with ``drop=True``, nor with `base`.
        """
        return self._act(Job("commit", CommitOptions, options, filename))

    def compare(self, filename1: File, filename2: File, **options: Unpack[CompareOptions]) -> bool:
        """Whether a guest would see the same in two images. qemu-img: ``compare``.

        What one has beyond the end of the other may be zeros; with ``strict=True`` sizes and allocation must be equal.
        `a_format` and `b_format`: those of the two, guessed if not given.
        """
        files = [file_word(filename1, options.get("a_format")), file_word(filename2, options.get("b_format"))]
        job = Job("compare", CompareOptions, options, filename1, operands=files)
        return self._value(job, outputs.same, answers=(0, 1))

    def convert(
        self, filename: File | Sequence[File], output_filename: File, **options: Unpack[ConvertOptions]
    ) -> Result:
        """Copy an image, or several one behind the other, to a new one in `target_format`. qemu-img: ``convert``.

        `target_format` is raw if it is not given; `target_format_options` are its options (``{'cluster_size':
        65536}``), `source_format` is that of what is read, guessed if not given. ``compress=True``, ``snapshot='name'``
        (or an id, as an int) for the state in an internal snapshot, `backing` (in `backing_format`) for an overlay of
        that, ``bitmaps=True`` with the persistent bitmaps, ``no_create=True`` to write to one that is there, which
        ``target_is_zero=True`` says to be all zeros, ``salvage=True`` past errors. `sparse_size` in bytes, `rate_limit`
        in bytes a second, `parallel` requests at once; `progress` is called with how much is done, from 0.0 to 1.0. See
        `ConvertOptions`. If it fails, what was written until then is left.
        """
        sources = filename if isinstance(filename, list | tuple) else [cast(File, filename)]
        files = [file_word(each, options.get("source_format")) for each in sources]
        files.append(target_word(output_filename))
        extra = ["--target-image-opts"] if isinstance(output_filename, Mapping) else []
        return self._act(Job("convert", ConvertOptions, options, output_filename, extra=extra, operands=files))

    def create(self, filename: File, size: Size | None = None, **options: Unpack[CreateOptions]) -> Result:
        """Make an image of a `size` in `format`, raw if none is given. qemu-img: ``create``.

        `size` in bytes, or with a unit (``'20 GiB'``).

        **What is at `filename` is overwritten.** With `backing`, of `backing_format`, it has only what differs from
        that image; its name is written down as it is given, and read from the directory of the new image (with
        ``backing_unsafe=True`` it need not be there). `size` is then that image's if not given. `options` are the
        format's: ``{'cluster_size': 65536, 'encrypt': {'format': 'luks', ...}}``.
        """
        return self._act(Job("create", CreateOptions, options, filename, *([] if size is None else [size_word(size)])))

    def dd(self, if_: File, of: File, **options: Unpack[DdOptions]) -> Result:
        """Copy blocks of an image to a new one in `output_format`, raw if none is given. qemu-img: ``dd``.

        The first `count` blocks of `bs` bytes (512) without the first `skip` of them: `count` counts these as well.
        """
        files = [f"if={file_word(if_, options.get('format'))}", f"of={file_word(of)}"]
        return self._act(Job("dd", DdOptions, options, of, operands=files))

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

        ``{'filename': ..., 'format': 'qcow2', 'virtual_size': ..., 'actual_size': ..., 'backing_filename': ...,
        'snapshots': [...], ...}``, sizes in bytes; what the image does not have is not there. With `backing_chain` a
        list: the image, its backing file, that one's, ... ``force_share=True`` for an image that a running guest writes
        to.
        """
        if backing_chain:
            job = Job("info", InfoOptions, options, filename, extra=[*_JSON, "--backing-chain"])
            return self._value(job, outputs.infos)
        return self._value(Job("info", InfoOptions, options, filename, extra=_JSON), outputs.info)

    def map(self, filename: File, **options: Unpack[MapOptions]) -> list[Extent]:
        """Where in an image and its backing files the data is, from `start_offset` on. qemu-img: ``map``.

        ``[{'start': 0, 'length': 65536, 'depth': 0, 'zero': False, 'data': True, 'offset': 327680}]``, in bytes;
        `depth` 0 is the image, 1 its backing file, ... See `Extent`. `max_length` is how many bytes to look at.
        """
        return self._value(Job("map", MapOptions, options, filename, extra=_JSON), outputs.extents)

    def measure(self, filename: File | None = None, **options: Unpack[MeasureOptions]) -> Measure:
        """The size that a new image in `target_format` would need. qemu-img: ``measure``.

        For a copy of `filename`, or for an empty one of `size` bytes. ``{'required': ..., 'fully_allocated': ...}`` in
        bytes: for what is in it now, and when all is written.
        """
        return self._value(Job("measure", MeasureOptions, options, filename, extra=_JSON), outputs.measure)

    def rebase(self, filename: File, backing: File | None, **options: Unpack[RebaseOptions]) -> Result:
        """Give an image another backing file, or none, with its content as it was. qemu-img: ``rebase``.

        ``backing_unsafe=True`` only writes down the name, for a backing file that has moved. A relative name is read
        from the directory of the image.
        """
        below = "" if backing is None else file_word(backing)
        return self._act(Job("rebase", RebaseOptions, options, filename, extra=["-b", below]))

    def resize(self, filename: File, size: Size, **options: Unpack[ResizeOptions]) -> Result:
        """Set the size of an image, or change it by a size with a sign: ``'+10G'``. qemu-img: ``resize``.

        `size` in bytes, or with a unit (``'20 GiB'``).

        ``shrink=True`` is needed to make it shorter, which cuts off what is there.
        """
        return self._act(Job("resize", ResizeOptions, options, filename, change_word(size)))

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

        ``[{'id': 1, 'name': 'before', 'vm_state_size': 0, 'date': datetime, 'vm_clock': 0}]``; see `Snapshot`.
        ``create='name'`` makes one, whether or not another has that name. To `apply` and `delete` a str is a name, of
        which the first counts, and an int is an id.
        """
        actions = {letter: each for letter, each in (("-c", create), ("-a", apply), ("-d", delete)) if each is not None}
        if len(actions) > 1 or (actions and list):
            raise InvalidArgumentError("qemu-img snapshot: give one of list, create, apply and delete")
        if not actions:
            shown = {name: value for name, value in options.items() if name != "quiet"}
            return self._value(Job("info", InfoOptions, shown, filename, extra=_JSON), outputs.snapshots)
        ((letter, wanted),) = actions.items()
        if letter == "-c":
            snapshots.refuse_long(wanted)
        elif snapshots.is_unclear(letter, wanted):
            try:
                wanted = snapshots.exact(letter, wanted, self.snapshot(filename, **options))
            except KvmError as error:
                if self._check:
                    raise
                return Result(1, "", f"{error}\n")
        return self._act(Job("snapshot", SnapshotOptions, options, filename, extra=[letter, str(wanted)]))

    def load(self, path: File, device: str = "nbd0", **options: Unpack[LoadOptions]) -> Result:
        """Make an image a block device of the host, ``/dev/nbd0``, until `unload`. qemu-nbd: ``--connect``.

        `format`: that of the image, guessed if not given. ``read_only=True``; ``snapshot=True`` forgets in the end what
        was written; ``load_snapshot='name'`` (or an id, as an int) shows an internal snapshot; `offset`: from that byte
        on. More: `cache`, `aio`, `discard`, `detect_zeroes`, `persistent`, `shared`, `socket`, `pid_file`, as qemu-nbd
        has them. The host's kernel needs its module nbd.
        """
        return self._act(Job(f"--connect={device_word(device)}", LoadOptions, options, path, program="qemu-nbd"))

    def unload(self, device: str = "nbd0") -> Result:
        """Take an image away from ``/dev/nbd0``. qemu-nbd: ``--disconnect``."""
        return self._act(Job("--disconnect", Objects, {}, device_word(device), program="qemu-nbd"))

    def version(self) -> str:
        """The version of qemu-img, as ``'7.2.22'``. qemu-img: ``--version``."""
        return self._value(Job("--version", Objects, {}, None), outputs.version)

    # -- running it ----------------------------------------------------------------------------------------------

    def _act(self, job: Job) -> Result:
        """The result of what changes something."""
        doubt = f"; what is at {job.about} may not be complete"
        result = job.run(self._host, doubt)
        if isinstance(result, KvmError):
            if self._check:
                raise result
            return Result(255, "", f"{result}\n")
        if self._check and not result.status:
            raise failure(job, result, doubt)
        return result

    def _value(self, job: Job, parse: Callable[[str], T], *, answers: Collection[int] = (0,), repeat: bool = True) -> T:
        """What `parse` makes of an output; `answers` are the exit statuses of which there is one.

        What only reads may be asked a second time, if the connection was lost.
        """
        result = job.run(self._host)
        if isinstance(result, ConnectionLostError) and repeat:
            result = job.run(self._host)
        if isinstance(result, KvmError):
            raise result
        if result.return_code in answers:
            try:
                return parse(result.stdout)
            except UnreadableOutputError:
                if result.status:
                    raise
        raise failure(job, result)  # an exit status that may be an answer may be an error all the same
