"""``kvmctl top``: what guests do, on one host or many, as it happens.

`rates` and `board` are pure: samples -> rows, rows -> lines. `look` asks one hypervisor, `watch` all of them again and
again, each in a thread of its own. `live` shows it on a terminal, `batch` where there is none.
"""

from __future__ import annotations

import os
import sys

from kvm.cli.arguments import Invocation, UsageError


def run(asked: Invocation) -> int:
    """Do what a command line asks for; the exit status."""
    import gc

    from kvm.cli.hosts import targets
    from kvm.cli.top.settings import Settings

    settings = Settings.of(asked)
    if asked.output == "raw":
        raise UsageError("top has no raw text: it is not virsh's")
    if "yaml" in asked.flags:
        raise UsageError("--yaml is for commands that edit; top has -o yaml")
    if "dry-run" in asked.flags:
        raise UsageError("top only reads, so there is nothing that would be done")
    if asked.timeout is not None:
        raise UsageError("top has no --timeout: it polls the hosts until it ends, and marks those that do not answer")
    found, told_apart = targets(asked)
    if not found:
        raise UsageError("there are no hosts to look at")
    is_live = _is_terminal() and asked.output == "table" and not asked.options.get("batch") and settings.count is None
    if is_live:
        try:
            from kvm.cli.top.live import live
        except ImportError as error:
            raise UsageError(
                f"top needs Textual ({error}): pip install 'python-kvm[cli]'; without it there is --batch"
            ) from error
        gc.freeze()
        gc.enable()
        return live(found, settings, told_apart=told_apart)
    from kvm.cli.top.batch import batch

    gc.freeze()
    gc.enable()
    return batch(found, settings, asked.output, told_apart=told_apart)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
