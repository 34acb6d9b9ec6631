"""Start one program so that it cannot outlive its parent: a script of the standard library alone.

The supervisor runs `python -I -S launch.py OPTIONS -- PROGRAM ARG…`; this file changes what has to be changed
between fork and exec (user, parent-death signal) and then becomes PROGRAM, keeping the process id. Doing this
in a program of its own rather than in `preexec_fn` is safe in a process with threads.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

# linux/prctl.h, linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _prctl(option: int, *values: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return int(libc.prctl(ctypes.c_int(option), *padded)) == 0


def _keep_one_capability(capability: int) -> bool:
    """Reduce this process to one capability that survives exec (an "ambient" one)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    words = (_CapData * 2)()
    bit = 1 << capability
    words[0] = _CapData(bit, bit, bit)
    if libc.capset(ctypes.byref(header), ctypes.byref(words)) != 0:
        return False
    return _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def become(uid: int, gid: int, *, search: bool) -> None:
    """Give up root for `uid`; with `search`, keep the right to walk through directories closed to that user.

    PostgreSQL refuses to run as root. Its programs and data may lie under a directory such as `/root` that
    its user cannot enter; opening that directory to everyone would be worse than this one capability.
    """
    if search:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if search and not _keep_one_capability(_CAP_DAC_READ_SEARCH):
        # Containers commonly drop READ_SEARCH and keep OVERRIDE.
        _keep_one_capability(_CAP_DAC_OVERRIDE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, default=0)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if options.uid is not None:
        become(options.uid, options.gid, search=options.search)
    if options.death_signal and sys.platform == "linux":
        # After the change of user: the kernel forgets the signal when credentials change.
        _prctl(_PR_SET_PDEATHSIG, options.death_signal)
        if os.getppid() != options.parent:  # the parent died before the line above
            os.kill(os.getpid(), signal.SIGKILL)
    os.execv(program[0], program)  # noqa: S606 (becoming PROGRAM is what this file is for)


if __name__ == "__main__":
    main()
