"""What is inside of domains: the guest agent, users, keys, the screen, QEMU's monitor.

What the guest agent answers is said by the guest, which nobody has to believe: readers take nothing of it for granted.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, overload

from kvm import table, text
from kvm.errors import AgentError, InvalidArgumentError, KvmError, UnreadableOutputError
from kvm.groups.group import Group
from kvm.values import Outcome, Quantity
from kvm.virsh.command import Command, failure
from kvm.virsh.plan import Plan, checked, reading, resolved
from kvm.virsh.transfer import Download
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options

Json: TypeAlias = Any
"""What a JSON document becomes: dicts, lists, texts, numbers, booleans, None."""

QemuCommand: TypeAlias = Mapping[str, object] | str
"""A command of QEMU's monitor or of the guest agent: a dict, the same as JSON, or, for the monitor, its name."""


class Screenshot(NamedTuple):
    """A picture: its bytes, and its type as ``'image/png'`` or ``'image/x-portable-pixmap'``."""

    data: bytes
    type: str


class Filesystem(TypedDict):
    """A file system that a guest has mounted.

    `name` is the guest's name of the device, `target` the names of the disks (``['vda']``) that it is on, as far as
    libvirt knows them.
    """

    mountpoint: str
    name: str
    type: str
    target: list[str]


class Guest(Group):
    """What is inside of domains: the guest agent, users, keys, the screen, QEMU's monitor.

    What asks the guest agent raises `AgentError` if there is none, or if it does not answer or refuses.
    """

    # -- the screen and the console

    @overload
    def display(
        self, domain: str | int, *, include_password: bool = False, type: str | None = None, all: Literal[False] = False
    ) -> str: ...
    @overload
    def display(
        self, domain: str | int, *, include_password: bool = False, type: str | None = None, all: Literal[True]
    ) -> list[str]: ...
    def display(
        self, domain: str | int, *, include_password: bool = False, type: str | None = None, all: bool = False
    ) -> str | list[str]:
        """The URI of a running domain's graphical display, as ``'vnc://localhost:0'``. virsh: ``domdisplay``.

        The first that there is, one of ``type='spice'``, or with ``all=True`` a list of one of each type.
        ``include_password=True`` puts its password into it. `NotFoundError` if there is none.
        """
        which = {"include_password": include_password, "type": type}
        if all:
            return self._read("domdisplay", text.lines, domain=domain, **which, all=True)
        return self._read("domdisplay", text.line, domain=domain, **which)

    def display_reload(self, domain: str | int, **options: Unpack[options.DomdisplayReloadOptions]) -> Result:
        """Have a domain's displays read their TLS certificates again. virsh: ``domdisplay-reload``.

        ``type=1``: of VNC only. Needs virsh 11.
        """
        return self._act("domdisplay-reload", domain=domain, **options)

    @overload
    def screenshot(self, domain: str | int, *, file: None = None, screen: int | None = None) -> Screenshot: ...
    @overload
    def screenshot(self, domain: str | int, *, file: str | os.PathLike[str], screen: int | None = None) -> Result: ...
    def screenshot(
        self, domain: str | int, *, file: str | os.PathLike[str] | None = None, screen: int | None = None
    ) -> Screenshot | Result:
        """A picture of a running domain's screen, see `Screenshot`. virsh: ``screenshot``.

        With `file`, a path on the hypervisor, the picture goes there, over what is there, and its type is said in the
        `stdout` of the result that is returned. `screen`: the number of one of several.
        """
        if file is None:
            return self._caller.call(_screenshot(domain, screen))
        return self._act("screenshot", domain=domain, file=file, screen=screen)

    def ttyconsole(self, domain: str | int) -> str | None:
        """The device on the hypervisor that is a domain's console; None if it has none. virsh: ``ttyconsole``."""
        return self._caller.call(_console(Command("ttyconsole", {"domain": domain})))

    def vncdisplay(self, domain: str | int) -> str:
        """Address and number of a running domain's VNC display, as ``'127.0.0.1:0'``. virsh: ``vncdisplay``.

        Without an address, as ``':0'``, if it listens on all. `NotFoundError` if it has none.
        """
        return self._read("vncdisplay", text.line, domain=domain)

    # -- what the guest agent does

    def fsfreeze(self, domain: str | int, **options: Unpack[options.DomfsfreezeOptions]) -> Outcome[int]:
        """Have a guest write out its file systems and hold all further writes until `fsthaw`. virsh: ``domfsfreeze``.

        ``mountpoint=['/', '/home']``: only these. The `value` of the result is how many file systems. If its agent does
        not answer in time (`AgentError`), it may still do it when it goes on: then `fsthaw` is due.
        """
        return self._act_and_tell("domfsfreeze", int, domain=domain, **options)

    def fsthaw(self, domain: str | int, **options: Unpack[options.DomfsthawOptions]) -> Outcome[int]:
        """Let a guest write to its file systems again. virsh: ``domfsthaw``.

        All of them: QEMU's driver knows no `mountpoint` here.
        The `value` of the result is how many file systems.
        """
        return self._act_and_tell("domfsthaw", int, domain=domain, **options)

    def fsinfo(self, domain: str | int) -> list[Filesystem]:
        """The file systems that a guest has mounted, see `Filesystem`. virsh: ``domfsinfo``.

        ``[{'mountpoint': '/', 'name': 'vda1', 'type': 'ext4', 'target': ['vda']}]``. `AgentError` without a guest
        agent.
        """
        return self._caller.call(_filesystems(domain))

    def fstrim(self, domain: str | int, **options: Unpack[options.DomfstrimOptions]) -> Result:
        """Have a guest discard the blocks that its file systems do not use. virsh: ``domfstrim``.

        `minimum`: skip free ranges of fewer bytes (an int, or a text with a unit). QEMU's driver knows no
        `mountpoint` here.
        """
        return self._act("domfstrim", domain=domain, **options)

    def guest_agent_timeout(self, domain: str | int, **options: Unpack[options.GuestAgentTimeoutOptions]) -> Result:
        """Set how long libvirt waits for answers of a domain's guest agent. virsh: ``guest-agent-timeout``.

        `timeout` in seconds; 0: not at all, -1: libvirt's default, -2: for ever, which is what it is without a value.
        """
        return self._act("guest-agent-timeout", domain=domain, **options)

    def guestinfo(self, domain: str | int, **options: Unpack[options.GuestinfoOptions]) -> dict[str, Any]:
        """What a guest says of itself. virsh: ``guestinfo``.

        ``{'os': {'id': 'debian', 'version_id': '12', ...}, 'hostname': 'web1', 'timezone': {'name': 'UTC', 'offset':
        0}, 'user': [{'name': 'root', 'login_time': datetime}], 'user_count': 1, 'fs': [{'mountpoint': '/',
        'total_bytes': ..., 'disk': [{'alias': 'vda'}], ...}], 'fs_count': 1, 'if': [{'name': 'eth0', 'addr': [{'type':
        'ipv4', ...}], ...}], ...}``, of which there is what the agent tells.
        Sizes are in bytes, the offset of the time zone in seconds. What to ask for: ``user=True``, `os`, `timezone`,
        `hostname`, `filesystem`, `disk`, `interface`, `load`, `devices`; without any, all that the agent knows.
        """
        return self._read("guestinfo", _guest_info, domain=domain, **options)

    def hostname(self, domain: str | int, **options: Unpack[options.DomhostnameOptions]) -> str:
        """The name that a guest gives itself. virsh: ``domhostname``.

        ``source='lease'`` for the one that it has told a DHCP server of libvirt's, ``'agent'`` for the agent's.
        `NotFoundError` if it has none, `AgentError` if its agent does not answer.
        """
        return self._caller.call(_hostname({"domain": domain, **options}))

    @overload
    def time(self, domain: str | int, *, pretty: bool = ...) -> datetime: ...
    @overload
    def time(self, domain: str | int, *, now: Literal[True]) -> Result: ...
    @overload
    def time(self, domain: str | int, *, sync: Literal[True]) -> Result: ...
    @overload
    def time(self, domain: str | int, *, time: datetime | int | str) -> Result: ...
    def time(
        self,
        domain: str | int,
        *,
        now: bool = False,
        sync: bool = False,
        time: datetime | int | str | None = None,
        pretty: bool = False,  # noqa: ARG002 (virsh's text would be another, the value is the same)
    ) -> datetime | Result:
        """Read or set a guest's clock. virsh: ``domtime``.

        Without values the time it has, to the second, as a datetime in UTC. ``now=True`` sets it to the time of the
        hypervisor, ``sync=True`` to that of its own hardware clock, `time` to an aware datetime or to seconds since
        1970, UTC.
        """
        given = {"now": now or None, "sync": sync or None, "time": _seconds(time)}
        return self._set_or_read("domtime", _time, given, domain=domain)

    def get_user_sshkeys(self, domain: str | int, user: str) -> list[str]:
        """The SSH keys that may log in as `user` of a guest, as in ``authorized_keys``. virsh: ``get-user-sshkeys``.

        virsh prints several keys without anything in between, so the guest agent is then asked for them by
        `qemu_agent_command`, which libvirt notes in its log of the domain.
        """
        return self._caller.call(_keys(domain, user))

    def set_user_sshkeys(
        self,
        domain: str | int,
        user: str,
        *,
        file: Sequence[str] | str | os.PathLike[str] | None = None,
        reset: bool = False,
        remove: bool = False,
    ) -> Result:
        """Add SSH keys to those that may log in as `user` of a guest. virsh: ``set-user-sshkeys``.

        `file`: a list of keys, each as a line of ``authorized_keys``, or the path of a file with such lines on the
        hypervisor. ``reset=True`` puts them in the place of all that there are, ``remove=True`` removes them.
        """
        return self._act("set-user-sshkeys", domain=domain, user=user, file=_key_file(file), reset=reset, remove=remove)

    def set_user_password(
        self, domain: str | int, user: str, password: str, **options: Unpack[options.SetUserPasswordOptions]
    ) -> Result:
        """Set the password of a guest's `user`. virsh: ``set-user-password``.

        ``encrypted=True``: `password` is its hash, as in ``/etc/shadow``. No log and no list of processes shows it.
        """
        return self._act("set-user-password", domain=domain, user=user, password=password, **options)

    # -- past libvirt

    def qemu_agent_command(
        self, domain: str | int, cmd: QemuCommand, **options: Unpack[options.QemuAgentCommandOptions]
    ) -> Json:
        """Send a command to a guest's agent, past libvirt. virsh: ``qemu-agent-command``.

        `cmd`: ``{'execute': 'guest-ping'}`` or the same as JSON. Returns the answer, read from JSON: ``{'return':
        {}}``. How long to wait for it: `timeout` in seconds, ``block=True`` for ever, ``async_=True`` not at all: an
        agent that does not answer at once is taken for one that is not there.
        """
        return self._caller.call(reading(_qemu("qemu-agent-command", domain, cmd, options), _answer))

    def qemu_monitor_command(
        self, domain: str | int, cmd: QemuCommand, **options: Unpack[options.QemuMonitorCommandOptions]
    ) -> Json:
        """Send a command to the monitor of a domain's QEMU, past libvirt. virsh: ``qemu-monitor-command``.

        `cmd`: ``{'execute': 'query-status'}``, the same as JSON, or ``'query-status'``. Returns the answer, read from
        JSON: ``{'return': {...}, 'id': 'libvirt-20'}``, or ``{'error': {...}, ...}`` if QEMU refuses. With
        ``return_value=True`` what it has under ``'return'``; a refusal raises then. ``hmp=True`` is for commands of the
        human monitor, such as ``'info block'``, and returns text. `pass_fds` is of no use: virsh inherits no files.
        """
        read = _said if options.get("hmp") else _returned if options.get("return_value") else _answer
        said = cmd if options.get("hmp") else _named(cmd)
        return self._caller.call(reading(_qemu("qemu-monitor-command", domain, said, options), read))


def _hostname(options: Mapping[str, object]) -> Plan[str]:
    """What a guest calls itself. To libvirt a guest whose agent does not answer is one without a name."""
    command = yield from resolved(Command("domhostname", options))
    (result,) = yield (command,)
    if not result.status and options.get("source") != "lease":
        ask = Command("guestinfo", {"domain": command.options["domain"], "hostname": True})
        (told,) = yield (ask,)
        if not told.status and isinstance(error := failure(ask.words(), told), AgentError):
            raise error
    return text.line(checked(command, result).stdout)


def _screenshot(domain: str | int, screen: int | None) -> Plan[Screenshot]:
    picture = io.BytesIO()
    file = Download(picture, f"the screen of domain {domain!r}")
    command = yield from resolved(Command("screenshot", {"domain": domain, "file": file, "screen": screen}))
    (result,) = yield (command,)
    checked(command, result)
    return _picture(picture.getvalue())


def _picture(output: bytes) -> Screenshot:
    """The picture in an output, behind which virsh says its type."""
    data, said, kind = output.rpartition(b"Screenshot saved to /dev/stdout, with type of ")
    if not said:
        raise UnreadableOutputError(f"virsh did not say the type of a screenshot: {output[-200:]!r}")
    return Screenshot(data, text.line(kind.decode("utf-8", "surrogateescape")))


def _qemu(command: str, domain: str | int, cmd: QemuCommand, options: Mapping[str, object]) -> Command:
    """A command that may do anything, so it is never repeated by itself."""
    exact = {name: value for name, value in options.items() if name not in ("pretty", "return_value")}
    word = cmd if isinstance(cmd, str) else json.dumps(dict(cmd))
    return Command(command, {"domain": domain, **exact, "cmd": word}, reads=False)


def _named(cmd: QemuCommand) -> QemuCommand:
    """A command of the monitor, also if only its name is given, which older virsh does not understand."""
    return {"execute": cmd} if isinstance(cmd, str) and re.fullmatch(r"[\w.-]+", cmd) else cmd


def _answer(output: str) -> Json:
    """What JSON says; None for nothing."""
    try:
        return json.loads(output) if output.strip() else None
    except (ValueError, RecursionError) as error:
        raise UnreadableOutputError(f"no JSON: {error}: {output!r}") from error


def _returned(output: str) -> Json:
    answer = _answer(output)
    if not isinstance(answer, dict) or "return" not in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        reason = error.get("desc") if isinstance(error, dict) else output.strip()
        raise KvmError(f"virsh qemu-monitor-command: QEMU refuses: {reason}")
    return answer["return"]


def _said(output: str) -> str:
    return output.replace("\r\n", "\n").rstrip("\n")


def _console(command: Command) -> Plan[str | None]:
    command = yield from resolved(command)
    (result,) = yield (command,)
    if result.return_code == 1 and not result.stderr.strip():  # virsh fails, but has nothing to complain about
        return None
    return text.line(checked(command, result).stdout)


def _time(output: str) -> datetime:
    found = re.fullmatch(r"Time: (-?[0-9]{1,20})", output.strip())
    if not found:
        raise UnreadableOutputError(f"virsh printed no time: {output!r}")
    return text.since_1970(seconds=int(found[1]))


def _seconds(time: datetime | int | str | None) -> int | str | None:
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise InvalidArgumentError(f"time: {time!r} says no time zone; datetime.now(UTC) does")
    return int(time.timestamp())


# -- guestinfo and domfsinfo --------------------------------------------------------------------------------------

_KINDS: dict[str, Callable[[str], object]] = {
    "count": int,
    "offset": int,
    "prefix": int,
    "total-bytes": Quantity,
    "used-bytes": Quantity,
    "partition": lambda raw: {"yes": True, "no": False}[raw],
    "login-time": lambda raw: text.since_1970(milliseconds=int(raw)),
    "1m": float,
    "5m": float,
    "15m": float,
}
"""What converts a figure, by the last part of its name; all others are texts, whatever they look like."""


def _guest_info(output: str) -> dict[str, Any]:
    try:
        return text.nested(
            (name, _KINDS.get(name.rpartition(".")[2], str)(raw)) for name, raw in text.padded(output, 20)
        )
    except (ValueError, KeyError, RecursionError) as error:
        raise UnreadableOutputError(f"cannot read what the guest says: {error}") from error


def _filesystems(domain: str | int) -> Plan[list[Filesystem]]:
    """The rows of virsh's table; a mount point may look like several of its cells, so they are asked for as well."""
    of_table = yield from resolved(Command("domfsinfo", {"domain": domain}))
    exact = Command("guestinfo", {**of_table.options, "filesystem": True})
    printed, told = yield (of_table, exact)
    output = checked(of_table, printed).stdout
    if output.startswith("No filesystems are mounted"):
        return []
    said = _guest_info(told.stdout).get("fs", []) if told.status else []
    mountpoints = [each.get("mountpoint", "") for each in said if isinstance(each, dict)]
    return [
        {
            "mountpoint": row["mountpoint"],
            "name": row["name"],
            "type": row["type"],
            "target": row["target"].split(",") if row["target"] else [],
        }
        for row in table.rows(output, mountpoints)
    ]


# -- keys ---------------------------------------------------------------------------------------------------------

_BLOB = re.compile(r"(?:^|\s)AAAA")
"""How the data of every SSH key begins, in Base64."""


def _keys(domain: str | int, user: str) -> Plan[list[str]]:
    command = yield from resolved(Command("get-user-sshkeys", {"domain": domain, "user": user}))
    (result,) = yield (command,)
    keys = [each for each in text.lines(checked(command, result).stdout) if each]
    if all(len(_BLOB.findall(key)) <= 1 for key in keys):
        return keys
    execute = {"execute": "guest-ssh-get-authorized-keys", "arguments": {"username": user}}
    asked = Command("qemu-agent-command", {"domain": command.options["domain"], "cmd": json.dumps(execute)})
    (told,) = yield (asked,)
    answer = _answer(checked(asked, told).stdout)
    try:
        return [str(key) for key in answer["return"]["keys"]]
    except (TypeError, KeyError) as error:
        raise UnreadableOutputError(f"the guest agent told no keys: {told.stdout!r}") from error


def _key_file(given: Sequence[str] | str | os.PathLike[str] | None) -> bytes | str | os.PathLike[str] | None:
    if given is None or isinstance(given, str | os.PathLike):
        return given
    if wrong := [key for key in given if not key.strip() or "\n" in key]:
        raise InvalidArgumentError(
            f"a key is one line of authorized_keys, and one of these has {len(wrong[0].split(chr(10)))}"
        )
    return "\n".join(given).encode() or None
