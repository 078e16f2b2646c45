"""A document in the user's editor: as XML, or as the values that it stands for."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kvm.cli.arguments import UsageError
from kvm.cli.ending import Asked, EndedError
from kvm.cli.messages import of_error
from kvm.cli.output import complain

if TYPE_CHECKING:
    from kvm import xml

T = TypeVar("T")

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
    """A document in a file that the user edits, until it is accepted.

    As a context manager, it removes the file at the end, unless changes in it were not accepted.
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
            complain(f"kvmctl: your changes were saved to {self._path}")

    def until_done(self, edit: Callable[[xml.Editor], T]) -> T:
        """Call `edit` with an editor of the document; repeat it as long as it fails and the user agrees.

        Each time, the user continues with the text of the last one.
        """
        from kvm.errors import ChangedMeanwhileError, KvmError
        from kvm.xml import TextEditor

        while True:
            try:
                return edit(self._edit_values if self._as_yaml else TextEditor(self._edit_text))
            except (KvmError, UsageError) as error:
                if self._path is None or not sys.stdin.isatty():
                    raise
                complain(f"kvmctl: {of_error(error)}")
                changed = ", which would undo the other change"
                question = f"Edit it again{changed if isinstance(error, ChangedMeanwhileError) else ''}? [y/N] "
                complain(question, end="")
                if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                    raise

    def _edit_values(self, conf: dict[str, Any]) -> dict[str, Any]:
        from kvm.cli.render import plain
        from kvm.cli.yaml import dump, load

        text = dump(plain(conf))
        typed = self._edit_text(text)
        if typed == text:
            return conf
        values = load(typed, "the edited text")
        if not isinstance(values, dict):
            raise UsageError(f"expected a YAML mapping for <{self._tag}>, not {type(values).__name__}")
        return values

    def _edit_text(self, text: str) -> str:
        if self._path is None:
            suffix = ".yaml" if self._as_yaml else ".xml"
            handle, self._path = tempfile.mkstemp(prefix=f"kvmctl-{self._tag}-", suffix=suffix)
            with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        self._run_editor(self._path)
        with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
            typed = file.read()
        if typed == text:
            os.unlink(self._path)
            self._path = None
        return typed

    def _run_editor(self, path: str) -> None:
        """Run the editor, which handles Ctrl-C itself; a signal that ends it, or this program, ends this program."""
        program = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        editors: list[subprocess.Popen[bytes]] = []
        requests: list[int] = []

        def end(number: int) -> None:
            if number != signal.SIGINT:
                requests.append(number)
                for editor in editors:
                    editor.send_signal(number)

        try:
            with Asked(end):
                editors.append(subprocess.Popen([*shlex.split(program), path]))
                for number in requests:  # what came before there was an editor
                    editors[0].send_signal(number)
                status = editors[0].wait()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot run the editor {program!r} ($VISUAL, $EDITOR): {reason}") from error
        if requests or status < 0:
            raise EndedError(requests[0] if requests else -status)
        if status:
            raise UsageError(f"the editor {program!r} ended with {status}, so nothing was changed")
