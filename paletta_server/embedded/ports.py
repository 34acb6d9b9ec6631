"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from pathlib import Path

_LOWEST = 15000


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _highest() -> int:
    """Stay below the range from which the kernel takes the ports of outgoing connections."""
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        low = 32768
    return low if low > _LOWEST + 1000 else 49152


def free_ports(count: int, *, prefer: Iterable[int] = ()) -> list[int]:
    """Return `count` distinct free ports; `prefer`'s own are kept, in order, where they are still free."""
    rng = random.SystemRandom()
    preferred = list(prefer)[:count]
    wanted: list[int | None] = [*preferred, *[None] * (count - len(preferred))]
    taken: set[int] = set()
    chosen: list[int] = []
    for wish in wanted:
        port = wish if wish is not None else rng.randrange(_LOWEST, _highest())
        while port in taken or not is_free(port):
            port = rng.randrange(_LOWEST, _highest())
        taken.add(port)
        chosen.append(port)
    return chosen
