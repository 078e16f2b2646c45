"""kvmctl: virsh's commands on one hypervisor or many, their values as tables, JSON or YAML.

Nobody imports this room. It is entered once for each command typed, so everything in it is loaded as late as can be.
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

        from kvm.cli.program import run

        try:
            status = run(sys.argv[1:])
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            gc.enable()
            raise
        os._exit(status)
