"""What makes visitors' digests: a secret of each day, the same for all processes, forgotten soon after."""

import hashlib
import secrets
from collections.abc import Collection
from datetime import date

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.analytics.models import Salt

KEPT_DAYS = 2
"""Events of yesterday may be written today still, when the database was away."""


async def of(session: AsyncSession, days: Collection[date]) -> dict[date, bytes]:
    """The salts of days (UTC), made where there is none."""
    ordered = sorted(days)
    made = [{"day": day, "salt": secrets.token_bytes(32)} for day in ordered]
    await session.execute(insert(Salt).on_conflict_do_nothing(), made)
    rows = await session.execute(select(Salt.day, Salt.salt).where(Salt.day.in_(ordered)))
    return {day: salt for day, salt in rows}  # noqa: C416 (typed as tuples)


def visitor(identity: bytes, salt: bytes) -> int:
    """The digest of a visitor on the salt's day, as a bigint. Of a million a day, two would fall together once in
    37 million days."""
    digest = hashlib.blake2b(identity, digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big", signed=True)
