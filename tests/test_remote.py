"""Remote hosts over OpenSSH: connecting, refusing, commands through any shell, losses, and nothing left behind.

What a Remote has in common with this machine is tested with it, in the other modules.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import unix
from kvm import CannotConnectError, ConnectionLostError, Hypervisor, KvmError, NoVirshError
from libvirtd import Libvirtd
from proxy import Proxy
from sshd import PASSWORD, SHELLS, Sshd, keygen, user
from unix import connection
from waiting import wait_until

system_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can let in other users, or by password")


@pytest.fixture
def remote(sshd: Sshd) -> Iterator[unix.Remote]:
    with sshd.connect() as remote:
        yield remote


@pytest.fixture
def breakable() -> Iterator[Sshd]:
    """An sshd to break."""
    sshd = Sshd()
    yield sshd
    sshd.remove()


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[Proxy]:
    proxy = Proxy(sshd.port)
    yield proxy
    proxy.close()


def through(sshd: Sshd, proxy: Proxy, **more: Any) -> unix.Remote:
    """Connect through a proxy, whose port has no key of its own."""
    return sshd.connect(port=proxy.port, options={"HostKeyAlias": f"[127.0.0.1]:{sshd.port}"}, **more)


def is_gone(pid: int | str) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def ssh_processes() -> list[int]:
    """The ssh processes that this one has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "ssh\n"]


def control_sockets() -> list[Path]:
    directories = [Path(tempfile.gettempdir()), Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"))]
    return [path for each in directories for path in each.glob(f"python-unix-{os.geteuid()}/*")]


# -- connecting


def test_a_connection_is_a_context_manager_and_leaves_nothing(sshd: Sshd) -> None:
    before = (ssh_processes(), control_sockets(), len(os.listdir("/proc/self/fd")))
    with unix.connect(**sshd.arguments()) as host:
        assert host.execute("echo", "here").stdout == "here\n"
        (ours,) = set(ssh_processes()) - set(before[0])
        (socket,) = set(control_sockets()) - set(before[1])
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        process = host.popen(["sleep", "60"])
    assert is_gone(ours)
    wait_until(lambda: is_gone(process.pid))
    process.end()
    assert (ssh_processes(), control_sockets(), len(os.listdir("/proc/self/fd"))) == before
    with pytest.raises(unix.ConnectError, match=r"not connected: call connect\(host\)"):
        host.execute("true")


def test_an_exception_ends_the_connection_too(sshd: Sshd) -> None:
    before = (ssh_processes(), control_sockets())
    with pytest.raises(KeyError), sshd.connect() as host:
        host.execute("true")
        raise KeyError
    assert (ssh_processes(), control_sockets()) == before


def test_another_thread_ends_an_attempt_to_connect() -> None:
    remote, failed = unix.Remote(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing

        def connect() -> None:
            with pytest.raises(unix.ConnectError):
                remote.connect("127.0.0.1", port=silent.getsockname()[1], config="/dev/null", timeout=60)
            failed.set()

        thread = threading.Thread(target=connect)
        thread.start()
        with silent.accept()[0]:
            remote.disconnect()
            assert failed.wait(20)
            thread.join()


def test_an_alias_of_the_configuration_with_all_that_it_says(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host hv\n  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {sshd.known_hosts}\n  RemoteCommand echo wrong\n  RequestTTY force\n  LogLevel QUIET\n"
        f"  LocalForward {sshd.port} localhost:1\n  ControlPath {tmp_path}/no\n  ControlMaster auto\n"
        f'Match host hv exec "true"\n  User {user()}\n'
    )
    with unix.connect("hv", config=config) as host:
        assert (host.execute("id", u=True, n=True).stdout, str(host)) == (f"{user()}\n", "hv")
    assert not (tmp_path / "no").exists()


def test_aes_is_preferred_unless_a_configuration_says_something_else(tmp_path: Path) -> None:
    if not re.search(r"^(flags|Features)\s*:.*\baes\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
        pytest.skip("this CPU has no instructions for AES")
    talkative = Sshd("LogLevel DEBUG1")
    more = tmp_path / "more"
    more.write_text("Host *\n")

    def cipher(config: str = "", **options: str) -> str:
        (tmp_path / "config").write_text(config)
        with talkative.connect(config=tmp_path / "config", options=options):
            return str(re.findall(r"kex: client->server cipher: (\S+)", talkative.log())[-1])

    try:
        assert cipher() == "aes128-gcm@openssh.com"
        assert cipher("# no Ciphers\nHost none\n  User x\n") == "aes128-gcm@openssh.com"
        assert cipher("Host 127.*\n  ciphers=aes192-ctr\n") == "aes192-ctr"
        assert cipher(Ciphers="aes256-ctr") == "aes256-ctr"
        plain = cipher(Ciphers="+aes128-ctr")
        assert cipher(f"Include {more}\n") == plain
    finally:
        talkative.remove()


def test_a_jump_host_and_a_proxy_command(sshd: Sshd, breakable: Sshd, tmp_path: Path) -> None:
    breakable.known_hosts.write_text(breakable.known_hosts.read_text() + sshd.known_hosts.read_text())
    (breakable.home / "authorized_keys").write_text((sshd.home / "key.pub").read_text())
    config = tmp_path / "config"
    common = f"  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {breakable.known_hosts}\n"
    config.write_text(f"Host gate\n  HostName 127.0.0.1\n  Port {breakable.port}\n{common}")
    with sshd.connect(config=config, known_hosts=breakable.known_hosts, options={"ProxyJump": "gate"}) as host:
        assert host.execute("echo", "behind").stdout == "behind\n"
        assert "Accepted publickey" in breakable.log()
    netcat = f"{sys.executable} {Path(__file__).parent}/bin/netcat 127.0.0.1 {sshd.port}"
    with sshd.connect(options={"ProxyCommand": netcat}) as host:
        assert host.execute("true")


def test_ipv6(sshd: Sshd) -> None:
    with sshd.connect(host="::1") as host:
        assert host.execute("true")


def test_a_port_is_read_from_the_host_in_every_form(sshd: Sshd) -> None:
    for host in ("127.0.0.1:{}", "[::1]:{}", "ssh://{}@127.0.0.1:{}", "ssh://[::1]:{}/", "{}@[::1]:{}"):
        written = host.format(*([user(), sshd.port] if host.count("{}") == 2 else [sshd.port]))
        with sshd.connect(host=written, port=None) as remote:
            assert remote.execute("id", u=True, n=True).stdout == f"{user()}\n"
            assert str(remote) == written.removeprefix("ssh://").rstrip("/")


@pytest.mark.parametrize(
    "host", ["h:0", "h:65536", "h:x", "h:", "@h", "[::1]:x", "[::1", "ssh://h:1/x", "ssh://", "a@-h"]
)
def test_a_host_with_a_wrong_port_is_refused(host: str) -> None:
    with pytest.raises(unix.ArgumentError, match="a host must be a text such as"):
        unix.connect(host)


def test_option_that_contradicts_the_host_is_refused() -> None:
    with pytest.raises(unix.ArgumentError, match=r"port=23 contradicts the host '127\.0\.0\.1:22'"):
        unix.connect("127.0.0.1:22", port=23)
    with pytest.raises(unix.ArgumentError, match=r"username='b' contradicts the host 'a@127\.0\.0\.1'"):
        unix.connect("a@127.0.0.1", username="b")


def test_a_key_with_a_passphrase_in_the_agent(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    keygen(key, passphrase="secret")
    authorized = sshd.home / "authorized_keys"
    authorized.write_text(authorized.read_text() + key.with_suffix(".pub").read_text())
    with pytest.raises(unix.AuthenticationError, match=r"passphrase has to be in the agent \(ssh-add\)"):
        sshd.connect(key_filename=key)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "agent").exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        askpass = tmp_path / "askpass"
        askpass.write_text("#!/bin/sh\necho secret\n")
        askpass.chmod(0o700)
        env = {**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, stdin=subprocess.DEVNULL)
        with sshd.connect(key_filename=key) as host:
            assert host.execute("true")
    finally:
        agent.terminate()
        agent.wait()


@system_only
def test_a_password_which_nobody_sees(sshd: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    seen: list[bytes] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for process in filter(str.isdecimal, os.listdir("/proc")):
                for file in ("cmdline", "environ") if int(process) != os.getpid() else ("cmdline",):
                    with contextlib.suppress(OSError):
                        seen.append(Path(f"/proc/{process}/{file}").read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        by_password = {"key_filename": None, "options": {"PubkeyAuthentication": "no"}}
        with sshd.connect(username="tfish", password=PASSWORD, **by_password) as host:
            assert host.execute("id", "-un").stdout == "tfish\n"
            assert PASSWORD not in repr(host) + str(host)
            assert PASSWORD.encode() not in pickle.dumps(host)
        with pytest.raises(unix.AuthenticationError) as refused:
            sshd.connect(password=f"{PASSWORD}, but wrong", **by_password)
        assert PASSWORD not in str(refused.value)
    finally:
        stop.set()
        watcher.join()
    assert len(seen) > 100
    assert not any(PASSWORD.encode() in each for each in seen)
    assert PASSWORD not in caplog.text
    assert control_sockets() == [] or all(path.is_socket() for path in control_sockets())


@system_only
def test_a_password_is_only_told_to_the_host_that_it_is_for(sshd: Sshd, breakable: Sshd, tmp_path: Path) -> None:
    """The jump host has the same name, and would take the same password, if it was told it."""
    config = tmp_path / "config"
    config.write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {breakable.port}\n  UserKnownHostsFile {breakable.known_hosts}\n"
        "Host *\n  PubkeyAuthentication no\n"
    )
    with pytest.raises(unix.ConnectError):
        sshd.connect(password=PASSWORD, key_filename=None, config=config, options={"ProxyJump": "gate"})
    assert "Accepted password" not in breakable.log()


@system_only
def test_a_password_for_a_host_whose_key_has_another_name(sshd: Sshd) -> None:
    options = {"PubkeyAuthentication": "no", "HostKeyAlias": f"[127.0.0.1]:{sshd.port}"}
    sshd.connect(username="tsh", password=PASSWORD, key_filename=None, options=options).disconnect()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"port": 1}, unix.ConnectError, r"cannot connect to 127\.0\.0\.1:1: .*Connection refused"),
        ({"host": "no-such-host.invalid"}, unix.ConnectError, "Could not resolve hostname no-such-host.invalid"),
        ({"key_filename": "/dev/null"}, unix.AuthenticationError, "Permission denied"),
        ({"options": {"NoSuchOption": "1"}}, unix.ConnectError, "Bad configuration option"),
        ({"config": "/nowhere"}, unix.ConnectError, "/nowhere"),
        ({"host": "-oProxyCommand=touch /tmp/x"}, unix.ArgumentError, "a host must be a text such as"),
        ({"host": "a b"}, unix.ArgumentError, "without blanks"),
        ({"host": ""}, unix.ArgumentError, "a host must be"),
        ({"username": "-x"}, unix.ArgumentError, "a username is"),
        ({"host_key": "anything"}, unix.ArgumentError, "'known' or 'accept-new'"),
    ],
)
def test_what_is_wrong_is_said(sshd: Sshd, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    before = (ssh_processes(), control_sockets(), len(os.listdir("/proc/self/fd")))
    with pytest.raises(error, match=message):
        sshd.connect(**arguments)
    assert (ssh_processes(), control_sockets(), len(os.listdir("/proc/self/fd"))) == before


def test_a_host_that_does_not_answer_is_given_up_in_time(sshd: Sshd, proxy: Proxy) -> None:
    proxy.silent = True
    with pytest.raises(unix.ConnectError, match=r"cannot connect to 127\.0\.0\.1:\d+: no answer within 1 s"):
        through(sshd, proxy, timeout=1)


def test_nothing_is_asked_on_the_terminal(sshd: Sshd, tmp_path: Path) -> None:
    program = (
        "import unix, sys\n"
        "try: unix.connect('127.0.0.1', port=int(sys.argv[1]), config='/dev/null', known_hosts='/dev/null')\n"
        "except unix.ConnectError as error: print(type(error).__name__)\n"
    )
    command = f'{sys.executable} -c "{program}" {sshd.port}'
    shown = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, str(tmp_path / "typescript")],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False,
    ).stdout  # fmt: skip
    assert shown.split() == ["HostKeyError"]


# -- host keys


def fingerprint(sshd: Sshd) -> str:
    told = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.home / "host_key.pub")], capture_output=True, text=True, check=True
    )
    return told.stdout.split()[1]


def command_in(message: str, program: str) -> str:
    found = re.search(rf"{program} -.*?(?= ;)", message)
    assert found, message
    return found[0]


def test_an_unknown_host_key_is_refused_until_the_command_that_is_told_accepts_it(sshd: Sshd, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    with pytest.raises(unix.HostKeyError) as refused:
        sshd.connect(known_hosts=known_hosts)
    message = str(refused.value)
    assert f"the host key of [127.0.0.1]:{sshd.port} is not known: ED25519 {fingerprint(sshd)}" in message
    assert not known_hosts.exists()
    accept = command_in(message, "ssh").replace("ssh -o", f"ssh -i {sshd.key} -o", 1)
    subprocess.run(accept, shell=True, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    sshd.connect(known_hosts=known_hosts).disconnect()


def test_accept_new_accepts_what_is_new_and_nothing_that_has_changed(breakable: Sshd, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known hosts"
    breakable.connect(known_hosts=known_hosts, host_key="accept-new").disconnect()
    assert fingerprint(breakable)
    breakable.new_host_key()
    breakable.stop()
    breakable.start()
    for host_key in ("known", "accept-new"):
        with pytest.raises(unix.HostKeyError) as refused:
            breakable.connect(known_hosts=known_hosts, host_key=host_key)
        message = str(refused.value)
        assert f"[127.0.0.1]:{breakable.port} has changed to ED25519 {fingerprint(breakable)}" in message
    subprocess.run(command_in(message, "ssh-keygen"), shell=True, check=True, capture_output=True)
    breakable.connect(known_hosts=known_hosts, host_key="accept-new").disconnect()


# -- commands


@system_only
@pytest.mark.parametrize("shell", SHELLS)
def test_words_arrive_through_any_login_shell_whatever_its_scripts_print(sshd: Sshd, shell: str) -> None:
    home = sshd.home / "users" / f"t{shell}"
    scripts = {"bash": ".bashrc", "zsh": ".zshenv", "fish": ".config/fish/config.fish", "tcsh": ".cshrc"}
    if shell in scripts:
        script = home / scripts[shell]
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(
            "echo noise from the scripts\nsh -c 'echo more noise >&2; printf unfinished'\n"
            "head -c 100000 /dev/zero\nsh -c 'head -c 100000 /dev/zero >&2'\n"
        )
    words = ["a'b\"c$d`e\\f!g", "nh\té😀\udcff", "* ~ {a,b} [x]", "-- # %s \\n", "", "\n", "a\n", "x" * 100_000]
    with sshd.connect(username=f"t{shell}") as host:
        printed = host.execute("printf", "%s\\0", *words)
        assert printed.stdout.split("\0")[:-1] == words
        assert printed.stderr == ""
        result = host.execute("sh", "-c", "cat; echo err >&2; exit 7")
        assert (*result, result.return_code) == (False, "", "err\n", 7)
        assert host.run(["cat"], input=b"\0\xff\n").stdout == "\0\udcff\n"
        assert host.execute("id", "-un").stdout == f"t{shell}\n"
        if not os.environ.get("VIRSH"):  # which may be behind another root, where only root can go
            with Hypervisor(host, "test:///default") as hypervisor:
                assert hypervisor.domain.state("test") == "running"


def test_every_exit_status_and_signal_is_told_apart(remote: unix.Remote) -> None:
    statuses = (0, 1, 126, 127, 128, 129, 130, 137, 143, 254, 255)
    assert [remote.execute("sh", "-c", f"exit {status}").return_code for status in statuses] == list(statuses)
    signals = (1, 2, 9, 13, 15)
    killed = [remote.execute("sh", "-c", f"echo partial >&2; kill -{number} $$") for number in signals]
    assert [result.return_code for result in killed] == [-number for number in signals]
    assert {result.stderr for result in killed} == {"partial\n"}


def test_a_signal_is_told_apart_from_what_is_still_written_to_standard_error(host: unix.Host) -> None:
    late = "(sleep 0.3; echo late >&2) & echo early >&2; kill -9 $$"
    result = host.execute("sh", "-c", late)
    assert (*result, result.return_code) == (False, "", "early\nlate\n", -9)
    assert list(host.iter("sh", "-c", late)) == [("stderr", "early"), ("stderr", "late"), ("status", False)]


def test_a_command_may_signal_its_own_group(host: unix.Host) -> None:
    assert host.execute("sh", "-c", "kill 0; sleep 5").return_code == -15


def test_a_host_whose_awk_cannot_tell_signals_still_tells_that_of_a_killed_program(remote: unix.Remote) -> None:
    connection = remote._connected()
    connection.facts = connection.facts._replace(awk=None)
    assert remote.execute("sh", "-c", "echo x; kill -9 $$").return_code == -9
    assert tuple(remote.execute("sh", "-c", "echo out; echo err >&2; exit 3")) == (False, "out\n", "err\n")


def test_a_command_line_that_is_too_long_is_said_so(remote: unix.Remote) -> None:
    result = remote.execute("echo", "x" * 2_000_000)
    assert (result.return_code, result.stderr) == (126, "echo: Argument list too long\n")


def test_environment_of_any_name_arrives(remote: unix.Remote) -> None:
    with remote.set_controls(envs={"A": "x 'y\n", "odd-name.1": "é", "PATH": "/usr/bin:/bin"}):
        told = remote.execute("env", "-0").stdout.split("\0")
        assert {"A=x 'y\n", "odd-name.1=é", "PATH=/usr/bin:/bin"} <= set(told)
        assert remote.run(["cat"], input="x").stdout == "x"
    with remote.set_controls(envs={"PATH": "/nowhere"}):
        assert remote.execute("/bin/echo", "x").stdout == "x\n"
        assert remote.execute("ls").return_code == 127


def test_environment_of_a_shell_s_own_names_arrives(host: unix.Host) -> None:
    names = ["state", "program", "line", "user", "w0", "unix_state", "OPTIND", "PPID", "UID", "PWD", "IFS", "_", "PS1"]
    with host.set_controls(envs=dict.fromkeys(names, "it's")):
        told = host.execute("env", "-0").stdout.split("\0")
    assert {f"{name}=it's" for name in names} <= set(told)


def test_a_remote_without_c_utf_8_gets_the_next_best_locale(remote: unix.Remote) -> None:
    connection = remote._connected()
    for known, expected in (
        ({"C", "POSIX", "de_DE.utf8", "en_US.utf8"}, "en_US.utf8"),
        ({"C", "de_DE.UTF-8"}, "de_DE.UTF-8"),
        ({"C", "POSIX"}, "C"),
        ({"C", "C.utf8", "en_US.utf8"}, "C.UTF-8"),
    ):
        connection.facts = connection.facts._replace(locales=frozenset(known))
        assert remote.execute("sh", "-c", "echo $LC_ALL").stdout == f"{expected}\n"
    with remote.set_controls(locale="fr_FR"):
        assert remote.execute("sh", "-c", "echo $LC_ALL").stdout == "fr_FR\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an sshd that is not root's gives no terminal")
def test_a_terminal_is_handed_over(sshd: Sshd, tmp_path: Path) -> None:
    program = (
        "import unix, sys, pickle\n"
        f"with pickle.load(open('{tmp_path}/remote', 'rb')) as host:\n"
        "    script = 'test -t 0 && test -t 1 && read x && echo got $x; exit 5'\n"
        "    print(host.interactive('sh', '-c', script).return_code)\n"
    )
    with sshd.connect() as host:
        (tmp_path / "remote").write_bytes(pickle.dumps(host))
    (tmp_path / "program").write_text(program)
    command = f"{sys.executable} {tmp_path}/program"
    shown = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, str(tmp_path / "typescript")],
        input="line\n", capture_output=True, text=True, timeout=30, check=False,
    ).stdout  # fmt: skip
    assert "got line" in shown
    assert shown.split()[-1] == "5"


@system_only
def test_a_login_shell_that_times_out_ends_nothing(tmp_path: Path) -> None:
    """Where /bin/sh is bash, which has TMOUT for the time that `read` may take."""
    sshd = Sshd(sh="/bin/bash")
    try:
        (sshd.home / "users" / "tbash" / ".bashrc").write_text("export TMOUT=1\n")
        with sshd.connect(username="tbash") as host:
            assert host.execute("sh", "-c", '[ -n "$BASH_VERSION" ] && sleep 3 && echo done').stdout == "done\n"
            assert host.execute("sh", "-c", "echo $TMOUT").stdout == "1\n"
    finally:
        sshd.remove()


@system_only
def test_what_login_scripts_print_later_ends_nothing(sshd: Sshd) -> None:
    script = sshd.home / "users" / "tbash" / ".bashrc"
    script.write_text("(sleep 0.5; echo late) &\n")
    try:
        with sshd.connect(username="tbash") as host, ThreadPoolExecutor(1) as threads:
            done = threads.submit(host.execute, "sh", "-c", "sleep 1.5; echo done")
            time.sleep(1)
            assert host.execute("echo", "two").stdout.startswith("two\n")
            assert "done\n" in done.result().stdout
    finally:
        script.unlink()


# -- losses


def test_a_connection_that_was_lost_while_idle_is_made_anew(remote: unix.Remote) -> None:
    assert remote.execute("true")
    for number in (signal.SIGKILL, signal.SIGTERM):
        os.kill(remote._connected()._master.pid, number)
        assert remote.execute("echo", "again").stdout == "again\n"
    os.unlink(remote._connected()._socket)
    assert remote.execute("echo", "again").stdout == "again\n"


def kill_the_ssh(sshd: Sshd, host: unix.Remote) -> None:
    os.kill(host._connected()._master.pid, signal.SIGKILL)


def kill_the_sshd(sshd: Sshd, host: unix.Remote) -> None:
    sshd.stop()
    sshd.start()


@pytest.mark.parametrize("end", [kill_the_ssh, kill_the_sshd])
def test_a_command_under_way_is_lost_with_the_connection_and_not_repeated(
    breakable: Sshd, tmp_path: Path, end: Callable[[Sshd, unix.Remote], None]
) -> None:
    with breakable.connect() as host:
        with ThreadPoolExecutor(1) as threads:  # the sshd has to be started by a thread that goes on
            lost = threads.submit(host.execute, "sh", "-c", f"echo $$ >> {tmp_path}/ran; sleep 60")
            wait_until((tmp_path / "ran").exists)
            end(breakable, host)
            with pytest.raises(unix.ConnectionLostError, match=r"lost the connection to 127\.0\.0\.1"):
                lost.result()
        assert host.execute("echo", "again").stdout == "again\n"
        (pid,) = (tmp_path / "ran").read_text().split()
        wait_until(lambda: is_gone(pid))


def test_process_ended_with_its_connection_is_lost(remote: unix.Remote, tmp_path: Path) -> None:
    by_its_own_hand = remote.execute("sh", "-c", "kill -TERM $$")
    assert by_its_own_hand.return_code == -signal.SIGTERM
    with ThreadPoolExecutor(1) as threads:
        lost = threads.submit(remote.execute, "sh", "-c", f"echo half; touch {tmp_path}/begun; sleep 1000")
        wait_until((tmp_path / "begun").exists)
        remote.disconnect()
        with pytest.raises(unix.ConnectionLostError, match=r"sh was ended with the connection to 127\.0\.0\.1"):
            lost.result()


def test_a_network_that_goes_silent_is_found_out_by_keepalives(sshd: Sshd, proxy: Proxy) -> None:
    with through(sshd, proxy, keepalive=1, timeout=8) as host, Hypervisor(host, "test:///default") as hypervisor:
        hypervisor.generic.nodeinfo()
        threading.Timer(0.5, lambda: setattr(proxy, "silent", True)).start()
        with pytest.raises(unix.ConnectionLostError, match=r"lost the connection to 127\.0\.0\.1.*not responding"):
            host.execute("sleep", 1000)
        with pytest.raises(unix.ConnectError, match="no answer within 8 s"):
            host.execute("true")
        proxy.silent = False
        assert host.execute("true")


def test_a_timeout_ends_also_what_had_begun_before_it_was_known_to(sshd: Sshd, proxy: Proxy, tmp_path: Path) -> None:
    with through(sshd, proxy) as host:
        proxy.delay = 0.3
        for timeout in (0.9, 1.0, 1.1, 1.2, 1.3):
            with host.set_controls(timeout=timeout), contextlib.suppress(unix.CommandTimeoutError):
                host.execute("sh", "-c", f"echo $$ >> {tmp_path}/pids; sleep 60")
        proxy.delay = 0
    pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    wait_until(lambda: all(map(is_gone, pids)))


def test_a_ctrl_c_ends_what_had_begun_wherever_it_comes(
    remote: unix.Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between two of the digits that tell which process it is."""
    remote.execute("true")
    wait_for = connection._wait_for
    waits: Iterator[int] = iter(())

    def interrupted(*arguments: Any) -> list[int]:
        if next(waits, None) == 0:
            raise KeyboardInterrupt
        return wait_for(*arguments)

    monkeypatch.setattr(connection, "_wait_for", interrupted)
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    for number in range(100):
        waits = iter(range(number, -1, -1))
        try:
            process = remote.popen(["sh", "-c", f"echo $$ >> {tmp_path}/pids; exec sleep 60"])
        except KeyboardInterrupt:
            continue
        break  # it came no more
    waits = iter(())
    process.end()
    assert 10 < number < 99
    wait_until(lambda: all(map(is_gone, (tmp_path / "pids").read_text().split())))
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_socket_that_is_gone_leaves_what_runs_alone(remote: unix.Remote, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(remote.execute, "sh", "-c", f"touch {tmp_path}/runs; sleep 1; echo done")
        wait_until((tmp_path / "runs").exists)
        os.unlink(remote._connected()._socket)
        assert remote.execute("echo", "new").stdout == "new\n"
        assert running.result().stdout == "done\n"


def test_those_who_wait_for_a_host_that_is_down_wait_no_longer_than_the_first(sshd: Sshd, proxy: Proxy) -> None:
    with through(sshd, proxy, timeout=3) as host:
        proxy.silent = True
        kill_the_ssh(sshd, host)
        before = proxy.accepted
        with ThreadPoolExecutor(6) as threads:
            errors = [each.exception() for each in [threads.submit(host.execute, "true") for _ in range(6)]]
        assert {type(error) for error in errors} == {unix.ConnectError}
        assert proxy.accepted - before < 6


def test_a_timeout_holds_while_the_network_is_silent(sshd: Sshd, proxy: Proxy) -> None:
    with through(sshd, proxy) as host:
        process = host.popen(["cat"])
        proxy.silent = True
        with host.set_controls(timeout=0.5), pytest.raises(unix.CommandTimeoutError):
            host.execute("true")
        process.end()


@pytest.mark.parametrize("end", [kill_the_ssh, kill_the_sshd])
def test_after_a_loss_reads_are_asked_again_and_actions_never(
    breakable: Sshd, libvirtd: Libvirtd, end: Callable[[Sshd, unix.Remote], None]
) -> None:
    with breakable.connect() as host, Hypervisor(host, libvirtd.uri) as hypervisor:
        assert hypervisor.generic.uri() == libvirtd.uri
        end(breakable, host)
        assert hypervisor.generic.uri() == libvirtd.uri
        end(breakable, host)
        with pytest.raises(KvmError) as failed:
            hypervisor.domain.start("nobody")
        assert not isinstance(failed.value, ConnectionLostError)


def test_an_action_that_was_under_way_is_reported_as_unknown(breakable: Sshd, libvirtd: Libvirtd) -> None:
    if os.geteuid() != 0:
        pytest.skip("only a system daemon can be stopped here")
    with breakable.connect({"timeout": 60}) as host, Hypervisor(host, libvirtd.uri) as hypervisor:
        hypervisor.domain.list()  # and all modules are loaded
        with libvirtd.stopped():
            threading.Timer(0.5, kill_the_ssh, [breakable, host]).start()
            with pytest.raises(
                ConnectionLostError, match=r"lost the connection to 127.*the outcome of destroy is unknown"
            ):
                hypervisor.domain.destroy("nobody")
            with hypervisor.pipeline() as pipe:
                pipe.generic.uri()
                pipe.domain.destroy("nobody")
                threading.Timer(0.5, kill_the_ssh, [breakable, host]).start()
                threading.Timer(1.5, libvirtd.go_on).start()
                uri, error = pipe.execute(raise_on_error=False)
        assert uri == libvirtd.uri
        assert isinstance(error, KvmError)
        assert hypervisor.generic.uri() == libvirtd.uri


def test_an_action_whose_echo_is_lost_on_its_way_back_is_not_repeated(
    sshd: Sshd, proxy: Proxy, libvirtd: Libvirtd
) -> None:
    here = Hypervisor(unix.Local(), libvirtd.uri)

    def break_when_done() -> None:
        wait_until(lambda: "gone" not in here.pool.list(all=True))
        proxy.delay = 0
        proxy.forget()

    with through(sshd, proxy) as host, Hypervisor(host, libvirtd.uri) as hypervisor, ThreadPoolExecutor(1) as threads:
        hypervisor.pool.define_as("gone", "dir", target="/tmp")
        proxy.delay = 0.5
        broken = threads.submit(break_when_done)
        with pytest.raises(ConnectionLostError, match="the outcome of pool-undefine is unknown"):
            hypervisor.pool.undefine("gone")
        broken.result()
        assert hypervisor.generic.uri() == libvirtd.uri


def test_a_host_that_is_gone_is_said_so_by_its_name(breakable: Sshd, libvirtd: Libvirtd) -> None:
    with breakable.connect() as host, Hypervisor(host, libvirtd.uri) as hypervisor:
        hypervisor.generic.uri()
        breakable.stop()
        with pytest.raises(CannotConnectError, match=r"cannot connect to 127\.0\.0\.1:\d+: .*refused$"):
            hypervisor.generic.uri()
        breakable.start()
        assert hypervisor.generic.uri() == libvirtd.uri


def test_a_connection_that_breaks_while_xml_is_handed_over_is_an_error_of_kvm(remote: unix.Remote) -> None:
    guest = {"@type": "test", "name": "guest", "memory": 8192, "os": {"type": "hvm"}}
    for pause in (0.0, 0.01, 0.02, 0.03, 0.05):
        with Hypervisor(remote, "test:///default") as hypervisor:
            hypervisor.generic.uri()
            killer = threading.Timer(pause, os.kill, [remote._connected()._master.pid, signal.SIGKILL])
            killer.start()
            with contextlib.suppress(KvmError):
                for _ in range(20):
                    hypervisor.domain.define(guest)
            killer.join()


def test_no_virsh_is_said_so_with_the_host_s_name(remote: unix.Remote) -> None:
    with remote.set_controls(envs={"PATH": "/nowhere"}), pytest.raises(NoVirshError, match=r"no virsh on 127\.0\.0\.1"):
        Hypervisor(remote, "test:///default").generic.uri()


# -- files


def test_200_megabytes_go_both_ways_without_being_held_in_memory(remote: unix.Remote, tmp_path: Path) -> None:
    block, count = os.urandom(1 << 20), 200
    with remote.open(tmp_path / "file", "w") as file:
        for _ in range(count):
            file.write(block)
        assert os.listdir(tmp_path) != ["file"]
    assert (tmp_path / "file").stat().st_size == count << 20
    peak = resident()
    with remote.open(tmp_path / "file") as file:
        for _ in range(count):
            assert file.read(1 << 20) == block
            peak = max(peak, resident())
        assert file.read() == b""
    assert peak - resident() < 20e6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_write_that_breaks_off_leaves_no_half_file(breakable: Sshd, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("before")
    with breakable.connect() as host:
        with pytest.raises(KeyError), host.open(place, "w") as file:
            file.write(b"x" * 5_000_000)
            raise KeyError
        wait_until(lambda: os.listdir(tmp_path) == ["file"])
        with pytest.raises((unix.ConnectionLostError, OSError)), host.open(place, "w") as file:
            file.write(b"x" * 5_000_000)
            kill_the_ssh(breakable, host)
            for _ in range(50):
                file.write(b"x" * 5_000_000)
        assert place.read_text() == "before"
        wait_until(lambda: os.listdir(tmp_path) == ["file"])
        host.write(place, "after")
        assert place.read_text() == "after"


def test_many_files_are_written_at_once(remote: unix.Remote, tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: remote.write(tmp_path / str(number), str(number)), range(48)))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {str(n): str(n) for n in range(48)}


@system_only
def test_files_of_others_are_written_as_here_or_not_at_all(sshd: Sshd, tmp_path: Path) -> None:
    open_to_all = sshd.home / "shared"
    open_to_all.mkdir(exist_ok=True)
    open_to_all.chmod(0o777)
    closed, shared = open_to_all / "closed", open_to_all / "shared"
    for path, mode in ((closed, 0o644), (shared, 0o666)):
        path.write_text("before")
        path.chmod(mode)
    with sshd.connect(username="tsh") as host:
        with pytest.raises(PermissionError):
            host.write(closed, "after")
        host.write(shared, "after")
        assert (closed.read_text(), shared.read_text(), shared.stat().st_uid) == ("before", "after", 0)
        assert sorted(host.listdir(open_to_all)) == ["closed", "shared"]
        with host.set_controls(su="root"), pytest.raises((unix.UnixError, OSError), match="sudo"):
            host.exists("/etc/passwd")


def test_modes_of_files(remote: unix.Remote, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with remote.open(path, "x") as file:
        file.write(b"a")
    with pytest.raises(FileExistsError):
        remote.open(path, "xb")
    with remote.open(path, "ab") as file:
        file.write(b"b")
    assert path.read_bytes() == b"ab"
    with pytest.raises(ValueError, match="not with 'r\\+'"):
        remote.open(path, "r+")
    with pytest.raises(IsADirectoryError):
        remote.read(tmp_path)
    with pytest.raises(IsADirectoryError):
        remote.write(tmp_path, b"")
    with pytest.raises(NotADirectoryError):
        remote.listdir(path)
    with pytest.raises(FileNotFoundError):
        remote.read("")


# -- life cycle


def test_a_killed_program_leaves_nothing_here_or_there(sshd: Sshd, tmp_path: Path) -> None:
    program = (
        "import kvm, unix, os, signal, sys, pickle, time\n"
        f"host = pickle.load(open('{tmp_path}/remote', 'rb'))\n"
        "hypervisor = kvm.Hypervisor(host, 'test:///default'); hypervisor.generic.uri()\n"
        f"script = 'echo $$ > {tmp_path}/pid; trap : TERM; sleep 60; sleep 60'\n"
        "process = host.popen(['sh', '-c', script])\n"  # the supervisor knows of it then
        f"while not os.path.exists('{tmp_path}/pid') or not open('{tmp_path}/pid').read(): time.sleep(0.01)\n"
        "print(host._connected()._master.pid, host._connected()._socket, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with sshd.connect() as host:
        (tmp_path / "remote").write_bytes(pickle.dumps(host))
    before = len(sshd.sessions())
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout
    master, socket = printed.split()
    wait_until(lambda: is_gone(master))
    wait_until(lambda: is_gone((tmp_path / "pid").read_text().strip()))
    wait_until(lambda: len(sshd.sessions()) <= before)
    assert not os.path.exists(socket)


def test_a_remote_that_is_dropped_ends_its_connection(sshd: Sshd) -> None:
    before = set(ssh_processes())
    host = sshd.connect()
    (ours,) = set(ssh_processes()) - before
    del host
    gc.collect()
    wait_until(lambda: is_gone(ours))


def test_a_background_process_of_a_command_that_ended_lives_on(remote: unix.Remote, tmp_path: Path) -> None:
    script = f"sleep 60 > /dev/null 2>&1 & echo $! > {tmp_path}/pid"
    assert remote.execute("sh", "-c", script)
    remote.disconnect()
    pid = int((tmp_path / "pid").read_text())
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_remote_pickles_and_connects_where_it_lands(remote: unix.Remote) -> None:
    again = pickle.loads(pickle.dumps(remote))
    with again:
        assert again.execute("echo", "here").stdout == "here\n"
    with Hypervisor(remote, "test:///default") as hypervisor:
        hypervisor.generic.uri()
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            assert pool.map(state_of_test, [hypervisor] * 4) == ["running"] * 4


def state_of_test(hypervisor: Hypervisor) -> str:
    return hypervisor.domain.state("test")


def test_a_forked_child_connects_by_itself(remote: unix.Remote) -> None:
    process = remote.popen(["cat"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if remote.execute("echo", "child").stdout == "child\n" else 2
            remote.disconnect()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"still here\n")
    process.stdin.close()
    assert process.stdout.read() == b"still here\n"
    assert process.wait(60) == 0
    process.end()
    assert remote.execute("echo", "parent").stdout == "parent\n"


def test_a_fork_while_other_threads_run_commands_does_not_wait_for_them(remote: unix.Remote) -> None:
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            assert remote.execute("true")

    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(ask) for _ in range(2)]
        try:
            for _ in range(120):
                time.sleep(random.uniform(0, 0.01))
                if (child := os.fork()) == 0:
                    os._exit(0)  # what is done in a child has been done by now
                waiting = threading.Timer(60, os.kill, (child, signal.SIGKILL))
                waiting.start()
                assert os.waitpid(child, 0) == (child, 0)
                waiting.cancel()
        finally:
            over.set()
        for each in asking:
            each.result()


def test_many_threads_share_one_connection_and_wait_for_sshd_s_sessions(remote: unix.Remote) -> None:
    before = ssh_processes()
    with ThreadPoolExecutor(32) as threads:
        told = list(
            threads.map(lambda number: remote.execute("sh", "-c", f"sleep 0.1; echo {number}").stdout, range(64))
        )
    assert told == [f"{number}\n" for number in range(64)]
    assert ssh_processes() == before


def test_threads_of_a_hypervisor_share_the_connection(remote: unix.Remote, libvirtd: Libvirtd) -> None:
    with Hypervisor(remote, libvirtd.uri) as hypervisor:

        def ask(number: int) -> bool:
            return hypervisor.virsh("echo", str(number))[1] == f"{number}\n"

        with ThreadPoolExecutor(32) as threads:
            assert all(threads.map(ask, range(500)))


def test_more_sessions_than_sshd_allows_wait_no_longer_than_the_timeout(remote: unix.Remote) -> None:
    held = [remote.popen(["cat"]) for _ in range(9)]
    with remote.set_controls(timeout=0.5), pytest.raises(unix.CommandTimeoutError):
        remote.execute("true")
    threading.Timer(0.3, held[0].end).start()
    assert remote.execute("true")
    for process in held:
        process.end()


def test_a_command_that_waits_for_room_has_others_end_what_they_do_not_use(remote: unix.Remote) -> None:
    class Held:
        def __init__(self) -> None:
            self.processes = [remote.popen(["cat"]) for _ in range(9)]
            remote.when_full(self.end)

        def end(self) -> None:
            while self.processes:
                self.processes.pop().end()

    held = Held()
    assert remote.execute("echo", "room").stdout == "room\n"
    assert held.processes == []
    gone = Held()
    left, gone.processes = gone.processes, []
    del gone
    with remote.set_controls(timeout=0.8), pytest.raises(unix.CommandTimeoutError):
        remote.execute("true")
    for process in left:
        process.end()
    assert pickle.loads(pickle.dumps(remote)).execute("true")


def test_connecting_again_leaves_the_first_connection(remote: unix.Remote, sshd: Sshd) -> None:
    (first,) = ssh_processes()[-1:]
    remote.connect(**sshd.arguments(host="localhost"))
    assert is_gone(first)
    assert str(remote) == f"localhost:{sshd.port}"
    assert remote.execute("true")
