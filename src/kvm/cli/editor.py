"""A document in the user's editor: as XML, or as the values that it stands for."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from typing import Any

from kvm.cli.arguments import UsageError
from kvm.cli.ending import Asked

_TAGS = {
    "checkpoint-edit": "domaincheckpoint",
    "iface-edit": "interface",
    "net-edit": "network",
    "nwfilter-edit": "filter",
    "pool-edit": "pool",
    "snapshot-edit": "domainsnapshot",
}
"""The document that each command edits; the others edit a domain."""


class Editor:
    """What the ``edit`` methods call with a document's values; they are given back as the user leaves them.

    As a context manager: the file with what was typed is removed, unless it was typed in vain.
    """

    def __init__(self, command: str, *, as_yaml: bool) -> None:
        self._tag = _TAGS.get(command, "domain")
        self._as_yaml = as_yaml
        self._path: str | None = None

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._path is None:
            return
        if kind is None:
            os.unlink(self._path)
        else:
            sys.stderr.write(f"kvmctl: what you have typed is kept in {self._path}\n")

    def __call__(self, conf: dict[str, Any]) -> dict[str, Any] | str:
        text = self._written(conf)
        typed = self._edited(text)
        if typed == text:
            os.unlink(str(self._path))
            self._path = None
            return conf
        if not self._as_yaml:
            return typed
        from kvm.cli.yaml import load

        values = load(typed)
        if not isinstance(values, dict):
            raise UsageError(f"a <{self._tag}> is a mapping, and that is none any more")
        return values

    def _written(self, conf: dict[str, Any]) -> str:
        if self._as_yaml:
            from kvm.cli.render import plain
            from kvm.cli.yaml import dump

            return dump(plain(conf))
        from kvm.xml import to_xml

        return to_xml(self._tag, conf)

    def _edited(self, text: str) -> str:
        handle, self._path = tempfile.mkstemp(
            prefix=f"kvmctl-{self._tag}-", suffix=".yaml" if self._as_yaml else ".xml"
        )
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        program = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            with Asked(lambda _: None):  # Ctrl-C is for the editor
                status = subprocess.run([*shlex.split(program), self._path], check=False).returncode
        except OSError as error:
            raise UsageError(f"cannot run the editor {program!r} ($VISUAL, $EDITOR): {error.strerror}") from error
        if status:
            raise UsageError(f"the editor {program!r} ended with {status}, so nothing was changed")
        with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
