"""Secrets: what they are for, told exactly, and their values, seen by nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvm
import unix
from kvm import Hypervisor, InvalidArgumentError, InvalidStateError, NotFoundError, NotSupportedError
from libvirtd import Libvirtd


@pytest.fixture
def hypervisor(hypervisor: Hypervisor) -> Iterator[Hypervisor]:
    """The real hypervisor, left without secrets."""
    yield hypervisor
    for uuid in hypervisor.list_secrets():
        hypervisor.secret.undefine(uuid)


@pytest.fixture
def local(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    """The same, where the way to the host makes no difference."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        yield hypervisor
        for uuid in hypervisor.list_secrets():
            hypervisor.secret.undefine(uuid)


def defined(hypervisor: Hypervisor, usage: dict[str, str] | None = None, conf: dict[str, object] | None = None) -> str:
    """The UUID of a new secret."""
    uuid = kvm.gen_uuid()
    assert hypervisor.secret.define({**(conf or {}), "uuid": uuid, "usage": usage}).status
    return uuid


def test_the_life_of_a_secret(hypervisor: Hypervisor) -> None:
    usage = {"@type": "ceph", "name": "client.admin secret"}
    uuid = defined(hypervisor, usage, {"description": "for <ceph> & more"})
    assert hypervisor.secret.list() == hypervisor.list_secrets()
    assert hypervisor.list_secrets() == {uuid: {"usage_type": "ceph", "usage_id": "client.admin secret"}}
    conf = hypervisor.secret.conf(uuid)
    assert (conf["usage"], conf["description"], conf["@private"]) == (usage, "for <ceph> & more", "no")
    assert hypervisor.secret.conf(uuid, xpath="/secret/usage/name/text()") == ["client.admin secret"]

    with pytest.raises(NotFoundError, match="does not have a value"):
        hypervisor.secret.get_value(uuid)
    assert hypervisor.secret.set_value(uuid, "pässword").status
    assert hypervisor.secret.get_value(uuid) == "pässword".encode()
    assert hypervisor.secret.get_value(uuid, plain=True) == "pässword".encode()
    hypervisor.secret.define({**conf, "description": "changed"}, validate=True)
    assert hypervisor.secret.conf(uuid)["description"] == "changed"
    assert hypervisor.secret.get_value(uuid) == "pässword".encode()

    hypervisor.secret.undefine(uuid)
    assert hypervisor.list_secrets() == {}
    for gone in (uuid, "no-uuid"):
        with pytest.raises(NotFoundError, match="failed to get secret"):
            hypervisor.secret.get_value(gone)


@pytest.mark.parametrize(
    ("usage_type", "element", "usage_id"),
    [
        ("volume", "volume", "/var/lib/images/two  blanks.img"),
        ("ceph", "name", "  leading and trailing  "),
        ("iscsi", "target", "iqn.2013-07.com.example:漢字"),
        ("tls", "name", "\\x41 Unused"),
        ("ceph", "name", "unassigned \U0001fbff, control \x85"),
        ("volume", "volume", "/a\nb   UUID   Usage"),
        ("vtpm", "name", "é" * 300),
    ],
)
def test_what_a_secret_is_for_is_told_exactly(local: Hypervisor, usage_type: str, element: str, usage_id: str) -> None:
    other = defined(local)
    uuid = defined(local, {"@type": usage_type, element: usage_id})
    assert local.list_secrets() == {
        other: {"usage_type": None, "usage_id": None},
        uuid: {"usage_type": usage_type, "usage_id": usage_id},
    }


def test_secrets_are_listed_by_what_they_are(local: Hypervisor) -> None:
    kinds = {
        (private, ephemeral): defined(local, conf={"@private": private, "@ephemeral": ephemeral})
        for private in (True, False)
        for ephemeral in (True, False)
    }
    assert set(local.list_secrets()) == set(kinds.values())
    assert set(local.list_secrets(private=True, no_ephemeral=True)) == {kinds[True, False]}
    assert set(local.list_secrets(no_private=True, ephemeral=True)) == {kinds[False, True]}


def test_a_private_value_can_be_set_but_not_read(local: Hypervisor) -> None:
    uuid = defined(local, conf={"@private": True})
    local.secret.set_value(uuid, b"x")
    with pytest.raises(InvalidStateError, match="secret is private"):
        local.secret.get_value(uuid)


@given(st.binary(min_size=1, max_size=1024))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_come_back_as_they_were(local: Hypervisor, value: bytes) -> None:
    uuid = next(iter(local.list_secrets()), None) or defined(local)
    local.secret.set_value(uuid, value)
    assert local.secret.get_value(uuid) == value


@pytest.mark.parametrize("value", [b"\r\n", b"\0", b"YWJj", bytes(range(256)) * 4, "'$(id)\" #;\t"])
def test_no_value_is_taken_for_something_else(hypervisor: Hypervisor, value: bytes | str) -> None:
    uuid = defined(hypervisor)
    hypervisor.secret.set_value(uuid, value)
    assert hypervisor.secret.get_value(uuid) == (value.encode() if isinstance(value, str) else value)


def test_a_value_of_no_length_or_too_much_is_refused(local: Hypervisor) -> None:
    uuid = defined(local)
    local.secret.set_value(uuid, "before")
    for wrong in (b"", b"x" * 1025):
        with pytest.raises(InvalidArgumentError):
            local.secret.set_value(uuid, wrong)
    assert local.secret.get_value(uuid) == b"before"


def test_a_value_is_in_no_argument_log_or_error(
    libvirtd: Libvirtd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = tmp_path / "seen"
    wrapper = tmp_path / "bin" / "virsh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {seen}\nexec {which("virsh")} "$@"\n')
    wrapper.chmod(0o755)
    host = unix.Local(envs={"PATH": f"{wrapper.parent}:/usr/sbin:/usr/bin:/sbin:/bin"})
    with Hypervisor(host, libvirtd.uri) as hypervisor:
        uuid = defined(hypervisor)
        hypervisor.secret.set_value(uuid, "swordfish")
        assert hypervisor.secret.get_value(uuid) == b"swordfish"
        hypervisor.secret.undefine(uuid)
        with pytest.raises(NotFoundError) as raised:
            hypervisor.secret.set_value(uuid, "swordfish")
    error = raised.value
    assert error.command == ["secret-set-value", f"--secret={uuid}", "--file=/dev/stdin", "--plain"]
    assert "secret-set-value" in caplog.text
    assert "--file=/dev/fd/3" in seen.read_text()
    for told in (str(error), repr(error), error.stderr, caplog.text, seen.read_text()):
        assert "swordfish" not in told
        assert "c3dvcmRmaXNo" not in told


def test_a_value_of_a_wrong_type_is_refused_without_being_told(local: Hypervisor) -> None:
    for wrong in (4711, ["4711"], Path("4711"), None):
        with pytest.raises(TypeError, match="bytes or text, not ") as raised:
            local.secret.set_value(kvm.gen_uuid(), wrong)  # type: ignore[arg-type]
        assert "4711" not in repr(raised.value)
    with pytest.raises(InvalidArgumentError, match="must be valid Unicode text, or bytes") as refused:
        local.secret.set_value(kvm.gen_uuid(), "4711\udcff")
    assert refused.value.__cause__ is None
    assert "4711" not in repr(refused.value)


def test_two_secrets_cannot_be_for_the_same(local: Hypervisor) -> None:
    usage = {"@type": "ceph", "name": "one"}
    uuid = defined(local, usage)
    with pytest.raises(kvm.AlreadyExistsError, match="already defined for use with"):
        defined(local, usage)
    with pytest.raises(kvm.AlreadyExistsError, match="already defined for use with"):
        local.secret.define({"uuid": uuid, "usage": {**usage, "name": "two"}})


def test_where_the_driver_has_no_secrets_that_is_said(test_driver: Hypervisor) -> None:
    with pytest.raises(NotSupportedError):
        test_driver.list_secrets()
