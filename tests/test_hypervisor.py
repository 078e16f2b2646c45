"""A Hypervisor: what it stands on, its controls, `virsh`, and the errors that a newcomer meets."""

from __future__ import annotations

import os
import pickle
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvm
import unix
from kvm import (
    CannotConnectError,
    CommandTimeoutError,
    ConnectionLostError,
    DeniedError,
    Hypervisor,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    NotSupportedError,
    NoVirshError,
    errors,
)
from kvm.virsh.command import Command, failure
from libvirtd import Libvirtd


@pytest.fixture
def offline(tmp_path: Path) -> Hypervisor:
    """A hypervisor on a machine without virsh."""
    return Hypervisor(unix.Local(envs={"PATH": str(tmp_path)}), "test:///default")


# -- what it stands on


def test_everything_that_the_host_can_do_can_be_asked_of_the_hypervisor(
    test_driver: Hypervisor, tmp_path: Path
) -> None:
    assert test_driver.execute("echo", "a b").stdout == "a b\n"
    assert test_driver.run(["cat"], input="x").stdout == "x"
    assert list(test_driver.iter("echo a")) == [("stdout", "a"), ("status", True)]
    with test_driver.popen(["cat"]) as process:
        assert process.poll() is None
    path = str(tmp_path / "dir" / "file")
    test_driver.mkdir(str(tmp_path / "dir"))
    test_driver.write(path, b"x")
    with test_driver.open(path) as file:
        assert file.read() == test_driver.read(path) == b"x"
    assert (test_driver.exists(path), test_driver.listdir(str(tmp_path / "dir"))) == (True, ["file"])
    test_driver.remove(path)
    assert test_driver.which("virsh") == test_driver.host.which("virsh")


def test_its_controls_are_its_host_s_and_parse() -> None:
    assert dict(kvm.CONTROLS) == {"parse": False}
    host = unix.Local(timeout=7)
    hypervisor = Hypervisor(host)
    assert hypervisor.controls == {**host.controls, "parse": False}
    with hypervisor.set_controls(parse=True, timeout=3):
        assert (hypervisor.get_control("parse"), host.get_control("timeout")) == (True, 3)
    assert (hypervisor.get_control("parse"), host.get_control("timeout")) == (False, 7)
    with host.set_controls(timeout=4):
        assert hypervisor.get_control("timeout") == 4
    with pytest.raises(unix.ControlError, match=r"there is no control 'prase'; the controls are .*parse"):
        hypervisor.set_control("prase", value=True)
    with pytest.raises(unix.ControlError, match="no control 'parse'"):
        host.set_control("parse", value=True)


@pytest.mark.parametrize("host", [None, "localhost", unix.Local])
def test_it_stands_on_a_host_only(host: object) -> None:
    with pytest.raises(TypeError, match=re.escape("host must be a unix.Host such as unix.Local()")):
        Hypervisor(host)  # type: ignore[arg-type]


def test_it_pickles_and_works_where_it_lands() -> None:
    again = pickle.loads(pickle.dumps(Hypervisor(unix.Local(timeout=9), "test:///default", check=False)))
    assert again.generic.uri() == "test:///default"
    assert (again.get_control("timeout"), again.check) == (9, False)


class Mine(Hypervisor):
    """A hypervisor of somebody's own."""

    mine = 0


def test_a_subclass_pickles_as_what_it_is() -> None:
    hypervisor = Mine(unix.Local(envs={"A": "1"}), "test:///default")
    hypervisor.mine = 5
    assert hypervisor.generic.uri() == "test:///default"
    again = pickle.loads(pickle.dumps(hypervisor))
    assert (type(again), again.mine, again.generic.uri()) == (Mine, 5, "test:///default")
    assert again.host.get_control("envs") == {"A": "1"}


def test_it_is_a_context_manager_and_can_be_used_again(test_driver: Hypervisor) -> None:
    with test_driver as entered:
        assert entered.generic.uri() == "test:///default"
    assert test_driver.generic.uri() == "test:///default"


def test_without_a_uri_virsh_takes_its_own_default(libvirtd: Libvirtd) -> None:
    host = unix.Local(envs={"LIBVIRT_DEFAULT_URI": libvirtd.uri})
    assert Hypervisor(host).generic.uri() == libvirtd.uri


def test_32_threads_get_their_own_answers(libvirtd: Libvirtd) -> None:
    hypervisor = Hypervisor(unix.Local(timeout=60), libvirtd.uri)
    other = Hypervisor(unix.Local(timeout=60), "test:///default")

    def ask(number: int) -> tuple[str, str, list[int]]:
        return (
            hypervisor.generic.uri(),
            other.generic.uri(),
            [len(other.generic.cpu_models(arch)) for arch in ("x86_64", "ppc64")],
        )

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, range(64)))
    assert answers == [ask(0)] * 64


# -- virsh


def test_virsh_returns_a_result_or_under_parse_the_lines(test_driver: Hypervisor) -> None:
    status, stdout, stderr = test_driver.virsh("list", all=True)
    assert (status, stderr) == (True, "")
    assert "test   running" in stdout
    with test_driver.set_controls(parse=True):
        assert test_driver.virsh("list", "--all", name=True) == ["test"]
        assert test_driver.virsh("domuuid test") == test_driver.virsh("domuuid", "test")
        with pytest.raises(NotFoundError, match="virsh dominfo: failed to get domain 'nobody'") as raised:
            test_driver.virsh("dominfo", "nobody")
    assert raised.value.command == ["dominfo", "nobody"]
    assert test_driver.virsh("dominfo", "nobody").return_code == 1  # type: ignore[union-attr]


def test_virsh_puts_options_after_the_command_and_its_arguments(test_driver: Hypervisor) -> None:
    with test_driver.set_controls(parse=True, options_place="before"):
        assert test_driver.virsh("domstate", "test", reason=True) == ["running (unknown)"]
        assert test_driver.virsh("echo", "a  b", "'c'", shell=False) == ["a  b 'c'"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), min_size=1), min_size=1))
def test_virsh_receives_arguments_as_they_are(arguments: list[str]) -> None:
    result = Hypervisor(unix.Local(), "test:///default").virsh("echo", "--", *arguments)
    assert result == (True, " ".join(arguments) + "\n", "")


def test_virsh_output_is_read_the_same_in_any_locale() -> None:
    host = unix.Local(
        locale="de_DE.UTF-8", decode="latin-1", envs={"LANGUAGE": "de", "LC_ALL": "de_DE.UTF-8"}, timeout=30
    )
    with Hypervisor(host, "test:///default") as hypervisor:
        assert hypervisor.list_domains() == {"test": {"id": 1, "state": "running"}}
        with pytest.raises(NotFoundError):
            hypervisor.domain.info("nobody")


def test_virsh_s_own_debugging_does_not_get_between_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRSH_DEBUG", "0")
    hypervisor = Hypervisor(unix.Local(envs={"A": "1"}), "test:///default")
    assert hypervisor.domain.info("test").keys() >= {"id", "name", "uuid"}
    assert "dominfo" not in hypervisor.domain.info("test")
    assert hypervisor.generic.cpu_models("x86_64")[0] == "486"


@pytest.mark.parametrize(
    "words",
    [
        ["set-user-password", "nobody", "root", "hunter2secret"],
        ["set-user-password", "--domain=nobody", "--user=root", "--password=hunter2secret"],
        ["set-user-password", "test", "root", "hunter2secret", "too much"],
        ["secret-set-value", "6695eb01-f6a4-4304-b9aa-97f2502e193f", "hunter2secret"],
        ["secret-set-value", "--secret=x", "hunter2secret"],
    ],
)
def test_a_secret_is_in_no_log_and_no_error(
    test_driver: Hypervisor, caplog: pytest.LogCaptureFixture, words: list[str]
) -> None:
    with caplog.at_level("DEBUG"), test_driver.set_controls(parse=True), pytest.raises(KvmError) as raised:
        test_driver.virsh(words[0], *words[1:])
    assert f"virsh {words[0]}" in caplog.text
    for shown in (caplog.text, str(raised.value), repr(raised.value), str(vars(raised.value))):
        assert "hunter2secret" not in shown


def test_secret_that_the_prompt_cannot_carry_is_refused(test_driver: Hypervisor) -> None:
    with pytest.raises(InvalidArgumentError, match="only valid UTF-8") as raised:
        test_driver.virsh("set-user-password", "test", "root", "hunter\udcff2secret")
    assert "2secret" not in str(raised.value)


# -- bad input


def test_no_virsh_is_said_with_the_package_to_install(offline: Hypervisor) -> None:
    with pytest.raises(NoVirshError, match=r"no virsh on this machine \(install the package libvirt-clients"):
        offline.generic.version()
    with pytest.raises(NoVirshError):
        offline.virsh("list")


def test_missing_virsh_names_the_path_that_was_searched(host: unix.Host, tmp_path: Path) -> None:
    with (
        host.set_controls(envs={"PATH": f"{tmp_path}/bin:/nowhere"}),
        Hypervisor(host, "test:///default") as hypervisor,
        pytest.raises(NoVirshError, match=rf"not in PATH \({tmp_path}/bin:/nowhere\)"),
    ):
        hypervisor.generic.uri()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lisst"], "virsh has no command 'lisst'; did you mean 'list'?"),
        (["frobnicate"], "virsh has no command 'frobnicate'"),
        (["list", "--inactve"], "virsh list has no option --inactve; did you mean 'inactive'?"),
        (["dominfo"], "command 'dominfo' requires <domain> option"),
        (["list", "all"], "unexpected data 'all'"),
        (["nodecpustats", "--cpu", "x"], "Numeric value 'x' for <cpu> option is malformed"),
    ],
)
def test_a_wrong_command_line_is_said_what_is_wrong_with_it(
    test_driver: Hypervisor, words: list[str], says: str
) -> None:
    assert test_driver.virsh(words[0], *words[1:]).status is False  # type: ignore[union-attr]
    with test_driver.set_controls(parse=True), pytest.raises(InvalidArgumentError, match=re.escape(says)):
        test_driver.virsh(words[0], *words[1:])


@pytest.mark.parametrize("command", ["", " ", "'", "list\0", None, 5])
def test_a_command_that_is_none_never_reaches_virsh(test_driver: Hypervisor, command: object) -> None:
    with pytest.raises(InvalidArgumentError):
        test_driver.virsh(command)  # type: ignore[arg-type]


def test_a_uri_that_nothing_answers_is_said_so(tmp_path: Path) -> None:
    for uri in (f"qemu:///system?socket={tmp_path}/none", "nothing:///here", "no uri"):
        with pytest.raises(
            CannotConnectError, match=r"failed to connect to the hypervisor: .*is the URI right"
        ) as raised:
            Hypervisor(unix.Local(), uri).generic.nodeinfo()
        assert isinstance(raised.value, ConnectionError)


@pytest.mark.parametrize("uri", ["", "a\0b", 5])
def test_what_is_no_uri_is_refused_at_once(uri: object) -> None:
    with pytest.raises(InvalidArgumentError, match="a connection URI must be a text such as 'qemu:///system'"):
        Hypervisor(unix.Local(), uri)  # type: ignore[arg-type]


def test_a_daemon_that_does_not_answer_is_a_timeout(libvirtd: Libvirtd, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "socket"))
        silent.listen()
        hypervisor = Hypervisor(unix.Local(timeout=0.5), f"qemu:///system?socket={tmp_path}/socket")
        with pytest.raises(CommandTimeoutError, match=r"did not answer within 0\.5 s") as raised:
            hypervisor.generic.nodeinfo()
    assert isinstance(raised.value, TimeoutError)


# -- errors

SAID: list[tuple[str, type[KvmError]]] = [
    ("error: failed to get domain 'x'\n", NotFoundError),
    ("error: failed to get network 'x'\nerror: Network not found: no network with matching name 'x'\n", NotFoundError),
    ("error: Domain is already active\n", InvalidStateError),
    (
        "error: Failed to destroy domain 'x'\nerror: Requested operation is not valid: domain is not running\n",
        InvalidStateError,
    ),
    ("error: operation failed: domain 'x' already exists with uuid 1\n", kvm.AlreadyExistsError),
    ("error: storage volume 'x' exists already\n", kvm.AlreadyExistsError),
    ("error: Failed\nerror: operation failed: storage vol already exists\n", kvm.AlreadyExistsError),
    ("error: Failed\nerror: this function is not supported by the connection driver: virX\n", NotSupportedError),
    ("error: Failed\nerror: Operation not supported: X\n", NotSupportedError),
    ("error: Failed to destroy domain 'x'\nerror: operation forbidden: read only access prevents virX\n", DeniedError),
    (
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/x': Permission denied\n",
        DeniedError,
    ),
    (
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/x': No such file\n",
        CannotConnectError,
    ),
    (
        "error: failed to connect to the hypervisor\nerror: Cannot recv data: ssh: x: Connection reset by peer\n",
        CannotConnectError,
    ),
    ("error: Failed\nerror: Guest agent is not responding: QEMU guest agent is not connected\n", kvm.AgentError),
    ("error: argument unsupported: QEMU guest agent is not configured\n", kvm.AgentError),
    ("error: Failed\nerror: Timed out during operation: cannot acquire state change lock\n", CommandTimeoutError),
    ("error: Failed to list domains\nerror: Cannot recv data: Connection reset by peer\n", ConnectionLostError),
    (
        "error: error: Disconnected from qemu:///system due to end of file\nerror: failed to get domain 'x'\n",
        ConnectionLostError,
    ),
    (
        "error: End of file while reading data: Input/output error\nerror: Failed to reconnect to the hypervisor\n",
        ConnectionLostError,
    ),
    ("error: Failed to define domain from x\nerror: XML error: no name\n", InvalidArgumentError),
    ("error: unsupported flags (0x4) in function virX\n", NotSupportedError),
    ("error: domain 'x' has no current snapshot\n", NotFoundError),
    ("error: Storage volume deletion is supported only on stopped domains\n", InvalidStateError),
    (
        "error: Cannot recv data: ssh: Could not resolve hostname nohost: Name or service not known\n",
        CannotConnectError,
    ),
    ("error: option --x already seen\n", InvalidArgumentError),
    ("error: internal error: missing domain type attribute\n", InvalidArgumentError),
    ("error: Failed to define domain from x\nerror: missing name information\n", InvalidArgumentError),
    ("error: something else\n", KvmError),
    ("error: ", ConnectionLostError),
    ("", KvmError),
]


@pytest.mark.parametrize(("stderr", "kind"), SAID)
def test_virsh_s_words_are_told_apart(stderr: str, kind: type[KvmError]) -> None:
    error = errors.from_stderr(["start", "x"], stderr, 1)
    assert type(error) is kind
    assert (error.command, error.stderr, error.return_code) == (["start", "x"], stderr, 1)
    assert str(error).startswith("virsh start")


@pytest.mark.parametrize(
    "name", ["access denied", "x: Domain not found", "Timed out during operation", "Guest agent is not responding"]
)
def test_a_name_does_not_decide_what_went_wrong(name: str) -> None:
    assert type(errors.from_stderr([], f"error: Failed to start domain '{name}'\nerror: no idea\n", 1)) is KvmError
    assert type(errors.from_stderr([], f"error: failed to get domain '{name}'\n", 1)) is NotFoundError


def test_an_option_that_only_a_newer_virsh_has_names_the_release() -> None:
    result = unix.Result(1, "", "error: command 'capabilities' doesn't support option --xpath\n")
    error = failure(Command("capabilities", {"xpath": "//cpu"}).words(), result)
    assert type(error) is NotSupportedError
    assert str(error) == "this virsh is too old for the option --xpath of 'capabilities'; virsh 11.3.0 has it"
    result = unix.Result(1, "", "error: unknown command: 'await'\n")
    assert str(failure(["await", "--domain=x"], result)) == (
        "this virsh is too old for the command 'await'; virsh 12.8.0 has it"
    )


def test_errors_pickle_whole() -> None:
    error = errors.from_stderr(["start", "x"], "error: failed to get domain 'x'\n", 1)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@given(st.text())
def test_whatever_virsh_says_becomes_an_error(stderr: str) -> None:
    assert isinstance(errors.from_stderr(["list"], stderr, 1), KvmError)


# -- identifiers


def test_generated_uuids_are_random_and_version_4() -> None:
    made = {kvm.gen_uuid() for _ in range(1000)}
    assert len(made) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_generated_macs_are_random_and_kvm_s() -> None:
    made = {kvm.gen_mac() for _ in range(1000)}
    assert len(made) > 990
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac) for mac in made)


def test_this_user_s_own_libvirt_is_not_what_is_tested(libvirtd: Libvirtd) -> None:
    assert str(libvirtd.home) in libvirtd.uri
    assert (
        not Path("/run/libvirtd.pid").exists() or os.path.getmtime("/run/libvirtd.pid") < libvirtd.home.stat().st_ctime
    )
