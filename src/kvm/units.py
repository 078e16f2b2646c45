"""Conversion of quantities to the unit that a place has for a plain number. Pure."""

from __future__ import annotations

from typing import NoReturn

from kvm.errors import InvalidArgumentError
from kvm.values import Dimension, Quantity


def converted(what: str, value: float | str | Quantity, unit: str | None) -> int:
    """How many of a `unit` are in `value`, which is for `what`. `InvalidArgumentError` if that is no whole number.

    An int is in bytes (or bytes a second) where the unit is one of bytes, and in the unit itself otherwise. Without a
    `unit` only a plain number will do.
    """
    one = Quantity(f"1 {unit or ''}")
    dimension = one.dimension
    if isinstance(value, bool | float):
        raise InvalidArgumentError(f"{what} takes {_example(dimension)}, not {value!r}")
    quantity = value if isinstance(value, Quantity) else _read(what, value, dimension)
    found = quantity.dimension
    if found is None:
        if dimension in ("ns", None) or quantity < 0:  # -1 is virsh's own word for no limit
            return int(quantity)
        if isinstance(value, str) and one != 1:
            raise InvalidArgumentError(f"{what}: {value!r} has no unit; give an int in bytes, or '{value} {unit}'")
    elif found != dimension and (found, dimension) != ("bytes", "bytes/s"):
        raise InvalidArgumentError(f"{what} takes {_example(dimension)}, not {str(quantity)!r}")
    count, rest = divmod(int(quantity), one)
    if rest:
        raise InvalidArgumentError(
            f"{what} is a whole number of {unit}, and {str(quantity)!r} is between {count} and {count + 1} {unit}"
        )
    return count


def seconds(what: str, value: float | str) -> float:
    """A time limit in seconds, which may be given with a unit. `InvalidArgumentError` if that is not a time."""
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
