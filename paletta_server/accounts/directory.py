"""People as other domains' operators name and see them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.models import User
from paletta_server.accounts.permissions import CUSTOMER
from paletta_server.accounts.service import find_user
from paletta_server.core.ids import resolve
from paletta_server.core.pagination import PageParams, newest_first


@dataclass(frozen=True, slots=True)
class Person:
    """An account. `deleted`: it is closed, and may be opened again; `erased`: its person is gone for good, and its
    address is not theirs any more."""

    id: int
    uid: str
    email: str
    name: str | None
    role: str
    active: bool
    deleted: bool
    erased: bool

    @property
    def called(self) -> str:
        """What they call themselves, or their address."""
        return self.name or self.email


async def person(session: AsyncSession, text: str) -> Person:
    """Somebody by e-mail address or by (the beginning of) their id. Raises `NotFound`, `Conflict` (`ambiguous_id`)."""
    if "@" in text:
        return _person(await find_user(session, text))
    return _person(
        await resolve(session, User, text, User.deleted_at.is_(None), kind="account", prefix="user")
    )


async def people(session: AsyncSession, user_ids: Collection[int]) -> dict[int, Person]:
    """People by key, also those that are gone."""
    found = await session.scalars(select(User).where(User.id.in_(user_ids)))
    return {user.id: _person(user) for user in found}


async def people_by_uid(session: AsyncSession, uids: Collection[str]) -> dict[str, Person]:
    """People by public id, also those that are gone."""
    found = await session.scalars(select(User).where(User.uid.in_(uids)))
    return {user.uid: _person(user) for user in found}


async def contributors(session: AsyncSession, page: PageParams) -> tuple[list[Person], str | None]:
    """A page of those who may upload, newest first."""
    query = select(User).where(User.role != CUSTOMER, User.deleted_at.is_(None))
    rows, cursor = await newest_first(session, query, User.id, page)
    return [_person(user) for (user,) in rows], cursor


async def emails_of(session: AsyncSession, user_ids: Collection[int]) -> dict[int, str]:
    """Addresses by key."""
    rows = await session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    return dict(rows.all())


def with_email(text: str) -> Select[int]:
    """Keys of the people whose address contains `text`, as a part of another query."""
    return select(User.id).where(User.email.contains(text.strip().lower(), autoescape=True))


def _person(user: User) -> Person:
    return Person(
        id=user.id,
        uid=user.uid,
        email=user.email,
        name=user.display_name or user.username or user.institution,
        role=user.role,
        active=user.status == "active",
        deleted=user.deleted_at is not None,
        erased=user.erased_at is not None,
    )
