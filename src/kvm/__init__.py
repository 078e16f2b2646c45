"""A KVM hypervisor as an object: commands of virsh as typed methods, their output as plain Python values.

    >>> import kvm, unix
    >>> hypervisor = kvm.Hypervisor(unix.Local(), "test:///default")
    >>> hypervisor.domain.list(all=True)
    {'test': {'id': 1, 'state': 'running'}}

`Hypervisor` is where to begin; its groups (`hypervisor.generic`, `hypervisor.domain`, ...) have the commands.
"""

from typing import TYPE_CHECKING

from kvm.errors import (
    AgentError,
    AlreadyExistsError,
    CannotConnectError,
    ChangedMeanwhileError,
    CommandTimeoutError,
    ConnectionLostError,
    DeniedError,
    InvalidArgumentError,
    InvalidStateError,
    KvmError,
    NoQemuImgError,
    NotFoundError,
    NotSupportedError,
    NoVirshError,
    UnreadableOutputError,
)
from kvm.former import (
    CRASHED,
    DYING,
    IDLE,
    PAUSED,
    RUNNING,
    SHUTDOWN,
    SHUTOFF,
    SUSPENDED,
    TimeoutException,
    pprint,
)
from kvm.hypervisor import CONTROLS, Hypervisor
from kvm.identifiers import gen_mac, gen_uuid
from kvm.values import Quantity
from kvm.xml import _xml_to_dict, from_xml, to_xml

if TYPE_CHECKING:
    from kvm.fleet import Fleet, FleetError
    from kvm.inventory import InventoryError

__version__ = "2.0.0a1"

__all__ = [
    "CONTROLS",
    "CRASHED",
    "DYING",
    "IDLE",
    "PAUSED",
    "RUNNING",
    "SHUTDOWN",
    "SHUTOFF",
    "SUSPENDED",
    "AgentError",
    "AlreadyExistsError",
    "CannotConnectError",
    "ChangedMeanwhileError",
    "CommandTimeoutError",
    "ConnectionLostError",
    "DeniedError",
    "Fleet",
    "FleetError",
    "Hypervisor",
    "InvalidArgumentError",
    "InvalidStateError",
    "InventoryError",
    "KvmError",
    "NoQemuImgError",
    "NoVirshError",
    "NotFoundError",
    "NotSupportedError",
    "Quantity",
    "TimeoutException",
    "UnreadableOutputError",
    "__version__",
    "_xml_to_dict",
    "from_xml",
    "gen_mac",
    "gen_uuid",
    "pprint",
    "to_xml",
]

_LATER = {"Fleet": "fleet", "FleetError": "fleet", "InventoryError": "inventory"}
"""What is loaded when it is first asked for, and the module that it is in."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return globals().setdefault(name, getattr(import_module(f"kvm.{_LATER[name]}"), name))
