"""What the database says of the object store: every object that it refers to, by key.

An object is *needed* when something of the service is broken without it. Others may be there or not: an upload that
is still under way, or one whose ingest was given up and may be tried again.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, collate, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service as clips
from paletta_server.orders import service as orders
from paletta_server.uploads import service as uploads

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Expected:
    """An object that the database refers to. `kinds`: original, rendition, sold; CRC64NVME where it is known."""

    key: str
    size: int
    sha256: str
    crc64nvme: str | None
    needed: bool
    kinds: tuple[str, ...]
    clip_id: int


def _query(*, among: Collection[str] | None = None) -> Select[*tuple[Any, ...]]:
    # Columns by position, whatever each domain calls its own: those of `Expected`, of one kind each.
    parts = [
        clips.stored_originals(),
        clips.stored_renditions(),
        orders.stored_files(),
        uploads.stored_objects(),
    ]
    if among is not None:
        parts = [part.where(part.selected_columns[0].in_(among)) for part in parts]
    rows = union_all(*parts).subquery()
    key, size, sha256, crc64nvme, needed, kind, clip_id = rows.c
    return (
        select(
            key,
            func.max(size),
            func.max(sha256),
            func.max(crc64nvme),
            func.bool_or(needed),
            func.array_agg(kind.distinct()),
            func.min(clip_id),
        )
        .group_by(key)
        .order_by(collate(key, "C"))  # as the store orders keys: byte by byte
    )


async def every(session: AsyncSession) -> AsyncIterator[Expected]:
    """Every object, by key as the store orders them, from a cursor: memory does not grow with their number.

    The transaction may last for hours, so its limits are lifted.
    """
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    rows = await session.stream(_query().execution_options(yield_per=PAGE))
    async for row in rows:
        yield _expected(row)


async def among(session: AsyncSession, keys: Collection[str]) -> dict[str, Expected]:
    """Of these keys, the ones that are referred to now."""
    rows = await session.execute(_query(among=list(keys)))
    return {row[0]: _expected(row) for row in rows}


async def count(session: AsyncSession) -> tuple[int, int]:
    """How many objects are referred to, and their bytes. It may take its time, so the limit on that is lifted."""
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    found = _query().order_by(None).subquery()
    columns = list(found.c)
    row = await session.execute(
        select(func.count(), func.coalesce(func.sum(columns[1]), 0)).select_from(found)
    )
    objects, size = row.one()
    return objects, int(size)


def _expected(row: Any) -> Expected:
    key, size, sha256, crc64nvme, needed, kinds, clip_id = row
    return Expected(key, size, sha256, crc64nvme, needed, tuple(sorted(kinds)), clip_id)
