"""Addresses that get no mail any more: what bounced for good, and whoever complained.

To go on mailing them costs the sender its reputation, and then everybody their mails.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row
from paletta_server.core.errors import NotFound
from paletta_server.core.export import Sections
from paletta_server.core.pagination import PageParams, newest_first

Reason = Literal["bounce", "complaint"]
MOST_DETAIL = 500
"""Characters of what a stranger's mail server said that are kept."""


class SuppressedAddress(Row, Base):
    """An address (in lower case) that bounced or complained. It gets no mail once `suppressed_at` is set."""

    __tablename__ = "suppressed_addresses"
    __table_args__ = (CheckConstraint("reason IN ('bounce', 'complaint')", name="reason"),)

    address: Mapped[str] = mapped_column(unique=True)
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    suppressed_at: Mapped[datetime | None]
    transient_bounces: Mapped[int] = mapped_column(server_default="0")
    """Such as full mailboxes. They are only counted."""
    last_bounce_at: Mapped[datetime | None]


class MailReport(Row, Base):
    """A report of the mail service that was handled: a second delivery of it changes nothing."""

    __tablename__ = "mail_reports"

    report_id: Mapped[str] = mapped_column(unique=True)


def _plain(address: str) -> str:
    return address.strip().lower()


async def is_new(session: AsyncSession, report_id: str) -> bool:
    """Whether this report was never handled; it is now."""
    made = await session.scalar(
        insert(MailReport).values(report_id=report_id).on_conflict_do_nothing().returning(MailReport.id)
    )
    return made is not None


async def suppress(session: AsyncSession, address: str, reason: Reason, detail: str) -> None:
    """Send nothing to an address any more. A complaint weighs more than a bounce, and is not replaced by one."""
    given = {"reason": reason, "detail": detail[:MOST_DETAIL], "suppressed_at": func.now()}
    made = insert(SuppressedAddress).values(address=_plain(address), **given)
    await session.execute(
        made.on_conflict_do_update(
            index_elements=["address"],
            set_=given,
            where=SuppressedAddress.suppressed_at.is_(None) | (made.excluded.reason == "complaint"),
        )
    )


async def count_transient(session: AsyncSession, address: str) -> None:
    """Note a bounce that may pass."""
    await session.execute(
        insert(SuppressedAddress)
        .values(address=_plain(address), transient_bounces=1, last_bounce_at=func.now())
        .on_conflict_do_update(
            index_elements=["address"],
            set_={
                "transient_bounces": SuppressedAddress.transient_bounces + 1,
                "last_bounce_at": func.now(),
            },
        )
    )


async def why_not(session: AsyncSession, address: str) -> str | None:
    """Why an address gets no mail, if it gets none."""
    row = await session.scalar(
        select(SuppressedAddress).where(
            SuppressedAddress.address == _plain(address), SuppressedAddress.suppressed_at.is_not(None)
        )
    )
    if row is None or row.suppressed_at is None:
        return None
    words = "its owner complained" if row.reason == "complaint" else f"it bounced: {row.detail}"
    return f"suppressed since {row.suppressed_at:%Y-%m-%d}: {words}"


async def allow(session: AsyncSession, address: str) -> dict[str, Any]:
    """Let an address get mail again, its count at nothing; what was known of it. Raises `NotFound`."""
    row = await session.scalar(
        delete(SuppressedAddress)
        .where(SuppressedAddress.address == _plain(address), SuppressedAddress.suppressed_at.is_not(None))
        .returning(SuppressedAddress)
    )
    if row is None:
        raise NotFound("suppressed address", address[:254])
    return _shown(row)


async def listed(session: AsyncSession, page: PageParams) -> tuple[list[dict[str, Any]], str | None]:
    """Suppressed addresses, newest first."""
    query = select(SuppressedAddress).where(SuppressedAddress.suppressed_at.is_not(None))
    rows, cursor = await newest_first(session, query, SuppressedAddress.id, page)
    return [_shown(row) for (row,) in rows], cursor


def _shown(row: SuppressedAddress) -> dict[str, Any]:
    return {
        "address": row.address,
        "reason": row.reason,
        "detail": row.detail,
        "suppressed_at": row.suppressed_at,
        "transient_bounces": row.transient_bounces,
    }


def sections(address: str) -> Sections:
    """What is known of an address, for the export."""
    names = (
        SuppressedAddress.reason, SuppressedAddress.detail, SuppressedAddress.suppressed_at,
        SuppressedAddress.transient_bounces, SuppressedAddress.last_bounce_at,
    )  # fmt: skip
    return {"mail_trouble": select(*names).where(SuppressedAddress.address == _plain(address))}


async def forget(session: AsyncSession, address: str) -> None:
    """Whoever is erased is erased here too."""
    await session.execute(delete(SuppressedAddress).where(SuppressedAddress.address == _plain(address)))


async def prune(session: AsyncSession, *, days: int) -> None:
    """Forget reports that no queue delivers again (SQS keeps a message for 14 days at most)."""
    await session.execute(
        delete(MailReport).where(MailReport.created_at < func.now() - func.make_interval(0, 0, 0, days))
    )
