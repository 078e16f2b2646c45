"""What an error of qemu-img means to a caller: its words, and the class for each."""

from __future__ import annotations

import re

from kvm.errors import (
    AlreadyExistsError,
    DeniedError,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NotFoundError,
    NotSupportedError,
)
from kvm.groups.image.job import Job
from unix.result import Result

_REASONS: dict[type[KvmError], str] = {
    InvalidStateError: r'Failed to get (shared )?"[\w ]+" lock|Device or resource busy|is corrupt; cannot be opened'
    r"|does not have a backing file|active dirty bitmaps|which has snapshots|is currently in use|is inconsistent"
    r"|contains a dirty log",
    DeniedError: r"(Permission denied|Operation not permitted|Read-only file system|Invalid password, .*)\Z",
    NotFoundError: r"No such file or directory\b|snapshot not found|Can't find snapshot|itmap '.*' (not found|does not)"
    r"|Did not find '.*' in the backing chain|No secret with id",
    AlreadyExistsError: r"[Bb]itmap already exists|File exists\Z",
    NotSupportedError: r"not support(ed)?\b|unrecognized option|invalid option -- |can only be resized",
    InvalidArgumentError: r"[Ii]nvalid |Unknown |Parameter '|Unexpected |[Ee]xpect(s|ing) |[Mm]ust |should be "
    r"|requires? |required|Use the --shrink|Could not parse|is not (in|valid)|mutually exclusive|conflicts with"
    r"|[Cc]annot |needs a |only |too (big|large|small|long)|greater than|smaller than|no effect|parsing|was expected"
    r"|Need at least",
}
"""What qemu-img says, by what it means to a caller; the first counts."""

_ASIDE = re.compile(r"^(WARNING: .*|( {9}|Try '|Specify ).*|qemu-(img|nbd): warning: .*)$\n?", re.MULTILINE)
_WHO = re.compile(r"^\S*qemu-(img|nbd)( \w+)?: ", re.MULTILINE)


def failure(job: Job, result: Result, doubt: str = "") -> KvmError:
    """The error that a run has ended with; `doubt` is what to say if it has not ended by itself."""
    said = _ASIDE.sub("", result.stderr).strip()
    reason = "; ".join([line.strip() for line in _WHO.sub("", said).split("\n")])
    if not reason:
        reason = f"it ended with {result.return_code} and did not say why{doubt}"
    if option := re.search(r"unrecognized option '(.*)'|invalid option -- '(.*)'", reason):
        reason = f"this {job.words[0]} has no option {option[1] or '-' + option[2]}"
        return job.error(NotSupportedError, reason, result.stderr, result.return_code)
    meant = job.without_names(said)
    kind = next((kind for kind, pattern in _REASONS.items() if re.search(pattern, meant)), KvmError)
    if job.words[0] == "qemu-nbd" and kind is NotFoundError and "/dev/" in reason:
        reason = f"{reason}; is the module nbd loaded? (modprobe nbd)"
    return job.error(kind, reason, result.stderr, result.return_code)
