"""A guest with an operating system, as small as one can be that does what hosts ask of guests.

It is made of what the distribution has: its kernel with the modules for QEMU's devices, busybox, and QEMU's agent. All
of it is in the initial file system, which is built here in a fraction of a second, and booted without a boot loader and
without KVM (a /dev/kvm that is there does not always work) in a few seconds. It has

- a root shell on the serial console, without a login, that prompts ``tiny# ``,
- the guest agent on its channel, which can freeze file systems, set passwords and clocks, run commands, ...,
- a disk ``/dev/vda`` with a file system on ``/mnt``, and places for more disks, also by SCSI,
- a network card of libvirt's type ``user``, configured as 10.0.2.15, or by DHCP if the command line has ``dhcp``,
- a power button that is heard: it powers off when asked to by ACPI, and reboots when asked to by the agent.
"""

from __future__ import annotations

import base64
import gzip
import lzma
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import kvm

MODULES = (
    "virtio_pci virtio_blk virtio_net virtio_console virtio_balloon virtio_mem virtio_scsi sd_mod evdev button ext4"
)

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
    "/etc/group": "root:x:0:\nuser:x:1000:\n",
    "/etc/shadow": "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n",
    "/etc/hostname": "tiny\n",
    "/etc/os-release": 'ID=tiny\nNAME="Tiny"\nPRETTY_NAME="Tiny guest: 1"\nVERSION_ID="007"\n',
    "/etc/profile": "export PS1='tiny# '\n",
    "/etc/inittab": """\
::sysinit:/etc/rc
::respawn:/usr/sbin/qemu-ga --statedir=/run --pidfile=/run/qemu-ga.pid --logfile=/run/qemu-ga.log
::respawn:/sbin/acpid -f
ttyS0::respawn:/bin/login -f root
::shutdown:/bin/umount /mnt
""",
}

SCRIPTS = {
    "/init": """\
#!/bin/busybox sh
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir /dev/pts
mount -t devpts devpts /dev/pts
exec /sbin/init
""",
    "/etc/rc": """\
#!/bin/sh
for module in /modules/*; do insmod $module; done
hostname -F /etc/hostname
touch /run/utmp
for port in /sys/class/virtio-ports/*; do
    mkdir -p /dev/virtio-ports
    ln -s /dev/${port##*/} /dev/virtio-ports/$(cat $port/name)
done
if [ -e /dev/vda ]; then
    mke2fs /dev/vda > /dev/null && mount -o discard /dev/vda /mnt
fi
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    if grep -qw dhcp /proc/cmdline; then
        udhcpc -b -S -T 1 -t 30 -x hostname:tiny -s /etc/udhcpc -i eth0
    else
        ip address add 10.0.2.15/24 dev eth0
        ip route add default via 10.0.2.2
    fi
fi
""",
    "/etc/udhcpc": """\
#!/bin/sh
case $1 in
deconfig) ip address flush dev $interface ;;
bound | renew)
    ip address add $ip/$mask dev $interface
    ip route add default via $router
    ;;
esac
""",
    "/etc/acpi/PWRF/00000080": "#!/bin/sh\npoweroff\n",
    # what the guest agent runs, and busybox does not have
    "/sbin/shutdown": '#!/bin/sh\ncase "$*" in *-r*) reboot ;; *) poweroff ;; esac\n',
    "/usr/sbin/chpasswd": """\
#!/bin/sh
IFS=: read -r user password
[ "$1" = -e ] || password=$(mkpasswd -m sha256 -- "$password")
grep -q "^$user:" /etc/shadow || exit 1
grep -v "^$user:" /etc/shadow > /run/shadow
echo "$user:$password:19000:0:99999:7:::" >> /run/shadow
cat /run/shadow > /etc/shadow
""",
}

DIRECTORIES = "/bin /dev /etc /home/user /mnt /proc /root /run /sbin /sys /tmp /usr/bin /usr/sbin /var/log"


def require() -> None:
    """Fail where a program is missing that `make test` installs; skip where the kernel is for root alone."""
    if lacking := missing():
        pytest.fail(f"these tests need {', '.join(lacking)}: `make test` installs them", pytrace=False)
    if file := unreadable():
        pytest.skip(f"only root may read {file}")


def missing() -> list[str]:
    """The packages, as Debian names them, without which there is no such guest."""
    lacking = [
        package
        for program, package in (("busybox", "busybox-static"), ("qemu-ga", "qemu-guest-agent"))
        if not which(program, path=PATH)
    ]
    return lacking if _kernel() else [*lacking, "linux-image-cloud-amd64"]


def unreadable() -> str | None:
    """The kernel, if only root may read it."""
    kernel = _kernel()
    return str(kernel) if kernel and not os.access(kernel, os.R_OK) else None


class TinyGuest:
    """Guests of this kind, built into a `directory`; their disks are there as well."""

    def __init__(self, directory: Path) -> None:
        kernel = _kernel()
        assert kernel, missing()
        self.kernel = kernel
        self.initrd = directory / "initrd"
        self._directory = directory
        with self.initrd.open("wb") as file:
            file.writelines(_archive(_contents(_release(kernel))))

    def conf(self, name: str, **devices: object) -> dict[str, Any]:
        """The configuration of a guest, with more `devices` if given."""
        disk = self._directory / f"{name}.img"
        with disk.open("wb") as file:
            file.truncate(32 * 1024**2)
        return {
            "@type": "qemu",
            "name": name,
            "memory": {"@unit": "MiB", "#text": 128},
            "vcpu": 1,
            "os": {
                "type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"},
                "kernel": str(self.kernel),
                "initrd": str(self.initrd),
                "cmdline": "console=ttyS0 quiet",
            },
            "features": {"acpi": True},
            "devices": {
                "disk": {
                    "@type": "file",
                    "driver": {"@name": "qemu", "@type": "raw", "@discard": "unmap"},
                    "source": {"@file": str(disk)},
                    "target": {"@dev": "vda", "@bus": "virtio"},
                },
                "controller": {"@type": "scsi", "@index": 0, "@model": "virtio-scsi"},
                "interface": {"@type": "user", "model": {"@type": "virtio"}},
                "console": {"@type": "pty"},
                "channel": {"@type": "unix", "target": {"@type": "virtio", "@name": "org.qemu.guest_agent.0"}},
                **devices,
            },
        }


def wait_for_agent(hypervisor: kvm.Hypervisor, name: str, seconds: float = 60) -> None:
    """Wait until the agent of a guest answers, which is when the guest has booted."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            hypervisor.domain.qemu_agent_command(name, {"execute": "guest-ping"})
        except kvm.AgentError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def run(hypervisor: kvm.Hypervisor, name: str, script: str, *arguments: str) -> str:
    """What a shell script prints in a guest, by its agent."""
    given = {"path": "/bin/sh", "arg": ["-c", script, "sh", *arguments], "capture-output": True}
    started = hypervisor.domain.qemu_agent_command(name, {"execute": "guest-exec", "arguments": given})
    status = {"execute": "guest-exec-status", "arguments": started["return"]}
    while not (found := hypervisor.domain.qemu_agent_command(name, status)["return"])["exited"]:
        time.sleep(0.05)
    return base64.b64decode(found.get("out-data", "")).decode()


def _kernel() -> Path | None:
    """The newest kernel that has its modules here."""
    found = [file for file in Path("/boot").glob("vmlinuz-*") if (_modules(_release(file)) / "modules.dep").exists()]
    return max(found, key=lambda file: [int(part) for part in re.findall(r"\d+", file.name)], default=None)


def _release(kernel: Path) -> str:
    return kernel.name.removeprefix("vmlinuz-")


def _modules(release: str) -> Path:
    return Path("/lib/modules") / release


def _contents(release: str) -> Iterator[tuple[str, int, bytes]]:
    """The files of the guest: path, mode, content."""
    files: dict[str, tuple[int, bytes]] = {path: (0o644, text.encode()) for path, text in FILES.items()}
    files |= {path: (0o755, text.encode()) for path, text in SCRIPTS.items()}
    files["/etc/shadow"] = (0o600, files["/etc/shadow"][1])
    for program, target in (("busybox", "/bin/busybox"), ("qemu-ga", "/usr/sbin/qemu-ga")):
        source = which(program, path=PATH) or ""
        files[target] = (0o755, Path(source).read_bytes())
        files |= {library: (0o755, Path(library).read_bytes()) for library in _libraries(source)}
    for number, module in enumerate(_with_dependencies(release)):
        files[f"/modules/{number:02}"] = (0o644, _uncompressed(module))
    directories = {*map(Path, DIRECTORIES.split()), *(Path(path).parent for path in files)}
    for directory in sorted({str(each) for path in directories for each in (path, *path.parents)}):
        yield directory, stat.S_IFDIR | 0o755, b""
    for path, (mode, content) in files.items():
        yield path, stat.S_IFREG | mode, content
    yield "/var/run", stat.S_IFLNK | 0o777, b"/run"
    yield "/dev/console", stat.S_IFCHR | 0o600, b""


def _libraries(program: str) -> list[str]:
    """The libraries that a program is linked with."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", told)


def _with_dependencies(release: str) -> list[Path]:
    """The files of `MODULES`, those that others need before them; none for what is in the kernel itself."""
    needs: dict[str, list[str]] = {}
    for line in (_modules(release) / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[re.sub(r"\.ko.*", "", path.rpartition("/")[2]).replace("-", "_")] = [path, *rest.split()]
    paths = (path for module in MODULES.split() for path in reversed(needs.get(module, [])))
    return [_modules(release) / path for path in dict.fromkeys(paths)]


def _uncompressed(module: Path) -> bytes:
    content = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(content)
    if module.suffix == ".gz":
        return gzip.decompress(content)
    if module.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=content, capture_output=True, check=True).stdout
    return content


def _archive(files: Iterable[tuple[str, int, bytes]]) -> Iterator[bytes]:
    """An archive as the kernel unpacks it: cpio, in its form ``newc``."""
    for number, (path, mode, content) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        name = path.lstrip("/").encode() or b"."
        device = (5, 1) if stat.S_ISCHR(mode) else (0, 0)
        numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        yield _padded(b"070701" + b"".join(b"%08x" % each for each in numbers) + name + b"\0")
        yield _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
