"""Running virsh on a terminal, with its standard error separate from the guest's output."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

_MARKING = """\
exec 3>&1
{
    "$@" 2>&1 >&3 3>&-
    echo "status: $?"
} | while IFS= read -r line; do
    case $line in
    "status: "*) exit "${line#status: }" ;;
    esac
    printf '%s%s\\n' "$0" "$line" >&3
    case $line in
    "error: Disconnected from "*) kill -KILL 0 ;;
    esac
done
"""
"""Runs virsh and marks its standard error; kills a virsh that has lost libvirtd, which would not end by itself."""


def new_mark() -> str:
    """Return a mark for virsh's own messages; it begins with a byte that guests hardly ever write."""
    return f"\x1f{token_hex(16)} "


def marking(words: Sequence[str], mark: str) -> list[str]:
    """Return the words that run `words`, with a mark before each line of standard error."""
    return ["sh", "-c", _MARKING, mark, *words]


class MarkedOutput:
    """Separates a terminal's output into the guest's bytes and virsh's own lines (`stderr`)."""

    def __init__(self, mark: str) -> None:
        self.stderr = b""
        self._mark = mark.encode()
        self._part = b""

    def feed(self, data: bytes) -> bytes:
        """Add output, and return the guest's bytes in it; a possible beginning of a mark is kept."""
        data, guest = self._part + data, b""
        while (start := data.find(self._mark)) >= 0:
            guest += data[:start]
            line, newline, rest = data[start + len(self._mark) :].partition(b"\n")
            if not newline:
                self._part = data[start:]
                return guest
            self.stderr += line.removesuffix(b"\r") + b"\n"
            data = rest
        start = data.rfind(self._mark[:1])
        end = start if start >= 0 and self._mark.startswith(data[start:]) else len(data)
        self._part = data[end:]
        return guest + data[:end]

    @property
    def may_be_mark(self) -> bool:
        """Return whether the last bytes may be the beginning of a mark."""
        return bool(self._part) and not self._part.startswith(self._mark)

    def release(self) -> bytes:
        """Return the kept bytes as the guest's, because no more have come."""
        part, self._part = self._part, b""
        return part
