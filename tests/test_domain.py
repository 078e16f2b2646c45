"""Domains, from definition to end, on a real QEMU; and names that are made to be misread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

import kvm
import unix
from conftest import Estate
from kvm import AlreadyExistsError, Hypervisor, InvalidArgumentError, InvalidStateError, NotFoundError
from kvm.groups.domain.monitor import STATES, _listed
from libvirtd import Libvirtd

GUEST = {
    "@type": "qemu",
    "name": "guest",
    "memory": {"@unit": "MiB", "#text": 32},
    "vcpu": 1,
    "os": {"type": {"@arch": "x86_64", "@machine": "pc", "#text": "hvm"}},
    "features": {"acpi": True},
}


@pytest.mark.skipif(
    os.geteuid() != 0 or bool(os.environ.get("VIRSH")), reason="only root may run commands as other users"
)
def test_a_definition_reaches_a_virsh_of_another_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with Hypervisor(unix.Local(su="nobody", envs={"TMPDIR": str(tmp_path)}), "test:///default") as hypervisor:
        assert "defined" in hypervisor.domain.define({**GUEST, "@type": "test"}).stdout
        assert "guest" in hypervisor.list_domains(all=True)
    assert unix.Local(su="nobody").run(["cat", "/dev/stdin"], input="x").stdout == "x"


@pytest.fixture
def hypervisor(hypervisor: Hypervisor) -> Iterator[Hypervisor]:
    """The real hypervisor, left without domains."""
    yield hypervisor
    for name, domain in hypervisor.list_domains(all=True, uuid=True).items():
        if domain["id"] is not None:
            hypervisor.domain.destroy(name)
        if name in hypervisor.list_domains(all=True):
            hypervisor.domain.undefine(name)


def test_the_life_of_a_domain(hypervisor: Hypervisor, libvirtd: Libvirtd) -> None:
    domain = hypervisor.domain
    assert domain.define(GUEST).status
    uuid = domain.uuid("guest")
    assert hypervisor.list_domains(all=True) == {"guest": {"id": None, "state": "shut off"}}
    assert hypervisor.list_domains() == {}
    assert domain.id("guest") is None
    assert domain.state("guest") == "shut off"

    assert domain.start("guest", paused=True).status
    assert len(libvirtd.qemu("guest")) == 1
    number = domain.id("guest")
    assert isinstance(number, int)
    assert domain.name(number) == domain.name(uuid) == "guest"
    assert domain.state("guest", reason=True) == {"state": "paused", "reason": "user"}
    domain.resume("guest")
    assert domain.state(number) == "running"
    assert domain.list() == {"guest": {"id": number, "state": "running"}}
    domain.suspend("guest")
    assert domain.list(state_paused=True) == {"guest": {"id": number, "state": "paused"}}
    domain.resume(uuid)
    domain.reboot("guest")
    domain.shutdown("guest", mode="acpi")

    info = domain.info("guest")
    assert info["cpu_time"] > 0
    assert {name: info[name] for name in ("id", "name", "uuid", "os_type", "cpus", "persistent", "autostart")} == {
        "id": number,
        "name": "guest",
        "uuid": uuid,
        "os_type": "hvm",
        "cpus": 1,
        "persistent": True,
        "autostart": False,
    }
    assert (info["max_memory"], str(info["max_memory"])) == (32 * 1024**2, "32768 KiB")
    assert info["used_memory"] == 32 * 1024**2

    assert list(domain.stats()) == ["guest"]
    stats = domain.stats("guest", balloon=True, vcpu=True, state=True)["guest"]
    assert stats["balloon"]["current"] == 32 * 1024**2
    assert (len(stats["vcpu"]), stats["vcpu_maximum"], stats["state"]["state"]) == (1, 1, 1)
    assert domain.stats(number, state=True).keys() == {"guest"}

    domain.autostart("guest")
    assert domain.info("guest")["autostart"] is True
    assert domain.list(autostart=True) == domain.list()
    domain.autostart("guest", disable=True)
    assert domain.info("guest")["autostart"] is False

    domain.destroy("guest")
    assert libvirtd.qemu("guest") == []
    assert domain.state("guest", reason=True) == {"state": "shut off", "reason": "destroyed"}
    assert domain.info("guest")["id"] is None
    domain.undefine("guest")
    assert hypervisor.list_domains(all=True) == {}


def test_a_created_domain_is_gone_with_its_end(hypervisor: Hypervisor) -> None:
    hypervisor.domain.create(GUEST)
    assert hypervisor.domain.info("guest")["persistent"] is False
    assert list(hypervisor.domain.list(transient=True)) == ["guest"]
    hypervisor.domain.destroy("guest", graceful=True)
    assert hypervisor.list_domains(all=True) == {}


def test_a_configuration_comes_back_and_can_be_changed(hypervisor: Hypervisor) -> None:
    hypervisor.domain.define(GUEST)
    conf = hypervisor.domain.conf("guest")
    assert conf["memory"] == {"@unit": "KiB", "#text": "32768"}
    assert conf["features"] == {"acpi": True}
    conf["memory"] = conf["currentMemory"] = kvm.Quantity("64 MiB")
    conf["title"] = "a <title> & more, é"
    hypervisor.domain.define(conf)
    assert hypervisor.domain.info("guest")["max_memory"] == 64 * 1024**2
    assert hypervisor.domain.conf("guest", inactive=True)["title"] == "a <title> & more, é"
    assert hypervisor.domain.list(all=True, title=True)["guest"]["title"] == "a <title> & more, é"


def test_a_configuration_is_edited_in_place_or_replaced(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    domain.define(GUEST)
    assert domain.edit("guest", lambda conf: conf.update(title="one")).status
    assert domain.conf("guest")["title"] == "one"
    domain.edit("guest", lambda conf: {**conf, "title": "two"})
    assert domain.conf("guest")["title"] == "two"
    domain.edit("guest", lambda conf: kvm.to_xml("domain", {**conf, "title": "three"}))
    assert domain.conf("guest")["title"] == "three"
    assert domain.edit("guest", lambda conf: None).stdout == "<domain> is unchanged\n"
    with hypervisor.pipeline() as pipe:
        pipe.domain.edit("guest", lambda conf: conf.update(title="four"))
        pipe.domain.conf("guest", xpath="string(title)")
        assert pipe.execute()[1] == ["four"]


def test_a_running_domain_is_edited_for_its_next_start(hypervisor: Hypervisor) -> None:
    hypervisor.domain.create(GUEST)
    hypervisor.domain.define(GUEST | {"uuid": hypervisor.domain.uuid("guest")})
    hypervisor.domain.edit(hypervisor.domain.id("guest") or 0, lambda conf: conf.update(vcpu=3))
    assert hypervisor.domain.conf("guest")["vcpu"] == {"@placement": "static", "#text": "1"}
    assert hypervisor.domain.conf("guest", inactive=True)["vcpu"] == {"@placement": "static", "#text": "3"}


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    domain.define(GUEST)

    def slowly(conf: kvm.xml.Conf) -> None:
        domain.edit("guest", lambda other: other.update(title="theirs"))
        conf["title"] = "mine"

    with pytest.raises(kvm.ChangedMeanwhileError, match=r"guest: another program has changed this <domain>"):
        domain.edit("guest", slowly)
    assert domain.conf("guest")["title"] == "theirs"


def test_a_wrong_edit_changes_nothing_and_says_why(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    domain.define(GUEST)
    before = domain.conf("guest")
    with pytest.raises(InvalidArgumentError, match="does not know 'colour' in <domain>"):
        domain.edit("guest", lambda conf: conf.update(colour="red"))
    with pytest.raises(InvalidArgumentError, match="validate against schema"):
        domain.edit("guest", lambda conf: conf.update(vcpu="many"))
    with pytest.raises(InvalidArgumentError, match="it returned '/etc/passwd'"):
        domain.edit("guest", lambda conf: "/etc/passwd")
    with pytest.raises(ZeroDivisionError):
        domain.edit("guest", lambda conf: conf.update(vcpu=1 // 0))
    with pytest.raises(NotFoundError):
        domain.edit("nobody", lambda conf: pytest.fail("there is nothing to edit"))
    assert domain.conf("guest") == before
    assert domain.edit("guest", lambda conf: conf.update(colour="red"), skip_validate=True).status


def test_a_definition_may_be_a_dict_xml_an_element_or_a_path(hypervisor: Hypervisor, tmp_path: Path) -> None:
    text = kvm.to_xml("domain", {**GUEST, "uuid": kvm.gen_uuid()})
    path = tmp_path / "-a guest.xml"
    path.write_text(text)
    for form in (text, text.encode(), etree.fromstring(text), path, str(path), kvm.from_xml(text)):
        hypervisor.domain.define(form)
        assert list(hypervisor.list_domains(all=True)) == ["guest"]
        hypervisor.domain.undefine("guest")


def test_a_generated_uuid_and_mac_are_taken_by_libvirt(hypervisor: Hypervisor) -> None:
    uuid, mac = kvm.gen_uuid(), kvm.gen_mac()
    interface = {"@type": "user", "mac": {"@address": mac}, "model": {"@type": "virtio"}}
    hypervisor.domain.define({**GUEST, "uuid": uuid, "devices": {"interface": interface}})
    assert hypervisor.domain.uuid("guest") == uuid
    assert hypervisor.domain.conf("guest")["devices"]["interface"][0]["mac"] == {"@address": mac}


def test_wrong_actions_raise_what_a_caller_can_tell_apart(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    with pytest.raises(NotFoundError, match="failed to get domain 'guest'"):
        domain.start("guest")
    domain.define(GUEST)
    with pytest.raises(InvalidStateError, match="domain is not running"):
        domain.destroy("guest")
    domain.start("guest", paused=True)
    with pytest.raises(InvalidStateError, match="already active"):
        domain.start("guest")
    with pytest.raises(AlreadyExistsError, match="already exists with uuid"):
        domain.define({**GUEST, "uuid": kvm.gen_uuid()})
    with pytest.raises(InvalidArgumentError, match="XML error"):
        domain.define({"@type": "qemu", "name": "other"})
    with pytest.raises(kvm.KvmError) as raised:
        domain.define({**GUEST, "name": "other", "devices": {"disk": {"@device": "abacus"}}})
    assert raised.value.command == ["define", "--file=/dev/stdin"]
    assert list(hypervisor.list_domains(all=True)) == ["guest"]


def test_malformed_xml_is_refused_before_virsh_runs(hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix.Local, "_start", lambda *_, **__: pytest.fail("something was run"))
    with pytest.raises(InvalidArgumentError, match=r"not well-formed: .*line 1"):
        hypervisor.domain.define("<domain><name>a</name>")
    with pytest.raises(InvalidArgumentError, match="document type"):
        hypervisor.domain.define("<!DOCTYPE domain [<!ENTITY a 'b'>]><domain>&a;</domain>")
    with pytest.raises(InvalidArgumentError, match="cannot write <a b> as XML"):
        hypervisor.domain.define({"a b": "c"})
    with pytest.raises(InvalidArgumentError, match="a dict, XML as text, an lxml element or a path, not 5"):
        hypervisor.domain.define(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="NUL byte"):
        hypervisor.domain.start("a\0b")


def test_an_option_that_a_command_does_not_have_is_a_type_error(test_driver: Hypervisor) -> None:
    with pytest.raises(TypeError, match="virsh start has no option 'pausd'; did you mean 'paused'"):
        test_driver.domain.start("test", pausd=True)  # type: ignore[call-arg]


def test_without_check_a_failed_action_returns_its_result(libvirtd: Libvirtd) -> None:
    hypervisor = Hypervisor(unix.Local(), libvirtd.uri, check=False)
    status, _, stderr = hypervisor.domain.start("nobody")
    assert (status, stderr) == (False, "error: failed to get domain 'nobody'\n")
    assert hypervisor.domain.start(7).status is hypervisor.domain.start("7").status is False
    with pytest.raises(NotFoundError):
        hypervisor.domain.info("nobody")


# -- names

HOSTILE = [
    "two  words",
    "   leading",
    "trailing   ",
    "-",
    "--all",
    "--help",
    "-c",
    "1",
    "007",
    "+1",
    "a\tb",
    "\\x41",
    "\\",
    "x   shut off",
    "test   running",
    " -    test   running",
    "Id   Name   State",
    "漢字",
    "😀👩‍👩‍👧",
    "e\u0301",
    "\u200b",
    "'quotes\" `$(id)`",
    ";list",
    "#",
    "a=b",
    "é" * 127,
    "\x85\u2028\xa0",
    "\r",
    "Name: x",
    "()",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_listed_and_asked_for_exactly(estate: Estate, name: str) -> None:
    hypervisor = estate("before", name, "zz after")
    assert set(hypervisor.list_domains(all=True)) == {"before", name, "zz after"}
    listed = hypervisor.list_domains(all=True, uuid=True)[name]
    info = hypervisor.domain.info(name)
    assert info["name"] == name
    assert info["uuid"] == listed["uuid"] == hypervisor.domain.uuid(name)
    assert info["id"] == listed["id"] == hypervisor.domain.id(name)
    assert hypervisor.domain.conf(name)["name"] == name
    assert hypervisor.domain.name(listed["uuid"]) == name
    assert hypervisor.domain.state(name) == listed["state"] == "running"


def test_names_that_differ_in_blanks_only_are_told_apart(estate: Estate) -> None:
    names = ["a", "a ", " a", "a  ", "a   running", "a   running "]
    hypervisor = estate(*names)
    listed = hypervisor.list_domains(all=True, uuid=True)
    assert set(listed) == set(names)
    assert {name: hypervisor.domain.uuid(name) for name in names} == {name: d["uuid"] for name, d in listed.items()}


def test_a_title_is_told_from_the_columns_beside_it(estate: Estate) -> None:
    hypervisor = estate("x   shut off", title="paused   1   é")
    assert hypervisor.list_domains(title=True) == {
        "x   shut off": {"id": 1, "state": "running", "title": "paused   1   é"}
    }


def test_a_title_that_this_virsh_cannot_print_is_still_right(estate: Estate) -> None:
    hypervisor = estate("a", "b", title="unassigned \U0001fbff, control \x85")
    titles = {domain["title"] for domain in hypervisor.list_domains(title=True).values()}
    assert titles == {"unassigned \U0001fbff, control \x85"}


def test_a_title_of_a_domain_that_is_named_like_an_id_is_its_own(estate: Estate) -> None:
    hypervisor = estate("2", "1", title="%s \U0001fbff")
    assert {name: domain["title"] for name, domain in hypervisor.list_domains(title=True).items()} == {
        "2": "2 \U0001fbff",
        "1": "1 \U0001fbff",
    }


def test_a_security_label_is_told_from_whether_it_is_enforced() -> None:
    with Hypervisor(unix.Local(), "test:///default") as hypervisor:
        info = hypervisor.domain.info("test")
        assert (info["security_label"], info["security_enforcing"]) == ("libvirt-test", True)


def test_a_name_that_is_a_number_is_never_taken_for_an_id(estate: Estate) -> None:
    hypervisor = estate("2", "1")
    ids = {name: domain["id"] for name, domain in hypervisor.list_domains().items()}
    assert ids == {"2": 1, "1": 2}
    assert hypervisor.domain.info("1")["name"] == hypervisor.domain.name("1") == "1"
    assert hypervisor.domain.info(1)["name"] == hypervisor.domain.name(1) == "2"
    assert hypervisor.domain.destroy("1")
    with pytest.raises(NotFoundError, match=r"no domain named '3' \(an id is given as an int\)"):
        hypervisor.domain.destroy("3")


def test_an_id_is_never_taken_for_a_name(estate: Estate) -> None:
    hypervisor = estate("7", "-1")
    for number in (7, -1):
        with pytest.raises(NotFoundError, match=f"no domain with the id {number}"):
            hypervisor.domain.destroy(number)
    assert hypervisor.domain.uuid(1) == hypervisor.domain.uuid("7")
    for wrong in (True, None, b"7", 1.0):
        with pytest.raises(TypeError, match="a domain is a name or UUID"):
            hypervisor.domain.info(wrong)  # type: ignore[arg-type]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\n"), min_size=1, max_size=40).filter(
    lambda name: (
        all(ch in "\t\r" or ord(ch) >= 32 for ch in name) and not {"\ufffe", "\uffff"} & set(name) and name.strip()
    )
)


@given(names)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_that_libvirt_takes_comes_back(estate: Estate, name: str) -> None:
    hypervisor = estate(name)
    assert list(hypervisor.list_domains(all=True)) == [name]
    assert hypervisor.domain.info(name)["name"] == name


def test_every_state_that_a_domain_can_have_is_listed() -> None:
    for state in STATES:
        table = f" Id   Name   State\n-----\n 1    a b    {state}\n\n"
        assert _listed(table, {"a b": kvm.gen_uuid()}) == {"a b": {"id": 1, "state": state}}


def test_a_domain_that_comes_or_goes_between_table_and_names_is_no_other() -> None:
    table = " Id   Name   State\n--------\n 1    gone   running\n 2    b      paused\n -    c      shut off\n"
    assert _listed(table, {name: kvm.gen_uuid() for name in ("b", "c", "new")}) == {
        "gone": {"id": 1, "state": "running"},
        "b": {"id": 2, "state": "paused"},
        "c": {"id": None, "state": "shut off"},
    }


def test_list_that_is_not_answered_asks_nothing_more(libvirtd: Libvirtd, caplog: pytest.LogCaptureFixture) -> None:
    with Hypervisor(unix.Local(timeout=1), libvirtd.uri) as limited, libvirtd.stopped():
        caplog.set_level("DEBUG", logger="kvm")
        with pytest.raises(kvm.CommandTimeoutError, match=r"within 1 s$"):
            limited.domain.list(all=True)
    asked = [message for message in caplog.messages if message.startswith("virsh ")]
    assert [message.split()[1] for message in asked] == ["list", "domstats"]
