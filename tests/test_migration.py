"""A guest with an operating system moves between two libvirtds, by whatever way they reach each other, and back."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvm
import libvirtd as daemons
import tinyguest
import unix
from kvm import Hypervisor, KvmError, NotFoundError, NotSupportedError
from kvm.events import Events
from libvirtd import Libvirtd
from ports import free_port
from sshd import Sshd
from waiting import wait_until

MARK = b"what the guest has written"

CONF = """
host_uuid = "{uuid}"
listen_addr = "127.0.0.1"
listen_tcp = 1
tcp_port = "{tcp}"
auth_tcp = "none"
listen_tls = 1
tls_port = "{tls}"
ca_file = "{pki}/cacert.pem"
cert_file = "{pki}/clientcert.pem"
key_file = "{pki}/clientkey.pem"
"""

LEAF = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1
"""


class Listening(Libvirtd):
    """A libvirtd that takes itself for another host, and also listens on TCP and TLS."""

    def __init__(self, directory: Path) -> None:
        self.pki = directory
        self.tcp, self.tls = free_port(), free_port()
        certify(directory)
        conf = CONF.format(uuid=kvm.gen_uuid(), tcp=self.tcp, tls=self.tls, pki=directory)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(daemons, "LIBVIRTD_CONF", daemons.LIBVIRTD_CONF + conf)
            super().__init__()

    def _start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        *namespaces, script = command
        return super()._start([*namespaces, script.replace("libvirtd --", "libvirtd --listen --")], env)


def certify(directory: Path) -> None:
    """Make a certificate for 127.0.0.1, for both ends, and that of who has signed it; named as libvirt names them."""

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=directory, capture_output=True, check=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(f"req -x509 {key} -keyout ca.pem -out cacert.pem -days 2 -subj /CN=tests -addext keyUsage=keyCertSign")
    openssl(f"req {key} -keyout clientkey.pem -out request.pem -subj /CN=127.0.0.1")
    (directory / "leaf").write_text(LEAF)
    openssl(
        "x509 -req -in request.pem -CA cacert.pem -CAkey ca.pem -CAcreateserial -days 2 -extfile leaf "
        "-out clientcert.pem"
    )


class Pair:
    """Two hosts, `here` and `there`, and a guest that boots here.

    Both have its disk at the same path, but each its own; `images` and `away` are where each has it.
    """

    def __init__(self, directory: Path, libvirtd: Libvirtd, here: Hypervisor, there: Hypervisor) -> None:
        self.images, self.away = directory / "images", directory / "away"
        self.here, self.there = here, there
        self.libvirtd = libvirtd
        self.boot_id = ""

    def moves(self, uri: str, *, back: bool = False, **options: Any) -> None:
        """Move the guest, which has to go on as if nothing had happened."""
        source, target = (self.there, self.here) if back else (self.here, self.there)
        call: Callable[..., unix.Result] = source.domain.migrate
        assert call("mover", uri, live=True, **{"migrateuri": "tcp://127.0.0.1", **options}).status
        assert list(source.list_domains(all=True)) == []
        assert target.domain.state("mover") == "running"
        assert self.boot() == self.boot_id
        job = target.domain.jobinfo("mover", completed=True)
        assert job is not None
        assert (job["type"], job["operation"]) == ("completed", "incoming migration")

    def boot(self) -> str:
        """The id of the guest's boot, which the guest tells wherever it is."""
        where = self.here if "mover" in self.here.list_domains() else self.there
        return tinyguest.run(where, "mover", "cat /proc/sys/kernel/random/boot_id")

    def write(self, text: bytes) -> None:
        """Have the guest write to its disk."""
        where = self.here if "mover" in self.here.list_domains() else self.there
        tinyguest.run(where, "mover", 'echo "$1" > /mnt/file; sync', text.decode())

    def is_as_before(self) -> bool:
        return (
            self.here.domain.state("mover") == "running"
            and self.here.domain.jobinfo("mover") is None
            and self.boot() == self.boot_id
        )


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    if os.geteuid() != 0:
        pytest.skip("only a system daemon can be told to be another host")
    daemon = Listening(tmp_path_factory.mktemp("pki"))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def pair(
    libvirtd: Libvirtd, listening: Listening, tiny: tinyguest.TinyGuest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("pair")
    local = unix.Local(timeout=120)
    with Hypervisor(local, libvirtd.uri) as here, Hypervisor(local, listening.uri) as there:
        pair = Pair(directory, libvirtd, here, there)
        conf = tiny.conf("mover")
        disk = conf["devices"]["disk"]["source"]
        for each in (pair.images, pair.away):
            each.mkdir()
        os.rename(disk["@file"], pair.images / "mover.img")
        disk["@file"] = str(pair.images / "mover.img")
        within = ["nsenter", "--mount", "--target", str(listening.pid)]
        subprocess.run([*within, "mount", "--bind", pair.away, pair.images], check=True)
        there.pool.create_as(
            "images", "dir", target=str(pair.images)
        )  # where libvirt makes the disks that it copies to
        here.domain.create(conf)
        tinyguest.wait_for_agent(here, "mover", 120)
        pair.boot_id = pair.boot()
        yield pair
        for hypervisor in (here, there):
            if "mover" in hypervisor.list_domains():
                hypervisor.domain.destroy("mover")
        there.pool.destroy("images")


def test_a_migration_that_cannot_be_leaves_the_guest_where_it_is(pair: Pair, listening: Listening) -> None:
    def fails(error: type[KvmError], why: str, uri: str, **options: Any) -> None:
        call: Callable[..., unix.Result] = pair.here.domain.migrate
        with pytest.raises(error, match=why):
            call("mover", uri, live=True, **{"migrateuri": "tcp://127.0.0.1", **options})
        assert pair.is_as_before()
        assert pair.there.list_domains(all=True) == {}

    there = listening.uri
    fails(KvmError, "Connection refused", "qemu+tcp://127.0.0.1:1/system", copy_storage_all=True)
    fails(KvmError, "Unsafe migration", there)
    pair.there.pool.destroy("images")
    fails(NotFoundError, "no storage pool with matching target path", there, copy_storage_all=True)
    fails(NotSupportedError, "direct migration is not supported", there, direct=True)
    pair.there.pool.create_as("images", "dir", target=str(pair.images))
    fails(KvmError, "address resolution failed", there, copy_storage_all=True, migrateuri="tcp://256.0.0.1")


def test_the_end_of_the_other_libvirtd_leaves_the_guest_where_it_is(pair: Pair, listening: Listening) -> None:
    def kill() -> None:
        wait_until(lambda: (job := pair.here.domain.jobinfo("mover")) and job.get("memory_processed"))
        listening.down()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(kvm.ConnectionLostError):
            pair.here.domain.migrate(
                "mover",
                listening.uri,
                live=True,
                migrateuri="tcp://127.0.0.1",
                copy_storage_all=True,
                bandwidth="32 MiB/s",
            )
    finally:
        killer.join()
        listening.up()
    assert pair.is_as_before()


def tells(events: Events[Any], *kinds: str) -> bool:
    """Whether there are events of all these kinds before the time is up."""
    missing = set(kinds)
    for event in events:
        assert event.name == "mover"
        missing.discard(event.kind)
        if not missing:
            return True
    return False


def test_a_guest_moves_by_any_way_to_the_other_and_back(pair: Pair, listening: Listening, sshd: Sshd) -> None:
    there, here = listening.uri.partition("socket=")[2], pair.libvirtd.uri.partition("socket=")[2]
    ssh = sshd.home / "ssh"
    lines = [f"IdentityFile {sshd.key}", "IdentitiesOnly yes", f"UserKnownHostsFile {sshd.known_hosts}"]
    (sshd.home / "ssh_config").write_text("\n".join(lines))
    ssh.write_text(f'#!/bin/sh\nexec ssh -F {sshd.home}/ssh_config "$@"\n')
    ssh.chmod(0o755)

    told: list[float] = []
    pair.write(MARK)
    with pair.here.domain.event("mover", timeout=60) as left, pair.there.domain.event(timeout=60) as arrived:
        pair.moves(f"qemu+unix:///system?socket={there}", copy_storage_all=True, progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0
        assert tells(left, "block-job", "block-job-2", "migration-iteration", "job-completed", "lifecycle")
        assert tells(arrived, "lifecycle", "agent-lifecycle")
    assert MARK in (pair.away / "mover.img").read_bytes()
    pair.write(MARK[::-1])
    pair.moves(
        f"qemu+ssh://127.0.0.1:{sshd.port}/system?socket={here}&command={ssh}", back=True, copy_storage_inc=True,
        parallel=True, parallel_connections=2,
    )  # fmt: skip
    assert MARK[::-1] in (pair.images / "mover.img").read_bytes()
    pair.moves(
        f"qemu+tcp://127.0.0.1:{listening.tcp}/system", p2p=True, copy_storage_all=True,
        migrateuri=f"unix://{pair.away}/memory", disks_uri=f"unix://{pair.away}/disks",
    )  # fmt: skip
    pair.moves(
        f"qemu+unix:///system?socket={here}", back=True, p2p=True, copy_storage_all=True, postcopy=True,
        postcopy_after_precopy=True,
    )  # fmt: skip
    (pair.away / "mover.img").write_bytes((pair.images / "mover.img").read_bytes())  # as if it was shared
    pair.moves(
        f"qemu+tls://127.0.0.1:{listening.tls}/system?pkipath={listening.pki}", p2p=True, tunnelled=True, unsafe=True,
        migrateuri=None,
    )  # fmt: skip
