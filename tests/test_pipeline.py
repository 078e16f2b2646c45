"""Pipelines: the calls of all groups, recorded, carried out at once and in order."""

from __future__ import annotations

import pytest

import unix
from conftest import Estate
from kvm import CommandTimeoutError, Hypervisor, InvalidStateError, NotFoundError
from libvirtd import Libvirtd


@pytest.fixture
def live(test_driver: Hypervisor) -> Hypervisor:
    return test_driver


GUEST = {"@type": "test", "name": "guest", "memory": 8192, "os": {"type": "hvm"}}


def test_values_come_in_the_order_of_the_calls(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        assert pipe.generic.nodeinfo() is None
        pipe.domain.state("test", reason=True)
        pipe.list_domains(all=True)
        pipe.hypervisor.uri()
        assert len(pipe) == 4
        values = pipe.execute()
    assert values == [
        live.generic.nodeinfo(),
        {"state": "running", "reason": "unknown"},
        {"test": {"id": 1, "state": "running"}},
        "test:///default",
    ]


def test_actions_are_carried_out_in_order(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        pipe.domain.define(GUEST)
        pipe.domain.start("guest")
        pipe.domain.state("guest")
        pipe.domain.suspend("guest")
        pipe.domain.state("guest")
        pipe.domain.destroy("guest")
        pipe.domain.undefine("guest")
        pipe.domain.list(all=True)
        values = pipe.execute()
    assert [values[2], values[4], list(values[7])] == ["running", "paused", ["test"]]
    assert all(values[place].status for place in (0, 1, 3, 5, 6))


def test_a_call_does_not_overtake_one_that_has_to_look_up_a_name(estate: Estate) -> None:
    with estate("1", "other") as hypervisor, hypervisor.pipeline() as pipe:
        pipe.domain.suspend("1")
        pipe.domain.state("other")
        pipe.domain.destroy("1")
        pipe.domain.state("1")
        values = pipe.execute()
    assert [values[1], values[3]] == ["running", "shut off"]


def test_the_first_error_is_raised_after_all_was_carried_out(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        pipe.domain.start("test")
        pipe.domain.destroy("nobody")
        pipe.domain.destroy("test")
        with pytest.raises(InvalidStateError, match="already active"):
            pipe.execute()
    assert live.domain.state("test") == "shut off"


def test_without_raising_errors_are_in_the_places_of_their_values(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        pipe.domain.info("nobody")
        pipe.domain.state("test")
        pipe.domain.state("7")
        values = pipe.execute(raise_on_error=False)
    assert [type(value) for value in values] == [NotFoundError, str, NotFoundError]


def test_without_check_a_failed_action_is_its_result() -> None:
    with Hypervisor(unix.Local(), "test:///default", check=False) as hypervisor, hypervisor.pipeline() as pipe:
        pipe.domain.start("test")
        (result,) = pipe.execute()
    assert result.status is False


def test_an_empty_pipeline_gives_nothing_and_one_can_be_used_again(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        assert pipe.execute() == []
        pipe.generic.uri()
        assert pipe.execute() == ["test:///default"]
        assert pipe.execute() == []
        pipe.generic.maxvcpus()
        assert pipe.execute() == [32]


def test_a_block_left_without_execute_does_nothing(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        pipe.domain.destroy("test")
    assert pipe.execute() == []
    assert live.domain.state("test") == "running"


def test_wrong_arguments_raise_when_they_are_recorded(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        with pytest.raises(TypeError, match="no option 'frob'"):
            pipe.domain.start("test", frob=True)  # type: ignore[call-arg]
        assert len(pipe) == 0


def test_what_the_prompt_cannot_carry_keeps_its_place(live: Hypervisor) -> None:
    with live.pipeline() as pipe:
        pipe.domain.state("test")
        pipe.domain.state("a\tb")
        pipe.domain.state("test")
        values = pipe.execute(raise_on_error=False)
    assert [values[0], type(values[1]), values[2]] == ["running", NotFoundError, "running"]


def test_lookups_behind_one_that_is_not_answered_fail_at_once(
    libvirtd: Libvirtd, caplog: pytest.LogCaptureFixture
) -> None:
    with Hypervisor(unix.Local(timeout=1), libvirtd.uri) as limited, libvirtd.stopped(), limited.pipeline() as pipe:
        caplog.set_level("DEBUG", logger="kvm")
        for number in range(5):
            pipe.domain.state(number)
        pipe.domain.destroy("7")
        values = pipe.execute(raise_on_error=False)
    assert [type(value) for value in values] == [CommandTimeoutError] * 6
    assert not values[5].outcome_unknown
    assert sum(message.startswith("virsh list ") for message in caplog.messages) == 1


def test_commands_behind_one_that_is_not_answered_are_not_begun(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local(timeout=1), libvirtd.uri) as limited, libvirtd.stopped(), limited.pipeline() as pipe:
        pipe.generic.nodeinfo()
        pipe.domain.define({"@type": "qemu", "name": "undone", "memory": 8192, "os": {"type": "hvm"}})
        pipe.generic.nodeinfo()
        first, *behind = pipe.execute(raise_on_error=False)
    assert str(first).endswith("within 1 s")
    assert [str(each).endswith("was not begun") for each in behind] == [True, True]
    with Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        assert "undone" not in hypervisor.domain.list(all=True)
