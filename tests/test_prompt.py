"""The conversation with virsh's prompt: however the bytes come, the replies are the same."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvm import ConnectionLostError
from kvm.virsh import manners
from kvm.virsh.command import failure
from kvm.virsh.outcome import credentials_question, unauthenticated
from kvm.virsh.prompt import ENVIRONMENT, Conversation, Reply, carries, is_long, quoted, typed

COMMAND_LINES = sorted((Path(__file__).parents[1] / "tools" / "virsh").glob("commands-*.json"))
"""Those of all releases that were extracted."""

TOKEN = "m0123456789ab"
ASKED = [
    ["uri"],
    ["dominfo", "--domain=nobody"],
    ["list", "--all"],
    ["echo", "virsh # ", "error: x", f"virsh # {TOKEN}\\1"],
    ["echo", "x" * 700],
    ["frobnicate"],
    ["echo", "é漢字😀", "it's", '"', "\\", "#", ";", "!1", "$(id)"],
    ["echo"],
    *(["echo", str(number)] for number in range(5)),
]


@pytest.fixture(scope="module")
def recorded() -> tuple[bytes, bytes]:
    """What a real virsh printed on both streams when it was asked ASKED."""
    conversation = Conversation(TOKEN)
    asked = b"".join(conversation.ask(words) for words in ASKED)
    done = run_virsh(asked)
    return done.stdout, done.stderr


def run_virsh(asked: bytes) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **ENVIRONMENT, "LC_ALL": "C.UTF-8"}
    return subprocess.run(["virsh", "-c", "test:///default"], input=asked, capture_output=True, check=False, env=env)


def told(pieces: list[tuple[str, bytes]]) -> list[Reply]:
    conversation = Conversation(TOKEN)
    for words in ASKED:
        conversation.ask(words)
    replies = []
    for stream, data in pieces:
        getattr(conversation, stream)(data)
        replies += conversation.replies()
    return replies


def test_replies_are_what_each_command_printed(recorded: tuple[bytes, bytes]) -> None:
    stdout, stderr = recorded
    replies = told([("stdout", stdout), ("stderr", stderr)])
    assert [reply.stdout for reply in replies] == [
        b"test:///default\n\n",
        b"\n",
        b" Id   Name   State\n----------------------\n 1    test   running\n\n",
        f"virsh #  error: x virsh # {TOKEN}\\1\n".encode(),
        b"x" * 700 + b"\n",
        b"",
        "é漢字😀 it's \" \\ # ; !1 $(id)\n".encode(),
        b"\n",
        *(f"{number}\n".encode() for number in range(5)),
    ]
    assert [reply.stderr for reply in replies] == [
        b"",
        b"error: failed to get domain 'nobody'\n",
        b"",
        b"",
        b"",
        b"error: unknown command: 'frobnicate'\n",
        *[b""] * 7,
    ]


@given(st.integers(0, 2**32), st.integers(1, 200))
@settings(max_examples=200)
def test_however_the_bytes_are_split_the_replies_are_the_same(
    recorded: tuple[bytes, bytes], seed: int, size: int
) -> None:
    chance = random.Random(seed)
    pieces: list[tuple[str, bytes]] = []
    rest = dict(zip(("stdout", "stderr"), recorded, strict=True))
    while any(rest.values()):
        stream = chance.choice([name for name, left in rest.items() if left])
        length = chance.randint(1, size)
        pieces.append((stream, rest[stream][:length]))
        rest[stream] = rest[stream][length:]
    assert told(pieces) == told([("stdout", recorded[0]), ("stderr", recorded[1])])


def test_what_virsh_says_within_its_complaint_about_a_mark_is_not_lost() -> None:
    """Its thread of events may, when the connection breaks; "error: " and the rest are written one after the other."""
    conversation = Conversation(TOKEN)
    conversation.ask(["uri"])
    conversation.stdout(f"virsh # uri\n\nvirsh # {TOKEN}\\0\n".encode())
    conversation.stderr(b"error: " + LOST + f"unknown command: '{TOKEN}0'\n".encode())
    (reply,) = conversation.replies()
    assert LOST in reply.stderr
    assert isinstance(failure(["uri"], manners.judged("uri", *reply, reads=True)), ConnectionLostError)


def test_a_reply_that_breaks_off_is_none(recorded: tuple[bytes, bytes]) -> None:
    stdout, stderr = recorded
    whole = told([("stdout", stdout), ("stderr", stderr)])
    for end in range(0, len(stdout), 7):
        broken = told([("stdout", stdout[:end]), ("stderr", stderr)])
        assert broken == whole[: len(broken)]


@pytest.mark.parametrize("word", ["a\0b", "\udcff"])
def test_prompt_carries_no_nul_byte_and_no_invalid_text(word: str) -> None:
    assert not carries(["echo", word])


def test_control_characters_arrive_at_virsh_unchanged() -> None:
    words = [f"a{control}b" for control in [*map(chr, range(1, 32)), "\x7f"]]
    lines = [["echo", word] for word in words] + [["echo", "".join(words)], ["echo", "a" * 600 + "\n" * 3 + "\tb"]]
    conversation = Conversation(TOKEN)
    asked = b"".join(conversation.ask(line) for line in lines)
    done = run_virsh(asked)
    conversation.stdout(done.stdout)
    conversation.stderr(done.stderr)
    assert [reply.stdout.decode() for reply in conversation.replies()] == [f"{word}\n" for _, word in lines]


def test_line_that_readline_reads_slowly_is_long() -> None:
    assert not is_long(["echo", "x" * 60_000])
    assert is_long(["echo", "x" * 70_000])


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_typed_word_is_one_line_and_one_word(word: str) -> None:
    line = Conversation(TOKEN).ask([word]).decode()
    assert re.sub("\x1b\\[200~.*?\x1b\\[201~|\x16.", "", line, flags=re.DOTALL).count("\n") == 2
    assert quoted(word) == word or quoted(word)[0] == quoted(word)[-1] == "'"


ASKS = b"Please enter your authentication name: "


def asked(conversation: Conversation) -> str:
    return conversation.question


def test_output_before_the_prompt_is_greeting_or_question() -> None:
    greeting = b"Welcome to virsh, the virtualization interactive terminal.\n\nvirsh # "
    for end in range(len(greeting)):
        conversation = Conversation(TOKEN)
        conversation.stdout(greeting[:end])
        assert not asked(conversation)
    for end in range(1, len(ASKS)):
        conversation = Conversation(TOKEN)
        conversation.stdout(ASKS[:end])
        assert asked(conversation) == ASKS[:end].decode().removesuffix(":")


def test_question_after_a_loss_is_what_follows_the_echo() -> None:
    conversation = Conversation(TOKEN)
    for _ in range(2):
        conversation.ask(["uri"])
    conversation.stdout(b"Welcome\n\nvirsh # uri\n" + ASKS)
    assert not asked(conversation)  # it has not lost its connection, so this is output
    conversation.stderr(LOST)
    assert asked(conversation) == "Please enter your authentication name"
    conversation.stderr(b"error: Reconnected to the hypervisor\n")
    assert not asked(conversation)
    conversation.stdout(f"\n\nvirsh # {TOKEN}\\0\n".encode())
    conversation.stderr(b"error: " + LOST + f"unknown command: '{TOKEN}0'\n".encode())
    assert len(conversation.replies()) == 1
    assert conversation.is_disconnected
    conversation.stdout(b"virsh # uri\n" + ASKS)
    assert asked(conversation) == "Please enter your authentication name"


@pytest.mark.parametrize("name", ["web1", "a=b", "7", "-a", "--all", "--", "", "it's", "a b", "#1"])
def test_a_domain_is_told_by_its_place_unless_that_could_be_something_else(name: str) -> None:
    asked = typed(["dominfo", f"--domain={name}"])
    assert asked == (f"dominfo {name}" if name in ("web1", "a=b", "7") else f"dominfo {quoted(f'--domain={name}')}")


@pytest.mark.parametrize("release", COMMAND_LINES, ids=lambda path: path.stem)
def test_a_domain_goes_by_its_place_where_it_is_first_and_required(release: Path) -> None:
    for group in json.loads(release.read_text())["groups"].values():
        for name, options in group.items():
            if options and not manners.goes_alone([name]):
                is_first = options[0]["name"] == "domain" and options[0]["required"]
                assert typed([name, "--domain=a"]) == (f"{name} a" if is_first else f"{name} --domain=a")
    assert typed(["frobnicate", "--domain=a"]) == "frobnicate --domain=a"


LOST = b"error: Disconnected from qemu:///system due to end of file\n"


@pytest.mark.parametrize(
    ("command", "reply", "status", "stderr"),
    [
        ("uri", Reply(b"test:///default\n\n", b""), True, ""),
        ("start", Reply(b"\n", b"error: Domain is already active\n"), False, None),
        ("cpu-compare", Reply(b"CPU described in x is incompatible with host CPU\n\n", b""), False, ""),
        ("cpu-compare", Reply(b"CPU described in x is identical to host CPU\n\n", b""), True, ""),
        ("cpu-stats", Reply(b"No per-CPU stats available\n", b""), False, ""),
        ("cpu-stats", Reply(b"No per-CPU stats availableTotal:\n\tcpu_time 0.5 seconds\n\n", b""), True, ""),
        ("domblklist", Reply(b"unable to query block list details\n", b""), False, ""),
        ("schedinfo", Reply(b"Scheduler      : Unknown\n\n", b""), False, ""),
        ("schedinfo", Reply(b"Scheduler      : posix\ncpu_shares     : 1024\n\n", b""), True, ""),
        ("ttyconsole", Reply(b"\n", b""), False, ""),
        ("ttyconsole", Reply(b"/dev/pts/1\n\n", b""), True, ""),
        ("net-update", Reply(b"Updated network default live state\n", b"error: of a command before\n"), True, None),
        ("undefine", Reply(b"\n", b"error: Volume 'x' was not found in domain's definition.\n"), False, None),
        ("version", Reply(b"...\n\n", b"error: failed to get the daemon version\n"), True, None),
        ("list", Reply(b"...\n\n", LOST + b"error: Reconnected to the hypervisor\n"), True, ""),
        ("list", Reply(b"...\n\n", LOST), False, None),
        ("destroy", Reply(b"...\n\n", LOST), True, ""),
        ("list", Reply(b"\n", LOST + b"error: Reconnected to the hypervisor\nerror: no\n"), False, "error: no\n"),
        ("list", Reply(b"\n", LOST + b"error: Failed to list domains\n"), False, None),
        ("list", Reply(b"...\n\n", b"warning: x\n"), True, None),
    ],
)
def test_results_are_those_that_a_process_of_its_own_would_have(
    command: str, reply: Reply, status: bool, stderr: str | None
) -> None:
    result = manners.judged(command, *reply, reads=command != "destroy")
    assert result.status is status
    assert result.stderr == (reply.stderr.decode() if stderr is None else stderr)


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (b"Name [x]: ", b"error: failed to connect to the hypervisor\nerror: denied\n"),
        (b"Name [x]: Password: \n", b"error: failed to connect to the hypervisor\n"),
        (b"Name [x]: ", b"error: 2026-01-01 info : DISPOSE\nfailed to connect to the hypervisor\n"),
        (b"Name [x]: error: failed to connect to the hypervisor", b"error: denied\n"),
        (b"", b"Warning: added a host\nName [x]: error: failed to connect to the hypervisor\n"),
    ],
)
def test_question_of_a_one_shot_command_is_found(stdout: bytes, stderr: bytes) -> None:
    result = unauthenticated(credentials_question(stdout, stderr))
    assert result.stderr == "error: authentication required: libvirt asks 'Name [x]'\n"


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (b"Id: ", b"error: denied\n"),
        (b"\n", b"error: failed to connect to the hypervisor\nerror: denied\n"),
        (b"", b"Warning: added a host\nerror: failed to connect to the hypervisor\n"),
        (b"", b"error: 2026-01-01 info : DISPOSE\nfailed to connect to the hypervisor\n"),
    ],
)
def test_one_shot_output_without_a_question_has_none(stdout: bytes, stderr: bytes) -> None:
    assert credentials_question(stdout, stderr) == ""
