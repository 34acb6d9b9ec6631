"""The switches of the fault drills.

PALETTA_TEST_KILL_AT=<state>:<n> makes the process SIGKILL itself the n-th time it reaches `state`
(fingerprint, register, sign, part, complete, poll; of a download: range, block, verify, publish). Without the
setting, `reach` is an empty function.

PALETTA_TEST_HASTE=<factor> divides the waits between tries of a part, the time that the store has for an answer, and
the time that parts have after Ctrl-C, so that a drill meets the end of the patience within seconds (or, below 1, does
not meet it on a slow machine). Without it, `hurried` changes nothing.

PALETTA_TEST_RANGE=<bytes> makes downloads ask for so much at once, so that small files have many ranges.
"""

import os
import threading
from collections.abc import Callable

STATES = ("fingerprint", "register", "sign", "part", "complete", "poll")
DOWNLOAD_STATES = ("range", "block", "verify", "publish")


def _armed(setting: str) -> Callable[[str], None]:
    import signal

    state, _, count = setting.partition(":")
    if state not in STATES + DOWNLOAD_STATES or not count.isdigit():
        raise SystemExit(
            f"PALETTA_TEST_KILL_AT: `{setting}` is not <state>:<n> with one of {', '.join(STATES + DOWNLOAD_STATES)}"
        )
    left = int(count)
    lock = threading.Lock()

    def reach(reached: str) -> None:
        nonlocal left
        if reached != state:
            return
        with lock:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


def _nothing(_state: str) -> None:
    pass


_setting = os.environ.get("PALETTA_TEST_KILL_AT")
reach: Callable[[str], None] = _armed(_setting) if _setting else _nothing
"""Say that the process has reached a state (several threads may)."""

_haste = float(os.environ.get("PALETTA_TEST_HASTE") or 1.0)


def hurried(seconds: float) -> float:
    """A wait or a time limit, shortened when a drill is in a hurry."""
    return seconds / _haste


def range_bytes(usual: int) -> int:
    """Bytes of a range of a download."""
    return int(os.environ.get("PALETTA_TEST_RANGE") or usual)
