"""Errors judged by behaviour: is it worth another try, and whom does it concern?

The upload loop asks only this; it needs no list of exceptions or of the store's codes.
"""

import http.client
import ssl
from enum import Enum, auto

from paletta_cli.transfer.wire import Answer

TRIES = 12
"""Tries of one part: with full jitter up to 30 s about two minutes on average, a router's restart."""

DIGEST_TRIES = 4
"""Tries of a part whose bytes arrive damaged: a network may do that once or twice, then it is something else."""


class Verdict(Enum):
    """What to do after one PUT."""

    STORED = auto()
    """The bytes are in the store."""
    AGAIN = auto()
    """Nothing wrong with the request: wait, then try again."""
    SLOWER = auto()
    """As AGAIN, and everybody should slow down."""
    DAMAGED = auto()
    """The bytes that arrived were not those that were signed for: try again a few times."""
    SIGN = auto()
    """The URL is no longer good: ask for a new one, outside the budget of tries."""
    GONE = auto()
    """The store does not know this upload; the service knows why (completed, cancelled, expired)."""
    CHANGED = auto()
    """The file is not the one that was registered any more."""
    FILE = auto()
    """Hopeless for this file; others may work."""
    ALL = auto()
    """Hopeless for everything: stop the run."""


_DAMAGED = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
)
_TRANSIENT_400 = frozenset({"RequestTimeout", "IncompleteBody", "RequestTimeTooSkewed"})


def judge(answer: Answer, *, one_put: bool) -> Verdict:
    """The verdict on the store's answer. `one_put`: the request carried `If-None-Match: *`."""
    status = answer.status
    if 200 <= status < 300:
        return Verdict.STORED
    if status == 412 and one_put:
        return Verdict.STORED  # somebody, perhaps we before a lost reply, has put these bytes there
    if status == 503 or status == 429 or answer.code == "SlowDown":
        return Verdict.SLOWER
    if answer.code in _DAMAGED:
        return Verdict.DAMAGED
    if status >= 500 or status in (408, 409, 425) or answer.code in _TRANSIENT_400:
        return Verdict.AGAIN
    if status == 404 or answer.code == "NoSuchUpload":
        return Verdict.GONE
    if status in (401, 403):
        return Verdict.SIGN
    if 300 <= status < 400:
        return Verdict.ALL  # a store that moved: following would send signed bytes elsewhere
    return Verdict.FILE


def judge_error(error: Exception) -> Verdict:
    """The verdict on an exception between us and the store."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Verdict.ALL
    if isinstance(error, (OSError, http.client.HTTPException)):
        return Verdict.AGAIN
    raise error
