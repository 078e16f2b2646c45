"""Running virsh on a terminal, with what it writes to standard error set apart."""

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
"""Runs virsh, and marks what it writes to standard error; kills a virsh that has lost libvirtd, which would go on."""


def new_mark() -> str:
    """Return a mark for what virsh itself writes: it begins with a byte that guests hardly ever write."""
    return f"\x1f{token_hex(16)} "


def marking(words: Sequence[str], mark: str) -> list[str]:
    """Return the words that run virsh as `words` do, with a mark on each line that it writes to standard error."""
    return ["sh", "-c", _MARKING, mark, *words]


class MarkedOutput:
    """Sorts what comes from a terminal: the bytes of the guest, and whole lines of virsh's own (`stderr`)."""

    def __init__(self, mark: str) -> None:
        self.stderr = b""
        self._mark = mark.encode()
        self._part = b""

    def feed(self, data: bytes) -> bytes:
        """Take what has come; return the guest's bytes in it, as far as they are known to be."""
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
        """Whether the last bytes are the beginning of a mark, or the guest's."""
        return bool(self._part) and not self._part.startswith(self._mark)

    def release(self) -> bytes:
        """Return the last bytes as the guest's, as no more have come."""
        part, self._part = self._part, b""
        return part
