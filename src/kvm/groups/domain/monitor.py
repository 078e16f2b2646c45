"""What domains there are and how they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, Unpack, overload

from kvm import table, text, xml
from kvm.errors import UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Quantity
from kvm.virsh.command import Command
from kvm.virsh.outcome import is_lost, is_unanswered
from kvm.virsh.plan import ATTEMPTS, Plan, checked, is_gone, reading_all, resolved
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options

# as libvirt numbers them, and behind them what only virsh says
STATES = ("no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended", "saved")


class ListedDomain(TypedDict):
    """A domain in a list. `id` is None if it is not active; `title` and `uuid` are there if they were asked for."""

    id: int | None
    state: str
    title: NotRequired[str]
    uuid: NotRequired[str]


class DomainInfo(TypedDict):
    """A domain's basic figures.

    `cpu_time` in nanoseconds, to a tenth of a second (not there for a domain that has not run); `max_memory` and
    `used_memory` in bytes, None for no limit. `security_label` is that of a running domain, and
    `security_enforcing` whether it is enforced.
    """

    id: int | None
    name: str
    uuid: str
    os_type: str
    state: str
    cpus: int
    cpu_time: NotRequired[Quantity]
    max_memory: Quantity | None
    used_memory: Quantity
    persistent: bool | None
    autostart: NotRequired[bool]
    autostart_once: NotRequired[bool]
    managed_save: bool | None
    security_model: NotRequired[str]
    security_doi: NotRequired[str]
    security_label: NotRequired[str]
    security_enforcing: NotRequired[bool]
    messages: NotRequired[list[str]]


class DomainState(TypedDict):
    """A domain's state and why it is in it: ``{'state': 'shut off', 'reason': 'destroyed'}``."""

    state: str
    reason: str


class Monitor(Group):
    """Listing domains and asking how they are."""

    @overload
    def conf(self, domain: str | int, *, xpath: None = None, **options: Unpack[options.DumpxmlOptions]) -> xml.Conf: ...
    @overload
    def conf(self, domain: str | int, *, xpath: str, **options: Unpack[options.DumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, domain: str | int, *, xpath: str | None = None, **options: Unpack[options.DumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """A domain's configuration, as a dict of libvirt's XML. virsh: ``dumpxml``.

        The running one, or with ``inactive=True`` the one that its next start takes. ``security_info=True`` includes
        secrets, ``update_cpu=True`` what the CPU model stands for here, ``migratable=True`` what a migration sends.
        With ``xpath='//disk'`` a list of what that finds.
        """
        return self._read("dumpxml", xml.asked(xpath), domain=domain, **xml.unwrapped(options))

    def id(self, domain: str | int) -> int | None:
        """A domain's id, or None if it is not active. virsh: ``domid``."""
        return self._read("domid", text.optional_number, domain=domain)

    def info(self, domain: str | int) -> DomainInfo:
        """A domain's basic figures. virsh: ``dominfo``.

        ``{'id': 1, 'name': 'web1', 'uuid': ..., 'os_type': 'hvm', 'state': 'running', 'cpus': 2, 'cpu_time': ...,
        'max_memory': ..., 'used_memory': ..., 'persistent': True, 'autostart': False, 'managed_save': False, ...}``:
        memory in bytes, time in nanoseconds; see `DomainInfo`. What does not apply is None or not there.
        """
        return self._read("dominfo", _info, domain=domain)

    def list(self, **options: Unpack[options.ListOptions]) -> dict[str, ListedDomain]:
        """The active domains by name; with ``all=True`` all, with ``inactive=True`` the others. virsh: ``list``.

        ``{'web1': {'id': 2, 'state': 'running'}}``. More filters: `persistent`, `transient`, `autostart`,
        `no_autostart`, `state_running`, `state_paused`, `state_shutoff`, `state_other`, `with_snapshot`,
        `without_snapshot`, `with_checkpoint`, `without_checkpoint`, `with_managed_save`, `without_managed_save`.
        ``title=True`` adds `title`, ``uuid=True`` adds `uuid`, and ``managed_save=True`` tells `state` ``'saved'``
        from ``'shut off'``.
        """
        return self._caller.call(_listing(options))

    def name(self, domain: str | int) -> str:
        """The name of the domain with an id or UUID. virsh: ``domname``."""
        return self._read("domname", text.line, domain=domain)

    @overload
    def state(self, domain: str | int, reason: Literal[False] = False) -> str: ...
    @overload
    def state(self, domain: str | int, reason: Literal[True]) -> DomainState: ...
    def state(self, domain: str | int, reason: bool = False) -> str | DomainState:
        """A domain's state: ``'running'``, ``'paused'``, ``'shut off'``, ... virsh: ``domstate``.

        With `reason` also why, see `DomainState`.
        """
        if reason:
            return self._read("domstate", _state_and_reason, domain=domain, reason=True)
        return self._read("domstate", text.line, domain=domain)

    def stats(self, *domains: str | int, **options: Unpack[options.DomstatsOptions]) -> dict[str, xml.Conf]:
        """Figures of the given domains, or of all, by name. virsh: ``domstats``.

        ``{'web1': {'state': {'state': 1, 'reason': 1}, 'cpu': {'time': 390000000, ...}, 'balloon': {'current': ...},
        'vcpu': [{'id': 0, 'state': 1, 'time': 210000000}], 'vcpu_maximum': 1, 'block': [{'name': 'vda', 'rd': {'bytes':
        0}}], 'block_count': 1, ...}}``: times in nanoseconds, memory in bytes, states as libvirt numbers them. A list
        has what virsh printed: of ``net`` those that have a name on the host, of ``vcpu`` and ``iothread`` those that
        there are, each with its number as `id`. What is no number stays text. Which figures
        (without any of these all that there are): ``state=True``, `cpu_total`, `balloon`, `vcpu`, `interface`, `block`,
        `perf`, `iothread`, `memory`, `dirtyrate`, `vm`; ``backing=True`` adds the backing files to ``block``. Of which
        domains: `list_active`, `list_inactive`, `list_persistent`, `list_transient`, `list_running`, `list_paused`,
        `list_shutoff`, `list_other`. ``nowait=True`` leaves out what would have to be waited for, ``enforce=True``
        fails if the hypervisor does not have what is asked for.
        """
        if domains:
            return self._read("domstats", text.stats, domain=list(domains), **options)
        return self._caller.call(reading_all(Command("domstats", options), text.stats))

    def uuid(self, domain: str | int) -> str:
        """The UUID of the domain with a name or id. virsh: ``domuuid``."""
        return self._caller.call(_uuid(domain))


_LABEL = re.compile(r"(.*) \((enforcing|permissive)\)")


def _info(output: str) -> DomainInfo:
    info = text.fields(DomainInfo)(output)
    if found := _LABEL.fullmatch(info.get("security_label", "")):
        info["security_label"], info["security_enforcing"] = found[1], found[2] == "enforcing"
    return info


def _state_and_reason(output: str) -> DomainState:
    found = re.fullmatch(r"(.*?) \((.*)\)", text.line(output))
    if not found:
        raise UnreadableOutputError(f"virsh printed no state and reason: {output!r}")
    return {"state": found[1], "reason": found[2]}


def _uuid(domain: str | int) -> Plan[str]:
    asked = Command("domuuid", {"domain": domain})
    command = yield from resolved(asked)
    if command is not asked:  # a name that virsh would take for an id has been told by its UUID
        return str(command.options["domain"])
    (result,) = yield (command,)
    return text.line(checked(command, result).stdout)


# -- list ---------------------------------------------------------------------------------------------------------
#
# virsh's own table of domains takes a call of libvirt for the state of each domain, pads names with blanks that could
# be their own, and does not show what its C library cannot print. Lines of UUID, id and name are exact and take a call
# for all of them, and so does `domstats` for the states: these two are asked for at once.
#
# Where the driver has no `domstats`, or the table tells more (titles, managed saves), the table is read, its names told
# by the exact lines, which come in the same order.

_REST = re.compile(rf" {{3,}}({'|'.join(STATES)})(?: {{3,}}(.*?))? *".encode(), re.DOTALL)
_LOOSE = re.compile(b"(.*?)" + _REST.pattern, re.DOTALL)


def _listing(options: Mapping[str, object]) -> Plan[dict[str, ListedDomain]]:
    filters = {name: value for name, value in options.items() if name not in ("id", "name", "table", "title", "uuid")}
    names = Command("list", {**filters, "uuid": True, "id": True, "name": True})
    if not options.get("title") and not options.get("managed_save"):
        states = Command("domstats", {"state": True})
        exact, stats = yield (names, states)
        if is_unanswered(stats) or is_lost(states.name, stats):  # the table would not come, either
            checked(names, exact)
            checked(states, stats)
        if stats.status and (joined := _joined(checked(names, exact).stdout, stats.stdout)) is not None:
            return joined if options.get("uuid") else {name: _without_uuid(each) for name, each in joined.items()}
    else:
        exact = None
    return (yield from _from_table(Command("list", {**filters, "title": options.get("title")}), names, options, exact))


def _joined(exact: str, stats: str) -> dict[str, ListedDomain] | None:
    """The domains in lines of UUID, id and name, with their states from `stats`; None if one's is not there."""
    sections = {name: figures.get("state") for name, figures in text.stats(stats).items()}
    states = {name: section.get("state") for name, section in sections.items() if isinstance(section, dict)}
    listed: dict[str, ListedDomain] = {}
    for uuid, number, name in text.domains(exact):
        state = states.get(name)
        if type(state) is not int or not 0 <= state < len(STATES) - 1:
            return None
        listed[name] = {"id": number, "state": STATES[state], "uuid": uuid}
    return listed


def _without_uuid(domain: ListedDomain) -> ListedDomain:
    return {"id": domain["id"], "state": domain["state"]}


def _from_table(
    rows_of: Command, names: Command, options: Mapping[str, object], exact: Result | None
) -> Plan[dict[str, ListedDomain]]:
    for _ in range(ATTEMPTS):
        if exact is None:
            rows, exact = yield (rows_of, names)
        else:
            (rows,) = yield (rows_of,)
        uuids = {name: uuid for uuid, _, name in text.domains(checked(names, exact).stdout)}
        if is_gone(rows_of, rows):
            exact = None
            continue
        listed = _listed(checked(rows_of, rows).stdout, uuids)
        if listed.keys() >= uuids.keys():  # otherwise virsh has left out one whose state it could not get
            break
        exact = None
    checked(rows_of, rows)
    hidden = [name for name, domain in listed.items() if table.NOT_SHOWN in domain.get("title", "")]
    titles = tuple(Command("desc", {"domain": uuids.get(name, name), "title": True}) for name in hidden)
    for name, command, result in zip(hidden, titles, (yield titles) if titles else (), strict=True):
        if is_gone(command, result):
            del listed[name]
        else:
            listed[name]["title"] = text.line(checked(command, result).stdout)
    if options.get("uuid"):
        for name in listed.keys() & uuids.keys():
            listed[name]["uuid"] = uuids[name]
    return listed


def _listed(output: str, uuids: Mapping[str, str]) -> dict[str, ListedDomain]:
    """The domains in a table, whose exact names are among those of `uuids`, most likely in the same order."""
    heading, *rows = text.lines(output) or [""]
    start = heading.find("Name")
    if start < 0:
        raise UnreadableOutputError(f"virsh printed no list of domains: {output!r}")
    listed: dict[str, ListedDomain] = {}
    in_order = [*uuids]
    for place, row in enumerate(rows[1:]):
        name, state, title = _cells(row[start:], [*in_order[place : place + 1], *in_order])
        number = row[:start].strip()
        listed[name] = {"id": None if number == "-" else text.number(number), "state": state}
        if " Title" in heading:
            listed[name]["title"] = title
    return listed


def _cells(row: str, candidates: Iterable[str]) -> tuple[str, str, str]:
    """Name, state and title in the rest of a row; the name is the first of `candidates` that fits, if one does."""
    shown = table.shown(row)
    for name in candidates:
        if (length := table.shown_length(name, shown)) and (rest := _REST.fullmatch(shown, length)):
            return name, table.decoded(rest[1]), table.decoded(rest[2] or b"")
    if not (loose := _LOOSE.fullmatch(shown)):
        raise UnreadableOutputError(f"cannot read {row!r} in the list of domains")
    return table.decoded(loose[1]), table.decoded(loose[2]), table.decoded(loose[3] or b"")
