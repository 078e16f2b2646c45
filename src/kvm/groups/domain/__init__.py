"""Domains: virtual machines, running or only defined. Each name is loaded when it is first asked for."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvm.groups.domain.domain import Domain
    from kvm.groups.domain.monitor import DomainInfo, DomainState, ListedDomain

__all__ = ["Domain", "DomainInfo", "DomainState", "ListedDomain"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"kvm.groups.domain.{'domain' if name == 'Domain' else 'monitor'}", fromlist=[name])
    return globals().setdefault(name, getattr(module, name))
