"""Sets its own resource limits and becomes another program: ``python -I -S launch.py '<json>' program
args…``.

Runs between the worker and bubblewrap (or ffmpeg), as a program of its own, because setting limits in a
forked copy of a threaded worker can deadlock, and `prlimit(1)` is not on every system. Standard library only;
costs 15 ms.

The JSON object has ``limits`` ({"AS": bytes, "CPU": seconds, …}: names of `resource.RLIMIT_*`), ``seccomp``
(number of an open descriptor holding a BPF program to install here, or null) and ``die_with_parent``.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_BPF_INSTRUCTION_BYTES = 8


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _prctl(*args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*args) != 0:
        raise OSError(ctypes.get_errno(), "prctl refused")


def _install_seccomp(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb") as file:
        program = file.read()
    filters = _SockFprog(len(program) // _BPF_INSTRUCTION_BYTES, program)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filters), 0, 0)


def _limit(name: str, value: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name}", None)
    if kind is None:
        return
    # ffmpeg ends by itself at the soft CPU limit; whoever ignores it is killed five seconds later.
    ceiling = value + 5 if name == "CPU" else value
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value, ceiling = min(value, hard), min(ceiling, hard)
    try:
        resource.setrlimit(kind, (value, ceiling))
    except (ValueError, OSError):
        if sys.platform == "linux":  # elsewhere the kernel knows the name of a limit that it cannot set
            raise


def main() -> None:
    """Reads the orders, obeys them, and does not return."""
    orders = json.loads(sys.argv[1])
    for name, value in orders["limits"].items():
        _limit(name, value)
    if orders["die_with_parent"] and sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != orders["die_with_parent"]:
            sys.exit(125)
    program = sys.argv[2:]
    if orders["seccomp"] is not None:
        _install_seccomp(orders["seccomp"])
    os.execve(program[0], program, {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})  # noqa: S606 - it replaces this process


if __name__ == "__main__":
    main()
