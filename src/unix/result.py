"""What a command that ran leaves behind."""

from __future__ import annotations

from typing import Self


class Result(tuple[bool, str, str]):
    """The end of a command; unpacks to ``status, stdout, stderr``.

    `status` is True if the command exited with 0. `return_code` is its exit status, negative (``-9``) if a
    signal ended it, 127 if there is no such command and 126 if it cannot be started, as a shell would have
    it. `stdout` and `stderr` are text in which undecodable bytes are surrogates (``os.fsencode`` gives the
    bytes back); under ``decode=None`` they are bytes. A Result is true if its command succeeded.

    `outcome_unknown` is True if the command failed, but its action may have been completed, or may still be. Hosts
    raise an error instead of returning such a Result; a `kvm.Hypervisor` with ``check=False`` returns it.
    """

    return_code: int
    outcome_unknown: bool = False

    def __new__(cls, return_code: int, stdout: str = "", stderr: str = "", *, outcome_unknown: bool = False) -> Self:
        self = super().__new__(cls, (return_code == 0, stdout, stderr))
        self.return_code = return_code
        if outcome_unknown:
            self.outcome_unknown = True
        return self

    def __getnewargs__(self) -> tuple[int, str, str]:
        return (self.return_code, self.stdout, self.stderr)

    def __bool__(self) -> bool:
        return self.status

    def __repr__(self) -> str:
        outcome = ", outcome_unknown=True" if self.outcome_unknown else ""
        return f"Result({self.return_code}, {self.stdout!r}, {self.stderr!r}{outcome})"

    @property
    def status(self) -> bool:
        return self[0]

    @property
    def stdout(self) -> str:
        return self[1]

    @property
    def stderr(self) -> str:
        return self[2]
