"""SES's reports of what became of mails, which come by way of SNS and SQS: bounces and complaints.

Who may write to the queue is the queue's policy's to say (SNS alone, from our topic). Even so nothing here is taken on
trust: an address is suppressed only for a mail that we did send to it, and what is not understood is left to the queue,
which delivers it again and in the end puts it aside, where a person can read it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Literal

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.aws.queues import Message, Unhandleable
from paletta_server.core import mail, suppression
from paletta_server.core.mailers import TAG
from paletta_server.core.runtime import Runtime
from paletta_server.core.words import plain

log = logging.getLogger(__name__)

NEWS = {
    "Send", "Delivery", "Open", "Click", "DeliveryDelay", "Subscription", "Rendering Failure", "Reject",
}  # fmt: skip
"""What SES reports besides, if it is told to; nothing follows from it."""
GREETING = "Successfully validated SNS topic for Amazon SES event publishing."
"""What SES publishes once, as plain text, when it is given a topic."""
WITHDRAWN = "not-spam"
"""The kind of a complaint that takes one back."""


class NotUnderstood(Unhandleable):
    """No report of SES about a mail of ours."""


class _Recipient(BaseModel):
    emailAddress: str = Field(max_length=1000)  # noqa: N815 (SES's names, here and below)
    diagnosticCode: str | None = None  # noqa: N815


class _Bounce(BaseModel):
    bounceType: Literal["Permanent", "Transient", "Undetermined"]  # noqa: N815
    bounceSubType: str = ""  # noqa: N815
    bouncedRecipients: list[_Recipient] = Field(min_length=1, max_length=50)  # noqa: N815
    feedbackId: str = Field(min_length=1, max_length=200)  # noqa: N815


class _Complaint(BaseModel):
    complainedRecipients: list[_Recipient] = Field(min_length=1, max_length=50)  # noqa: N815
    complaintFeedbackType: str | None = None  # noqa: N815
    feedbackId: str = Field(min_length=1, max_length=200)  # noqa: N815


class _Mail(BaseModel):
    tags: dict[str, list[str]] = {}


class _Report(BaseModel):
    eventType: str | None = None  # noqa: N815
    notificationType: str | None = None  # noqa: N815
    """The same, from an identity that has no configuration set."""
    mail: _Mail
    bounce: _Bounce | None = None
    complaint: _Complaint | None = None


class _Notification(BaseModel):
    Type: Literal["Notification"]
    Message: str


@dataclass(frozen=True, slots=True)
class _Finding:
    report_id: str
    kind: Literal["bounce", "complaint", "transient"]
    detail: str
    addresses: tuple[str, ...]


async def handle(runtime: Runtime, message: Message) -> None:
    """Take one message in. Raises `NotUnderstood`, and what the database raises."""
    said = _said(message.body)
    if said.strip() == GREETING:
        return
    report = _read(said)
    kind = report.eventType or report.notificationType
    if kind in NEWS:
        return
    finding = _finding(kind, report)
    mail_id = _mail_id(report)
    async with runtime.db.transaction() as session:
        if not await suppression.is_new(session, finding.report_id):
            return
        for address in finding.addresses:
            await _take(session, finding, address, mail_id)


def _said(body: str) -> str:
    """What SES said, out of SNS' envelope."""
    if '"Message"' not in body:  # the topic delivers raw
        return body
    try:
        return _Notification.model_validate_json(body).Message
    except ValidationError as error:
        raise _not_understood(error) from None


def _read(said: str) -> _Report:
    try:
        return _Report.model_validate_json(said)
    except ValidationError as error:
        raise _not_understood(error) from None


def _not_understood(error: ValidationError) -> NotUnderstood:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return NotUnderstood(f"no report of SES: {where}: {first['msg']}")


def _finding(kind: str | None, report: _Report) -> _Finding:
    if kind == "Bounce" and (bounce := report.bounce) is not None:
        said = next((one.diagnosticCode for one in bounce.bouncedRecipients if one.diagnosticCode), None)
        return _Finding(
            plain(bounce.feedbackId),
            "bounce" if bounce.bounceType == "Permanent" else "transient",
            plain(said or f"{bounce.bounceType} {bounce.bounceSubType}".strip()),
            tuple(plain(one.emailAddress) for one in bounce.bouncedRecipients),
        )
    if kind == "Complaint" and (complaint := report.complaint) is not None:
        return _Finding(
            plain(complaint.feedbackId),
            "complaint",
            plain(complaint.complaintFeedbackType or "complaint"),
            tuple(plain(one.emailAddress) for one in complaint.complainedRecipients),
        )
    raise NotUnderstood(f"a report of kind {str(kind)[:40]!r}")


def _mail_id(report: _Report) -> int | None:
    value = next(iter(report.mail.tags.get(TAG, [])), "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


async def _take(session: AsyncSession, finding: _Finding, written: str, mail_id: int | None) -> None:
    address = parseaddr(written)[1].lower()
    ours = await mail.recipient_of(session, address, mail_id)
    if ours == mail.NOBODY:  # erased since
        return
    if ours is None:
        raise NotUnderstood("about an address that we sent nothing to")
    if finding.kind == "transient":
        await suppression.count_transient(session, address)
    elif finding.detail != WITHDRAWN:
        await suppression.suppress(session, address, finding.kind, finding.detail)
        log.warning("an address gets no mail any more", extra={"reason": finding.kind, "mail_id": mail_id})
    if mail_id is not None:
        words = "complaint" if finding.kind == "complaint" else f"bounced: {finding.detail}"
        await mail.note_report(session, mail_id, words)
