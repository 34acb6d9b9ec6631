"""Previews of clips that were taken down, where CloudFront gives them to whoever has their address.

They stay in the store, since a take-down may be lifted, but they are labelled, and the bucket's policy
(`aws/template/data.py`) keeps what is labelled so from CloudFront. Straight from the store an address ends by itself.
"""

import logging

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips.models import Clip, Rendition
from paletta_server.core.delivering import LABEL, WITHHELD, is_public
from paletta_server.core.jobs import INSISTENT, defer, job
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import StoreError

log = logging.getLogger(__name__)

PAGE = 1000
NO_TAGS = {"NotImplemented", "MethodNotAllowed", "501", "405"}


async def follow(session: AsyncSession, clip_id: int) -> None:
    """Let a worker bring the labels up to date with whether the clip is taken down."""
    await defer(session, "clips.previews", clip_id=clip_id)


@job("clips.previews", queue="default", retries=INSISTENT)
async def label(runtime: Runtime, *, clip_id: int) -> None:
    """Label the clip's previews, or take the label away."""
    try:
        await _label(runtime, clip_id)
    except StoreError as error:
        if error.code not in NO_TAGS:
            raise
        log.info("the store has no tags, and CloudFront reads from none such", extra={"error": str(error)})


@job("clips.previews_again", cron="17 4 * * *")
async def label_again(runtime: Runtime) -> None:
    """Once a day for every clip that is taken down: objects come back from a backup without their labels, and clips
    were taken down before CloudFront was there."""
    after = 0
    while page := await _taken_down(runtime, after):
        for clip_id in page:
            try:
                await _label(runtime, clip_id)
            except StoreError as error:  # no right to, or no tags at all: the next turn asks again
                log.warning("previews cannot be labelled", extra={"clip": clip_id, "error": str(error)})
                return
        after = page[-1]


async def _taken_down(runtime: Runtime, after: int) -> list[int]:
    async with runtime.db.transaction() as session:
        query = select(Clip.id).where(Clip.review == "taken_down", Clip.id > after)
        return list(await session.scalars(query.order_by(Clip.id).limit(PAGE)))


async def _label(runtime: Runtime, clip_id: int) -> None:
    """Looks again afterwards: two of these may overtake one another, and the last one to write is the last one to
    look."""
    done: tuple[str | None, set[str]] = (None, set())
    while (wanted := await _wanted(runtime, clip_id)) != done:
        value, keys = wanted
        for key in sorted(keys):
            await runtime.store.label(key, LABEL, value)
        done = wanted


async def _wanted(runtime: Runtime, clip_id: int) -> tuple[str | None, set[str]]:
    """The label's value, and the objects that are to have it."""
    async with runtime.db.transaction() as session:
        review = await session.scalar(select(Clip.review).where(Clip.id == clip_id))
        keys = await session.scalars(select(Rendition.key).where(Rendition.clip_id == clip_id))
        return (WITHHELD if review == "taken_down" else None), {key for key in keys if is_public(key)}
