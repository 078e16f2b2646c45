"""``python -m kvm.cli``: the same as ``kvmctl``."""

from kvm.cli import main

main()
