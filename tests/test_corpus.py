"""libvirt's own test data, there and back: what it says is what it said. `make corpus` fetches it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

import kvm
import unix
from kvm import InvalidArgumentError, KvmError, from_xml, to_xml
from sameness import normal, parse, unordered

CORPUS = Path(__file__).parents[1] / ".cache" / "corpus"

pytestmark = pytest.mark.skipif("CORPUS" not in os.environ, reason="`make corpus` does this: it takes minutes")


def documents() -> Iterator[tuple[str, bytes]]:
    """The documents that are XML, by their path."""
    for path in sorted(CORPUS.rglob("*.xml")):
        content = path.read_bytes()
        try:
            parse(content)
        except etree.XMLSyntaxError:
            with pytest.raises(InvalidArgumentError):
                from_xml(content)
        else:
            yield str(path.relative_to(CORPUS)), content


@pytest.mark.timeout(300)
def test_every_document_comes_back_the_same() -> None:
    found, lost = list(documents()), []
    for path, content in found:
        for document in (content, content.decode()):
            ((tag, conf),) = from_xml(document).items()
            said = normal if tag == "filter" else unordered
            if said(parse(to_xml(tag, conf))) != said(parse(content)):
                lost.append(path)
    assert lost == []
    assert len(found) > 3000


@pytest.mark.timeout(300)
def test_every_domain_means_the_same_to_libvirt() -> None:
    changed, number = [], 0
    with kvm.Hypervisor(unix.Local(), "test:///default") as hypervisor:
        for path, content in documents():
            if parse(content).tag != "domain":
                continue
            before = meaning(hypervisor, content.decode())
            if before is not None:
                number += 1
                if meaning(hypervisor, to_xml("domain", from_xml(content))) != before:
                    changed.append(path)
    assert changed == []
    assert number > 500


def meaning(hypervisor: kvm.Hypervisor, document: str) -> str | None:
    """What libvirt makes of a domain, without what it makes up; None if it does not take it."""
    name = parse(document).findtext("name")
    try:
        hypervisor.domain.define(document)
    except KvmError:
        return None
    assert name
    said = hypervisor.virsh("dumpxml", f"--domain={name}")
    hypervisor.domain.undefine(name)
    assert isinstance(said, unix.Result)
    return re.sub("<(uuid|genid|id)>.*</|<mac address=.*/>|(instance|interface)id='.*?'", "", said.stdout)
