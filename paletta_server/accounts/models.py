"""Accounts: people, their tokens, mailed links, applications to contribute, and the throttle."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row, Uid

ROLES = ("customer", "contributor", "admin")


class User(Row, Base):
    """A person. `email` is stored lower-cased; a deleted person keeps the row that orders point to."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('customer', 'contributor', 'admin')", name="role"),
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
    )

    uid: Mapped[Uid]
    email: Mapped[str] = mapped_column(unique=True)
    email_verified_at: Mapped[datetime | None]
    display_name: Mapped[str | None]
    username: Mapped[str | None] = mapped_column(unique=True)
    institution: Mapped[str | None]
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="customer")
    status: Mapped[str] = mapped_column(server_default="active")
    status_reason: Mapped[str | None]
    """Why it is disabled, as the person was told."""
    deleted_at: Mapped[datetime | None]
    """Closed: nobody can log in, and the address stays taken."""
    erased_at: Mapped[datetime | None]
    """When everything that tells who it was went, for good; `deleted_at` is set as well."""


class ApiToken(Row, Base):
    """An opaque token, known here only by its SHA-256."""

    __tablename__ = "api_tokens"
    __table_args__ = (CheckConstraint("kind IN ('device', 'personal')", name="kind"),)

    uid: Mapped[Uid]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    kind: Mapped[str]
    name: Mapped[str]
    device: Mapped[str | None]
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(server_default="[]")
    """Empty means everything that the role may do."""
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    authenticated_at: Mapped[datetime | None]
    """When the password was last given with it; a token for scripts begins without."""
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class MailLink(Row, Base):
    """A single-use link sent by mail, known here only by its SHA-256."""

    __tablename__ = "mail_links"
    __table_args__ = (CheckConstraint("purpose IN ('verify', 'reset', 'change')", name="purpose"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    purpose: Mapped[str]
    email: Mapped[str]
    """The address it was sent to: a link proves that address and no later one."""
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ContributorApplication(Row, Base):
    """A customer asking to contribute; at most one is pending per person."""

    __tablename__ = "contributor_applications"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'approved', 'rejected')", name="status"),
        Index(
            "uq_contributor_applications_pending",
            "user_id",
            unique=True,
            postgresql_where="status = 'pending'",
        ),
    )

    uid: Mapped[Uid]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    statement: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    reason: Mapped[str | None]
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    decided_at: Mapped[datetime | None]


class Throttle(Base):
    """Failures counted under a key such as `account:<sha256 of address>` or `ip:203.0.113.7`."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default="0")
    window_start: Mapped[datetime] = mapped_column(server_default=func.now())
    blocked_until: Mapped[datetime | None]
