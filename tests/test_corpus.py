"""XML documents of every kind and odd shape, there and back: what comes back says what was there.

The project's own are in ``data/documents``. `make corpus` fetches libvirt's, some 3,500, which take minutes.
"""

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

ROOT = Path(__file__).parents[1]
OWN = ROOT / "tests" / "data" / "documents"
CORPUS = ROOT / ".cache" / "corpus"

AT_LEAST = {OWN: (30, 5), CORPUS: (3000, 500)}
"""How many documents there have to be, and how many domains that libvirt's test driver takes."""

places = pytest.mark.parametrize(
    "place", [OWN, *([CORPUS] if "CORPUS" in os.environ else [])], ids=lambda place: place.name
)


def documents(place: Path) -> Iterator[tuple[str, bytes]]:
    """The documents that are XML, by their path. Others are refused."""
    for path in sorted(place.rglob("*.xml")):
        content = path.read_bytes()
        try:
            parse(content)
        except etree.XMLSyntaxError:
            with pytest.raises(InvalidArgumentError):
                from_xml(content)
        else:
            yield str(path.relative_to(place)), content


def forms(content: bytes) -> Iterator[bytes | str]:
    """A document as bytes, and as text if it is UTF-8."""
    yield content
    try:
        yield content.decode()
    except UnicodeDecodeError:
        return


@places
@pytest.mark.timeout(1800)  # of libvirt's
def test_every_document_comes_back_the_same(place: Path) -> None:
    found, lost = list(documents(place)), []
    for path, content in found:
        for document in forms(content):
            ((tag, conf),) = from_xml(document).items()
            said = normal if tag == "filter" else unordered
            if said(parse(to_xml(tag, conf))) != said(parse(content)):
                lost.append(path)
    assert lost == []
    assert len(found) >= AT_LEAST[place][0]


@places
@pytest.mark.timeout(1800)
def test_every_domain_means_the_same_to_libvirt(place: Path) -> None:
    changed, number = [], 0
    with kvm.Hypervisor(unix.Local(), "test:///default") as hypervisor:
        for path, content in documents(place):
            if parse(content).tag != "domain":
                continue
            before = meaning(hypervisor, content.decode())
            if before is not None:
                number += 1
                if meaning(hypervisor, to_xml("domain", from_xml(content))) != before:
                    changed.append(path)
    assert changed == []
    assert number >= AT_LEAST[place][1]


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
