"""Customers who want to sell: asking to become a contributor, and answering.

A contributor can be paid and can be written to, so the e-mail address must be confirmed first. With
PALETTA_CONTRIBUTORS=auto asking is enough; with `manual` an admin decides.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import mails
from paletta_server.accounts.models import ContributorApplication, User
from paletta_server.accounts.permissions import CUSTOMER
from paletta_server.accounts.security import Principal
from paletta_server.accounts.service import get_user, set_role
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Forbidden
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.mail import send_mail
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.settings import Settings

Application = tuple[ContributorApplication, User]


async def apply(
    session: AsyncSession, settings: Settings, principal: Principal, statement: str | None
) -> str:
    """Ask to contribute: `approved` or `pending`. Asking again is harmless.

    Raises `Forbidden` (`email_not_verified`).
    """
    if principal.role != CUSTOMER:
        return "approved"
    if not principal.email_verified:
        raise Forbidden(
            "the e-mail address must be confirmed first",
            code="email_not_verified",
            hint="open the link in the mail, or ask for another with `paletta verify`",
        )
    made = await session.scalar(
        insert(ContributorApplication)
        .values(uid=new_uid("app"), user_id=principal.user_id, statement=statement)
        .on_conflict_do_nothing(
            index_elements=["user_id"], index_where=ContributorApplication.status == "pending"
        )
        .returning(ContributorApplication)
    )
    if made is not None:
        await record(session, principal, "application:submitted", made.uid)
    if settings.contributors == "manual":
        return "pending"
    pending = await session.scalar(
        select(ContributorApplication).where(
            ContributorApplication.user_id == principal.user_id, ContributorApplication.status == "pending"
        )
    )
    if pending is not None:
        await _decide(session, pending, "approved", None, by=None)
    await set_role(session, None, await get_user(session, principal.user_id), "contributor")
    return "approved"


async def listed(
    session: AsyncSession, status: str | None, page: PageParams
) -> tuple[Sequence[Application], str | None]:
    """Applications with their applicants, newest first."""
    query = select(ContributorApplication, User).join(User, User.id == ContributorApplication.user_id)
    if status is not None:
        query = query.where(ContributorApplication.status == status)
    rows, cursor = await newest_first(session, query, ContributorApplication.id, page)
    return [(row[0], row[1]) for row in rows], cursor


async def approve(
    session: AsyncSession, settings: Settings, admin: Principal, application: str
) -> Application:
    """Make the applicant a contributor and say so by mail. Raises `NotFound`, `Conflict`
    (`already_decided`)."""
    row = await resolve(session, ContributorApplication, application, kind="application", prefix="app")
    await _decide(session, row, "approved", None, by=admin)
    user = await get_user(session, row.user_id)
    if user.role == CUSTOMER:
        await set_role(session, admin, user, "contributor")
    await _tell(session, user, mails.application_approved(settings), row)
    return row, user


async def reject(
    session: AsyncSession, settings: Settings, admin: Principal, application: str, reason: str
) -> Application:
    """Decline, with a reason that the applicant reads. Raises `NotFound`, `Conflict` (`already_decided`)."""
    row = await resolve(session, ContributorApplication, application, kind="application", prefix="app")
    await _decide(session, row, "rejected", reason, by=admin)
    user = await get_user(session, row.user_id)
    await _tell(session, user, mails.application_rejected(settings, reason), row)
    return row, user


async def _decide(
    session: AsyncSession,
    row: ContributorApplication,
    status: str,
    reason: str | None,
    *,
    by: Principal | None,
) -> None:
    """Move one application from `pending`, once."""
    decided = await session.scalar(
        update(ContributorApplication)
        .where(ContributorApplication.id == row.id, ContributorApplication.status == "pending")
        .values(status=status, reason=reason, decided_by=by.user_id if by else None, decided_at=func.now())
        .returning(ContributorApplication.id)
    )
    if decided is None:
        raise Conflict(f"application {row.uid} was decided already", code="already_decided")
    await session.refresh(row)
    details = {"reason": reason} if reason else None
    await record(session, by, f"application:{status}", row.uid, details=details)


async def _tell(session: AsyncSession, user: User, mail: mails.Mail, row: ContributorApplication) -> None:
    await send_mail(
        session, to=user.email, subject=mail.subject, text=mail.text, dedup_key=f"application:{row.uid}"
    )
