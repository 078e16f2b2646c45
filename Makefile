# Everything starts here: `make demo` shows it, `make test` checks it. Each sets up what is missing and says so.

URI ?= test:///default
MINUTES ?= 60
SUITE ?= bookworm
ifneq ($(origin AS),command line)  # make's own value is the name of an assembler
AS = root
endif
export VIRSH T

.PHONY: help demo test soak corpus fresh bench format clean

help:
	@echo "make demo              the main job, on libvirt's in-process test hypervisor"
	@echo "make demo URI=...      the same on a real one, such as qemu:///system"
	@echo "make test              lint, type check and tests, with a libvirtd of their own"
	@echo "make test T='-k name'  the same with other arguments for pytest"
	@echo "make test VIRSH='...'  the same with another virsh, such as 'chroot DIR virsh'"
	@echo "make soak MINUTES=60   random faults for as long as that, with every value and outcome checked"
	@echo "make corpus            libvirt's own XML documents, some 3,500, there and back, and virt-manager's test host"
	@echo "make fresh             make demo and make test in an empty root of Debian 12, with nothing of this machine"
	@echo "make fresh SUITE=trixie AS=user  the same with another release, and as a user who may install nothing"
	@echo "make bench             speed and memory beside libvirt-python and others"
	@echo "make format            bring the code into its form"
	@echo "make clean             remove what the others have made"

demo:
	@tools/prepare demo
	@.venv/bin/python examples/tour.py '$(URI)'

test:
	@tools/prepare test
	@tools/check $(T)

soak:
	@tools/prepare test
	@tools/soak --minutes $(MINUTES)

corpus:
	@tools/prepare test
	@tools/fetch_corpus
	@CORPUS=1 tools/check tests/test_corpus.py tests/test_complete.py

fresh:
	@tools/fresh '$(SUITE)' '$(AS)'

bench:
	@tools/prepare bench
	@.venv/bin/python benchmarks/bench.py
	@.venv/bin/python benchmarks/fleet.py

format:
	@tools/prepare test
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

clean:
	rm -rf .cache .venv .venv-kvm1 .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
