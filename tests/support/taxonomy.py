"""Clips that carry categories and tags, put straight into the tables."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_CLIP = text(
    "INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key, deleted_at)"
    " VALUES (:uid, (SELECT id FROM users WHERE uid = :owner), 'a clip', 'a.mp4', 1, :sha256, 'x', 'x',"
    " CASE WHEN :deleted THEN now() END) RETURNING id"
)
_LISTED = text(
    "UPDATE clips SET processing = 'ready', review = 'approved', technical = '{}', duration = 8, width = 1920,"
    " height = 1080, fps = 24, codec = 'h264', listed_at = now() WHERE id = :clip"
)
_CATEGORIES = text(
    "INSERT INTO clip_categories (clip_id, category_id, position)"
    " SELECT :clip, c.id, n.at - 1 FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS n(key, at)"
    " JOIN categories c ON c.slug = n.key"
)
_TAGS = text(
    "INSERT INTO clip_tags (clip_id, tag_id, position)"
    " SELECT :clip, t.id, n.at - 1 FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS n(key, at)"
    " JOIN tags t ON t.name = n.key"
)


async def make_clip(
    session: AsyncSession, owner_uid: str, *, categories: tuple[str, ...] = (), tags: tuple[str, ...] = (),
    deleted: bool = False, listed: bool = False,
) -> int:  # fmt: skip
    """A clip of the owner's with these (existing) categories and tags in this order; its key."""
    uid = "clip_" + secrets.token_hex(6)
    clip = await session.scalar(
        _CLIP, {"uid": uid, "owner": owner_uid, "sha256": secrets.token_hex(32), "deleted": deleted}
    )
    if listed:
        await session.execute(_LISTED, {"clip": clip})
    await session.execute(_CATEGORIES, {"clip": clip, "keys": list(categories)})
    await session.execute(_TAGS, {"clip": clip, "keys": list(tags)})
    assert isinstance(clip, int)
    return clip
