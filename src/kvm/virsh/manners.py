"""How virsh's commands behave towards whoever runs them: the ones that behave unlike the others, in one place.

Read from virsh's sources, and held against real ones, releases 7.0 to 12.8, by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from unix.result import Result


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ACTS_ALONE = _names(
    """
    console lxc-enter-namespace edit managedsave-edit save-image-edit net-edit iface-edit pool-edit nwfilter-edit
    snapshot-edit checkpoint-edit vol-upload
    """
)
_READS_ALONE = _names(
    """
    event net-event pool-event nodedev-event secret-event qemu-monitor-event await vol-download cd connect exit quit
    complete
    """
)
"""Never for the prompt: they take the terminal or standard input, stream, or change what the prompt is."""

LONG = _names(
    """
    backup-begin blockcommit blockcopy blockjob blockpull checkpoint-delete create domfsfreeze domfsinfo domfsthaw
    domfstrim domhostname dompmsuspend domtime dump find-storage-pool-sources find-storage-pool-sources-as
    get-user-sshkeys guestinfo guestvcpus managedsave migrate pool-build pool-create pool-create-as pool-refresh
    pool-start qemu-agent-command restore save screenshot set-user-sshkeys snapshot-create snapshot-create-as
    snapshot-delete snapshot-revert start vol-clone vol-create vol-create-as vol-create-from vol-delete vol-resize
    vol-wipe
    """
)
"""Not for the prompt, where others would wait for them, unless the driver has its state in that one virsh."""

GO_ON = {"backup-begin"}
"""virsh ends when they have begun, and has nothing that waits for their end."""

WITHOUT_ZONE = {"net-dhcp-leases"}
"""They print local time and do not say of which zone, so they are to run in UTC."""

QUIET = {"vol-download"}
"""They stream to standard output, where virsh adds a newline unless it is to be quiet."""

_SAYS_NO = {
    "cpu-compare": rb"is incompatible with host CPU\n",
    "hypervisor-cpu-compare": rb"is incompatible with the CPU provided by hypervisor on the host\n",
    "cpu-stats": rb"stats available\n*\Z",
    "domblklist": rb"unable to query block list details",
    "schedinfo": rb"\AScheduler +: [^\n]*\n+\Z",
    "ttyconsole": rb"\A\n*\Z",
}
"""What commands print that fail without an ``error:`` line: the answer is no, or there is none."""

_SAYS_YES = {
    "iface-destroy": rb"\AInterface [^\n]* destroyed\n",
    "net-update": rb"\AUpdated network ",
    "nodedev-update": rb"\AUpdated node device ",
}
"""What commands print that have succeeded, whatever their exit status and ``error:`` lines say."""

_UNDECIDED = r"(?m)^error: .*\bunplug request timed out\b"
"""libvirt's message when the guest has not answered a request to release a device in time."""

_GRUMBLES = {
    "pool-list": rb"error: Could not retrieve pool information",
    "undefine": rb"error: (Missing storage volume name|Storage pool '.*' for volume|Storage volume '.*not managed by)",
    "version": rb"error: failed to get the daemon version",
}
"""The ``error:`` lines of commands that succeed all the same."""

_FROM = r"(?: from '?(?:/dev/stdin|[^']*)'?)?\n*"

TELLS = {
    "checkpoint-create": f"Domain checkpoint (.*) created{_FROM}",
    "checkpoint-create-as": f"Domain checkpoint (.*) created{_FROM}",
    "domfsfreeze": r"Froze ([0-9]+) filesystem\(s\)\n*",
    "domfsthaw": r"Thawed ([0-9]+) filesystem\(s\)\n*",
    "net-port-create": rf"Network port ([0-9a-f-]+) created{_FROM}",
    "nodedev-create": rf"Node device (\S+) created{_FROM}",
    "nodedev-define": rf"Node device '(\S+)' defined{_FROM}",
    "secret-define": r"Secret ([0-9a-f-]+) created\n*",
    "snapshot-create": f"Domain snapshot (.*) created{_FROM}",
    "snapshot-create-as": f"Domain snapshot (.*) created{_FROM}",
}
"""What actions print that tell something: the name that libvirt has chosen, or how many there were."""

NEWS = (
    rb"(error: Disconnected from [^\n]* due to (?:I/O error|end of file|keepalive timeout|client request)\n)*"
    rb"(error: Reconnected to the hypervisor\n)?"
)
"""What virsh says of its connection: that it has lost it, and, before it goes on with a command, that it is back."""


def goes_alone(words: Sequence[str]) -> bool:
    """Return whether a command never runs at the prompt."""
    return words[0] in _READS_ALONE or acts_alone(words)


def acts_alone(words: Sequence[str]) -> bool:
    """Return whether a command never runs at the prompt, and changes something."""
    return words[0] in _ACTS_ALONE or "--interactive" in words or "--edit" in words


def says_no(command: str, stdout: str) -> bool:
    """Return whether the output of a command means that it failed, although it has no ``error:`` line."""
    return _says(_SAYS_NO, command, stdout.encode("utf-8", "surrogateescape"))


def is_undecided(stderr: str) -> bool:
    """Return whether libvirt reports that the outcome of an action is unknown to it."""
    return re.search(_UNDECIDED, stderr) is not None


def judged(command: str, stdout: bytes, stderr: bytes, *, reads: bool, return_code: int = 0) -> Result:
    """The result of `command`, which printed this at the prompt, or in a process that ended with `return_code`.

    A connection that breaks while a command reads lets some commands leave out what they could not get, and succeed. So
    what only `reads` has failed if the connection was lost, and not back before the command began.
    """
    failed = return_code != 0 or _says(_SAYS_NO, command, stdout)
    if b"error: " in stderr:
        news = re.match(NEWS, stderr)
        is_back, is_lost = (bool(news[2]), bool(news[1]) and not news[2]) if news else (False, False)
        rest = stderr[news.end() :] if news else stderr
        failed = failed or _has_error(command, rest) or (is_lost and reads)
        if is_back or not failed:
            stderr = rest
    if failed and _says(_SAYS_YES, command, stdout):
        failed, return_code = False, 0
    return Result(return_code or int(failed), _text(stdout), _text(stderr))


def comments(result: Result) -> list[str]:
    """Return the ``error:`` lines of a command that has succeeded."""
    if not result.status or "error: " not in result.stderr:
        return []
    lines = result.stderr.split("\n")
    return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


def _says(table: Mapping[str, bytes], command: str, output: bytes) -> bool:
    return command in table and re.search(table[command], output) is not None


def _has_error(command: str, stderr: bytes) -> bool:
    errors = [line for line in stderr.split(b"\n") if line.startswith(b"error: ")]
    return not all(_says(_GRUMBLES, command, line) for line in errors)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
