"""Errors: their classes and messages, from virsh, libvirtd, QEMU, hooks and mounts as they are, in any language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvm
import unix
from kvm import (
    AgentError,
    CannotConnectError,
    ConnectionLostError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    errors,
)
from libvirtd import Libvirtd
from sshd import Sshd


def conf(name: str, *, devices: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A guest without an operating system."""
    return {
        "@type": "qemu",
        "name": name,
        "memory": {"@unit": "MiB", "#text": 32},
        "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
        "devices": devices or {},
        **more,
    }


def disk(path: Path | str, target: str) -> dict[str, Any]:
    return {
        "@type": "file",
        "driver": {"@name": "qemu", "@type": "raw"},
        "source": {"@file": str(path)},
        "target": {"@dev": target},
    }


@pytest.fixture(scope="module")
def qemu(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture
def defined(qemu: Hypervisor) -> Iterator[Callable[[dict[str, Any]], str]]:
    """Defines guests that are gone after the test."""
    names: list[str] = []

    def define(described: dict[str, Any]) -> str:
        qemu.domain.define(described)
        names.append(described["name"])
        return names[-1]

    yield define
    for name in names:
        if qemu.domain.id(name) is not None:
            qemu.domain.destroy(name)
        qemu.domain.undefine(name, managed_save=True)


# -- virsh's own texts


def test_texts_of_virsh_have_their_classes() -> None:
    lines = Path(__file__).with_name("virsh_errors.txt").read_text().splitlines()
    held = [line.split("\t") for line in lines]
    assert len(held) > 500
    for kind, text in held:
        error = errors.from_stderr(["x"], f"error: {text.replace('%', '1')}\n", 1)
        assert (type(error).__name__, text) == (kind, text)


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("error: Failed to start domain 'x'\nerror: internal error: a\nerror: Domain not found: b\n", KvmError),
        ("error: Failed to start domain 'x'\nerror: internal error: a\nDomain not found: b\n", KvmError),
        ("error: Failed to start domain 'x'\nerror: Interner Fehler: a\nerror: access denied\n", KvmError),
        (
            (
                "error: internal error: unable to execute QEMU agent command 'a': it could not be done\n"
                "error: Domain not found: b\n"
            ),
            AgentError,
        ),
        (
            (
                "error: Failed to start domain 'x'\n"
                "error: Failed to connect socket to '/run/libvirt/virtlogd-sock': No such file or directory\n"
            ),
            KvmError,
        ),
        ("error: internal error: a\nerror: Disconnected from qemu:///system due to end of file\n", KvmError),
        ("error: failed to get domain 'x'\nerror: Domain nicht gefunden: x\nerror: access denied\n", NotFoundError),
        (
            (
                "error: Failed to start domain 'x'\nerror: Disconnected from qemu:///system due to end of file\n"
                "error: End of file while reading data: Input/output error\n"
            ),
            ConnectionLostError,
        ),
    ],
)
def test_text_quoted_by_libvirt_chooses_no_class(stderr: str, kind: type[KvmError]) -> None:
    assert type(errors.from_stderr(["start", "x"], stderr, 1)) is kind


def test_lines_of_libvirts_log_are_no_reason() -> None:
    log = "2026-11-28 04:00:00.000+0000: 12: info : libvirt version: 9.0.0"
    stderr = f"{log}\nerror: Failed to start domain 'x'\n{log}\nerror: internal error: a\n  b\n{log}\n"
    error = errors.from_stderr(["start", "--domain=x"], stderr, 1)
    assert str(error) == "virsh start: Failed to start domain 'x': internal error: a\n  b"


# -- reasons on several lines


def test_failed_start_quotes_all_that_qemu_says(qemu: Hypervisor, defined: Callable[[dict[str, Any]], str]) -> None:
    arguments = [{"@value": word} for word in ("-device", "i82557b,help")]
    name = defined(conf("several", **{"qemu:commandline": {"qemu:arg": arguments}}))
    with pytest.raises(KvmError) as raised:
        qemu.domain.start(name)
    first, *others = str(raised.value).splitlines()
    assert first.startswith("virsh start: Failed to start domain 'several': internal error: ")
    assert any("Ethernet 6-byte MAC Address" in line for line in others)
    assert type(raised.value) is KvmError


def test_failed_mount_quotes_all_that_mount_says(qemu: Hypervisor, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    qemu.pool.define_as(
        "mounted", "fs", source_dev=str(tmp_path / "none"), source_format="ext4", target=str(tmp_path / "mounted")
    )
    try:
        with pytest.raises(KvmError) as raised:
            qemu.pool.start("mounted")
    finally:
        qemu.pool.undefine("mounted")
    assert re.search(r"special device \S+/none does not exist.*\n.*dmesg\(1\) may have more", str(raised.value))


def test_hook_s_lines_are_quoted_and_choose_no_class(
    libvirtd: Libvirtd, qemu: Hypervisor, defined: Callable[[dict[str, Any]], str]
) -> None:
    if not libvirtd.is_system:
        pytest.skip("hooks are those of the system's libvirtd")
    hook = libvirtd.home / "etc" / "hooks" / "qemu"
    hook.parent.mkdir()
    script = (
        "#!/bin/sh\n[ $1 != hooked ] || { printf 'no licence\\nerror: Domain not found: ask sales\\n' >&2; exit 1; }\n"
    )
    hook.write_text(script)
    hook.chmod(0o755)
    libvirtd.down()  # a daemon looks for hooks when it starts
    libvirtd.up()
    try:
        name = defined(conf("hooked"))
        with pytest.raises(KvmError, match="Hook script execution failed") as raised:
            qemu.domain.start(name)
    finally:
        hook.unlink()
        hook.parent.rmdir()
    assert type(raised.value) is KvmError
    assert str(raised.value).endswith("no licence: Domain not found: ask sales")


def test_banner_before_a_refusal_by_ssh_is_quoted_with_it(tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_text("Private property\nerror: Domain not found: keep out\n")
    sshd = Sshd(f"Banner {banner}")
    config = tmp_path / "ssh"
    config.write_text(f'#!/bin/sh\nexec ssh -F /dev/null -i /dev/null -o UserKnownHostsFile={sshd.known_hosts} "$@"\n')
    config.chmod(0o755)
    uri = f"qemu+ssh://nobody@127.0.0.1:{sshd.port}/system?command={config}&no_tty=1"
    try:
        with Hypervisor(unix.Local(), uri) as hypervisor, pytest.raises(CannotConnectError) as raised:
            hypervisor.generic.nodeinfo()
    finally:
        sshd.remove()
    assert re.search(r"Private property(?s:.*)Permission denied \(", str(raised.value))


# -- classes and hints


def test_undefine_with_managed_save_is_invalid_state(
    qemu: Hypervisor, defined: Callable[[dict[str, Any]], str]
) -> None:
    name = defined(conf("saved"))
    qemu.domain.start(name)
    qemu.domain.managedsave(name)
    with pytest.raises(InvalidStateError, match="managed save image exists"):
        qemu.domain.undefine(name)


def test_storage_other_than_a_disk_is_not_found(qemu: Hypervisor, defined: Callable[[dict[str, Any]], str]) -> None:
    name = defined(conf("diskless"))
    with pytest.raises(NotFoundError, match="'sdq' was not found"):
        qemu.domain.undefine(name, storage="sdq")
    with pytest.raises(NotFoundError, match="virsh detach-disk diskless sdq: Failed to get disk information"):
        qemu.domain.detach_disk(name, "sdq", config=True)


def test_missing_disk_file_is_not_found_and_named(
    qemu: Hypervisor, defined: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    name = defined(conf("fileless", devices={"disk": disk(tmp_path / "gone.img", "vdb")}))
    with pytest.raises(NotFoundError, match=r"Cannot access storage file '\S+/gone\.img'"):
        qemu.domain.start(name)
    with pytest.raises(NotFoundError, match=r"virsh domblkinfo fileless vdb: Failed to open file '\S+/gone\.img'"):
        qemu.domain.blkinfo(name, "vdb")


def test_define_above_libvirts_limit_is_invalid(qemu: Hypervisor) -> None:
    with pytest.raises(InvalidArgumentError, match="at most 4 MiB"):
        qemu.domain.define(conf("large", metadata={"x:a": {"@xmlns:x": "urn:a", "#text": "b" * (5 << 20)}}))


@pytest.mark.parametrize("content", ["<node><cpu></node>", "<nodes/>"])
def test_faulty_description_of_test_driver_has_no_hint(content: str, tmp_path: Path) -> None:
    file = tmp_path / "description.xml"
    file.write_text(content)
    with (
        Hypervisor(unix.Local(), f"test://{file}") as hypervisor,
        pytest.raises(CannotConnectError, match="failed to connect to the hypervisor: ") as raised,
    ):
        hypervisor.generic.uri()
    assert "libvirtd" not in str(raised.value)


def test_read_only_connection_gives_no_advice_on_groups(libvirtd: Libvirtd) -> None:
    if not libvirtd.is_system:
        pytest.skip("a session daemon has no socket for reading only")
    uri = libvirtd.uri.replace("libvirt-sock", "libvirt-sock-ro")
    with Hypervisor(unix.Local(), uri) as hypervisor, pytest.raises(kvm.DeniedError, match="read only") as raised:
        hypervisor.domain.define(conf("forbidden"))
    assert "group libvirt" not in str(raised.value)


# -- a libvirtd that is not run in English


@pytest.fixture(scope="module")
def german() -> Iterator[Hypervisor]:
    if not Path("/usr/share/locale/de/LC_MESSAGES/libvirt.mo").exists():
        pytest.fail("this test needs libvirt's translations: `make test` installs them", pytrace=False)
    daemon = Libvirtd(language="de")
    with Hypervisor(unix.Local(timeout=60), daemon.uri) as hypervisor:
        yield hypervisor
    daemon.stop()


@pytest.fixture
def fremd(german: Hypervisor) -> Iterator[str]:
    """A running guest with a channel for an agent that never answers, on a libvirtd that speaks German."""
    channel = {"@type": "unix", "target": {"@type": "virtio", "@name": "org.qemu.guest_agent.0"}}
    german.domain.define(conf("fremd", devices={"channel": channel}))
    yield "fremd"
    if german.domain.id("fremd") is not None:
        german.domain.destroy("fremd")
    german.domain.undefine("fremd")


def test_german_libvirtd_is_waited_for_to_the_end(german: Hypervisor, fremd: str) -> None:
    with pytest.raises(kvm.CommandTimeoutError, match=r"an address of its guest was not there within 1\.5 s"):
        german.domain.start(fremd, wait="address", timeout=1.5)
    with pytest.raises(KvmError, match=r"[Gg]ast") as raised:
        german.domain.ifaddr(fremd, source="agent")
    assert type(raised.value) is KvmError, "libvirtd speaks no German, so that this test shows nothing"


def test_german_libvirtd_s_guest_stops_once(german: Hypervisor, fremd: str) -> None:
    german.domain.start(fremd)
    assert german.domain.stop(fremd, timeout=0.2, force=True).status
    assert german.domain.id(fremd) is None
    with pytest.raises(KvmError, match="virsh shutdown"):
        german.domain.stop(fremd)


def test_german_libvirtd_keeps_what_virsh_itself_says(german: Hypervisor, fremd: str) -> None:
    with pytest.raises(NotFoundError):
        german.domain.start("niemand")
    with pytest.raises(NotFoundError):
        german.network.info("niemals")
    with pytest.raises(InvalidArgumentError):
        german.domain.desc(fremd, "a", live=True, current=True)
    assert german.domain.await_(fremd, "domain-inactive")


def test_german_libvirtd_s_metadata_is_edited_where_none_is(german: Hypervisor, fremd: str) -> None:
    uri = "urn:beispiel"
    german.domain.metadata(fremd, uri, key="b", edit=lambda _: {"stand": {"wert": "1"}})
    german.domain.metadata(fremd, uri, key="b", edit=lambda found: found["stand"].update(wert="2"))
    assert german.domain.metadata(fremd, uri) == {"stand": {"wert": "2"}}
