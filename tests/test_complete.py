"""All of virsh: each command has a method, each option a keyword, and each reader knows what it may be told."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

import pytest
from lxml import etree

import kvm
import unix
from kvm import (
    ConnectionLostError,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    NotSupportedError,
)
from kvm.groups import options_generated
from kvm.groups.bound import Bound
from kvm.groups.caller import Caller
from kvm.groups.domain.affected import Affected
from kvm.groups.group import Group
from kvm.groups.groups import Groups, is_group
from kvm.virsh.plan import Plan
from test_project import ROOT, run

OTHERWISE = {
    ("secret-set-value", "base64"): "would be seen in the list of processes; the value is bytes",
    ("secret-set-value", "file"): "what the value travels in",
    ("secret-set-value", "interactive"): "asks at the terminal; the value is bytes",
    ("secret-set-value", "plain"): "what the value travels as",
}
"""Options that are no keyword, and why, or what is in their place."""

Commands = dict[str, list[dict[str, Any]]]
"""The options of commands, as tools/extract_commands.py tells them."""


class Method(NamedTuple):
    """A method, the parameters that go by place, and the names of all that it takes."""

    name: str
    by_place: list[str]
    takes: set[str]


@pytest.fixture(scope="module")
def offered() -> Commands:
    """What the virsh at hand has."""
    return commands(run(sys.executable, ROOT / "tools" / "extract_commands.py"))


@pytest.fixture(scope="module")
def methods() -> dict[str, Method]:
    """The method of each command, by the docstrings."""
    found: dict[str, Method] = {}
    for name, function in public_methods():
        for command in named_commands(function):
            found.setdefault(command, Method(name, *parameters(function)))
    return found


def commands(told: str) -> Commands:
    return {name: options for group in json.loads(told)["groups"].values() for name, options in group.items()}


def newest() -> Commands:
    files = (ROOT / "tools" / "virsh").glob("commands-*.json")
    return commands(max(files, key=lambda file: [int(part) for part in re.findall(r"\d+", file.name)]).read_text())


def public_methods() -> Iterator[tuple[str, Callable[..., object]]]:
    """The methods of all groups that are virsh's."""
    hypervisor = kvm.Hypervisor(unix.Local())
    for group in filter(is_group, dir(Groups)):
        kind = type(getattr(hypervisor, group))
        if issubclass(kind, Group):
            for name, function in inspect.getmembers(kind, inspect.isfunction):
                if not name.startswith("_"):
                    yield f"{group}.{name}", function


def named_commands(function: Callable[..., object]) -> list[str]:
    """The commands that a docstring says its method is."""
    told = re.findall(r"virsh: ((?:``[\w-]+``(?:,| and)? ?)+)", " ".join((function.__doc__ or "").split()))
    return [command for each in told for command in re.findall(r"``([\w-]+)``", each)]


def parameters(function: Callable[..., object]) -> tuple[list[str], set[str]]:
    """The parameters by place of a method, and all that it or an overload takes, as virsh spells them."""
    assert isinstance(function, FunctionType)
    names = function.__globals__ | {"options": options_generated, "Affected": Affected}
    by_place = []
    takes = set()
    overloads: list[Any] = [*typing.get_overloads(function)]
    for each in (function, *overloads):
        for name, parameter in list(inspect.signature(each).parameters.items())[1:]:
            if parameter.kind is not parameter.VAR_KEYWORD:
                takes.add(name)
            elif str(parameter.annotation).startswith("Unpack["):
                (shape,) = typing.get_args(eval(parameter.annotation, names))
                takes |= shape.__required_keys__ | shape.__optional_keys__
            if each is function and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL):
                by_place.append(spelled(name))
    return by_place, {spelled(name) for name in takes}


def spelled(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")


def test_every_command_has_a_method(offered: Commands, methods: dict[str, Method]) -> None:
    assert len(offered) > 200
    assert set(offered) - set(methods) == set()


def test_every_option_has_a_keyword(offered: Commands, methods: dict[str, Method]) -> None:
    missing = {
        f"{methods[command].name}: {option['name']}"
        for command, options in offered.items()
        if command in methods
        for option in options
        if option["name"] not in methods[command].takes and (command, option["name"]) not in OTHERWISE
    }
    assert missing == set()


def test_what_a_command_requires_goes_by_place_in_its_order(offered: Commands, methods: dict[str, Method]) -> None:
    wrong = {}
    for command, options in offered.items():
        required = [option["name"] for option in options if option["required"]]
        if command in methods and methods[command].by_place[: len(required)] != required:
            wrong[command] = (required, methods[command])
    assert wrong == {}


def test_every_method_says_which_command_it_is() -> None:
    known = newest()
    without = {name for name, function in public_methods() if not set(named_commands(function)) & set(known)}
    assert without == set()
    named = {command for _, function in public_methods() for command in named_commands(function)}
    assert named - set(known) == set()


SHAPES_TEXT = {"verbose", "wrap", "pretty", "table", "raw", "timestamp", "list", "info"}
"""Options that make no difference, or go without saying."""


def test_every_option_is_told_of_where_help_shows_it() -> None:
    """In the docstring of the method, of one that it refers to, or of its class."""
    kinds = {name: type(getattr(kvm.Hypervisor(unix.Local()), name)) for name in filter(is_group, dir(Groups))}
    untold = {}
    for name, function in public_methods():
        kind = kinds[name.partition(".")[0]]
        said = inspect.getdoc(function) or ""
        others = [inspect.getdoc(getattr(kind, other, None)) or "" for other in re.findall(r"`(\w+)`", said)]
        told = set(re.findall(r"\w+", " ".join([said, *others, *(each.__doc__ or "" for each in kind.__mro__)])))
        told |= {f"{word}{more}" for word in told for more in ("_max", "_max_length") if more in told}
        told |= {parameter.rstrip("_") for parameter in [*inspect.signature(function).parameters, *told]}
        options = {option.replace("-", "_") for option in parameters(function)[1]} - SHAPES_TEXT
        if options - told:
            untold[name] = options - told
    assert untold == {}


# -- every reader on a host with a bit of everything ----------------------------------------------------------------

DESCRIPTIONS = [ROOT / "tests" / "data" / "host.xml"]
if "CORPUS" in os.environ:  # `make corpus` fetches virt-manager's host
    DESCRIPTIONS.append(ROOT / ".cache" / "testdriver.xml")


@pytest.fixture(scope="module", params=DESCRIPTIONS, ids=lambda path: path.stem)
def described(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[kvm.Hypervisor, etree._Element]]:
    """A test host, and its description."""
    if not request.param.exists():
        pytest.skip(f"{request.param.name} could not be fetched")
    file = shutil.copy(request.param, tmp_path_factory.mktemp("host"))
    with kvm.Hypervisor(unix.Local(timeout=60), f"test://{file}") as hypervisor:
        try:
            hypervisor.generic.uri()
        except KvmError as error:
            pytest.skip(f"this libvirt does not take the description: {error.stderr}")
        yield hypervisor, etree.parse(file).getroot()


class Asked(Caller):
    """Keeps what a method asks first, and asks nothing."""

    check = True

    def call(self, plan: Plan[Any]) -> Any:
        self.commands = next(plan)
        plan.close()


def readings(bound: Bound) -> Iterator[str]:
    """The methods of one object that need nothing more to be told, and only read."""
    for name in dir(bound):
        if name.startswith("_"):
            continue
        asked = Asked()
        method = getattr(Bound(type(bound._group)(asked), ("name",) * len(bound._key)), name)  # no number: no lookup
        required = [each for each in inspect.signature(method).parameters.values() if each.default is each.empty]
        if all(each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in required):
            try:
                method()
            except TypeError:  # it streams, or wants the terminal
                continue
            if all(command.reads for command in asked.commands):
                yield name


def objects(hypervisor: kvm.Hypervisor, description: etree._Element) -> Iterator[Any]:
    for name in hypervisor.domain.list(all=True):
        yield hypervisor.domain[name]
        for snapshot in hypervisor.snapshot.list(name):
            yield hypervisor.snapshot[name, snapshot]
    for name in hypervisor.network.list(all=True):
        yield hypervisor.network[name]
    for name in hypervisor.pool.list():
        yield hypervisor.pool[name]
        for volume in hypervisor.volume.list(name):
            yield hypervisor.volume[name, volume]
    for device in description.iterfind("device/name"):
        yield hypervisor.nodedev[str(device.text)]


def read(one: Any) -> Iterator[tuple[str, object]]:
    """The values that the readers of one object give, errors that mean something left out."""
    for name in readings(one):
        try:
            yield f"{one!r}.{name}()", getattr(one, name)()
        except (NotFoundError, NotSupportedError, InvalidStateError, InvalidArgumentError):
            continue
        except ConnectionLostError:
            assert name == "blkerror"  # with it, virsh 7 crashes for a domain that is not running
        except KvmError as error:
            yield f"{one!r}.{name}()", error


def test_every_reader_reads_every_object(described: tuple[kvm.Hypervisor, etree._Element]) -> None:
    values = [value for one in objects(*described) for value in read(one)]
    assert [value for value in values if isinstance(value[1], KvmError)] == []
    assert len(values) > 400


def test_every_reader_reads_what_there_is_by_default() -> None:
    description = etree.fromstring("<node><device><name>computer</name></device></node>")
    with kvm.Hypervisor(unix.Local(), "test:///default") as hypervisor:
        hypervisor.volume.create_as("default-pool", "disk", "1G")
        values = [value for one in objects(hypervisor, description) for value in read(one)]
        assert [value for value in values if isinstance(value[1], KvmError)] == []
        assert len(values) > 30
        assert [each["mountpoint"] for each in hypervisor.domain.fsinfo("test")] == ["/", "/boot"]
        hypervisor.domain.create({"@type": "test", "name": "bare", "memory": 8192, "os": {"type": "hvm"}})
        assert hypervisor.domain.fsinfo("bare") == []
        with pytest.raises(InvalidArgumentError):
            hypervisor.generic.hypervisor_cpu_baseline()


def test_every_reader_reads_every_disk_and_interface(described: tuple[kvm.Hypervisor, etree._Element]) -> None:
    hypervisor, _ = described
    for name in hypervisor.domain.list(all=True):
        domain = hypervisor.domain[name]
        devices = domain.conf()["devices"]
        disks, interfaces = ([], []) if devices is True else (devices.get("disk", []), devices.get("interface", []))
        listed = domain.blklist()
        assert [disk["target"] for disk in listed] == [disk["target"]["@dev"] for disk in disks]
        assert [disk["device"] for disk in listed] == [disk["@device"] for disk in disks]
        assert [each["mac"] for each in domain.iflist()] == [each["mac"]["@address"] for each in interfaces]
        assert [each["type"] for each in domain.iflist()] == [each["@type"] for each in interfaces]
        for disk, listing in zip(disks, listed, strict=True):
            tuned: Mapping[str, object] = domain.blkdeviotune(disk["target"]["@dev"])
            given = disk.get("iotune", {})
            assert {key: tuned[key] for key in given} == {key: int(value) for key, value in given.items()}
            if domain.id() and listing["source"] and disk["@type"] in ("file", "block"):
                assert domain.blkinfo(disk["target"]["@dev"])["capacity"]
                assert domain.blkstat(disk["target"]["@dev"])["rd_req"] > 0
        for interface in interfaces:
            mac = interface["mac"]["@address"]
            assert domain.if_getlink(mac) in ("up", "down")
            assert domain.iftune(mac)["inbound"]["average"] == 0
            if domain.id():
                assert domain.ifstat(interface["target"]["@dev"])["rx_bytes"] > 0


def test_what_is_read_is_what_is_described(described: tuple[kvm.Hypervisor, etree._Element]) -> None:
    hypervisor, description = described
    domains = {str(each.findtext("name")): each for each in description.iterfind("domain")}
    assert hypervisor.domain.list(all=True).keys() == domains.keys()
    for name, domain in domains.items():
        info, conf = hypervisor.domain[name].info(), hypervisor.domain[name].conf()
        assert info["uuid"] == (domain.findtext("uuid") or info["uuid"]).lower() == conf["uuid"]
        assert info["cpus"] == int(domain.findtext("vcpu") or 1)
        assert info["max_memory"] == int(conf["memory"]["#text"]) * 1024
        assert hypervisor.domain.uuid(name) == info["uuid"]
        assert hypervisor.domain.name(info["uuid"]) == name
        assert hypervisor.domain.desc(name) == (domain.findtext("description") or "")
        assert hypervisor.domain.desc(name, title=True) == (domain.findtext("title") or "")
    assert {str(each.findtext("name")) for each in description.iterfind("network")} == {
        name for name, listed in hypervisor.network.list(all=True).items() if listed["state"] == "active"
    }
    for name in hypervisor.network.list():
        network = hypervisor.network[name]
        assert network.info().get("bridge") == network.conf().get("bridge", {}).get("@name")
    for pool in description.iterfind("pool"):
        name = str(pool.findtext("name"))
        assert hypervisor.pool[name].info()["capacity"] == int(hypervisor.pool[name].conf()["capacity"]["#text"])
        volumes = {str(each.findtext("name")): each for each in pool.iterfind("volume")}
        listed = hypervisor.volume.list(name, details=True)
        assert listed.keys() == volumes.keys()
        for volume, described_volume in volumes.items():
            info_of_volume = hypervisor.volume[name, volume].info()
            assert info_of_volume["capacity"] == listed[volume]["capacity"]
            assert info_of_volume["capacity"] == int(described_volume.findtext("capacity") or 0)
            assert listed[volume]["path"] == hypervisor.volume[name, volume].conf()["target"]["path"]
