"""Who may use an account, and as what: roles, disabling, closing and opening again.

At least one admin can always log in. Whatever could take that away locks the account and every acting admin, by key,
and looks again: of two admins who remove each other, the second finds itself removed.
"""

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import administration, links, mails, service
from paletta_server.accounts.administration import check_open, status_of, tell
from paletta_server.accounts.models import User
from paletta_server.accounts.permissions import ADMIN
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Forbidden
from paletta_server.core.settings import Settings


def _acting() -> ColumnElement[bool]:
    """Admins who can log in. One who has not chosen a password yet is none."""
    return and_(
        User.role == ADMIN,
        User.status == "active",
        User.deleted_at.is_(None),
        User.email_verified_at.is_not(None),
    )


async def hold(session: AsyncSession, admin: Principal, text: str, *, own: bool) -> User:
    """The account, locked together with every acting admin, for a change that may take its power.

    `own` says that the caller means their own account, if it is that. Raises `NotFound`, `Forbidden` for a caller who
    is no acting admin any more, `Conflict` (`own_account`, `last_admin`).
    """
    key = (await administration.find(session, text)).id
    rows = await session.scalars(
        select(User)
        .where(or_(User.id == key, _acting()))
        .order_by(User.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    held = {user.id: user for user in rows}
    user = held[key]
    acting = [one for one in held.values() if _can_act(one)]
    if admin.user_id not in {one.id for one in acting}:
        raise Forbidden("this account's role does not allow it any more")
    if key == admin.user_id and not own:
        raise Conflict(
            "this is your own account", code="own_account", hint="pass --yes if you mean it", id=user.uid
        )
    if acting == [user]:
        raise Conflict(
            f"{user.uid} is the last admin who can log in",
            code="last_admin",
            hint="make somebody else an admin first, and wait until they have chosen their password",
        )
    return user


def _can_act(user: User) -> bool:
    return (
        user.role == ADMIN
        and user.status == "active"
        and user.deleted_at is None
        and user.email_verified_at is not None
    )


async def change_role(
    session: AsyncSession, settings: Settings, admin: Principal, text: str, role: str, *, own: bool
) -> User:
    """Give an account another role, from its next request on; the person hears of it. Raises as `hold`, and
    `Conflict` (`not_open`)."""
    if role == ADMIN:
        user = await administration.find(session, text, lock=True)
    else:
        user = await hold(session, admin, text, own=own)
    check_open(user)
    if user.role != role:
        await service.set_role(session, admin, user, role)
        await session.refresh(user)
        await tell(session, user, mails.role_changed(settings, role), "role")
    return user


async def disable(
    session: AsyncSession, settings: Settings, admin: Principal, text: str, reason: str, *, own: bool
) -> User:
    """Shut somebody out, with a reason that they read in a mail: every token and link ends at once. Raises as
    `change_role`. Again, it changes the reason."""
    user = await hold(session, admin, text, own=own)
    check_open(user)
    if (user.status, user.status_reason) == ("disabled", reason):
        return user
    user.status, user.status_reason = "disabled", reason
    ended = await _shut_out(session, user)
    await record(
        session, admin, "account:disabled", user.uid, details={"reason": reason, "tokens_ended": ended}
    )
    await tell(session, user, mails.disabled(settings, reason), "disabled")
    return user


async def close(session: AsyncSession, settings: Settings, admin: Principal, text: str, *, own: bool) -> User:
    """Delete softly: nobody can log in, the address stays taken, orders and clips stay. `enable` takes it back. Raises
    as `hold`."""
    user = await hold(session, admin, text, own=own)
    if user.deleted_at is not None:
        return user
    user.deleted_at = await session.scalar(select(func.now()))
    ended = await _shut_out(session, user)
    await record(session, admin, "account:deleted", user.uid, details={"tokens_ended": ended})
    await tell(session, user, mails.closed(settings), "closed")
    return user


async def _shut_out(session: AsyncSession, user: User) -> int:
    await session.flush()
    await links.withdraw(session, user.id)
    return await service.revoke_tokens(session, user.id)


async def enable(session: AsyncSession, settings: Settings, admin: Principal, text: str) -> User:
    """Let somebody in again who was disabled or deleted. Raises `NotFound`, `Conflict` (`erased`)."""
    user = await administration.find(session, text, lock=True)
    before = status_of(user)
    if before == "erased":
        raise Conflict(f"{user.uid} is erased, for good", code="erased")
    if before == "active":
        return user
    user.status, user.status_reason, user.deleted_at = "active", None, None
    await session.flush()
    await record(session, admin, "account:enabled", user.uid, details={"before": before})
    await tell(session, user, mails.enabled(settings), "enabled")
    return user
