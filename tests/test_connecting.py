"""Connections that are hard to make: busy gates, talkative logins, questions, odd directories; and what errors say."""

from __future__ import annotations

import base64
import hmac
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import unix
from kvm import Hypervisor
from libvirtd import Libvirtd
from sshd import Sshd, keygen

system_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has users and mounts of the tests' own")


@pytest.fixture(scope="module")
def gate() -> Iterator[Sshd]:
    """An sshd that drops connections, as Debian configures it, and greets with a banner."""
    with tempfile.NamedTemporaryFile("w", prefix="banner") as banner:
        banner.write("Authorized use only.\nPermission to enter is given by the owner\n")
        banner.flush()
        sshd = Sshd("MaxStartups 10:30:100", f"Banner {banner.name}")
        yield sshd
        sshd.remove()


def key_with(sshd: Sshd, directory: Path, command: str) -> Path:
    """A key whose logins are given to a command; ``$SSH_ORIGINAL_COMMAND`` is what was asked for."""
    key = directory / "forced"
    keygen(key)
    quoted = command.replace('"', '\\"')
    with (sshd.home / "authorized_keys").open("a") as authorized:
        authorized.write(f'command="{quoted}" {key.with_suffix(".pub").read_text()}')
    return key


# -- many at once


def test_many_hosts_at_one_address_all_connect(gate: Sshd) -> None:
    with ThreadPoolExecutor(20) as pool:
        for host in pool.map(lambda _: gate.connect(timeout=60), range(20)):
            host.disconnect()


def test_many_hosts_behind_one_gate_all_connect(gate: Sshd, sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  UserKnownHostsFile {gate.known_hosts}\n"
        f"  IdentityFile {gate.key}\nHost 127.0.0.1\n  ProxyJump gate\n"
    )
    with ThreadPoolExecutor(16) as pool:
        for host in pool.map(lambda _: sshd.connect(config=config, timeout=60), range(16)):
            host.disconnect()


@pytest.fixture
def narrow() -> Iterator[Sshd]:
    """An sshd that lets in one connection at a time."""
    sshd = Sshd("MaxStartups 1:100:1", "LogLevel DEBUG1")
    yield sshd
    sshd.remove()


@pytest.fixture
def occupied(narrow: Sshd) -> Iterator[socket.socket]:
    """A connection that is not authenticated, and that the narrow sshd has let in."""
    while True:
        with socket.create_connection(("127.0.0.1", narrow.port)) as other:
            if other.recv(100).startswith(b"SSH-"):
                yield other
                return


def test_full_sshd_is_tried_again(narrow: Sshd, occupied: socket.socket) -> None:
    dropped = narrow.log().count("drop connection")
    with ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(narrow.connect)
        while narrow.log().count("drop connection") == dropped:
            assert not connecting.done()
        occupied.close()
        connecting.result().disconnect()


def test_full_sshd_is_named_with_its_setting(narrow: Sshd, occupied: socket.socket) -> None:
    assert occupied.fileno() >= 0
    with pytest.raises(unix.ConnectError, match=r"Connection (closed|reset) by .*\(5 tries; .*MaxStartups"):
        narrow.connect()


def test_connections_to_a_silent_gate_wait_no_longer_than_theirs(gate: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(12) as pool:
        port = silent.getsockname()[1]
        asked = [pool.submit(gate.connect, port=port, timeout=1.5) for _ in range(12)]
        messages = [str(each.exception()) for each in asked]
    assert any("no answer within 1.5 s" in message for message in messages)
    assert all(re.search(r"no answer|6 other connections by way of .*:\d+ were not", each) for each in messages)


# -- sessions that are held


@pytest.mark.parametrize("most", [2, 10])
def test_held_sessions_leave_one_for_a_command(most: int) -> None:
    sshd = Sshd(f"MaxSessions {most}")  # one is the connection's own
    try:
        with sshd.connect() as host:
            held = [host.popen(["cat"]) for _ in range(most - 1)]
            assert host.execute("echo", "here").stdout == "here\n"
            for process in held:  # they are still there
                assert process.stdin
                assert process.stdout
                process.stdin.close()
                assert process.stdout.read() == b""
                process.end()
    finally:
        sshd.remove()


def test_event_streams_leave_sessions_for_questions(libvirtd: Libvirtd) -> None:
    sshd = Sshd("MaxSessions 3")
    try:
        with sshd.connect() as host, Hypervisor(host, libvirtd.uri) as hypervisor, ExitStack() as streams:
            for _ in range(2):
                streams.enter_context(hypervisor.domain.event(event="lifecycle"))
            assert hypervisor.generic.nodeinfo()["cpus"] > 0
            streams.enter_context(hypervisor.network.event(event="lifecycle"))
            assert hypervisor.generic.uri() == hypervisor.uri
    finally:
        sshd.remove()


def test_held_sessions_are_named_where_no_other_can_be_had() -> None:
    sshd = Sshd("MaxSessions 2")
    try:
        with sshd.connect() as host:
            held = host.popen(["sleep", "61"])
            sshd.process.kill()  # what listens, not what serves the connection
            sshd.process.wait()
            with pytest.raises(unix.ConnectError, match=r"all 1 sessions to .* are held, by sleep 61; and .* refused"):
                host.execute("true")
            held.end()
            assert host.execute("true").status
    finally:
        sshd.remove()


def test_stopped_ssh_holds_no_command_past_its_timeout(gate: Sshd) -> None:
    with gate.connect() as host:
        master = host._connection._master  # type: ignore[union-attr]
        os.kill(master.pid, signal.SIGSTOP)
        try:
            for _ in range(150):  # until no more fit into what is accepted
                with pytest.raises(unix.CommandTimeoutError):
                    host.run(["true"], timeout=0.005)
        finally:
            os.kill(master.pid, signal.SIGCONT)
        assert host.execute("true").status


# -- logins that talk


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_endless_login_ends_at_the_timeout(gate: Sshd, tmp_path: Path, stream: str) -> None:
    key = key_with(gate, tmp_path, f"yes welcome {stream}")
    with pytest.raises(unix.ConnectError, match=r"did not run a command within 1\.5 s|printed more than 8 MiB"):
        gate.connect(key_filename=key, timeout=1.5)


def test_login_that_never_stops_talking_is_refused(gate: Sshd, tmp_path: Path) -> None:
    key = key_with(gate, tmp_path, "yes welcome")
    with pytest.raises(unix.ConnectError, match="its login printed more than 8 MiB"):
        gate.connect(key_filename=key, timeout=600)


def test_greeting_of_megabytes_is_skipped(gate: Sshd, tmp_path: Path) -> None:
    key = key_with(gate, tmp_path, "head -c 3000000 /dev/zero | tr '\\0' m; eval \"$SSH_ORIGINAL_COMMAND\"")
    with gate.connect(key_filename=key) as host:
        assert host.execute("echo", "here").stdout == "here\n"


def test_command_of_a_login_that_turns_endless_ends(gate: Sshd, tmp_path: Path) -> None:
    talks = tmp_path / "talks"
    key = key_with(gate, tmp_path, f'[ ! -e {talks} ] || exec yes; eval "$SSH_ORIGINAL_COMMAND"')
    with gate.connect(key_filename=key) as host:
        assert host.execute("true").status
        talks.touch()
        with pytest.raises(unix.CommandTimeoutError):
            host.run(["true"], timeout=0.05)
        with pytest.raises(unix.UnixError, match="did not run true: its login printed more than 8 MiB"):
            host.run(["true"])


def test_flood_of_ssh_s_messages_takes_one_mebibyte(gate: Sshd) -> None:
    flood = f"yes noise | head -c 30000000 >&2; exec nc 127.0.0.1 {gate.port}"
    with gate.connect(options={"ProxyCommand": flood}) as host:
        assert host.execute("echo", "here").stdout == "here\n"
        master = host._connection._master  # type: ignore[union-attr]
        assert os.stat(f"/proc/{master.pid}/fd/2").st_size == 1 << 20


@system_only
def test_bashrc_that_becomes_zsh_runs_commands(gate: Sshd) -> None:
    (gate.home / "users" / "tbash" / ".bashrc").write_text("exec zsh\n")
    try:
        with gate.connect(username="tbash") as host:
            assert host.run(["printf", "%s,", "a b", "$x", "*"]).stdout == "a b,$x,*,"
            assert host.run(["cat"], input="line\n" * 3).stdout == "line\n" * 3
            assert not host.execute("no-such-command").status
    finally:
        (gate.home / "users" / "tbash" / ".bashrc").unlink()


@system_only
def test_bashrc_that_becomes_another_program_is_suspected(gate: Sshd) -> None:
    (gate.home / "users" / "tbash" / ".bashrc").write_text("exec fish\n")
    try:
        with pytest.raises(unix.ConnectError, match=r"did not run a command within 2 s\. Do its scripts"):
            gate.connect(username="tbash", timeout=2)
    finally:
        (gate.home / "users" / "tbash" / ".bashrc").unlink()


# -- what errors say


def test_banner_is_not_what_ssh_said(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs an sshd with a command for keys")
    banner = tmp_path / "banner"
    banner.write_text("Welcome to the zoo\n")
    sshd = Sshd(f"Banner {banner}", "AuthorizedKeysCommand /bin/sleep 60", "AuthorizedKeysCommandUser nobody")
    keygen(sshd.key)  # one that the file of keys does not have, so that the command is asked
    try:
        with pytest.raises(unix.ConnectError, match=r"no answer within 2 s\Z"):
            sshd.connect(timeout=2)
    finally:
        sshd.remove()


def test_refusal_behind_a_banner_quotes_ssh(gate: Sshd) -> None:
    with pytest.raises(unix.AuthenticationError, match=r"nobody@127\.0\.0\.1: Permission denied \(") as refused:
        gate.connect(key_filename="/dev/null", username="nobody")
    assert "owner" not in str(refused.value)


def test_missing_key_file_is_quoted(gate: Sshd, tmp_path: Path) -> None:
    with pytest.raises(unix.AuthenticationError, match=rf"no such identity: {tmp_path}/gone: No such file"):
        gate.connect(key_filename=tmp_path / "gone")


SECRET = "JBSWY3DPEHPK3PXP"


@pytest.fixture
def asking(request: pytest.FixtureRequest) -> Iterator[Sshd]:
    """An sshd that asks a question of PAM's, which is the test's parameter, and takes no answer."""
    if not list(Path("/lib").glob("*/security/pam_google_authenticator.so")):
        pytest.fail("this test needs pam_google_authenticator.so: `make test` installs it", pytrace=False)
    with tempfile.TemporaryDirectory() as directory:
        secret, rules = Path(directory, "secret"), Path(directory, "rules")
        secret.write_text(f'{SECRET}\n" TOTP_AUTH\n')
        secret.chmod(0o400)
        module = f"pam_google_authenticator.so secret={secret} user=root"
        rules.write_text(f"auth required {module} [authtok_prompt={request.param}]\naccount required pam_permit.so\n")
        sshd = Sshd("UsePAM yes", "KbdInteractiveAuthentication yes", pam=rules)
        yield sshd
        sshd.remove()


def one_time_password() -> str:
    """What `asking` lets in at the moment (RFC 6238), for these tests as a password."""
    digest = hmac.digest(base64.b32decode(SECRET), int(time.time() // 30).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{int.from_bytes(digest[start : start + 4], 'big') % (1 << 31) % 1_000_000:06}"


BY_QUESTION: dict[str, Any] = {
    "key_filename": None,
    "options": {"PubkeyAuthentication": "no", "PreferredAuthentications": "keyboard-interactive"},
}


@system_only
@pytest.mark.parametrize("asking", ["Erster Faktor: ", "One-time password for you: ", "PASSCODE:"], indirect=True)
def test_question_without_an_answer_is_quoted(asking: Sshd, request: pytest.FixtureRequest) -> None:
    question = request.node.callspec.params["asking"].strip()
    with pytest.raises(unix.AuthenticationError) as refused:
        asking.connect(password=one_time_password(), **BY_QUESTION)
    assert re.search(rf"Permission denied \(.* The host asked '.*{question} ?', which password=", str(refused.value))


@system_only
@pytest.mark.parametrize("asking", ["Passwort: ", "Mot de passe : ", "密码: "], indirect=True)
def test_question_for_the_password_is_answered(asking: Sshd) -> None:
    asking.connect(password=one_time_password(), **BY_QUESTION).disconnect()


# -- directories


@pytest.mark.parametrize("name", ["100% sure", "%h%r", "a b"])
def test_key_in_an_odd_directory_is_taken(gate: Sshd, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    key = shutil.copy(gate.key, tmp_path / name / "key")
    gate.connect(key_filename=key).disconnect()


@pytest.mark.parametrize("name", ['say "x"', "${HOME}", "50%"])
def test_ssh_connects_with_odd_temporary_directory(gate: Sshd, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has 107 bytes at most
        (directory := Path(short, name)).mkdir()
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        with gate.connect() as host:
            assert host.execute("true").status


CONNECTS = """
import sys, unix
arguments = dict(argument.split("=") for argument in sys.argv[1:])
try:
    with unix.connect("127.0.0.1", config="/dev/null", port=int(arguments.pop("port")), **arguments) as host:
        print(host.execute("echo", "here").stdout, end="")
except unix.ConnectError as error:
    print(error)
"""


def connecting_where(mounts: str, sshd: Sshd, **envs: str) -> str:
    """What a program prints that connects to an sshd, in a mount namespace with other mounts."""
    arguments = [f"port={sshd.port}", f"key_filename={sshd.key}", f"known_hosts={sshd.known_hosts}"]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{mounts}\nexec "$@"', "sh", sys.executable, "-c", CONNECTS, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **envs},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


@system_only
@pytest.mark.parametrize("options", ["ro", "nr_inodes=1"])
def test_full_temporary_directory_is_skipped(gate: Sshd, options: str) -> None:
    full = f"mount -t tmpfs -o {options} none /mnt"
    assert connecting_where(full, gate, TMPDIR="/mnt", XDG_RUNTIME_DIR="/mnt") == "here\n"


@system_only
def test_missing_directory_for_sockets_is_an_error(gate: Sshd) -> None:
    read_only = "for each in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o ro none $each; done"
    said = connecting_where(read_only, gate, TMPDIR="/tmp", XDG_RUNTIME_DIR="")
    expected = "cannot create a directory for the sockets of ssh (Read-only file system: /tmp/python-unix-0"
    assert said.startswith(expected)
