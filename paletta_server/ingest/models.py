"""Ingest runs: one row per attempt at making a clip from an upload."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid


class IngestRun(Row, Base):
    """An attempt writes under its own key prefix; the clip is switched over last, by the attempt that still holds.

    status: queued → verifying → probing → transcoding → publishing → done | failed | superseded.
    """

    __tablename__ = "ingest_runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'verifying', 'probing', 'transcoding', 'publishing', 'done', 'failed',"
            " 'superseded')",
            name="status",
        ),
        UniqueConstraint("upload_id", "attempt"),
        Index("ix_ingest_runs_finished_at", "finished_at"),
    )

    uid: Mapped[Uid]
    upload_id: Mapped[int] = mapped_column(ForeignKey("uploads.id"), index=True)
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"), index=True)
    attempt: Mapped[int]
    status: Mapped[str] = mapped_column(server_default="queued")
    worker: Mapped[str | None]
    prefix: Mapped[str]
    """Where this attempt's outputs live in the store; ends in a slash."""
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None]
    forgiven: Mapped[bool] = mapped_column(server_default="false")
    """Whether it no longer counts towards the attempts that an upload gets."""
    figures: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """Seconds per step, sizes: what statistics are made of."""


class TranscodeJob(Row, Base):
    """An attempt that MediaConvert transcodes for us. Its request token keeps twins away for one minute only; the
    unique keys here keep them away for good.

    status: waiting → submitting → submitted → progressing → complete | error | canceled; or dropped, never having been
    submitted. Those last four are never left.
    """

    __tablename__ = "transcode_jobs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('waiting', 'submitting', 'submitted', 'progressing', 'complete', 'error', 'canceled',"
            " 'dropped')",
            name="status",
        ),
        UniqueConstraint("clip_id", "plan_digest", "attempt"),
        Index(
            "ix_transcode_jobs_open",
            "created_at",
            postgresql_where=text("status IN ('waiting', 'submitting', 'submitted', 'progressing')"),
        ),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("ingest_runs.id"), unique=True)
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"))
    plan_digest: Mapped[str]
    attempt: Mapped[int]
    order: Mapped[dict[str, Any]]
    """The plan, what the probe and the decoder saw, and the gate's warnings: all that finishing needs."""
    status: Mapped[str] = mapped_column(server_default="waiting")
    job_id: Mapped[str | None] = mapped_column(unique=True)
    """MediaConvert's own; None until we know it."""
    submissions: Mapped[int] = mapped_column(server_default="0")
    """How often it was, or may have been, created over there. Each writes under a prefix of its own."""
    submission: Mapped[int | None]
    """The one of them that is `job_id`."""
    submitted_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    """When to submit at the earliest: they told us to slow down, or did not let us in."""
    put_off: Mapped[int] = mapped_column(server_default="0")
    heard_at: Mapped[datetime | None]
    """When we last had word of it, by an event or an answer."""
    checked_at: Mapped[datetime | None]
    checks: Mapped[int] = mapped_column(server_default="0")
    """How often we asked since the last event."""
    progress: Mapped[float] = mapped_column(server_default="0")
    error_code: Mapped[int | None]
    error_message: Mapped[str | None]
    finishers: Mapped[list[str]] = mapped_column(server_default="[]")
    """Who began to finish it. Each stores under a name of its own, so that one overtaken spoils nothing."""


class TranscodeEvent(Row, Base):
    """The inbox of MediaConvert's events: each is handled once, and what we make no sense of is kept to be read."""

    __tablename__ = "transcode_events"
    __table_args__ = (Index("ix_transcode_events_created_at", "created_at"),)

    external_id: Mapped[str] = mapped_column(unique=True)
    job_id: Mapped[str | None]
    status: Mapped[str]
    outcome: Mapped[str] = mapped_column(server_default="received")
    payload: Mapped[dict[str, Any]]
