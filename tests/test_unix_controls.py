"""Controls hold where they were set: for a block, in one thread or task."""

import asyncio
import gc
import os
import pickle
import pwd
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import unix
from sshd import Sshd
from unix import ControlError, Host, Local

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run commands as other users")


def test_a_block_changes_controls_for_its_duration() -> None:
    host = Local()
    with host.set_controls(timeout=3, envs={"A": "1"}):
        assert (host.get_control("timeout"), host.get_control("envs")) == (3, {"A": "1"})
        with host.set_controls(timeout=5):
            assert host.get_control("timeout") == 5
            assert host.get_control("envs") == {"A": "1"}
        assert host.get_control("timeout") == 3
    assert host.controls == dict(unix.CONTROLS)


def test_a_block_that_raises_restores_the_controls() -> None:
    host = Local()
    with pytest.raises(KeyError), host.set_controls(timeout=3):
        raise KeyError
    assert host.get_control("timeout") is None


def test_a_control_set_inside_a_block_ends_with_it() -> None:
    host = Local()
    host.set_control("timeout", 1)
    with host.set_controls(decode="latin-1"):
        host.set_control("timeout", 2)
        assert host.get_control("timeout") == 2
    assert host.get_control("timeout") == 1


def test_controls_given_to_a_host_hold_everywhere_and_pickle_with_it() -> None:
    host = Local(timeout=9)
    assert in_a_thread(lambda: host.get_control("timeout")) == 9
    assert pickle.loads(pickle.dumps(host)).get_control("timeout") == 9


def test_controls_set_in_one_thread_do_not_show_in_another() -> None:
    host = Local()
    host.set_control("timeout", 2)
    with host.set_controls(decode="latin-1"):
        seen = in_a_thread(lambda: (host.get_control("timeout"), host.get_control("decode")))
        in_a_thread(lambda: host.set_control("locale", None))
    assert seen == (None, "utf-8")
    assert (host.get_control("timeout"), host.get_control("locale")) == (2, "C.UTF-8")


def test_controls_set_in_one_task_do_not_show_in_another() -> None:
    host = Local()
    seen: dict[str, list[object]] = {"a": [], "b": []}

    async def task(name: str, timeout: float) -> None:
        with host.set_controls(timeout=timeout):
            for _ in range(3):
                seen[name].append(host.get_control("timeout"))
                await asyncio.sleep(0)
        seen[name].append(host.get_control("timeout"))

    async def both() -> None:
        await asyncio.gather(task("a", 1), task("b", 2))

    asyncio.run(both())
    assert seen == {"a": [1, 1, 1, None], "b": [2, 2, 2, None]}


def test_a_task_does_not_inherit_the_controls_of_the_one_that_made_it() -> None:
    host = Local()

    async def main() -> list[object]:
        with host.set_controls(timeout=7):
            child = asyncio.create_task(read())
            thread = asyncio.to_thread(host.get_control, "timeout")
            return [host.get_control("timeout"), await child, await thread]

    async def read() -> object:
        with host.set_controls(decode="latin-1"):
            return host.get_control("timeout")

    assert asyncio.run(main()) == [7, None, None]


def test_controls_of_one_host_are_not_another_s() -> None:
    one, other = Local(), Local()
    with one.set_controls(timeout=3), other.set_controls(decode="latin-1"):
        assert (one.get_control("decode"), other.get_control("timeout")) == ("utf-8", None)


def test_a_host_that_is_gone_leaves_nothing_behind() -> None:
    from unix.controls import _overrides

    host = Local()
    host.set_control("timeout", 3)
    del host
    gc.collect()
    other = Local()
    other.set_control("timeout", 4)
    assert all(ref() is not None for ref in _overrides.get()[1])


def test_blocks_that_end_in_another_order_or_thread_take_away_their_own_only() -> None:
    host = Local()

    def suspended() -> Iterator[None]:
        with host.set_controls(timeout=1):
            yield

    with host.set_controls(timeout=9, su="nobody"):
        block = suspended()
        next(block)
        assert host.get_control("timeout") == 1
    assert (host.get_control("timeout"), host.get_control("su")) == (1, None)
    in_a_thread(lambda: (next(block, None), host.get_control("timeout")))
    other = suspended()
    next(other)
    assert in_a_thread(lambda: (other.close(), host.get_control("timeout"))) == (None, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 10**12),
        ("timeout", float("nan")),
        ("decode", "hex"),
        ("decode", "rot13"),
        ("options_place", "middle"),
        ("timeout", -1),
        ("timeout", "3"),
        ("timeout", True),
        ("decode", "no-such-codec"),
        ("envs", {"A=B": "1"}),
        ("envs", {"A": 1}),
        ("envs", {"A": "\0"}),
        ("escape_args", None),
        ("shell", 3),
        ("su", ""),
        ("locale", "\0"),
    ],
)
def test_a_value_that_a_control_cannot_have_is_refused(name: str, value: object) -> None:
    host = Local()
    with pytest.raises(ControlError, match=f"the control '{name}' takes"):
        host.set_control(name, value)
    with pytest.raises(ControlError), host.set_controls(**{"locale": None, name: value}):  # type: ignore[arg-type]
        pass
    assert host.controls == dict(unix.CONTROLS)


def test_an_unknown_control_is_refused_and_the_known_ones_are_named() -> None:
    host = Local()
    refusal = "there is no control 'tmeout'; the controls are decode, envs"
    with pytest.raises(ControlError, match=refusal):
        host.get_control("tmeout")
    with pytest.raises(ControlError, match=refusal):
        host.set_control("tmeout", 1)
    with pytest.raises(ControlError, match=refusal):
        host.set_controls(tmeout=1)  # type: ignore[call-arg]
    with pytest.raises(ControlError, match=refusal):
        Local(tmeout=1)  # type: ignore[call-arg]


def test_the_locale_and_envs_reach_the_command(host: Host) -> None:
    assert host.execute("sh", "-c", "echo $LC_ALL").stdout == "C.UTF-8\n"
    with host.set_controls(locale="C", envs={"A": "x y", "LC_TIME": "C"}):
        assert host.execute("sh", "-c", 'echo "$LC_ALL,$A"').stdout == "C,x y\n"
    with host.set_controls(locale=None, envs={"LC_ALL": "mine"}):
        assert host.execute("sh", "-c", "echo $LC_ALL").stdout == "mine\n"


def test_decode_chooses_the_codec_or_leaves_bytes(host: Host) -> None:
    with host.set_controls(decode="latin-1"):
        assert host.execute("printf", b"\xe9").stdout == "é"
        assert next(host.iter("printf", b"\xe9")) == ("stdout", "é")
    with host.set_controls(decode=None):
        assert tuple(host.execute("printf", b"\xe9")) == (True, b"\xe9", b"")


def test_a_timeout_of_zero_or_infinity_is_no_limit(host: Host) -> None:
    for timeout in (0, float("inf"), None):
        with host.set_controls(timeout=timeout):
            assert host.execute("sleep", 0.01)


def test_under_decode_none_bytes_are_bytes_also_where_nothing_ran(host: Host) -> None:
    with host.set_controls(decode=None):
        assert tuple(host.run([b"\xff"])) == (False, b"", b"\xff: command not found\n")
        first: object = next(host.iter("no-such-command"))[1]
    assert first == b"no-such-command: command not found"


def test_a_wrapper_shares_its_host_s_controls_also_where_it_was_unpickled() -> None:
    again = pickle.loads(pickle.dumps(unix.Wrapper(Local(timeout=3))))
    assert again.get_control("timeout") == 3
    with again.set_controls(timeout=4):
        assert again.host.get_control("timeout") == 4


def test_shell_runs_the_command_in_that_shell(host: Host) -> None:
    assert host.execute("echo $((1+1)) | cat").stdout == "$((1+1)) | cat\n"
    with host.set_controls(shell=True):
        assert host.execute("echo $((1+1)) | cat").stdout == "2\n"
    with host.set_controls(shell="bash"):
        assert host.execute("echo ${BASH_VERSION:+bash} &&", "echo", "$x").stdout == "bash\n$x\n"


@root_only
def test_su_runs_commands_as_another_user_with_that_user_s_environment(host: Host) -> None:
    nobody = pwd.getpwnam("nobody")
    with host.set_controls(su="nobody", envs={"A": "1"}):
        told = host.execute("sh", "-c", "id -u; id -g; id -G; echo $HOME $USER $LOGNAME $A").stdout.split("\n")
    assert told[:3] == [str(nobody.pw_uid), str(nobody.pw_gid), str(nobody.pw_gid)]
    assert told[3] == f"{nobody.pw_dir} nobody nobody 1"


@root_only
@pytest.mark.parametrize("kind", ["local", "remote"])
def test_su_inherits_no_directories_of_root(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd gives these to each login; libvirt's sockets, caches and configurations are below them."""
    variables = {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_CONFIG_HOME": "/root/.config2", "XDG_STATE_HOME": "/root/state"}
    script = "echo $XDG_RUNTIME_DIR,$XDG_CONFIG_HOME,$XDG_STATE_HOME"
    with ExitStack() as made:
        host: Host = Local()
        if kind == "remote":
            path = os.environ["PATH"]
            sshd = Sshd("SetEnv " + " ".join(f"{name}={value}" for name, value in variables.items()) + f" PATH={path}")
            made.callback(sshd.remove)
            host = made.enter_context(sshd.connect())
        else:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
        assert host.execute("sh", "-c", script).stdout == "/run/user/0,/root/.config2,/root/state\n"
        with host.set_controls(su="nobody"):
            assert host.execute("sh", "-c", script).stdout == ",,\n"
        with host.set_controls(su="nobody", envs={"XDG_STATE_HOME": "/given"}):
            assert host.execute("sh", "-c", script).stdout == ",,/given\n"


@root_only
def test_files_are_never_reached_as_the_wrong_user(host: Host) -> None:
    with host.set_controls(su="nobody"), pytest.raises((unix.UnixError, PermissionError), match=r"nobody|denied"):
        host.read("/etc/shadow")
    with host.set_controls(su=pwd.getpwuid(os.geteuid()).pw_name):
        assert host.exists("/etc/passwd")


def test_su_to_a_user_that_does_not_exist_is_refused(host: Host) -> None:
    with pytest.raises(unix.UserError, match="no user 'no-such-user'"), host.set_controls(su="no-such-user"):
        host.execute("true")


def in_a_thread(function: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]
