"""Proving a mailbox: confirming the address, and choosing a new password."""

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import links, mails, throttle
from paletta_server.accounts.models import User
from paletta_server.accounts.service import Acting, set_password
from paletta_server.audit.service import record
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.mail import send_mail
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings


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


async def verify(session: AsyncSession, settings: Settings, secret: str) -> User:
    """Confirm the address that the link was sent to; where it was to replace the account's, it does so now.

    Raises `Invalid` (`bad_link`).
    """
    changed = await links.use_change(session, secret)
    if changed is not None:
        await _move(session, settings, *changed)
        return changed[0]
    user = await links.use(session, "verify", secret)
    await _confirm(session, user)
    return user


async def _move(session: AsyncSession, settings: Settings, user: User, address: str) -> None:
    """The new address is proved: it is the account's from now on, and the old one hears of it."""
    old = user.email
    try:
        async with session.begin_nested():
            user.email = address
    except IntegrityError as error:  # somebody else registered it meanwhile
        raise links.dead("change") from error
    user.email_verified_at = await session.scalar(select(func.now()))
    await throttle.forget(session, old)
    await record(session, Acting(user.id), "account:email_changed", user.uid)
    mail = mails.address_changed(settings)
    key = f"address-changed:{new_uid('mail')}"
    await send_mail(session, to=old, subject=mail.subject, text=mail.text, dedup_key=key)


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
