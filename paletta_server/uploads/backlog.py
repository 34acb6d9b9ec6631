"""Back-pressure: how many films may wait for a worker before new ones have to.

Bytes that lie in the store unseen cost money, and a contributor who waits for two days is served worse than one who is
told so at once. Only what is new waits: files that were registered before go on to their end.

What is on its way is not counted. Contributors' lines are slow beside our workers: a folder that takes a day to arrive
would keep everybody out while workers stand idle, and so would one that never does. It comes on top: `uploads_open_max`
files of an account at most.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import column, func, select, table, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service as clips
from paletta_server.core.errors import IngestBusy
from paletta_server.core.settings import Settings
from paletta_server.uploads.models import Upload

_RUNS = table("ingest_runs", column("id"), column("upload_id"), column("status"))
_ORDERS = table("transcode_jobs", column("run_id"), column("status"))
"""Ingest's own; it knows of uploads, and not the other way round."""
RETRY_SECONDS = 20
"""A worker needs about as long for a film, and everybody who waits asks this often."""


async def make_room(
    session: AsyncSession, settings: Settings, owner_id: int, sha256s: Collection[str], *, partly: bool
) -> Collection[str]:
    """Which of these files have to wait: none, or those that are new. Raises `IngestBusy` instead, unless the caller
    can do with a part of them.

    The limit is looked at before each call of at most a hundred files and not locked: two at once may both pass, so it
    is exceeded by as many calls as are under way.
    """
    limits = {"films": settings.ingest_queue_max, "bytes": settings.ingest_queue_max_bytes}
    if not sha256s or not any(limits.values()):
        return ()
    standing = await clips.standing(session, owner_id, list(sha256s))
    new = {sha256 for sha256 in sha256s if sha256 not in standing}
    if not new:
        return ()
    waiting = await queued(session)
    if not any(limit is not None and waiting[name] >= limit for name, limit in limits.items()):
        return ()
    if partly:
        return new
    raise IngestBusy(
        f"{_films(waiting['films'])} to be looked at; no new ones are taken until some of them are done",
        retry_after=RETRY_SECONDS,
        hint="what has arrived is safe; run the same command again later",
        waiting=waiting,
    )


def _films(count: int) -> str:
    return "1 film waits" if count == 1 else f"{count:,} films wait"


async def queued(session: AsyncSession) -> Mapping[str, int]:
    """How many films wait for a worker or a place at MediaConvert, and what they weigh in bytes."""
    ordered = (
        select(_RUNS.c.upload_id)
        .join(_ORDERS, _ORDERS.c.run_id == _RUNS.c.id)
        .where(_ORDERS.c.status == "waiting", _RUNS.c.status == "transcoding")
    )
    # Two parts, each with an index of its own: for an OR of them all uploads there ever were would be read.
    waiting = union_all(
        select(Upload.size).where(Upload.stage == "stored"),
        select(Upload.size).where(Upload.id.in_(ordered), Upload.stage != "stored"),
    ).subquery()
    query = select(func.count(), func.coalesce(func.sum(waiting.c.size), 0)).select_from(waiting)
    films, weight = (await session.execute(query)).one()
    return {"films": int(films), "bytes": int(weight)}
