"""Sizes, rates and times: read alike by every option, converted to virsh's unit exactly, refused if they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm import CommandTimeoutError, Hypervisor, InvalidArgumentError, Quantity
from kvm.cli import calls
from kvm.cli.arguments import parsed
from kvm.units import seconds
from kvm.virsh import units
from kvm.virsh.command import Command
from kvm.virsh.commands_generated import COMMANDS
from test_project import ROOT

UNITS = {
    (command, option): unit
    for command, line in COMMANDS.items()
    for option in (word.partition("@")[0] for word in line.split()[1:])
    if (unit := units.unit_of(command, option))
}
SIZES = sorted(place for place, unit in UNITS.items() if Quantity(f"1 {unit}").dimension == "bytes")
RATES = sorted(place for place, unit in UNITS.items() if Quantity(f"1 {unit}").dimension == "bytes/s")
TIMES = sorted(place for place, unit in UNITS.items() if Quantity(f"1 {unit}").dimension == "ns")

COUNTS = {
    *("allocpages pagecount cellno", "blkiotune weight", "cpu-stats start count", "domdisplay-reload type"),
    *("domifannounce rounds", "domsetlaunchsecstate set-address", "domtime time", "freecell cellno"),
    *("freepages cellno", "iothreadadd id", "iothreaddel id", "iothreadpin iothread"),
    "iothreadset id poll-grow poll-shrink thread-pool-min thread-pool-max poll-weight",
    "migrate disks-port comp-mt-level comp-mt-threads comp-mt-dthreads auto-converge-initial auto-converge-increment",
    "migrate parallel-connections comp-zlib-level comp-zstd-level",
    *("net-update parent-index", "node-memory-tune shm-pages-to-scan shm-merge-across-nodes", "nodecpustats cpu"),
    *("nodememstats cell", "restore parallel-channels", "save parallel-channels", "schedinfo weight cap"),
    *("screenshot screen", "setvcpus count", "update-memory-device node", "vcpupin vcpu"),
}
"""Options with numbers that count or name something."""


def word(command: str, option: str, value: object) -> str:
    """The value of an option on virsh's command line."""
    (_, given) = Command(command, {option.replace("-", "_"): value}).words()
    return given.partition("=")[2]


def is_count(command: str, option: str) -> bool:
    words = [each.split() for each in COUNTS]
    of_requests = option.endswith(("-iops-sec", "-iops-sec-max")) and option != "size-iops-sec"
    return of_requests or any(each[0] == command and option in each[1:] for each in words)


@pytest.mark.parametrize("path", sorted((ROOT / "tools" / "virsh").glob("commands-*.json")), ids=lambda path: path.stem)
def test_each_number_that_virsh_takes_has_a_unit_or_is_a_count(path: Path) -> None:
    commands = {name: each for group in json.loads(path.read_text())["groups"].values() for name, each in group.items()}
    numbers = {
        (name, each["name"]) for name, options in commands.items() for each in options if each["kind"] == "number"
    }
    assert [place for place in sorted(numbers) if (place in UNITS) == is_count(*place)] == []


@given(
    st.sampled_from(SIZES),
    st.integers(1, 2**20),
    st.sampled_from(["", "  "]),
    st.sampled_from(["MiB", "M", "m", "mib", "GiB", "TiB", "K", "KB"]),
)
def test_a_size_as_text_means_the_same_to_every_option(
    place: tuple[str, str], number: int, blank: str, unit: str
) -> None:
    power = "kmgt".index(unit[0].lower()) + 1
    size = number * 1024 * (1000 if unit == "KB" else 1024**power)
    text = f"{number * 1024}{blank}{unit}"
    expected = word(*place, size)
    assert word(*place, text) == word(*place, Quantity(text)) == expected
    assert int(Quantity(f"{expected} {'' if expected.endswith('b') else UNITS[place]}")) == size


@given(st.sampled_from(sorted(UNITS)), st.text() | st.from_regex(r"[+-]?[0-9]{1,9}\.?[0-9]{0,2} ?[A-Za-z/]{0,4}\Z"))
def test_any_text_for_a_size_or_time_is_a_number_or_refused(place: tuple[str, str], text: str) -> None:
    try:
        written = word(*place, text)
    except InvalidArgumentError as error:
        assert f"--{place[1]}" in str(error)
        return
    assert int(written.removesuffix("b")) is not None


@pytest.mark.parametrize(
    ("places", "wrong"),
    [
        (SIZES, ("1 s", "1 GHz", "1 MiB/s", "5 min")),
        (RATES, ("1 s", "1 GHz")),
        (TIMES, ("1 MiB", "1 GHz", "1 MiB/s")),
    ],
    ids=["sizes", "rates", "times"],
)
def test_a_quantity_of_another_dimension_is_refused(places: list[tuple[str, str]], wrong: tuple[str, ...]) -> None:
    for place in places:
        for each in wrong:
            for value in (each, Quantity(each)):
                with pytest.raises(InvalidArgumentError, match=f"--{place[1]} takes a "):
                    word(*place, value)


def test_a_quantity_is_refused_where_virsh_takes_a_count() -> None:
    assert word("setvcpus", "count", Quantity("2")) == "2"
    for command, option in (("setvcpus", "count"), ("iothreadadd", "id"), ("desc", "new-desc")):
        with pytest.raises(InvalidArgumentError, match="takes a whole number, not '2 KiB'"):
            word(command, option, Quantity("2 KiB"))


def test_a_time_is_in_the_unit_of_its_command() -> None:
    assert [word("send-key", "holdtime", each) for each in (100, "100", "0.25 s", Quantity("3 ms"))] == [
        "100", "100", "250", "3"
    ]  # fmt: skip
    assert word("iothreadset", "poll-max-ns", "1.5 us") == "1500"
    assert word("await", "timeout", Quantity("2 min")) == "120"
    with pytest.raises(InvalidArgumentError, match="whole number of s; '1500 ms' is between 1 and 2 s"):
        word("await", "timeout", "1500 ms")


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    for command, option in (("setmem", "size"), ("setvcpus", "count"), ("vol-resize", "capacity")):
        with pytest.raises(InvalidArgumentError, match=f"--{option} .*thousands of digits"):
            word(command, option, 10**5000)
    with pytest.raises(InvalidArgumentError, match="--size takes a size"):
        word("setmem", "size", "9" * 5000 + " KiB")


def test_a_text_without_a_unit_is_refused_unless_virsh_has_bytes() -> None:
    assert word("vol-resize", "capacity", "4096") == "4096"
    with pytest.raises(InvalidArgumentError, match="'2048' has no unit; give an int in bytes, or '2048 KiB'"):
        word("setmem", "size", "2048")


def test_a_plain_number_on_a_command_line_has_virshs_unit() -> None:
    for words, option, expected in (
        (["blockresize", "g", "vda", "20480"], "size", "20971520b"),
        (["setmem", "g", "20480"], "size", "20480"),
        (["blockpull", "g", "vda", "--bandwidth", "3"], "bandwidth", "3145728"),
        (["blockpull", "g", "vda", "--bandwidth", "3", "--bytes"], "bandwidth", "3"),
        (["migrate-setspeed", "g", "100"], "bandwidth", "100"),
        (["memtune", "g", "--hard-limit", "-1"], "hard-limit", "-1"),
    ):
        asked = parsed(words)
        value = calls._with_unit(asked, option.replace("-", "_"), asked.options[option])
        assert word(asked.command, option, value) == expected


def test_a_time_limit_may_be_a_quantity_of_time(test_driver: Hypervisor) -> None:
    assert [seconds("timeout", each) for each in (2, 0.5, Quantity("300 ms"), Quantity("7"))] == [2, 0.5, 0.3, 7]
    assert [seconds("timeout", each) for each in ("0.5 min", "250ms")] == [30, 0.25]
    for text in ("5", "1.5", "soon", "3 MiB", ""):
        with pytest.raises(InvalidArgumentError, match=r"^timeout(:| takes) "):
            seconds("timeout", text)
    with pytest.raises(CommandTimeoutError, match=r"within 0\.2 s"):
        test_driver.domain.await_("test", "domain-inactive", Quantity("200 ms"))
    for wait in (
        test_driver.domain.stop,
        lambda name, timeout: test_driver.domain.await_(name, "domain-inactive", timeout),
    ):
        with pytest.raises(InvalidArgumentError, match="timeout takes a number of seconds"):
            wait("test", timeout=Quantity("3 KiB"))


def test_virsh_itself_is_given_plain_numbers() -> None:
    for words, expected in (
        (["vol-create-as", "p", "v", "1.5GiB", "--print-xml"], "--capacity=1610612736"),
        (["setmem", "g", "1 GiB"], "--size=1048576"),
        (["setmem", "g", "20480"], "--size=20480"),
        (["setmem", "g", "1s"], "--size=1s"),
        (["blockpull", "g", "vda", "--bandwidth", "3"], "--bandwidth=3"),
    ):
        assert expected in calls.command_words(parsed(words))
