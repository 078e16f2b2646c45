"""Another virsh than the one that does a job: it asks libvirt how far that is, and aborts it.

How that goes depends on what the job is about. The job of a domain has figures, and can be aborted; so can that of a
disk, of which virsh itself tells. While a domain is restored, libvirt answers nothing about it but its state, and all
that can be done is to destroy it: what it was saved to stays as it was. Of what is done to a volume libvirt knows
nothing, but of one that is made as a copy, how much is allocated.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import unix
from kvm.errors import NotFoundError
from kvm.virsh.command import Command, failure
from kvm.virsh.jobs import NotAbortedError, conclusion, fraction, has_begun
from kvm.virsh.outcome import unknown
from unix.result import Result

_PATIENCE = 5
"""Seconds that libvirt has for an answer."""

_IS_RESTORED = re.compile(r"paused \((starting up|migrating)\)")
_ALLOCATION = re.compile(r"^Allocation: +([0-9]+) ", re.MULTILINE)
_IS_PULLED = re.compile(r"<domainbackup [^>]*mode=[\"']pull[\"']")


class AnotherVirsh:
    """Sees the job of `command`, by what `ask` is answered on `host`."""

    def __init__(self, host: unix.Host, ask: Callable[[Command], Result], command: Command) -> None:
        self._host = host
        self._answer = ask
        self._command = command
        self._which = {
            name: command.options[name] for name in ("domain", "path") if command.options.get(name) is not None
        }

    def abort(self) -> Result:
        """Have libvirt abort it, if it has begun. `NotAbortedError` if that is not to be, or cannot be."""
        assert self._command.job
        if domain := self._command.job.domain:
            return self._abort_restoration(domain)
        if "domain" not in self._which:
            raise NotAbortedError("libvirt cannot abort this, and goes on with it")
        if "path" in self._which:
            return self._ask(Command("blockjob", {**self._which, "abort": True}, reads=False))
        told = self._figures()
        if not told.status or not has_begun(self._command.name, told.stdout):
            return Result(1, "", told.stderr)
        return self._ask(Command("domjobabort", self._which, reads=False))

    def how_far(self) -> float | None:
        """How much is done, from 0 to 1; None if libvirt does not tell."""
        assert self._command.job
        if copy := self._command.job.copy:
            told = self._ask(Command("vol-info", {"vol": copy.name, "pool": copy.pool, "bytes": True}))
            found = _ALLOCATION.search(told.stdout) if told.status else None
            return int(found[1]) / copy.size if found and int(found[1]) < copy.size else None
        if "domain" not in self._which:
            return None
        try:
            told = self._figures()
            return fraction(told.stdout) if told.status and has_begun(self._command.name, told.stdout) else None
        except NotAbortedError:
            return None

    def is_endless(self) -> bool:
        """Whether it goes on until somebody ends it: a backup that others read."""
        told = self._ask(Command("backup-dumpxml", self._which))
        return told.status and _IS_PULLED.search(told.stdout) is not None

    def ended(self) -> Result | None:
        """How it has ended, of one that goes on when its virsh has; None if it still does."""
        doubt, told = unknown(self._command.name), self._figures()
        if not told.status:
            return Result(told.return_code, "", f"{told.stderr.rstrip()}{doubt}\n", outcome_unknown=True)
        try:
            if has_begun(self._command.name, told.stdout):
                return None
        except NotAbortedError:  # it has ended, and another one has begun
            pass
        completed = {**self._which, "completed": True, "keep_completed": True, "rawstats": True}
        last = self._ask(Command("domjobinfo", completed))
        return conclusion(self._command.name, last.stdout, doubt)

    def _abort_restoration(self, domain: str) -> Result:
        told = self._ask(Command("domstate", {"domain": domain, "reason": True}))
        if not told.status or not _IS_RESTORED.search(told.stdout):
            return Result(1, "", told.stderr)
        result = self._ask(Command("destroy", {"domain": domain}, reads=False))
        is_gone = not result.status and isinstance(failure(["destroy"], result), NotFoundError)
        return Result(0, "", "") if is_gone else result

    def _figures(self) -> Result:
        return self._ask(Command("domjobinfo", {"domain": self._which["domain"], "rawstats": True}))

    def _ask(self, command: Command) -> Result:
        with self._host.set_controls(timeout=_PATIENCE):
            return self._answer(command)
