"""Clips: what a contributor sells. Three independent axes say where one stands.

`processing` is the pipeline's, `review` the moderators', `deleted_at` the owner's. *Listed* is derived from the
three (`listed()` in `service.py`) and never stored.
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid

STANDING = (
    "deleted_at IS NULL AND processing IN ('pending', 'processing', 'ready')"
    " AND review IN ('draft', 'submitted', 'approved', 'changes_requested')"
)
"""A clip that stands: the same bytes again from the same owner are this clip, not another.

One that was taken down stands for its bytes as well (`service.standing`), and goes on to after its owner has deleted
it. It is left out here, since it may have a twin: an owner who deleted a clip and sent it again has two, and either
may be taken down.
"""


class Clip(Row, Base):
    """The design's `video`. Sizes in bytes, durations in seconds; technical facts come from the probe alone."""

    __tablename__ = "clips"
    __table_args__ = (
        CheckConstraint("processing IN ('pending', 'processing', 'ready', 'failed')", name="processing"),
        CheckConstraint(
            "review IN ('draft', 'submitted', 'approved', 'rejected', 'taken_down', 'changes_requested')",
            name="review",
        ),
        CheckConstraint(
            "review_before IN ('submitted', 'approved', 'rejected', 'changes_requested')",
            name="review_before",
        ),
        CheckConstraint("NOT sold_withheld OR review = 'taken_down'", name="sold_withheld"),
        Index("uq_clips_standing_sha256", "owner_id", "sha256", unique=True, postgresql_where=text(STANDING)),
        Index("ix_clips_review", "review", "id", postgresql_where=text("review = 'submitted'")),
    )

    uid: Mapped[Uid]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    version: Mapped[int] = mapped_column(server_default="1")
    """Counts edits; the ETag of a clip."""

    title: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    editorial: Mapped[dict[str, Any] | None]
    mature: Mapped[bool] = mapped_column(server_default="false")
    illustration: Mapped[bool] = mapped_column(server_default="false")
    location: Mapped[dict[str, Any] | None]
    shot_date: Mapped[date | None]
    source: Mapped[str | None]
    releases: Mapped[dict[str, Any] | None]
    copyright: Mapped[str | None]
    batch: Mapped[str | None]
    price: Mapped[dict[str, Any] | None]
    people: Mapped[dict[str, Any] | None]
    shot: Mapped[dict[str, Any] | None]
    ai_generated: Mapped[bool] = mapped_column(server_default="false")
    exclusive: Mapped[bool] = mapped_column(server_default="false")
    agencies: Mapped[dict[str, Any] | None]
    poster_at: Mapped[float | None]

    file_name: Mapped[str]
    """As the contributor named it: shown, never used as a path or a key."""
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    crc64nvme: Mapped[str]
    original_key: Mapped[str] = mapped_column(index=True)

    processing: Mapped[str] = mapped_column(server_default="pending")
    review: Mapped[str] = mapped_column(server_default="draft")
    reason: Mapped[str | None]
    """Why processing failed, a reviewer said no or asked for changes, or it is reviewed at all where others are not."""
    review_before: Mapped[str | None]
    """Where a clip that was taken down goes back to when it is restored."""
    taken_down_for: Mapped[str | None]
    """Why it was taken down, for its owner."""
    sold_withheld: Mapped[bool] = mapped_column(server_default="false")
    """Whether who bought it may not fetch it meanwhile, either: a take-down for a legal reason."""
    hint: Mapped[str | None]
    warnings: Mapped[list[str]] = mapped_column(server_default="[]")
    technical: Mapped[dict[str, Any] | None]
    duration: Mapped[float | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    fps: Mapped[float | None]
    codec: Mapped[str | None]
    poster_number: Mapped[int | None]
    listed_at: Mapped[datetime | None]
    """When it was first listed."""
    deleted_at: Mapped[datetime | None]


class ClipCategory(Base):
    __tablename__ = "clip_categories"

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id"), primary_key=True, index=True)
    position: Mapped[int]


class ClipTag(Base):
    __tablename__ = "clip_tags"

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id"), primary_key=True, index=True)
    position: Mapped[int]
    """Order matters: agencies read the most important first."""


class Rendition(Row, Base):
    """A stored object made from a clip: preview, poster candidate, or what is sold."""

    __tablename__ = "renditions"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('comp', 'loop', 'poster', 'storyboard', 'storyboard_vtt', 'hd', 'uhd4k')", name="kind"
        ),
        Index("uq_renditions_clip_id", "clip_id", "kind", "number", unique=True),
    )

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"))
    kind: Mapped[str]
    number: Mapped[int] = mapped_column(server_default="1")
    """Tells poster candidates apart."""
    key: Mapped[str] = mapped_column(index=True)
    content_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    width: Mapped[int | None]
    height: Mapped[int | None]
    codec: Mapped[str | None]
    at_seconds: Mapped[float | None]
