"""A soak test: real hypervisors under random faults, with every value and every outcome checked.

`make soak MINUTES=60` runs it. `__main__.py` sets up a libvirtd, an sshd and a proxy, starts the workers, injects the
faults (`faults.py`), and prints the figures (`ledger.py`). A worker (`worker.py`) is a process that uses the library as
a program would, locally or by SSH: it reads, acts, follows events, runs jobs and forks.
"""
