"""All of virsh: each command has a method, each option a keyword, and each reader knows what it may be told."""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

import pytest

import kvm
import unix
from kvm.groups import options_generated
from kvm.groups.domain.affected import Affected
from kvm.groups.group import Group
from kvm.groups.groups import Groups, is_group
from test_project import ROOT, run

NOT_YET = {
    "await",
    "console",
    "event",
    "lxc-enter-namespace",
    "net-event",
    "nodedev-event",
    "pool-event",
    "qemu-monitor-event",
    "secret-event",
}
"""Commands that are being written."""

OTHERWISE = {
    ("desc", "edit"): "opens an editor",
    ("metadata", "edit"): "opens an editor",
    ("net-desc", "edit"): "opens an editor",
    ("net-metadata", "edit"): "opens an editor",
    ("node-memory-tune", "shm-pages-to-scan"): "*args",
    ("node-memory-tune", "shm-sleep-millisecs"): "*args",
    ("node-memory-tune", "shm-merge-across-nodes"): "*args",
    ("secret-set-value", "base64"): "value",
    ("secret-set-value", "file"): "value",
    ("secret-set-value", "interactive"): "value",
    ("secret-set-value", "plain"): "value",
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
    assert set(offered) - set(methods) - NOT_YET == set()


def test_what_is_here_by_now_is_not_said_to_be_missing(methods: dict[str, Method]) -> None:
    assert NOT_YET & set(methods) == set()


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
    assert {name for name, function in public_methods() if not set(named_commands(function)) & set(known)} == set()
    named = {command for _, function in public_methods() for command in named_commands(function)}
    assert named - set(known) == set()
