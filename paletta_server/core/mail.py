"""E-mail through an outbox: written in the transaction that causes it, delivered by a job, at least once.

The Message-ID is derived from the row, so a mail server or a mailbox can recognise a repeated delivery.
"""

from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

import aiosmtplib
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Row
from paletta_server.core.errors import Invalid
from paletta_server.core.jobs import defer, job
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings


class OutboxEmail(Row, Base):
    """A mail to send. `dedup_key` makes asking twice the same as asking once."""

    __tablename__ = "outbox_emails"

    dedup_key: Mapped[str] = mapped_column(unique=True)
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    secret: Mapped[bool] = mapped_column(server_default="false")
    """The body carries a single-use link: it is blanked once the mail is on its way."""
    sent_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


async def send_mail(
    session: AsyncSession, *, to: str, subject: str, text: str, dedup_key: str, secret: bool = False
) -> None:
    """Send a plain-text mail when this transaction commits. Raises `Invalid` for line breaks in a header."""
    for header in (to, subject):
        if any(ord(character) < 32 or ord(character) == 127 for character in header):
            raise Invalid("a mail header must be one line", code="bad_mail_header")
    made = await session.scalar(
        insert(OutboxEmail)
        .values(dedup_key=dedup_key, recipient=to, subject=subject, body=text, secret=secret)
        .on_conflict_do_nothing()
        .returning(OutboxEmail.id)
    )
    if made is not None:
        await defer(session, "mail.deliver", email_id=made)


@job("mail.deliver", queue="mail")
async def deliver(runtime: Runtime, *, email_id: int) -> None:
    """Hand one mail to the mail server. Trouble there is retried by the queue, and noted on the row."""
    async with runtime.db.transaction() as session:
        email = await session.scalar(
            select(OutboxEmail)
            .where(OutboxEmail.id == email_id, OutboxEmail.sent_at.is_(None))
            .with_for_update()
        )
        if email is None:
            return
        message = _message(runtime.settings, email)
    try:
        await _hand_over(runtime.settings, message)
    except (aiosmtplib.SMTPException, OSError) as error:
        async with runtime.db.transaction() as session:
            row = await session.get_one(OutboxEmail, email_id)
            row.last_error = f"{type(error).__name__}: {error}"
        raise
    async with runtime.db.transaction() as session:
        row = await session.get_one(OutboxEmail, email_id)
        row.sent_at = await session.scalar(select(func.now()))
        row.last_error = None
        if row.secret:
            row.body = ""


def _message(settings: Settings, email: OutboxEmail) -> EmailMessage:
    domain = parseaddr(settings.mail_from)[1].rpartition("@")[2] or "localhost"
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = email.recipient
    message["Subject"] = email.subject
    message["Date"] = format_datetime(email.created_at)
    message["Message-ID"] = f"<outbox-{email.id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(email.body)
    return message


async def _hand_over(settings: Settings, message: EmailMessage) -> None:
    await aiosmtplib.send(
        message,
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        use_tls=settings.smtp_tls == "tls",
        start_tls=settings.smtp_tls == "starttls",
        timeout=20,
    )
