"""The units of the numbers in libvirt's documents, and the conversion of sizes, rates and times to them. Pure.

Where libvirt's schema has an attribute ``unit``, a quantity is written with it. Elsewhere it is written as a plain
number, in the unit in libvirt's documentation. `tests/test_xml_units.py` compares the first kind with the schema.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias, cast

from kvm.errors import InvalidArgumentError
from kvm.units import converted
from kvm.values import Quantity


class Unit(NamedTuple):
    """The unit of a number, and the value of its attribute ``unit``, None where libvirt has no such attribute."""

    name: str
    attribute: str | None = None


Places: TypeAlias = "dict[str, Unit | Places]"
"""The parts of an element that have a unit: ``#text``, ``@attributes``, and children with their own places."""

_BYTES, _SECONDS = Unit("bytes", "b"), Unit("s", "seconds")
_LIMITS = "total_bytes_sec read_bytes_sec write_bytes_sec total_bytes_sec_max read_bytes_sec_max write_bytes_sec_max"
_LENGTHS = " ".join(
    f"{operation}_{what}_sec_max_length" for operation in ("total", "read", "write") for what in ("bytes", "iops")
)
_RATE, _BURST = "@average @peak @floor", "@burst"

_UNITS: dict[Unit, dict[str, str]] = {
    _BYTES: {
        "domain": "memory currentMemory maxMemory",
        "domain/cpu/numa/cell": "@memory",
        "domain/cpu/numa/cell/cache/line": "@value",
        "domain/cpu/numa/cell/cache/size": "@value",
        "domain/cputune/cachetune/cache": "@size",
        "domain/devices/controller": "pcihole64",
        "domain/devices/filesystem": "space_hard_limit space_soft_limit",
        "domain/devices/memory/source": "pagesize alignsize",
        "domain/devices/memory/target": "size block requested current",
        "domain/devices/memory/target/label": "size",
        "domain/devices/pstore": "size",
        "domain/devices/shmem": "size",
        "domain/features/hpt": "maxpagesize",
        "domain/features/smm": "tseg",
        "domain/features/tcg": "tb-cache",
        "domain/memoryBacking/hugepages/page": "@size",
        "domain/memtune": "hard_limit soft_limit swap_hard_limit min_guarantee",
        "pool": "capacity allocation available",
        "volume": "capacity allocation physical",
        "volume/target": "clusterSize",
        "domain/os/nvram/source/dataStore/format/metadata_cache": "max_size",
        "domain/devices/disk/backingStore/backingStore/format/metadata_cache": "max_size",
        **{
            f"domain/devices/disk/{where}/metadata_cache": "max_size"
            for where in ("driver", "backingStore/format", "mirror/format", "mirror/backingStore/format")
        },
        "domain/devices/disk/source/dataStore/format/metadata_cache": "max_size",
    },
    Unit("KiB/s", "KiB"): {"domain/cpu/numa/interconnects/bandwidth": "@value"},
    _SECONDS: {"network/ip/dhcp/host/lease": "@expiry", "network/ip/dhcp/range/lease": "@expiry"},
    Unit("bytes"): {
        "domain/devices/disk/blockio": "@logical_block_size @physical_block_size @discard_granularity",
        "domain/devices/disk/iotune": "size_iops_sec",
        "domain/devices/disk/source/readahead": "@size",
        "domain/devices/disk/source/slices/slice": "@offset @size",
        "domain/devices/interface/mtu": "@size",
        "domain/devices/rng/rate": "@bytes",
        "domain/throttlegroups/throttlegroup": "size_iops_sec",
        "network/mtu": "@size",
    },
    Unit("KiB"): {
        "domain/devices/interface/bandwidth/inbound": _BURST,
        "domain/devices/interface/bandwidth/outbound": _BURST,
        "domain/devices/video/model": "@ram @vram @vram64 @vgamem",
        "network/bandwidth/inbound": _BURST,
        "network/bandwidth/outbound": _BURST,
        "network/portgroup/bandwidth/inbound": _BURST,
        "network/portgroup/bandwidth/outbound": _BURST,
        "networkport/bandwidth/inbound": _BURST,
        "networkport/bandwidth/outbound": _BURST,
    },
    Unit("bytes/s"): {
        "domain/blkiotune/device": "read_bytes_sec write_bytes_sec",
        "domain/devices/disk/iotune": _LIMITS,
        "domain/throttlegroups/throttlegroup": _LIMITS,
    },
    Unit("kB/s"): {
        "domain/devices/interface/bandwidth/inbound": _RATE,
        "domain/devices/interface/bandwidth/outbound": _RATE,
        "network/bandwidth/inbound": _RATE,
        "network/bandwidth/outbound": _RATE,
        "network/portgroup/bandwidth/inbound": _RATE,
        "network/portgroup/bandwidth/outbound": _RATE,
        "networkport/bandwidth/inbound": _RATE,
        "networkport/bandwidth/outbound": _RATE,
    },
    Unit("Hz"): {"domain/clock/timer": "@frequency"},
    Unit("s"): {
        "domain/clock": "@adjustment",
        "domain/devices/disk/iotune": _LENGTHS,
        "domain/devices/disk/source/reconnect": "@delay",
        "domain/devices/disk/source/timeout": "@seconds",
        "domain/devices/interface/source/reconnect": "@timeout",
        "domain/devices/memballoon/stats": "@period",
        "domain/throttlegroups/throttlegroup": _LENGTHS,
        "network/bridge": "@delay",
        **{
            f"domain/devices/{device}/source/reconnect": "@timeout"
            for device in ("channel", "console", "parallel", "redirdev", "serial", "smartcard")
        },
    },
    Unit("ms"): {
        "domain/devices/rng/rate": "@period",
        "domain/os/bios": "@rebootTimeout",
        "domain/os/bootmenu": "@timeout",
    },
    Unit("us"): {
        "domain/cputune": "period quota global_period global_quota emulator_period emulator_quota iothread_period "
        "iothread_quota",
    },
    Unit("ns"): {
        "domain/cpu/numa/interconnects/latency": "@value",
        "domain/iothreadids/iothread/poll": "@max",
    },
}
"""The numbers in each unit, by the path of their element: attributes with an ``@``, and children."""

_TIMES = {"seconds": "s", "minutes": "min", "hours": "h"}
"""libvirt's names for units of time that a `Quantity` names differently."""

_WITH_UNIT = re.compile(r"\s*[+-]?[0-9.]+\s*[A-Za-zµ]+(/s)?\s*").fullmatch


@cache
def places() -> Places:
    """Return the places in all documents, and in single devices."""
    found: Places = {}
    for unit, by_place in _UNITS.items():
        for place, names in by_place.items():
            inside = _inside(found, place.split("/"))
            for name in names.split():
                if name[0] == "@":
                    inside[name] = unit
                else:
                    _inside(inside, [name])["#text"] = unit
    domain: Any = found["domain"]
    disks = {"disks": {"disk": domain["devices"]["disk"]}, "revertDisks": {"disk": domain["devices"]["disk"]}}
    of_domain = {"domain": domain, "inactiveDomain": domain}
    return {**domain["devices"], **found, "domainsnapshot": {**of_domain, **disks}, "domaincheckpoint": of_domain}


def _inside(places: Any, path: list[str]) -> Any:
    for name in path:
        places = places.setdefault(name, {})
    return places


def with_units(tag: str, value: object) -> object:
    """Return `value`, the content of an element `tag`, with sizes, rates and times converted to plain numbers.

    A `Quantity`, or a text with a unit such as ``'128 MiB'``, is converted to libvirt's unit for its place.
    `InvalidArgumentError` for one of another dimension, or one that is not a whole number of that unit.
    """
    inside = places().get(tag)
    return _element(value, inside, tag) if isinstance(inside, dict) else value


def _element(value: Any, inside: Places, path: str) -> object:
    if type(value) is list or isinstance(value, list | tuple):
        members = [_element(each, inside, path) for each in value]
        return members if any(map(operator.is_not, members, value)) else value
    if type(value) is not dict and not isinstance(value, Mapping):
        return _element({"#text": value}, inside, path) if "#text" in inside and _is_measured(value) else value
    changed: dict[str, object] = {}
    for name, content in value.items():
        unit = inside.get(name)
        if unit is None:
            continue
        if type(unit) is dict:
            if (new := _element(content, unit, f"{path}/{name}")) is not content:
                changed[name] = new
        elif _is_measured(content):
            what = f"cannot write <{path.rpartition('/')[2]}> as XML: {path}{'' if name == '#text' else f'/{name}'}"
            changed |= _number(what, name, content, cast(Unit, unit), value.get("@unit"))
    return {**value, **changed} if changed else value


def _is_measured(value: object) -> bool:
    if isinstance(value, str):
        return not value.isdecimal() and _WITH_UNIT(value) is not None
    return isinstance(value, Quantity)  # one without a unit is in bytes as well: virsh prints some sizes so


def _number(what: str, name: str, value: Any, unit: Unit, given: object) -> dict[str, object]:
    """Return the number and its attribute ``unit``, which is kept if it is `given`."""
    if unit.attribute is None:
        return {name: converted(what, value, unit.name)}
    if given is None:
        return {name: converted(what, value, unit.name), "@unit": unit.attribute}
    per_second = "/s" if unit.name.endswith("/s") else ""
    own = _TIMES.get(str(given), f"{given}{per_second}")
    try:
        Quantity(f"1 {own}")
    except ValueError as error:
        raise InvalidArgumentError(f"{what}: {given!r} is not a unit: {error}") from error
    return {name: converted(what, value, own)}
