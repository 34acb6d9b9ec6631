"""What moderators decided, what they are looking at, and what people told them about clips."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid


class ReviewDecision(Row, Base):
    """One decision on one clip; rows are only ever added. A contributor's standing is counted from them."""

    __tablename__ = "review_decisions"
    __table_args__ = (
        CheckConstraint(
            "verdict IN ('approved', 'rejected', 'changes_requested', 'taken_down', 'restored')",
            name="verdict",
        ),
        Index("ix_review_decisions_clip_id", "clip_id", "id"),
        Index("ix_review_decisions_owner_id", "owner_id", "created_at"),
    )

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    moderator_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    verdict: Mapped[str]
    reason_code: Mapped[str | None]
    reason: Mapped[str | None]


class ReviewClaim(Base):
    """A clip that a moderator is looking at, so that nobody else is offered it meanwhile. It decides nothing."""

    __tablename__ = "review_claims"

    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True)
    moderator_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    until: Mapped[datetime]


class ClipReport(Row, Base):
    """What somebody says is wrong with a clip: open → resolved (they were right) | dismissed."""

    __tablename__ = "clip_reports"
    __table_args__ = (
        CheckConstraint("status IN ('open', 'resolved', 'dismissed')", name="status"),
        CheckConstraint("(status = 'open') = (handled_at IS NULL)", name="handled"),
        Index(
            "uq_clip_reports_open",
            "reporter_id",
            "clip_id",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
        Index("ix_clip_reports_open", "id", postgresql_where=text("status = 'open'")),
    )

    uid: Mapped[Uid]
    clip_id: Mapped[int] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"), index=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    """Whose clip it was, for their standing."""
    reporter_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    """Never shown to anybody but moderators."""
    reason_code: Mapped[str]
    text: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str] = mapped_column(server_default="open")
    handled_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    handled_at: Mapped[datetime | None]
    note: Mapped[str | None]
    """What the moderator noted; for moderators."""
