"""Single-use links sent by mail: they prove a mailbox, and let its owner confirm it or choose a new password.

A link shows a page and does nothing until its button is pressed, because mail scanners open every link
they see. It is built from the configured address, never from a request's Host header, and dies with use,
with time, with a newer link of its kind, and with a change of the account's address.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import mails, tokens
from paletta_server.accounts.models import MailLink, User
from paletta_server.core.errors import Invalid
from paletta_server.core.mail import send_mail
from paletta_server.core.settings import Settings

Purpose = Literal["verify", "reset", "change"]
"""`change` confirms an address that takes the place of the account's; its link is used like that of `verify`."""

Words = Callable[[Settings, str], mails.Mail]
_KINDS: dict[Purpose, tokens.Kind] = {
    "verify": tokens.VERIFY,
    "reset": tokens.RESET,
    "change": tokens.VERIFY,
}
KEPT = timedelta(days=7)
"""How long a dead link's row stays, for questions to support."""


async def send_verification(session: AsyncSession, settings: Settings, user: User) -> None:
    """Mail the owner a link that confirms the address."""
    await _send(session, settings, user, "verify", mails.verify)


async def send_reset(session: AsyncSession, settings: Settings, user: User) -> None:
    """Mail the owner a link that lets them choose a new password."""
    await _send(session, settings, user, "reset", mails.reset)


async def send_invitation(session: AsyncSession, settings: Settings, user: User) -> None:
    """Mail somebody for whom an account was made a link that lets them choose its password."""
    await _send(session, settings, user, "reset", mails.invited)


async def send_change(session: AsyncSession, settings: Settings, user: User, address: str) -> None:
    """Mail a link to the address that is to be the account's; until it is used, nothing changes."""
    await _send(session, settings, user, "change", mails.change, to=address)


async def pending_change(session: AsyncSession, user_id: int) -> str | None:
    """The address that waits to be confirmed in place of the account's."""
    return await session.scalar(
        select(MailLink.email).where(MailLink.user_id == user_id, MailLink.purpose == "change", *_in_force())
    )


async def peek(session: AsyncSession, purpose: Purpose, secret: str) -> str:
    """The address that a living link was sent to; changes nothing. Raises `Invalid` (`bad_link`)."""
    purposes: tuple[Purpose, ...] = ("verify", "change") if purpose == "verify" else (purpose,)
    if tokens.well_formed(secret, _KINDS[purpose]):
        email = await session.scalar(
            select(MailLink.email).where(or_(*(_alive(p, secret) for p in purposes)))
        )
        if email is not None:
            return email
    raise dead(purpose)


async def use(session: AsyncSession, purpose: Purpose, secret: str) -> User:
    """Spend a link: the account it belongs to, locked. Raises `Invalid` (`bad_link`).

    Of two requests with one link the first wins. If the caller's transaction fails, the link lives on.
    """
    link = await _spend(session, purpose, secret)
    user = await _owner(session, link, User.email == link.email) if link is not None else None
    if user is None:
        raise dead(purpose)
    return user


async def use_change(session: AsyncSession, secret: str) -> tuple[User, str] | None:
    """Spend a link that confirms another address: the account, locked, and the address. None for no such link."""
    link = await _spend(session, "change", secret)
    user = await _owner(session, link) if link is not None else None
    return (user, link.email) if link is not None and user is not None else None


async def withdraw(session: AsyncSession, user_id: int) -> None:
    """End every link of an account that was not used yet."""
    await session.execute(
        update(MailLink)
        .where(MailLink.user_id == user_id, MailLink.used_at.is_(None))
        .values(used_at=func.now())
    )


async def _spend(session: AsyncSession, purpose: Purpose, secret: str) -> MailLink | None:
    if not tokens.well_formed(secret, _KINDS[purpose]):
        return None
    return await session.scalar(
        update(MailLink).where(_alive(purpose, secret)).values(used_at=func.now()).returning(MailLink)
    )


async def _owner(session: AsyncSession, link: MailLink, *where: ColumnElement[bool]) -> User | None:
    mine = select(User).where(
        User.id == link.user_id, User.status == "active", User.deleted_at.is_(None), *where
    )
    return await session.scalar(mine.with_for_update())


async def sweep(session: AsyncSession) -> int:
    """Drop links that have long been dead; how many."""
    gone = await session.scalars(
        delete(MailLink).where(MailLink.expires_at < func.now() - KEPT).returning(MailLink.id)
    )
    return len(gone.all())


async def _send(
    session: AsyncSession,
    settings: Settings,
    user: User,
    purpose: Purpose,
    words: Words,
    *,
    to: str | None = None,
) -> None:
    await session.execute(
        update(MailLink)
        .where(MailLink.user_id == user.id, MailLink.purpose == purpose, MailLink.used_at.is_(None))
        .values(used_at=func.now())
    )
    secret = tokens.mint(_KINDS[purpose])
    link = MailLink(
        user_id=user.id,
        purpose=purpose,
        email=to or user.email,
        digest=tokens.digest(secret),
        expires_at=func.now() + timedelta(minutes=settings.mail_link_minutes),
    )
    session.add(link)
    await session.flush()
    mail = words(settings, secret)
    await send_mail(
        session,
        to=link.email,
        subject=mail.subject,
        text=mail.text,
        dedup_key=f"link:{link.id}",
        secret=True,
    )


def _alive(purpose: Purpose, secret: str) -> ColumnElement[bool]:
    return and_(
        MailLink.digest == tokens.digest(secret),
        MailLink.purpose == purpose,
        *_in_force(),
    )


def _in_force() -> tuple[ColumnElement[bool], ...]:
    return MailLink.used_at.is_(None), MailLink.expires_at > func.now()


def dead(purpose: Purpose) -> Invalid:
    """What a link that is not in force answers."""
    again = "paletta reset-password" if purpose == "reset" else "paletta verify"
    return Invalid(
        "this link is not valid: it was used, has expired, or a newer one was sent",
        code="bad_link",
        hint=f"ask for a new one with `{again}`",
    )
