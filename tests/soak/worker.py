"""One worker of the soak test: a process that uses the library, and checks all that it gets.

`python -m soak.worker` takes its settings as JSON in its argument, prints ``ready``, works until its standard input is
closed, and prints its ledger as its last line. Each kind of work is a thread of its own; the main thread reads as well,
since signals interrupt only that one.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import hashlib
import io
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kvm
import unix
from soak.ledger import EXPECTED_ERRORS, Ledger

SETTLE_S = 5.0
"""Time for a libvirtd that was stopped to carry out what it had been asked, and for one that starts to be ready."""

TRUTH_TIMEOUT_S = 120.0
EVENT_TIMEOUT_S = 60.0
FORK_TIMEOUT_S = 90.0
LONGEST_DEFECT = 600
UNLIMITED = ("prlimit", "--as=unlimited", "--nofile=1024:")
"""Runs the test's own virsh without the limits that were put on its worker."""

OUT_OF_RESOURCES = (errno.ENOMEM, errno.ENFILE, errno.EMFILE)

METADATA = 20
"""Different elements of metadata of a guest, which are set again and again."""


class Worker:
    """Does all kinds of work on the guests, filters and volumes whose names begin with its own name."""

    def __init__(self, settings: dict[str, Any], work_over: threading.Event) -> None:
        self.name: str = settings["name"]
        self._settings = settings
        self._over = work_over
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._last_truth = threading.local()
        self._random = random.Random(settings["seed"])
        self._host = self._connected_host()
        self._hypervisor = kvm.Hypervisor(self._host, settings["uri"])
        self._truth_uri: str = settings["truth_uri"]
        self._guest: str = settings["guest"]
        self._uuid: str = settings["uuid"]
        self._names: set[str] = set(settings["names"])
        self._read_all()  # loads what is loaded late: a fork during an import hangs in Python itself

    def run(self) -> Ledger:
        """Work until it is over; then close everything, and look for what is left."""
        kinds = {"pipeline": self._pipeline, "act": self._act, "events": self._follow_events, "job": self._job}
        if self._settings["forks"]:
            kinds = {"read": self._read, "fork": self._fork}
        threads = [threading.Thread(target=self._repeat, args=(work,), name=name) for name, work in kinds.items()]
        for thread in threads:
            thread.start()
        self._repeat_in_main_thread(self._read)
        for thread in threads:
            thread.join()
        self._hypervisor.close()
        if isinstance(self._host, unix.Remote):
            self._host.disconnect()
        self._look_for_leaks()
        return self._ledger

    # -- the kinds of work

    def _read(self) -> None:
        """Read what is known, in one of several ways."""
        number = next(self._numbers)
        reads = self._reads(str(number))
        what, is_right = list(reads.items())[number % len(reads)]
        self._value(is_right(), what)

    def _read_all(self) -> None:
        for what, is_right in self._reads("first").items():
            self._value(is_right(), what)

    def _reads(self, text: str) -> dict[str, Callable[[], bool]]:
        """The ways to read what is known: each returns whether the value is right. `text` is echoed by virsh."""
        hypervisor, guest = self._hypervisor, self._guest

        def echo() -> bool:
            status, stdout, _ = hypervisor.virsh("echo", f"{self.name}-{text}")
            return not status or stdout == f"{self.name}-{text}\n"  # a raw command returns its failure

        return {
            "uuid": lambda: hypervisor.domain.uuid(guest) == self._uuid,
            "conf": lambda: hypervisor.domain.conf(guest)["uuid"] == self._uuid,
            "name": lambda: hypervisor.domain.name(self._uuid) == guest,
            "nodeinfo": lambda: hypervisor.generic.nodeinfo()["cpus"] == self._settings["cpus"],
            "info": lambda: hypervisor.domain.info(guest)["uuid"] == self._uuid,
            "list": lambda: self._names <= set(hypervisor.domain.list(all=True)),
            "echo": echo,
        }

    def _pipeline(self) -> None:
        """Read of many guests at once; each reply must be that of its own request."""
        names = sorted(self._names)
        self._random.shuffle(names)
        uuids: dict[str, str] = self._settings["names"]
        with self._hypervisor.pipeline() as pipe:
            for name in names:
                pipe.domain.uuid(name)
                pipe.domain.conf(name)
            values = pipe.execute(raise_on_error=False)
        for name, uuid, conf in zip(names, values[::2], values[1::2], strict=True):
            for value in (uuid, conf):
                if isinstance(value, Exception):
                    self._error(value, "pipeline")
            if not isinstance(uuid, Exception):
                self._value(uuid == uuids[name], f"uuid of {name} in a pipeline: {uuid!r}")
            if not isinstance(conf, Exception):
                self._value(conf["uuid"] == uuids[name], f"conf of {name} in a pipeline: {conf['uuid']!r}")

    def _act(self) -> None:
        """Act on a guest and a volume of its own; what is done twice shows as a second card, or as a failure."""
        name = f"{self.name}-{next(self._numbers)}"
        domain = self._hypervisor.domain
        volume = self._hypervisor.volume
        conf = {"@type": "qemu", "name": name, "memory": 32768, "os": {"type": "hvm"}}

        def exists() -> bool:
            return self._truth("dominfo", name) is not None

        def volume_exists() -> bool:
            return self._truth("vol-info", name, "soak") is not None

        if self._action("define", lambda: domain.define(conf), exists):
            self._action("attach-interface", lambda: self._attach(name), lambda: self._cards(name) > 0)
            if self._cards(name) > 1:
                self._defect(f"attach-interface {name} was done twice")
            self._action("undefine", lambda: domain.undefine(name), lambda: not exists())
        if self._action("vol-create-as", lambda: volume.create_as("soak", name, 4096), volume_exists):
            self._action("vol-delete", lambda: volume["soak", name].delete(), lambda: not volume_exists())
        self._truth("vol-delete", name, "soak")
        self._truth("undefine", name)

    def _attach(self, name: str) -> unix.Result:
        return self._hypervisor.domain.attach_interface(name, "bridge", "soak0", config=True)

    def _follow_events(self) -> None:
        """Change metadata, and expect the event of each change, until the stream raises."""
        with self._hypervisor.domain.event(self._guest, event="metadata-change", loop=True) as events:
            while not self._over.is_set():
                uri = f"http://{self.name}/{next(self._numbers) % METADATA}"
                try:
                    self._hypervisor.domain.metadata(self._guest, uri, key="soak", set={"x": "1"}, config=True)
                except kvm.KvmError as error:
                    self._error(error, "metadata")
                    continue
                self._expect(events, uri)

    def _expect(self, events: Any, uri: str) -> None:
        deadline = time.monotonic() + EVENT_TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            event = events.within(left)
            if event is None:
                break
            if uri in str(event):
                with self._lock:
                    self._ledger.events += 1
                return
        self._defect(f"no event of the change {uri}, and no error, in {EVENT_TIMEOUT_S:g} s")

    def _job(self) -> None:
        """Upload a volume and download it again, then save a running guest and start it again."""
        name = f"{self.name}-{next(self._numbers)}.raw"
        data = hashlib.sha256(name.encode()).digest() * (1 << 15)
        if self._truth("vol-create-as", "soak", name, str(len(data))) is None:
            return
        try:
            self._hypervisor.volume["soak", name].upload(io.BytesIO(data))
            received = io.BytesIO()
            self._hypervisor.volume["soak", name].download(received)
            self._value(received.getvalue() == data, f"content of {name}")
        finally:
            self._truth("vol-delete", name, "soak")
        guest = f"{self.name}-saved"
        self._truth("start", guest, "--paused")
        if self._state(guest) == "paused":
            domain = self._hypervisor.domain
            self._action("managedsave", lambda: domain.managedsave(guest), lambda: self._state(guest) == "shut off")
        self._truth("managedsave-remove", guest)
        self._truth("destroy", guest)

    def _fork(self) -> None:
        """Read in a forked child, while other threads read."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(FORK_TIMEOUT_S - 10)
            with contextlib.suppress(BaseException):
                uuid = self._hypervisor.domain.uuid(self._guest)
                os.write(writing, uuid.encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            ready, _, _ = select.select([pipe], [], [], FORK_TIMEOUT_S)
            if not ready:
                self._defect("a forked child hangs")
                os.kill(child, 9)
            value = pipe.read()
        os.waitpid(child, 0)
        if value:
            self._value(value.decode() == self._uuid, f"uuid in a forked child: {value!r}")
        time.sleep(0.05)

    # -- checks

    def _action(self, what: str, act: Callable[[], object], is_done: Callable[[], bool]) -> bool:
        """Act, and hold the reported outcome against what libvirt says; return whether it was done."""
        try:
            act()
        except (kvm.KvmError, unix.UnixError, MemoryError, OSError) as error:
            time.sleep(SETTLE_S)
            done, unknown = is_done(), getattr(error, "outcome_unknown", False)
            with self._lock:
                self._ledger.unknown_done += unknown and done
                self._ledger.unknown_not_done += unknown and not done
                self._ledger.failed_not_done += not unknown and not done
            if done and not unknown:
                self._defect(f"{what} was done, and reported as failed: {error!r}")
            self._error(error, what)
            return done
        if not is_done():
            time.sleep(SETTLE_S)  # a libvirtd that has just started may not have its pools yet
            if not is_done():
                self._defect(f"{what} was reported as done, and is not: {self._last_truth.value}")
                return False
        with self._lock:
            self._ledger.actions += 1
        return True

    def _value(self, is_right: bool, what: str) -> None:
        with self._lock:
            self._ledger.values += 1
        if not is_right:
            self._defect(f"wrong value: {what}")

    def _error(self, error: BaseException, what: str) -> None:
        name = type(error).__name__
        if name in EXPECTED_ERRORS or (isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES):
            with self._lock:
                self._ledger.errors[name] += 1
        else:
            self._defect(f"{what}: {error!r} (stderr: {getattr(error, 'stderr', '')!r})")

    def _defect(self, text: str) -> None:
        text = text if len(text) <= LONGEST_DEFECT else f"{text[:LONGEST_DEFECT]}..."
        with self._lock:
            self._ledger.defects.append(f"{self.name}: {text}")
        print(f"{time.strftime('%H:%M:%S')} {self.name}: {text}", file=sys.stderr, flush=True)

    def _truth(self, *words: str) -> str | None:
        """Return what a virsh of the test's own prints, once libvirtd answers; None if the command failed."""
        deadline = time.monotonic() + TRUTH_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                virsh = subprocess.run(
                    [*UNLIMITED, "virsh", "-q", "-c", self._truth_uri, *words],
                    capture_output=True,
                    text=True,
                    timeout=20,
                    check=False,
                )
                self._last_truth.value = str(virsh)
                if virsh.returncode == 0:
                    return virsh.stdout
                if not any(lost in virsh.stderr for lost in ("connect", "End of file", "socket", "Cannot recv")):
                    return None
            time.sleep(0.2)
        raise RuntimeError(f"libvirtd did not answer {words} within {TRUTH_TIMEOUT_S:g} s")

    def _cards(self, name: str) -> int:
        return (self._truth("dumpxml", "--inactive", name) or "").count("<interface")

    def _state(self, name: str) -> str:
        return (self._truth("domstate", name) or "").strip()

    def _look_for_leaks(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            gc.collect()
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
            files = [os.readlink(f"/proc/self/fd/{number}") for number in _descriptors()]
            files = [file for file in files if file.startswith(("pipe:", "socket:"))]
            if not children and threads in ([], ["input"]) and len(files) <= 3:
                return
            time.sleep(0.1)
        faulthandler.dump_traceback()
        self._defect(f"left behind: processes {children}, threads {threads}, descriptors {files}")

    # -- how it goes on

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001
                self._error(error, f"{threading.current_thread().name}: {work.__name__}")
                time.sleep(0.01)

    def _repeat_in_main_thread(self, work: Callable[[], None]) -> None:
        """As `_repeat`; a Ctrl-C may come at any moment, also between two pieces of work."""
        while not self._over.is_set():
            with contextlib.suppress(KeyboardInterrupt):
                try:
                    self._repeat(work)
                except KeyboardInterrupt as error:
                    self._error(error, work.__name__)

    def _connected_host(self) -> unix.Host:
        controls: Any = {"timeout": self._settings["timeout"]}
        if self._settings["remote"] is None:
            return unix.Local(**controls)
        return unix.Remote(**controls).connect(**self._settings["remote"])


def _descriptors() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from (number for number in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{number}"))


def main() -> None:
    settings = json.loads(sys.argv[1])
    tempfile.tempdir = settings["directory"]
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
    worker = Worker(settings, over)
    threading.Thread(target=wait_for_end, name="input", daemon=True).start()
    print("ready", flush=True)
    print(worker.run().to_json(), flush=True)


if __name__ == "__main__":
    main()
