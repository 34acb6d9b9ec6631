"""Previews of clips that were taken down, where CloudFront gives them to whoever has their address.

They stay in the store, since a take-down may be lifted, but they are labelled, and the bucket's policy
(`aws/template/data.py`) keeps what is labelled so from CloudFront. Straight from the store an address ends by itself.
"""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips.models import Clip, Rendition
from paletta_server.core.delivering import LABEL, WITHHELD, is_public
from paletta_server.core.jobs import INSISTENT, defer, job
from paletta_server.core.runtime import Runtime


async def follow(session: AsyncSession, clip_id: int) -> None:
    """Let a worker bring the labels up to date with whether the clip is taken down."""
    await defer(session, "clips.previews", clip_id=clip_id)


@job("clips.previews", queue="default", retries=INSISTENT)
async def label(runtime: Runtime, *, clip_id: int) -> None:
    """Label the clip's previews, or take the label away. Looks again afterwards: two of these may overtake one another,
    and the last one to write is the last one to look."""
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
