"""Ports at which nobody answers, and nobody else can."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def closed_ports(count: int) -> Iterator[list[int]]:
    """So many ports of this machine that are taken, by sockets which do not listen: connections are refused."""
    with ExitStack() as held:
        found = []
        for _ in range(count):
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            found.append(taken.getsockname()[1])
        yield found
