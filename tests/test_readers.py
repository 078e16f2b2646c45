"""All that reads what virsh and qemu-img print, of every method: any text is a value or an error, and no wrong value.

What is asked here is nobody: each method's plan is given texts, real ones (`printed.txt`) with something wrong in them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvm
import unix
from kvm import KvmError, Quantity, UnreadableOutputError, table, text
from kvm.events import OfQemu
from kvm.groups import secret
from kvm.groups.caller import Caller
from kvm.groups.domain import blocks, cpus, memory, saving
from kvm.groups.domain.events import READER
from kvm.groups.group import Group
from kvm.groups.groups import Groups, is_group
from kvm.groups.image import outputs
from kvm.virsh.command import Command
from kvm.virsh.plan import Plan
from test_complete import parameters
from test_project import ROOT
from unix.result import Result

# -- every method -----------------------------------------------------------------------------------------------------

ARGUMENTS: dict[str, object] = {
    "function": lambda conf: None,
    "set": None,
    **dict.fromkeys(("count", "downtime", "id", "iothread", "pagecount", "pid"), 1),
    **dict.fromkeys(("bandwidth", "capacity", "pagesize", "size", "threshold"), 1024**2),
}
"""What methods are given for what they require; where nothing stands here, ``"x"``."""

OPTIONS = [
    *("all", "cap", "checkpoint", "current", "details", "full", "inactive", "leaves", "managed_save", "name", "parent"),
    *("percent", "physical", "print_xml", "rawstats", "reason", "snapshotname", "title", "total", "tree", "uuid"),
    "xpath",
]
"""The options that may make another value of an output."""


class Call(NamedTuple):
    kind: type[Group]
    method: str
    arguments: tuple[object, ...]
    options: Mapping[str, object]

    def by(self, caller: Caller) -> object:
        return getattr(self.kind(caller), self.method)(*self.arguments, **self.options)


@cache
def calls() -> list[Call]:
    """Every method of every group, with each option that may make a difference."""
    hypervisor = kvm.Hypervisor(unix.Local())
    kinds = {type(getattr(hypervisor, group)) for group in filter(is_group, dir(Groups))}
    groups = sorted((kind for kind in kinds if issubclass(kind, Group)), key=str)
    return [
        Call(kind, name, given, options)
        for kind in groups
        for name, function in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
        for given in [tuple(required(function))]
        for options in [{}, *({each: "//*" if each == "xpath" else True} for each in taken(function))]
        if asks(Call(kind, name, given, options))
    ]


def required(function: Callable[..., object]) -> Iterator[object]:
    for each in list(inspect.signature(function).parameters.values())[1:]:
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD:
            is_document = "Document" in str(each.annotation)
            yield {"name": "x"} if is_document else ARGUMENTS.get(each.name, "x")


def taken(function: Callable[..., object]) -> list[str]:
    by_place, takes = parameters(function)
    return [each for each in OPTIONS if each.replace("_", "-") in takes and each not in by_place]


def asks(call: Call) -> bool:
    """Whether a call asks something of its caller, and is not about a stream."""
    caller = Told(lambda _: "")
    with suppress(TypeError, KvmError, FileNotFoundError):
        call.by(caller)
    return bool(caller.commands) and not any(command.transfer() for command in caller.commands)


class Told(Caller):
    """Gives each command what `say` says it has printed."""

    check = True

    def __init__(self, say: Callable[[Command], str]) -> None:
        self._say = say
        self.commands: list[Command] = []

    def call(self, plan: Plan[Any]) -> Any:
        try:
            asked = next(plan)
            for _ in range(20):
                self.commands += asked
                asked = plan.send(tuple(Result(0, self._say(each), "") for each in asked))
        except StopIteration as end:
            return end.value
        raise AssertionError(f"no end of questions: {self.commands[-1].words()}")


@cache
def printed() -> dict[str, list[str]]:
    """Real outputs by command, and by command and option where the option makes another form of it."""
    parts = re.split(r"^\$ virsh (.+)\n", (ROOT / "tests" / "printed.txt").read_text(), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for command, output in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(command, []).append(output)
    return found


def printed_by(command: Command) -> list[str]:
    forms = [f"{command.name} {word}" for word in command.words()[1:]]
    return next((printed()[form] for form in [*forms, command.name] if form in printed()), ["\n"])


PIECES = [
    *("", "-", "0", "-1", "9" * 25, "9" * 5000, "1.5", "0-", "3-1", "0-99999999999", "٣", "²", "1e400", "nan", "x.0.y"),
    *("\n", "\n\n", "\n ", " ", "   ", "\t", "\r\n", "\x85", ":", ": ", ".", "=", ",", "(", ")", "'", '"', "<", "{"),
    *("é", "漢", "\udcff", "\\xff", "\\xe4", "yes", "no", "N/A", "unknown", "null", "Domain: '", "Node 0:", "Total:"),
]


@st.composite
def damaged(draw: st.DrawFn, whole: str) -> str:
    """An output, in which up to three things are other than they were."""
    for _ in range(draw(st.integers(0, 3))):
        rows = whole.split("\n")
        match draw(st.integers(0, 4)):
            case 0:
                begin = draw(st.integers(0, len(whole)))
                end = begin + draw(st.integers(0, 5))
                whole = whole[:begin] + draw(st.one_of(st.sampled_from(PIECES), st.text(max_size=5))) + whole[end:]
            case 1:
                words = [*re.finditer(r"[^\s:=,.-]+", whole)] or [*re.finditer("", whole)]
                word = draw(st.sampled_from(words))
                whole = whole[: word.start()] + draw(st.sampled_from(PIECES)) + whole[word.end() :]
            case 2:
                rows.insert(draw(st.integers(0, len(rows))), draw(st.sampled_from(rows)))
                whole = "\n".join(rows)
            case 3:
                del rows[draw(st.integers(0, len(rows) - 1))]
                whole = "\n".join(rows)
            case _:
                whole = whole[: draw(st.integers(0, len(whole)))]
    return whole


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float | bytes | datetime | tuple)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_virsh_prints_a_method_gives_a_value_or_an_error_of_ours(data: st.DataObject) -> None:
    call = data.draw(st.sampled_from(calls()), "call")

    def say(command: Command) -> str:
        others = [output for outputs in printed().values() for output in outputs]
        whole = data.draw(st.sampled_from(printed_by(command) if data.draw(st.integers(0, 9)) else others))
        return data.draw(damaged(whole), command.name)

    try:
        value = call.by(Told(say))
    except KvmError:  # `UnreadableOutputError`, or what the output says
        return
    assert is_plain(value)


def test_what_virsh_does_print_is_read() -> None:
    """Every method makes a value of one of the outputs that there are of its command."""
    unread = []
    for call in calls():
        errors = []
        for place in range(3):
            caller = Told(lambda command, place=place: (printed_by(command) * 3)[place])  # type: ignore[misc]
            try:
                assert is_plain(call.by(caller))
            except KvmError as error:
                errors.append(error)
        unread += [(call, errors)] if len(errors) == 3 else []
    assert unread == []


# -- what asks nobody -------------------------------------------------------------------------------------------------

IMAGES = [
    '{"snapshots": [{"id": "1", "date-sec": 1, "date-nsec": 2, "vm-clock-sec": 3, "vm-clock-nsec": 4}]}\n',
    '[{"filename": "a", "snapshots": []}]\n',
    "Images are identical.\n",
    "Strict mode: Image size mismatch!\n",
    "Run completed in 0.012 seconds.\n",
    "qemu-img version 7.2.1 (Debian)\n",
]


@pytest.mark.parametrize(
    "read",
    [
        *(outputs.info, outputs.infos, outputs.snapshots, outputs.extents),
        *(outputs.measure, outputs.check, outputs.same, outputs.seconds, outputs.version),
    ],
)
@settings(max_examples=40)
@given(st.sampled_from(IMAGES).flatmap(damaged))
def test_whatever_qemu_img_prints_is_a_value_or_unreadable(read: Callable[[str], object], output: str) -> None:
    with suppress(UnreadableOutputError):
        assert is_plain(read(output))


EVENTS = [
    "2026-11-22 15:47:14.163+0000: event 'lifecycle' for domain 'a': Started Booted\n",
    "2026-11-22 15:47:14.163+0000: event 'job-completed' for domain 'a':\n\toperation: 5\n\ttime_elapsed: 15",
    "2026-11-22 15:47:14.163+0000: event 'device-removed' for domain 'a': net0",
    "event RTC_CHANGE at 1700000000.000042 for domain 'a': {\"offset\": -1}",
]


@given(st.sampled_from(EVENTS).flatmap(damaged), st.sampled_from([READER, OfQemu()]))
def test_whatever_is_printed_of_an_event_is_one_or_unreadable(record: str, reader: Any) -> None:
    try:
        event = reader.read(record, lambda: ["a"])
    except UnreadableOutputError:
        return
    assert event.time.tzinfo is UTC
    assert is_plain(event.details)


# -- what was printed is read -----------------------------------------------------------------------------------------

few = settings(max_examples=40)

lines = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
words = st.from_regex(r"[a-z]{1,5}(_[a-z]{1,5}){0,2}", fullmatch=True).filter(
    lambda word: word not in ("count", "name", "path", "alias", "vcpus")  # which mean something
)
paths = st.text(st.characters(exclude_characters=",\n", exclude_categories=["Cs"]), min_size=1)
figures = st.integers(-(2**63), 2**64 - 1)
cpu_numbers = st.sets(st.integers(0, 300), max_size=12).map(sorted)
cells = st.text(st.characters(exclude_categories=["C", "Z", "M"], exclude_characters="\\"), min_size=1, max_size=8)


def ranges(numbers: list[int]) -> str:
    """``0-2,8``, as libvirt writes sets of CPUs."""
    runs: list[list[int]] = []
    for each in numbers:
        if runs and runs[-1][-1] == each - 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def drawn(rows: list[list[str]]) -> str:
    """A table as virsh draws it."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    padded = [
        "   ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)) for row in rows
    ]
    heading, *below = [f" {row}".rstrip(" ") for row in padded]
    return "\n".join([heading, "-" * 20, *below, "", ""])


def width(cell: str) -> int:
    return sum(map(table._width, cell))


@given(st.dictionaries(words, lines.filter(lambda each: each.strip() != "")))
def test_labelled_texts_come_back(told: dict[str, str]) -> None:
    labelled = {"State": "running", **told}
    output = "".join(f"{label + ':':15} {each}\n" for label, each in labelled.items())
    assert dict(text.pairs(f"{output}\n")) == labelled


@few
@given(st.dictionaries(lines, st.dictionaries(words, st.one_of(figures, st.booleans()), max_size=5), max_size=5))
def test_figures_of_domains_come_back(told: dict[str, dict[str, int | bool]]) -> None:
    output = ""
    for name, found in told.items():
        shown = {each: ["no", "yes"][value] if isinstance(value, bool) else value for each, value in found.items()}
        output += "".join([f"Domain: '{name}'\n", *(f"  figure.{each}={said}\n" for each, said in shown.items()), "\n"])
    assert text.stats(output) == {
        name: {"figure": {text.key(each): value for each, value in found.items()}} if found else {}
        for name, found in told.items()
    }


@few
@given(st.lists(st.dictionaries(words, lines, max_size=3), max_size=4))
def test_numbered_members_come_back(members: list[dict[str, str]]) -> None:
    told = {f"x.{place}.{name}": value for place, member in enumerate(members) for name, value in member.items()}
    read = text.nested({"x.count": len(members), **told}.items())
    assert read["x"] == [{text.key(name): value for name, value in member.items()} for member in members if member]
    assert read["x_count"] == len(members)


def test_a_path_of_two_lines_is_read_whole() -> None:
    output = "Domain: 'a'\n  block.0.path=/a\n b=c\n\n  block.0.rd.reqs=5\n\nDomain: 'b'\n  block.count=0\n\n"
    assert text.stats(output) == {
        "a": {"block": [{"path": "/a\n b=c", "rd": {"reqs": 5}}]},
        "b": {"block": [], "block_count": 0},
    }


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("vcpu.0.time=1\n  vcpu.4000000000.time=2", {"vcpu": [{"id": 0, "time": 1}, {"id": 4000000000, "time": 2}]}),
        ("iothread.count=1\n  iothread.70000.x=3", {"iothread": [{"id": 70000, "x": 3}], "iothread_count": 1}),
        ("net.count=2\n  net.1.name=vnet7", {"net": [{"name": "vnet7"}], "net_count": 2}),
        (f"vcpu.{'9' * 5000}.time=1", {"vcpu": {"9" * 5000: {"time": 1}}}),
        (f"cpu.time={'8' * 4300}", {"cpu": {"time": "8" * 4300}}),
        (f"balloon.rss={'8' * 5000}\n  balloon.current=many", {"balloon": {"rss": "8" * 5000, "current": "many"}}),
        ("a" + ".a" * 20_000 + "=1", None),
        ("cpu=5\n  cpu.time=6", {"cpu": {"value": 5, "time": 6}}),
        ("cpu.time=6\n  cpu=5", {"cpu": {"time": 6, "value": 5}}),
    ],
    ids=[
        "vcpu",
        "iothread",
        "net",
        "digits in a name",
        "digits",
        "memory",
        "depth",
        "figure with parts",
        "parts with a figure",
    ],
)
def test_odd_figures_of_a_guest_leave_the_others_theirs(printed: str, value: object) -> None:
    read = text.stats(f"Domain: 'odd'\n  {printed}\n\nDomain: 'other'\n  cpu.time=7\n\n")
    assert read["other"] == {"cpu": {"time": 7}}
    assert value is None or read["odd"] == value


@few
@given(st.lists(st.tuples(cells, cells, cells), min_size=1))
def test_cells_come_back_from_a_table(rows: list[tuple[str, str, str]]) -> None:
    output = drawn([["Name", "A b", "Last One"], *map(list, rows)])
    assert [tuple(row.values()) for row in table.rows(output)] == rows
    assert [*table.rows(output)[0]] == ["name", "a_b", "last_one"]


@few
@given(st.dictionaries(st.integers(0, 5000), cpu_numbers.filter(bool), min_size=1))
def test_pins_come_back(pins: dict[int, list[int]]) -> None:
    output = drawn([["VCPU", "CPU Affinity"], *([str(cpu), ranges(pin)] for cpu, pin in pins.items())])
    assert cpus._pins(output) == pins


@given(cpu_numbers)
def test_sets_of_cpus_come_back_in_both_forms(numbers: list[int]) -> None:
    marks = "".join("y" if cpu in numbers else "-" for cpu in range(301))
    assert cpus._cpus(ranges(numbers)) == cpus._cpus(marks) == numbers


@given(st.dictionaries(paths, st.integers(0, 2**64 - 1)))
def test_figures_by_path_come_back(told: dict[str, int]) -> None:
    raw = ",".join(f"{path},{figure}" for path, figure in told.items())
    assert blocks._tuned(f"weight         : 5\ndevice_weight  : {raw}\n\n")["device_weight"] == told


@given(st.dictionaries(words, st.one_of(st.just("no space"), st.just("unspecified error")), min_size=1))
def test_errors_of_disks_come_back(told: dict[str, str]) -> None:
    assert blocks._errors("".join(f"{disk}: {error}\n" for disk, error in told.items()) + "\n") == told


@given(st.integers(0, 2**53), st.integers(0, 2**53), lines.filter(lambda each: ": " not in each))
def test_a_job_comes_back(elapsed: int, total: int, message: str) -> None:
    output = f"Job type: 2\ntime_elapsed: {elapsed}\nmemory_total: {total}\nerrmsg: {message}\n\n"
    job = saving._job(output)
    assert job is not None
    assert (job["time_elapsed"], job["memory_total"], job["errmsg"]) == (elapsed * 10**6, total, message)


@given(st.dictionaries(st.sampled_from(["actual", "unused", "rss"]), st.integers(0, 2**54)), st.integers(1, 2**33))
def test_memory_comes_back(told: dict[str, int], updated: int) -> None:
    output = "".join(f"{name} {figure}\n" for name, figure in told.items()) + f"last_update {updated}\n\n"
    expected = {name: figure * 1024 for name, figure in told.items()}
    assert memory._memory(output) == {**expected, "last_update": datetime.fromtimestamp(updated, UTC)}


@given(st.dictionaries(st.uuids().map(str), st.tuples(st.sampled_from(["ceph", "tls"]), cells), min_size=1))
def test_usages_of_secrets_come_back(told: dict[str, tuple[str, str]]) -> None:
    output = drawn([["UUID" + " " * 32, "Usage"], *([uuid, f"{kind} a  {id}"] for uuid, (kind, id) in told.items())])
    assert secret._listed(output) == {
        uuid: {"usage_type": kind, "usage_id": f"a  {id}"} for uuid, (kind, id) in told.items()
    }


trees: st.SearchStrategy[Any] = st.recursive(
    st.just({}), lambda below: st.dictionaries(cells, below, max_size=3), max_leaves=8
)


@few
@given(st.dictionaries(cells.filter(lambda name: name.strip("|+-") != ""), trees, max_size=3))
def test_trees_come_back(told: text.Tree) -> None:
    def draw(below: text.Tree, indent: str) -> Iterator[str]:
        for place, (name, deeper) in enumerate(below.items(), 1):
            yield f"{indent}  |"
            yield f"{indent}  +- {name}"
            yield from draw(deeper, indent + ("  | " if place < len(below) else "    ").rjust(4))

    output = ""
    for root, below in told.items():
        output += "\n".join([root, *draw(below, ""), "", ""])
    assert text.tree(output) == told


@given(st.integers(0, 2**53), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_quantities_come_back(number: int, unit: str) -> None:
    assert str(text.quantities(f"    0: {number:10} {unit}\n")["0"]).split() == [str(number), unit]
    assert text.quantities(f"    0: {number:10} {unit}\n")["0"] == Quantity(f"{number} {unit}")
