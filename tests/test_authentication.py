"""Credentials: libvirt takes them from auth.conf, and a question for them is an error, never answered by a command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvm
import unix
from kvm import AuthenticationRequiredError, ConnectionLostError, DeniedError, Hypervisor
from libvirtd import Libvirtd
from wire import Wire

pytestmark = pytest.mark.skipif(bool(os.environ.get("VIRSH")), reason="behind another root SASL may not be installed")

NAME, PASSWORD = "fred", "correct horse"

GUEST: dict[str, Any] = {"@type": "qemu", "name": "guest", "memory": 32768, "os": {"type": "hvm"}}

SECRET = "battery staple"

CALLS: dict[str, Callable[[Hypervisor], object]] = {
    "read": lambda hv: hv.generic.nodeinfo(),
    "secret": lambda hv: hv.domain.set_user_password("guest", "root", SECRET),
    "XML": lambda hv: hv.network.define(f"<network><name>{SECRET}</name></network>"),
    "long": lambda hv: hv.domain.start("guest"),
    "long, with XML": lambda hv: hv.domain.create(GUEST | {"name": SECRET}),
    "job": lambda hv: hv.domain.save("guest", "/nowhere/file"),
    "events": lambda hv: hv.network.event(timeout=60),
    "console": lambda hv: hv.domain.open_console("guest"),
    "upload": lambda hv: hv.volume.upload("disk", io.BytesIO(SECRET.encode()), pool="pool"),
    "upload of a file": lambda hv: hv.volume.upload("disk", __file__, pool="pool"),
    "download": lambda hv: hv.volume.download("disk", io.BytesIO(), pool="pool"),
}
"""One call for each way in which virsh is run."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Libvirtd]:
    """A libvirtd that wants its clients to authenticate."""
    daemon = Libvirtd(users={NAME: PASSWORD})
    yield daemon
    daemon.stop()


@pytest.fixture
def wire(daemon: Libvirtd, tmp_path: Path) -> Iterator[Wire]:
    """What is sent to this libvirtd, by who connects to `uri_of` it."""
    wire = Wire(tmp_path / "wire", socket_of(daemon))
    yield wire
    wire.close()


def socket_of(daemon: Libvirtd) -> Path:
    return Path(daemon.uri.partition("socket=")[2])


def uri_of(wire: Wire) -> str:
    return f"qemu:///{'system' if os.geteuid() == 0 else 'session'}?socket={wire.path}"


def environment(daemon: Libvirtd, *credentials: str) -> dict[str, str]:
    return {"LIBVIRT_AUTH_FILE": daemon.credentials(*credentials)}


@pytest.mark.parametrize(
    ("credentials", "question"), [((), "authentication name"), ((NAME,), "password")], ids=["name", "password"]
)
@pytest.mark.parametrize("call", CALLS)
def test_question_raises_at_once_and_gets_no_data(
    daemon: Libvirtd, wire: Wire, host: unix.Host, call: str, credentials: tuple[str, ...], question: str
) -> None:
    with (
        host.set_controls(envs=environment(daemon, *credentials), timeout=60),
        Hypervisor(host, uri_of(wire)) as hypervisor,
        pytest.raises(AuthenticationRequiredError, match=rf"libvirt asks '.*{question}'.*auth\.conf") as raised,
    ):
        CALLS[call](hypervisor)
    assert isinstance(raised.value, DeniedError)
    assert not [word for word in (SECRET, "net-define", "set-user", "def test_") if wire.has_sent(word)]


@pytest.mark.parametrize("call", ["read", "long"])
def test_question_of_default_connection_raises(daemon: Libvirtd, wire: Wire, host: unix.Host, call: str) -> None:
    variables = environment(daemon) | {"LIBVIRT_DEFAULT_URI": uri_of(wire)}
    with (
        host.set_controls(envs=variables, timeout=60),
        Hypervisor(host) as hypervisor,
        pytest.raises(AuthenticationRequiredError, match="authentication name"),
    ):
        CALLS[call](hypervisor)


@pytest.mark.parametrize("call", ["read", "long"])
def test_driver_of_another_vendor_asks_in_vain(call: str) -> None:
    """ESX's asks before there is any connection; nothing listens here."""
    with (
        Hypervisor(unix.Local(timeout=60), "esx://127.0.0.1:1/") as hypervisor,
        pytest.raises(AuthenticationRequiredError, match=r"Enter username for 127\.0\.0\.1"),
    ):
        CALLS[call](hypervisor)


def test_credentials_in_auth_conf_are_used(daemon: Libvirtd, host: unix.Host) -> None:
    with (
        host.set_controls(envs=environment(daemon, NAME, PASSWORD)),
        Hypervisor(host, daemon.uri) as hypervisor,
    ):
        assert hypervisor.generic.uri() == daemon.uri
        hypervisor.domain.define(GUEST)
        assert hypervisor.domain.start("guest").status
        hypervisor.domain.destroy("guest")
        hypervisor.domain.undefine("guest")
        assert list(hypervisor.network.event(list=True))
        with pytest.raises(kvm.NotFoundError):
            hypervisor.volume.upload("disk", io.BytesIO(b"data"), pool="pool")


def test_wrong_password_is_denied_without_a_question(daemon: Libvirtd) -> None:
    host = unix.Local(envs=environment(daemon, NAME, "wrong"))
    with (
        Hypervisor(host, daemon.uri) as hypervisor,
        pytest.raises(DeniedError, match="authentication failed") as raised,
    ):
        hypervisor.generic.uri()
    assert not isinstance(raised.value, AuthenticationRequiredError)


def test_check_off_returns_the_question_as_a_result(daemon: Libvirtd) -> None:
    with Hypervisor(unix.Local(envs=environment(daemon)), daemon.uri, check=False) as hypervisor:
        for result in (hypervisor.domain.destroy("guest"), hypervisor.domain.start("guest")):
            assert not result.status
            assert "authentication required: libvirt asks" in result.stderr


@pytest.mark.parametrize("command", ["nodeinfo", "start guest", "console guest"])
def test_kvmctl_names_auth_conf_and_leaves_its_input(daemon: Libvirtd, wire: Wire, command: str) -> None:
    words = [sys.executable, "-m", "kvm.cli", "-c", uri_of(wire), *command.split()]
    variables = os.environ | environment(daemon) | {"PYTHONPATH": str(Path(kvm.__file__).parents[1])}
    done = subprocess.run(words, input=SECRET, capture_output=True, text=True, env=variables, check=False, timeout=60)
    assert done.returncode == 1
    assert "auth.conf" in done.stderr
    assert not wire.has_sent(SECRET)


def test_session_that_lost_its_connection_gets_no_data(daemon: Libvirtd, libvirtd: Libvirtd, wire: Wire) -> None:
    wire.move(socket_of(libvirtd))
    with Hypervisor(unix.Local(timeout=30, envs=environment(daemon)), uri_of(wire)) as hypervisor:
        hypervisor.generic.uri()
        (pool,) = hypervisor._virsh._live._pools.values()
        ((_, session),) = pool.sessions._unused
        assert session.is_waiting()
        wire.move(socket_of(daemon))
        deadline = time.monotonic() + 20
        while session.is_waiting():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not session.has_ended
        for call in ("secret", "read"):
            with pytest.raises(AuthenticationRequiredError):
                CALLS[call](hypervisor)
    assert not wire.has_sent(SECRET)


GET_CPU_STATS = b"\0\0\0\xe3"
"""The number of that call in libvirt's protocol."""


def test_secret_in_a_pipeline_answers_no_question(daemon: Libvirtd, libvirtd: Libvirtd, wire: Wire) -> None:
    """virsh loses its connection during the first command, and has to connect again for the second."""
    wire.move(socket_of(libvirtd))
    with Hypervisor(unix.Local(timeout=30, envs=environment(daemon)), uri_of(wire)) as hypervisor:
        hypervisor.generic.uri()
        wire.sent.clear()

        def move() -> None:
            while GET_CPU_STATS not in wire.sent:
                time.sleep(0.01)
            wire.move(socket_of(daemon))

        moving = threading.Thread(target=move)
        moving.start()
        with hypervisor.pipeline() as pipe:
            pipe.generic.nodecpustats(percent=True)  # for a second, between two calls of libvirt
            pipe.domain.destroy("guest")
            pipe.domain.set_user_password("guest", "root", SECRET)
            pipe.generic.nodeinfo()
            read, *acted, last = pipe.execute(raise_on_error=False)
        moving.join()
    assert isinstance(read, AuthenticationRequiredError)
    assert isinstance(last, AuthenticationRequiredError)
    for error, name in zip(acted, ("destroy", "set-user-password"), strict=True):
        assert isinstance(error, ConnectionLostError)
        assert f"the outcome of {name} is unknown" in str(error)
        assert error.outcome_unknown
    assert not wire.has_sent(SECRET)
