"""The units of the options of virsh's commands. Pure.

In every method, a size or a rate is an int in bytes (or bytes a second); a time is in virsh's unit, which the method's
docstring gives. A `Quantity`, or a text with a unit, is converted to virsh's unit exactly, or refused: virsh would
round it, or read the number in another unit.
"""

from __future__ import annotations

from kvm.units import converted
from kvm.values import Quantity

_LIMITS = " ".join(f"{operation}-bytes-sec{what}" for operation in ("total", "read", "write") for what in ("", "-max"))
_LENGTHS = " ".join(
    f"{operation}-{what}-sec-max-length" for operation in ("total", "read", "write") for what in ("bytes", "iops")
)

_BY_UNIT = {
    "bytes": """
        blkdeviotune size-iops-sec / blockcopy granularity buf-size / domblkthreshold threshold
        domfstrim minimum / domthrottlegroupset size-iops-sec / migrate comp-xbzrle-cache / migrate-compcache size
        vol-create-as capacity allocation / vol-download offset length / vol-resize capacity / vol-upload offset length
    """,
    "KiB": """
        allocpages pagesize / freepages pagesize / memtune hard-limit soft-limit swap-hard-limit min-guarantee
        setmaxmem size / setmem size / update-memory-device requested-size / blockresize size
    """,
    "bytes/s": f"""
        blkdeviotune {_LIMITS} / blockcommit bandwidth / blockcopy bandwidth / blockjob bandwidth / blockpull bandwidth
        domthrottlegroupset {_LIMITS}
    """,
    "MiB/s": """
        migrate available-switchover-bandwidth bandwidth postcopy-bandwidth / migrate-setspeed bandwidth
    """,
    "s": f"""
        await timeout / blkdeviotune {_LENGTHS} / blockcommit timeout / blockcopy timeout / blockpull timeout
        domdirtyrate-calc seconds / dommemstat period / dompmsuspend duration / domthrottlegroupset {_LENGTHS}
        event timeout / guest-agent-timeout timeout / iface-bridge delay / migrate timeout / net-event timeout
        nodedev-event timeout / nodesuspend duration / pool-event timeout / qemu-agent-command timeout
        qemu-monitor-event timeout / secret-event timeout
    """,
    "ms": """
        domifannounce initial max step / migrate-setmaxdowntime downtime / node-memory-tune shm-sleep-millisecs
        send-key holdtime
    """,
    "ns": "iothreadset poll-max-ns",
}
"""virsh's unit of a plain number, for the options of each command."""

_OPTIONS: dict[tuple[str, str], str] = {}
for _unit, _commands in _BY_UNIT.items():
    for _command, *_options in map(str.split, _commands.replace("\n", "/").strip("/ ").split("/")):
        _OPTIONS.update({(_command, _option): _unit for _option in _options})

_TO_THE_BYTE = {("blockresize", "size")}
"""Sizes in KiB for which virsh accepts bytes, with a suffix."""


def unit_of(command: str, option: str) -> str | None:
    """Return virsh's unit of a plain number for an option; None if that is not a size, a rate or a time."""
    return _OPTIONS.get((command, option))


def word(command: str, option: str, value: float | str | Quantity, unit: str) -> str:
    """Return the value of an option as a plain number in virsh's `unit`."""
    what = f"virsh {command}: --{option}"
    if (command, option) in _TO_THE_BYTE:
        return f"{converted(what, value, 'bytes')}b"
    return str(converted(what, value, unit))
