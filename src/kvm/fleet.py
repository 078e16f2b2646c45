"""Many hypervisors at once.

What is to be done on each host is a function of its Hypervisor. A fleet hands that function to an executor once for
each host and takes the answers as they come; a call such as ``fleet.domain.list()`` is such a function as well. Each
answer has a time limit of its own, which is kept where the work is done, and so by every kind of executor.
"""

from __future__ import annotations

import errno
import fnmatch
import math
import os
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from functools import cache, partial, reduce, wraps
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack, cast, overload

import unix
from kvm import inventory
from kvm.errors import CommandTimeoutError, InvalidArgumentError, KvmError, NotFoundError, NotSupportedError
from kvm.groups.groups import Groups
from kvm.hypervisor import Hypervisor
from kvm.pipeline import Pipeline
from unix.remote import Remote

if TYPE_CHECKING:
    from kvm.groups.generic import NodeCpuStats, NodeInfo, NodeMemStats
    from unix.connection import Connection

T = TypeVar("T")

_SHUT_OFF = 5
"""The number of the state of a domain that is not active, as ``domstats`` tells it."""


class Settings(TypedDict, total=False):
    """How a fleet works.

    - ``workers``: how many hosts are asked at once (32), unless an `executor` knows better.
    - ``timeout``: seconds that a host has for each answer (60), from when it is asked; None: no limit.
    - ``executor``: the `concurrent.futures.Executor` that does the work; None: threads of this process.
    """

    workers: int
    timeout: float | None
    executor: Executor | None


class Options(Settings, inventory.Connecting, total=False):
    """How a fleet works, and how it connects to hosts that do not say otherwise."""


class FoundDomain(TypedDict):
    """A domain on one of several hosts. `id` is None if it is not active."""

    id: int | None
    name: str
    state: str
    uuid: str


class Share(TypedDict):
    """How many domains there are, and what has been promised to them: virtual CPUs, and bytes of memory at most."""

    domains: int
    cpus: int
    memory: int


class Capacity(TypedDict):
    """What a host has, what it has promised, and what of it is in use.

    - ``cpus``: how many CPUs are online; ``cpus_used``: how many of them were busy, as a float.
    - ``memory``: bytes; ``memory_used``: bytes that are neither free nor a cache.
    - ``defined``: what all its guests are to have, running or not; ``running``: those of them that are active.

    What is used is None where the hypervisor does not tell.
    """

    cpus: int
    cpus_used: float | None
    memory: int
    memory_used: int | None
    defined: Share
    running: Share


class FleetCapacity(TypedDict):
    """The capacity of each host, and of all together; a total is None where that of a host is."""

    hosts: dict[str, Capacity]
    total: Capacity


class PartialCapacity(TypedDict):
    """The capacity of each host, or its exception, and of all together that have answered."""

    hosts: dict[str, Capacity | Exception]
    total: Capacity


class FleetError(ExceptionGroup[Exception]):
    """Some hosts of a fleet have failed.

    `errors` has their exceptions by host, `results` the values of the others. ``except*`` takes it apart.
    """

    errors: Mapping[str, Exception] = {}
    results: Mapping[str, Any] = {}

    def derive(self, excs: Sequence[Exception], /) -> FleetError:  # type: ignore[override]
        derived = FleetError(self.message, excs)
        kept = {id(error) for error in excs}
        derived.errors = {name: error for name, error in self.errors.items() if id(error) in kept}
        derived.results = self.results
        return derived


class Each:
    """A group of commands, on every host of a fleet: a method of it gives ``{host: value}``.

    The methods are those of the group of a `Hypervisor`, with the same arguments. What is wrong with these is raised
    before any host is asked. With ``return_exceptions=True`` the exceptions of hosts are among the values.
    """

    def __init__(self, fleet: Fleet, group: str) -> None:
        self._fleet = fleet
        self._group = group

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        if name.startswith("_"):
            raise AttributeError(f"a group of a fleet has no {name!r}")
        return _method(self._fleet, self._group, name)

    def __dir__(self) -> Iterable[str]:
        return [name for name in dir(getattr(_model(), self._group)) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<{self._group} of {self._fleet!r}>"


class Fleet(Mapping[str, Hypervisor]):
    """Hypervisors by name, asked all at once.

    >>> fleet = kvm.Fleet.from_hosts(["root@hv1", "root@hv2"], uri="qemu:///system")
    >>> fleet.domain.list(all=True)
    {'root@hv1': {'web1': {'id': 2, 'state': 'running'}}, 'root@hv2': {}}

    It has the groups and methods of a Hypervisor, and each gives the values of all hosts, by name, in the order of the
    fleet. If hosts fail, the others are asked all the same; then a `FleetError` has the errors and the values. For what
    takes several calls, or to have types checked, give `map` a function of one Hypervisor.

    It is a mapping of names to Hypervisors. `groups` are names for several of its hosts. Leaving it as a context
    manager, or `close`, ends the live virshes, and the connections that it has made itself.
    """

    if TYPE_CHECKING:
        generic: Each
        hypervisor: Each
        domain: Each
        network: Each
        interface: Each
        pool: Each
        volume: Each
        secret: Each
        snapshot: Each
        checkpoint: Each
        nwfilter: Each
        nodedev: Each
        virsh: Callable[..., dict[str, unix.Result | list[str]]]
        execute: Callable[..., dict[str, unix.Result]]
        run: Callable[..., dict[str, unix.Result]]
        read: Callable[..., dict[str, bytes]]
        write: Callable[..., dict[str, None]]
        exists: Callable[..., dict[str, bool]]
        listdir: Callable[..., dict[str, list[str]]]
        mkdir: Callable[..., dict[str, None]]
        remove: Callable[..., dict[str, None]]
        which: Callable[..., dict[str, str | None]]
        list_domains: Callable[..., dict[str, Any]]
        list_interfaces: Callable[..., dict[str, Any]]
        list_networks: Callable[..., dict[str, Any]]
        list_pools: Callable[..., dict[str, Any]]
        list_secrets: Callable[..., dict[str, Any]]
        list_snapshots: Callable[..., dict[str, Any]]
        list_volumes: Callable[..., dict[str, Any]]

    def __init__(
        self,
        hypervisors: Mapping[str, Hypervisor],
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        for name, hypervisor in hypervisors.items():
            if not isinstance(name, str) or not isinstance(hypervisor, Hypervisor):
                raise TypeError(f"a fleet has Hypervisors by name, not {name!r}: {hypervisor!r}")
        self._hypervisors = dict(hypervisors)
        self._groups = {name: list(members) for name, members in (groups or {}).items()}
        for group, members in self._groups.items():
            if unknown := [name for name in members if name not in self._hypervisors]:
                raise InvalidArgumentError(f"group {group!r} has hosts that the fleet does not: {', '.join(unknown)}")
        self._settings = _checked(settings)
        self._made: tuple[Remote, ...] = ()

    @classmethod
    def from_hosts(
        cls, hosts: Iterable[str] | Mapping[str, str], uri: str | None = None, **options: Unpack[Options]
    ) -> Self:
        """The hypervisors on hosts that OpenSSH reaches: ``['root@hv1:22', 'hv2']``, or ``{'hv1': 'root@10.0.0.1'}``.

        Each is called what it is given as. `options` are those of `Settings`, and those of `unix.Remote.connect` for
        all hosts, whose `timeout` is ``connect_timeout`` here (10 s, and no more than ``timeout``). A host is connected
        to when it is first asked.
        """
        if isinstance(hosts, str):
            raise TypeError(f"hosts are a list of names, not the text {hosts!r}")
        named = dict(hosts) if isinstance(hosts, Mapping) else None
        names = list(hosts)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidArgumentError(f"hosts that are given twice: {', '.join(twice)}; a mapping gives them names")
        found: dict[str, inventory.Settings] = {name: {"host": named[name] if named else name} for name in names}
        return cls._of(inventory.Inventory(found, {}), uri, options)

    @classmethod
    def from_inventory(
        cls,
        path: inventory.Path | inventory.Inventory,
        group: str | None = None,
        uri: str | None = None,
        *,
        format: inventory.Format | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """The hypervisors of an inventory, or those of one `group` in it.

        Args:
            path: a file, or an inventory that `kvm.inventory.read` has read.
            group: the name of a group in it; None for all hosts.
            uri: libvirt's URI on hosts for which the file has none.
            format: the format of the file; without it the name of the file or its content decides:

                - ``'toml'``: hosts, groups and defaults, in the form that the README describes.
                - ``'ssh'``: an ssh config; its Host entries without wildcards, also in files that it includes.
                - ``'ini'``, ``'yaml'``: an inventory of Ansible; a directory or a program also with Ansible installed.
                  ``ansible-inventory`` reads it where it is installed; otherwise the file is read here, with the
                  ``group_vars`` and ``host_vars`` beside it. The variables about connecting are used
                  (``ansible_host``, ``ansible_user``, ``ansible_port``, ``ansible_ssh_private_key_file``,
                  ``ansible_password``, ``ansible_ssh_args``, ``ansible_ssh_common_args``, ...), and ``kvm_uri``.
                - ``'json'``: the output of ``ansible-inventory --list``.
            options: as with `from_hosts`, for what the file does not say.

        Raises:
            kvm.InventoryError: the file is not an inventory; the message has the file, the place and what to do. A
                host that cannot be used (Ansible connects to it by WinRM, or a variable is a template) is in the fleet,
                and raises this error when it is used.
        """
        if isinstance(path, inventory.Inventory):
            found, name = path, "the inventory"
        else:
            found, name = inventory.read(path, format), os.fspath(path)
        return cls._of(inventory.narrowed(found, [] if group is None else [group], [], name), uri, options)

    @classmethod
    def _of(cls, found: inventory.Inventory, uri: str | None, options: Options) -> Self:
        settings = cast(Settings, {name: options[name] for name in Settings.__annotations__ if name in options})  # type: ignore[literal-required]
        defaults = {name: value for name, value in options.items() if name not in settings}
        limit = _checked(settings).timeout
        hypervisors: dict[str, Hypervisor] = {}
        made: list[Remote] = []
        for name, its_own in found.hosts.items():
            given: dict[str, Any] = {**defaults, **its_own}
            where = given.get("uri", uri)
            if given.get("connection") == "local":
                hypervisors[name] = Hypervisor(unix.Local(), where)
                continue
            arguments = inventory.connect_arguments(name, given)
            arguments["timeout"] = arguments["timeout"] if limit is None else min(arguments["timeout"], limit)
            made.append(_WhenNeeded.to(arguments.pop("host"), arguments))
            hypervisors[name] = Hypervisor(made[-1], where)
        hypervisors |= {name: Hypervisor(_Refused(error), uri) for name, error in found.refused.items()}
        fleet = cls(hypervisors, groups=found.groups, **settings)
        fleet._made = tuple(made)
        return fleet

    # -- the hosts of the fleet ------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Hypervisor:
        if name not in self._hypervisors:
            raise KeyError(f"there is no host {name!r} in {self!r}")
        return self._hypervisors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hypervisors)

    def __len__(self) -> int:
        return len(self._hypervisors)

    def __repr__(self) -> str:
        names = list(self)
        return f"Fleet({', '.join([*names[:3], *([f'... {len(names)} in all'] if len(names) > 3 else [])])})"

    @property
    def groups(self) -> dict[str, list[str]]:
        """The names of the hosts of each group."""
        return {name: list(members) for name, members in self._groups.items()}

    def select(self, *which: str) -> Fleet:
        """The part of the fleet that has one of the given names: of hosts, of groups, or patterns as ``'rack1-*'``.

        It shares hosts and connections with this fleet, whose they stay. Raises `NotFoundError` for what is no name of
        any.
        """
        chosen: set[str] = set()
        for name in which:
            found = [name] if name in self._hypervisors else self._groups.get(name)
            found = fnmatch.filter(self, name) if found is None else found
            if not found and name not in self._groups:
                said = ", ".join(self._groups) or "none"
                raise NotFoundError(f"no host or group {name!r} in {self!r}; its groups: {said}")
            chosen.update(found)
        return self._part(chosen)

    def using(self, **settings: Unpack[Settings]) -> Fleet:
        """The same hosts, asked in another way: ``fleet.using(timeout=600).domain.shutdown('web1')``."""
        fleet = self._part(self)
        fleet._settings = _checked(settings, self._settings)
        return fleet

    def _part(self, names: Iterable[str]) -> Fleet:
        names = set(names)
        groups = {group: [name for name in members if name in names] for group, members in self._groups.items()}
        part = Fleet(
            {name: hypervisor for name, hypervisor in self._hypervisors.items() if name in names},
            groups={group: members for group, members in groups.items() if members},
        )
        part._settings = self._settings
        return part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the live virshes of all hosts, and the connections that the fleet has made for itself."""
        ends = [hypervisor.close for hypervisor in self.values()]
        for several in (ends, [remote.disconnect for remote in self._made]):
            if several:
                with ThreadPoolExecutor(min(self._settings.workers, len(several))) as pool:
                    for ended in [pool.submit(end) for end in several]:
                        ended.result()

    # -- asking all of them ----------------------------------------------------------------------------------

    @overload
    def map(
        self,
        function: Callable[[Hypervisor], T],
        *,
        return_exceptions: Literal[False] = False,
        **settings: Unpack[Settings],
    ) -> dict[str, T]: ...
    @overload
    def map(
        self, function: Callable[[Hypervisor], T], *, return_exceptions: bool, **settings: Unpack[Settings]
    ) -> dict[str, T | Exception]: ...
    def map(
        self, function: Callable[[Hypervisor], T], *, return_exceptions: bool = False, **settings: Unpack[Settings]
    ) -> dict[str, T] | dict[str, T | Exception]:
        """What `function` makes of each Hypervisor, by name.

        If some fail, a `FleetError` has their `errors` and the `results` of the others; with `return_exceptions` the
        exceptions are among the values. `settings` as those of the fleet. An executor that works in other processes
        needs a function that pickles, and each call connects anew there; so let it do all there is to do on a host.

        A host whose time is up is a `CommandTimeoutError`, and the virsh command that it is at is ended; but nothing
        stops a function from going on with its next one.
        """
        results, errors = self.using(**settings)._told(function)
        if errors and not return_exceptions:
            raise _failed(errors, results)
        return {name: errors[name] if name in errors else results[name] for name in self}

    def imap(
        self, function: Callable[[Hypervisor], T], **settings: Unpack[Settings]
    ) -> Iterator[tuple[str, T | Exception]]:
        """What `function` makes of each Hypervisor, or its exception, with the host's name, as they come.

        All are asked at once, before the first is taken. Closing the iterator cancels what has not begun.
        """
        answers = self.using(**settings)._ask(function)
        return ((name, cast(T, value) if error is None else error) for name, value, error in answers)

    @overload
    def find(self, domain: str, *, return_exceptions: Literal[False] = False) -> dict[str, FoundDomain]: ...
    @overload
    def find(self, domain: str, *, return_exceptions: bool) -> dict[str, FoundDomain | Exception]: ...
    def find(
        self, domain: str, *, return_exceptions: bool = False
    ) -> dict[str, FoundDomain] | dict[str, FoundDomain | Exception]:
        """The hosts that have a domain with this name or UUID: ``{'hv2': {'name': 'web1', 'state': 'running', ...}}``.

        See `FoundDomain`. It takes one round trip. Hosts that fail as with `map`: the `results` of a `FleetError` are
        where it was found.
        """
        if not isinstance(domain, str):
            raise TypeError(f"a domain on many hosts is a name or UUID (a str), not {domain!r}: ids differ by host")
        told, errors = self._told(partial(_found, domain))
        results = {name: value for name, value in told.items() if value is not None}
        if errors and not return_exceptions:
            raise _failed(errors, results, len(told))
        return {
            name: errors[name] if name in errors else results[name]
            for name in self
            if name in errors or name in results
        }

    @overload
    def capacity(self, *, over: float = 1, return_exceptions: Literal[False] = False) -> FleetCapacity: ...
    @overload
    def capacity(self, *, over: float = 1, return_exceptions: bool) -> FleetCapacity | PartialCapacity: ...
    def capacity(self, *, over: float = 1, return_exceptions: bool = False) -> FleetCapacity | PartialCapacity:
        """CPUs and memory of each host and of all: what there is, what is promised to guests, and what is in use.

        ``{'hosts': {'hv1': {'cpus': 32, 'memory': 135085633536, ...}}, 'total': {...}}``, see `Capacity`; memory in
        bytes. `over` how many seconds the use of CPUs is measured; 0: not at all. All else takes one round trip. Hosts
        that fail as with `map`; with `return_exceptions` the total is that of the others.
        """
        results, errors = self._told(partial(_capacity, over))
        if errors and not return_exceptions:
            raise _failed(errors, results)
        total = _total(list(results.values()))
        if not errors:
            return FleetCapacity(hosts=results, total=total)
        hosts = {name: errors[name] if name in errors else results[name] for name in self}
        return PartialCapacity(hosts=hosts, total=total)

    def _told(self, function: Callable[[Hypervisor], T]) -> tuple[dict[str, T], dict[str, Exception]]:
        """The values and the errors of hosts, in the order of the fleet."""
        answers = {answer.name: answer for answer in self._ask(function)}
        in_order = [answers[name] for name in self]
        results = {name: cast(T, value) for name, value, error in in_order if error is None}
        return results, {name: error for name, _, error in in_order if error is not None}

    def _ask(self, function: Callable[[Hypervisor], T]) -> Iterator[_Answer[T]]:
        """Give the work to whoever does it; the answers as they come."""
        works = [_Work(name, hypervisor, function, self._settings.timeout) for name, hypervisor in self.items()]
        given = self._settings.executor
        executor = given or ThreadPoolExecutor(max(1, min(self._settings.workers, len(works))), "kvm.Fleet")
        futures = {_submitted(executor, work): work.name for work in works}
        return _answers(futures, None if given else executor)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """What a Hypervisor has, for all of them."""
            if name.startswith("_") or name in _OF_ONE or not hasattr(_model(), name):
                hint = f"; fleet.map(function) gives a function each Hypervisor, which has {name!r}"
                raise AttributeError(f"a fleet has no {name!r}{hint if name in _OF_ONE else ''}")
            return _method(self, name) if callable(getattr(_model(), name)) else Each(self, name)

    def __dir__(self) -> Iterable[str]:
        of_each = [name for name in dir(_model()) if not name.startswith("_") and name not in _OF_ONE]
        return [*super().__dir__(), *of_each]


_OF_ONE = frozenset((
    "call", "check", "controls", "get_control", "set_control", "set_controls", "known_controls", "host", "uri", "open",
    "iter", "popen", "interactive", "pipeline",
))  # fmt: skip
"""What a Hypervisor has, and many together cannot have."""


# -- settings -----------------------------------------------------------------------------------------------------


class _Settings(NamedTuple):
    workers: int = 32
    timeout: float | None = 60
    executor: Executor | None = None


def _checked(settings: Settings, base: _Settings | None = None) -> _Settings:
    if unknown := [name for name in settings if name not in _Settings._fields]:
        raise TypeError(f"a fleet has the settings {', '.join(_Settings._fields)}, not {', '.join(unknown)}")
    workers, timeout, executor = checked = (base or _Settings())._replace(**settings)
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise InvalidArgumentError(f"workers is a number from 1, not {workers!r}")
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 < timeout < math.inf):
        raise InvalidArgumentError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(f"an executor is a concurrent.futures.Executor, not {executor!r}")
    return checked


class _WhenNeeded(Remote):
    """A Remote that connects when it is first needed, so that a host that is down is an error only of its own."""

    _is_only_told = False

    @classmethod
    def to(cls, host: str, connecting: Mapping[str, Any]) -> Remote:
        """A Remote that is told all that `connect` takes, which checks it, and that does not connect yet."""
        remote = cls()
        remote._is_only_told = True
        try:
            return remote.connect(host, **connecting)
        finally:
            remote._is_only_told = False

    def _connected(self, asked: float | None = None) -> Connection:
        return cast("Connection", None) if self._is_only_told else super()._connected(asked)


class _Refused(Remote):
    """A host that cannot be connected to from here; using it raises the reason."""

    def __init__(self, reason: inventory.InventoryError) -> None:
        super().__init__()
        self._reason = str(reason)

    def _connected(self, asked: float | None = None) -> Connection:  # noqa: ARG002  # of the base class
        raise inventory.InventoryError(self._reason)


# -- the work on one host -----------------------------------------------------------------------------------------


class _Answer(NamedTuple, Generic[T]):
    name: str
    value: T | None
    error: Exception | None


class _Work(Generic[T]):
    """What is to be done on one host, wherever that is done.

    The function runs in a thread of its own: when its time is up, whoever waits for it goes on without it, and the
    commands that it runs have the same limit and end as well. Where the work has come by pickle, its Hypervisor is
    nobody else's, and is closed.
    """

    def __init__(
        self, name: str, hypervisor: Hypervisor, function: Callable[[Hypervisor], T], timeout: float | None
    ) -> None:
        self.name = name
        self._hypervisor = hypervisor
        self._function = function
        self._timeout = timeout
        self._has_come = False
        self._only = secrets.token_hex(8)  # no two are equal: Dask would not do again what it takes for the same

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._has_come = True

    def __call__(self) -> T:
        answer: Future[T] = Future()
        thread = threading.Thread(target=self._do, args=(answer,), name=f"kvm.Fleet {self.name}", daemon=True)
        thread.start()
        wait([answer], self._timeout)
        if not answer.done():
            said = f"{self.name}: no answer within {self._timeout:g} s; what has begun there may still complete"
            raise CommandTimeoutError(said)
        try:
            return answer.result()
        except Exception as error:
            if self._has_come and not _pickles(error):
                raise KvmError(f"{type(error).__name__}: {error}") from None
            raise

    def _do(self, answer: Future[T]) -> None:
        try:
            with self._hypervisor.set_controls(timeout=self._limit()):
                answer.set_result(self._function(self._hypervisor))
        except BaseException as error:  # noqa: BLE001  # it is raised by who waits for the answer
            answer.set_exception(_explained(self.name, error))
        finally:
            if self._has_come:
                self._hypervisor.close()
                if isinstance(self._hypervisor.host, Remote):
                    self._hypervisor.host.disconnect()

    def _limit(self) -> float | None:
        """The limit of a command: that of the work, or that of the host if it is less."""
        limits = [self._timeout, self._hypervisor.host.time_limit()]
        return min((limit for limit in limits if limit), default=None)


def _explained(name: str, error: BaseException) -> BaseException:
    """`error`, or in its place one that says what to do about it, where only many hosts bring it about."""
    if not isinstance(error, OSError) or error.errno != errno.EMFILE:
        return error
    explained = KvmError(
        f"{name}: this program has as many files open as it may. A connected host takes seven: raise the limit with "
        "`ulimit -n` or resource.setrlimit(resource.RLIMIT_NOFILE, ...), or close hosts that are done with"
    )
    explained.__cause__ = error
    return explained


def _done(work: _Work[T]) -> T:
    return work()


def _submitted(executor: Executor, work: _Work[T]) -> Future[T]:
    """The future of the work; also if the executor does not take it, because it has broken down, say."""
    try:
        return executor.submit(_done, work)
    except Exception as error:  # noqa: BLE001  # it is the answer of this host
        refused: Future[T] = Future()
        refused.set_exception(error)
        return refused


def _answers(futures: Mapping[Future[T], str], own: Executor | None) -> Iterator[_Answer[T]]:
    """The answers as they come. What has not begun when nobody wants them any more is cancelled."""
    try:
        for future in as_completed(futures):
            try:
                yield _Answer(futures[future], future.result(), None)
            except Exception as error:  # noqa: BLE001  # a host's failure is its answer
                yield _Answer(futures[future], None, error)
    finally:
        for future in futures:
            future.cancel()
        if own:
            own.shutdown(wait=False)


def _pickles(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # whatever its class does
        return False
    return True


def _failed(errors: Mapping[str, Exception], results: Mapping[str, object], answered: int | None = None) -> FleetError:
    """The error that tells which hosts have failed."""
    shown = [f"{name}: {error}" for name, error in errors.items()]
    more = [f"and {len(shown) - 3} more"] if len(shown) > 3 else []
    of = len(errors) + (len(results) if answered is None else answered)
    for name, error in errors.items():
        error.add_note(f"on {name}")
    failed = FleetError(f"{len(errors)} of {of} hosts failed: {'; '.join([*shown[:3], *more])}", [*errors.values()])
    failed.errors, failed.results = dict(errors), dict(results)
    return failed


# -- calls of a Hypervisor's methods ------------------------------------------------------------------------------


class _Call:
    """A call of a method of a Hypervisor, or of one of its groups."""

    def __init__(self, path: Sequence[str], args: Sequence[object], options: Mapping[str, object]) -> None:
        self._path = path
        self._args = args
        self._options = options

    def __call__(self, hypervisor: object) -> object:
        method: Any = reduce(getattr, self._path, hypervisor)
        return method(*self._args, **self._options)

    def rehearse(self) -> None:
        """Raise what is wrong with the arguments of a call that describes a command."""
        if hasattr(Groups, self._path[0]):
            self(Pipeline(lambda *_: (), check=True))


@cache
def _model() -> Hypervisor:
    """A Hypervisor to look up what there is; it is never asked anything."""
    return Hypervisor(unix.Local())


def _method(fleet: Fleet, *path: str) -> Callable[..., dict[str, Any]]:
    """A method of each Hypervisor of a fleet, as one of the fleet."""
    try:
        model: Callable[..., object] = reduce(getattr, path, cast(Any, _model()))
    except AttributeError:
        raise AttributeError(f"there is no method {'.'.join(path)}") from None

    @wraps(model)
    def method(*args: object, return_exceptions: bool = False, **options: object) -> dict[str, Any]:
        call = _Call(path, args, options)
        call.rehearse()
        return fleet.map(call, return_exceptions=return_exceptions)

    return method


# -- what is asked of each host -----------------------------------------------------------------------------------


def _found(domain: str, hypervisor: Hypervisor) -> FoundDomain | None:
    """The domain with a UUID or a name, of which virsh prefers the UUID, too."""
    listed = hypervisor.domain.list(all=True, uuid=True)
    digits = domain.replace("-", "").lower()
    by_uuid = [name for name, each in listed.items() if each["uuid"].replace("-", "") == digits]
    for name in (*by_uuid, domain):
        if name in listed:
            each = listed[name]
            return {"id": each["id"], "name": name, "state": each["state"], "uuid": each["uuid"]}
    return None


def _capacity(over: float, hypervisor: Hypervisor) -> Capacity:
    with hypervisor.pipeline() as pipe:
        pipe.generic.nodeinfo()
        pipe.generic.nodememstats()
        pipe.domain.stats(state=True, balloon=True, vcpu=True, nowait=True)
        pipe.generic.nodecpustats()
        told = pipe.execute(raise_on_error=False)
    begun = time.monotonic()
    node: NodeInfo | None
    memory: NodeMemStats | None
    figures: dict[str, dict[str, Any]] | None
    cpus: NodeCpuStats | None
    node, memory, figures, cpus = (_if_supported(each) for each in told)
    if node is None:
        raise cast(NotSupportedError, told[0])
    guests = None if figures is None else [_of_figures(each) for each in figures.values()]
    if guests is None or None in guests:  # a driver that tells less asks for a call for each guest
        guests = list(_guests(hypervisor))
    used = None
    if cpus and over:
        time.sleep(max(over - (time.monotonic() - begun), 0))
        used = _busy(cpus, hypervisor.generic.nodecpustats())
    promised = [guest for guest in guests if guest is not None]
    unused = memory["free"] + memory.get("buffers", 0) + memory.get("cached", 0) if memory else 0
    return {
        "cpus": node["cpus"],
        "cpus_used": None if used is None else node["cpus"] * used,
        "memory": int(node["memory_size"]),
        "memory_used": memory["total"] - unused if memory else None,
        "defined": _share(promised),
        "running": _share([guest for guest in promised if guest.is_active]),
    }


class _Guest(NamedTuple):
    is_active: bool
    cpus: int
    memory: int


def _if_supported(value: Any) -> Any:
    if isinstance(value, NotSupportedError):
        return None
    if isinstance(value, Exception):
        raise value
    return value


def _of_figures(figures: Mapping[str, Any]) -> _Guest | None:
    """What ``domstats`` tells of a guest; None if that is not enough."""
    cpus = figures.get("vcpu_current", figures.get("vcpu"))  # beside the figures of each CPU, or alone
    cpus = cpus.get("current") if isinstance(cpus, Mapping) else cpus
    sections = [figures.get(name) for name in ("balloon", "state")]
    balloon, of_state = (section if isinstance(section, Mapping) else {} for section in sections)
    memory, state = balloon.get("maximum"), of_state.get("state")
    if not isinstance(cpus, int) or not isinstance(memory, int) or not isinstance(state, int):
        return None
    return _Guest(state != _SHUT_OFF, cpus, int(memory))


def _guests(hypervisor: Hypervisor) -> Iterator[_Guest]:
    """The guests as ``dominfo`` tells of each; those that go in between are none."""
    names = hypervisor.domain.list(all=True)
    with hypervisor.pipeline() as pipe:
        for name in names:
            pipe.domain.info(name)
        infos = pipe.execute(raise_on_error=False)
    for info in infos:
        if isinstance(info, NotFoundError):
            continue
        if isinstance(info, Exception):
            raise info
        memory = info["used_memory"] if info["max_memory"] is None else info["max_memory"]
        yield _Guest(info["id"] is not None, info["cpus"], int(memory))


def _busy(before: NodeCpuStats, after: NodeCpuStats) -> float | None:
    """The part of the time between two readings that CPUs were busy; None if no time has passed."""
    earlier, later = cast(dict[str, int], before), cast(dict[str, int], after)
    spent = {name: later.get(name, 0) - earlier[name] for name in earlier}
    total = sum(spent.values())
    return None if total <= 0 else 1 - (spent.get("idle", 0) + spent.get("iowait", 0)) / total


def _share(guests: Sequence[_Guest]) -> Share:
    cpus, memory = sum(guest.cpus for guest in guests), sum(guest.memory for guest in guests)
    return {"domains": len(guests), "cpus": cpus, "memory": memory}


def _total(hosts: Sequence[Capacity]) -> Capacity:
    def shares(which: Literal["defined", "running"]) -> Share:
        return {
            "domains": sum(host[which]["domains"] for host in hosts),
            "cpus": sum(host[which]["cpus"] for host in hosts),
            "memory": sum(host[which]["memory"] for host in hosts),
        }

    cpus_used = [host["cpus_used"] for host in hosts if host["cpus_used"] is not None]
    memory_used = [host["memory_used"] for host in hosts if host["memory_used"] is not None]
    return {
        "cpus": sum(host["cpus"] for host in hosts),
        "cpus_used": sum(cpus_used) if len(cpus_used) == len(hosts) else None,
        "memory": sum(host["memory"] for host in hosts),
        "memory_used": sum(memory_used) if len(memory_used) == len(hosts) else None,
        "defined": shares("defined"),
        "running": shares("running"),
    }
