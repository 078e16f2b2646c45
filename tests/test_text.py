"""The readers of virsh's text: the right value or an error, never anything else."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm import KvmError, Quantity, UnreadableOutputError, text, xml
from kvm.groups.domain import DomainInfo, monitor
from kvm.groups.generic import NodeCpuMap, NodeCpuPercent, NodeInfo, NodeMemoryTune, NodeMemStats, NodeSevInfo, Version

READERS: dict[str, Callable[[str], object]] = {
    "line": text.line,
    "lines": text.lines,
    "number": text.number,
    "optional_number": text.optional_number,
    "quantities": text.quantities,
    "stats": text.stats,
    "domains": lambda output: [*text.domains(output)],
    "pages": text.pages(None),
    "pages of a cell": text.pages(0),
    "NodeInfo": text.fields(NodeInfo),
    "NodeCpuMap": text.fields(NodeCpuMap),
    "NodeCpuPercent": text.fields(NodeCpuPercent),
    "NodeMemStats": text.fields(NodeMemStats),
    "NodeSevInfo": text.fields(NodeSevInfo),
    "NodeMemoryTune": text.settings(NodeMemoryTune),
    "Version": text.fields(Version),
    "DomainInfo": text.fields(DomainInfo),
    "state and reason": monitor._state_and_reason,
    "list": lambda output: monitor._listed(output, {}),
    "conf": xml.conf,
    "nodes": xml.asked("//*"),
    "sysinfo": xml.sysinfo,
}

SAMPLES = [
    "Domain: 'a'\n  cpu.time=5\n  vcpu.0.time=1\n  vcpu.current=1\n  block.count=0\n\n",
    "CPU(s):              16\nCPU frequency:       1400 MHz\nMemory size:         3145728 KiB\n\n",
    "Node 0:\n4KiB: 19\n\nNode 1:\n4KiB: 19\n\n\n",
    "    0:       2048 KiB\n--------------------\nTotal:       6144 KiB\n\n",
    "Shared memory:\n\tshm_pages_to_scan 100\n\n",
    " Id   Name   State\n----------------------\n 1    test   running\n\n",
    "<sysinfo type='smbios'><bios><entry name='a'>b</entry></bios></sysinfo>\n\n",
    "running (unknown)\n\n",
]

outputs = st.one_of(
    st.text(),
    st.sampled_from(SAMPLES),
    st.tuples(st.sampled_from(SAMPLES), st.text(max_size=5), st.integers(0, 200)).map(
        lambda parts: parts[0][: parts[2]] + parts[1] + parts[0][parts[2] :]
    ),
)


@pytest.mark.parametrize("reader", READERS)
@given(output=outputs)
def test_a_reader_gives_a_value_or_a_kvm_error(reader: str, output: str) -> None:
    try:
        value = READERS[reader](output)
    except KvmError:
        return
    json.dumps(value)  # plain values, all the way down


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("CPU(s)", "cpus"),
        ("Core(s) per socket", "cores_per_socket"),
        ("NUMA cell(s)", "numa_cells"),
        ("OS Type", "os_type"),
        ("total  ", "total"),
        ("cert-chain", "cert_chain"),
        ("Compiled against library", "compiled_against_library"),
    ],
)
def test_labels_become_keys(label: str, key: str) -> None:
    assert text.key(label) == key


class Shape(TypedDict):
    name: str
    id: int | None
    memory: NotRequired[Quantity]
    flag: NotRequired[bool]
    messages: NotRequired[list[str]]


def test_fields_convert_values_to_the_types_declared() -> None:
    value = text.fields(Shape)(
        "Name:           1\nId:             -\nMemory:         2 KiB\nFlag:           enable\n\n"
    )
    assert value == {"name": "1", "id": None, "memory": 2048, "flag": True}


def test_blanks_of_a_value_are_kept_and_those_of_the_padding_are_not() -> None:
    value = text.fields(Shape)("Id:             -\nName:             two  words \n\n")
    assert value["name"] == "  two  words "


def test_a_value_may_hold_what_looks_like_a_label() -> None:
    assert text.fields(Shape)("Id:             7\nName:           Id: 8\n\n") == {"id": 7, "name": "Id: 8"}


def test_a_list_goes_on_in_lines_without_a_label() -> None:
    output = "Id:             1\nName:           a\nMessages:       tainted: x\n                deprecated: y\n\n"
    assert text.fields(Shape)(output)["messages"] == ["tainted: x", "deprecated: y"]


def test_figures_that_a_newer_virsh_adds_stay_text() -> None:
    assert text.fields(Shape)("Id:        1\nName:      a\nNew thing: 5\n\n")["new_thing"] == "5"  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "output", ["", "Name: a\n", "Id: 1_0\nName: a\n", "Id: one\nName: a\n", "Id: 1\nName: a\nFlag: maybe\n"]
)
def test_what_does_not_fit_the_declaration_is_an_error(output: str) -> None:
    with pytest.raises(UnreadableOutputError):
        text.fields(Shape)(output)


def test_only_a_newline_ends_a_line() -> None:
    assert text.lines("a\r\x0b\x85\u2028b\nc\n\n") == ["a\r\x0b\x85\u2028b", "c"]


@pytest.mark.parametrize(
    ("output", "cpus"),
    [("0-1", [0, 1]), ("0,2,4", [0, 2, 4]), ("0-2,8", [0, 1, 2, 8]), ("y-y-y---", [0, 2, 4]), ("7", [7]), ("", [])],
)
def test_cpu_maps_are_lists_of_cpus(output: str, cpus: list[int]) -> None:
    assert text.fields(NodeCpuMap)(f"CPUs present: 8\nCPUs online: 3\nCPU map: {output}\n")["cpu_map"] == cpus


@pytest.mark.parametrize("output", ["abc", "0-", "0,,1", "1_0", "٣", "-1"])
def test_what_is_no_cpu_map_is_an_error(output: str) -> None:
    with pytest.raises(UnreadableOutputError):
        text.fields(NodeCpuMap)(f"CPUs present: 8\nCPUs online: 3\nCPU map: {output}\n")


@pytest.mark.parametrize("output", ["1_000", "٣", "1 2", "0x1", ""])
def test_only_digits_are_a_number(output: str) -> None:
    with pytest.raises(UnreadableOutputError):
        text.number(f"{output}\n\n")


def test_stats_are_nested_and_numbered_ones_lists() -> None:
    output = (
        "Domain: 'it's'\n  cpu.time=5\n  cpu.cache.monitor.count=0\n  balloon.current=32\n  balloon.last-update=7\n"
        "  vcpu.current=2\n  vcpu.0.time=1\n  vcpu.2.time=3\n  net.count=0\n  block.0.name=a=b\n  block.0.rd.reqs=-1\n"
        "  block.count=1\n\nDomain: 'b'\n  net.0.name=007\n  vcpu.0.halted=no\n  dirtyrate.calc_mode=page\n\n"
        "Domain: 'c'\n\n"
    )
    assert text.stats(output) == {
        "it's": {
            "cpu": {"time": 5, "cache": {"monitor": [], "monitor_count": 0}},
            "balloon": {"current": 32 * 1024, "last_update": 7},
            "vcpu": [{"id": 0, "time": 1}, {"id": 2, "time": 3}],
            "vcpu_current": 2,
            "net": [],
            "net_count": 0,
            "block": [{"name": "a=b", "rd": {"reqs": -1}}],
            "block_count": 1,
        },
        "b": {"net": [{"name": "007"}], "vcpu": [{"id": 0, "halted": False}], "dirtyrate": {"calc_mode": "page"}},
        "c": {},
    }


def test_sevinfo_reads_what_libvirt_documents() -> None:
    output = (
        "pdh               : Base64\ncert-chain        : MIIB=\ncpu0-id           : a+b=\ncbitpos           : 51\n"
        "reduced-phys-bits : 1\nmax-guests        : 15\nmax-es-guests     : 0\n\n"
    )
    assert text.fields(NodeSevInfo)(output) == {
        "pdh": "Base64",
        "cert_chain": "MIIB=",
        "cpu0_id": "a+b=",
        "cbitpos": 51,
        "reduced_phys_bits": 1,
        "max_guests": 15,
        "max_es_guests": 0,
    }


def test_version_without_a_hypervisor_s_own_is_still_a_value() -> None:
    output = (
        "Compiled against library: libvirt 9.0.0\nUsing library: libvirt 9.0.0\nUsing API: LXC 9.0.0\n"
        "Cannot extract running LXC hypervisor version\n\n"
    )
    assert text.fields(Version)(output)["using_api"] == "LXC 9.0.0"


def test_percentages_are_floats_and_a_missing_figure_is_none() -> None:
    output = "usage:           -nan%\nuser:              1.5%\nsystem:          100.0%\nnew:  1\n\n"
    value = text.fields(NodeCpuPercent)(output)
    assert (value["usage"], value["user"], value["system"]) == (None, 1.5, 100.0)


# -- quantities


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("131919564 KiB", 131919564 * 1024),
        ("1400 MHz", 1_400_000_000),
        ("2 GiB", 2 * 1024**3),
        ("0.5 GiB", 512 * 1024**2),
        ("1795335633.1s", 1_795_335_633_100_000_000),
        ("12 ms", 12_000_000),
        ("4KiB", 4096),
        ("100 B", 100),
        ("100", 100),
        ("98974432 kB", 98974432 * 1000),
        ("10 MiB/s", 10 * 1024**2),
        ("-1 KiB", -1024),
        ("8 EiB", 8 * 1024**6),
    ],
)
def test_a_quantity_is_exact_and_remembers_how_it_was_written(written: str, number: int) -> None:
    quantity = Quantity(written)
    assert (int(quantity), str(quantity), f"{quantity}") == (number, written, written)
    assert quantity == number
    assert hash(quantity) == hash(number)
    assert json.dumps({"q": quantity}) == f'{{"q": {number}}}'
    again = pickle.loads(pickle.dumps(quantity))
    assert (again, str(again)) == (number, written)
    assert type(quantity + 1) is int


@given(st.integers(min_value=0, max_value=2**80), st.sampled_from(["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]))
def test_whole_quantities_are_exact_at_any_size(number: int, unit: str) -> None:
    power = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert int(Quantity(f"{number} {unit}")) == number * 1024**power


@given(st.decimals(min_value=0, max_value=10**12, places=1))
def test_fractions_lose_nothing_to_floats(number: object) -> None:
    assert int(Quantity(f"{number}s")) == Fraction(str(number)) * 10**9


@pytest.mark.parametrize("written", ["", "KiB", "1 lightyear", "1 2", "one", "1,5 GiB", "0x10", "١ KiB", "1e3", "nan"])
def test_what_is_no_quantity_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as"):
        Quantity(written)
