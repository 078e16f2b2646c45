"""What images, sizes and settings are given as, and how each is written as one word of a command line.

An image is told by the path of its file, which then is that file whatever its name looks like: qemu itself would take
``a:b`` for a protocol and ``-a`` for an option. What qemu is to read in its own way is told by another type: a dict of
block device options, or a `Url`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import unix
from kvm.errors import InvalidArgumentError
from kvm.units import converted
from kvm.values import Quantity
from unix import words
from unix.host import Path


class Url(str):
    """An image as qemu itself reads its name: ``Url('nbd://hv2/web1')``, ``Url('json:{"driver": ...}')``."""

    __slots__ = ()


Setting = Path | int | bool | None | Mapping[str, "Setting"] | Sequence["Setting"]
"""The value of an option of a format, of a block device or of an object; what is in a mapping has a dotted name."""

Settings = Mapping[str, Setting]

File = Path | Settings | Url
"""An image: the path of a file, a dict of block device options as ``{'driver': 'nbd', ...}``, or a `Url`."""

Size = int | str
"""An int in bytes, or a text with a unit: ``'10G'``, ``'1.5 GiB'``; for a rate as well ``'10 MiB/s'``."""

Cache = Literal["none", "writeback", "writethrough", "directsync", "unsafe"]

Progress = Callable[[float], object]
"""Is told how much is done, from 0.0 to 1.0. What it raises ends qemu-img, and is raised."""


def checked_word(argument: unix.Argument) -> str:
    """An argument as one word."""
    try:
        return words.word(argument)
    except unix.ArgumentError as error:
        raise InvalidArgumentError(f"qemu-img: {error}") from error


def path_word(path: Path) -> str:
    """A path as a word that qemu takes neither for an option nor for a protocol."""
    named = checked_word(path)
    if not named:
        raise InvalidArgumentError("the name of an image is empty")
    has_protocol = re.match(r"[^/]*:", named) is not None
    return f"./{named}" if has_protocol or named.startswith("-") else named


def file_word(file: File, format: str | None = None) -> str:
    """An image as a word; `format` is what it was said to be beside that."""
    if isinstance(file, Url):
        return checked_word(str(file))
    if not isinstance(file, Mapping):
        return path_word(file)
    if format is not None:
        raise InvalidArgumentError(f"an image that is told by its options has its format there, as driver: {format!r}")
    return f"json:{json.dumps(_plain(file), ensure_ascii=False)}"


def _plain(setting: Setting) -> object:
    """A setting as JSON has it."""
    if isinstance(setting, Mapping):
        return {name: _plain(each) for name, each in setting.items()}
    if isinstance(setting, list | tuple):
        return [_plain(each) for each in setting]
    return setting if isinstance(setting, int | None) else checked_word(cast(Path, setting))


def settings_word(settings: Settings) -> str:
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
            flat.append((f"{prefix}{name}", text_word(value)))
    return flat


def text_word(value: object) -> str:
    """A number, a text or a path as a word."""
    if isinstance(value, bool | float):
        raise InvalidArgumentError(f"expected a whole number or a text, not {value!r}")
    if isinstance(value, Quantity):
        return size_word(value)
    return str(int(value)) if isinstance(value, int) else checked_word(cast(Path, value))


def size_word(value: object) -> str:
    """A size as a number of bytes, whatever units this qemu-img has."""
    return str(converted("qemu-img", cast(Size, value), "bytes"))


def change_word(value: object) -> str:
    """A size, or, with a sign, by how much one changes."""
    if isinstance(value, str) and (change := value.strip())[:1] in ("+", "-"):
        return change[0] + size_word(change[1:])
    return size_word(value)


def rate_word(value: object) -> str:
    """A rate as a number of bytes a second."""
    return str(converted("qemu-img", cast(Size, value), "bytes/s"))


def snapshot_word(snapshot: str | int) -> str:
    """The internal snapshot with an id (an int) or of a name, as -l takes it."""
    return settings_word({"snapshot.id" if isinstance(snapshot, int) else "snapshot.name": snapshot})


def target_word(file: File) -> str:
    """The word for what is converted to; a dict goes as a list of options, because as ``json:`` it would be raw."""
    return settings_word(file) if isinstance(file, Mapping) else file_word(file)


def device_word(device: str) -> str:
    """A device of the host by its path."""
    return device if "/" in device else f"/dev/{device}"
