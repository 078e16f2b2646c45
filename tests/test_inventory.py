"""Files that tell which hosts there are: what they come to, and what is said of those that are wrong."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
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
from kvm.inventory import Inventory, InventoryError, _ansible, _ssh_config, merged, narrowed, read
from kvm.inventory._model import File, expanded
from sshd import Sshd

Write = Callable[[str, str], Path]


ANSIBLE = shutil.which("ansible-inventory")


@pytest.fixture(autouse=True)
def _without_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no ansible-inventory in PATH; `with_ansible` has it."""
    found = [folder for folder in os.environ["PATH"].split(":") if not os.path.exists(f"{folder}/ansible-inventory")]
    monkeypatch.setenv("PATH", ":".join(found))


@pytest.fixture
def with_ansible(_without_ansible: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the ansible-inventory of this machine in PATH again."""
    if ANSIBLE is None:
        pytest.skip("ansible-inventory is not installed")
    monkeypatch.setenv("PATH", f"{os.path.dirname(ANSIBLE)}:{os.environ['PATH']}")
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / ".ansible"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

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
    assert read(write("hosts.toml", 'hosts = ["hv1", "hv[2:3]"]')) == Inventory({"hv1": {}, "hv2": {}, "hv3": {}}, {})


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
    expected = {name: {"config": str(config)} for name in ("hv3", "hv4", "hv1", "hv2", "hv5")}
    assert read(config).hosts == expected
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert _ssh_config.read("Host hv1", File(f"{home}/.ssh/config")).hosts == {"hv1": {}}


def test_hosts_of_an_ssh_config_are_reached_as_ssh_reaches_them(sshd: Sshd, write: Write, tmp_path: Path) -> None:
    write("those", f"Host in-a-file\n  HostName localhost\n  HostKeyAlias [127.0.0.1]:{sshd.port}\n")
    config = write(
        "ssh_config",
        f"Include {tmp_path}/those\nHost here\n  HostName 127.0.0.1\nHost *\n  Port {sshd.port}\n"
        f"  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {sshd.known_hosts}\n",
    )
    with kvm.Fleet.from_inventory(config, uri="test:///default", connect_timeout=60) as fleet:
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
    with kvm.Fleet.from_inventory(write(f"inventory{suffix}", text), group="both", connect_timeout=60, **more) as fleet:
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
    names = expanded(f"a[{written}]-[x:z].b")
    numbers = range(first, first + more + 1, step)
    assert names == [f"a{number:0{width}}-{letter}.b" for number in numbers for letter in "xyz"]


# -- what is said of those that are wrong -------------------------------------------------------------------------

WRONG = [
    ("hosts.toml", "[hosts\n", r"line 1: this is not TOML"),
    ("hosts.toml", "[defaults]\nuri = 'x:///'\n", r"no host in this inventory"),
    ("hosts.toml", "[host.hv1]\n", r", host: no such key here: did you mean 'hosts'\?"),
    ("hosts.toml", "[hosts.hv1]\nprot = 22\n", r", hosts\.hv1\.prot: no such key here: did you mean 'port'\?"),
    ("hosts.toml", "[hosts.hv1]\nport = 'x'\n", r", hosts\.hv1\.port: port must be a number from 1 to 65535, not 'x'"),
    ("hosts.toml", "[defaults]\nport = 0\n[hosts.a]\n", r", defaults\.port: port must be a number"),
    ("hosts.toml", "[hosts]\nhv1 = '10.0.0.1'\n", r", hosts\.hv1: this must be a table, as in \[hosts\.hv1\], not '10"),
    ("hosts.toml", "[hosts.hv1]\nhost = '-oProxyCommand=x'\n", r"hosts\.hv1\.host: host must be a name or an address"),
    ("hosts.toml", "[hosts.hv1]\nhost_key = 'no'\n", r"host_key must be 'known' or 'accept-new', not 'no'"),
    ("hosts.toml", "[hosts.'hv[3:1]']\n", r"hosts\.hv\[3:1\]: 'hv\[3:1\]' contains an invalid range"),
    ("hosts.toml", "[hosts.'hv[1']\n", r"a bracket in 'hv\[1' is open"),
    ("hosts.toml", "hosts=['hv1']\ngroups={a=['hv2']}\n", r", groups\.a: there is no host or group 'hv2'"),
    ("hosts.toml", "hosts=['hv1']\ngroups={hv1=['hv1']}\n", r", groups\.hv1: a host has this name"),
    ("hosts.toml", "hosts=['hv1']\ngroups={a=['b'], b=['a', 'hv1']}\n", r", group a: the group .*: a in b in a"),
    ("hosts.toml", "[hosts.a]\npassword = 17\n", r"password must be a text, not the value there"),
    ("config", "Host *\n  User root\n", r"config: no Host entry in it names a host without wildcards"),
    ("config", "Host a\nHost\n Host 'b\n", r"line 3: a quote in \"'b\" is open"),
    ("hosts", "", r"no host in this inventory"),
    ("hosts", "[web\nhv1\n", r"line 1: a bracket in '\[web' is open"),
    ("hosts", "[web:var]\n", r"line 1: a section must be \[web\], \[web:children\] or \[web:vars\]"),
    ("hosts", "hv1\n[web:vars]\nx=1\n", r"line 2: there is no group 'web'"),
    ("hosts", "[web]\nhv1\n[all:children]\nwbe\n", r"line 4: there is no group 'wbe': did you mean 'web'\?"),
    ("hosts", "[web]\nhv1 ansible_port\n", r"line 2: the words after a host must be name=value, not 'ansible_port'"),
    ("hosts", "hv1 ansible_user='x\n", r"line 1: a quote in"),
    ("hosts", "[a]\nhv1\n[a:children]\nb\n[b:children]\na\n", r"group a: the group contains itself: a in b in a"),
    ("hosts", "#!/bin/sh\necho\n", r"line 1: this is a program, and only Ansible runs it; have Ansible write"),
    ("hosts.yml", "all:\n  hosts: [a\n", r"line 3: this is not YAML"),
    ("hosts.yml", "all:\n  host: {a: }\n", r", all\.host: a group has hosts, children and vars: did you mean 'hosts'"),
    ("hosts.yml", "all: {hosts: [a]}\n", r", all\.hosts: this must be a mapping, .*, not list"),
    ("hosts.yml", "all: {hosts: {1: }}\n", r", all\.hosts: .* a key that is not text \(quote it\)"),
    ("hosts.yml", "- a\n", r"this must be a mapping of groups"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), WRONG, ids=range(len(WRONG)))
def test_an_error_names_the_file_the_place_and_what_to_do(write: Write, name: str, text: str, said: str) -> None:
    file = write(name, text)
    with pytest.raises(InventoryError, match=said) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))


def test_file_that_is_not_an_inventory_is_an_error(tmp_path: Path, write: Write) -> None:
    with pytest.raises(InventoryError, match="this is a directory"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"a\nb\xe4\n")
    with pytest.raises(InventoryError, match="line 2: the file is not UTF-8"):
        read(tmp_path / "latin")
    file = write("hosts.toml", 'hosts = ["a"]\ngroups = {rack1 = ["a"]}')
    with pytest.raises(InventoryError, match=r"hosts\.toml: there is no group 'rack2': did you mean 'rack1'\?"):
        kvm.Fleet.from_inventory(file, "rack2")
    with pytest.raises(kvm.InvalidArgumentError, match="format must be one of toml, ssh, ini, yaml, json"):
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


# -- Ansible: what is beside the inventory, and hosts that are refused ---------------------------------------------

TREE = {
    "hosts": (
        "gate ansible_host=10.2.0.9 ansible_user=inline\n"
        "[racks:children]\nrack_a\n"
        "[rack_a]\nkvm[1:2]\n"
        "[rack_a:vars]\nansible_port=2201\nansible_user=inline\n"
        "[switches]\nsw1 ansible_connection=ansible.netcommon.network_cli\n"
    ),
    "group_vars/all.yml": "ansible_port: 2202\nansible_user: of_all\n",
    "group_vars/racks/10-ssh.yaml": "ansible_ssh_args: -C -o ControlPersist=60s\nansible_user: of_racks\n",
    "group_vars/racks/nested/20": "ansible_ssh_common_args: -J jump.example -4\n",
    "group_vars/racks/.hidden.yml": "ansible_user: hidden\n",
    "group_vars/rack_a.json": '{"kvm_uri": "test:///default"}',
    "group_vars/switches.yml": "ansible_host: '{{ of_facts }}'\n",
    "host_vars/kvm2.yml": "ansible_connection: ansible.builtin.local\nansible_user: of_host\n",
    "host_vars/gate": "ansible_port: 22\n",
}
"""An inventory with variables in files beside it."""

RACK_OPTIONS = {
    "Compression": "yes", "ControlPersist": "60s", "ProxyJump": "jump.example", "AddressFamily": "inet",
}  # fmt: skip

TREE_HOSTS = {
    "gate": {"host": "10.2.0.9", "username": "inline", "port": 22},
    "kvm1": {
        "username": "of_racks", "port": 2202, "uri": "test:///default",
        "options": RACK_OPTIONS,
    },
    "kvm2": {
        "username": "of_host", "port": 2202, "uri": "test:///default", "connection": "local",
        "options": RACK_OPTIONS,
    },
}  # fmt: skip


def tree(write: Write, **more: str) -> Path:
    for name, text in {**TREE, **more}.items():
        write(name, text)
    return write("hosts", TREE["hosts"])


def test_group_vars_and_host_vars_override_as_in_ansible(write: Write) -> None:
    found = read(tree(write))
    assert found.hosts == TREE_HOSTS
    assert list(found.refused) == ["sw1"]
    assert found.groups["racks"] == ["kvm1", "kvm2"]


def test_ansible_inventory_reads_the_same_as_our_reader(write: Write, with_ansible: None) -> None:
    found = read(tree(write))
    assert found.hosts == TREE_HOSTS
    assert "host sw1" in str(found.refused["sw1"])  # our own reader names a line
    for name, text in (("hosts.ini", INI), ("hosts.yml", YAML)):
        file = write(f"other/{name}", text)
        through_ansible = read(file)
        reader = {"hosts.ini": _ansible.read_ini, "hosts.yml": _ansible.read_yaml}[name]
        own = reader(text, File(str(file)))
        assert through_ansible.hosts == own.hosts
        assert {group: sorted(members) for group, members in through_ansible.groups.items()} == {
            group: sorted(members) for group, members in own.groups.items()
        }


def test_ansible_inventory_reads_directories_and_scripts(write: Write, tmp_path: Path, with_ansible: None) -> None:
    listed = '{"_meta": {"hostvars": {"dyn1": {"ansible_port": 7}}}, "cloud": ["dyn1", "dyn2"]}'
    script = write("inv/cloud.sh", f"#!/bin/sh\nprintf '%s\\n' '{listed}'\n")
    script.chmod(0o755)
    write("inv/group_vars/cloud.yml", "ansible_user: of_cloud\n")
    expected = {"dyn1": {"username": "of_cloud", "port": 7}, "dyn2": {"username": "of_cloud"}}
    assert read(script).hosts == expected
    write("inv/static", "fixed\n")
    assert read(tmp_path / "inv").hosts == {**expected, "fixed": {}}
    script.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(InventoryError, match="ansible-inventory cannot read it: "):
        read(script)


@pytest.mark.parametrize("ansible", [False, True])
def test_a_vault_refuses_only_the_hosts_it_is_about(write: Write, ansible: bool, request: Any) -> None:
    if ansible:
        request.getfixturevalue("with_ansible")  # it has no password, and then reads nothing of it at all
    found = read(tree(write, **{"group_vars/switches.yml": "$ANSIBLE_VAULT;1.1;AES256\n6231\n"}))
    assert found.hosts == TREE_HOSTS
    assert re.search(r"switches\.yml: only Ansible can read an encrypted file", str(found.refused["sw1"]))


LISTED = """\
{
    "_meta": {
        "hostvars": {
            "box-7": {
                "ansible_port": 4022,
                "ansible_ssh_common_args": "-o ProxyJump=bastion",
                "ansible_user": {
                    "__ansible_unsafe": "{{kvm}}"
                }
            },
            "box-8": {
                "ansible_password": {
                    "__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\\n6231336\\n"
                },
                "ansible_port": 4022
            },
            "dc": {
                "ansible_connection": "winrm"
            }
        },
        "profile": "inventory_legacy"
    },
    "all": {
        "children": [
            "ungrouped",
            "lab"
        ]
    },
    "lab": {
        "children": [
            "bench"
        ]
    },
    "bench": {
        "hosts": [
            "box-7",
            "box-8"
        ]
    },
    "ungrouped": {
        "hosts": [
            "dc"
        ]
    }
}
"""
"""What a real ansible-inventory --list (core 2.19) printed."""


@pytest.mark.parametrize("name", ["listed.json", "listed"])
def test_the_output_of_ansible_inventory_is_an_inventory(write: Write, name: str) -> None:
    found = read(write(name, LISTED))
    assert found.hosts == {"box-7": {"username": "{{kvm}}", "port": 4022, "options": {"ProxyJump": "bastion"}}}
    assert found.groups == {"lab": ["box-7", "box-8"], "bench": ["box-7", "box-8"], "ungrouped": ["dc"]}
    assert sorted(found.refused) == ["box-8", "dc"]


def test_json_with_variables_of_groups_is_an_inventory(write: Write) -> None:
    exported = {
        "_meta": {"hostvars": {"a": {"ansible_user": "x"}}},
        "all": {"children": ["ungrouped", "in"], "vars": {"ansible_port": 1}},
        "in": {"hosts": ["a", "b"], "vars": {"ansible_port": 2}},
    }
    expected = {"a": {"username": "x", "port": 2}, "b": {"port": 2}}
    assert read(write("export.json", json.dumps(exported))).hosts == expected
    as_yaml = {
        "all": {"children": {"in": {"hosts": {"a": {"ansible_user": "x"}, "b": None}, "vars": {"ansible_port": 2}}}}
    }
    assert read(write("form.json", json.dumps(as_yaml))).hosts == expected


REFUSED = [
    ("ansible_port=abc", r"line 2: port must be a number from 1 to 65535, not 'abc'"),
    ("ansible_host='{{ ip }}'", r"line 2: ansible_host: only Ansible can read the template '\{\{ ip \}\}'"),
    ("ansible_connection=winrm", r"ansible_connection: hosts are connected to by 'ssh', or are 'local', not 'winrm'"),
    ("ansible_connection=community.docker.docker", r"not 'community\.docker\.docker'"),
    ("ansible_ssh_common_args=-Z", r"ansible_ssh_common_args: ssh has no flag -Z; an option is written -o"),
    ("ansible_ssh_extra_args='-o Proxy'", r"cannot read '-o Proxy'; an option is written -o ProxyJump=gate"),
    ("ansible_ssh_args='gate'", r"ansible_ssh_args: cannot read 'gate'"),
    ("ansible_ssh_args='-J'", r"ansible_ssh_args: cannot read '-J'"),
]


@pytest.mark.parametrize(("variable", "message"), REFUSED)
def test_a_refused_host_leaves_the_others_usable(write: Write, variable: str, message: str) -> None:
    file = write("inventory", f"[odd]\nsrv9 {variable}\n[kvm]\nhv1 ansible_connection=local kvm_uri=test:///default\n")
    with kvm.Fleet.from_inventory(file, "kvm") as fleet:
        assert fleet.domain.state("test") == {"hv1": "running"}
    with kvm.Fleet.from_inventory(file) as fleet:
        told = fleet.map(lambda hypervisor: hypervisor.domain.state("test"), return_exceptions=True)
        assert told["hv1"] == "running"
        assert isinstance(told["srv9"], InventoryError)
        assert re.search(message, str(told["srv9"]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-AC -4 -v", {"options": {"ForwardAgent": "yes", "Compression": "yes", "AddressFamily": "inet"}}),
        ("-p7 -l me -i '~/my key' -J a,b", {
            "options": {"Port": "7", "User": "me", "IdentityFile": "~/my key", "ProxyJump": "a,b"}}),
        ("-F /etc/other -tt -S none -oUser=x", {"config": "/etc/other", "options": {"User": "x"}}),
        ("-qNT -L 1:h:2", {}),
        ("-o Port=1 -p 2", {"options": {"Port": "1"}}),
    ],
)  # fmt: skip
def test_ssh_arguments_become_options(write: Write, arguments: str, expected: dict[str, Any]) -> None:
    assert read(write("inventory", f'hv1 ansible_ssh_common_args="{arguments}"\n')).hosts == {"hv1": expected}


def test_ssh_args_override_common_and_extra_args(write: Write) -> None:
    lines = [f"ansible_ssh_{name}=-o User={name} -o {name}=1" for name in ("extra_args", "common_args", "args")]
    found = read(write("inventory", "\n".join(["hv1", "[all:vars]", *lines])))
    assert found.hosts["hv1"]["options"] == {"User": "args", "args": "1", "common_args": "1", "extra_args": "1"}


# -- several inventories, and parts of one --------------------------------------------------------------------------


def test_several_inventories_are_merged(write: Write) -> None:
    one = read(write("one.toml", 'hosts = ["a", "b"]\ngroups = {rack = ["a"]}'))
    two = read(write("two.toml", '[hosts.b]\n[hosts.c]\nport = 7\n[groups]\nrack = ["c"]\nother = ["b"]\n'))
    both = merged({"one": one, "two": two})
    assert both == Inventory({"a": {}, "b": {}, "c": {"port": 7}}, {"rack": ["a", "c"], "other": ["b"]}, {})
    three = read(write("three.toml", "[hosts.a]\nport = 2\n"))
    with pytest.raises(InventoryError, match="one and three have different settings for the host 'a'"):
        merged({"one": one, "three": three})


def test_groups_add_up_and_hosts_narrow_them(write: Write) -> None:
    found = read(write("hosts.toml", 'hosts = ["a1", "a2", "b1", "c1"]\ngroups = {a = ["a[1:2]"], b = ["b1"]}'))
    assert list(narrowed(found, ["a", "b"], [], "f").hosts) == ["a1", "a2", "b1"]
    assert narrowed(found, ["a", "b"], ["?1"], "f") == Inventory({"a1": {}, "b1": {}}, {"a": ["a1"], "b": ["b1"]}, {})
    assert list(narrowed(found, [], ["c1", "a2"], "f").hosts) == ["a2", "c1"]
    with pytest.raises(InventoryError, match="there is no host 'c1' in a of f: there are a1, a2"):
        narrowed(found, ["a"], ["c1"], "f")
    with pytest.raises(InventoryError, match="f: there is no group 'd'"):
        narrowed(found, ["a", "d"], [], "f")


# -- bounds -----------------------------------------------------------------------------------------------------------

DEEP = 5000
TOO_MUCH = [
    ("h.toml", "hosts = ['n[0:88888888888]']\n", r"'n\[0:88888888888\]' stands for more than 100,000 hosts"),
    ("h.ini", "n[1:999999999999][1:999999999999]\n", r"stands for more than 100,000 hosts"),
    ("h.yml", "all: {hosts: {'n[1:400]-[1:400]': }}\n", r"stands for more than 100,000 hosts"),
    ("h.ini", f"n[1:{'9' * 5000}]\n", r"contains an invalid range"),
    ("h.ini", "\n".join(f"n{i}-[1:60000]" for i in range(9)), r"has more than 100,000 hosts; split it"),
    ("h.toml", f"a = {'[' * DEEP}{']' * DEEP}\n", r"this TOML cannot be read: it is nested too deeply"),
    ("h.toml", f"[hosts.a]\nport = {'9' * 5000}\n", r"this TOML cannot be read: a number in it is too long"),
    ("h.toml", f"[hosts.a]\nport = 0x{'f' * 5000}\n", r"port must be .*, not a value of type int"),
    ("h.toml", f"[hosts.a]\nkeepalive = 1{'0' * 400}\n", r"keepalive must be a number of seconds"),
    ("h.yml", f"a: {'[' * DEEP}{']' * DEEP}\n", r"this YAML cannot be read: it is nested too deeply"),
    ("h.json", '{"a": ' * 200_000, r"this JSON cannot be read: it is nested too deeply"),
    ("h.json", '{"g": {"children": ' * 150 + "{}" + "}}" * 150, r"groups are nested more than 100 deep"),
    ("h.yml", "x0: &x0 {hosts: {a: }}\n" + "".join(
        f"x{i}: &x{i} {{children: {{" + ", ".join(f"y{i}_{k}: *x{i - 1}" for k in range(9)) + "}}\n"
        for i in range(1, 12)), r"has more than 400,000 entries"),
    ("h.toml", "[hosts.a]\nport = '" + "x" * 5000 + "'\n", r"port must be .{1,200}$"),
    ("config", "Host a\n" + "#" * (17 << 20), r"the file is larger than 16 MiB"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_too_much_is_an_error_on_one_line(write: Write, name: str, text: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message) as caught:
        read(write(name, text))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


def test_long_chains_of_groups_are_read(write: Write) -> None:
    chain = "".join(f"[g{i}:children]\ng{i + 1}\n" for i in range(3000))
    assert len(read(write("hosts", f"{chain}[g3000]\nhv1\n")).groups) == 3001
    layers = "".join(f"[g{i}:children]\n" + "".join(f"g{k}\n" for k in range(i + 1, 41)) for i in range(40))
    assert len(read(write("hosts", f"{layers}[g40]\nhv1\n")).groups) == 41


def test_a_file_that_is_included_often_is_read_once(write: Write, tmp_path: Path) -> None:
    for number in range(15):
        write(f"level{number}", f"Include {tmp_path}/level{number + 1}\n" * 4)
    write("level15", "Host deep\n")
    assert list(read(write("config", f"Host top\nInclude {tmp_path}/level2\n")).hosts) == ["top", "deep"]
