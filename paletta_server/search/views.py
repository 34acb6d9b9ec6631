"""How often clips are looked at: counted in memory, written in batches, at most once per caller and hour."""

import asyncio
import hashlib
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from sqlalchemy import any_, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import BIGINT

from paletta_server.core.database import Database
from paletta_server.search.background import shrugged, yielding
from paletta_server.search.models import ClipView, ClipViewer

RECENT_DAYS = 30
"""What is popular was looked at in these days."""
FLUSH_SECONDS = 2.0
MOST_WAITING = 10_000
"""Views kept while the database is away; more are not worth the memory."""

_WRITE = text(
    """
    WITH came AS (
      INSERT INTO clip_viewers (clip_id, viewer, hour)
        SELECT * FROM unnest(CAST(:clips AS bigint[]), CAST(:viewers AS bytea[]), CAST(:hours AS timestamptz[]))
        ON CONFLICT DO NOTHING RETURNING clip_id, hour)
    INSERT INTO clip_views (clip_id, day, views)
      SELECT came.clip_id, CAST(came.hour AT TIME ZONE 'UTC' AS date), count(*) FROM came
        JOIN clips ON clips.id = came.clip_id GROUP BY 1, 2 ORDER BY 1, 2
      ON CONFLICT (clip_id, day) DO UPDATE SET views = clip_views.views + excluded.views
    """
)


def viewer_of(user_id: int | None, address: str | None) -> bytes:
    """Who looks: the account, or a stranger's network address. Kept as a digest, for some hours."""
    named = f"user:{user_id}" if user_id is not None else f"address:{address}"
    return hashlib.sha256(named.encode()).digest()[:16]


class ViewCounter:
    """Views of this process on their way into the database. A crash loses those of the last seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[tuple[int, bytes, datetime]] = set()

    def note(self, clip_id: int, viewer: bytes, *, now: datetime | None = None) -> None:
        hour = (now or datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
        if len(self._waiting) < MOST_WAITING:
            self._waiting.add((clip_id, viewer, hour))

    async def flush(self) -> None:
        """Write what was noted. What cannot be written now is kept."""
        batch, self._waiting = self._waiting, set()
        if not batch:
            return
        rows = sorted(batch)  # one order for all nodes, so that none waits for another crosswise
        try:
            async with yielding(self._database) as session:
                await session.execute(
                    _WRITE,
                    {
                        "clips": [clip for clip, _, _ in rows],
                        "viewers": [viewer for _, viewer, _ in rows],
                        "hours": [hour for _, _, hour in rows],
                    },
                )
        except BaseException:
            self._waiting |= batch
            raise

    async def run(self) -> None:
        """Write every few seconds until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                with shrugged("writing views failed; trying again"):
                    await self.flush()
        finally:
            with shrugged("the last views were lost"):
                await self.flush()


async def recent(session: AsyncSession, clip_ids: Collection[int]) -> dict[int, int]:
    """How often each clip was looked at lately; clips that nobody looked at are left out."""
    if not clip_ids:
        return {}
    rows = await session.execute(
        select(ClipView.clip_id, func.sum(ClipView.views))
        .where(
            ClipView.clip_id == any_(bindparam(None, list(clip_ids), ARRAY(BIGINT))),
            ClipView.day > _days_ago(RECENT_DAYS),
        )
        .group_by(ClipView.clip_id)
    )
    return {clip_id: int(views) for clip_id, views in rows}


async def total(session: AsyncSession, clip_id: int) -> int:
    """How often a clip was looked at in all."""
    return (await session.scalar(select(func.sum(ClipView.views)).where(ClipView.clip_id == clip_id))) or 0


async def note_popularity(session: AsyncSession) -> None:
    """Let the index take up the clips whose number of recent views may have changed since yesterday."""
    await session.execute(
        text(
            "INSERT INTO clip_changes (clip_id) SELECT DISTINCT clip_id FROM clip_views"
            " WHERE day >= :today OR day BETWEEN :oldest AND :old"
        ),
        {
            "today": _days_ago(1),
            "oldest": _days_ago(RECENT_DAYS + 1),
            "old": _days_ago(RECENT_DAYS),
        },
    )


async def forget_viewers(session: AsyncSession) -> None:
    """Forget who looked: only the current hour is needed, and a node's clock may be behind."""
    await session.execute(delete(ClipViewer).where(ClipViewer.hour < func.now() - timedelta(hours=3)))


def _days_ago(days: int) -> object:
    return (datetime.now(UTC) - timedelta(days=days)).date()
