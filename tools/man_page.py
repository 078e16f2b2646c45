"""Makes the man page when a wheel is built, and has it installed: a hook of hatch's.

Also on its own: ``python tools/man_page.py > kvmctl.1``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "src"))

import kvm
from kvm.cli.roff import man_page

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # type: ignore[import-not-found]
except ImportError:  # nobody builds
    pass
else:

    class ManPage(BuildHookInterface):  # type: ignore[misc]
        """Writes the page, and names it among what is installed."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatch's words
            path = os.path.join(self.directory, "kvmctl.1")
            os.makedirs(self.directory, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(man_page(kvm.__version__))
            build_data["shared_data"][path] = "share/man/man1/kvmctl.1"


if __name__ == "__main__":
    sys.stdout.write(man_page(kvm.__version__))
