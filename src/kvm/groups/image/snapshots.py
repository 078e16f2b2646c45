"""Which internal snapshot is meant: qemu-img applies by id or name, deletes by name, and cuts long names off."""

from __future__ import annotations

from collections.abc import Sequence

from kvm.errors import InvalidArgumentError, NotFoundError, NotSupportedError
from kvm.groups.image.names import text_word
from kvm.groups.image.shapes import Snapshot
from unix.words import encode

_LONGEST = 255
"""The bytes that are kept of the name of a snapshot."""


def refuse_long(name: str | int) -> None:
    """Raise for a name that would be cut off."""
    if len(encode(text_word(name))) > _LONGEST:
        raise InvalidArgumentError(f"qemu-img snapshot: a name has at most {_LONGEST} bytes: {name!r}")


def is_unclear(letter: str, wanted: str | int) -> bool:
    """Whether qemu-img could take another one than is wanted."""
    return isinstance(wanted, int) or (letter == "-a" and wanted.isdecimal())


def exact(letter: str, wanted: str | int, snapshots: Sequence[Snapshot]) -> str:
    """What to tell qemu-img so that it takes the snapshot that is wanted: -a or -d."""
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
