"""People's addresses, for what operators look at."""

from collections.abc import Collection

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.models import User


async def emails_of(session: AsyncSession, user_ids: Collection[int]) -> dict[int, str]:
    """Addresses by key."""
    rows = await session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    return dict(rows.all())


def with_email(text: str) -> Select[int]:
    """Keys of the people whose address contains `text`, as a part of another query."""
    return select(User.id).where(User.email.contains(text.strip().lower(), autoescape=True))
