"""A KVM hypervisor as an object: commands of virsh as typed methods, their output as plain Python values.

    >>> import kvm, unix
    >>> hypervisor = kvm.Hypervisor(unix.Local(), "test:///default")
    >>> hypervisor.domain.list(all=True)
    {'test': {'id': 1, 'state': 'running'}}

`Hypervisor` is where to begin; its groups (`hypervisor.generic`, `hypervisor.domain`, ...) have the commands.
Each name is loaded when it is first asked for.
"""

TYPE_CHECKING = False  # as in typing, which takes longer to load than all of this
if TYPE_CHECKING:
    from kvm.errors import (
        AgentError,
        AlreadyExistsError,
        AuthenticationRequiredError,
        CancelledError,
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
    from kvm.fleet import Fleet, FleetError
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
    from kvm.inventory import InventoryError
    from kvm.values import Outcome, Quantity
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
    "AuthenticationRequiredError",
    "CancelledError",
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
    "Outcome",
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

_HOMES = {
    "CONTROLS": "hypervisor", "Hypervisor": "hypervisor",
    "Fleet": "fleet", "FleetError": "fleet", "InventoryError": "inventory",
    "CRASHED": "former", "DYING": "former", "IDLE": "former", "PAUSED": "former", "RUNNING": "former",
    "SHUTDOWN": "former", "SHUTOFF": "former", "SUSPENDED": "former", "TimeoutException": "former", "pprint": "former",
    "gen_mac": "identifiers", "gen_uuid": "identifiers",
    "Outcome": "values",
    "Quantity": "values",
    "_xml_to_dict": "xml", "from_xml": "xml", "to_xml": "xml",
}  # fmt: skip
"""The modules that names are in; all others are errors."""

_MODULES = {"errors", "hypervisor", "identifiers", "values", "xml"}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return __import__(f"kvm.{name}", fromlist=[name])
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"kvm.{_HOMES.get(name, 'errors')}", fromlist=[name])
    return globals().setdefault(name, getattr(module, name))
