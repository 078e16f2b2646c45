# Everything starts here: `make demo` shows it, `make test` checks it. Each sets up what is missing and says so.

URI ?= test:///default
export VIRSH

.PHONY: help demo test corpus bench format clean

help:
	@echo "make demo              the main job, on libvirt's in-process test hypervisor"
	@echo "make demo URI=...      the same on a real one, such as qemu:///system"
	@echo "make test              lint, type check and tests, with a libvirtd of their own"
	@echo "make test T='-k name'  the same with other arguments for pytest"
	@echo "make test VIRSH='...'  the same with another virsh, such as 'chroot DIR virsh'"
	@echo "make corpus            libvirt's own XML documents, some 3,500, there and back, and virt-manager's test host"
	@echo "make bench             speed and memory beside libvirt-python and others"
	@echo "make format            bring the code into its form"
	@echo "make clean             remove what the others have made"

demo:
	@tools/prepare demo
	@.venv/bin/python examples/tour.py '$(URI)'

test:
	@tools/prepare test
	@tools/check $(T)

corpus:
	@tools/prepare test
	@tools/fetch_corpus
	@CORPUS=1 tools/check tests/test_corpus.py tests/test_complete.py

bench:
	@tools/prepare bench
	@.venv/bin/python benchmarks/bench.py
	@.venv/bin/python benchmarks/fleet.py

format:
	@tools/prepare test
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

clean:
	rm -rf .cache .venv .venv-kvm1 .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
