"""Finding the clips that a film looks like, among all that were ever made here.

A frame's candidates are the rows that share one of its hash's four bands; a clip of which one frame is near enough is
then compared as a whole. Copies that were encoded anew, scaled, brightened, framed with bars or trimmed at the start
differ in 0 to 10 bits in at least two frames, frames of different films in 16 and more (measured on real footage and
on test pictures; a test repeats it).
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import service as clips
from paletta_server.clips.service import Told
from paletta_server.likeness.frames import BITS, VERSION, Frame, spread
from paletta_server.likeness.models import FrameHash, HashedClip, Likeness

NEAR = 10
"""Bits in which two frames may differ that are one picture."""
LEAST_FRAMES = 2
"""Like frames that make a like clip: one alone may be a title card. A still film keeps one frame in all."""
MOST = 10
"""Clips that are noted as looking like one."""
_MOST_CANDIDATES = 200

_BANDS, _BAND_BITS = 4, 16
_CANDIDATES = text(
    """
    SELECT near.clip_id
    FROM unnest(CAST(:hashes AS bigint[]), CAST(:band_0 AS smallint[]), CAST(:band_1 AS smallint[]),
                CAST(:band_2 AS smallint[]), CAST(:band_3 AS smallint[])) AS frame (hash, b0, b1, b2, b3)
    CROSS JOIN LATERAL (
      SELECT clip_id, hash FROM frame_hashes WHERE band_0 = b0
      UNION ALL SELECT clip_id, hash FROM frame_hashes WHERE band_1 = b1
      UNION ALL SELECT clip_id, hash FROM frame_hashes WHERE band_2 = b2
      UNION ALL SELECT clip_id, hash FROM frame_hashes WHERE band_3 = b3
    ) AS near
    WHERE bit_count((near.hash # frame.hash)::bit(64)) <= :near AND near.clip_id <> :clip
    GROUP BY near.clip_id ORDER BY count(*) DESC, near.clip_id LIMIT :most
    """
)


@dataclass(frozen=True, slots=True)
class Alike:
    """An earlier clip that one looks like: `frames` of the `kept` ones of it have a like, the nearest `distance` bits
    away."""

    clip_id: int
    clip: Told
    frames: int
    kept: int
    distance: int


async def remember(session: AsyncSession, clip_id: int, frames: Sequence[Frame]) -> None:
    """Keep some of a clip's frames, in the place of what was kept of it before.

    To be committed before `look` is called: then of two like clips that are made at the same moment at least one
    sees the other.
    """
    # First, since its lock makes two attempts at one clip take turns.
    noted = upsert(HashedClip).values(clip_id=clip_id, version=VERSION)
    await session.execute(noted.on_conflict_do_update(index_elements=["clip_id"], set_={"version": VERSION}))
    await session.execute(delete(FrameHash).where(FrameHash.clip_id == clip_id))
    if kept := spread(frames):
        rows = [
            {
                "clip_id": clip_id,
                "number": number,
                "hash": _signed(frame.hash),
                **{f"band_{band}": value for band, value in enumerate(_bands(frame.hash))},
            }
            for number, frame in enumerate(kept, start=1)
        ]
        await session.execute(insert(FrameHash), rows)


async def look(session: AsyncSession, clip_id: int, frames: Sequence[Frame]) -> list[Alike]:
    """The other clips that these frames of a clip look like, the likest first, at most `MOST` of them.

    Also deleted ones and ones that were taken down; not those that could not be made.
    """
    hashes = sorted({frame.hash for frame in frames})
    if not hashes:
        return []
    found = await _compared(session, await candidates(session, clip_id, hashes), hashes)
    told = await clips.told_apart(session, found)
    alike = [Alike(other, told[other], *figures) for other, figures in found.items() if other in told]
    return sorted(alike, key=lambda one: (-one.frames / one.kept, one.distance, one.clip_id))[:MOST]


async def candidates(session: AsyncSession, clip_id: int, hashes: Sequence[int]) -> list[int]:
    """The other clips of which at least one frame is near one of these, those with most of them first."""
    bands = [_bands(value) for value in hashes]
    found = await session.scalars(
        _CANDIDATES,
        {
            "hashes": [_signed(value) for value in hashes],
            **{f"band_{band}": [each[band] for each in bands] for band in range(_BANDS)},
            "near": NEAR,
            "clip": clip_id,
            "most": _MOST_CANDIDATES,
        },
    )
    return list(found)


async def _compared(
    session: AsyncSession, clip_ids: Collection[int], hashes: Sequence[int]
) -> dict[int, tuple[int, int, int]]:
    """Of the candidates, those that are like enough: (like frames, frames kept, least distance)."""
    kept: dict[int, list[int]] = defaultdict(list)
    rows = await session.execute(
        select(FrameHash.clip_id, FrameHash.hash).where(FrameHash.clip_id.in_(clip_ids))
    )
    for other, value in rows:
        distances = (((value % 2**BITS) ^ ours).bit_count() for ours in hashes)
        kept[other].append(min(distances))
    found = {}
    for other, nearest in kept.items():
        near = sum(distance <= NEAR for distance in nearest)
        if near >= min(LEAST_FRAMES, len(nearest)):
            found[other] = (near, len(nearest), min(nearest))
    return found


async def note(session: AsyncSession, clip_id: int, alike: Sequence[Alike]) -> None:
    """Remember what a clip looked like, in the place of what was noted before; moderators see it."""
    await session.execute(delete(Likeness).where(Likeness.clip_id == clip_id))
    if alike:
        await session.execute(
            insert(Likeness),
            [
                {
                    "clip_id": clip_id,
                    "other_id": one.clip_id,
                    "frames": one.frames,
                    "kept": one.kept,
                    "distance": one.distance,
                }
                for one in alike
            ],
        )


async def noted(session: AsyncSession, clip_ids: Collection[int]) -> dict[int, list[Alike]]:
    """What these clips looked like when they were made, the likest first."""
    rows = (await session.scalars(select(Likeness).where(Likeness.clip_id.in_(clip_ids)))).all()
    told = await clips.told_apart(session, {row.other_id for row in rows})
    found: dict[int, list[Alike]] = {clip_id: [] for clip_id in clip_ids}
    for row in sorted(rows, key=lambda row: (-row.frames / row.kept, row.distance, row.other_id)):
        if (other := told.get(row.other_id)) is not None:
            found[row.clip_id].append(Alike(row.other_id, other, row.frames, row.kept, row.distance))
    return found


async def hashed(session: AsyncSession, clip_ids: Collection[int]) -> set[int]:
    """Of these clips, the ones whose frames were hashed by the present version."""
    return set(
        await session.scalars(
            select(HashedClip.clip_id).where(HashedClip.clip_id.in_(clip_ids), HashedClip.version == VERSION)
        )
    )


def _signed(value: int) -> int:
    """64 bits as PostgreSQL's bigint has them."""
    return value - 2**BITS if value >= 2 ** (BITS - 1) else value


def _bands(value: int) -> list[int]:
    """The four bands as smallints, from the lowest bits up."""
    size = 2**_BAND_BITS
    return [((value >> _BAND_BITS * band) % size) - size // 2 for band in range(_BANDS)]
