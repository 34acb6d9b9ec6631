"""Clips as the shop sees them: who sells them, at what price of their own, and the files behind each tier."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.clips.models import Clip, Rendition
from paletta_server.clips.service import listed

TIERS = ("hd", "uhd4k", "original")
"""From the least to the most."""
_MIME = {"mov": "video/quicktime", "mp4": "video/mp4", "m4v": "video/x-m4v", "mxf": "application/mxf"}


@dataclass(frozen=True, slots=True)
class SaleFile:
    """A stored file that a tier stands for. `size` in bytes; `extension` with its dot."""

    tier: str
    key: str
    size: int
    sha256: str
    content_type: str
    extension: str
    width: int | None
    height: int | None
    codec: str | None


@dataclass(frozen=True, slots=True)
class ForSale:
    """A clip in the shop, or one that was (`listed` tells). `price` is the contributor's own, as in a manifest."""

    id: int
    uid: str
    title: str
    owner_id: int
    contributor: str
    listed: bool
    exclusive: bool
    editorial: bool
    price: dict[str, Any] | None
    files: tuple[SaleFile, ...]
    """One per tier that there is, the least first."""

    @property
    def tiers(self) -> tuple[str, ...]:
        return tuple(file.tier for file in self.files)


async def for_sale(
    session: AsyncSession, clip_ids: Collection[int], *, lock: bool = False
) -> dict[int, ForSale]:
    """What the shop needs to know of clips, by key.

    With `lock` they cannot be edited, withdrawn or deleted until this transaction ends.
    """
    query = select(Clip, listed()).where(Clip.id.in_(clip_ids)).order_by(Clip.id)
    if lock:
        query = query.with_for_update(of=Clip, read=True).execution_options(populate_existing=True)
    rows = (await session.execute(query)).all()
    names = await accounts.public_names(session, {clip.owner_id for clip, _ in rows})
    made: dict[int, list[Rendition]] = {}
    for rendition in await session.scalars(
        select(Rendition).where(Rendition.clip_id.in_(clip_ids), Rendition.kind.in_(TIERS))
    ):
        made.setdefault(rendition.clip_id, []).append(rendition)
    return {
        clip.id: ForSale(
            id=clip.id,
            uid=clip.uid,
            title=clip.title,
            owner_id=clip.owner_id,
            contributor=names[clip.owner_id],
            listed=in_shop,
            exclusive=clip.exclusive,
            editorial=clip.editorial is not None,
            price=clip.price,
            files=_files(clip, made.get(clip.id, ())),
        )
        for clip, in_shop in rows
    }


def _files(clip: Clip, renditions: Collection[Rendition]) -> tuple[SaleFile, ...]:
    if clip.processing != "ready":
        return ()
    technical = clip.technical or {}
    container = str(technical.get("container") or "mov")
    files = [
        SaleFile(
            row.kind,
            row.key,
            row.size,
            row.sha256,
            row.content_type,
            ".mp4",
            row.width,
            row.height,
            row.codec,
        )
        for row in renditions
    ]
    files += [
        SaleFile(
            tier,
            clip.original_key,
            clip.size,
            clip.sha256,
            _MIME.get(container, "application/octet-stream"),
            f".{container}" if container in _MIME else ".bin",
            clip.width,
            clip.height,
            clip.codec,
        )
        for tier in (*technical.get("original_serves", ()), "original")
    ]
    return tuple(sorted(files, key=lambda file: TIERS.index(file.tier)))
