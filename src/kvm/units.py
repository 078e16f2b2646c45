"""Conversion of quantities to the unit of an option or an element. Pure."""

from __future__ import annotations

from typing import NoReturn

from kvm.errors import InvalidArgumentError
from kvm.values import Dimension, Quantity


def converted(what: str, value: float | str | Quantity, unit: str | None) -> int:
    """Convert `value`, which is for `what`, to `unit`. `InvalidArgumentError` if that is not a whole number.

    An int is in bytes (or bytes a second) if the unit is one of bytes, and in the unit itself otherwise. Without a
    `unit`, the value must be a plain number.
    """
    one = Quantity(f"1 {unit or ''}")
    dimension = one.dimension
    if isinstance(value, bool | float):
        raise InvalidArgumentError(f"{what} takes {_example(dimension)}, not {value!r}")
    quantity = value if isinstance(value, Quantity) else _read(what, value, dimension)
    found = quantity.dimension
    if found is None:
        if dimension in ("ns", None) or quantity < 0:  # -1 means no limit in virsh
            return int(quantity)
        if isinstance(value, str) and one != 1:
            raise InvalidArgumentError(f"{what}: {value!r} has no unit; give an int in bytes, or '{value} {unit}'")
    elif found != dimension and (found, dimension) != ("bytes", "bytes/s"):
        raise InvalidArgumentError(f"{what} takes {_example(dimension)}, not {str(quantity)!r}")
    count, rest = divmod(int(quantity), one)
    if rest:
        raise InvalidArgumentError(
            f"{what} must be a whole number of {unit}; {str(quantity)!r} is between {count} and {count + 1} {unit}"
        )
    return count


def seconds(what: str, value: float | str) -> float:
    """Return a time limit in seconds, also from a text with a unit. `InvalidArgumentError` if it is not a time."""
    if isinstance(value, str):
        given, value = value, _read(what, value, "ns")
        if value.dimension is None:
            raise InvalidArgumentError(f"{what}: {given!r} has no unit; give a number of seconds, or '{given} s'")
    if not isinstance(value, Quantity) or value.dimension is None:
        return value
    if value.dimension != "ns":
        raise InvalidArgumentError(f"{what} takes a number of seconds, or a time such as '1.5 s', not {str(value)!r}")
    return int(value) / 1e9


def _read(what: str, value: int | str, dimension: Dimension | None) -> Quantity:
    try:
        return Quantity(value)
    except ValueError:
        _refuse(what, value, dimension)


def _refuse(what: str, value: int | str, dimension: Dimension | None) -> NoReturn:
    given = repr(value[:80]) if isinstance(value, str) else "a number of thousands of digits"
    raise InvalidArgumentError(f"{what} takes {_example(dimension)}, not {given}")


def _example(dimension: Dimension | None) -> str:
    return {
        "bytes": "a size, such as '512 MiB' or an int in bytes",
        "bytes/s": "a rate, such as '10 MiB/s' or an int in bytes a second",
        "ns": "a time, such as '1.5 s' or a whole number",
        "Hz": "a frequency, such as '1400 MHz'",
        None: "a whole number",
    }[dimension]
