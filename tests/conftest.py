"""What tests share: hypervisors to talk to. All of them are real."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import settings

import kvm
import tinyguest
import unix
from libvirtd import Libvirtd, missing
from sshd import Sshd
from sshd import missing as missing_for_ssh

# the same inputs each time, unless others are looked for: make test T='--hypothesis-profile=explore'
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("same")

LONGEST = (
    "test_live", "test_kvmctl", "test_remote", "test_living_guest", "test_networks", "test_xml", "test_guest_agent",
    "test_fleet", "test_devices", "test_dividing", "test_events", "test_storage", "test_jobs_of_libvirt", "test_saving",
    "test_kvmctl_top", "test_jobs", "test_migration", "test_fleet_dask", "test_streams", "test_tuning",
)  # fmt: skip
"""The modules that take longest, which begin first, so that no worker is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # one of several that run tests; each looks at what its own tests leave behind
    own = Path(tempfile.gettempdir(), worker)
    own.mkdir(0o711, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[Libvirtd]:
    """A libvirtd with nothing defined in it, of the tests' own."""
    if lacking := missing():
        pytest.fail(f"these tests need {', '.join(lacking)}: `make test` installs them", pytrace=False)
    daemon = Libvirtd()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """An sshd of the tests' own, which nobody breaks."""
    if lacking := missing_for_ssh():
        pytest.fail(f"these tests need {', '.join(lacking)}: `make test` installs them", pytrace=False)
    sshd = Sshd()
    yield sshd
    sshd.remove()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tinyguest.TinyGuest:
    """Configurations of guests with an operating system, which QEMU as any user can read."""
    tinyguest.require()
    directory = tmp_path_factory.mktemp("tiny")
    for each in (directory, *directory.parents):
        with suppress(PermissionError):
            each.chmod(each.stat().st_mode | 0o711)
    return tinyguest.TinyGuest(directory)


@pytest.fixture(scope="session", params=["local", "remote"])
def host(request: pytest.FixtureRequest) -> Iterator[unix.Host]:
    """This machine, and this machine once more, by SSH."""
    if request.param == "local":
        yield unix.Local(timeout=60)
    else:
        with request.getfixturevalue("sshd").connect({"timeout": 60}) as remote:
            yield remote


@pytest.fixture
def hypervisor(host: unix.Host, libvirtd: Libvirtd) -> Iterator[kvm.Hypervisor]:
    """The hypervisor of the tests' own libvirtd, with QEMU."""
    with kvm.Hypervisor(host, libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture
def test_driver(host: unix.Host) -> Iterator[kvm.Hypervisor]:
    """libvirt's in-process test hypervisor, a new one."""
    with kvm.Hypervisor(host, "test:///default") as hypervisor:
        yield hypervisor


@pytest.fixture
def estate(host: unix.Host, tmp_path: Path) -> Iterator[Estate]:
    """A maker of test hypervisors with domains of one's own."""
    with ExitStack() as made:
        yield Estate(host, tmp_path, made)


class Estate:
    """Describes test hypervisors in files for libvirt's test driver."""

    def __init__(self, host: unix.Host, directory: Path, made: ExitStack) -> None:
        self._host = host
        self._directory = directory
        self._made = made

    def __call__(self, *names: str, title: str = "") -> kvm.Hypervisor:
        """A test hypervisor with domains of these names; it takes the place of the one before."""
        self._made.close()
        from lxml import etree

        node = etree.Element("node")
        for name in names:
            domain = etree.SubElement(node, "domain", type="test")
            etree.SubElement(domain, "name").text = name
            etree.SubElement(domain, "uuid").text = kvm.gen_uuid()
            if title:
                etree.SubElement(domain, "title").text = title.replace("%s", name)
            etree.SubElement(domain, "memory").text = "8192"
            etree.SubElement(etree.SubElement(domain, "os"), "type").text = "hvm"
        file = self._directory / "node.xml"
        file.write_bytes(etree.tostring(node))
        return self._made.enter_context(kvm.Hypervisor(self._host, f"test://{file}"))
