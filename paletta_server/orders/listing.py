"""Everybody's orders, for operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.orders.models import Order


@dataclass(frozen=True, slots=True)
class Filter:
    """Which orders. Times are of the ordering; `until` is exclusive."""

    status: str | None = None
    email: str | None = None
    """A part of the customer's address."""
    gateway: str | None = None
    number: str | None = None
    """How the number begins."""
    since: datetime | None = None
    until: datetime | None = None
    unpaid: bool = False
    """No money came, whether it is still waited for or not."""
    among: Select[int] | None = None
    """Keys that another domain chose."""

    def conditions(self) -> list[ColumnElement[bool]]:
        wanted: list[ColumnElement[bool] | None] = [
            Order.status == self.status if self.status else None,
            Order.user_id.in_(directory.with_email(self.email)) if self.email else None,
            Order.gateway == self.gateway if self.gateway else None,
            Order.number.startswith(self.number.upper(), autoescape=True) if self.number else None,
            Order.created_at >= self.since if self.since else None,
            Order.created_at < self.until if self.until else None,
            Order.paid_at.is_(None) if self.unpaid else None,
            Order.id.in_(self.among) if self.among is not None else None,
        ]
        return [condition for condition in wanted if condition is not None]


async def listed(
    session: AsyncSession, wanted: Filter, page: PageParams
) -> tuple[Sequence[Order], str | None]:
    """A page of the orders that fit, newest first."""
    query = select(Order).where(*wanted.conditions())
    rows, cursor = await newest_first(session, query, Order.id, page)
    return [order for (order,) in rows], cursor
