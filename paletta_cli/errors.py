"""The few ways a command can end badly, each with its exit code.

A command raises one of these and nothing else; `paletta_cli.main` is the one place that prints them
(`error: …`, then `hint: …`, on stderr) and turns them into the exit code.
"""

import errno
from collections.abc import Mapping
from typing import Any


class PalettaError(Exception):
    """A command cannot go on.

    `message`: lower case, no full stop, paths in backticks. `hint`: what to do about it.
    """

    exit_code = 1
    unbegun = False
    """Of a request to the service: nothing came of it, for certain."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(PalettaError):
    """The command line asks for something impossible."""

    exit_code = 2


class ManifestInvalid(PalettaError):
    """The manifest (or another file that the user wrote) has errors; they were already listed."""

    exit_code = 3


class NotAuthorised(PalettaError):
    """No token, or one that does not allow this: also of an account whose role does not."""

    exit_code = 4


class GaveUp(PalettaError):
    """The network or the service stayed out of reach through all retries: the same command may work later."""

    exit_code = 5


class SomeFailed(PalettaError):
    """Part of a batch failed; the rest is done."""

    exit_code = 6


class AccountRefused(PalettaError):
    """The service refuses this account whatever is tried (suspended, closed, over quota)."""

    exit_code = 7


class NotLiveYet(PalettaError):
    """Everything went well so far, but not everything is there: clips that are not live yet, or files that are on their
    way back from the archive."""

    exit_code = 8


class Interrupted(BaseException):
    """Ctrl-C. Not an Exception, so that no `except Exception` swallows it. `hint`: how to go on."""

    exit_code = 130

    def __init__(self, hint: str | None = None) -> None:
        super().__init__("interrupted")
        self.hint = hint


PAUSED = "service_paused"
"""The code of what an operator switched off for now: to ask again within the minute is in vain."""

OVERLOADED = "overloaded"
"""The code of what the service refused before it began with it: any request may be sent again."""
BUSY = "ingest_busy"
"""The code of new uploads that wait until others are done, which takes minutes rather than seconds."""


class ApiProblem(PalettaError):
    """The service answered with problem+json (RFC 9457).

    `status` is the HTTP status, `code` the service's stable word for what happened, `body` the whole
    document, so that callers can read members such as `did_you_mean`.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.body = dict(body)
        self.code = str(body.get("code") or f"http_{status}")
        self.request_id = body.get("request_id")
        detail = body.get("detail") or body.get("title") or f"the service answered {status}"
        # What an operator switched off is no fault that anybody has to look for.
        if status >= 500 and self.request_id and self.code != PAUSED:
            detail = f"{detail} (request {self.request_id})"
        hint = body.get("hint")
        super().__init__(
            str(detail), hint=str(hint) if hint else None, exit_code=_exit_code(status, self.code)
        )
        if status == 401 and self.hint is None:
            self.hint = "run `paletta login`"


def cannot(verb: str, path: object, error: OSError) -> PalettaError:
    """What the file system refused, for a person: `cannot write `a.yaml`: no space left on device`."""
    reason = (error.strerror or str(error)).lower()
    return PalettaError(f"cannot {verb} `{path}`: {reason}", hint=_REMEDIES.get(error.errno or 0))


_ROOM = "make room there, or choose another disk"
_RIGHTS = "check whose it is, or choose a place that is yours"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EISDIR: "move it out of the way",
}

# 403 codes of an account that may do nothing at all, or no more of it. One whose role is another is not authorised.
_ACCOUNT_CODES = frozenset({"account_suspended", "account_disabled", "account_closed", "quota_exceeded"})


def _exit_code(status: int, code: str) -> int:
    if code in _ACCOUNT_CODES or status == 402:
        return AccountRefused.exit_code
    if status in (401, 403):
        return NotAuthorised.exit_code
    if code == "invalid_request":
        return UsageError.exit_code
    if status == 429 or status >= 500:
        return GaveUp.exit_code
    return PalettaError.exit_code
