"""kvmctl: virsh's commands on one hypervisor or many, their values as tables, JSON or YAML.

The rest of the package does not import this one. It is loaded for each command that is typed, so it loads everything as
late as possible.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """The program.

    It ends without taking apart what it has loaded, which takes as long as some commands do; by then everything that
    was opened is closed.
    """
    from kvm.cli.ending import Asked, at_once

    with Asked(at_once):
        import gc
        import os
        import sys

        gc.disable()  # loading makes nothing but what stays

        from kvm.cli.output import open_standard_streams

        open_standard_streams()
        from kvm.cli.program import run

        try:
            status = run(sys.argv[1:])
        except BaseException:
            gc.enable()
            raise
        os._exit(status)
