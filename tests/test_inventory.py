"""Files that tell which hosts there are: what they come to, and what is said of those that are wrong."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvm
import unix
from kvm import inventory
from kvm.inventory import InventoryError, _expanded, read
from sshd import Sshd

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# -- what they come to --------------------------------------------------------------------------------------------

TOML = """
[defaults]
uri = "qemu:///system"
username = "root"

[hosts.hv1]
host = "10.0.0.1"
port = 2222
options = { ProxyJump = "gate", Compression = true }

[hosts."hv[02:04]"]

[hosts.here]
connection = "local"

[groups.rack1]
hosts = ["hv1", "hv[02:03]"]
username = "admin"
key_filename = "keys/rack1"

[groups]
berlin = ["rack1", "hv04"]
"""


def test_toml_has_hosts_groups_and_defaults(write: Write) -> None:
    file = write("hosts.toml", TOML)
    found = read(file)
    assert found.groups == {"rack1": ["hv1", "hv02", "hv03"], "berlin": ["hv1", "hv02", "hv03", "hv04"]}
    in_rack = {"uri": "qemu:///system", "username": "admin", "key_filename": str(file.parent / "keys" / "rack1")}
    assert found.hosts == {
        "hv1": {**in_rack, "host": "10.0.0.1", "port": 2222, "options": {"ProxyJump": "gate", "Compression": "yes"}},
        "hv02": in_rack,
        "hv03": in_rack,
        "hv04": {"uri": "qemu:///system", "username": "root"},
        "here": {"uri": "qemu:///system", "username": "root", "connection": "local"},
    }


def test_the_smallest_toml_is_a_list_of_hosts(write: Write) -> None:
    assert read(write("hosts.toml", 'hosts = ["hv1", "hv[2:3]"]')) == ({"hv1": {}, "hv2": {}, "hv3": {}}, {})


INI = """
# hosts without a group come first
lonely ansible_host=10.1.1.1
mail.example.com:2202

[web]
web[01:03] ansible_user=www    # of three
db-[a:c:2].example.com

[web:vars]
ansible_port=2222
ansible_user=root

[db]
one.example.com ansible_ssh_private_key_file="~/my keys/id" ansible_port='23'
two.example.com:5309 kvm_uri=test:///default ansible_connection=local
[2001:db8::7]:77 ansible_password=1234
web02

[berlin:children]
web
db

[berlin:vars]
ansible_ssh_common_args=-o ProxyJump=gate -o ProxyCommand="ssh -W %h:%p x"
ansible_user = outer
[all:vars]
ansible_user=everyone
something={{ else }}
"""

YAML = """
all:
  vars: {ansible_user: everyone, something: !vault secret}
  hosts:
    lonely: {ansible_host: 10.1.1.1}
    mail.example.com:2202:
  children:
    berlin:
      vars:
        ansible_ssh_common_args: -o ProxyJump=gate -o ProxyCommand="ssh -W %h:%p x"
        ansible_user: outer
      children:
        web:
          vars: {ansible_port: 2222, ansible_user: root}
          hosts:
            web[01:03]: {ansible_user: !unsafe www}
            db-[a:c:2].example.com:
        db:
          hosts:
            one.example.com: {ansible_ssh_private_key_file: ~/my keys/id, ansible_port: "23"}
            two.example.com:5309: {kvm_uri: "test:///default", ansible_connection: local}
            "[2001:db8::7]:77": {ansible_password: 1234}
            web02:
"""


@pytest.mark.parametrize(("name", "text"), [("hosts", INI), ("hosts.yml", YAML), ("inventory", YAML)])
def test_an_ansible_inventory_means_what_it_means_to_ansible(write: Write, name: str, text: str) -> None:
    found = read(write(name, text))
    options = {"ProxyJump": "gate", "ProxyCommand": "ssh -W %h:%p x"}
    web = {"username": "www", "port": 2222, "options": options}
    assert found.hosts == {
        "lonely": {"host": "10.1.1.1", "username": "everyone"},
        "mail.example.com": {"port": 2202, "username": "everyone"},
        "web01": web,
        "web02": web,
        "web03": web,
        "db-a.example.com": {**web, "username": "root"},
        "db-c.example.com": {**web, "username": "root"},
        "one.example.com": {"username": "outer", "key_filename": "~/my keys/id", "port": 23, "options": options},
        "two.example.com": {
            "username": "outer", "port": 5309, "uri": "test:///default", "connection": "local", "options": options,
        },
        "2001:db8::7": {"username": "outer", "port": 77, "password": "1234", "options": options},
    }  # fmt: skip
    groups = {name: sorted(hosts) for name, hosts in found.groups.items()}
    db = ["2001:db8::7", "one.example.com", "two.example.com", "web02"]
    in_web = ["db-a.example.com", "db-c.example.com", "web01", "web02", "web03"]
    assert groups == {
        "ungrouped": ["lonely", "mail.example.com"], "db": db, "web": in_web, "berlin": sorted({*db, *in_web}),
    }  # fmt: skip


def test_an_ssh_config_names_hosts_also_in_what_it_includes(write: Write, tmp_path: Path) -> None:
    write("more.conf", "Host hv3\nHost hv4 *.example.com\n")
    config = write(
        "config",
        f'Include {tmp_path}/*.conf none/*\nHost hv1 "hv2" !hv9 hv? # and more\n  HostName 10.0.0.1\n'
        "Match host hv7\n  User x\nhost=hv5\nHost *\n  User root\n",
    )
    assert read(config) == ({name: {"config": str(config)} for name in ("hv3", "hv4", "hv1", "hv2", "hv5")}, {})
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert inventory._ssh("Host hv1", inventory._File(f"{home}/.ssh/config")) == ({"hv1": {}}, {})


def test_hosts_of_an_ssh_config_are_reached_as_ssh_reaches_them(sshd: Sshd, write: Write, tmp_path: Path) -> None:
    write("those", f"Host in-a-file\n  HostName localhost\n  HostKeyAlias [127.0.0.1]:{sshd.port}\n")
    config = write(
        "ssh_config",
        f"Include {tmp_path}/those\nHost here\n  HostName 127.0.0.1\nHost *\n  Port {sshd.port}\n"
        f"  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {sshd.known_hosts}\n",
    )
    with kvm.Fleet.from_inventory(config, uri="test:///default", connect_timeout=20) as fleet:
        assert fleet.domain.state("test") == {"in-a-file": "running", "here": "running"}
        assert fleet["here"].execute("sh", "-c", 'echo "$SSH_CONNECTION"').stdout.split()[3] == str(sshd.port)


@pytest.mark.parametrize("suffix", [".toml", ".ini", ".yaml"])
def test_hosts_of_an_inventory_are_reached(sshd: Sshd, write: Write, suffix: str) -> None:
    user, key = pwd.getpwuid(os.geteuid()).pw_name, str(sshd.key)
    text = {
        ".toml": f'[groups]\nboth=["hv1"]\n[hosts.other]\n[hosts.hv1]\nhost="127.0.0.1"\nport={sshd.port}\n'
        f'username="{user}"\nkey_filename="{key}"\nuri="test:///default"\n',
        ".ini": f"other\n[both]\nhv1 ansible_host=127.0.0.1 ansible_port={sshd.port} ansible_user={user} "
        f"ansible_ssh_private_key_file={key} kvm_uri=test:///default\n",
        ".yaml": f"all: {{hosts: {{other: }}}}\nboth: {{hosts: {{hv1: {{ansible_host: 127.0.0.1, ansible_user: {user}, "
        f"ansible_port: {sshd.port}, ansible_ssh_private_key_file: {key}, kvm_uri: 'test:///default'}}}}}}\n",
    }[suffix]
    more: dict[str, Any] = {"known_hosts": sshd.known_hosts, "config": "/dev/null"}
    with kvm.Fleet.from_inventory(write(f"inventory{suffix}", text), group="both", connect_timeout=20, **more) as fleet:
        assert fleet.execute("id", u=True, n=True)["hv1"].stdout == f"{user}\n"
        assert fleet.domain.state("test") == {"hv1": "running"}
        assert fleet.groups == {"both": ["hv1"]}


def test_what_the_file_says_counts_before_what_the_call_says(write: Write) -> None:
    file = write("hosts.toml", '[hosts.a]\nuri = "test:///a"\nconnection = "local"\n[hosts.b]\nconnection = "local"\n')
    fleet = kvm.Fleet.from_inventory(file, uri="test:///default", port=22)
    assert {name: each.uri for name, each in fleet.items()} == {"a": "test:///a", "b": "test:///default"}
    assert all(isinstance(each.host, unix.Local) for each in fleet.values())


@given(st.integers(0, 999), st.integers(0, 30), st.integers(1, 5), st.integers(1, 4))
def test_ranges_are_all_numbers_up_to_the_last(first: int, more: int, step: int, width: int) -> None:
    written = f"{first:0{width}}:{first + more:0{width}}" + (f":{step}" if step > 1 else "")
    names = _expanded(f"a[{written}]-[x:z].b")
    numbers = range(first, first + more + 1, step)
    assert names == [f"a{number:0{width}}-{letter}.b" for number in numbers for letter in "xyz"]


# -- what is said of those that are wrong -------------------------------------------------------------------------

WRONG = [
    ("hosts.toml", "[hosts\n", r"line 1: this is not TOML"),
    ("hosts.toml", "[defaults]\nuri = 'x:///'\n", r"no host in this inventory"),
    ("hosts.toml", "[host.hv1]\n", r", host: no such key here: did you mean 'hosts'\?"),
    ("hosts.toml", "[hosts.hv1]\nprot = 22\n", r", hosts\.hv1\.prot: no such key here: did you mean 'port'\?"),
    ("hosts.toml", "[hosts.hv1]\nport = 'x'\n", r", hosts\.hv1\.port: port is a number from 1 to 65535, not 'x'"),
    ("hosts.toml", "[defaults]\nport = 0\n[hosts.a]\n", r", defaults\.port: port is a number"),
    ("hosts.toml", "[hosts]\nhv1 = '10.0.0.1'\n", r", hosts\.hv1: this is a table, as in \[hosts\.hv1\], not '10"),
    ("hosts.toml", "[hosts.hv1]\nhost = '-oProxyCommand=x'\n", r"hosts\.hv1\.host: host is a name or an address"),
    ("hosts.toml", "[hosts.hv1]\nhost_key = 'no'\n", r"host_key is 'known' or 'accept-new', not 'no'"),
    ("hosts.toml", "[hosts.'hv[3:1]']\n", r"hosts\.hv\[3:1\]: 'hv\[3:1\]' has a range that is none"),
    ("hosts.toml", "[hosts.'hv[1']\n", r"a bracket in 'hv\[1' is open"),
    ("hosts.toml", "hosts=['hv1']\ngroups={a=['hv2']}\n", r", groups\.a: there is no host or group 'hv2'"),
    ("hosts.toml", "hosts=['hv1']\ngroups={hv1=['hv1']}\n", r", groups\.hv1: a host has this name"),
    ("hosts.toml", "hosts=['hv1']\ngroups={a=['b'], b=['a', 'hv1']}\n", r", group a: it is in itself: a in b in a"),
    ("hosts.toml", "[hosts.a]\npassword = 17\n", r"password is a text, not what is there"),
    ("config", "Host *\n  User root\n", r"config: no Host entry in it names a host without wildcards"),
    ("config", "Host a\nHost\n Host 'b\n", r"line 3: a quote in \"'b\" is open"),
    ("hosts", "", r"no host in this inventory"),
    ("hosts", "[web\nhv1\n", r"line 1: a bracket in '\[web' is open"),
    ("hosts", "[web:var]\n", r"line 1: a section is \[web\], \[web:children\] or \[web:vars\]"),
    ("hosts", "hv1\n[web:vars]\nx=1\n", r"line 2: there is no group 'web'"),
    ("hosts", "[web]\nhv1\n[all:children]\nwbe\n", r"line 4: there is no group 'wbe': did you mean 'web'\?"),
    ("hosts", "[web]\nhv1 ansible_port\n", r"line 2: behind a host everything is name=value, not 'ansible_port'"),
    ("hosts", "hv1 ansible_port=abc\n", r"line 1: port is a number from 1 to 65535, not 'abc'"),
    ("hosts", "hv1 ansible_user='x\n", r"line 1: a quote in"),
    ("hosts", "hv1 ansible_host='{{ ip }}'\n", r"line 1: ansible_host: only Ansible can read the template"),
    ("hosts", "hv1 ansible_connection=winrm\n", r"line 1: ansible_connection: hosts are reached by 'ssh'"),
    ("hosts", "hv1 ansible_ssh_common_args='-v'\n", r"line 1: ansible_ssh_common_args: of ssh's arguments -o and -J"),
    ("hosts", "hv1 ansible_ssh_common_args='-o Proxy'\n", r"cannot read '-o Proxy'; an option is written"),
    ("hosts", "[a]\nhv1\n[a:children]\nb\n[b:children]\na\n", r"group a: it is in itself: a in b in a"),
    ("hosts", "#!/bin/sh\necho\n", r"line 1: this is a program, and none is run here; have Ansible write"),
    ("hosts.yml", "all:\n  hosts: [a\n", r"line 3: this is not YAML"),
    ("hosts.yml", "all:\n  host: {a: }\n", r", all\.host: a group has hosts, children and vars: did you mean 'hosts'"),
    ("hosts.yml", "all: {hosts: [a]}\n", r", all\.hosts: this is a mapping, with a colon behind each name, not list"),
    ("hosts.yml", "all: {hosts: {a: {ansible_user: !vault x}}}", r", all\.hosts\.a\.ansible_user: .* with !vault"),
    ("hosts.yml", "all: {hosts: {1: }}\n", r", all\.hosts: .* a key that is no text \(quote it\)"),
    ("hosts.yml", "- a\n", r"a mapping of groups"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), WRONG, ids=range(len(WRONG)))
def test_an_error_names_the_file_the_place_and_what_to_do(write: Write, name: str, text: str, said: str) -> None:
    file = write(name, text)
    with pytest.raises(InventoryError, match=said) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))


def test_what_is_no_file_of_hosts_is_told(tmp_path: Path, write: Write) -> None:
    with pytest.raises(InventoryError, match="this is a directory"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"a\nb\xe4\n")
    with pytest.raises(InventoryError, match="line 2: this is not UTF-8"):
        read(tmp_path / "latin")
    file = write("hosts.toml", 'hosts = ["a"]\ngroups = {rack1 = ["a"]}')
    with pytest.raises(InventoryError, match=r"hosts\.toml: there is no group 'rack2': did you mean 'rack1'\?"):
        kvm.Fleet.from_inventory(file, "rack2")
    with pytest.raises(kvm.InvalidArgumentError, match="the format of an inventory is toml, ssh, ini, yaml"):
        read(file, format="xml")  # type: ignore[arg-type]


def test_files_that_include_one_another_are_an_error(write: Write, tmp_path: Path) -> None:
    config = write("config", f"Host a\nInclude {tmp_path}/config\n")
    with pytest.raises(InventoryError, match="line 2: files include one another without end"):
        read(config)


def test_yaml_without_pyyaml_says_what_to_install(write: Write) -> None:
    program = (
        "import sys; sys.modules['yaml'] = None\nimport kvm\n"
        "try: kvm.Fleet.from_inventory(sys.argv[1])\nexcept kvm.InventoryError as error: print(error)"
    )
    file = write("hosts.yml", YAML)
    said = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True).stdout
    assert said == f"{file}: reading YAML needs PyYAML: pip install 'python-kvm[yaml]'\n"
