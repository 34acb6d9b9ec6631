"""Shapes of everybody's uploads, for operators. Sizes are bytes, durations seconds."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from paletta_server.ingest.models import IngestRun
from paletta_server.uploads.models import Upload

State = Literal[
    "created", "uploading", "completing", "stored", "verified", "rejected", "expired", "cancelled",
    "waiting", "verifying", "probing", "transcoding", "publishing", "in_review", "live", "changes_requested",
    "taken_down", "failed", "deleted",
]  # fmt: skip
"""The states of the transfer, then the stages that only a watcher is told."""


class AdminUpload(BaseModel):
    """`seconds` is how long the bytes took to arrive, pauses included; null before they all have."""

    id: str
    contributor: str
    clip_id: str
    batches: list[str]
    file: str
    size: int
    state: str
    stage: str
    reason: str | None
    hint: str | None
    attempts: int
    created_at: datetime
    stored_at: datetime | None
    seconds: float | None
    bytes_per_second: int | None

    @classmethod
    def of(
        cls,
        upload: Upload,
        *,
        contributor: str,
        batches: list[str],
        attempts: int,
        began: datetime | None,
        stored: datetime | None,
    ) -> "AdminUpload":
        seconds = (stored - began).total_seconds() if began and stored else None
        return cls(
            id=upload.uid,
            contributor=contributor,
            clip_id=upload.clip_uid,
            batches=batches,
            file=upload.file_name,
            size=upload.size,
            state=upload.state,
            stage=upload.stage,
            reason=upload.reason,
            hint=upload.hint,
            attempts=attempts,
            created_at=upload.created_at,
            stored_at=stored,
            seconds=seconds,
            bytes_per_second=round(upload.size / seconds) if seconds else None,
        )


class Attempt(BaseModel):
    """One run at making the clip; `counts` is false where somebody asked for another try since."""

    id: str
    attempt: int
    status: str
    worker: str | None
    counts: bool
    began_at: datetime
    finished_at: datetime | None
    error: str | None
    figures: dict[str, Any]

    @classmethod
    def of(cls, run: IngestRun) -> "Attempt":
        return cls(
            id=run.uid,
            attempt=run.attempt,
            status=run.status,
            worker=run.worker,
            counts=not run.forgiven,
            began_at=run.created_at,
            finished_at=run.finished_at,
            error=run.error,
            figures=run.figures,
        )


class AdminUploadDetail(AdminUpload):
    sha256: str
    part_size: int
    part_count: int
    uploaded_parts: list[int]
    history: list[dict[str, Any]]
    runs: list[Attempt]
