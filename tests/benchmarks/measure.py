"""Running a command as a whole process and counting what it cost, by the kernel's own accounts."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of CPU (user and system, children included), peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


def run(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: Path, expect: Iterable[int] = (0,)
) -> Cost:
    """Run a command to its end. Raises `RuntimeError` with its last words when it ends otherwise than expected."""
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    words: list[bytes] = []
    reader = threading.Thread(target=lambda: words.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode not in expect:
        said = b"".join(words).decode(errors="replace")[-2000:]
        raise RuntimeError(f"`{command[0]}` ended with {process.returncode}:\n{said}")
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB here
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 2**20)


def cpu_of(pid: int) -> float:
    """CPU seconds that a running process (Linux) has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def median(costs: Sequence[Cost]) -> Cost:
    """Of each figure the median."""
    return Cost(
        *(statistics.median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "memory"))
    )
