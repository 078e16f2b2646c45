"""Texts that virsh writes into XML without escaping them: they arrive as they are, or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unix
from kvm import Hypervisor, InvalidArgumentError, KvmError, NotFoundError
from kvm.virsh.built_xml import built, form_of
from kvm.virsh.command import Command
from libvirtd import Libvirtd
from test_domain import GUEST
from unix.result import Result

ODD = "a&b <c> 'd' \"e\""
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.sampled_from("ab&<>'\" \t\n;,=#/é日") | st.characters(categories=["L", "N", "P", "S"]), min_size=1)
paths = texts.filter(lambda text: "\t" not in text and "\n" not in text)


@pytest.fixture(scope="module")
def driver() -> Iterator[Hypervisor]:
    with Hypervisor(unix.Local(), "test:///default") as hypervisor:
        yield hypervisor


@pytest.fixture
def here(libvirtd: Libvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(unix.Local(timeout=60), libvirtd.uri) as hypervisor:
        yield hypervisor


def test_a_pool_and_its_volumes_have_any_name(test_driver: Hypervisor) -> None:
    test_driver.pool.define_as(ODD, "dir", target="/a&b/<c>")
    conf = test_driver.pool.conf(ODD)
    assert (conf["name"], conf["target"]["path"]) == (ODD, "/a&b/<c>")
    test_driver.pool.create_as("<p>", "logical", source_name="v&g", target="/x", source_dev="/dev/'q'")
    assert test_driver.pool.conf("<p>")["source"]["name"] == ["v&g"]
    volume = test_driver.volume
    volume.create_as("default-pool", ODD, "1 MiB", allocation=0)
    volume.clone(ODD, "&lt; & copy", pool="default-pool")
    volume.clone("/default-pool/&lt; & copy", "<of>&amp;it")
    assert {ODD, "&lt; & copy", "<of>&amp;it"} <= volume.list("default-pool").keys()
    assert volume.clone(ODD, "c&d", pool="default-pool", print_xml=True)["name"] == "c&d"
    with pytest.raises(NotFoundError):
        volume.clone("none", "c&d", pool="default-pool")


def test_a_name_injects_no_xml(test_driver: Hypervisor) -> None:
    test_driver.pool.define_as("in<!-- ner", "dir", target="/t</path></target><target><path>/u")
    assert test_driver.pool.conf("in<!-- ner")["target"]["path"] == "/t</path></target><target><path>/u"
    conf = test_driver.volume.create_as("default-pool", "v", 4096, format="raw'/><x y='", print_xml=True)
    assert conf["target"]["format"] == {"@type": "raw'/><x y='"}


@few
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("source_host", "source_name", "target"), texts)), texts)
def test_any_text_of_a_pool_arrives(driver: Hypervisor, options: dict[str, str], name: str) -> None:
    conf = driver.pool.define_as(name, "netfs", print_xml=True, **options)
    printed = {"name": conf["name"], "target": conf.get("target", {}).get("path")}
    for host in conf.get("source", {}).get("host", []):
        printed["source_host"] = host["@name"]
    for group in conf.get("source", {}).get("name", []):
        printed["source_name"] = group
    assert printed == {"target": None, **options, "name": name}


@few
@given(paths, texts, paths)
def test_any_text_of_a_disk_arrives(driver: Hypervisor, source: str, serial: str, alias: str) -> None:
    printed = driver.domain.attach_disk("test", source, "vdb", serial=serial, alias=alias, print_xml=True)
    disk = printed["disk"]
    assert disk["source"] == {"@file": source}
    assert (disk["serial"], disk["alias"]) == (serial, {"@name": alias})


def test_text_that_xml_cannot_hold_is_refused(test_driver: Hypervisor) -> None:
    kept = "whose control characters libvirt would replace or leave out"
    with pytest.raises(InvalidArgumentError, match=f"virsh pool-define-as: name cannot hold 'a.*b', {kept}"):
        test_driver.pool.define_as("a\x01b", "dir", target="/x")
    for source in ("/x/a\tb", "/x/a\nb", "/x/a\x02b"):
        with pytest.raises(InvalidArgumentError, match=f"source cannot hold .*, {kept}"):
            test_driver.domain.attach_disk("test", source, "vdb", config=True)
    with pytest.raises(InvalidArgumentError, match="description cannot hold"):
        test_driver.snapshot.create_as("test", "s", "one\rtwo")
    with pytest.raises(InvalidArgumentError, match="newname cannot hold"):
        test_driver.volume.clone("v", "one\x1btwo", pool="default-pool")
    with pytest.raises(InvalidArgumentError, match=r"diskspec cannot hold 'vda,file=/a\\tb', whose"):
        test_driver.snapshot.create_as("test", diskspec="vda,file=/a\tb")
    with pytest.raises(InvalidArgumentError, match="diskspec cannot hold"):
        test_driver.checkpoint.create_as("test", diskspec=["vda", "vdb,bitmap=a'b"])
    with pytest.raises(InvalidArgumentError, match="source cannot hold"):
        test_driver.domain.change_media("test", "sda", source="/x/a\tb", config=True)
    with pytest.raises(InvalidArgumentError, match=r"dest cannot hold '/a\\nb'"):
        test_driver.domain.blockcopy("test", "vda", dest="/a\nb")


def test_an_error_of_virsh_names_the_texts(test_driver: Hypervisor) -> None:
    with pytest.raises(KvmError, match="No support for b&d in command 'attach-interface'") as raised:
        test_driver.domain.attach_interface("test", "b&d", "n<y>")
    assert "--source=n<y>" in raised.value.command
    lenient = Hypervisor(unix.Local(), "test:///default", check=False)
    with lenient:
        result = lenient.domain.attach_interface("test", "b&d", "n<y>")
        assert (result.status, "No support for b&d" in result.stderr) == (False, True)


@pytest.mark.parametrize("escapes", [False, True])
def test_no_release_of_virsh_escapes_a_text_twice(escapes: bool) -> None:
    command = Command("attach-interface", {"domain": "g", "type": "bridge", "source": "text0z", "alias": ODD})
    form = form_of(command)
    assert form is not None
    plan = built(command, form)
    (asked,) = next(plan)
    alias = str(asked.options["alias"])
    assert alias not in ("text0z", ODD)
    alias = alias.replace("&", "&amp;") if escapes else alias
    printed = f"<interface type='bridge'><source bridge='text0z'/><alias name='{alias}'/></interface>"
    with pytest.raises(StopIteration) as ended:
        plan.send((Result(0, printed, ""),))
    assert 'bridge="text0z"' in ended.value.value
    assert "a&amp;b &lt;c&gt; 'd' &quot;e&quot;" in ended.value.value


def test_devices_of_a_real_guest_have_any_text(here: Hypervisor, tmp_path: Path) -> None:
    domain = here.domain
    domain.define(GUEST)
    try:
        image = tmp_path / "a b & <c>"
        domain.attach_disk("guest", str(image), "vdb", alias="ua-disk", config=True)
        with pytest.raises(KvmError, match="serial 'se&rial' contains unsafe characters"):
            domain.attach_disk("guest", str(image), "vdc", serial="se&rial", config=True)
        domain.attach_interface("guest", "network", "n<y>", mac="52:54:00:00:00:11", alias="ua-x", config=True)
        conf = domain.conf("guest")["devices"]
        assert [disk["source"] for disk in conf["disk"]] == [{"@file": str(image)}]
        assert [card["source"] for card in conf["interface"]] == [{"@network": "n<y>"}]
        with pytest.raises(InvalidArgumentError, match="mac"):
            domain.attach_interface("guest", "bridge", "br0", mac="<52:54>", config=True)
    finally:
        domain.undefine("guest")


def test_a_volume_is_made_over_one_with_any_path(here: Hypervisor, tmp_path: Path) -> None:
    directory = tmp_path / "p & <q>"
    directory.mkdir()
    here.pool.create_as("odd", "dir", target=str(directory))
    try:
        volume = here.volume
        volume.create_as("odd", "base", "2 MiB", format="qcow2")
        volume.create_as("odd", "top", "2 MiB", format="qcow2", backing_vol="base", backing_vol_format="qcow2")
        below = volume.conf("top", pool="odd")["backingStore"]
        assert (below["path"], below["format"]) == (str(directory / "base"), {"@type": "qcow2"})
        would = volume.create_as("odd", "up", "2 MiB", backing_vol=str(directory / "base"), print_xml=True)
        assert would["backingStore"] == {"path": str(directory / "base")}
        with pytest.raises(NotFoundError, match="none"):
            volume.create_as("odd", "up", "2 MiB", backing_vol="none")
        with pytest.raises(NotFoundError, match="none"):
            volume.create_as("odd", "u&p", "2 MiB", backing_vol="none", print_xml=True)
    finally:
        here.pool.destroy("odd")
