"""One account on one screen, and everything held on a person as one document."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import administration, links
from paletta_server.accounts.models import ApiToken, ContributorApplication, MailLink, User
from paletta_server.accounts.security import Principal
from paletta_server.audit import personal as audit
from paletta_server.audit.service import record
from paletta_server.clips import personal as clips
from paletta_server.collections import personal as collections
from paletta_server.core import export, mail
from paletta_server.core.database import Database
from paletta_server.delivery import personal as delivery
from paletta_server.earnings import personal as earnings
from paletta_server.moderation import personal as moderation
from paletta_server.orders import personal as orders
from paletta_server.payments import personal as payments
from paletta_server.taxonomy import personal as taxonomy
from paletta_server.uploads import personal as uploads


async def figures(session: AsyncSession, user: User) -> dict[str, Any]:
    """What an operator wants to know of an account besides what it says: members of `schemas.AccountDetail`."""
    living = (ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None), ApiToken.expires_at > func.now())
    kinds = await session.execute(select(ApiToken.kind, func.count()).where(*living).group_by(ApiToken.kind))
    return {
        "pending_email": await links.pending_change(session, user.id),
        "last_seen_at": await session.scalar(select(administration.last_seen()).where(User.id == user.id)),
        "sessions": {"device": 0, "personal": 0} | dict(kinds.all()),
        "application": await session.scalar(
            select(ContributorApplication.status)
            .where(ContributorApplication.user_id == user.id)
            .order_by(ContributorApplication.id.desc())
            .limit(1)
        ),
        **await orders.summary(session, user.id),
        **await delivery.summary(session, user.id),
        **await clips.summary(session, user.id),
        "uploads": await uploads.summary(session, user.id),
        "collections": await collections.count(session, user.id),
    }


async def begin_export(session: AsyncSession, admin: Principal, text: str) -> User:
    """Note who took what is held on a person. Raises `NotFound`."""
    user = await administration.find(session, text)
    await record(session, admin, "account:exported", user.uid)
    return user


async def export_of(database: Database, user: User) -> AsyncIterator[bytes]:
    """Everything held on a person, in pieces of one JSON document: no password, no token, no digest of either."""
    async with database.transaction() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        now = datetime.now(UTC).isoformat(timespec="seconds")
        async for piece in export.document(session, _sections(user), user=user.uid, exported_at=now):
            yield piece


def _sections(user: User) -> export.Sections:
    account = select(
        User.uid.label("id"), User.email, User.email_verified_at, User.display_name, User.username, User.institution,
        User.role, User.status, User.status_reason, User.created_at, User.deleted_at, User.erased_at,
    ).where(User.id == user.id)  # fmt: skip
    sessions = select(
        ApiToken.uid.label("id"), ApiToken.kind, ApiToken.name, ApiToken.device, ApiToken.scopes, ApiToken.created_at,
        ApiToken.last_used_at, ApiToken.authenticated_at, ApiToken.expires_at, ApiToken.revoked_at,
    ).where(ApiToken.user_id == user.id)  # fmt: skip
    mailed = select(
        MailLink.purpose, MailLink.email, MailLink.created_at, MailLink.expires_at, MailLink.used_at
    ).where(MailLink.user_id == user.id)
    applications = select(
        ContributorApplication.uid.label("id"), ContributorApplication.statement, ContributorApplication.status,
        ContributorApplication.reason, ContributorApplication.created_at, ContributorApplication.decided_at,
    ).where(ContributorApplication.user_id == user.id)  # fmt: skip
    return {
        "account": account,
        "sessions": sessions.order_by(ApiToken.id),
        "mailed_links": mailed.order_by(MailLink.id),
        "applications": applications.order_by(ContributorApplication.id),
        **mail.sections(user.id, user.email),
        **orders.sections(user.id),
        **payments.sections(user.id),
        **earnings.sections(user.id),
        **delivery.sections(user.id),
        **clips.sections(user.id),
        **uploads.sections(user.id),
        **collections.sections(user.id),
        **taxonomy.sections(user.id),
        **moderation.sections(user.id),
        **audit.sections(user.id, user.uid),
    }
