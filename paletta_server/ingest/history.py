"""Attempts at making clips, for operators to read."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import lookup as clips
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.ingest.models import IngestRun


async def listed(
    session: AsyncSession, page: PageParams, *, clip: str | None, since: datetime | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Attempts newest first, with how each ended: of one clip, begun since then. Raises `NotFound` for the clip."""
    query = select(IngestRun)
    if clip:
        query = query.where(IngestRun.clip_id == await clips.key_of(session, clip))
    if since:
        query = query.where(IngestRun.created_at >= since)
    rows, cursor = await newest_first(session, query, IngestRun.id, page)
    named = await clips.named(session, {run.clip_id for (run,) in rows})
    shown = [
        {
            "id": run.uid,
            "clip_id": named[run.clip_id][0],
            "title": named[run.clip_id][1],
            "attempt": run.attempt,
            "status": run.status,
            "worker": run.worker,
            "started_at": run.created_at,
            "finished_at": run.finished_at,
            "error": run.error,
            "figures": run.figures,
        }
        for (run,) in rows
    ]
    return shown, cursor
