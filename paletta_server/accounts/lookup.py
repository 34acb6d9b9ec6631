"""People as other domains' operators name them and read of them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.models import User
from paletta_server.accounts.permissions import CUSTOMER
from paletta_server.accounts.service import find_user
from paletta_server.core.ids import resolve
from paletta_server.core.pagination import PageParams, newest_first


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom an operator may write to. `name` is what they call themselves, or their address."""

    id: int
    uid: str
    email: str
    name: str


async def find(session: AsyncSession, text: str) -> Contact:
    """The person of an e-mail address, or of an id or its beginning. Raises `NotFound` or `Conflict`."""
    if "@" in text:
        return _contact(await find_user(session, text))
    return _contact(
        await resolve(session, User, text, User.deleted_at.is_(None), kind="account", prefix="user")
    )


async def contacts(session: AsyncSession, user_ids: Collection[int]) -> dict[int, Contact]:
    """These people, by key; also those who are gone, whose clips may be here."""
    rows = await session.scalars(select(User).where(User.id.in_(user_ids)))
    return {user.id: _contact(user) for user in rows}


async def contributors(session: AsyncSession, page: PageParams) -> tuple[list[Contact], str | None]:
    """A page of those who may upload, newest first."""
    query = select(User).where(User.role != CUSTOMER, User.deleted_at.is_(None))
    rows, cursor = await newest_first(session, query, User.id, page)
    return [_contact(user) for (user,) in rows], cursor


def _contact(user: User) -> Contact:
    name = user.display_name or user.username or user.institution or user.email
    return Contact(user.id, user.uid, user.email, name)
