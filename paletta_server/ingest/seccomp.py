"""The system calls that a media program never needs, as a BPF program for bubblewrap or for `launch.py`.

Everything is allowed but what is named here: decoders, x264 and Python use too many calls, on too many C
libraries, for a list of permitted ones to stay true. What is named are the ways out of a jail (sockets, new
name spaces, mounts, tracing, kernel interfaces with a record of holes) and the ways to trick whoever reads
the outputs (links, device nodes).
"""

from __future__ import annotations

import errno
import os
from functools import cache

_DENIED = (
    *(
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "accept",
        "accept4",
        "sendto",
        "sendmsg",
        "sendmmsg",
    ),
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "perf_event_open"),
    *(
        "mount",
        "umount",
        "umount2",
        "pivot_root",
        "chroot",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "move_mount",
    ),
    *("open_tree", "mount_setattr", "swapon", "swapoff", "unshare", "setns", "bpf", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key"),
    *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("fork", "vfork", "setpriority", "sethostname", "setdomainname", "open_by_handle_at", "personality"),
)
_CLONE_THREAD = 0x00010000


@cache
def program() -> bytes | None:
    """The filter for this machine's architecture, or None where libseccomp cannot be loaded."""
    try:
        import pyseccomp
    except Exception:  # the wheel is pure Python and raises whatever ctypes raised when libseccomp is missing
        return None
    filters = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    refuse = pyseccomp.ERRNO(errno.EPERM)
    for name in _DENIED:
        try:
            filters.add_rule(refuse, name)
        except (OSError, ValueError):
            continue  # not a call of this architecture, or unknown to this libseccomp
    # Threads yes, processes no. The flags of clone3 lie in memory, out of a filter's sight: "no such call"
    # makes the C library use clone instead.
    filters.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0))
    filters.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    descriptor = os.memfd_create("paletta-seccomp")
    with os.fdopen(descriptor, "w+b") as file:
        filters.export_bpf(file)
        file.seek(0)
        return file.read()
