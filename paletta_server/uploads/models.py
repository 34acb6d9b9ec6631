"""Uploads: the way of a file's bytes into the store, grouped in batches that a person watches."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid


class UploadBatch(Row, Base):
    """One run of `paletta upload`. `version` counts the changes in it, for long polls."""

    __tablename__ = "upload_batches"
    __table_args__ = (
        CheckConstraint("status IN ('open', 'sealed', 'settled', 'cancelled')", name="status"),
        UniqueConstraint("owner_id", "client_ref"),
    )

    uid: Mapped[Uid]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    client_ref: Mapped[uuid.UUID]
    name: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="open")
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When anything of it last changed, by whomever."""
    heard_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When its client last registered, asked for addresses or completed, to within a few minutes."""
    settled_at: Mapped[datetime | None]
    untold_since: Mapped[datetime | None]
    """When moderators last decided on some of it, while its owner was not told yet."""


class Upload(Row, Base):
    """One file's bytes. `state` is the transfer's machine, `stage` what its watcher is told.

    state: created → uploading → completing → stored → verified | rejected, or expired | cancelled.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint(
            "state IN ('created', 'uploading', 'completing', 'stored', 'verified', 'rejected',"
            " 'expired', 'cancelled')",
            name="state",
        ),
        CheckConstraint(
            "stage IN ('waiting', 'uploading', 'stored', 'verifying', 'probing', 'transcoding', 'publishing',"
            " 'in_review', 'live', 'taken_down', 'rejected', 'failed', 'cancelled', 'expired',"
            " 'deleted', 'changes_requested')",
            name="stage",
        ),
        Index(
            "ix_uploads_unfinished",
            "expires_at",
            postgresql_where=text("state IN ('created', 'uploading', 'completing')"),
        ),
        Index("ix_uploads_owner_id", "owner_id", "sha256"),
        Index("ix_uploads_created_at", "created_at"),
        Index("ix_uploads_queued", "size", postgresql_where=text("stage = 'stored'")),
    )

    uid: Mapped[Uid]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id"), index=True)
    clip_uid: Mapped[str]
    file_name: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    crc64nvme: Mapped[str]
    part_size: Mapped[int] = mapped_column(BigInteger)
    part_count: Mapped[int]
    key: Mapped[str] = mapped_column(index=True)
    multipart_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="created")
    claimed_at: Mapped[datetime | None]
    """When completion was last claimed; a claim whose holder died is taken over after a while."""
    claim: Mapped[str | None]
    """Whose claim it is: who was overtaken must not write any more."""
    stage: Mapped[str] = mapped_column(server_default="waiting")
    progress: Mapped[float | None]
    reason: Mapped[str | None]
    hint: Mapped[str | None]
    warnings: Mapped[list[str]] = mapped_column(server_default="[]")
    expires_at: Mapped[datetime]


class BatchItem(Base):
    """A file of a batch. An upload resumed by a later run belongs to both batches."""

    __tablename__ = "batch_items"

    batch_id: Mapped[int] = mapped_column(ForeignKey("upload_batches.id"), primary_key=True)
    ref: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("uploads.id"), index=True)
    outcome: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")


class UploadPart(Base):
    """A part as it was signed. The store's own list says whether it arrived."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[int] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    crc64nvme: Mapped[str]


class UploadEvent(Base):
    """What happened to an upload, for its owner to read."""

    __tablename__ = "upload_events"
    __table_args__ = (Index("ix_upload_events_upload_id", "upload_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    stage: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
