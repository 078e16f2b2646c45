"""How virsh's commands behave towards whoever runs them: the ones that behave unlike the others, in one place.

Read from virsh's sources, and held against real ones, releases 7.0 to 12.8, by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvm.virsh.prompt import Reply
from unix.result import Result


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALONE = _names(
    """
    console lxc-enter-namespace edit managedsave-edit save-image-edit net-edit iface-edit pool-edit nwfilter-edit
    snapshot-edit checkpoint-edit event net-event pool-event nodedev-event secret-event qemu-monitor-event await
    vol-upload vol-download cd connect exit quit
    """
)
"""Never for the prompt: they take the terminal or standard input, stream, or change what the prompt is."""

LONG = _names(
    """
    backup-begin blockcommit blockcopy blockjob blockpull create dump managedsave migrate qemu-agent-command restore
    save screenshot snapshot-create snapshot-create-as snapshot-delete snapshot-revert start vol-clone vol-create-from
    vol-wipe
    """
)
"""Not for the prompt, where others would wait for them, unless the driver has its state in that one virsh."""

_SECRETS = {"set-user-password": "password", "secret-set-value": "base64"}
"""The options whose values nobody may see: not in a list of processes, a log, or an error."""

_SAYS_NO = {
    "cpu-compare": re.compile(rb"is incompatible with host CPU\n"),
    "hypervisor-cpu-compare": re.compile(rb"is incompatible with the CPU provided by hypervisor on the host\n"),
}
"""What commands print that fail without an ``error:`` line: they were asked a question, and the answer is no."""

_GRUMBLES = {"version": re.compile(rb"error: failed to get the daemon version")}
"""The ``error:`` lines of commands that succeed all the same."""

_NEWS = re.compile(
    rb"(error: Disconnected from [^\n]* due to (?:I/O error|end of file|keepalive timeout|client request)\n)*"
    rb"(error: Reconnected to the hypervisor\n)?"
)
"""What virsh says of its connection: that it has lost it, and, before it goes on with a command, that it is back."""


def secrets(words: Sequence[str]) -> list[str]:
    """The secrets among the words of a command; all that could be one, where the options are not named."""
    option = _SECRETS.get(words[0])
    if option is None:
        return []
    named = [word.partition("=")[2] for word in words if word.startswith(f"--{option}=")]
    _, *bare = [word for word in words if not word.startswith("--")]
    of_object = [word for word in words if word.startswith(("--domain=", "--secret="))]
    return [secret for secret in (*named, *(bare if of_object else bare[1:])) if secret]


def masked(text: str, hidden: Sequence[str]) -> str:
    """`text` without the secrets in it."""
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def judged(command: str, reply: Reply, *, reads: bool) -> Result:
    """The result that a process of its own would have had, for what `command` printed at the prompt.

    A connection that breaks while a command reads lets some commands leave out what they could not get, and succeed. So
    what only `reads` has failed if the connection was lost, and not back before the command began.
    """
    stdout, stderr = reply
    failed = command in _SAYS_NO and _SAYS_NO[command].search(stdout) is not None
    if b"error: " in stderr:
        news = _NEWS.match(stderr)
        is_back, is_lost = (bool(news[2]), bool(news[1]) and not news[2]) if news else (False, False)
        rest = stderr[news.end() :] if news else stderr
        has_error = _has_error(command, rest)
        failed = failed or has_error or (is_lost and reads)
        if is_back or not failed:
            stderr = rest
    return Result(int(failed), _text(stdout), _text(stderr))


def _has_error(command: str, stderr: bytes) -> bool:
    grumble = _GRUMBLES.get(command)
    return any(line.startswith(b"error: ") and not (grumble and grumble.match(line)) for line in stderr.split(b"\n"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
