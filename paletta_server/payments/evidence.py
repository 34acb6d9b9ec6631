"""What a bank is told in a dispute: drafted from what the shop knows, and what operators put in its place.

Until it is sent the draft is made anew each time that somebody looks, so that it has the newest downloads; an
operator's words stay. Once an answer is under way, everything stands in the dispute's own row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Final, Literal

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.core import mail, money
from paletta_server.core.errors import Conflict, Invalid, NotFound
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.settings import Settings
from paletta_server.delivery import announcing, log
from paletta_server.orders import prices
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order, OrderItem
from paletta_server.payments import rounds
from paletta_server.payments.models import Dispute, DisputeFile

TEXTS: Final = {
    "customer_name": "the customer's name",
    "customer_email": "the customer's e-mail address",
    "customer_ip": "the address that the order came from",
    "product_description": "what was sold, and under which terms",
    "service_date": "when it was delivered",
    "access_log": "when and from where it was fetched",
    "refund_terms": "how the customer was told of the rules for refunds",
    "refund_refusal": "why the customer has no right to a refund",
    "explanation": "anything else",
}
"""Fields of text, with what belongs into them."""
FILES: Final = {
    "receipt": "the receipt",
    "service_documentation": "proof of what was delivered",
    "customer_communication": "letters between the customer and the shop",
    "other": "anything else",
}
"""Fields that hold a file."""
LONGEST = 20_000
"""Characters of a field: Stripe takes 150,000 in all, and a bank's clerk reads less."""
LARGEST, LARGEST_ALL = 4 * 1024 * 1024, 4_500_000
"""Bytes of a file, and of all of them together (Stripe's limit for a dispute)."""
_FETCHES, _MAILS = 200, 50
_KINDS: Final = {b"%PDF": "application/pdf", b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n": "image/png"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
RECEIPT = "receipt"

Source = Literal["draft", "operator", "sent"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    source: Source


async def find(session: AsyncSession, text: str, *, lock: bool = False) -> Dispute:
    """A dispute by (the beginning of) its id. Raises `NotFound`."""
    return await resolve(session, Dispute, text, kind="dispute", lock=lock)


async def texts(session: AsyncSession, dispute: Dispute) -> dict[str, Text]:
    """The evidence as it would be sent now, or as it was: fields without a text are left out."""
    if dispute.response != "none":
        ours = rounds.frozen(dispute)
        return {name: Text(text, "sent") for name, text in dispute.evidence.items() if ours}
    written: Mapping[str, str] = dispute.evidence
    drafted = {name: Text(text, "draft") for name, text in (await _draft(session, dispute)).items()}
    merged = drafted | {name: Text(text, "operator") for name, text in written.items()}
    return {name: merged[name] for name in TEXTS if name in merged and merged[name].text}


async def write(
    session: AsyncSession, text: str, changes: Mapping[str, str | None], *, version: int | None
) -> Dispute:
    """Put texts in the place of the draft's; None goes back to the draft, an empty one leaves the field out.

    Raises `NotFound`, `Invalid` (`unknown_field`, `bad_text`), `Conflict` (`answered`, `changed_since`).
    """
    dispute = await _open(session, text)
    if version is not None and version != dispute.evidence_version:
        raise Conflict(
            "somebody changed the evidence meanwhile",
            code="changed_since",
            hint=f"look at it again: `paletta admin disputes show {dispute.uid}`",
        )
    written = dict(dispute.evidence)
    for name, value in changes.items():
        if name not in TEXTS:
            raise _unknown(name, TEXTS)
        if value is None:
            written.pop(name, None)
        elif len(value) > LONGEST or _CONTROLS.search(value):
            raise Invalid(
                f"`{name}` must be text of at most {LONGEST:,} characters, without control characters",
                code="bad_text",
                pointer=f"/fields/{name}",
            )
        else:
            written[name] = value.strip()
    dispute.evidence = written
    dispute.evidence_version += 1
    return dispute


async def add_file(session: AsyncSession, text: str, field: str, *, data: bytes) -> Dispute:
    """Put a file into a field, in the place of the one that is there.

    Raises `NotFound`, `Invalid` (`unknown_field`, `bad_file`), `Conflict` (`answered`).
    """
    dispute = await _open(session, text)
    if field not in FILES:
        raise _unknown(field, FILES)
    content_type = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)
    if content_type is None:
        raise Invalid("banks take PDF, JPEG and PNG", code="bad_file", hint="save it as one of these")
    others = sum(len(one.data) for one in await rounds.files(session, dispute) if one.field != field)
    if len(data) > LARGEST or others + len(data) > LARGEST_ALL:
        raise Invalid(
            f"a file has at most {LARGEST:,} bytes, and all files of a dispute {LARGEST_ALL:,}",
            code="bad_file",
        )
    await _drop(session, dispute, field)
    session.add(_file(dispute, field, _file_name(field, content_type), content_type, data))
    dispute.evidence_version += 1
    await session.flush()
    return dispute


async def remove_file(session: AsyncSession, text: str, field: str) -> Dispute:
    """Take a file out again. Raises `NotFound`, also where there is none, and `Conflict` (`answered`)."""
    dispute = await _open(session, text)
    if not await _drop(session, dispute, field):
        raise NotFound("file", field[:40])
    dispute.evidence_version += 1
    return dispute


async def freeze(session: AsyncSession, settings: Settings, dispute: Dispute, *, with_files: bool) -> None:
    """Write down what is to be sent, whole, so that however often it is sent it is the same.

    Raises `Invalid` (`no_evidence`).
    """
    told = {name: one.text for name, one in (await texts(session, dispute)).items()}
    added = await rounds.files(session, dispute)
    if added and not with_files:
        raise Invalid("this gateway takes no files", code="no_files", hint="remove them, and say it in words")
    if not told and not added:
        raise Invalid("there is no evidence to send", code="no_evidence")
    if with_files and all(one.field != RECEIPT for one in added):
        order = (await orders.by_key(session, [dispute.order_id]))[dispute.order_id]
        paper = await announcing.receipt_of(session, settings, order, await orders.items(session, order.id))
        room = LARGEST_ALL - sum(len(one.data) for one in added)
        if len(paper.data) <= room:
            session.add(_file(dispute, RECEIPT, paper.name, paper.content_type, paper.data))
    dispute.written, dispute.evidence = dict(dispute.evidence), told
    await session.flush()


async def _open(session: AsyncSession, text: str) -> Dispute:
    dispute = await find(session, text, lock=True)
    if dispute.response != "none" or dispute.outcome is not None:
        state = "was answered" if dispute.response != "none" else f"is {dispute.outcome}"
        raise Conflict(f"dispute `{dispute.uid}` {state}: its evidence stays", code="answered")
    return dispute


async def _drop(session: AsyncSession, dispute: Dispute, field: str) -> bool:
    gone = await session.scalars(
        delete(DisputeFile)
        .where(
            DisputeFile.dispute_id == dispute.id,
            DisputeFile.round == dispute.round,
            DisputeFile.field == field,
        )
        .returning(DisputeFile.id)
    )
    return bool(gone.all())


def _file(dispute: Dispute, field: str, name: str, content_type: str, data: bytes) -> DisputeFile:
    return DisputeFile(
        dispute_id=dispute.id,
        round=dispute.round,
        field=field,
        name=name,
        content_type=content_type,
        data=data,
        key=new_uid("evidence"),
    )


def _file_name(field: str, content_type: str) -> str:
    """A name of our own making: what a person called it is nobody's business at the bank."""
    return f"{field}.{content_type.rpartition('/')[2]}"


def _unknown(name: str, known: Mapping[str, str]) -> Invalid:
    return Invalid(
        f"evidence has no field `{name[:40]}`", code="unknown_field", hint="there is " + ", ".join(known)
    )


# ---- the draft


async def _draft(session: AsyncSession, dispute: Dispute) -> dict[str, str]:
    order = (await orders.by_key(session, [dispute.order_id]))[dispute.order_id]
    items = await orders.items(session, order.id)
    email = (await directory.emails_of(session, {order.user_id})).get(order.user_id, "")
    paid = order.paid_at or order.created_at
    return {
        "customer_name": order.licensee,
        "customer_email": email,
        "product_description": (await _product(session, order, items))[:LONGEST],
        "service_date": f"{paid.astimezone(UTC):%Y-%m-%d}",
        "access_log": (await _access(session, order, items))[:LONGEST],
        "explanation": (await _explanation(session, order, email))[:LONGEST],
    }


async def _product(session: AsyncSession, order: Order, items: list[OrderItem]) -> str:
    book = await prices.as_sold(session, order.price_book_id)
    day = f"{order.created_at.astimezone(UTC):%Y-%m-%d}"
    lines = [f"Digital licences of stock video clips, order {order.number} of {day}, delivered by download:"]
    lines += [
        f"- {item.title} ({item.clip_uid}), {item.tier}, {item.licence} licence, "
        f"{money.text(item.amount + item.tax, order.currency)} {order.currency}"
        for item in items
    ]
    lines.append(f"Licensed to: {order.licensee}")
    for name in sorted({item.licence for item in items}):
        if name in book.licences:
            lines += ["", f"Terms of the {name} licence: {book.licences[name].terms}"]
    return "\n".join(lines)


async def _access(session: AsyncSession, order: Order, items: list[OrderItem]) -> str:
    names = {item.id: item.clip_uid for item in items}
    fetched = await log.fetches(session, order.id, most=_FETCHES)
    lines = [
        f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC  {names[one.item_id]} {one.tier}  "
        f"from {one.ip or 'an unknown address'}  {one.client or ''}".rstrip()
        for one in reversed(fetched)
    ]
    if not lines:
        return ""
    return "\n".join(["Downloads by the customer's account or by the link mailed to them:", *lines])


async def _explanation(session: AsyncSession, order: Order, email: str) -> str:
    sent = [one for one in await mail.about(session, order.user_id, order.uid, most=_MAILS) if one.sent_at]
    rights = (await log.rights(session, order.id)).values()
    count = sum(one.downloads for one in rights)
    lines = [
        f"The customer ordered with the account of {email}, and paid on the payment provider's own page.",
        f"The files were delivered: they were fetched {count} times."
        if count
        else "The files are ready to be downloaded with the account and by a mailed link.",
        "Certificates of the licences: " + ", ".join(one.certificate for one in rights),
    ]
    if order.refunded:
        back = money.text(order.refunded, order.currency)
        lines.append(f"{back} {order.currency} of the order were given back before.")
    if sent:
        lines.append(f"Mails to {email}:")
        lines += [
            f"- {one.sent_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC  {one.subject}"
            for one in sent
            if one.sent_at
        ]
    return "\n".join(lines)
