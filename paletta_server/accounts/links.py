"""Single-use links sent by mail: they prove a mailbox, and let its owner confirm it or choose a new password.

A link shows a page and does nothing until its button is pressed, because mail scanners open every link
they see. It is built from the configured address, never from a request's Host header, and dies with use,
with time, with a newer link of its kind, and with a change of the account's address.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import mails, tokens
from paletta_server.accounts.models import MailLink, User
from paletta_server.core.errors import Invalid
from paletta_server.core.mail import send_mail
from paletta_server.core.settings import Settings

Purpose = Literal["verify", "reset"]

_WORDS: dict[Purpose, Callable[[Settings, str], mails.Mail]] = {"verify": mails.verify, "reset": mails.reset}
_KINDS: dict[Purpose, tokens.Kind] = {"verify": tokens.VERIFY, "reset": tokens.RESET}
KEPT = timedelta(days=7)
"""How long a dead link's row stays, for questions to support."""


async def send_verification(session: AsyncSession, settings: Settings, user: User) -> None:
    """Mail the owner a link that confirms the address."""
    await _send(session, settings, user, "verify")


async def send_reset(session: AsyncSession, settings: Settings, user: User) -> None:
    """Mail the owner a link that lets them choose a new password."""
    await _send(session, settings, user, "reset")


async def peek(session: AsyncSession, purpose: Purpose, secret: str) -> str:
    """The address that a living link was sent to; changes nothing. Raises `Invalid` (`bad_link`)."""
    if tokens.well_formed(secret, _KINDS[purpose]):
        email = await session.scalar(select(MailLink.email).where(_alive(purpose, secret)))
        if email is not None:
            return email
    raise _dead(purpose)


async def use(session: AsyncSession, purpose: Purpose, secret: str) -> User:
    """Spend a link: the account it belongs to, locked. Raises `Invalid` (`bad_link`).

    Of two requests with one link the first wins. If the caller's transaction fails, the link lives on.
    """
    if not tokens.well_formed(secret, _KINDS[purpose]):
        raise _dead(purpose)
    link = await session.scalar(
        update(MailLink).where(_alive(purpose, secret)).values(used_at=func.now()).returning(MailLink)
    )
    if link is None:
        raise _dead(purpose)
    user = await session.scalar(
        select(User)
        .where(
            User.id == link.user_id,
            User.email == link.email,
            User.status == "active",
            User.deleted_at.is_(None),
        )
        .with_for_update()
    )
    if user is None:
        raise _dead(purpose)
    return user


async def sweep(session: AsyncSession) -> int:
    """Drop links that have long been dead; how many."""
    gone = await session.scalars(
        delete(MailLink).where(MailLink.expires_at < func.now() - KEPT).returning(MailLink.id)
    )
    return len(gone.all())


async def _send(session: AsyncSession, settings: Settings, user: User, purpose: Purpose) -> None:
    await session.execute(
        update(MailLink)
        .where(MailLink.user_id == user.id, MailLink.purpose == purpose, MailLink.used_at.is_(None))
        .values(used_at=func.now())
    )
    secret = tokens.mint(_KINDS[purpose])
    link = MailLink(
        user_id=user.id,
        purpose=purpose,
        email=user.email,
        digest=tokens.digest(secret),
        expires_at=func.now() + timedelta(minutes=settings.mail_link_minutes),
    )
    session.add(link)
    await session.flush()
    mail = _WORDS[purpose](settings, secret)
    await send_mail(
        session,
        to=user.email,
        subject=mail.subject,
        text=mail.text,
        dedup_key=f"link:{link.id}",
        secret=True,
    )


def _alive(purpose: Purpose, secret: str) -> ColumnElement[bool]:
    return and_(
        MailLink.digest == tokens.digest(secret),
        MailLink.purpose == purpose,
        MailLink.used_at.is_(None),
        MailLink.expires_at > func.now(),
    )


def _dead(purpose: Purpose) -> Invalid:
    again = "paletta verify" if purpose == "verify" else "paletta reset-password"
    return Invalid(
        "this link is not valid: it was used, has expired, or a newer one was sent",
        code="bad_link",
        hint=f"ask for a new one with `{again}`",
    )
