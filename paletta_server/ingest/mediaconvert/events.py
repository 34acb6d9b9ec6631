"""MediaConvert's events as EventBridge sends them: what each says of a job, believed only by type."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from paletta_server.aws.queues import Unhandleable
from paletta_server.core.words import plain

SOURCE, KIND = "aws.mediaconvert", "MediaConvert Job State Change"
MOVING = {"PROGRESSING", "STATUS_UPDATE", "INPUT_INFORMATION", "NEW_WARNING", "QUEUE_HOP"}
"""What is only said of a job that is not over."""
KNOWN = MOVING | {"SUBMITTED", "COMPLETE", "CANCELED", "ERROR"}
LONGEST_MESSAGE = 2000
_NUMBER = re.compile("[0-9]{1,9}")


class Malformed(Unhandleable):
    """A message that is no event of MediaConvert's: it goes where the queue sends what nobody can handle."""


@dataclass(frozen=True, slots=True)
class News:
    """Word of a job, by an event or an answer. `status` is theirs; `share` is from 0 to 1 where it is told.

    `run` and `submission` are what we gave it along; None for a job that is not ours.
    """

    job_id: str
    status: str
    run: str | None
    submission: int
    share: float | None = None
    error_code: int | None = None
    error_message: str | None = None
    account: str | None = None
    """Whose job it is, where an event says so; what we asked for ourselves needs not."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the same each time that it is delivered."""

    id: str
    news: News
    payload: dict[str, Any]


def parse(body: str) -> Event:
    """Read a message of the queue. Raises `Malformed`."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("no JSON") from error
    if not isinstance(found, dict):
        raise Malformed("no event")
    try:
        payload = _storable(found)
    except RecursionError as error:
        raise Malformed("no event") from error
    detail = found.get("detail")
    if found.get("source") != SOURCE or found.get("detail-type") != KIND or not isinstance(detail, dict):
        raise Malformed("no event of MediaConvert's")
    event_id, job_id, status = (
        _word(value) for value in (found.get("id"), detail.get("jobId"), detail.get("status"))
    )
    if event_id is None or job_id is None or status is None:
        raise Malformed("an event without id, job or status")
    news = replace(_news(job_id, status, detail), account=_word(found.get("account")) or "nobody's")
    return Event(event_id, news, payload)


def _news(job_id: str, status: str, detail: dict[str, Any]) -> News:
    run, submission = labels(detail.get("userMetadata"))
    return News(
        job_id,
        status,
        run,
        submission,
        share=_share(detail.get("jobProgress")),
        error_code=_code(detail.get("errorCode")),
        error_message=_message(detail.get("errorMessage")),
    )


def answered(job: dict[str, Any]) -> News:
    """The same from a `Job` that the API answered with. Its output details lack the files' paths; ours are known."""
    run, submission = labels(job.get("UserMetadata"))
    return News(
        plain(str(job.get("Id", ""))),
        plain(str(job.get("Status", ""))),
        run,
        submission,
        share=_percent(job.get("JobPercentComplete")),
        error_code=_code(job.get("ErrorCode")),
        error_message=_message(job.get("ErrorMessage")),
    )


def _storable(value: Any) -> Any:
    """The same for a whole document; a number that is none (`1e999`) becomes null."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(key): _storable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _message(value: object) -> str | None:
    return plain(value)[:LONGEST_MESSAGE] or None if isinstance(value, str) else None


def _code(value: object) -> int | None:
    """Their codes have four digits; what the column cannot hold is none."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def labels(metadata: object) -> tuple[str | None, int]:
    """The run and the number of the submission that a job carries."""
    if not isinstance(metadata, dict):
        return None, 0
    run, submission = metadata.get("run"), metadata.get("submission")
    return _word(run), int(submission) if isinstance(submission, str) and _NUMBER.fullmatch(submission) else 0


def _share(progress: object) -> float | None:
    """An estimate, and often absent. The phase of transcoding stands in where the sum is not told."""
    if not isinstance(progress, dict):
        return None
    whole = _percent(progress.get("jobPercentComplete"))
    if whole is not None:
        return whole
    phases = progress.get("phaseProgress")
    transcoding = phases.get("TRANSCODING") if isinstance(phases, dict) else None
    return _percent(transcoding.get("percentComplete")) if isinstance(transcoding, dict) else None


def _percent(value: object) -> float | None:
    """As a share. The last percent is for our own checks."""
    return min(99, max(0, value)) / 100 if isinstance(value, int | float) else None


def _word(value: object) -> str | None:
    """A name that things are found by; one that cannot be stored is none of ours."""
    return value if isinstance(value, str) and 0 < len(value) <= 300 and plain(value) == value else None
