"""The completion handler: from the queue's messages to what they mean, each event once.

Any number of handlers may run. An event is written into the inbox and acted upon in one transaction, so that a handler
which dies leaves it either undone, and the queue delivers it again, or done, and the inbox knows it.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import delete, func, text, update
from sqlalchemy.dialects.postgresql import insert

from paletta_server.aws.queues import Message, Queue, consume
from paletta_server.core.database import Database
from paletta_server.core.runtime import Runtime
from paletta_server.ingest.mediaconvert import events, jobs
from paletta_server.ingest.models import TranscodeEvent

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Loops in one process. An event costs a few statements; what takes long is waiting for the queue."""
KEPT = text("interval '30 days'")


async def handle(runtime: Runtime, body: str) -> str:
    """Take in one message; what came of it. Raises `Malformed`, and errors of the database: then it comes again, and
    in the end lies in the queue's dead letters."""
    event = events.parse(body)
    async with runtime.db.transaction() as session:
        row_id = await session.scalar(
            insert(TranscodeEvent)
            .values(
                external_id=event.id,
                job_id=event.news.job_id,
                status=event.news.status,
                payload=event.payload,
            )
            .on_conflict_do_nothing(index_elements=["external_id"])
            .returning(TranscodeEvent.id)
        )
        if row_id is None:
            return "repeated"
        outcome = await jobs.hear(session, runtime.settings, event.news)
        await session.execute(
            update(TranscodeEvent).where(TranscodeEvent.id == row_id).values(outcome=outcome)
        )
    if outcome != "handled":
        log.info("event kept", extra={"job": event.news.job_id, "outcome": outcome})
    return outcome


async def serve(runtime: Runtime, url: str, *, stop: asyncio.Event, loops: int = AT_ONCE) -> None:
    """Handle the queue's messages until `stop` is set; those in hand are finished first."""

    async def one(message: Message) -> None:
        await handle(runtime, message.body)

    queues: Sequence[Queue] = [Queue(runtime.settings, url) for _ in range(loops)]
    await asyncio.gather(*(consume(queue, one, ready=runtime.db.answers, stop=stop) for queue in queues))


async def prune(db: Database) -> None:
    """Forget what was heard long ago."""
    async with db.transaction() as session:
        await session.execute(delete(TranscodeEvent).where(TranscodeEvent.created_at < func.now() - KEPT))
