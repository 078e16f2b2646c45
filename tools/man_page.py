"""Make the man page when a wheel is built, and have it installed: a build hook of hatch.

Also on its own: ``python tools/man_page.py > kvmctl.1``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "src"))

import kvm
from kvm.cli.roff import man_page

try:
    from hatchling.builders.config import BuilderConfig
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # nobody builds
    pass
else:

    class ManPage(BuildHookInterface[BuilderConfig]):
        """Write the page, and name it among what is installed.

        It is in a directory of its own until the wheel is there: everything beside the wheel counts as a distribution.
        """

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatch's words
            self._temporary = tempfile.TemporaryDirectory()
            path = os.path.join(self._temporary.name, "kvmctl.1")
            with open(path, "w", encoding="utf-8") as file:
                file.write(man_page(kvm.__version__))
            build_data["shared_data"][path] = "share/man/man1/kvmctl.1"

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
            self._temporary.cleanup()


if __name__ == "__main__":
    sys.stdout.write(man_page(kvm.__version__))
