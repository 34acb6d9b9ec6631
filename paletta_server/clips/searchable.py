"""Listed clips as a search index and a shop window need them: what is searched, and what a result shows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.types import BIGINT

from paletta_server.accounts import service as accounts
from paletta_server.clips.models import Clip, Rendition
from paletta_server.clips.sale import TIERS
from paletta_server.clips.service import listed
from paletta_server.core.ids import resolve
from paletta_server.core.storage import ObjectStore
from paletta_server.taxonomy import service as taxonomy


@dataclass(frozen=True, slots=True)
class Searchable:
    """The facts of a listed clip that can be searched, filtered or sorted by. Seconds, pixels, frames a second."""

    id: int
    owner_id: int
    title: str
    description: str
    location: dict[str, Any] | None
    editorial: dict[str, Any] | None
    people: dict[str, Any] | None
    shot: dict[str, Any] | None
    shot_date: date | None
    batch: str | None
    price: dict[str, Any] | None
    duration: float | None
    width: int | None
    height: int | None
    fps: float | None
    listed_at: datetime | None
    tiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """What a list in the shop window shows of a clip."""

    id: int
    uid: str
    contributor: str
    category: str | None
    title: str
    duration: float | None
    width: int | None
    height: int | None
    fps: float | None
    editorial: bool
    price: dict[str, Any] | None
    tiers: tuple[str, ...]
    listed_at: datetime | None
    poster_url: str | None


_NAME = accounts.public_name(Clip.owner_id)
_CATEGORY = taxonomy.main_category(Clip.id)
_SERVED = Clip.technical["original_serves"].label("served")
_SOLD = aliased(Rendition)
_MADE = (
    select(func.array_agg(_SOLD.kind))
    .where(_SOLD.clip_id == Clip.id, _SOLD.kind.in_(TIERS))
    .correlate(Clip)
    .scalar_subquery()
)


_CARDS = (
    select(
        Clip.id, Clip.uid, Clip.title, _NAME.label("contributor"), _CATEGORY.label("category"),
        Clip.duration, Clip.width, Clip.height, Clip.fps,
        Clip.editorial, Clip.price, Clip.listed_at,
        Rendition.key, Rendition.content_type, _SERVED, _MADE.label("made"),
    )
    .outerjoin(
        Rendition,
        (Rendition.clip_id == Clip.id)
        & (Rendition.kind == "poster")
        & (Rendition.number == Clip.poster_number),
    )
    .where(Clip.id == any_(bindparam("clip_ids", type_=ARRAY(BIGINT))), listed())
)  # fmt: skip
"""Made once: to put it together costs half as much as to ask it."""


async def searchable(session: AsyncSession, clip_ids: Collection[int]) -> list[Searchable]:
    """Those of the clips that are listed, by key."""
    facts = [getattr(Clip, name) for name in Searchable.__slots__ if name != "tiers"]
    rows = await session.execute(
        select(*facts, _SERVED, _MADE.label("made")).where(_among(clip_ids), listed()).order_by(Clip.id)
    )
    names = Searchable.__slots__[:-1]
    return [
        Searchable(**{name: getattr(row, name) for name in names}, tiers=_tiers(row.served, row.made))
        for row in rows
    ]


async def listed_keys(session: AsyncSession, *, after: int, limit: int) -> list[int]:
    """The next keys of listed clips behind `after`, in order."""
    return list(
        await session.scalars(select(Clip.id).where(Clip.id > after, listed()).order_by(Clip.id).limit(limit))
    )


async def count_listed(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Clip).where(listed())) or 0


async def cards(session: AsyncSession, store: ObjectStore, clip_ids: Sequence[int]) -> list[Card]:
    """Those of the clips that are listed at this moment, in the order given. One statement."""
    if not clip_ids:
        return []
    rows = await session.execute(_CARDS, {"clip_ids": list(clip_ids)})
    found = {
        row.id: Card(
            id=row.id,
            uid=row.uid,
            contributor=row.contributor,
            category=row.category,
            title=row.title,
            duration=row.duration,
            width=row.width,
            height=row.height,
            fps=row.fps,
            editorial=row.editorial is not None,
            price=row.price,
            tiers=_tiers(row.served, row.made),
            listed_at=row.listed_at,
            poster_url=store.delivery.preview(row.key, content_type=row.content_type) if row.key else None,
        )
        for row in rows
    }
    return [found[clip_id] for clip_id in clip_ids if clip_id in found]


async def find_among(session: AsyncSession, text: str, clip_ids: Collection[int]) -> int:
    """The key of the clip that a public id, or its beginning, means among these. Raises `NotFound`."""
    found = await resolve(session, Clip, text, _among(clip_ids), kind="clip")
    return found.id


def _tiers(served: Collection[str] | None, made: Collection[str] | None) -> tuple[str, ...]:
    """What can be bought: the made renditions, what the original serves as well, and the original itself."""
    there = {*(made or ()), *(served or ()), "original"}
    return tuple(tier for tier in TIERS if tier in there)


def _among(clip_ids: Collection[int]) -> ColumnElement[bool]:
    """One array parameter, however many keys: the statement stays the same and its plan is reused."""
    return Clip.id == any_(bindparam(None, list(clip_ids), ARRAY(BIGINT)))
