"""The host's figures are right: each is held against another source than virsh's text."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvm
import unix
from kvm import Hypervisor, InvalidArgumentError, NotSupportedError
from libvirtd import Libvirtd

MIB = 1024**2


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}


def lscpu() -> dict[str, str]:
    text = subprocess.run(["lscpu"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
    return {name.strip(): rest.strip() for name, _, rest in (line.partition(":") for line in text.splitlines())}


def cpu_list(text: str) -> list[int]:
    """The CPUs of a list as the kernel writes it."""
    parts = [part.split("-") for part in text.strip().split(",")]
    return [cpu for part in parts for cpu in range(int(part[0]), int(part[-1]) + 1)]


def numa_nodes() -> list[int]:
    return sorted(int(path.name[4:]) for path in Path("/sys/devices/system/node").glob("node[0-9]*"))


def node_memory(node: int) -> dict[str, int]:
    """One NUMA node's memory in bytes, as the kernel has it."""
    text = Path(f"/sys/devices/system/node/node{node}/meminfo").read_text()
    return {name: int(size) * 1024 for name, size in re.findall(r"(Mem\w+): +(\d+) kB", text)}


def test_nodeinfo_agrees_with_the_kernel(hypervisor: Hypervisor) -> None:
    info, cpu = hypervisor.generic.nodeinfo(), lscpu()
    assert info["cpu_model"] == os.uname().machine
    assert info["cpus"] == os.cpu_count()
    assert info["cores_per_socket"] == int(cpu["Core(s) per socket"])
    assert info["threads_per_core"] == int(cpu["Thread(s) per core"])
    assert info["cpu_sockets"] * info["numa_cells"] >= int(cpu["Socket(s)"])
    assert info["numa_cells"] == len(numa_nodes())
    assert int(info["memory_size"]) in (meminfo()["MemTotal"], sum(node_memory(n)["MemTotal"] for n in numa_nodes()))
    assert re.fullmatch(r"\d+ KiB", str(info["memory_size"]))
    if "cpu_frequency" in info:
        megahertz = [float(mhz) for mhz in re.findall(r"cpu MHz\s*: ([\d.]+)", Path("/proc/cpuinfo").read_text())]
        assert min(megahertz) * 0.5 <= info["cpu_frequency"] / 10**6 <= max(megahertz) * 2


def test_nodeinfo_of_the_test_driver_is_what_it_describes(test_driver: Hypervisor) -> None:
    assert test_driver.generic.nodeinfo() == {
        "cpu_model": "i686",
        "cpus": 16,
        "cpu_frequency": 1_400_000_000,
        "cpu_sockets": 2,
        "cores_per_socket": 2,
        "threads_per_core": 2,
        "numa_cells": 2,
        "memory_size": 3 * 1024 * MIB,
    }


def test_nodecpumap_agrees_with_the_kernel(hypervisor: Hypervisor) -> None:
    found = hypervisor.generic.nodecpumap()
    cpus = Path("/sys/devices/system/cpu")
    assert found["cpus_present"] == len(cpu_list((cpus / "present").read_text()))
    assert found["cpu_map"] == cpu_list((cpus / "online").read_text())
    assert found["cpus_online"] == len(found["cpu_map"])


def test_nodecpumap_is_the_same_in_both_forms_that_virsh_has(test_driver: Hypervisor) -> None:
    plain = test_driver.generic.nodecpumap()
    assert plain == {"cpus_present": 8, "cpus_online": 3, "cpu_map": [0, 2, 4]}
    assert test_driver.generic.nodecpumap(pretty=True) == plain


@pytest.mark.parametrize("cpu", ["*", 0, "0"])
def test_nodecpustats_agrees_with_proc_stat(hypervisor: Hypervisor, cpu: int | str) -> None:
    def jiffies() -> dict[str, int]:
        name = "cpu" if cpu == "*" else f"cpu{cpu}"
        line = next(each for each in Path("/proc/stat").read_text().splitlines() if each.split()[0] == name)
        user, nice, system, idle, iowait, irq, softirq = (int(each) for each in line.split()[1:8])
        return {"user": user + nice, "system": system + irq + softirq, "idle": idle, "iowait": iowait}

    before = jiffies()
    found = hypervisor.generic.nodecpustats(cpu)
    after = jiffies()
    nanoseconds = 10**9 // os.sysconf("SC_CLK_TCK")
    assert found.keys() >= before.keys()
    for name in ("user", "system", "idle", "iowait"):
        assert before[name] * nanoseconds <= found[name] <= after[name] * nanoseconds


def test_nodecpustats_of_all_is_the_default(test_driver: Hypervisor) -> None:
    assert test_driver.generic.nodecpustats() == test_driver.generic.nodecpustats("*")
    assert test_driver.generic.nodecpustats()["user"] == 9_797_400_000


def test_nodecpustats_in_percent_adds_up(hypervisor: Hypervisor) -> None:
    found = hypervisor.generic.nodecpustats(percent=True)
    parts = [part for name, part in found.items() if name != "usage" and isinstance(part, float)]
    assert {"user", "system", "idle", "iowait"} <= found.keys()
    assert all(0 <= part <= 100 for part in parts)
    assert sum(parts) == pytest.approx(100, abs=1)
    usage, user, system = found["usage"], found["user"], found["system"]
    assert usage is not None
    assert user is not None
    assert system is not None
    assert usage == pytest.approx(user + system, abs=0.3)


def test_a_percentage_that_virsh_has_no_figure_for_is_none(test_driver: Hypervisor) -> None:
    assert set(test_driver.generic.nodecpustats(0, percent=True).values()) == {None}


def test_nodecpustats_of_a_cpu_that_is_not_there_is_an_error(hypervisor: Hypervisor) -> None:
    with pytest.raises(InvalidArgumentError, match="Invalid cpuNum"):
        hypervisor.generic.nodecpustats(4096)
    with pytest.raises(InvalidArgumentError, match="'many' for <cpu> option is malformed"):
        hypervisor.generic.nodecpustats("many")


def test_nodememstats_agrees_with_proc_meminfo(hypervisor: Hypervisor) -> None:
    found, memory = hypervisor.generic.nodememstats(), meminfo()
    assert found["total"] == memory["MemTotal"]
    assert found["free"] == pytest.approx(memory["MemFree"], abs=256 * MIB)
    assert found["buffers"] == pytest.approx(memory["Buffers"], rel=0.5)
    assert found["cached"] == pytest.approx(memory["Cached"], abs=256 * MIB)


def test_nodememstats_of_one_cell_agrees_with_sys(hypervisor: Hypervisor) -> None:
    for node in numa_nodes():
        found, memory = hypervisor.generic.nodememstats(node), node_memory(node)
        assert found["total"] == memory["MemTotal"]
        assert found["free"] == pytest.approx(memory["MemFree"], abs=256 * MIB)


def test_nodememstats_of_a_cell_that_is_not_there_is_an_error(hypervisor: Hypervisor) -> None:
    with pytest.raises(kvm.KvmError):
        hypervisor.generic.nodememstats(4096)


def test_freecell_agrees_with_the_kernel(hypervisor: Hypervisor) -> None:
    total, cells = hypervisor.generic.freecell(), hypervisor.generic.freecell(all=True)
    free = sum(node_memory(node)["MemFree"] for node in numa_nodes())
    assert total["total"] == pytest.approx(free, abs=256 * MIB)
    assert cells.keys() == {*map(str, numa_nodes()), "total"}
    assert sum(int(size) for cell, size in cells.items() if cell != "total") == pytest.approx(cells["total"], abs=4096)
    for node in numa_nodes():
        one = hypervisor.generic.freecell(cellno=node)
        assert one.keys() == {str(node)}
        assert one[str(node)] == pytest.approx(node_memory(node)["MemFree"], abs=256 * MIB)


def test_freecell_of_a_cell_that_is_not_there_is_an_error(hypervisor: Hypervisor) -> None:
    with pytest.raises(InvalidArgumentError, match="out of range"):
        hypervisor.generic.freecell(cellno=4096)
    with pytest.raises(InvalidArgumentError, match="mutually exclusive"):
        hypervisor.generic.freecell(cellno=0, all=True)


def test_freecell_of_the_test_driver_is_in_bytes(test_driver: Hypervisor) -> None:
    assert test_driver.generic.freecell(all=True) == {"0": 2 * MIB, "1": 4 * MIB, "total": 6 * MIB}


def test_freepages_agrees_with_the_kernel(hypervisor: Hypervisor) -> None:
    found = hypervisor.generic.freepages(all=True)
    assert list(found) == numa_nodes()
    for node, pages in found.items():
        small = os.sysconf("SC_PAGE_SIZE")
        assert pages[small] * small == pytest.approx(node_memory(node)["MemFree"], abs=256 * MIB)
        for directory in Path(f"/sys/devices/system/node/node{node}/hugepages").iterdir():
            size = int(directory.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
            assert pages[size] == int((directory / "free_hugepages").read_text())
    one = hypervisor.generic.freepages(cellno=0, pagesize="2M")
    assert one == {0: {2 * MIB: found[0][2 * MIB]}}


def test_freepages_of_the_test_driver(test_driver: Hypervisor) -> None:
    def sizes(pages: dict[int, dict[int, int]]) -> dict[int, list[int]]:
        return {cell: [*counts] for cell, counts in pages.items()}

    every = [4096, 8192, 2 * MIB, 1024 * MIB]
    assert sizes(test_driver.generic.freepages(all=True)) == {0: every, 1: every}
    assert sizes(test_driver.generic.freepages(all=True, pagesize=4096)) == {0: [4096], 1: [4096]}
    assert sizes(test_driver.generic.freepages(cellno=1, pagesize="2M")) == {1: [2 * MIB]}
    with pytest.raises(InvalidArgumentError, match="missing cellno argument"):
        test_driver.generic.freepages()


KSM = {
    "shm_pages_to_scan": "pages_to_scan",
    "shm_sleep_millisecs": "sleep_millisecs",
    "shm_merge_across_nodes": "merge_across_nodes",
    "shm_pages_shared": "pages_shared",
    "shm_pages_sharing": "pages_sharing",
    "shm_pages_unshared": "pages_unshared",
    "shm_pages_volatile": "pages_volatile",
    "shm_full_scans": "full_scans",
}


def test_node_memory_tune_reads_and_sets_what_the_kernel_has(libvirtd: Libvirtd, hypervisor: Hypervisor) -> None:
    directory = libvirtd.ksm or Path("/sys/kernel/mm/ksm")

    def of_kernel() -> dict[str, int]:
        return {name: int((directory / file).read_text()) for name, file in KSM.items() if (directory / file).exists()}

    if not directory.exists():
        with pytest.raises(kvm.KvmError):
            hypervisor.generic.node_memory_tune()
        return
    before = of_kernel()
    assert hypervisor.generic.node_memory_tune() == before
    if not libvirtd.ksm:
        return  # this daemon has the machine's own
    assert hypervisor.generic.node_memory_tune(before["shm_pages_to_scan"] + 1, 30)
    assert hypervisor.generic.node_memory_tune(shm_sleep_millisecs=40)
    changed = {"shm_pages_to_scan": before["shm_pages_to_scan"] + 1, "shm_sleep_millisecs": 40}
    if "shm_merge_across_nodes" in before:
        changed["shm_merge_across_nodes"] = 1 - before["shm_merge_across_nodes"]
        hypervisor.generic.node_memory_tune(None, None, changed["shm_merge_across_nodes"])
    assert of_kernel() == {**before, **changed} == hypervisor.generic.node_memory_tune()


def test_node_memory_tune_refuses_what_cannot_be(libvirtd: Libvirtd, hypervisor: Hypervisor) -> None:
    for value in (-1, 2**32):
        with pytest.raises(InvalidArgumentError, match="malformed or out of range"):
            hypervisor.generic.node_memory_tune(value)
    with pytest.raises(TypeError, match="at most 3 values"):
        hypervisor.generic.node_memory_tune(1, 2, 3, 4)


def test_cpu_models_are_those_of_libvirt_s_cpu_map(hypervisor: Hypervisor) -> None:
    models = hypervisor.generic.cpu_models("x86_64")
    files = Path("/usr/share/libvirt/cpu_map").glob("x86_*.xml")
    described = {name for file in files for name in re.findall(r"^\s*<model name='([^']+)'", file.read_text(), re.M)}
    assert set(models) == described
    with pytest.raises(InvalidArgumentError, match="cannot find architecture abacus"):
        hypervisor.generic.cpu_models("abacus")


def test_capabilities_are_a_dict_of_the_xml(hypervisor: Hypervisor) -> None:
    found = hypervisor.generic.capabilities()
    assert found["host"]["uuid"]
    assert found["host"]["cpu"]["arch"] == os.uname().machine
    assert found["host"]["topology"]["cells"]["@num"] == str(len(numa_nodes()))
    emulators = {guest["arch"]["emulator"] for guest in found["guest"]}
    assert all(Path(emulator).exists() for emulator in emulators)


def test_domcapabilities_takes_its_values_in_virsh_s_order(hypervisor: Hypervisor) -> None:
    found = hypervisor.generic.domcapabilities("qemu", "/usr/bin/qemu-system-x86_64", "x86_64", "q35")
    assert (found["domain"], found["path"], found["arch"]) == ("qemu", "/usr/bin/qemu-system-x86_64", "x86_64")
    assert found["machine"].startswith("pc-q35-")
    named = hypervisor.generic.domcapabilities("qemu", machine="q35", arch="x86_64")
    assert named["machine"] == found["machine"]
    with pytest.raises(TypeError, match="virttype twice"):
        hypervisor.generic.domcapabilities("qemu", virttype="kvm")
    with pytest.raises(TypeError, match="at most 4"):
        hypervisor.generic.domcapabilities("a", "b", "c", "d", "e")
    with pytest.raises(kvm.KvmError, match="abacus"):
        hypervisor.generic.domcapabilities(None, None, "abacus")


def test_maxvcpus_is_what_the_capabilities_say(hypervisor: Hypervisor, test_driver: Hypervisor) -> None:
    most = hypervisor.generic.domcapabilities("qemu")["vcpu"]["@max"]
    assert hypervisor.generic.maxvcpus(type="qemu") == int(most)
    assert test_driver.generic.maxvcpus() == 32


def test_hostname_uri_and_version(libvirtd: Libvirtd, hypervisor: Hypervisor) -> None:
    assert hypervisor.generic.hostname() in (socket.gethostname(), socket.getfqdn())
    assert hypervisor.generic.uri() == libvirtd.uri
    libvirtd_program = shutil.which("libvirtd", path=os.environ["PATH"] + ":/usr/sbin")
    assert libvirtd_program
    told = subprocess.run([libvirtd_program, "--version"], capture_output=True, text=True, check=True).stdout
    release = told.split()[-1]
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    version = hypervisor.generic.version(daemon=True)
    virsh = subprocess.run(["virsh", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    assert version["using_library"] == f"libvirt {virsh}"
    assert version["compiled_against_library"] == f"libvirt {virsh}"
    assert version["using_api"] == f"QEMU {virsh}"
    assert version["running_against_daemon"] == release
    number = re.search(r"version ([\d.]+)", qemu)
    assert number
    assert version["running_hypervisor"] == f"QEMU {number[1]}"
    assert "running_against_daemon" not in hypervisor.generic.version()


def test_sysinfo_has_sections_as_dicts_and_repeated_ones_as_lists(
    libvirtd: Libvirtd, hypervisor: Hypervisor, test_driver: Hypervisor
) -> None:
    assert test_driver.generic.sysinfo() == {
        "type": "smbios",
        "bios": {"vendor": "LENOVO", "version": "G4ETA1WW (2.61 )", "date": "05/07/2014", "release": "2.61"},
    }
    if not libvirtd.has_firmware:
        with pytest.raises(NotSupportedError, match="SMBIOS"):
            hypervisor.generic.sysinfo()
        return
    found = hypervisor.generic.sysinfo()
    assert found["type"] == "smbios"
    assert found["system"]["serial"] == "0 <&> 1"
    assert found["baseBoard"] == [
        {"manufacturer": "Intel Corporation", "product": "S2600WT", "version": "H21573-372", "serial": "BQWL44500000"}
    ]
    assert [each["socket_destination"] for each in found["processor"]] == ["CPU 0", "CPU 1"]
    assert [each["locator"] for each in found["memory_device"]] == ["DIMM 0", "DIMM 1"]
    assert found["oemStrings"] == ["Hello", "World"]


SIMPLE = {"arch": "x86_64", "model": "qemu64"}


def test_cpu_compare_answers_also_that_a_cpu_is_incompatible(hypervisor: Hypervisor) -> None:
    host = hypervisor.generic.capabilities()["host"]["cpu"]
    assert hypervisor.generic.cpu_compare(host) in ("identical", "superset")
    features = [{"@policy": "require", "@name": name} for name in ("3dnow", "amx-tile", "avx512er", "tbm")]
    impossible = {"@match": "exact", "model": "kvm64", "feature": features}
    assert hypervisor.generic.cpu_compare(impossible) == "incompatible"
    with pytest.raises(kvm.KvmError, match="incompatible with host CPU"):
        hypervisor.generic.cpu_compare(impossible, error=True)


def test_cpu_compare_takes_dicts_xml_elements_and_paths(hypervisor: Hypervisor, tmp_path: Path) -> None:
    from lxml import etree

    cpu = hypervisor.generic.capabilities()["host"]["cpu"]
    text = kvm.to_xml("cpu", cpu)
    path = tmp_path / "is identical to host CPU"
    path.write_text(text)
    forms: list[Any] = [cpu, text, text.encode(), etree.fromstring(text), path, str(path)]
    assert len({hypervisor.generic.cpu_compare(form) for form in forms}) == 1


def test_cpu_baseline_takes_one_cpu_or_several(hypervisor: Hypervisor) -> None:
    one = hypervisor.generic.cpu_baseline(SIMPLE)
    assert one["model"]["#text"] == "qemu64"
    both = hypervisor.generic.cpu_baseline(
        [{**SIMPLE, "model": "Haswell"}, "<cpu><arch>x86_64</arch><model>Penryn</model></cpu>"]
    )
    assert both["model"]["#text"] == "Penryn"
    listed = hypervisor.generic.cpu_baseline({**SIMPLE, "model": "Penryn"}, features=True)
    assert "sse4.1" in {feature["@name"] for feature in listed["feature"]}
    with pytest.raises(InvalidArgumentError, match="does not contain any <cpu>"):
        hypervisor.generic.cpu_baseline("<domain/>")


def test_hypervisor_cpu_commands_answer_for_qemu(hypervisor: Hypervisor) -> None:
    which: dict[str, str] = {"virttype": "qemu", "arch": "x86_64"}
    impossible = {"@match": "exact", "model": "kvm64", "feature": {"@policy": "require", "@name": "hle"}}
    assert hypervisor.generic.hypervisor_cpu_compare(impossible, **which) == "incompatible"  # type: ignore[arg-type]
    host_model = hypervisor.generic.domcapabilities("qemu")["cpu"]["mode"][2]
    assert host_model["@name"] == "host-model"
    cpu = {"@mode": "custom", "@match": "exact", "model": {"@fallback": "forbid", "#text": "qemu64"}}
    assert hypervisor.generic.hypervisor_cpu_compare(cpu, **which) in ("identical", "superset")  # type: ignore[arg-type]
    baseline = hypervisor.generic.hypervisor_cpu_baseline(file=cpu, virttype="qemu", arch="x86_64")
    assert baseline["@mode"] == "custom"
    try:
        same = hypervisor.generic.hypervisor_cpu_baseline(model="qemu64", virttype="qemu", arch="x86_64")
    except NotSupportedError as error:
        assert "too old for the option --model" in str(error)
    else:
        assert same["model"] == baseline["model"]


def test_hypervisor_cpu_models_are_those_of_the_domain_capabilities(hypervisor: Hypervisor) -> None:
    modes = hypervisor.generic.domcapabilities("qemu", arch="x86_64")["cpu"]["mode"]
    models = next(mode["model"] for mode in modes if mode["@name"] == "custom")
    try:
        usable = hypervisor.generic.hypervisor_cpu_models(virttype="qemu", arch="x86_64")
    except NotSupportedError as error:
        assert "this virsh is too old for the command 'hypervisor-cpu-models'; virsh 11.3.0 has it" in str(error)
        return
    assert set(usable) == {model["#text"] for model in models if model["@usable"] == "yes"}
    every = hypervisor.generic.hypervisor_cpu_models(virttype="qemu", arch="x86_64", all=True)
    assert set(every) == {model["#text"] for model in models}


def test_an_xpath_gives_a_list_of_what_it_finds(test_driver: Hypervisor) -> None:
    guests = test_driver.generic.capabilities()["guest"]
    assert test_driver.generic.capabilities(xpath="//host/cpu/arch") == [{"arch": "i686"}]
    assert test_driver.generic.capabilities(xpath="//os_type/text()") == [guest["os_type"] for guest in guests]
    names = test_driver.generic.capabilities(xpath="//guest/arch/@name", wrap=True)
    assert names == [guest["arch"]["@name"] for guest in guests]


def test_nodesuspend_is_refused_before_anything_happens(test_driver: Hypervisor) -> None:
    with pytest.raises(InvalidArgumentError, match="at least 60 seconds, not 59"):
        test_driver.generic.nodesuspend("mem", 59)
    with pytest.raises(InvalidArgumentError, match="'mem', 'disk' or 'hybrid', not 'ram'"):
        test_driver.generic.nodesuspend("ram", 60)  # type: ignore[arg-type]


def test_allocpages_sets_the_pool_of_huge_pages(hypervisor: Hypervisor) -> None:
    pool = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
    there = int(pool.read_text())
    assert hypervisor.generic.allocpages(2 * MIB, there, cellno=0)
    assert int(pool.read_text()) == there
    with pytest.raises(kvm.KvmError):
        hypervisor.generic.allocpages(3 * 1024, 1)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("nodememstats", ()),
        ("node_memory_tune", ()),
        ("node_memory_tune", (100,)),
        ("nodesuspend", ("mem", 60)),
        ("allocpages", (2 * MIB, 1)),
        ("cpu_compare", (SIMPLE,)),
        ("hypervisor_cpu_compare", (SIMPLE,)),
    ],
)
def test_what_the_driver_cannot_do_is_not_supported_in_virsh_s_words(
    test_driver: Hypervisor, method: str, args: tuple[object, ...]
) -> None:
    with pytest.raises(NotSupportedError, match="not supported by the connection driver") as raised:
        getattr(test_driver.generic, method)(*args)
    assert raised.value.command[0] == method.replace("_", "-")
    assert raised.value.return_code == 1
    assert "error: this function is not supported" in raised.value.stderr


def test_nodesevinfo_tells_or_is_not_supported(hypervisor: Hypervisor) -> None:
    try:
        found = hypervisor.generic.nodesevinfo()
    except NotSupportedError as error:
        assert "SEV" in str(error) or "too old for the command 'nodesevinfo'" in str(error)
    else:
        assert found["cbitpos"] > 0


def test_hypervisor_is_another_name_of_generic(test_driver: Hypervisor) -> None:
    assert test_driver.hypervisor is test_driver.generic


def test_importing_kvm_loads_neither_processes_nor_network_nor_asyncio() -> None:
    command = [sys.executable, "-c", "import kvm, sys; print(*sys.modules)"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert not {"subprocess", "socket", "asyncio", "ssl", "http", "urllib", "kvm.groups.options_generated"} & loaded


def test_a_method_works_on_any_host_that_is_a_unix_host() -> None:
    class Mine(unix.Local):
        """A host of somebody's own."""

    assert Hypervisor(Mine(), "test:///default").generic.uri() == "test:///default"
