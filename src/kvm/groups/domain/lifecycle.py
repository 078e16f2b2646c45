"""Domains from their definition to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from kvm import xml
from kvm.groups.group import Group
from kvm.virsh.command import Command
from unix.result import Result

if TYPE_CHECKING:
    from kvm.groups import options_generated as options


class Lifecycle(Group):
    """Defining, starting and stopping domains."""

    def autostart(self, domain: str | int, **options: Unpack[options.AutostartOptions]) -> Result:
        """Have a domain started with the host; ``disable=True``: no longer. virsh: ``autostart``.

        ``once=True``: only with the next start of the host.
        """
        return self._act("autostart", domain=domain, **options)

    def create(self, file: xml.Document, **options: Unpack[options.CreateOptions]) -> Result:
        """Start a domain that lives as long as it runs (a transient one). virsh: ``create``.

        `file`: its configuration as a dict of ``<domain>``, XML, an element or the path of a file on the hypervisor.
        ``paused=True`` starts it without running it, ``validate=True`` checks it against libvirt's schema,
        ``reset_nvram=True`` resets its firmware's variables. ``autodestroy``, ``console`` and ``pass_fds`` as with
        `start`.
        """
        return self._act("create", file=xml.document("domain", file, options.get("validate")), **options)

    def define(self, file: xml.Document, **options: Unpack[options.DefineOptions]) -> Result:
        """Define a domain, or change the definition of the one with its UUID. It is not started. virsh: ``define``.

        `file` as with `create`; ``validate=True`` checks it against libvirt's schema. A dict with a name that libvirt
        does not know is an `InvalidArgumentError` unless ``validate`` is given; with ``validate=False`` libvirt ignores
        such a name.
        """
        return self._act("define", file=xml.document("domain", file, options.get("validate")), **options)

    def destroy(self, domain: str | int, **options: Unpack[options.DestroyOptions]) -> Result:
        """Stop a domain at once, as if its power was cut. virsh: ``destroy``.

        ``graceful=True`` lets the hypervisor flush its files, and fails rather than kill it; ``remove_logs=True``
        removes its logs. `InvalidStateError` if it does not run. Its definition stays.
        """
        return self._act("destroy", domain=domain, **options)

    def edit(self, domain: str | int, function: xml.Editor, *, skip_validate: bool = False) -> Result:
        """Change the configuration that a domain's next start takes. virsh: ``edit``.

        `function` is given the configuration, secrets included, as a dict, and changes it or returns another one, as
        with `define`. The new one is checked against libvirt's schema unless `skip_validate`. Nothing is defined if
        nothing changes. `ChangedMeanwhileError` if another program has changed the domain while `function` ran.

        >>> hypervisor.domain.edit("web1", lambda conf: conf.update(vcpu=4))
        """
        read = Command("dumpxml", {"domain": domain, "inactive": True, "security_info": True})
        return self._edit("domain", read, "define", function, validate=not skip_validate)

    def reboot(self, domain: str | int, **options: Unpack[options.RebootOptions]) -> Result:
        """Ask a domain to reboot, and return without waiting for that. virsh: ``reboot``.

        An event ``reboot`` reports the reboot; ``await_(domain, 'guest-agent-available')`` waits for its agent.
        ``mode='acpi'`` or another way to ask: ``agent``, ``initctl``, ``signal``, ``paravirt``.
        """
        return self._act("reboot", domain=domain, **options)

    def resume(self, domain: str | int) -> Result:
        """Let a suspended domain go on. virsh: ``resume``."""
        return self._act("resume", domain=domain)

    def shutdown(self, domain: str | int, **options: Unpack[options.ShutdownOptions]) -> Result:
        """Ask a domain to shut down, and return without waiting for that. virsh: ``shutdown``.

        `stop` waits for it, and ``await_(domain, 'domain-inactive')``.
        ``mode`` as with `reboot`.
        """
        return self._act("shutdown", domain=domain, **options)

    def suspend(self, domain: str | int) -> Result:
        """Stop a domain's CPUs, keeping it in memory. virsh: ``suspend``."""
        return self._act("suspend", domain=domain)

    def undefine(self, domain: str | int, **options: Unpack[options.UndefineOptions]) -> Result:
        """Remove a domain's definition; a running one goes on until it stops. virsh: ``undefine``.

        What else to remove: ``managed_save=True``, ``nvram=True`` (firmware variables), ``tpm=True``,
        ``snapshots_metadata=True``, ``checkpoints_metadata=True``; without these, a domain that has such things may be
        refused. ``keep_nvram=True`` and ``keep_tpm=True`` leave the files. ``storage='vda,vdb'`` or
        ``remove_all_storage=True`` *delete volumes with their data*, if they are in a pool: ``wipe_storage=True``
        overwrites them first, ``delete_storage_volume_snapshots=True`` deletes their snapshots as well.
        """
        return self._act("undefine", domain=domain, **options)
