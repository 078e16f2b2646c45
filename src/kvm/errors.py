"""What can go wrong, as a caller would tell it apart, and how virsh's words are read for it.

virsh says what went wrong in lines that begin with ``error: ``: first what it tried, last why libvirt refused.
The table below maps the beginnings of these lines to classes; they are matched from the last line to the first. What
virsh says of command lines that it does not know is told apart in `kvm.virsh.command`, which knows command lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache


class KvmError(Exception):
    """A command failed, and the base of all errors of this package.

    `command` is the words of the virsh command, `stderr` what virsh wrote to standard error, `return_code` its
    exit status (None where no virsh was run). `outcome_unknown` is True if the command is an action that may have been
    done all the same, or may yet be: the connection broke, virsh was killed, or the time was up while it was under way.
    Query the hypervisor before you repeat it.
    """

    outcome_unknown: bool = False

    def __init__(
        self, message: str = "", *, command: Sequence[str] = (), stderr: str = "", return_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.command = list(command)
        self.stderr = stderr
        self.return_code = return_code


class NotFoundError(KvmError, LookupError):
    """There is no such domain, network, pool, volume, ..."""


class AlreadyExistsError(KvmError):
    """Something with this name or UUID exists already."""


class InvalidStateError(KvmError):
    """The object cannot do this in the state that it is in."""


class ChangedMeanwhileError(InvalidStateError):
    """Somebody else has changed what was being edited; nothing was done."""


class NotSupportedError(KvmError):
    """The driver of this hypervisor, or this release of virsh, cannot do this."""


class DeniedError(KvmError):
    """This user may not do this."""


class InvalidArgumentError(KvmError, ValueError):
    """What was given cannot be right: malformed XML, an unknown option, a number out of range."""


class AgentError(KvmError):
    """The guest agent is not there, does not answer, or failed."""


class CommandTimeoutError(KvmError, TimeoutError):
    """The command took longer than allowed, by the ``timeout`` control or by libvirt itself."""


class CancelledError(KvmError):
    """The job was cancelled: a domain goes on as if it had not been begun; what was being written may be in part."""


class NoVirshError(KvmError):
    """The host has no virsh."""


class NoQemuImgError(KvmError):
    """The host has no qemu-img, or no qemu-nbd."""


class CannotConnectError(KvmError, ConnectionError):
    """virsh could not connect to the hypervisor; nothing was done there."""


class ConnectionLostError(KvmError, ConnectionError):
    """The connection to the hypervisor broke, or virsh was killed.

    `outcome_unknown` tells whether the command is an action that may have been done all the same.
    """


class UnreadableOutputError(KvmError):
    """virsh printed something that this package does not understand; please report it."""


_BEGINNINGS: dict[type[KvmError], tuple[str, ...]] = {
    ConnectionLostError: (
        r"Failed to reconnect to the hypervisor",
        r"lost the connection to ",
        r"the session on .* ended before",
        r"Disconnected from .* due to",
        r"(internal error: )?client socket is closed",
        r"(Cannot|Unable to) (recv|send|read|write) data: (?!ssh:|Host key)",
        r"End of file while (reading|writing) data",
        r"(no valid connection|invalid connection pointer)",
        r"it did not finish what it said",
        r"virsh ended unexpectedly",
    ),
    AgentError: (
        r"Guest agent is not responding",
        r"guest agent (replied|command)",
        r"argument unsupported: QEMU guest agent is not configured",
        r"internal error: unable to execute QEMU agent command",
    ),
    DeniedError: (
        r"access denied",
        r"authentication (failed|cancelled|unavailable)",
        r"operation forbidden",
        r"Failed to connect socket to '.*': Permission denied",
    ),
    NotFoundError: (
        r"[Ff]ailed to get (domain|network|pool|vol|interface|secret|nwfilter|network filter binding|network port) '",
        r"[Cc]ould not find matching device",
        r"domain '.*' has no current (snapshot|checkpoint)",
        r"(Domain|Network|Interface|Storage pool|Storage volume|Node device|Secret|Network filter|Domain snapshot) not found",
        r"(Network filter binding|Domain checkpoint|Domain backup job id|Security model|Server|Client) not found",
        r"(metadata|device|network port) not found",
        r"Requested volume '.*' is not in pool",
        r"Requested operation is not valid: couldn't (locate|find) an? ",
        r"referenced filter '.*' is missing",
        r"invalid argument: (disk '?.*'? (was )?not found|invalid path|failed to find disk|'.*' is not a known interface)",
        r"[Ii]nterface .* not found",
        r"No (disk|interface) (found|with)|no memory device found|no device found with alias",
        r"No graphical display|Failed to get VNC port|no hostname found",
        r"operation failed: no storage pools were found on host",
    ),
    AlreadyExistsError: (
        r"operation failed: .*'.*' (already exists|is already defined|already in use)",
        r"operation failed: storage vol already exists",
        r"operation failed: domain (moment|snapshot|checkpoint) .* already exists",
        r"a secret with UUID .* (is )?already defined for use with",
        r"(this )?(domain|network|storage volume|network port) .*exists already",
        r"storage volume name '.*' already in use",
        r"operation failed: Storage source conflict with pool",
        r"operation failed: filter with same UUID but different name",
        r"Requested operation is not valid: there is (an existing|already at least one) ",
        r"bridge name '.*' already in use",
        r"Network device .* already exists",
    ),
    InvalidStateError: (
        r"Requested operation is not valid",
        r"Domain is (already active|not running)",
        r"revert requires force",
        r"(The d|operation failed: d|D)omain is not running|operation failed: Active console session exists",
        r".* is supported only on (stopped|running) domains",
        r"resource busy",
        r"cannot get vcpupin for (offline|transient) domain",
        r"unable to execute QEMU command 'system_wakeup'",
        r"Invalid secret: secret is private",
        r"block copy still active",
        r"invalid argument: disk .* does not have an active block job",
        r"The disk device '.*' (already has|doesn't have) media",
        r"Storage pool already built",
        r"pool '.*' is not active",
        r"Network is already in use by interface",
        r"Device .* is not a bridge",
        r"(No interface|Multiple interfaces) attached to bridge",
    ),
    NotSupportedError: (
        r"this function is not supported by the connection driver",
        r"Operation not supported",
        r"unsupported flags",
        r"argument unsupported",
        r"unsupported configuration",
        r"No support for .* in command",
        r"unknown command",
        r"missing backend for pool type",
        r"command '.*' doesn't support option",
        r"Optional flags or --rawstats are not supported",
        r"Child process .*qemu-img: .*: (Format driver '.*' does not support image creation|Unknown file format ')",
    ),
    CancelledError: (r"it was cancelled", r"operation aborted: "),
    CommandTimeoutError: (r"Timed out during operation", r"(Copy|Commit|Pull) aborted"),
    InvalidArgumentError: (
        r"invalid argument|numerical overflow|cannot parse json|failed to parse JSON",
        r"XML (error|description|document failed to validate)",
        r"\([\w .]+\):\d+: ",
        r"unknown OS type",
        r"Failed to (open file|get option|read file)|cannot read domain image",
        r"(Scaled n|N)umeric value",
        r"command '.*' requires",
        r"unexpected data",
        r"expected syntax",
        r"(Options?|Flags) .* (are mutually exclusive|is required)",
        r"Options? .* (is|are) incompatible",
        r"--\S+ (and --\S+ are mutually exclusive|or --\S+ is required|requires )",
        r"Malformed device value",
        r"Unknown (mode|data source|source type)",
        r"(migrate: )?[Ii]nvalid (?!.* pointer)",
        r"option --.* already seen",
        r"[Uu]nable to parse",
        r"\w+ in vir\w+ must not be NULL",
        r"missing .* (attribute|information)",
        r"start cell .* out of range",
        r"page size|Unknown CPU model|unknown CPU model|(No|no) .* given",
        r"missing .* argument",
        r"Either --\S+ or --\S+ must be provided",
        r"need either --|--[\w-]+ requires",
        r"field '.*' is malformed|Rate string '|(either )?(inbound|outbound) |source-mode is mandatory",
        r"multiple .* found|Domain has (multiple|\d+) interfaces",
        r"File '.*' does not contain",
        r"cell number must be",
        r"(Start CPU|vcpu) \d+ is out of range",
        r"CPU \d+ in cpulist",
        r"vcpupin: Missing vCPU number|Not enough arguments|namespace key is required|Both secret and the secret header",
        r"[Oo]ne of (options )?--.* is required",
        r"[Uu]nknown (event type|codeset|calculation mode)|too many keycodes|malformed signal name",
        r"metadata title can't contain newlines",
        r"Can't set 0 processors|cannot query both live and config",
        r"Malformed size|negative size requires|Unsupported algorithm|unknown storage pool type",
        r"unrecognized (command|section) name",
        r"network port has no ",
    ),
    CannotConnectError: (
        r"failed to connect to the hypervisor",
        r"no connection driver available",
        r"Cannot recv data: (ssh: |Host key verification failed|.*Permission denied)",
        r"cannot connect to |this Remote is not connected",
    ),
}

# what only errors need is compiled when there is one
_LINES = r"(?m)^error: .*(?:(?<=\.rng)(?:\n(?!error: ).+)+)?"
"""What begins with ``error: ``; why a document does not fit a schema is on the lines that follow."""

_PREFIX = r"\A(error: )+"
"""What an error begins with; twice if two threads of virsh complain at the same time."""

_OF_SSH = r"cannot connect to |this Remote is not connected"
"""What says itself what to do."""


@cache
def _patterns() -> dict[type[KvmError], re.Pattern[str]]:
    return {kind: re.compile("|".join(beginnings)) for kind, beginnings in _BEGINNINGS.items()}


_HINTS: dict[type[KvmError], str] = {
    CannotConnectError: "is the URI right, and is libvirtd (or virtqemud) running there?",
    DeniedError: "connect as root or as a member of the group libvirt",
    NoVirshError: "install the package libvirt-clients (Debian, Ubuntu), libvirt-client (Fedora, RHEL, openSUSE, "
    "Alpine) or libvirt (Arch)",
    NoQemuImgError: "install the package qemu-utils (Debian, Ubuntu), qemu-img (Fedora, RHEL, Alpine, Arch) or qemu-tools "
    "(openSUSE)",
    AgentError: "is qemu-guest-agent running in the guest, and has the domain its channel?",
}


def describe(kind: type[KvmError], message: str) -> str:
    """`message`, and what can be done about errors of this kind."""
    return f"{message} ({_HINTS[kind]})" if kind in _HINTS else message


def from_stderr(command: Sequence[str], stderr: str, return_code: int | None) -> KvmError:
    """The error that virsh's standard error tells of."""
    said = [re.sub(_PREFIX, "", line.replace("\n", ": ")) for line in re.findall(_LINES, stderr)]
    said = [reason or "it did not finish what it said" for reason in said]
    reasons = said or [line for line in stderr.split("\n") if line.strip()] or ["it failed and did not say why"]
    kind = _kind(reasons)
    message = f"virsh {command[0] if command else ''}: {': '.join(reasons)}"
    if not re.match(_OF_SSH, reasons[0]):
        message = describe(kind, message)
    return kind(message, command=command, stderr=stderr, return_code=return_code)


def _kind(reasons: Sequence[str]) -> type[KvmError]:
    """The class of the last reason that has one; but what ends a connection decides over all that was tried on it."""
    patterns = _patterns()
    if patterns[CannotConnectError].match(reasons[0]):
        denied = any(patterns[DeniedError].match(reason) for reason in reasons)
        return DeniedError if denied else CannotConnectError
    if any(patterns[ConnectionLostError].match(reason) for reason in reasons):
        return ConnectionLostError
    for reason in reversed(reasons):
        for kind, pattern in patterns.items():
            if pattern.match(reason) or pattern.match(reason.removeprefix("internal error: ")):
                return kind
    return KvmError
