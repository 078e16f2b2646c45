"""Sizes, rates and times in documents: written in the unit that libvirt has at their place, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from kvm import Hypervisor, InvalidArgumentError, Quantity, text, xml
from kvm.groups.domain.blocks import BlockInfo
from kvm.xml import to_xml
from kvm.xmlunits import Unit, places

SCHEMAS = Path("/usr/share/libvirt/schemas")
RNG = "{http://relaxng.org/ns/structure/1.0}"
GIB = 1024**3

Place = tuple[str, ...]


def numbers(inside: Any, path: Place = ()) -> Iterator[tuple[Place, Unit]]:
    """Every place with a unit."""
    for name, each in inside.items():
        if isinstance(each, Unit):
            yield (*path, name), each
        elif len(path) < 8:
            yield from numbers(each, (*path, name))


NUMBERS = sorted(numbers(places()))


def content(path: Place, value: object) -> Any:
    """The content of a document's root in which `value` is at a place."""
    _, *below = path
    for name in reversed(below):
        value = {name: value}
    return value


def written(path: Place, value: object) -> tuple[str, str | None]:
    """What stands at a place for `value`, and the value of its attribute ``unit``."""
    element = etree.fromstring(to_xml(path[0], content(path, value)))
    for name in path[1:-1]:
        element = element[0]
        assert element.tag == name
    text = element.text if path[-1] == "#text" else element.get(path[-1][1:])
    return text or "", element.get("unit")


@cache
def with_unit_in_the_schema(file: str) -> set[Place]:
    """The elements of a schema that have an attribute ``unit``, a number's unit."""
    definitions: dict[str, list[etree._Element]] = {}

    def grammar(file: str) -> etree._Element:
        tree = etree.parse(SCHEMAS / file).getroot()
        for include in tree.iter(f"{RNG}include"):
            grammar(include.get("href", ""))
        for define in tree.iter(f"{RNG}define"):
            definitions.setdefault(define.get("name", ""), []).append(define)
        return tree

    found: set[Place] = set()
    seen: set[tuple[str, Place]] = set()

    def walk(node: etree._Element, path: Place) -> None:
        for each in node.iterchildren(f"{RNG}*"):
            name = each.get("name", "")
            kind = str(each.tag).removeprefix(RNG)
            if kind == "ref" and (name, path) not in seen:
                seen.add((name, path))
                for define in definitions.get(name, []):
                    walk(define, path)
            elif kind == "attribute" and name == "unit":
                found.add(path)
            elif kind == "element" and len(path) < 8 and path.count(name) < 2:
                walk(each, (*path, name))
            elif kind not in ("ref", "attribute", "element", "define", "include"):
                walk(each, path)

    for start in grammar(file).iter(f"{RNG}start"):
        walk(start, ())
    return {path for path in found if path[-1] != "address"}  # where a unit is that of a drive


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="libvirt's schemas are not installed")
@pytest.mark.parametrize("file", ["domain", "network", "storagepool", "storagevol"])
def test_the_units_of_the_schema_are_known(file: str) -> None:
    found = with_unit_in_the_schema(f"{file}.rng")
    root = next(iter(found))[0]
    with_unit = {path[:-1] for path, unit in NUMBERS if path[0] == root and unit.attribute}
    assert found - with_unit == set()
    from kvm import schema

    for path in with_unit - found:  # of a newer release
        with pytest.raises(InvalidArgumentError):
            schema.check(etree.fromstring(to_xml(root, content((*path, "@unit"), "b"))))


@given(st.sampled_from(NUMBERS), st.integers(0, 2**30))
def test_a_quantity_arrives_in_the_unit_of_its_place(number: tuple[Place, Unit], count: int) -> None:
    path, unit = number
    one = Quantity(f"1 {unit.name}")
    symbol = {"bytes": "", "bytes/s": "", "Hz": " Hz", "ns": " ns"}[one.dimension or ""] or " B"
    quantity = Quantity(f"{count * one}{symbol}")
    text, attribute = written(path, quantity)
    assert (int(text), attribute) == (count, unit.attribute)
    assert written(path, f"{count} {unit.name}") == (text, attribute)
    assert written(path, count) == (str(count), None)


@given(st.sampled_from(NUMBERS))
def test_a_quantity_of_another_dimension_is_refused_in_xml(number: tuple[Place, Unit]) -> None:
    path, unit = number
    for wrong in ("3 s", "3 GHz", "3 GiB/s", "3 GiB"):
        of, wanted = Quantity(wrong).dimension, Quantity(f"1 {unit.name}").dimension
        if of != wanted and (of, wanted) != ("bytes", "bytes/s"):
            with pytest.raises(InvalidArgumentError, match=f"cannot write <.*> as XML: {path[0]}.* takes a "):
                to_xml(path[0], content(path, Quantity(wrong)))


@pytest.mark.parametrize(
    ("tag", "conf"),
    [
        ("domain", {"vcpu": Quantity("2 KiB")}),
        ("domain", {"metadata": {"a:memory": {"@xmlns:a": "urn:a", "#text": Quantity("1 GiB")}}}),
        ("domain", {"devices": {"disk": [{"@size": Quantity("1 GiB")}]}}),
        ("d", {"memory": Quantity("1 GiB")}),
        ("memory", Quantity("1 GiB")),
    ],
)
def test_a_quantity_is_refused_where_no_unit_is_known(tag: str, conf: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no unit is known here for '.*'; give a plain number"):
        to_xml(tag, conf)


def test_a_quantity_is_converted_to_the_unit_that_is_given() -> None:
    given = {"@unit": "MiB", "#text": Quantity("1 GiB")}
    assert written(("domain", "memory", "#text"), Quantity("1 GiB")) == (str(GIB), "b")
    assert '<memory unit="MiB">1024</memory>' in to_xml("domain", {"memory": given})
    cell = {"cell": [{"@id": 0, "@memory": "1.5 GiB", "@unit": "KiB"}]}
    assert '<cell id="0" memory="1572864" unit="KiB"/>' in to_xml("domain", {"cpu": {"numa": cell}})
    lease = {"host": [{"lease": {"@expiry": Quantity("90 min"), "@unit": "minutes"}}]}
    assert '<lease expiry="90" unit="minutes"/>' in to_xml("network", {"ip": [{"dhcp": lease}]})
    with pytest.raises(InvalidArgumentError, match="'1 KiB' is between 0 and 1 MiB") as raised:
        to_xml("domain", {"memory": {"@unit": "MiB", "#text": Quantity("1 KiB")}})
    assert "is not a unit" not in str(raised.value)  # of a unit that is one
    with pytest.raises(InvalidArgumentError, match="'stone' is not a unit"):
        to_xml("domain", {"memory": {"@unit": "stone", "#text": Quantity("1 KiB")}})


def test_a_quantity_without_a_unit_is_in_bytes() -> None:
    size = text.typed(BlockInfo, {"capacity": "3145728", "allocation": "0", "physical": "0"})["capacity"]
    assert written(("domain", "memory", "#text"), size) == ("3145728", "b")
    assert written(("domain", "devices", "video", "model", "@vram"), size) == ("3072", None)
    assert '<currentMemory unit="KiB">3072</currentMemory>' in to_xml(
        "domain", {"currentMemory": {"@unit": "KiB", "#text": size}}
    )
    assert "<vcpu>2</vcpu>" in to_xml("domain", {"vcpu": Quantity("2")})


def test_text_that_is_not_a_size_is_unchanged() -> None:
    conf = {"memory": {"@unit": "KiB", "#text": "64"}, "currentMemory": "much", "clock": {"@adjustment": "reset"}}
    assert [each.text for each in etree.fromstring(to_xml("domain", conf))] == ["64", "much", None]
    again = {"devices": {"video": [{"model": {"@vram": "16384"}}], "disk": []}}
    assert '<model vram="16384"/>' in to_xml("domain", again)


def test_libvirt_reads_the_quantities_of_a_guest(test_driver: Hypervisor) -> None:
    limits = {"average": "8 MB/s", "burst": Quantity("64 KiB")}
    test_driver.domain.define({
        "@type": "test",
        "name": "measured",
        "memory": "192 MiB",
        "currentMemory": Quantity("96 MiB"),
        "memoryBacking": {"hugepages": {"page": [{"@size": Quantity("2 MiB"), "@nodeset": "0"}]}},
        "vcpu": 2,
        "cputune": {"period": "50 ms", "quota": Quantity("20 ms")},
        "os": {"type": "hvm"},
        "cpu": {"numa": {"cell": [{"@id": 0, "@cpus": "0-1", "@memory": Quantity("192 MiB")}]}},
        "devices": {
            "disk": {
                "@type": "file", "source": {"@file": "/x"}, "target": {"@dev": "vda"},
                "iotune": {"total_bytes_sec": "3 MiB/s", "total_iops_sec": 40},
            },
            "interface": {
                "@type": "network", "source": {"@network": "default"},
                "bandwidth": {"inbound": {f"@{name}": each for name, each in limits.items()}},
            },
            "video": {"model": {"@type": "qxl", "@ram": "64 MiB", "@vram": Quantity("32 MiB"), "@heads": 1}},
            "memballoon": {"@model": "virtio", "stats": {"@period": "10 s"}},
        },
    })  # fmt: skip
    conf = test_driver.domain.conf("measured")
    assert (conf["memory"]["#text"], conf["currentMemory"]["#text"]) == ("196608", "98304")
    assert conf["memoryBacking"]["hugepages"]["page"][0] == {"@size": "2048", "@unit": "KiB", "@nodeset": "0"}
    assert conf["cputune"] == {"period": "50000", "quota": "20000"}
    (cell,) = conf["cpu"]["numa"]["cell"]
    assert (cell["@memory"], cell["@unit"]) == ("196608", "KiB")
    devices = conf["devices"]
    assert devices["disk"][0]["iotune"] == {"total_bytes_sec": "3145728", "total_iops_sec": "40"}
    assert devices["interface"][0]["bandwidth"]["inbound"] == {"@average": "8000", "@burst": "64"}
    assert [devices["video"][0]["model"][name] for name in ("@ram", "@vram")] == ["65536", "32768"]
    assert devices["memballoon"]["stats"] == {"@period": "10"}
    test_driver.domain.edit("measured", lambda conf: conf.update(memory=Quantity("256 MiB"), currentMemory="128 MiB"))
    assert test_driver.domain.info("measured")["max_memory"] == 256 * 1024**2


def test_devices_and_volumes_have_their_units_by_themselves(test_driver: Hypervisor) -> None:
    interface = {"interface": {"bandwidth": {"outbound": {"@average": "500 kB/s"}}}}
    assert (
        xml.device(interface)
        == b'<interface>\n  <bandwidth>\n    <outbound average="500"/>\n  </bandwidth>\n</interface>\n'
    )
    test_driver.volume.create("default-pool", {"name": "sized", "capacity": "1.5 MiB", "allocation": Quantity("0 B")})
    assert test_driver.volume.info("sized", pool="default-pool")["capacity"] == 3 * 1024**2 // 2
