"""What is asked about many guests or volumes, of which one goes, or is paused, in the meantime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

import unix
from kvm import Hypervisor, InvalidStateError, KvmError, NotFoundError, table
from kvm.groups import volume
from kvm.groups.domain import monitor
from kvm.virsh.command import Command
from kvm.virsh.plan import ATTEMPTS, Plan, listing, reading_all
from libvirtd import Libvirtd
from unix.result import Result
from waiting import wait_until

GONE = Result(1, "\n", "error: Failed to get domain title\nerror: Domain not found: no domain with matching uuid 'x'\n")
STOPPED = Result(1, "\n", "error: Requested operation is not valid: domain is not running\n")
UUIDS = ["c7a5fdbd-cdaf-9455-926a-d65c16db1809", "6695eb01-f6a4-8304-79aa-97f2502e193f"]


def value(plan: Plan[Any], *answers: Sequence[Result]) -> Any:
    """The value of a plan that is given these answers; the last one again and again."""
    commands = next(plan)
    for each in (*answers, *[answers[-1]] * ATTEMPTS):
        assert len(commands) == len(each)
        try:
            commands = plan.send(tuple(each))
        except StopIteration as end:
            return end.value
    pytest.fail("the plan asks for more")


def names(*which: int) -> Result:
    return Result(0, "".join(f"{UUIDS[each]} {each + 1} guest{each}\n" for each in which) + "\n")


def rows(*which: int, title: str = "one") -> Result:
    lines = [f" {each + 1}    guest{each}   running   {title}\n" for each in which]
    return Result(0, " Id   Name     State     Title\n----------\n" + "".join(lines) + "\n")


@pytest.mark.parametrize("gone", [GONE, STOPPED])
def test_list_asks_again_when_a_guest_goes(gone: Result) -> None:
    plan = monitor._listing({"title": True})
    listed = value(plan, (gone, names(0, 1)), (rows(0), names(0)))
    assert listed == {"guest0": {"id": 1, "state": "running", "title": "one"}}


def test_list_leaves_out_a_guest_whose_title_is_gone() -> None:
    plan = monitor._listing({"title": True})
    listed = value(plan, (rows(0, 1, title=table.NOT_SHOWN), names(0, 1)), (GONE, Result(0, "two\n\n")))
    assert listed == {"guest1": {"id": 2, "state": "running", "title": "two"}}


def test_list_raises_when_it_always_fails() -> None:
    with pytest.raises(NotFoundError):
        value(monitor._listing({"managed_save": True}), (GONE, names(0)))


@pytest.mark.parametrize("gone", [GONE, STOPPED, Result(1, "\n", "error: Domain nicht gefunden\n")])
def test_stats_ask_again_when_a_guest_goes(gone: Result) -> None:
    plan = reading_all(Command("domstats", {}), str.split)
    assert value(plan, (gone,), (gone,), (Result(0, "Domain: 'x'"),)) == ["Domain:", "'x'"]
    with pytest.raises(KvmError):
        value(reading_all(Command("domstats", {}), str.split), (gone,))


def test_table_is_asked_for_again_when_an_object_goes() -> None:
    plan = listing(Command("net-list", {}), Command("net-list", {"name": True}), dict)
    empty = Result(0, " Name   State   Autostart   Persistent\n-----------\n\n")
    assert value(plan, (GONE, Result(0, "net\n\n")), (empty, Result(0, "\n"))) == {}


def volumes(*names: str) -> Result:
    return Result(0, " Name   Path\n-----\n" + "".join(f" {name}   /pool/{name}\n" for name in names) + "\n")


def info(name: str) -> Result:
    return Result(
        0, f"Name:           {name}\nType:           file\nCapacity:       1 bytes\nAllocation:     1 bytes\n\n"
    )


NO_VOLUME = Result(1, "\n", "error: failed to get vol 'b'\nerror: Storage volume not found: no storage vol with 'b'\n")


def test_volumes_are_listed_without_those_that_go() -> None:
    plan = volume._listing("pool", {})
    listed = value(plan, (volumes("a", "b"),), (info("a"), NO_VOLUME), (volumes("a", "c"),))
    assert listed == {"a": {"path": "/pool/a", "type": "file"}}


# -- on a real hypervisor

NAME = "meanwhile"


@pytest.fixture
def guest(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    """A hypervisor with a guest that has no operating system."""
    if os.geteuid() != 0:
        pytest.skip("a guest is started")
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        os_type = {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}}
        hypervisor.domain.define({"@type": "qemu", "name": NAME, "memory": 16384, "os": os_type})
        yield hypervisor
        with suppress(InvalidStateError):
            hypervisor.domain.destroy(NAME)
        hypervisor.domain.undefine(NAME)


def test_stop_with_force_destroys_a_paused_guest(guest: Hypervisor) -> None:
    guest.domain.start(NAME, paused=True)
    with pytest.raises(InvalidStateError):
        guest.domain.stop(NAME)
    assert guest.domain.state(NAME) == "paused"
    assert "was destroyed: it could not be asked to shut down (" in guest.domain.stop(NAME, force=True).stdout
    assert guest.domain.state(NAME) == "shut off"
    with pytest.raises(InvalidStateError):
        guest.domain.stop(NAME, force=True)


def test_stop_with_force_destroys_a_guest_without_agent(guest: Hypervisor) -> None:
    guest.domain.start(NAME)
    assert "was destroyed: it could not be asked" in guest.domain.stop(NAME, force=True, mode="agent").stdout


def test_start_ends_waiting_when_the_guest_is_paused(guest: Hypervisor) -> None:
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(guest.domain.start, NAME, wait="address", timeout=60)
        wait_until(lambda: guest.domain.state(NAME) == "running")
        guest.domain.suspend(NAME)
        error = started.exception(30)
    assert isinstance(error, InvalidStateError)
    assert f"{NAME} was started, and is paused" in str(error)
