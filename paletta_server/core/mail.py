"""E-mail through an outbox: written in the transaction that causes it, delivered by a job, at least once.

A mail server that is away is asked again for three days. What is refused for good, or was in vain for so long, is
given up: its body goes, and `last_error` says why.
The Message-ID is derived from the row, so a mail server or a mailbox can recognise a repeated delivery.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    and_,
    case,
    column,
    delete,
    func,
    or_,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Mapped, load_only, mapped_column

from paletta_server.core import suppression
from paletta_server.core.database import Base, Row
from paletta_server.core.errors import Invalid
from paletta_server.core.export import Sections
from paletta_server.core.jobs import defer, has_job, job
from paletta_server.core.mailers import NotTaken, mailer
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)

GIVE_UP_AFTER = timedelta(days=3)
GIVE_UP_SECRET_AFTER = timedelta(days=1)
"""The link in it has died by then, and need not lie around."""


REPORTS_DAYS = 30

NOBODY = "erased@erased.invalid"
"""Stands for the address of a person who was erased; nothing is sent to such a domain (RFC 2606)."""
_NOBODYS_DOMAIN = "@" + NOBODY.rpartition("@")[2]


_USERS = table("users", column("id"), column("email"))


class OutboxEmail(Row, Base):
    """A mail to send. `dedup_key` makes asking twice the same as asking once."""

    __tablename__ = "outbox_emails"
    __table_args__ = (
        Index("ix_outbox_emails_recipient", "recipient", "id"),
        # Nearly all mails are sent, and kept.
        Index("ix_outbox_emails_unsent", "id", postgresql_where=text("sent_at IS NULL")),
    )

    dedup_key: Mapped[str] = mapped_column(unique=True)
    recipient: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    """Whose address it was when this was written: an address can change, and be somebody else's later. Accounts stay
    for good, and a foreign key would have every mail wait for whoever changes one."""
    subject: Mapped[str]
    body: Mapped[str]
    html: Mapped[str | None]
    """The same words as a page, for clients that show one."""
    secret: Mapped[bool] = mapped_column(server_default="false")
    """The body carries a secret link: it is blanked once the mail is on its way, or given up."""
    tries: Mapped[int] = mapped_column(server_default="0")
    """How often it was handed to the mail server, in vain or not."""
    sent_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


class OutboxAttachment(Row, Base):
    """A file that goes with a mail; dropped once it is on its way."""

    __tablename__ = "outbox_attachments"

    email_id: Mapped[int] = mapped_column(ForeignKey("outbox_emails.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    content_type: Mapped[str]
    data: Mapped[bytes] = mapped_column(LargeBinary)


@dataclass(frozen=True)
class Attachment:
    """A file to send along; `name` is one of our own making."""

    name: str
    content_type: str
    data: bytes


async def send_mail(
    session: AsyncSession,
    *,
    to: str,
    subject: str,
    text: str,
    dedup_key: str,
    html: str | None = None,
    attachments: Sequence[Attachment] = (),
    secret: bool = False,
) -> None:
    """Send a mail when this transaction commits, once for each `dedup_key`. Whoever was erased gets none.

    Raises `Invalid` for line breaks in a header.
    """
    for header in (to, subject):
        if any(ord(character) < 32 or ord(character) == 127 for character in header):
            raise Invalid("a mail header must be one line", code="bad_mail_header")
    if to.endswith(_NOBODYS_DOMAIN):
        return
    made = await session.scalar(
        insert(OutboxEmail)
        .values(
            dedup_key=dedup_key,
            recipient=to,
            user_id=select(_USERS.c.id).where(_USERS.c.email == to).scalar_subquery(),
            subject=subject,
            body=text,
            html=html,
            secret=secret,
        )
        .on_conflict_do_nothing()
        .returning(OutboxEmail.id)
    )
    if made is not None:
        session.add_all(
            OutboxAttachment(email_id=made, name=each.name, content_type=each.content_type, data=each.data)
            for each in attachments
        )
        await defer(session, "mail.deliver", email_id=made)


async def asked_for(session: AsyncSession, dedup_key: str) -> bool:
    """Whether this mail was written already, sent or not."""
    found = await session.scalar(select(OutboxEmail.id).where(OutboxEmail.dedup_key == dedup_key))
    return found is not None


async def about(session: AsyncSession, user_id: int, text: str, *, most: int) -> Sequence[OutboxEmail]:
    """The newest mails to somebody whose `dedup_key` names `text`, such as an order's id; oldest of them first."""
    found = await session.scalars(
        select(OutboxEmail)
        .where(OutboxEmail.user_id == user_id, OutboxEmail.dedup_key.contains(text, autoescape=True))
        .order_by(OutboxEmail.id.desc())
        .limit(most)
    )
    return list(reversed(found.all()))


@job("mail.deliver", queue="mail")
async def deliver(runtime: Runtime, *, email_id: int) -> None:
    """Hand one mail to the mail server. Trouble there is retried by the queue, and noted on the row; a mail that
    is refused for good is given up."""
    async with runtime.db.transaction() as session:
        email = await session.scalar(
            select(OutboxEmail).where(OutboxEmail.id == email_id, _waiting()).with_for_update()
        )
        if email is None:
            return
        if (reason := await suppression.why_not(session, email.recipient)) is not None:
            email.last_error = reason
            await session.flush()
            await _give_up(session, [email_id])
            return
        attached = await session.scalars(
            select(OutboxAttachment)
            .where(OutboxAttachment.email_id == email_id)
            .order_by(OutboxAttachment.id)
        )
        message = _message(runtime.settings, email, list(attached))
    try:
        await mailer(runtime.settings).hand_over(message, mail_id=email_id)
    except NotTaken as error:
        async with runtime.db.transaction() as session:
            row = await session.get_one(OutboxEmail, email_id)
            row.tries += 1
            row.last_error = str(error)
            if error.final:
                await _give_up(session, [email_id])
        if error.final:
            log.warning("mail refused for good", extra={"email_id": email_id})
            return
        raise
    async with runtime.db.transaction() as session:
        row = await session.get_one(OutboxEmail, email_id)
        row.tries += 1
        row.sent_at = await session.scalar(select(func.now()))
        row.last_error = None
        if row.secret:
            row.body, row.html = "", None
        await session.execute(delete(OutboxAttachment).where(OutboxAttachment.email_id == email_id))


@job("mail.sweep", queue="default", cron="*/10 * * * *")
async def sweep(runtime: Runtime) -> None:
    """Give up what was in vain for too long; what else is not sent and has no job any more gets another."""
    now = func.now()
    too_old = or_(
        OutboxEmail.created_at < now - GIVE_UP_AFTER,
        and_(OutboxEmail.secret, OutboxEmail.created_at < now - GIVE_UP_SECRET_AFTER),
    )
    async with runtime.db.transaction() as session:
        old = list(await session.scalars(select(OutboxEmail.id).where(_waiting(), too_old)))
        if old:
            log.warning("mails given up", extra={"mails": len(old)})
            await _give_up(session, old)
        await suppression.prune(session, days=REPORTS_DAYS)
        for email_id in await session.scalars(select(OutboxEmail.id).where(_waiting())):
            if not await has_job(session, "mail.deliver", email_id=email_id):
                await defer(session, "mail.deliver", email_id=email_id)


def _waiting() -> ColumnElement[bool]:
    """Mails that are neither sent nor given up."""
    return and_(OutboxEmail.sent_at.is_(None), OutboxEmail.body != "")


async def _give_up(session: AsyncSession, email_ids: Sequence[int]) -> None:
    await session.execute(
        update(OutboxEmail)
        .where(OutboxEmail.id.in_(email_ids), _waiting())
        .values(body="", html=None)
        .execution_options(synchronize_session=False)
    )
    await session.execute(delete(OutboxAttachment).where(OutboxAttachment.email_id.in_(email_ids)))


async def unsent(connection: AsyncConnection) -> tuple[int, int]:
    """How many mails wait, and how many were given up."""
    row = await connection.execute(
        select(func.count().filter(_waiting()), func.count().filter(OutboxEmail.body == "")).where(
            OutboxEmail.sent_at.is_(None)
        )
    )
    waiting, given_up = row.one()
    return waiting, given_up


def sections(user_id: int, address: str) -> Sections:
    """Mails to somebody, for the export; what carried a secret link without its body."""
    body = case((OutboxEmail.secret, None), else_=OutboxEmail.body).label("body")
    mails = select(OutboxEmail.subject, body, OutboxEmail.created_at, OutboxEmail.sent_at)
    return {
        "mails": mails.where(_theirs(user_id, address)).order_by(OutboxEmail.id),
        **suppression.sections(address),
    }


async def recipient_of(session: AsyncSession, address: str, mail_id: int | None) -> str | None:
    """Whom a mail went to (`NOBODY` once that is erased), if it was this address; without a mail, whether any did."""
    same = func.lower(OutboxEmail.recipient) == address
    if mail_id is None:
        return await session.scalar(select(OutboxEmail.recipient).where(same).limit(1))
    return await session.scalar(
        select(OutboxEmail.recipient).where(
            OutboxEmail.id == mail_id, or_(same, OutboxEmail.recipient == NOBODY)
        )
    )


async def note_report(session: AsyncSession, mail_id: int, words: str) -> None:
    """Note what became of a mail after it was sent."""
    await session.execute(
        update(OutboxEmail)
        .where(OutboxEmail.id == mail_id, OutboxEmail.recipient != NOBODY)
        .values(last_error=words)
        .execution_options(synchronize_session=False)
    )


async def forget(session: AsyncSession, user_id: int, address: str) -> None:
    """Take everything out of the mails to a person, at whatever address; those that wait are not sent any more."""
    former = await session.scalars(select(OutboxEmail.recipient).where(_theirs(user_id, address)).distinct())
    for known in {address, *former}:
        await suppression.forget(session, known)
    await _blank(session, _theirs(user_id, address))


def _theirs(user_id: int, address: str) -> ColumnElement[bool]:
    """Mails to a person, also those that came to their address before they had an account."""
    nobodys = and_(OutboxEmail.user_id.is_(None), OutboxEmail.recipient == address)
    return or_(OutboxEmail.user_id == user_id, nobodys)


async def forget_one(session: AsyncSession, dedup_key: str) -> bool:
    """The same for one mail, once it is sent or given up; whether it was."""
    mine = OutboxEmail.dedup_key == dedup_key
    to = await session.scalar(select(OutboxEmail.recipient).where(mine))
    if to is not None:  # the farewell itself may have bounced
        await suppression.forget(session, to)
    if await session.scalar(select(OutboxEmail.id).where(mine, _waiting())) is not None:
        return False
    await _blank(session, mine)
    return True


async def _blank(session: AsyncSession, which: ColumnElement[bool]) -> None:
    # Locked by id: a delivery in progress ends first, and notes how it ended.
    keys = list(
        await session.scalars(select(OutboxEmail.id).where(which).order_by(OutboxEmail.id).with_for_update())
    )
    await session.execute(
        update(OutboxEmail)
        .where(OutboxEmail.id.in_(keys))
        .values(recipient=NOBODY, subject="", body="", html=None, last_error=None)
        .execution_options(synchronize_session=False)
    )
    await session.execute(delete(OutboxAttachment).where(OutboxAttachment.email_id.in_(keys)))


async def listed(
    session: AsyncSession, page: PageParams, *, to: str | None, since: datetime | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Mails newest first, without their bodies: to (the beginning of) an address, written since then."""
    status = case(
        (OutboxEmail.sent_at.is_not(None), "sent"), (OutboxEmail.body == "", "given_up"), else_="waiting"
    )
    query = select(OutboxEmail, status).options(
        load_only(
            OutboxEmail.recipient, OutboxEmail.subject, OutboxEmail.created_at, OutboxEmail.sent_at,
            OutboxEmail.tries, OutboxEmail.last_error,
        )
    )  # fmt: skip
    if to:
        query = query.where(OutboxEmail.recipient.startswith(to.strip().lower(), autoescape=True))
    if since:
        query = query.where(OutboxEmail.created_at >= since)
    rows, cursor = await newest_first(session, query, OutboxEmail.id, page)
    shown = [
        {
            "to": row.recipient,
            "subject": row.subject,
            "status": stands,
            "created_at": row.created_at,
            "sent_at": row.sent_at,
            "tries": row.tries,
            "last_error": row.last_error,
        }
        for row, stands in rows
    ]
    return shown, cursor


def _message(settings: Settings, email: OutboxEmail, attached: Sequence[OutboxAttachment]) -> EmailMessage:
    domain = parseaddr(settings.mail_from)[1].rpartition("@")[2] or "localhost"
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = email.recipient
    message["Subject"] = email.subject
    message["Date"] = format_datetime(email.created_at)
    message["Message-ID"] = f"<outbox-{email.id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(email.body, cte=_encoding(email.body))
    if email.html is not None:
        message.add_alternative(email.html, subtype="html", cte=_encoding(email.html))
    for each in attached:
        kind, _, subtype = each.content_type.partition("/")
        message.add_attachment(each.data, maintype=kind, subtype=subtype, filename=each.name)
    return message


_LONGEST_LINE = 998
"""Bytes of a line in a mail, without its end (RFC 5322 §2.1.1)."""


def _encoding(text: str) -> str | None:
    """As the words stand, so that a link can be copied out of the file; None leaves the choice to the library.

    Where the mail server takes no 8BITMIME, the library encodes on the way out.
    """
    if any(len(line) > _LONGEST_LINE for line in text.encode().splitlines()):
        return None
    return "7bit" if text.isascii() else "8bit"
