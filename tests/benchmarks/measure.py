"""Running a command as a whole process and counting what it cost, by the kernel's own accounts."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of CPU (user and system, children included), peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


_LAUNCH = """
import json, os, sys, time
told = int(sys.argv[1])
os.set_inheritable(told, False)
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - started
os.write(told, json.dumps([status, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]).encode())
"""
"""A program between us and the command: the kernel counts what the one that starts a process holds in memory at that
moment towards the peak of what it starts, and a benchmark may hold more than the command does."""


def run(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: Path, expect: Iterable[int] = (0,)
) -> Cost:
    """Run a command to its end. Raises `RuntimeError` with its last words when it ends otherwise than expected."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as told:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _LAUNCH, str(writing), *command],
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                check=False,
            )
        finally:
            os.close(writing)
        usage = told.read()
    said = done.stdout.decode(errors="replace")[-2000:]
    if not usage:
        raise RuntimeError(f"`{command[0]}` could not be started:\n{said}")
    status, wall, cpu, peak = json.loads(usage)
    code = os.waitstatus_to_exitcode(status)
    if code not in expect:
        raise RuntimeError(f"`{command[0]}` ended with {code}:\n{said}")
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB here
    return Cost(wall, cpu, peak * scale / 2**20)


def cpu_of(pid: int) -> float:
    """CPU seconds that a running process (Linux) has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def median(costs: Sequence[Cost]) -> Cost:
    """Of each figure the median."""
    return Cost(
        *(statistics.median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "memory"))
    )
