"""How much work a second of film is, for whoever watches the service."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from paletta_server.core.metrics import INGEST_RATIO, when_scraped

_RATIO = text(
    """
    SELECT sum(work.seconds) / nullif(sum(clips.duration), 0)
    FROM ingest_runs runs JOIN clips ON clips.id = runs.clip_id
    CROSS JOIN LATERAL (
      SELECT sum(value::float) AS seconds FROM jsonb_each_text(runs.figures)
      WHERE key IN ('download', 'probe', 'transcode', 'store', 'look')) AS work
    WHERE runs.status = 'done' AND runs.finished_at > now() - interval '2 hours'
    """
)


@when_scraped
async def ratio(connection: AsyncConnection) -> None:
    found = await connection.scalar(_RATIO)
    INGEST_RATIO.set(float("nan") if found is None else float(found))
