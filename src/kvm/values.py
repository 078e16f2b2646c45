"""Values that plain Python has no type for."""

from __future__ import annotations

import re
from typing import Generic, Literal, Self, TypeAlias, TypeVar

from unix.result import Result

T = TypeVar("T")

Dimension: TypeAlias = Literal["bytes", "bytes/s", "Hz", "ns"]
"""What a quantity measures, as the name of its base unit."""

MAX_DIGITS = 40
"""The most digits of a quantity; no number in libvirt is longer, and Python limits the conversion of long ones."""

_QUANTITY = re.compile(r"\s*([+-]?)([0-9]+)(?:\.([0-9]+))?\s*([A-Za-zµ]*)(/s)?\s*", re.ASCII)

_BYTES: dict[str, int] = {
    **dict.fromkeys(("b", "byte", "bytes"), 1),
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtpe", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTPE", 1)},
    **{prefix: 1024**power for power, prefix in enumerate("kmgtpe", 1)},
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtpe", 1)},
}
_UNITS: dict[str, tuple[int, Dimension]] = {
    **{name: (factor, "bytes") for name, factor in _BYTES.items()},
    **{f"{name}/s": (factor, "bytes/s") for name, factor in _BYTES.items()},
    **{f"{prefix}hz": (1000**power, "Hz") for power, prefix in enumerate(("", "k", "m", "g", "t"))},
    "ns": (1, "ns"),
    "us": (1_000, "ns"),
    "µs": (1_000, "ns"),
    "ms": (1_000_000, "ns"),
    "s": (1_000_000_000, "ns"),
    "min": (60_000_000_000, "ns"),
    "h": (3_600_000_000_000, "ns"),
}
"""The units by their names in lower case (as in libvirt, case does not matter), and the usual ones unchanged."""


class Quantity(int):
    """A number in its base unit (bytes, bytes a second, Hz, nanoseconds) that keeps the text it was made from.

    >>> memory = Quantity("131919564 KiB")
    >>> int(memory), str(memory), memory.dimension
    (135085633536, '131919564 KiB', 'bytes')

    Units are those of libvirt: ``KiB``, ``K`` are 1024 bytes and ``kB`` is 1000, in upper or lower case; with ``/s`` a
    rate. ``kHz``, ``MHz``, ...; ``ns``, ``us``, ``ms``, ``s``, ``min``, ``h``. It is an int in every other respect:
    arithmetic gives plain ints and JSON the number. Raises `ValueError` for a text that is not a number with a known
    unit.
    """

    def __new__(cls, written: str | int) -> Self:
        text = str(written)
        found = _QUANTITY.fullmatch(text)
        unit = f"{found[4]}{found[5] or ''}".lower() if found else ""
        if found is None or (unit and unit not in _UNITS) or len(found[2]) > MAX_DIGITS:
            raise ValueError(f"{text[:80]!r} is not a quantity such as '2048 KiB', '1400 MHz' or '1.5 s'")
        sign, whole, fraction = found[1], found[2], found[3] or ""
        number = int(whole + fraction) * (_UNITS[unit][0] if unit else 1) // 10 ** len(fraction)
        self = super().__new__(cls, -number if sign == "-" else number)
        self._text = text.strip()
        return self

    @classmethod
    def counted(cls, number: int, unit: str) -> Self:
        """`number` of a unit: ``Quantity.counted(5, 'KiB')`` is ``Quantity('5 KiB')``, only faster."""
        self = super().__new__(cls, number * _UNITS[unit][0])
        self._text = f"{number} {unit}"
        return self

    _text: str

    @property
    def dimension(self) -> Dimension | None:
        """The dimension, or None for a number that was written without a unit."""
        unit = self._text.lstrip("+-.0123456789 \t\n").lower()
        return _UNITS[unit][1] if unit else None

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({self._text!r})"

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self._text,)


class Outcome(Result, Generic[T]):
    """The Result of an action that also tells something: `value`, None where it failed or virsh did not say.

    >>> hypervisor.snapshot.create_as("web1").value
    '1795372223'
    """

    value: T | None

    def __new__(cls, result: Result, value: T | None) -> Self:
        self = super().__new__(
            cls, result.return_code, result.stdout, result.stderr, outcome_unknown=result.outcome_unknown
        )
        self.value = value
        return self

    def __getnewargs__(self) -> tuple[Result, T | None]:  # type: ignore[override]
        return Result(self.return_code, self.stdout, self.stderr), self.value
