"""What a newcomer does first: install it, and `make demo`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import kvm
import unix
from libvirtd import Libvirtd
from waiting import wait_until

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_it_installs_into_an_empty_environment_with_lxml_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    before = set(run(python, "-m", "pip", "list", "--format=freeze").split())
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source)
    installed = {
        line.partition("==")[0] for line in set(run(python, "-m", "pip", "list", "--format=freeze").split()) - before
    }
    assert installed == {"lxml", "python-kvm"}
    told = run(
        python, "-c", "import unix, kvm; print(kvm.__version__, kvm.__file__, unix.__file__)", cwd=tmp_path
    ).split()
    assert told[0] == kvm.__version__
    for package in map(Path, told[1:]):
        assert package.is_relative_to(tmp_path / "venv")
        assert package.with_name("py.typed").exists()
    assert run(python.with_name("kvmctl"), "-c", "test:///default", "list", "--name", cwd=tmp_path) == "test\n"
    assert (tmp_path / "venv/share/man/man1/kvmctl.1").read_text().startswith(".TH KVMCTL 1 ")


def test_a_build_leaves_only_distributions(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert set(tmp_path.iterdir()) == {wheel, source}
    with zipfile.ZipFile(wheel) as archive:
        (page,) = (name for name in archive.namelist() if name.endswith("/share/man/man1/kvmctl.1"))
        assert archive.read(page).startswith(b".TH KVMCTL 1 ")


def test_the_demo_shows_the_main_job() -> None:
    shown = run(sys.executable, ROOT / "examples" / "tour.py", "test:///default")
    for expected in (
        "using_api                 TEST",
        "memory_size       3.00 GiB",
        "CPU time so far",
        "not supported here: virNodeGetMemoryStats",
        "guest architectures",
        "state  running",
        "Configuration of test",
        "snapshot  running",
        "undefine  gone",
    ):
        assert expected in shown


def test_the_demo_shows_a_real_hypervisor(libvirtd: Libvirtd) -> None:
    shown = run(sys.executable, ROOT / "examples" / "tour.py", libvirtd.uri)
    assert "QEMU" in shown
    assert "buffers" in shown


def test_the_demo_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "tour.py"), f"qemu:///system?socket={tmp_path}/none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("CannotConnectError: ")
    assert "Traceback" not in done.stderr


def test_the_guest_in_the_readme_is_started(
    libvirtd: Libvirtd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text()
    code, printed = re.findall(r"```python\n(hypervisor = .*?)```\n\nprints\n\n```\n(.*?)```", readme, re.DOTALL)[0]
    here = code.replace("qemu:///system", libvirtd.uri).replace("/var/lib/libvirt/images", str(tmp_path))
    exec(here, {"kvm": kvm, "unix": unix})
    with kvm.Hypervisor(unix.Local(), libvirtd.uri) as hypervisor:
        number = hypervisor.domain.id("web1")
        hypervisor.domain.destroy("web1")
        hypervisor.domain.undefine("web1")
    assert capsys.readouterr().out == printed.replace("'id': 1", f"'id': {number}")


NEEDED = ("bash", "echo", "env", "dirname", "grep", "sort", "tr", "xargs", "touch", "cat", "true")


@pytest.fixture
def bare(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `tools/prepare` on a machine that has Python and a shell; the programs given as text are there as well."""
    tools, programs = tmp_path / "tools", tmp_path / "bin"
    tools.mkdir()
    programs.mkdir()
    (tools / "prepare").write_text((ROOT / "tools" / "prepare").read_text().replace("/usr/sbin:/sbin", ""))
    for name in NEEDED:
        (programs / name).symlink_to(os.path.realpath(shutil.which(name) or name))
    (programs / "python3").symlink_to(sys.executable)

    def prepare(purpose: str, **scripts: str) -> subprocess.CompletedProcess[str]:
        for name, script in scripts.items():
            file = programs / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
        command = ["bash", str(tools / "prepare"), purpose]
        return subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, check=False)

    return prepare


REFUSED = "echo 'E: Unable to locate package' >&2; exit 100"


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [("demo", ["libvirt-clients"]), ("test", ["libvirt-clients", "netcat-openbsd", "qemu-utils"])],
)
@pytest.mark.parametrize(
    ("scripts", "advice"),
    [
        ({"id": "echo 1000", "apt_get": "false"}, "sudo apt-get install --no-install-recommends"),
        ({"id": "echo 1000", "apt_get": "false", "sudo": "false"}, "sudo apt-get install --no-install-recommends"),
        ({"id": "echo 0"}, "please install what these Debian packages have"),
        ({"id": "echo 0", "apt_get": REFUSED}, "apt-get could not install"),
        ({"id": "echo 1000", "apt_get": REFUSED, "sudo": 'shift; exec "$@"'}, "apt-get could not install"),
    ],
    ids=["user", "user who may not sudo", "no apt", "root without a mirror", "user with sudo, without a mirror"],
)
def test_packages_that_cannot_be_installed_are_named(
    bare: Callable[..., subprocess.CompletedProcess[str]],
    purpose: str,
    expected: list[str],
    scripts: dict[str, str],
    advice: str,
) -> None:
    done = bare(purpose, **scripts)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if advice in line)
    assert set(expected) <= set(line.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "status", "expected"),
    [
        (["tools/fresh", "bookworm", "admin"], 2, "AS must be root or user, not admin"),
        (
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "tools/fresh", "trixie", "user"],
            1,
            "only root",
        ),
    ],
)
def test_an_empty_root_that_cannot_be_made_is_refused(command: list[str], status: int, expected: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # where any user may read
        os.chmod(directory, 0o755)
        shutil.copytree(ROOT / "tools", Path(directory, "tools"))
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert expected in done.stderr


def test_what_is_generated_is_up_to_date() -> None:
    files = [ROOT / "src/kvm/virsh/commands_generated.py", ROOT / "src/kvm/groups/options_generated.py"]
    before = [file.read_text() for file in files]
    run(sys.executable, ROOT / "tools" / "generate_commands.py")
    assert [file.read_text() for file in files] == before


def command_lines() -> list[bytes]:
    """The command lines of all processes."""
    found = []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{process}/cmdline").read_bytes())
    return found


def test_no_daemon_outlives_its_tests_however_they_end() -> None:
    """A program that starts the tests' libvirtd and a guest in it, and is killed."""
    program = (
        "import sys, time, libvirtd, subprocess; d = libvirtd.Libvirtd(); print(d.home, flush=True); time.sleep(60)"
    )
    tests = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "tests"},
        cwd=ROOT,
    )
    assert tests.stdout
    home = tests.stdout.readline().strip()

    def has_daemon() -> bool:
        return any(home.encode() in commandline for commandline in command_lines())

    assert has_daemon()
    tests.kill()
    tests.wait()
    tests.stdout.close()
    wait_until(lambda: not has_daemon())
    shutil.rmtree(home)
