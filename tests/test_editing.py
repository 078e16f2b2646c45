"""Changing what is defined: every kind of object that virsh can edit. Domains are in test_domain.py."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvm
import unix
from conftest import Estate
from kvm import Hypervisor, xml
from kvm.xml import Conf
from test_domain import GUEST


def describe(conf: Conf) -> None:
    conf["description"] = "two\n  lines, é"


def test_a_network_is_edited(hypervisor: Hypervisor) -> None:
    network = hypervisor.network
    network.define({"name": "net1", "forward": {"@mode": "nat"}, "ip": {"@address": "10.0.0.1", "@prefix": 24}})
    try:
        network.edit("net1", lambda conf: conf["ip"][0].update({"@address": "10.0.0.2"}))
        assert network.conf("net1")["ip"][0]["@address"] == "10.0.0.2"
    finally:
        network.undefine("net1")


def test_a_pool_is_edited(hypervisor: Hypervisor, tmp_path: Path) -> None:
    pool = hypervisor.pool
    pool.define({"@type": "dir", "name": "pool1", "target": {"path": str(tmp_path)}})
    try:
        pool.edit("pool1", lambda conf: conf["target"].update(path=f"{tmp_path}/more"))
        assert pool.conf("pool1")["target"]["path"] == f"{tmp_path}/more"
    finally:
        pool.undefine("pool1")


def test_where_there_is_no_definition_of_interfaces_none_is_edited(test_driver: Hypervisor) -> None:
    (name,) = test_driver.interface.list(all=True)
    with pytest.raises(kvm.NotSupportedError):
        test_driver.interface.edit(name, lambda conf: pytest.fail("there is nothing to edit"))


def test_a_network_filter_is_edited(hypervisor: Hypervisor) -> None:
    nwfilter = hypervisor.nwfilter
    nwfilter.define({"@name": "filter1", "rule": {"@action": "drop", "@direction": "in", "all": True}})
    try:
        nwfilter.edit("filter1", lambda conf: conf["rule"][0].update({"@action": "accept"}))
        assert nwfilter.conf("filter1")["rule"][0]["@action"] == "accept"
    finally:
        nwfilter.undefine("filter1")


ENTRIES = [("rule", "drop"), ("filterref", "no-mac-spoofing"), ("rule", "accept"), ("filterref", "no-ip-spoofing")]


def test_an_edit_of_a_network_filter_moves_no_rule(hypervisor: Hypervisor) -> None:
    nwfilter = hypervisor.nwfilter
    rule = "<rule action='{}' direction='in' priority='500'><tcp dstportstart='22'/></rule>"
    entries = [rule.format(value) if tag == "rule" else f"<filterref filter='{value}'/>" for tag, value in ENTRIES]
    for name in ("no-mac-spoofing", "no-ip-spoofing"):
        nwfilter.define({"@name": name, "@chain": "root"})
    nwfilter.define(f"<filter name='filter2'>{''.join(entries)}</filter>")

    def printed() -> list[tuple[str, str | None]]:
        root = xml.root(printed_by(hypervisor, "nwfilter-dumpxml", "filter2"))
        return [(str(each.tag), each.get("action", each.get("filter"))) for each in root if each.tag != "uuid"]

    try:
        nwfilter.edit("filter2", lambda conf: conf["rule"][0]["tcp"].update({"@dstportstart": "23"}))
        assert nwfilter.conf("filter2")["rule"][0]["tcp"]["@dstportstart"] == "23"
        assert printed() == ENTRIES
        nwfilter.define(nwfilter.conf("filter2"))
        assert printed() == ENTRIES
        with pytest.raises(kvm.InvalidArgumentError, match="'#order' names 'rule' 2 times, but there are 3"):
            nwfilter.edit("filter2", lambda conf: conf["rule"].insert(1, conf["rule"][0]))
        assert printed() == ENTRIES

        def insert(conf: Conf) -> None:
            conf["rule"].insert(1, {"@action": "reject", "@direction": "out"})
            conf["#order"].insert(conf["#order"].index("filterref"), "rule")

        nwfilter.edit("filter2", insert)
        assert printed() == [ENTRIES[0], ("rule", "reject"), *ENTRIES[1:]]
    finally:
        for name in ("filter2", "no-mac-spoofing", "no-ip-spoofing"):
            nwfilter.undefine(name)


AS_OFTEN = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.lists(st.booleans(), min_size=2, max_size=7).filter(any), st.data())
@AS_OFTEN
def test_edit_of_a_filter_changes_only_one_rule(hypervisor: Hypervisor, rules: list[bool], data: st.DataObject) -> None:
    nwfilter = hypervisor.nwfilter
    entries = [
        f"<rule action='drop' direction='in' priority='{number}'/>" if is_rule else f"<filterref filter='f{number}'/>"
        for number, is_rule in enumerate(rules)
    ]
    nwfilter.define(f"<filter name='any'>{''.join(entries)}</filter>")
    try:
        before = printed_by(hypervisor, "nwfilter-dumpxml", "any")
        index = data.draw(st.integers(0, sum(rules) - 1))
        number = [number for number, is_rule in enumerate(rules) if is_rule][index]
        nwfilter.edit("any", lambda conf: conf["rule"][index].update({"@priority": 900}))
        after = printed_by(hypervisor, "nwfilter-dumpxml", "any")
        assert after == before.replace(f"priority='{number}'", "priority='900'")
        nwfilter.define(nwfilter.conf("any"))
        assert printed_by(hypervisor, "nwfilter-dumpxml", "any") == after
    finally:
        nwfilter.undefine("any")


PIECES = ["<a:run/>", "<a:wait b='&#10;'>1</a:wait>", "<wait> </wait>", "text"]
PIECES += ["<!-- c='\n' -->", "<?d e?>", "<![CDATA[<\t]]>"]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8))
@AS_OFTEN
def test_no_edit_changes_metadata_and_no_definition_its_order(test_driver: Hypervisor, pieces: list[str]) -> None:
    domain = test_driver.domain
    element = f"<a:steps xmlns:a='urn:a'>{''.join(pieces)}</a:steps>"
    conf = {"@type": "test", "name": "steps", "memory": 8192, "os": {"type": "hvm"}, "metadata": {"x": True}}
    domain.define(kvm.to_xml("domain", conf).replace("<x/>", element))

    def metadata() -> str:
        (found,) = re.findall("<metadata>.*</metadata>", printed_by(test_driver, "dumpxml", "steps"), re.DOTALL)
        return str(found)

    def said(text: str) -> list[str]:
        return re.findall("<a:run|<a:wait|<wait|text|&lt;", text)

    before = metadata()
    domain.edit("steps", lambda conf: conf.update(title="t"))
    assert metadata() == before
    assert domain.conf("steps")["title"] == "t"
    domain.define(domain.conf("steps"))
    assert said(metadata()) == said(before.replace("<![CDATA[<", "&lt;"))
    domain.undefine("steps")


STEPS = (
    '<a:steps xmlns:a="urn:a" b="1&#10;2">\n      <a:run>1</a:run><?a now?><a:wait/><!-- it\'s\n\there -->\n'
    "      <a:run><![CDATA[<2>='\n\t']]></a:run><a:wait> </a:wait>\n    </a:steps>"
)


def test_an_edit_leaves_the_metadata_of_others_alone(hypervisor: Hypervisor) -> None:
    paths = {"kernel": "/srv/a\tb\nc", "initrd": "/srv/d"}
    system: Any = GUEST["os"]
    conf = {**GUEST, "os": {**system, **paths}, "metadata": {"x": True}}
    document = kvm.to_xml("domain", conf).replace("<x/>", STEPS)
    env = {"@name": "A", "@value": "b\n\tc"}
    hypervisor.domain.define(document)

    def steps() -> str:
        (found,) = re.findall("<a:steps.*</a:steps>", printed_by(hypervisor, "dumpxml", "guest"), re.DOTALL)
        return str(found)

    try:
        before = steps()
        added = {"title": "t", "qemu:commandline": {"qemu:env": env}}
        hypervisor.domain.edit("guest", lambda conf: conf.update(added), skip_validate=True)
        hypervisor.domain.edit("guest", lambda conf: conf.update(vcpu=2), skip_validate=True)
        assert steps() == before
        assert hypervisor.domain.conf("guest")["title"] == "t"
        assert hypervisor.domain.conf("guest")["qemu:commandline"]["qemu:env"] == [env]
        assert {key: hypervisor.domain.conf("guest")["os"][key] for key in paths} == paths
        hypervisor.domain.define(hypervisor.domain.conf("guest"))
        assert re.findall("<a:(run|wait)", steps()) == ["run", "wait", "run", "wait"]
    finally:
        hypervisor.domain.undefine("guest")


def printed_by(hypervisor: Hypervisor, *words: str) -> str:
    result = hypervisor.virsh(*words)
    assert isinstance(result, unix.Result)
    return result.stdout


def test_an_edit_of_metadata_moves_no_element(test_driver: Hypervisor) -> None:
    domain, uri = test_driver.domain, "urn:kvm:test"
    steps = "<steps><run>1</run><?a now?><wait>x\n\t</wait><run>2</run><!-- a\n\tb --><wait/></steps>"
    domain.metadata("test", uri, key="k", set=steps)
    assert domain.metadata("test", uri)["steps"]["#order"] == ["run", "wait", "run", "wait"]
    domain.metadata("test", uri, key="k", edit=lambda told: told["steps"].update({"@done": 1}))
    expected = steps.replace("<steps>", '<steps done="1">').replace("a\n\tb", "a  b")
    printed = printed_by(test_driver, "metadata", "test", uri)
    assert re.sub(r">\s+<", "><", printed.strip()) == expected
    domain.metadata("test", uri, remove=True)


def test_a_numa_topology_keeps_its_order(hypervisor: Hypervisor) -> None:
    cells = [{"@id": n, "@cpus": n, "@memory": 4096} for n in range(2)]
    order = ["latency", "bandwidth", "latency", "bandwidth"]
    link = {"@initiator": 0, "@type": "access"}
    links = {
        "latency": [{**link, "@target": n, "@value": 5} for n in range(2)],
        "bandwidth": [{**link, "@target": n, "@value": 204800, "@unit": "KiB"} for n in range(2)],
        "#order": order,
    }
    hypervisor.domain.define({**GUEST, "vcpu": 2, "cpu": {"numa": {"cell": cells, "interconnects": links}}})
    try:
        hypervisor.domain.define(hypervisor.domain.conf("guest"))
        hypervisor.domain.edit("guest", lambda conf: conf.update(title="t"))
        assert hypervisor.domain.conf("guest")["cpu"]["numa"]["interconnects"]["#order"] == order
    finally:
        hypervisor.domain.undefine("guest")


@pytest.mark.parametrize("returned", ["a title", "/etc/passwd", Path("/a.xml"), 5, True, ["<a/>"]])
def test_edit_refuses_a_wrong_return_value(test_driver: Hypervisor, returned: Any) -> None:
    with pytest.raises(kvm.InvalidArgumentError, match="the function of an edit must change the <domain> that it gets"):
        test_driver.domain.edit("test", lambda conf: conf.setdefault("title", returned))


def test_a_snapshot_is_edited_and_cloned(test_driver: Hypervisor) -> None:
    snapshot = test_driver.snapshot
    snapshot.create_as("test", "s 1")
    snapshot.create_as("test", "s 2")
    snapshot.edit("test", "s 1", describe)
    assert snapshot.conf("test", "s 1")["description"] == "two\n  lines, é"
    snapshot.edit("test", "s 1", lambda conf: conf.update(description="now the current one"), current=True)
    assert snapshot.current("test", name=True) == "s 1"

    with pytest.raises(kvm.InvalidArgumentError, match="the name of 's 1' became 's 3'; give rename=True or clone"):
        snapshot.edit("test", "s 1", lambda conf: conf.update(name="s 3"))
    snapshot.edit("test", "s 1", lambda conf: conf.update(name="s 3"), clone=True)
    assert set(snapshot.list("test")) == {"s 1", "s 2", "s 3"}

    for how in ({"rename": True}, {"clone": True}):
        with pytest.raises(kvm.AlreadyExistsError, match="there is a snapshot 's 2' already"):
            snapshot.edit("test", "s 1", lambda conf: conf.update(name="s 2", description="lost"), **how)
    assert set(snapshot.list("test")) == {"s 1", "s 2", "s 3"}
    assert "description" not in snapshot.conf("test", "s 2")


def test_a_checkpoint_is_edited(test_driver: Hypervisor) -> None:
    checkpoint = test_driver.checkpoint
    checkpoint.create_as("test", "c1")
    checkpoint.edit("test", "c1", describe)
    assert checkpoint.conf("test", "c1")["description"] == "two\n  lines, é"
    with pytest.raises(kvm.InvalidArgumentError, match="the name of 'c1' became 'c2'"):
        checkpoint.edit("test", "c1", lambda conf: conf.update(name="c2"))


def test_what_changes_a_document_in_a_pipeline_may_fail_and_may_ask(test_driver: Hypervisor) -> None:
    domain = test_driver.domain
    domain.define({"@type": "test", "name": "guest", "memory": 8192, "os": {"type": "hvm"}})
    with test_driver.pipeline() as pipe, pytest.raises(ZeroDivisionError):
        pipe.domain.edit("guest", lambda conf: conf.update(vcpu=1 // 0))
        pipe.execute()
    with test_driver.set_controls(timeout=60), test_driver.pipeline() as pipe:
        pipe.domain.edit("guest", lambda conf: conf.update(title=" ".join(sorted(domain.list(all=True)))))
        pipe.execute()
    assert domain.conf("guest")["title"] == "guest test"


def test_output_as_bytes_does_not_keep_from_editing(test_driver: Hypervisor) -> None:
    with test_driver.set_controls(decode=None):
        test_driver.domain.edit("test", lambda conf: conf.update(title="é"))
    assert test_driver.domain.conf("test", inactive=True)["title"] == "é"


def test_no_white_space_is_lost(hypervisor: Hypervisor) -> None:
    words = "one\n\ttwo\r"
    hypervisor.domain.define({**GUEST, "qemu:commandline": {"qemu:env": {"@name": "A", "@value": words}}})
    try:
        hypervisor.domain.edit("guest", describe)
        assert hypervisor.domain.conf("guest")["qemu:commandline"]["qemu:env"] == [{"@name": "A", "@value": words}]
    finally:
        hypervisor.domain.undefine("guest")


def test_a_snapshot_is_renamed(hypervisor: Hypervisor, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    hypervisor.execute("qemu-img create -f qcow2", image, "1M")
    disk = {"@type": "file", "driver": {"@type": "qcow2"}, "source": {"@file": image}, "target": {"@dev": "vda"}}
    hypervisor.domain.define({**GUEST, "devices": {"disk": disk}})
    try:
        hypervisor.snapshot.create_as("guest", "old")
        hypervisor.snapshot.edit("guest", "old", lambda conf: conf.update(name="new"), rename=True)
        assert list(hypervisor.snapshot.list("guest")) == ["new"]
    finally:
        hypervisor.domain.undefine("guest", snapshots_metadata=True)


def test_threads_that_edit_the_same_lose_nothing(hypervisor: Hypervisor) -> None:
    hypervisor.domain.define({**GUEST, "title": "0"})

    def count(_: int) -> int:
        for _ in range(3):
            try:
                hypervisor.domain.edit("guest", lambda conf: conf.update(title=str(int(conf["title"]) + 1)))
            except kvm.ChangedMeanwhileError:
                continue
            return 1
        return 0

    try:
        with ThreadPoolExecutor(4) as threads:
            done = sum(threads.map(count, range(12)))
        assert 0 < done == int(hypervisor.domain.conf("guest")["title"])
    finally:
        hypervisor.domain.undefine("guest")


def test_a_snapshot_that_somebody_else_changed_is_left_alone(estate: Estate) -> None:
    hypervisor = estate("1", "2")
    snapshot = hypervisor.snapshot
    snapshot.create_as("2", "before")

    def slowly(conf: Conf) -> None:
        snapshot.edit("2", "before", describe)
        conf["description"] = "mine"

    with pytest.raises(kvm.ChangedMeanwhileError, match="<domainsnapshot>"):
        snapshot.edit("2", "before", slowly)
    assert snapshot.conf("2", "before")["description"] == "two\n  lines, é"


def test_a_description_and_a_title_are_edited(hypervisor: Hypervisor) -> None:
    domain = hypervisor.domain
    domain.define({**GUEST, "description": "one\n two"})
    try:
        assert domain.desc("guest", edit=lambda text: text).stdout == "description is unchanged\n"
        domain.desc("guest", edit=lambda text: f"{text}\n\tthree ")
        domain.desc("guest", title=True, config=True, edit=lambda text: f"{text}T")
        assert domain.conf("guest")["description"] == domain.desc("guest") == "one\n two\n\tthree "
        assert domain.conf("guest")["title"] == "T"

        def slowly(text: str) -> str:
            domain.desc("guest", "theirs")
            return "mine"

        with pytest.raises(kvm.ChangedMeanwhileError, match="has changed this description"):
            domain.desc("guest", edit=slowly)
        assert domain.desc("guest") == "theirs"
        domain.desc("guest", edit=lambda text: "")
        assert "description" not in domain.conf("guest")
    finally:
        domain.undefine("guest")


def test_metadata_is_edited(test_driver: Hypervisor) -> None:
    domain, uri = test_driver.domain, "urn:kvm:test"
    domain.metadata("test", uri, key="k", edit=lambda told: told.update(app={"@tier": "web"}))
    assert domain.metadata("test", uri) == {"app": {"@tier": "web"}}
    domain.metadata("test", uri, key="k", edit=lambda told: {"app": {**told["app"], "owner": "me"}})
    assert domain.conf("test")["metadata"] == {"k:app": {"@tier": "web", "@xmlns:k": uri, "k:owner": "me"}}
    domain.metadata("test", uri, key="k", edit=dict.clear)
    with pytest.raises(kvm.NotFoundError):
        domain.metadata("test", uri)
    with pytest.raises(kvm.NotFoundError):
        domain.metadata("nobody", uri, key="k", edit=lambda told: pytest.fail("there is nothing to edit"))


def test_it_is_edited_or_set_and_by_what_gives_a_text(test_driver: Hypervisor) -> None:
    with pytest.raises(kvm.InvalidArgumentError, match="edited, or set"):
        test_driver.domain.desc("test", "new", edit=str)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="--edit"):
        test_driver.domain.metadata("test", "urn:x", key="k", set="<a/>", edit=dict)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="returns one, not 5"):
        test_driver.domain.desc("test", edit=lambda text: 5)  # type: ignore[arg-type, return-value]


def test_what_is_noted_of_a_network_is_edited(test_driver: Hypervisor) -> None:
    network, uri = test_driver.network, "urn:kvm:test"
    try:
        network.desc("default", edit=lambda text: f"{text}a  b")
    except kvm.NotSupportedError as error:
        pytest.skip(str(error))
    network.desc("default", title=True, edit=lambda text: f"{text}T")
    assert (network.conf("default")["description"], network.conf("default")["title"]) == ("a  b", "T")
    network.metadata("default", uri, key="k", edit=lambda told: told.update(app={"@tier": "web"}))
    assert network.metadata("default", uri) == {"app": {"@tier": "web"}}
    network.metadata("default", uri, key="k", edit=dict.clear)
    assert network.metadata("default", uri) is None
