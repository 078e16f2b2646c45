"""What is asked of `execute` becomes exactly the words that a process is given."""

import contextlib
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unix import ArgumentError, Host, Local
from unix.words import command_line, encode, options_to_words, split, word

anything = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.binary().map(lambda data: data.replace(b"\0", b"")),
)


def as_bytes(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()


@given(st.lists(anything, min_size=1, max_size=5))
def test_a_process_receives_each_argument_byte_for_byte(host: Host, arguments: list[str | bytes]) -> None:
    printed = host.execute("printf", "%s\\0", *arguments)
    received = printed.stdout.encode("utf-8", "surrogateescape").split(b"\0")[:-1]
    assert received == [as_bytes(argument) for argument in arguments]


@given(st.lists(anything, min_size=1, max_size=5))
def test_under_a_shell_each_argument_still_arrives_byte_for_byte(host: Host, arguments: list[str | bytes]) -> None:
    with host.set_controls(shell=True):
        printed = host.execute("printf '%s\\0'", *arguments)
    received = printed.stdout.encode("utf-8", "surrogateescape").split(b"\0")[:-1]
    assert received == [as_bytes(argument) for argument in arguments]


@pytest.mark.parametrize(
    "hostile",
    [
        "a b",
        "'",
        '"',
        "a\nb",
        "$(touch /nowhere)",
        "`id`",
        "$HOME",
        "*",
        "~",
        "--all",
        "-n",
        "",
        "\\",
        "漢字",
        "é😀",
        ";",
        "\t",
    ],
)
def test_nothing_that_a_shell_would_expand_is_expanded(host: Host, hostile: str) -> None:
    assert host.execute("printf", "<%s>", hostile).stdout == f"<{hostile}>"
    with host.set_controls(shell="/bin/sh"):
        assert host.execute("printf '<%s>'", hostile).stdout == f"<{hostile}>"


def test_undecodable_bytes_arrive_and_come_back_as_surrogates(host: Host) -> None:
    assert host.execute("printf", "%s", b"\xff\xfe").stdout == "\udcff\udcfe"
    assert host.execute("printf", "%s", "\udcff\udcfe").stdout.encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"all": True}, ["--all"]),
        ({"c": "x"}, ["-c", "x"]),
        ({"a": True, "b": False, "long": None}, ["-a"]),
        ({"exclude": ["a", "b"]}, ["--exclude", "a", "--exclude", "b"]),
        ({"no_autostart": True}, ["--no-autostart"]),
        ({"from_": "x"}, ["--from", "x"]),
        ({"in_": 5}, ["--in", "5"]),
        ({"ratio": 1.5}, ["--ratio", "1.5"]),
        ({"file": Path("/etc/hosts")}, ["--file", "/etc/hosts"]),
        ({"empty": ""}, ["--empty", ""]),
        ({"zero": 0}, ["--zero", "0"]),
        ({"none": []}, []),
    ],
)
def test_options_become_words(options: dict[str, object], words: list[str]) -> None:
    assert options_to_words(options) == words  # type: ignore[arg-type]


def test_options_go_where_the_control_says() -> None:
    assert command_line("ls -l", ["a b"], {"all": True}) == ["ls", "-l", "--all", "a b"]
    assert command_line("ls -l", ["a b"], {"all": True}, options_place="after") == ["ls", "-l", "a b", "--all"]


def test_unescaped_arguments_are_split_as_a_shell_would() -> None:
    assert command_line("echo", ["a 'b c'", "d"], {}, escape_args=False) == ["echo", "a", "b c", "d"]


def test_under_a_shell_unescaped_arguments_are_the_shell_s() -> None:
    assert Local(shell=True, escape_args=False).execute("echo", "$((1 + 1))", "| tr 2 3").stdout == "3\n"
    assert Local(shell=True).execute("echo", "$((1 + 1))", "| tr 2 3").stdout == "$((1 + 1)) | tr 2 3\n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_splitting_gives_words_or_says_what_is_wrong(command: str) -> None:
    with contextlib.suppress(ArgumentError):
        assert shlex.split(shlex.join(split(command))) == split(command)


@given(anything)
def test_a_word_encodes_to_the_bytes_that_it_was_made_of(argument: str | bytes) -> None:
    assert encode(word(argument)) == as_bytes(argument)


@pytest.mark.parametrize("argument", ["a\0b", b"a\0b", "\ud800", None, True, ["a"], object()])
def test_what_cannot_be_an_argument_is_refused_before_anything_runs(
    host: Host, argument: object, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(ArgumentError, match="argument"):
        host.execute("touch", mark, argument)  # type: ignore[arg-type]
    assert not mark.exists()


@pytest.mark.parametrize("command", ["", "  ", "echo 'a", None, 5, ["ls"]])
def test_a_command_that_is_none_is_refused(host: Host, command: object) -> None:
    with pytest.raises(ArgumentError):
        host.execute(command)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["\ud800", 5])
def test_an_input_that_has_no_bytes_is_refused(host: Host, given: object) -> None:
    with pytest.raises(ArgumentError, match="input"):
        host.run(["cat"], input=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("argv", [[], "ls", b"ls", [None]])
def test_a_command_line_that_is_none_is_refused(host: Host, argv: object) -> None:
    for operation in (host.run, host.popen):
        with pytest.raises(ArgumentError):
            operation(argv)  # type: ignore[arg-type]
