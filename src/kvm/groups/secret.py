"""Secrets, such as the passphrases of encrypted volumes.

A secret's value goes to virsh by standard input and comes back in base64: it is in no process's arguments, no line of a
log and no error, and every byte of it is exact.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from kvm import table, text, xml
from kvm.errors import InvalidArgumentError, UnreadableOutputError
from kvm.events import LIFECYCLE, NOTHING, Details, EventOptions, Events, Kinds, OfLibvirt
from kvm.groups.group import Group
from kvm.values import Outcome
from kvm.virsh.command import Command
from kvm.virsh.plan import Plan, checked
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options
    from kvm.groups.bound_generated import BoundSecret


class ListedSecret(TypedDict):
    """A secret in a list: what kind of thing it is for (``'volume'``, ``'ceph'``, ...) and which one.

    `usage_id` is the path of the volume, the target or the name. Both are None for a secret that is for nothing.
    """

    usage_type: str | None
    usage_id: str | None


class Secret(Group):
    """Secrets, such as the passphrases of encrypted volumes. A secret is given by its UUID."""

    _key = ("secret",)

    def __getitem__(self, secret: str) -> BoundSecret:
        """One secret: the methods about it, without `secret`."""
        one: BoundSecret = self._one(secret)
        return one

    @overload
    def conf(self, secret: str, *, xpath: None = None, **options: Unpack[options.SecretDumpxmlOptions]) -> xml.Conf: ...
    @overload
    def conf(self, secret: str, *, xpath: str, **options: Unpack[options.SecretDumpxmlOptions]) -> list[xml.Node]: ...
    def conf(
        self, secret: str, *, xpath: str | None = None, **options: Unpack[options.SecretDumpxmlOptions]
    ) -> xml.Conf | list[xml.Node]:
        """What a secret is for, as a dict of libvirt's XML, without its value. virsh: ``secret-dumpxml``.

        With ``xpath='/secret/usage/*'`` a list of what that finds.
        """
        return self._read("secret-dumpxml", xml.asked(xpath), secret=secret, **xml.unwrapped(options))

    def define(self, file: xml.Document, **options: Unpack[options.SecretDefineOptions]) -> Outcome[str]:
        """Define a secret, without a value, or change the one with its UUID. virsh: ``secret-define``.

        `file`: a dict of ``<secret>``, XML, an element or the path of a file on the hypervisor. Give it a ``uuid`` (see
        `kvm.gen_uuid`), and it is known by that. ``validate=True`` checks it against libvirt's schema.
        The `value` of the result is its UUID.
        """
        document = xml.document("secret", file, options.get("validate"))
        return self._act_and_tell("secret-define", str, file=document, **options)

    @overload
    def event(
        self,
        secret: str | None = None,
        *,
        event: str = "lifecycle",
        list: Literal[False] = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details]: ...
    @overload
    def event(self, secret: str | None = None, *, list: Literal[True]) -> Kinds: ...
    def event(
        self,
        secret: str | None = None,
        *,
        event: str = "lifecycle",
        list: bool = False,
        **options: Unpack[EventOptions],
    ) -> Events[Details] | Kinds:
        """What happens from now on to a secret, or to all, as it happens. virsh: ``secret-event``.

        As `Domain.event`, also `timeout` and `loop`, but of one kind at a time: ``'lifecycle'`` (`LifecycleEvent`:
        ``'Defined'``, ``'Undefined'``) or ``'value-changed'``. The name of a secret is its UUID. With ``list=True`` the
        names of all kinds.
        """
        which = {"secret": secret, "event": event}
        return self._listen_or_list("secret-event", _EVENTS, "secret-list", which, options, list=list)

    def get_value(self, secret: str, **_: Unpack[options.SecretGetValueOptions]) -> bytes:
        """A secret's value, as bytes, not in base64. virsh: ``secret-get-value``.

        `NotFoundError` if it has none, `InvalidStateError` if the secret is private: then only libvirt itself reads it.
        ``plain=True`` makes no difference.
        """
        return self._read("secret-get-value", _decoded, secret=secret)

    def list(self, **options: Unpack[options.SecretListOptions]) -> dict[str, ListedSecret]:
        """The secrets by UUID. virsh: ``secret-list``.

        ``{'b9a0...': {'usage_type': 'ceph', 'usage_id': 'client.admin secret'}}``. ``ephemeral=True``, `no_ephemeral`:
        those that are kept in memory only, or not; ``private=True``, `no_private`: those whose value cannot be read,
        or can.
        """
        return self._caller.call(_listing(options))

    def set_value(self, secret: str, value: bytes | str) -> Result:
        """Set a secret's value: 1 to 1024 bytes, text as UTF-8. virsh: ``secret-set-value``."""
        return self._act("secret-set-value", secret=secret, file=_encoded(value), plain=True)

    def undefine(self, secret: str) -> Result:
        """Remove a secret and its value. virsh: ``secret-undefine``."""
        return self._act("secret-undefine", secret=secret)


def _encoded(value: bytes | str) -> bytes:
    """A value as bytes; if that cannot be, an error that does not hold it."""
    if not isinstance(value, str | bytes):
        raise TypeError(f"a secret's value is bytes or text, not {type(value).__name__}")
    with suppress(UnicodeEncodeError):  # which has the value
        return value.encode() if isinstance(value, str) else value
    raise InvalidArgumentError("a secret's value must be valid Unicode text, or bytes")


def _decoded(output: str) -> bytes:
    try:
        return base64.b64decode(output.strip("\n"), validate=True)
    except ValueError:
        raise UnreadableOutputError("virsh printed a secret's value that is no base64") from None


# -- list ---------------------------------------------------------------------------------------------------------

_ROW = re.compile(r" ([0-9a-f-]{36})   (.*)")
"""The UUID, always as wide, and the usage, in the last column and so exact to its last blank."""


def _listing(options: Mapping[str, object]) -> Plan[dict[str, ListedSecret]]:
    command = Command("secret-list", options)
    (result,) = yield (command,)
    listed = _listed(checked(command, result).stdout)
    hidden = [uuid for uuid, secret in listed.items() if table.NOT_SHOWN in (secret["usage_id"] or "")]
    confs = tuple(Command("secret-dumpxml", {"secret": uuid}) for uuid in hidden)
    for uuid, asked, told in zip(hidden, confs, (yield confs) if confs else (), strict=True):
        listed[uuid]["usage_id"] = _usage_id(xml.conf(checked(asked, told).stdout))
    return listed


def _listed(output: str) -> dict[str, ListedSecret]:
    listed: dict[str, ListedSecret] = {}
    for row in text.lines(output)[2:]:
        if not (found := _ROW.fullmatch(row)):
            raise UnreadableOutputError(f"cannot read {row!r} in the list of secrets")
        usage_type, blank, usage_id = table.decoded(table.shown(found[2])).partition(" ")
        is_used = bool(blank)  # otherwise it says "Unused"
        listed[found[1]] = {"usage_type": usage_type if is_used else None, "usage_id": usage_id if is_used else None}
    return listed


def _usage_id(conf: xml.Conf) -> str:
    """What a secret is for: the only element of its usage, whatever that is called for this kind."""
    usage = conf.get("usage")
    ids = [each for name, each in usage.items() if not name.startswith("@")] if isinstance(usage, dict) else []
    if len(ids) != 1:
        raise UnreadableOutputError(f"virsh does not tell what a secret is for: {conf}")
    return str(ids[0])


_EVENTS = OfLibvirt[Any]("secret", {"lifecycle": LIFECYCLE, "value-changed": NOTHING})
