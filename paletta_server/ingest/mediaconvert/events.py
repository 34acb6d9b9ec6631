"""MediaConvert's events as EventBridge sends them: what each says of a job, believed only by type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

SOURCE, KIND = "aws.mediaconvert", "MediaConvert Job State Change"
MOVING = {"PROGRESSING", "STATUS_UPDATE", "INPUT_INFORMATION", "NEW_WARNING", "QUEUE_HOP"}
"""What is only said of a job that is not over."""
KNOWN = MOVING | {"SUBMITTED", "COMPLETE", "CANCELED", "ERROR"}


class Malformed(ValueError):
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
    detail = found.get("detail")
    if found.get("source") != SOURCE or found.get("detail-type") != KIND or not isinstance(detail, dict):
        raise Malformed("no event of MediaConvert's")
    event_id, job_id, status = (
        _word(value) for value in (found.get("id"), detail.get("jobId"), detail.get("status"))
    )
    if event_id is None or job_id is None or status is None:
        raise Malformed("an event without id, job or status")
    return Event(event_id, _news(job_id, status, detail), found)


def _news(job_id: str, status: str, detail: dict[str, Any]) -> News:
    run, submission = labels(detail.get("userMetadata"))
    message = detail.get("errorMessage")
    code = detail.get("errorCode")
    return News(
        job_id,
        status,
        run,
        submission,
        share=_share(detail.get("jobProgress")),
        error_code=code if isinstance(code, int) else None,
        error_message=message[:2000] if isinstance(message, str) else None,
    )


def answered(job: dict[str, Any]) -> News:
    """The same from a `Job` that the API answered with. Its output details lack the files' paths; ours are known."""
    run, submission = labels(job.get("UserMetadata"))
    percent = job.get("JobPercentComplete")
    return News(
        job["Id"],
        job["Status"],
        run,
        submission,
        share=None if percent is None else _within(percent / 100),
        error_code=job.get("ErrorCode"),
        error_message=(job.get("ErrorMessage") or "")[:2000] or None,
    )


def labels(metadata: object) -> tuple[str | None, int]:
    """The run and the number of the submission that a job carries."""
    if not isinstance(metadata, dict):
        return None, 0
    run, submission = metadata.get("run"), metadata.get("submission")
    number = int(submission) if isinstance(submission, str) and submission.isdigit() else 0
    return _word(run), min(number, 2**31 - 1)


def _share(progress: object) -> float | None:
    """An estimate, and often absent. The phase of transcoding stands in where the sum is not told."""
    if not isinstance(progress, dict):
        return None
    whole = progress.get("jobPercentComplete")
    if isinstance(whole, int | float):
        return _within(whole / 100)
    phases = progress.get("phaseProgress")
    transcoding = phases.get("TRANSCODING") if isinstance(phases, dict) else None
    percent = transcoding.get("percentComplete") if isinstance(transcoding, dict) else None
    return _within(percent / 100) if isinstance(percent, int | float) else None


def _within(share: float) -> float:
    """The last percent is for our own checks."""
    return min(0.99, max(0.0, share))


def _word(value: object) -> str | None:
    """PostgreSQL's text holds no zero character."""
    return value if isinstance(value, str) and 0 < len(value) <= 300 and "\0" not in value else None
