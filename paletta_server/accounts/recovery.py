"""Proving a mailbox: confirming the address, and choosing a new password."""

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import links, throttle
from paletta_server.accounts.models import User
from paletta_server.accounts.service import Acting, set_password
from paletta_server.audit.service import record
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime


async def ask_verification(session: AsyncSession, runtime: Runtime, email: str, ip: str | None) -> None:
    """Mail a fresh confirmation link if the address waits for one. Raises `TooManyRequests`.

    Finding out is left to a job, so that the request does the same for every address.
    """
    await throttle.mail(runtime.db, email, ip)
    await defer(session, "accounts.send_verification", email=email)


async def send_verification(session: AsyncSession, runtime: Runtime, email: str) -> None:
    """The job behind `ask_verification`."""
    user = await _active(session, email)
    if user is not None and user.email_verified_at is None:
        await links.send_verification(session, runtime.settings, user)


async def verify(session: AsyncSession, secret: str) -> User:
    """Confirm the address that the link was sent to. Raises `Invalid` (`bad_link`)."""
    user = await links.use(session, "verify", secret)
    await _confirm(session, user)
    return user


async def ask_reset(session: AsyncSession, runtime: Runtime, email: str, ip: str | None) -> None:
    """Mail a reset link if the address has an account: by a job, as above. Raises `TooManyRequests`."""
    await throttle.mail(runtime.db, email, ip)
    await defer(session, "accounts.send_reset", email=email)


async def send_reset(session: AsyncSession, runtime: Runtime, email: str) -> None:
    """The job behind `ask_reset`."""
    user = await _active(session, email)
    if user is not None:
        await links.send_reset(session, runtime.settings, user)
        await record(session, None, "account:reset_requested", user.uid)


async def reset(session: AsyncSession, runtime: Runtime, secret: str, password: str) -> User:
    """Choose a new password by a mailed link, which also proves the address; every token ends.

    Raises `Invalid` (`bad_link`, `weak_password`: the link can then be used again).
    """
    user = await links.use(session, "reset", secret)
    await set_password(session, runtime.settings, user, password)
    await _confirm(session, user)
    return user


async def _active(session: AsyncSession, email: str) -> User | None:
    return await session.scalar(
        select(User).where(User.email == email, User.status == "active", User.deleted_at.is_(None))
    )


async def _confirm(session: AsyncSession, user: User) -> None:
    await throttle.forget(session, user.email)
    first = await session.scalar(
        update(User)
        .where(User.id == user.id, User.email_verified_at.is_(None))
        .values(email_verified_at=func.now())
        .returning(User.id)
    )
    if first is not None:
        await record(session, Acting(user.id), "account:email_verified", user.uid)
