"""Connections: where the state of a hypervisor is gone with one, everything acts on the one that there is."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvm
import libvirtd as server
import unix
from kvm import Hypervisor, InvalidArgumentError, NotSupportedError
from kvm.virsh.connection import named
from libvirtd import Libvirtd

here_only = pytest.mark.skipif(bool(os.environ.get("VIRSH")), reason="a virsh behind another root has its own files")

GUEST: dict[str, Any] = {"@type": "test", "name": "guest", "memory": 8192, "os": {"type": "hvm"}}


@pytest.mark.parametrize(
    "uri",
    [
        "test:///default", "test:/default", "test:///some/file.xml", "test:///default?x=y", "test+unix:///default",
        "test+ssh://host/default", "test://host/default", "vmwareplayer:///session", "qemu:///embed?root=/x",
        "qemu:/embed?root=/x", "secret:///embed?root=/x",
    ],
)  # fmt: skip
def test_state_that_is_gone_with_its_connection_is_known(uri: str) -> None:
    connection = named(uri)
    assert connection
    assert connection.keeps_state
    assert connection.is_exclusive == ("/embed" in uri)


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system", "qemu:///session", "qemu+ssh://test/system", "qemu+unix:///system?socket=/embed", "ch:///system",
        "bhyve:///system", "xen:///", "qemu:///embedded", "esx://test.example/?x=test:", "remote+test:///system",
        "qemu+ssh://host/embed",
    ],
)  # fmt: skip
def test_state_that_outlives_its_connection_is_known(uri: str) -> None:
    connection = named(uri)
    assert connection
    assert not connection.keeps_state
    assert not connection.is_exclusive


@pytest.mark.parametrize("uri", [None, "mine", "xen"])
def test_default_and_alias_name_no_connection(uri: str | None) -> None:
    assert named(uri) is None


def act_on(hypervisor: Hypervisor) -> None:
    """Act in each way in which a command can go to virsh, and look at what has become of it."""
    hypervisor.domain.define(GUEST)
    hypervisor.domain.edit("guest", lambda conf: conf.update(memory=16384))
    hypervisor.domain.start("guest")
    hypervisor.domain.desc("guest", new_desc="one\n\ttwo")
    hypervisor.network.define({"name": "net", "ip": {"@address": "192.0.2.1", "@netmask": "255.255.255.0"}})
    hypervisor.snapshot.create("guest", {"name": "first", "description": "a\nb"})
    hypervisor.pool.define_as("pool", "dir", target="/nowhere")
    assert hypervisor.list_domains(all=True)["guest"]["state"] == "running"
    assert hypervisor.domain.info("guest")["max_memory"] == 16384 * 1024
    assert hypervisor.domain.desc("guest") == "one\n\ttwo"
    assert list(hypervisor.list_networks(all=True)) == ["default", "net"]
    assert list(hypervisor.list_snapshots("guest")) == ["first"]
    assert "pool" in hypervisor.list_pools(all=True)


def test_test_driver_keeps_what_was_done(test_driver: Hypervisor) -> None:
    act_on(test_driver)


@pytest.mark.parametrize("variable", ["LIBVIRT_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI"])
def test_default_test_driver_keeps_what_was_done(host: unix.Host, variable: str) -> None:
    with host.set_controls(envs={variable: "test:///default"}), Hypervisor(host) as hypervisor:
        act_on(hypervisor)
        assert hypervisor.generic.uri() == "test:///default"


@pytest.fixture(scope="module")
def configured() -> Iterator[unix.Host]:
    """This machine, as a user who has an alias and a default in libvirt.conf."""
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        directory = Path(home, "libvirt")
        directory.mkdir()
        (directory / "libvirt.conf").write_text(
            'uri_default = "test:///default"\nuri_aliases = ["mine=test:///default"]\n'
        )
        for path in (home, directory, directory / "libvirt.conf"):
            if user:
                shutil.chown(path, user)
        envs = {"XDG_CONFIG_HOME": home, "XDG_RUNTIME_DIR": home, "HOME": home}
        yield unix.Local(su=user, timeout=60, envs=envs)


@here_only
@pytest.mark.parametrize("uri", [None, "mine"], ids=["uri_default", "alias"])
def test_test_driver_of_libvirt_conf_keeps_what_was_done(configured: unix.Host, uri: str | None) -> None:
    with Hypervisor(configured, uri) as hypervisor:
        act_on(hypervisor)


def test_controls_choose_the_connection_of_their_block(libvirtd: Libvirtd) -> None:
    with Hypervisor(unix.Local(timeout=60)) as hypervisor:
        for name in ("first", "second"):
            with hypervisor.set_controls(envs={"LIBVIRT_DEFAULT_URI": libvirtd.uri}):
                hypervisor.domain.define(GUEST | {"@type": "qemu", "name": "real"})
                assert "test" not in hypervisor.list_domains(all=True)
                hypervisor.domain.undefine("real")
            with hypervisor.set_controls(envs={"LIBVIRT_DEFAULT_URI": "test:///default"}):
                hypervisor.domain.define(GUEST | {"name": name})
        with hypervisor.set_controls(envs={"LIBVIRT_DEFAULT_URI": "test:///default"}):
            assert set(hypervisor.list_domains(all=True)) == {"first", "second", "test"}


def test_threads_that_begin_at_once_act_on_one_hypervisor() -> None:
    with Hypervisor(unix.Local(timeout=60, envs={"LIBVIRT_DEFAULT_URI": "test:///default"})) as hypervisor:
        names = [f"guest{number}" for number in range(6)]
        begin = threading.Barrier(len(names))

        def define(name: str) -> None:
            begin.wait()
            hypervisor.domain.define(GUEST | {"name": name})

        threads = [threading.Thread(target=define, args=[name]) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(hypervisor.list_domains(all=True)) == {"test", *names}


def test_forked_child_and_copy_have_hypervisors_of_their_own() -> None:
    with Hypervisor(unix.Local(timeout=60, envs={"LIBVIRT_DEFAULT_URI": "test:///default"})) as hypervisor:
        act_on(hypervisor)
        with pickle.loads(pickle.dumps(hypervisor)) as copy:
            act_on(copy)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                act_on(hypervisor)
                hypervisor.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        hypervisor.domain.undefine("guest", snapshots_metadata=True)


@pytest.mark.parametrize("path", ["default", "file"])
def test_test_driver_of_a_daemon_keeps_what_was_done(libvirtd: Libvirtd, path: str, tmp_path: Path) -> None:
    """Its state is in the daemon, but gone with the connection all the same."""
    if path == "file":
        file = tmp_path / "node.xml"
        file.write_text("<node><network><name>default</name></network></node>")
        for each in (tmp_path, *tmp_path.parents):
            if each.owner() == file.owner():
                each.chmod(each.stat().st_mode | 0o711)
    socket = libvirtd.uri.partition("?")[2]
    uri = f"test+unix:///default?{socket}" if path == "default" else f"test+unix://{file}?{socket}"
    with Hypervisor(unix.Local(timeout=60), uri, idle=0.1) as hypervisor:
        act_on(hypervisor)


TEXTS = {
    "newline": "one\n",
    "tab": "a\tb",
    "control characters": "\t\n\r\x7f\t'\"\\ ;#!$",
    "long": "é" * 70_000,
    "long, with newlines": "line\n" * 20_000,
}


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_reaches_the_test_driver(test_driver: Hypervisor, text: str) -> None:
    test_driver.domain.desc("test", new_desc=TEXTS[text])
    assert test_driver.domain.conf("test")["description"] == TEXTS[text]
    plain = TEXTS[text].replace("\r", "\n")  # virsh puts it into XML as it is, where a carriage return is a newline
    test_driver.snapshot.create_as("test", "first", description=plain)
    assert test_driver.snapshot.conf("test", "first")["description"] == plain
    assert test_driver.virsh("desc", "test", TEXTS[text] + "!")
    assert test_driver.domain.conf("test")["description"] == TEXTS[text] + "!"


def test_invalid_text_is_refused_before_anything_is_changed(test_driver: Hypervisor) -> None:
    before = test_driver.domain.conf("test")
    calls: list[Callable[[], object]] = [
        lambda: test_driver.domain.desc("test", new_desc="a\udcffb"),
        lambda: test_driver.snapshot.create_as("test", "first", description="\udc80"),
        lambda: test_driver.virsh("desc", "test", "a\udcffb"),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match=r"test:///default is inside one virsh.*valid UTF-8"):
            call()
    assert test_driver.domain.conf("test") == before
    assert test_driver.list_snapshots("test") == {}


@pytest.mark.parametrize(
    "words", [["edit", "test"], ["desc", "test", "--edit"], ["net-edit", "default"], ["vol-upload", "a", "b", "c"]]
)
def test_action_that_needs_another_virsh_is_refused(test_driver: Hypervisor, words: list[str]) -> None:
    with (
        test_driver.set_controls(envs={"EDITOR": "sed -i s/test/toast/"}),
        pytest.raises(NotSupportedError, match="its effect would be lost"),
    ):
        test_driver.virsh(*words)


@pytest.fixture
def embedded() -> Iterator[Hypervisor]:
    """QEMU's driver in virsh, with a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="embed-", dir="/tmp") as root:
        Path(root, "etc").mkdir()
        Path(root, "etc", "qemu.conf").write_text(server.QEMU_CONF)
        with Hypervisor(unix.Local(timeout=120), f"qemu:///embed?root={root}") as hypervisor:
            yield hypervisor
            for name in hypervisor.list_domains(all=True):
                hypervisor.domain.undefine(name)


@here_only
def test_embedded_driver_acts(embedded: Hypervisor, tmp_path: Path) -> None:
    embedded.domain.define(GUEST | {"@type": "qemu", "memory": 32768})
    embedded.domain.start("guest")
    try:
        embedded.domain.desc("guest", new_desc="one\ntwo")
        embedded.domain.suspend("guest")
        assert embedded.domain.state("guest") == "paused"
        assert embedded.domain.desc("guest") == "one\ntwo"
        embedded.domain.save("guest", str(tmp_path / "saved"))
        assert embedded.domain.state("guest") == "shut off"
        embedded.domain.restore(str(tmp_path / "saved"))
        for call in (lambda: embedded.domain.event(timeout=9), lambda: embedded.domain.open_console("guest")):
            with pytest.raises(
                NotSupportedError, match=r"needs a virsh process of its own, which cannot connect to qemu:///embed"
            ):
                call()
    finally:
        embedded.domain.destroy("guest")


def test_default_uri_that_cannot_be_asked_for_fails_all(tmp_path: Path) -> None:
    host = unix.Local(timeout=30, envs={"LIBVIRT_DEFAULT_URI": f"qemu:///system?socket={tmp_path}/none"})
    with Hypervisor(host) as hypervisor, hypervisor.pipeline() as pipe:
        pipe.generic.uri()
        pipe.domain.define(GUEST)
        pipe.domain.start("guest")
        values = pipe.execute(raise_on_error=False)
    assert [type(value) for value in values] == [kvm.CannotConnectError] * 3
    assert all(re.search("failed to connect to the hypervisor", str(value)) for value in values)
