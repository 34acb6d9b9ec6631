"""Mailed links to an order's download page: good for hours, for as many looks as one likes.

The secret is in the mail only; the table knows its SHA-256. A link ends with its time, or with the order's
entitlements (`withdrawn_at`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.accounts import tokens
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.settings import Settings
from paletta_server.delivery import mails, purchases
from paletta_server.delivery.models import DeliveryLink
from paletta_server.delivery.schemas import MailedLink
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order

QUIET = timedelta(minutes=2)
"""A link younger than this is not followed by another: a finger that presses twice, or a stranger who has an old
address, sends one mail."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A link that was followed, good `until` then. `state`: living, expired or withdrawn."""

    order: Order
    state: str
    until: datetime


async def make(session: AsyncSession, settings: Settings, order_id: int) -> tuple[DeliveryLink, str]:
    """A new link to an order's page, and its secret."""
    secret = tokens.mint(tokens.ORDER)
    link = DeliveryLink(
        order_id=order_id,
        digest=tokens.digest(secret),
        expires_at=func.now() + timedelta(hours=settings.delivery_link_hours),
    )
    session.add(link)
    await session.flush()
    return link, secret


def address(settings: Settings, secret: str) -> str:
    """The page's address."""
    return f"{settings.public_url}/orders/{secret}"


async def open_(session: AsyncSession, secret: str) -> Opened:
    """What a link leads to; changes nothing. Raises `NotFound` for what is no link of ours."""
    if not tokens.well_formed(secret, tokens.ORDER):
        raise NotFound("page", "of this link")
    row = (
        await session.execute(
            select(DeliveryLink, DeliveryLink.expires_at <= func.now()).where(
                DeliveryLink.digest == tokens.digest(secret)
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound("page", "of this link")
    link, over = row
    order = (await orders.by_key(session, [link.order_id]))[link.order_id]
    state = "withdrawn" if link.withdrawn_at is not None else "expired" if over else "living"
    return Opened(order, state, link.expires_at.astimezone(UTC))


async def mail_again(session: AsyncSession, settings: Settings, order: Order) -> MailedLink:
    """Mail the buyer a new link, unless one went out a moment ago.

    Raises `Conflict` (`order_not_paid`), and what bars the files if nothing of the order may be fetched.
    """
    if order.status not in orders.SETTLED:
        raise Conflict(
            f"order {order.number} is {order.status}: there are no files to fetch",
            code="order_not_paid",
            hint=f"`paletta orders pay {order.number}`" if order.status == "pending" else None,
        )
    await orders.lock(session, order.id)
    bought = await purchases.of_order(session, order.id)
    refused = [purchases.barred(one) for one in bought]
    if bought and all(refused):
        raise next(problem for problem in refused if problem is not None)
    to = await accounts.email_of(session, order.user_id)
    recent = await session.scalar(
        select(DeliveryLink.id).where(
            DeliveryLink.order_id == order.id, DeliveryLink.created_at > func.now() - QUIET
        )
    )
    if recent is None:
        link, secret = await make(session, settings, order.id)
        await mails.send(
            session,
            to,
            mails.link(settings, order, address(settings, secret)),
            f"order-link:{order.uid}:{link.id}",
        )
    return MailedLink(order_id=order.uid, email=to, valid_hours=settings.delivery_link_hours)
