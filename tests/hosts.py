"""Many hosts of the tests' own on loopback: one sshd with several addresses, and for each host its test hypervisors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kvm
from sshd import Sshd


class Hosts:
    """Hosts on loopback: one sshd with many addresses, and beside it what does not answer as it should."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        listening = [f"127.0.77.{number}" for number in range(1, 11)]  # an sshd listens to 16 addresses at most
        self.addresses = [listening[number % 10] for number in range(count)]
        self.sshd = Sshd("MaxStartups 1000", *(f"ListenAddress {address}" for address in listening))
        self.names = [f"hv{number:02}" for number in range(1, count + 1)]
        for number, name in enumerate(self.names, 1):
            self.describe(name, f"guest{number:02}", "everywhere", str(number))

    def describe(self, host: str, *domains: str) -> str:
        """The URI of test hypervisors with these domains, which no two hosts share."""
        described = [
            {
                "@type": "test",
                "name": name,
                "uuid": kvm.gen_uuid(),
                "memory": "8192",
                "vcpu": "2",
                "os": {"type": "hvm"},
            }
            for name in domains
        ]
        file = self.directory / f"{host}.xml"
        file.write_text(kvm.to_xml("node", {"domain": described}))
        return f"test://{file}"

    def uri(self, host: str) -> str:
        return f"test://{self.directory}/{host}.xml"

    @property
    def connecting(self) -> dict[str, Any]:
        """What it takes to get to any of them."""
        return {
            "key_filename": self.sshd.key, "known_hosts": self.sshd.known_hosts, "config": "/dev/null",
            "options": {"HostKeyAlias": f"[127.0.0.1]:{self.sshd.port}"}, "connect_timeout": 60,
        }  # fmt: skip

    def fleet(self, **settings: Any) -> kvm.Fleet:
        """All of them, by an inventory."""
        file = self.directory / "inventory.toml"
        described = "".join(
            f'[hosts.{name}]\nhost = "{address}"\nuri = "{self.uri(name)}"\n'
            for name, address in zip(self.names, self.addresses, strict=True)
        )
        last = self.names[-1]
        groups = f'[groups]\neven = ["hv[02:{last[2:]}:2]"]\nfirst = ["hv[01:03]"]\nfew = ["first", "{last}"]\n'
        file.write_text(f"[defaults]\nport = {self.sshd.port}\n{described}{groups}")
        return kvm.Fleet.from_inventory(file, **{**self.connecting, **settings})

    def others(self, **ports: int) -> kvm.Fleet:
        """Hosts at ports of this machine, which may not answer."""
        file = self.directory / "others.toml"
        described = "".join(f'[hosts.{name}]\nhost = "127.0.0.1"\nport = {port}\n' for name, port in ports.items())
        file.write_text(described)
        return kvm.Fleet.from_inventory(file, uri=self.uri("hv01"), **{**self.connecting, "connect_timeout": 10})
