"""Values that plain Python has no type for."""

from __future__ import annotations

import re
from typing import Generic, Self, TypeVar

from unix.result import Result

T = TypeVar("T")

_QUANTITY = r"\s*([+-]?)([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z]*(?:/s)?)\s*"

_UNITS: dict[str, int] = {
    "": 1,
    **dict.fromkeys(("b", "B", "byte", "bytes", "Hz", "ns"), 1),
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTPE", 1)},
    **{prefix: 1024**power for power, prefix in enumerate("KMGTPE", 1)},
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGTPE", 1)},
    **{f"{prefix}Hz": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)},
    "kB": 1024,  # virsh before libvirt 0.9.11 printed kB and meant KiB
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
}


class Quantity(int):
    """A number in its base unit (bytes, Hz, nanoseconds) that remembers how it was written.

    >>> memory = Quantity("131919564 KiB")
    >>> int(memory), str(memory)
    (135085633536, '131919564 KiB')

    It is an int in every other respect: arithmetic gives plain ints and JSON the number.
    Raises `ValueError` for a text that is no number with a known unit.
    """

    def __new__(cls, written: str | int) -> Self:
        text = str(written)
        found = re.fullmatch(_QUANTITY, text, re.ASCII)
        if found is None or (unit := found[4].removesuffix("/s")) not in _UNITS:
            raise ValueError(f"{text!r} is no quantity such as '2048 KiB', '1400 MHz' or '1.5 s'")
        sign, whole, fraction = found[1], found[2], found[3] or ""
        number = int(whole + fraction) * _UNITS[unit] // 10 ** len(fraction)
        self = super().__new__(cls, -number if sign == "-" else number)
        self._text = text.strip()
        return self

    @classmethod
    def counted(cls, number: int, unit: str) -> Self:
        """`number` of a unit: ``Quantity.counted(5, 'KiB')`` is ``Quantity('5 KiB')``, only faster."""
        self = super().__new__(cls, number * _UNITS[unit])
        self._text = f"{number} {unit}"
        return self

    _text: str

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
