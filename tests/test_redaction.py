"""No secret is seen: in no error, log line, result, process or file, whatever becomes of the command that has it."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import pickle
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvm
import unix
from kvm import Hypervisor, redaction
from kvm.groups.image import Url
from libvirtd import Libvirtd
from sshd import Sshd

CORE = "Kq7xZ"
"""What is in every secret here, and must be nowhere else."""

PLAIN = f"pa55{CORE}word"
HOSTILE = f"q'\"&<{CORE}>\\ ü%s"

Call = Callable[[Hypervisor, str], object]


def agent(secret: str) -> dict[str, Any]:
    return {"execute": "guest-set-user-password", "arguments": {"username": "root", "password": secret}}


def graphics(secret: str) -> dict[str, Any]:
    return {"@type": "vnc", "@port": -1, "@passwd": secret}


def guest(name: str, secret: str) -> dict[str, Any]:
    conf = {"@type": "qemu", "name": name, "memory": 8192, "os": {"type": {"@arch": "x86_64", "#text": "hvm"}}}
    return {**conf, "devices": {"graphics": graphics(secret)}}


def broken(secret: str) -> str:
    """A document that libvirt refuses, and of which it shows the line."""
    text = kvm.to_xml("domain", guest("broken", secret)).replace("</devices>", "</devises>")
    return "".join(line.strip() for line in text.splitlines())


def defined_from_a_file(hypervisor: Hypervisor, secret: str) -> object:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(broken(secret))
        file.flush()
        return hypervisor.domain.define(file.name)


CALLS: dict[str, Call] = {
    "password": lambda hv, secret: hv.domain.set_user_password("web", "root", secret),
    "hash": lambda hv, secret: hv.domain.set_user_password("web", "root", secret, encrypted=True),
    "value": lambda hv, secret: hv.secret.set_value(kvm.gen_uuid(), secret),
    "agent": lambda hv, secret: hv.domain.qemu_agent_command("web", agent(secret)),
    "agent's text": lambda hv, secret: hv.domain.qemu_agent_command("web", json.dumps(agent(secret))[:-1]),
    "program": lambda hv, secret: hv.domain.qemu_agent_command(
        "web", {"execute": "guest-exec", "arguments": {"path": "x", "arg": ["-p", secret], "env": [f"P={secret}"]}}
    ),
    "monitor": lambda hv, secret: hv.domain.qemu_monitor_command(
        "web", {"execute": "set_password", "arguments": {"protocol": "vnc", "password": secret}}
    ),
    "person": lambda hv, secret: hv.domain.qemu_monitor_command(
        "web", f"set_password vnc {secret.replace(' ', '')}", hmp=True
    ),
    "object": lambda hv, secret: hv.domain.qemu_monitor_command(
        "web", f"object_add secret,id=s,data={secret.replace(' ', '')}", hmp=True
    ),
    "words": lambda hv, secret: hv.virsh("set-user-password", "web", "root", secret),
    "options": lambda hv, secret: hv.virsh("set-user-password", "web", user="root", password=secret),
    "too many": lambda hv, secret: hv.virsh("set-user-password", "web", "root", "first", secret),
    "base64": lambda hv, secret: hv.virsh("secret-set-value", kvm.gen_uuid(), secret),
    "virsh agent": lambda hv, secret: hv.virsh("qemu-agent-command", "web", json.dumps(agent(secret))),
    "document": lambda hv, secret: hv.domain.define(broken(secret)),
    "document's file": defined_from_a_file,
    "guest": lambda hv, secret: hv.domain.create({**guest("web2", secret), "memory": "none"}),
    "device": lambda hv, secret: hv.domain.update_device("web", {"graphics": graphics(secret)}, config=True),
    "migration": lambda hv, secret: hv.domain.migrate("web", f"qemu+ssh://root:{quoted(secret)}@hv2/system"),
    "media": lambda hv, secret: hv.domain.change_media("web", "sdx", source=f"https://u:{quoted(secret)}@hv2/x.iso"),
    "image": lambda hv, secret: hv.image.info("/nowhere", secrets={"s": secret}),
    "image's object": lambda hv, secret: hv.image.info(
        "/nowhere", objects=[{"qom-type": "secret", "id": "s", "data": secret}]
    ),
    "image's URL": lambda hv, secret: hv.image.info(Url(f"https://u:{quoted(secret)}@127.0.0.1:1/x")),
    "image's options": lambda hv, secret: hv.image.info({"driver": "https", "url": "https://h", "password": secret}),
}  # fmt: skip
"""All that takes a secret."""


def quoted(secret: str) -> str:
    """A secret as a URL has it."""
    from urllib.parse import quote

    return quote(secret, safe="'\"&<>\\%ü")


WRONG: dict[str, Callable[[Hypervisor], object]] = {
    "NUL": lambda hv: hv.domain.set_user_password("web", "root", f"{PLAIN}\0"),
    "control character": lambda hv: hv.domain.set_user_password("web", "root", f"{PLAIN}\t"),
    "half a character": lambda hv: hv.domain.set_user_password("web", "root", f"{PLAIN}\ud800"),
    "type": lambda hv: hv.domain.set_user_password("web", "root", {PLAIN}),  # type: ignore[arg-type]
    "agent's type": lambda hv: hv.domain.qemu_agent_command("web", agent({PLAIN})),  # type: ignore[arg-type]
    "agent's lines": lambda hv: hv.domain.qemu_agent_command("web", json.dumps(agent(PLAIN), indent=1)),
    "unknown option": lambda hv: hv.domain.set_user_password("web", "root", PLAIN, encryptd=True),  # type: ignore[call-arg]
    "password for a domain": lambda hv: hv.domain.set_user_password({"password": PLAIN}, "root", ""),  # type: ignore[arg-type]
    "words with NUL": lambda hv: hv.virsh("set-user-password", "web", "root", f"{PLAIN}\0"),
    "words with a type": lambda hv: hv.virsh("set-user-password", "web", "root", {PLAIN}),  # type: ignore[arg-type]
    "words with half a character": lambda hv: hv.virsh("set-user-password", "web", "root", f"{PLAIN}\ud800"),
    "an open quote": lambda hv: hv.virsh(f"set-user-password web root '{PLAIN}"),
    "value's type": lambda hv: hv.secret.set_value(kvm.gen_uuid(), [PLAIN]),  # type: ignore[arg-type]
    "value's half a character": lambda hv: hv.secret.set_value(kvm.gen_uuid(), f"{PLAIN}\ud800"),
    "document's type": lambda hv: hv.domain.define(guest("x", [PLAIN])),  # type: ignore[arg-type]
    "document's bytes": lambda hv: hv.domain.define(guest("x", PLAIN.encode() + b"\xff")),  # type: ignore[arg-type]
    "document's character": lambda hv: hv.domain.define(guest("x", f"{PLAIN}\x01")),
    "a device without a tag": lambda hv: hv.domain.attach_device("web", graphics(PLAIN)),
    "content": lambda hv: hv.domain.define({"#content": guest("x", PLAIN)}),
    "uri": lambda hv: Hypervisor(hv.host, f"qemu+ssh://root:{PLAIN}@hv2/system"),
    "uri's NUL": lambda hv: Hypervisor(hv.host, f"qemu+ssh://root:{PLAIN}@hv2/system\0"),
    "input's type": lambda hv: hv.run(["cat"], input=[PLAIN]),  # type: ignore[arg-type]
    "input's half a character": lambda hv: hv.run(["cat"], input=f"{PLAIN}\ud800"),
    "environment": lambda hv: hv.set_controls(envs={"PASSWORD": [PLAIN]}),  # type: ignore[dict-item]
    "environment's text": lambda hv: hv.set_controls(envs=f"PASSWORD={PLAIN}"),  # type: ignore[arg-type]
    "ssh": lambda _: unix.connect("127.0.0.1", port=1, config="/dev/null", password=f"{PLAIN}\ud800", timeout=5),
    "ssh's type": lambda _: unix.connect("127.0.0.1", port=1, config="/dev/null", password=[PLAIN], timeout=5),  # type: ignore[arg-type]
    "host": lambda _: unix.connect(f"root:{PLAIN}@127.0.0.1", port=1, config="/dev/null", timeout=5),
    "host's URI": lambda _: unix.connect(f"ssh://root:{PLAIN} x@127.0.0.1", port=1, config="/dev/null", timeout=5),
    "volume": lambda hv: hv.volume.upload("disk", [PLAIN]),  # type: ignore[arg-type]
}  # fmt: skip
"""What cannot be said, and has a secret in it."""


# -- where it is looked for -------------------------------------------------------------------------------------------


def all_of(error: BaseException) -> Iterator[str]:
    """All that an exception shows, and those that it comes from."""
    seen: list[BaseException] = []
    left = [error]
    while left:
        seen.append(left.pop())
        yield from one_of(seen[-1])
        left += [each for each in (seen[-1].__cause__, seen[-1].__context__) if each and each not in seen]


def one_of(error: BaseException) -> Iterator[str]:
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error))
    with contextlib.suppress(TypeError, AttributeError, RecursionError, pickle.PicklingError):  # not all can be pickled
        data = pickle.dumps(error, 0)
        yield data.decode("latin-1")
        yield from (str(again := pickle.loads(data)), repr(vars(again)))


def outcome(call: Callable[[], object]) -> list[str]:
    """All that a call shows when it has ended, in whatever way."""
    try:
        value = call()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # that it shows nothing is what is tested
        return [*all_of(error)]
    return [repr(value), str(value)]


def has_secret(texts: list[str], secret: str) -> bool:
    encoded = base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode()
    return any(CORE in text or encoded in text for text in texts)


class Recorder:
    """A directory for PATH, whose virsh and qemu-img write down what everybody can see of them, and files."""

    def __init__(self, directory: Path, *, before: str = "") -> None:
        self.home = directory
        self._bin = directory / "bin"
        for each in ("bin", "home", "tmp"):
            (directory / each).mkdir()
        for name in ("virsh", "qemu-img"):
            program = self._bin / name
            real = shlex.quote(which(name) or name)
            record = f'{{ printf "%s\\n" "$0" "$@"; env; }} >> {directory}/seen'
            program.write_text(f'#!/bin/sh\n{record}\n{before if name == "virsh" else ""}\nexec {real} "$@"\n')
            program.chmod(0o755)

    @property
    def envs(self) -> dict[str, str]:
        """An environment in which all is logged that can be."""
        log = self.home / "home"
        return {
            "PATH": f"{self._bin}:{os.environ['PATH']}", "HOME": str(log), "TMPDIR": str(self.home / "tmp"),
            "LIBVIRT_DEBUG": "1", "LIBVIRT_LOG_FILTERS": "", "LIBVIRT_LOG_OUTPUTS": f"1:file:{log}/libvirt.log",
            "VIRSH_DEBUG": "0", "VIRSH_LOG_FILE": f"{log}/virsh.log", "VIRSH_HISTSIZE": "500",
            "XDG_CACHE_HOME": str(log),
        }  # fmt: skip

    def texts(self) -> list[str]:
        """All that was left in files, and what could be seen of processes."""
        assert (self.home / "seen").exists()
        files = [file for file in self.home.rglob("*") if file.is_file() and file.parent != self._bin]
        return [file.read_text(errors="replace") for file in files]


@pytest.fixture(scope="module")
def web(libvirtd: Libvirtd) -> Iterator[str]:
    """The URI of a hypervisor with a guest ``web``, which runs, and has a screen but no agent."""
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        hypervisor.domain.define(guest("web", "first"))
        hypervisor.domain.start("web")
        yield libvirtd.uri
        hypervisor.domain.destroy("web")
        hypervisor.domain.undefine("web")


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")


# -- every way --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [PLAIN, HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("check", [True, False], ids=["raising", "returning"])
def test_a_secret_is_nowhere_when_its_command_ends(
    web: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, secret: str, check: bool
) -> None:
    recorder = Recorder(tmp_path)
    shown: dict[str, list[str]] = {}
    with Hypervisor(unix.Local(timeout=60, envs=recorder.envs), web, check=check) as hypervisor:
        for name, call in CALLS.items():
            shown[name] = outcome(lambda call=call: call(hypervisor, secret))  # type: ignore[misc]
        with hypervisor.set_controls(parse=True):
            shown["parsed"] = outcome(lambda: hypervisor.virsh("set-user-password", "nobody", "root", secret))
        with hypervisor.pipeline() as pipe:
            pipe.domain.set_user_password("nobody", "root", secret)
            pipe.domain.qemu_agent_command("nobody", agent(secret))
            shown["pipeline"] = [repr(pipe), *outcome(lambda: [*map(all_of_any, pipe.execute(raise_on_error=False))])]
    assert [name for name, texts in shown.items() if has_secret(texts, secret)] == []
    assert not has_secret([caplog.text], secret)
    assert not has_secret(recorder.texts(), secret)
    assert "virsh set-user-password" in caplog.text


def all_of_any(value: object) -> list[str]:
    return [*all_of(value)] if isinstance(value, BaseException) else [repr(value)]


def test_a_secret_that_cannot_be_said_is_nowhere(web: str, caplog: pytest.LogCaptureFixture) -> None:
    with Hypervisor(unix.Local(timeout=60), web) as hypervisor:
        shown = {name: outcome(lambda call=call: call(hypervisor)) for name, call in WRONG.items()}  # type: ignore[misc]
    assert [name for name, texts in shown.items() if len(texts) < 5] == []  # that is, no error
    assert [name for name, texts in shown.items() if has_secret(texts, PLAIN)] == []
    assert not has_secret([caplog.text], PLAIN)


@pytest.mark.parametrize("uri", ["{web}&x=1", "{web}-ro", "nothing:///", "qemu+unix:///system?socket=/nowhere"])
def test_a_secret_is_nowhere_when_libvirt_refuses(web: str, caplog: pytest.LogCaptureFixture, uri: str) -> None:
    with Hypervisor(unix.Local(timeout=60), uri.format(web=web)) as hypervisor:
        shown = {name: outcome(lambda call=call: call(hypervisor, HOSTILE)) for name, call in CALLS.items()}  # type: ignore[misc]
    assert [name for name, texts in shown.items() if has_secret(texts, HOSTILE)] == []
    assert not has_secret([caplog.text], HOSTILE)


def test_a_secret_is_nowhere_without_virsh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Hypervisor(unix.Local(timeout=60, envs={"PATH": str(tmp_path)}), "qemu:///system") as hypervisor:
        with pytest.raises(kvm.NoVirshError) as raised:
            hypervisor.domain.set_user_password("web", "root", PLAIN)
        assert raised.value.command == ["set-user-password", "--domain=web", "--user=root", "--password=***"]
        shown = {name: outcome(lambda call=call: call(hypervisor, PLAIN)) for name, call in CALLS.items()}  # type: ignore[misc]
    assert [name for name, texts in shown.items() if has_secret(texts, PLAIN)] == []
    assert not has_secret([caplog.text], PLAIN)


SLOW = ("password", "agent", "monitor", "words", "value", "document")
"""The calls of which libvirtd is asked, one of each way."""


@pytest.mark.parametrize("way", ["timeout", "killed", "interrupted"])
def test_a_secret_is_nowhere_when_its_command_is_broken_off(
    libvirtd: Libvirtd, web: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    recorder = Recorder(tmp_path, before="(sleep 0.3; kill -9 $$) > /dev/null 2>&1 &" if way == "killed" else "")
    shown: dict[str, list[str]] = {}
    for name in SLOW:
        host = unix.Local(timeout=0.3 if way == "timeout" else 60, envs=recorder.envs)
        with Hypervisor(host, web, sessions=1) as hypervisor, libvirtd.stopped():
            if way == "interrupted":
                signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                shown[name] = outcome(lambda name=name: CALLS[name](hypervisor, HOSTILE))  # type: ignore[misc]
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    assert [name for name, texts in shown.items() if len(texts) < 5] in ([], ["words"])  # which returns its result
    assert [name for name, texts in shown.items() if has_secret(texts, HOSTILE)] == []
    assert not has_secret([caplog.text, *recorder.texts()], HOSTILE)


@pytest.fixture(autouse=True)
def interrupted_by_a_timer() -> Iterator[None]:
    """The signal of a timer is a Ctrl-C."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGALRM, before)


def test_a_secret_is_nowhere_on_a_host_that_is_lost(
    libvirtd: Libvirtd, web: str, caplog: pytest.LogCaptureFixture
) -> None:
    sshd = Sshd()
    shown: dict[str, list[str]] = {}
    try:
        with Hypervisor(sshd.connect({"timeout": 60}), web) as hypervisor:
            shown["unknown"] = outcome(lambda: hypervisor.domain.set_user_password("nobody", "root", HOSTILE))
            for name in ("password", "agent", "value"):
                with libvirtd.stopped():
                    call = threading.Thread(
                        target=lambda name=name: shown.update({name: outcome(lambda: CALLS[name](hypervisor, HOSTILE))})
                    )
                    call.start()
                    time.sleep(0.3)
                    visible = b"".join(processes())
                    for session in sshd.sessions():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(session, signal.SIGKILL)
                    call.join()
                assert f"<{CORE}>".encode() not in visible  # which others who run this test do not show
    finally:
        sshd.remove()
    assert [name for name, texts in shown.items() if has_secret(texts, HOSTILE)] == []
    assert not has_secret([caplog.text], HOSTILE)


def processes() -> Iterator[bytes]:
    """What can be seen of processes."""
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and int(each.name) != os.getpid():
            for file in (each / "cmdline", each / "environ"):
                with contextlib.suppress(OSError):
                    yield file.read_bytes()


def test_a_secret_is_nowhere_in_a_forked_child(web: str) -> None:
    with Hypervisor(unix.Local(timeout=60), web) as hypervisor:
        hypervisor.domain.list()
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            texts = [text for name in SLOW for text in outcome(lambda name=name: CALLS[name](hypervisor, HOSTILE))]  # type: ignore[misc]
            os.write(writing, b"seen" if has_secret(texts, HOSTILE) else b"%d texts" % len(texts))
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        assert os.read(reading, 100).endswith(b" texts")
        os.close(reading)


# -- inventories ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hosts.toml", f'[hosts.hv1]\npassword = ["{PLAIN}"]\n'),
        ("hosts.toml", f'[hosts.hv1]\npassword = "{PLAIN}\n'),
        ("hosts.toml", f'[hosts.hv1]\npassword = "{PLAIN}"\nprot = 22\n'),
        ("hosts.ini", f"hv1 ansible_password='{PLAIN}\n"),
        ("hosts.ini", f"hv1 ansible_password=my {PLAIN}\n"),
        ("hosts.ini", f"[web]\nhv1\n[web:vars]\nansible_ssh_pass: {PLAIN}\n"),
        ("hosts.ini", f"hv1 ansible_password='{{{{ {PLAIN} }}}}'\n"),
        ("hosts.yml", f"all:\n  hosts:\n    hv1:\n      ansible_password: '{PLAIN}\n"),
        ("hosts.yml", f"all:\n  hosts:\n    hv1:\n      ansible_password: *{PLAIN}\n"),
        ("hosts.yml", f"all:\n  hosts:\n    hv1:\n      ansible_password: !{PLAIN} x\n"),
        ("hosts.yml", f"all:\n  hosts:\n    hv1:\n      ansible_password: [{PLAIN}]\n"),
        ("hosts.json", f'{{"_meta": {{"hostvars": {{"hv1": {{"ansible_password": "{PLAIN}", }}}}}}}}'),
        ("hosts.json", f'{{"_meta": {{"hostvars": {{"hv1": {{"ansible_password": "{PLAIN}\udcff"}}}}}}}}'),
    ],
    ids=map(str, range(13)),
)
def test_a_password_in_an_inventory_is_in_no_error(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode("utf-8", "surrogateescape"))

    def first_host() -> object:
        return kvm.Fleet.from_inventory(file)["hv1"].domain.list()

    texts = outcome(first_host)
    assert len(texts) > 4  # it is an error
    assert not has_secret(texts, PLAIN)


# -- kvmctl -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["set-user-password", "nobody", "root"], True),
        (["set-user-password", "web", "root"], True),
        (["set-user-password", "web", "root", PLAIN], False),
        (["--dry-run", "set-user-password", "web", "root", PLAIN], False),
        (["--dry-run", "qemu-agent-command", "web", json.dumps(agent(PLAIN))], False),
        (["--dry-run", "qemu-img", "info", "--object", f"secret,id=s,data={PLAIN}", "x"], False),
        (["qemu-img", "info", "--object", f"secret,id=s,data={PLAIN}", "x"], False),
        (["set-user-password", "web", "root", "my", PLAIN], False),
        (["set-user-password", "web", "root", f"--passwort={PLAIN}"], False),
        (["secret-set-value", kvm.gen_uuid()], True),
        (["qemu-agent-command", "web", json.dumps(agent(PLAIN))], False),
    ],
    ids=[str(number) for number in range(11)],  # without the secret, as they are in the environment
)
def test_kvmctl_shows_no_secret(web: str, tmp_path: Path, words: list[str], typed: bool) -> None:
    recorder = Recorder(tmp_path)
    (tmp_path / "seen").touch()
    ran = subprocess.run(
        [sys.executable, "-m", "kvm.cli", "-c", web, *words], input=PLAIN if typed else "", text=True,
        capture_output=True, check=False, env={**os.environ, **recorder.envs},
    )  # fmt: skip
    assert ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert not has_secret([ran.stdout, ran.stderr, *recorder.texts()], PLAIN)


# -- how it is masked -------------------------------------------------------------------------------------------------


SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=5).map(lambda text: f"~{text}~")


@given(SECRETS, st.permutations(["--domain=web", "--user=root"]), st.booleans(), st.integers(0, 2))
def test_a_password_is_masked_wherever_it_stands(secret: str, others: list[str], is_named: bool, place: int) -> None:
    own = [f"--password={secret}"] if is_named else ["--password", secret]
    words = ["set-user-password", *others[:place], *own, *others[place:]]
    assert redaction.secrets(words) == [secret]
    assert secret not in " ".join(redaction.masked_words(words))
    assert sorted(redaction.masked_words(words)) == sorted(word.replace(secret, "***") for word in words)
    assert redaction.masked_words(["set-user-password", *others, secret])[3] == "***"
    assert redaction.masked_words(["set-user-password", "web", "root", "--", secret])[4] == "***"


@pytest.mark.parametrize("before", [["-c", "test:///default"], ["list", ";"], ["--quiet"], ["echo;"]])
def test_a_secret_is_masked_behind_what_virsh_refuses(before: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Hypervisor(unix.Local(timeout=60), "test:///default") as hypervisor:
        for words in (["set-user-password", "web", "root", PLAIN], ["secret-set-value", "db", f"--base64={PLAIN}"]):
            assert PLAIN in redaction.secrets([*before, *words])
            result = hypervisor.virsh(*before, *words)
            assert isinstance(result, unix.Result)
            assert not result.status
            assert not has_secret([str(result), caplog.text], PLAIN)
            assert "***" in caplog.text


@given(SECRETS, SECRETS)
def test_a_secret_in_json_is_masked_however_written(secret: str, other: str) -> None:
    for text in (json.dumps(agent(secret)), json.dumps(agent(secret), ensure_ascii=False, separators=(",", ":"))):
        words = ["qemu-agent-command", "--domain=web", f"--cmd={text}"]
        assert json.loads(redaction.masked_words(words)[2][6:]) == agent("***")
        said = redaction.masked(f"error: cannot parse json {text}: {other}", redaction.secrets(words))
        assert json.dumps(secret) not in said
        assert secret not in said.replace(other, "") or secret in other


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_the_password_of_a_screen_is_masked_in_any_text(secret: str) -> None:
    marked = f"({CORE}{secret}{CORE})"
    xml = kvm.to_xml("graphics", graphics(marked))
    for text in (
        xml,
        xml.replace('"', "'") if "'" not in marked else xml,
        repr(graphics(marked)),
        json.dumps(graphics(marked)),
    ):
        assert CORE not in redaction.masked(f"error: (domain_definition):3: {text}\n ---^")
    assert redaction.masked("<graphics type='vnc' port='5900' autoport='yes'/>").count("***") == 0


def test_text_that_is_not_secret_is_not_masked() -> None:
    for words in (
        ["list", "--all"],
        ["migrate", "--domain=web", "--desturi=qemu+ssh://root@hv2:2222/system"],
        ["qemu-monitor-command", "--domain=web", '--cmd={"execute": "query-status"}'],
        ["attach-disk", "--domain=web", "--source=/images/a@b:c", "--target=vdb"],
        [
            "qemu-img",
            "create",
            "-o",
            "encrypt.key-secret=sec0",
            "--object",
            "secret,id=sec0,format=base64,file=/dev/fd/3",
        ],
    ):
        assert redaction.secrets(words) == []
        assert redaction.masked_words(words) == words
    assert redaction.masked("error: failed to get domain 'x'", ["x", "o"]) == "error: failed to get domain '***'"
