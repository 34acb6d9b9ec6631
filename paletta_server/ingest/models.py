"""Ingest runs: one row per attempt at making a clip from an upload."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
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
