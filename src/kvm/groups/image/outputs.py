"""What qemu-img prints, as values: pure functions of a text."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from kvm import text
from kvm.errors import UnreadableOutputError
from kvm.groups.image.shapes import Check, Extent, ImageInfo, Measure, Snapshot

T = TypeVar("T")


def _parsed(output: str, kind: type[T]) -> T:
    """JSON with keys as they are everywhere here: ``virtual-size`` -> ``virtual_size``."""
    try:
        value = json.loads(output, object_pairs_hook=lambda pairs: {text.key(name): each for name, each in pairs})
    except (ValueError, RecursionError) as error:
        raise UnreadableOutputError(f"qemu-img printed no JSON: {output!r}") from error
    if not isinstance(value, kind):
        raise UnreadableOutputError(f"qemu-img printed other JSON than expected: {output!r}")
    return value


def info(output: str) -> ImageInfo:
    return _with_dates(_parsed(output, dict))


def infos(output: str) -> list[ImageInfo]:
    return [_with_dates(each) for each in _parsed(output, list)]


def _with_dates(info: dict[str, Any]) -> ImageInfo:
    try:
        if "snapshots" in info:
            info["snapshots"] = [_read_snapshot(each) for each in info["snapshots"]]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UnreadableOutputError(f"qemu-img told of a snapshot in another way than expected: {info}") from error
    return cast(ImageInfo, info)


def _read_snapshot(told: dict[str, Any]) -> Snapshot:
    """A snapshot with its id, its times and its date in one piece each."""
    made = datetime.fromtimestamp(told.pop("date_sec"), UTC) + timedelta(microseconds=told.pop("date_nsec") // 1000)
    clock = told.pop("vm_clock_sec") * 10**9 + told.pop("vm_clock_nsec")
    number = int(told["id"]) if told["id"].isdecimal() else told["id"]
    return cast(Snapshot, {**told, "id": number, "date": made, "vm_clock": clock})


def snapshots(output: str) -> list[Snapshot]:
    return info(output).get("snapshots", [])


def extents(output: str) -> list[Extent]:
    return cast(list[Extent], _parsed(output, list))


def measure(output: str) -> Measure:
    return cast(Measure, _parsed(output, dict))


def check(output: str) -> Check:
    none = {"corruptions": 0, "leaks": 0, "corruptions_fixed": 0, "leaks_fixed": 0}
    return cast(Check, {**none, **_parsed(output, dict)})


def same(output: str) -> bool:
    if "Images are identical." in output:
        return True
    if re.search(r"^(Content mismatch at|Strict mode: |Offset [0-9]+ )", output, re.MULTILINE):
        return False
    raise UnreadableOutputError(f"qemu-img did not say whether the images are the same: {output!r}")


def seconds(output: str) -> float:
    found = re.search(r"^Run completed in ([0-9]+(?:\.[0-9]+)?) seconds\.$", output, re.MULTILINE)
    if not found:
        raise UnreadableOutputError(f"qemu-img did not say how long it took: {output!r}")
    return float(found[1])


def version(output: str) -> str:
    found = re.match(r"qemu-img version ([0-9.]+)", output)
    if not found:
        raise UnreadableOutputError(f"qemu-img did not tell its version: {output!r}")
    return found[1]
