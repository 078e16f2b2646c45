"""The errors of this package, and how virsh's standard error is read for them.

virsh reports an error in a line that begins with ``error: ``: first what virsh itself tried, then why libvirt refused.
Both can continue in the lines that follow. libvirt's message decides on the class, or else virsh's own line. The table
below maps the beginnings of these messages to classes. The rest of a message may quote another program (QEMU, the guest,
a hook, a mount), and does not count.

virsh runs untranslated, but libvirtd's messages are in libvirtd's language, and virsh prints no error codes. If libvirtd
does not run in English, only errors that virsh itself reports (no such domain, a lost connection, a wrong option) have a
class; other errors are a plain `KvmError`. So no decision of `kvm` itself depends on such a class.

Errors about command lines that virsh does not know are in `kvm.virsh.command`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from kvm import redaction


class KvmError(Exception):
    """A command failed, and the base of all errors of this package.

    `command` is the words of the virsh command, `stderr` what virsh wrote to standard error, `return_code` its
    exit status (None where no virsh was run). `outcome_unknown` is True if the command is an action that libvirt may
    have completed, or may still complete: the connection broke, virsh was killed, or the time limit was exceeded while
    it ran. Query the hypervisor before you repeat it.

    Secrets of the command are masked in all of these.
    """

    outcome_unknown: bool = False

    def __init__(
        self, message: str = "", *, command: Sequence[str] = (), stderr: str = "", return_code: int | None = None
    ) -> None:
        hidden = redaction.secrets(command)
        super().__init__(redaction.masked(message, hidden))
        self._command = redaction.masked_words(command)
        self.stderr = redaction.masked(stderr, hidden)
        self.return_code = return_code

    @property
    def command(self) -> list[str]:
        return self._command

    @command.setter
    def command(self, words: Sequence[str]) -> None:
        self._command = redaction.masked_words(words)
        self.conceal(redaction.secrets(words))

    def conceal(self, secrets: Sequence[str]) -> None:
        """Mask secrets that are not in the words of the command, such as those of a document."""
        self.args = tuple(redaction.masked(each, secrets) if isinstance(each, str) else each for each in self.args)
        self.stderr = redaction.masked(self.stderr, secrets)

    def __str__(self) -> str:
        """Return the message with control characters escaped, because a guest may have put them there; `stderr` has them."""
        from unix.errors import printable

        return printable(super().__str__())


class NotFoundError(KvmError, LookupError):
    """There is no such domain, network, pool, volume, ..."""


class AlreadyExistsError(KvmError):
    """Something with this name or UUID exists already."""


class InvalidStateError(KvmError):
    """The object cannot do this in the state that it is in."""


class ChangedMeanwhileError(InvalidStateError):
    """Another program has changed the document that was being edited; nothing was done."""


class NotSupportedError(KvmError):
    """The driver of this hypervisor, or this release of virsh, cannot do this."""


class DeniedError(KvmError):
    """This user may not do this."""


class AuthenticationRequiredError(DeniedError):
    """libvirt asks for a user name or a password, and gets no answer: they belong in its ``auth.conf``."""


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

    `outcome_unknown` is True if the command is an action that libvirt may have completed, or may still complete.
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
        r"virsh's error output was cut off",
        r"virsh ended unexpectedly",
        r"stream had I/O failure",
    ),
    AgentError: (
        r"Guest agent is not responding",
        r"guest agent (replied|command)",
        r"argument unsupported: QEMU guest agent is not configured",
        r"internal error: unable to execute QEMU agent command",
    ),
    AuthenticationRequiredError: (r"authentication required: ",),
    DeniedError: (
        r"access denied",
        r"authentication (failed|cancelled|unavailable)",
        r"operation forbidden",
        r"([Cc]annot|[Ff]ailed to|[Uu]nable to) .*: (Permission denied|Operation not permitted)\Z",
    ),
    NotFoundError: (
        (
            r"[Ff]ailed to get (domain|network|pool|vol|interface|secret|nwfilter( binding)?|network filter binding"
            r"|network port) '"
        ),
        r"[Cc]ould not find matching device",
        r"(snapshot|checkpoint) '.*' has no parent|snapshot .* disappeared from list",
        r"domain '.*' has no current (snapshot|checkpoint)",
        r"(Domain|Network|Interface|Storage pool|Storage volume|Node device|Secret|Network filter|Domain snapshot) not found",
        r"(Network filter binding|Domain checkpoint|Domain backup job id|Security model|Server|Client) not found",
        r"(metadata|device|network port) not found",
        r"Requested volume '.*' is not in pool",
        r"Volume '.*' was not found in domain's definition|Storage pool '.*' for volume '.*' not found",
        r"Requested operation is not valid: couldn't (locate|find) an? ",
        r"referenced filter '.*' is missing",
        r"invalid argument: (disk '?.*'? (was )?not found|invalid path|failed to find disk|'.*' is not a known interface)",
        r"[Ii]nterface .* not found",
        r"No (disk|interface) (found|with)|no memory device found|no device found with alias",
        r"Failed to get (disk|interface) information|Failed to extract interface information or no interfaces",
        r"No graphical display|Failed to get VNC port|no hostname found",
        r"operation failed: no storage pools were found on host",
        r"([Cc]annot|[Ff]ailed to|[Uu]nable to) (?!connect ).*: No such file or directory\Z",
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
        r"([Cc]annot|[Ff]ailed to|[Uu]nable to) .*: File exists\Z",
    ),
    InvalidStateError: (
        r"Requested operation is not valid",
        r"Domain is (already active|not running)",
        r"Refusing to undefine while ",
        r"Domain '.*' could not be (suspended|woken up)",
        r"revert requires force|cannot halt after snapshot of transient domain",
        r"(The d|operation failed: d|D)omain is not running|operation failed: Active console session exists",
        r".* is supported only on (stopped|running) domains",
        r"resource busy|Unsafe migration|checkpoint inconsistent",
        r"cannot get vcpupin for (offline|transient) domain",
        r"unable to execute QEMU command 'system_wakeup'",
        r"Invalid secret: secret is private",
        r"block copy still active",
        r"invalid argument: disk .* does not have an active block job",
        r"The disk device '.*' (already has|doesn't have) media",
        r"Storage pool (already built|probe failed)",
        r"pool '.*' is not active",
        r"Network is already in use by interface",
        r"Device .* is not a bridge|Existing device .* is already a bridge|No bridge node in xml document",
        r"(No interface|Multiple interfaces) attached to bridge",
        r"([Cc]annot|[Ff]ailed to|[Uu]nable to) .*: Device or resource busy\Z",
    ),
    NotSupportedError: (
        r"this function is not supported by the connection driver",
        r"Operation not supported",
        r"unsupported flags",
        r"argument unsupported",
        r"unsupported configuration|the CPU is incompatible with host CPU",
        r"No support for .* in command",
        r"unknown command",
        r"missing backend for pool type",
        r"command '.*' doesn't support option",
        r"Optional flags or --rawstats are not supported",
        r"Filtering (using --type )?is not supported by this libvirt|'.*' D-Bus address is not handled",
        r"Child process .*qemu-img: .*: (Format driver '.*' does not support image creation|Unknown file format ')",
    ),
    CancelledError: (r"it was cancelled", r"operation aborted: ", r"migration successfully aborted"),
    CommandTimeoutError: (r"Timed out during operation", r"(Copy|Commit|Pull) aborted"),
    InvalidArgumentError: (
        r"invalid argument|numerical overflow|cannot parse json|failed to parse JSON",
        r"XML (error|description|document failed to validate)",
        r"\([\w .]+\):\d+: ",
        r"Unable to encode message payload",
        r"unknown OS type",
        r"Failed to (open file|get option|read file)|cannot read (domain image|file )",
        r"(Scaled n|N)umeric value",
        r"command '.*' requires",
        r"unexpected data",
        r"expected syntax|expecting an? \w+:|missing \"|dangling ",
        r"(Options?|Flags) .* (are mutually exclusive|is required)",
        r"Options? .* (is|are) incompatible|Specified both --|Only one argument from --|timeout, async and block options",
        r"--\S+ (and --\S+ are mutually exclusive|or --\S+ is required|only works with |is required)",
        r"'?--\S+ (option )?requires |option \S+ (requires|takes) ",
        r"Malformed device value|Cannot parse mode string|cannot parse pci address",
        r"Unknown (mode|data source|source type|storage type)",
        r"(migrate: )?[Ii]nvalid (?!.* pointer)|migrate: Unexpected ",
        r"option --.* already seen|unsupported option |unknown option",
        r"[Uu]nable to parse",
        r"\w+ in vir\w+ must not be NULL",
        r"missing .* (attribute|information)",
        r"start cell .* out of range",
        r"page size|Unknown CPU model|unknown CPU model|(No|no) .* given",
        r"missing (.* )?argument|Input secret value is missing",
        r"[Ee]ither --\S+ or --.* (must be provided|is required)",
        r"need either |--[\w-]+ requires",
        r"field '.*' is malformed|Rate string '|(either )?(inbound|outbound) |source-mode is mandatory",
        r"multiple .* found|Domain has (multiple|\d+) interfaces",
        r"File .* (does not contain|contains no keys)",
        r"Interface name from config .* doesn't match|Must use --rename or --clone|Cannot rename checkpoint",
        r"cell number must be|timeout must be positive|bandwidth must be less than|overflow in converting",
        r"(Start CPU|vcpu) \d+ is out of range",
        r"CPU \d+ in cpulist|format '.*' is not supported, expecting",
        r"vcpupin: Missing vCPU number|Not enough arguments|namespace key is required|Both secret and the secret header",
        r"[Oo]ne of (options )?--.* is required",
        r"[Uu]nknown (event type|codeset|calculation mode)|too many keycodes|malformed signal name",
        r"metadata title can't contain newlines",
        r"Can't set 0 processors|cannot query both live and config",
        r"Malformed size|negative size requires|Unsupported algorithm|unknown storage pool type",
        r"unrecognized (command|section) name",
        r"network port has no |virtio-mem device is missing ",
    ),
    CannotConnectError: (
        r"failed to connect to the hypervisor|Cannot setup keepalive on connection",
        r"no connection driver available",
        r"Cannot recv data: (ssh: |Host key verification failed|.*Permission denied)",
        r"cannot connect to |this Remote is not connected",
    ),
}

# what only errors need is compiled when there is one
_PREFIX = r"(error: )+"
"""Begins a message; twice where two threads of virsh report at the same time."""

_LOG = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: \d+: \w+ : "
"""Begins a line of libvirt's log, which goes to standard error where the environment asks for it."""

_BY_VIRSH = r"[Ff]ailed\b|[Uu]nable to |[Cc]ould not |[Cc]annot |unexpected problem |Domain '.*' could not be |The host was not "
"""Begins a line of virsh's own that is followed by libvirt's message. libvirt's messages that begin so quote no other program."""

_NEWS = r"(Disconnected from|Reconnected to) "
"""Begins a report by another thread of virsh about the connection, which can come between the lines of an error."""

_HINTS_ON_CONNECTING = {
    r"(Failed to connect socket to '.*': Permission denied|authentication unavailable)": "connect as root or as a "
    "member of the group libvirt",
    r"(Failed to connect socket to|unable to connect to server at) ": "is the URI right, and is libvirtd "
    "(or virtqemud) running there?",
    r"(no connection driver available|internal error: Unable to parse URI)": "is the URI right?",
}
"""Advice for messages that begin like this, when virsh could not connect to the hypervisor."""

_HINTS = {
    r"authentication required: ": "put the credentials into libvirt's auth.conf: /etc/libvirt/auth.conf, "
    "~/.config/libvirt/auth.conf of the user that runs virsh, or the file that LIBVIRT_AUTH_FILE or the URI's "
    "?authfile= names; see https://libvirt.org/auth.html",
    r"(Guest agent is not responding|argument unsupported: QEMU guest agent is not configured)": "is qemu-guest-agent "
    "running in the guest, and has the domain its channel?",
    r"Unable to encode message payload": "libvirt takes at most 4 MiB in one text",
    r"Failed to read file '.*': Value too large": "virsh reads at most 10 MiB of XML",
}
"""Advice for messages that begin like this."""

_PROGRAMS: dict[type[KvmError], str] = {
    NoVirshError: "install the package libvirt-clients (Debian, Ubuntu), libvirt-client (Fedora, RHEL, openSUSE, "
    "Alpine) or libvirt (Arch)",
    NoQemuImgError: "install the package qemu-utils (Debian, Ubuntu), qemu-img (Fedora, RHEL, Alpine, Arch) or qemu-tools "
    "(openSUSE)",
}


@cache
def _patterns() -> dict[type[KvmError], re.Pattern[str]]:
    return {kind: re.compile("|".join(beginnings)) for kind, beginnings in _BEGINNINGS.items()}


def describe(kind: type[KvmError], message: str) -> str:
    """Add to `message` how to install the program whose absence errors of this kind report."""
    return f"{message} ({_PROGRAMS[kind]})"


def from_stderr(command: Sequence[str], stderr: str, return_code: int | None) -> KvmError:
    """Return the error that virsh's standard error reports."""
    messages = _messages(stderr)
    lines = [line for line in stderr.split("\n") if line.strip()]
    deciding = _deciding(messages) if messages else lines
    kind = _kind(deciding)
    reason = ": ".join(messages or lines or ["virsh failed without an error message"])
    is_alone = len(messages) < 2 and kind is not CannotConnectError
    message = f"virsh {' '.join([*command[:1], *(_objects(command, reason) if is_alone else ())])}: {reason}"
    is_connecting = bool(deciding) and deciding[0].startswith("failed to connect to the hypervisor")
    table = {**_HINTS, **(_HINTS_ON_CONNECTING if is_connecting else {})}
    hints = [hint for pattern, hint in table.items() for line in deciding if re.match(pattern, line)]
    if hints:
        message = f"{message} ({hints[0]})"
    return kind(message, command=command, stderr=stderr, return_code=return_code)


def _messages(stderr: str) -> list[str]:
    """Cut standard error into virsh's messages, each with the lines that belong to it."""
    messages: list[list[str]] = []
    for line in stderr.split("\n"):
        if prefix := re.match(_PREFIX, line):
            messages.append([line[prefix.end() :] or "virsh's error output was cut off"])
        elif messages and line.strip() and not re.match(_LOG, line):
            messages[-1].append(line.rstrip())
    return ["\n".join(message) for message in messages]


def _objects(command: Sequence[str], reason: str) -> list[str]:
    """Return the objects of the command (its first two arguments) that the reason does not name."""
    values = [word.partition("=")[2] if word.startswith("--") else word for word in command[1:]]
    short = [value for value in values if value and len(value) <= 80 and "\n" not in value and value != "/dev/stdin"]
    return [value for value in short[:2] if not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", reason)]


def _deciding(messages: Sequence[str]) -> list[str]:
    """Return the first lines of the messages that decide on the class: virsh's own, and libvirt's, which is the next."""
    deciding: list[str] = []
    for message in messages:
        deciding.append(message.partition("\n")[0])
        if not re.match(f"{_BY_VIRSH}|{_NEWS}", deciding[-1]):
            break
    return deciding


def _kind(deciding: Sequence[str]) -> type[KvmError]:
    """Return the class of the last message that has one; a lost connection takes precedence over what failed on it."""
    patterns = _patterns()
    if deciding and patterns[CannotConnectError].match(deciding[0]):
        denied = any(patterns[DeniedError].match(message) for message in deciding)
        return DeniedError if denied else CannotConnectError
    if any(patterns[ConnectionLostError].match(message) for message in deciding):
        return ConnectionLostError
    for message in reversed(deciding):
        for kind, pattern in patterns.items():
            if pattern.match(message) or pattern.match(message.removeprefix("internal error: ")):
                return kind
    return KvmError
