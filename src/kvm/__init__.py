"""A KVM hypervisor as an object: commands of virsh as typed methods, their output as plain Python values.

    >>> import kvm, unix
    >>> hypervisor = kvm.Hypervisor(unix.Local(), "test:///default")
    >>> hypervisor.domain.list(all=True)
    {'test': {'id': 1, 'state': 'running'}}

`Hypervisor` is where to begin; its groups (`hypervisor.generic`, `hypervisor.domain`, ...) have the commands.
"""

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
    "Hypervisor",
    "InvalidArgumentError",
    "InvalidStateError",
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
