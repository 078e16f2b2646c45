"""The proxy that the tests use as a network."""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from proxy import Proxy
from waiting import wait_until


def answer(listening: socket.socket) -> None:
    """Send back to each client, one after the other, all that it sends."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:  # the listening socket is closed
            return
        with client:
            while data := client.recv(1024):
                client.sendall(data)


@pytest.fixture
def echo() -> Iterator[Callable[[int], int]]:
    """Start a server that sends back what it gets, at a port (0: any); the port is returned."""
    with ExitStack() as servers:

        def start(port: int) -> int:
            listening = socket.create_server(("127.0.0.1", port))
            servers.callback(listening.close)
            servers.callback(listening.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=answer, args=[listening], daemon=True).start()
            number: int = listening.getsockname()[1]
            return number

        yield start


@pytest.fixture
def proxied() -> Iterator[Callable[[int], Proxy]]:
    with ExitStack() as proxies:

        def start(target: int) -> Proxy:
            proxy = Proxy(target)
            proxies.callback(proxy.close)
            return proxy

        yield start


def echoed(port: int) -> bytes:
    """What comes back of a word that is sent to a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"word")
        return client.recv(4)


def test_proxy_whose_target_refuses_resets_and_goes_on(
    echo: Callable[[int], int], proxied: Callable[[int], Proxy]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    proxy = proxied(port)
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            echoed(proxy.port)
    echo(port)
    assert echoed(proxy.port) == b"word"
    assert proxy.accepted == 4


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Have all descriptors up to 1023 in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < 2048:
        pytest.skip(f"a process may have {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] <= 1023:
            opened.append(os.dup(opened[0]))
        yield
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_proxy_with_descriptors_above_1023_serves(
    many_descriptors: None, echo: Callable[[int], int], proxied: Callable[[int], Proxy]
) -> None:
    assert echoed(proxied(echo(0)).port) == b"word"


def test_proxy_closes_connections_that_have_ended(echo: Callable[[int], int], proxied: Callable[[int], Proxy]) -> None:
    proxy = proxied(echo(0))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert echoed(proxy.port) == b"word"
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == before)
