"""Forked children: what another thread of the parent holds at that moment must not stop them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import unix
from kvm import Hypervisor, InvalidArgumentError, to_xml

CHILD_TIMEOUT_S = 60


@contextmanager
def busy(work: Callable[[], object]) -> Iterator[None]:
    """Have another thread repeat `work` for the duration of a block."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def forked(work: Callable[[], object]) -> int:
    """Do `work` in a forked child; return the child's exit status, or the negative signal that ended it."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_TIMEOUT_S)
        try:
            work()
        except BaseException:  # noqa: BLE001
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_fork_while_a_thread_opens_groups_does_not_hang() -> None:
    def open_group() -> object:
        return Hypervisor(unix.Local(), "test:///default").domain

    open_group()  # a fork during an import hangs in Python itself
    with busy(open_group):
        assert [forked(open_group) for _ in range(100)] == [0] * 100


def test_fork_while_a_thread_edits_lets_the_child_edit() -> None:
    editing, forked_already = threading.Event(), threading.Event()

    def change(conf: dict[str, object]) -> None:
        conf["title"] = "of the parent"
        editing.set()
        forked_already.wait(CHILD_TIMEOUT_S)

    def change_in_child(conf: dict[str, object]) -> None:
        conf["title"] = "of the child"

    with Hypervisor(unix.Local(), "test:///default") as hypervisor:
        thread = threading.Thread(target=hypervisor.domain.edit, args=("test", change))
        thread.start()
        assert editing.wait(CHILD_TIMEOUT_S)
        status = forked(lambda: hypervisor.domain.edit("test", change_in_child))
        forked_already.set()
        thread.join()
        assert status == 0
        assert hypervisor.domain.conf("test", inactive=True)["title"] == "of the parent"


def test_fork_while_a_thread_validates_does_not_hang() -> None:
    def validate() -> None:
        with pytest.raises(InvalidArgumentError):
            to_xml("network", {"nam": "x"}, validate=True)

    validate()
    with busy(validate):
        assert [forked(validate) for _ in range(5)] == [0] * 5
