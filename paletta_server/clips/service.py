"""Clips: made when an upload is registered, filled by ingest, edited and deleted by their owner."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from paletta_server.clips.metadata import ClipMetadata
from paletta_server.clips.models import STANDING, Clip, ClipCategory, ClipTag, Rendition
from paletta_server.core.errors import NotFound
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.taxonomy import service as taxonomy

STAGES = {
    "approved": "live",
    "submitted": "in_review",
    "changes_requested": "changes_requested",
    "taken_down": "taken_down",
}
"""What the states of review are called before people, once a clip is processed; the others are `rejected`."""
FILE_FIELDS = ("file_name", "size", "sha256", "crc64nvme")


def listed() -> ColumnElement[bool]:
    """The one rule of what the public sees: ready, approved, not deleted."""
    return and_(Clip.processing == "ready", Clip.review == "approved", Clip.deleted_at.is_(None))


def is_listed(clip: Clip) -> bool:
    """The same rule for a clip at hand."""
    return clip.processing == "ready" and clip.review == "approved" and clip.deleted_at is None


@dataclass(frozen=True)
class Standing:
    """A clip that stands for some bytes of an owner."""

    id: int
    uid: str
    processing: str


@dataclass(frozen=True)
class NewClip:
    """A clip to be: the file's facts as its owner's machine computed them, and checked metadata."""

    file_name: str
    size: int
    sha256: str
    crc64nvme: str
    metadata: ClipMetadata


async def standing(session: AsyncSession, owner_id: int, sha256s: Sequence[str]) -> dict[str, Standing]:
    """Of these bytes, the ones that already are a clip of this owner (being made, in review, live or taken down).

    One statement: a clip that is taken down at this moment is seen as one or the other, never as neither.
    """
    rows = await session.execute(
        select(Clip.sha256, Clip.id, Clip.uid, Clip.processing)
        .where(_of_bytes(owner_id, sha256s))
        .order_by(Clip.review != "taken_down", Clip.id)  # of twins, the one that is not taken down counts
    )
    return {sha256: Standing(key, uid, processing) for sha256, key, uid, processing in rows}


@dataclass(frozen=True)
class TakenDown:
    """A clip that was taken down, and what its owner was told."""

    uid: str
    reason: str | None


async def taken_down(session: AsyncSession, owner_id: int, sha256s: Sequence[str]) -> dict[str, TakenDown]:
    """Of these bytes, the ones that were taken down, also where their owner has deleted the clip since."""
    rows = await session.execute(
        select(Clip.sha256, Clip.review, Clip.uid, Clip.taken_down_for)
        .where(_of_bytes(owner_id, sha256s))
        .order_by(Clip.id)
    )
    found: dict[str, TakenDown] = {}
    in_force: set[str] = set()
    for sha256, review, uid, reason in rows:
        if review == "taken_down":
            found[sha256] = TakenDown(uid, reason)
        else:
            in_force.add(sha256)
    return {sha256: one for sha256, one in found.items() if sha256 not in in_force}


def _of_bytes(owner_id: int, sha256s: Sequence[str]) -> ColumnElement[bool]:
    return and_(
        Clip.owner_id == owner_id,
        Clip.sha256.in_(sha256s),
        or_(text(STANDING), Clip.review == "taken_down"),
    )


async def withheld(session: AsyncSession, clip_ids: Collection[int]) -> set[int]:
    """Of these clips, the ones whose sold files are withheld from their buyers, for a legal reason."""
    return set(await session.scalars(select(Clip.id).where(Clip.id.in_(clip_ids), Clip.sold_withheld)))


async def create(session: AsyncSession, owner_id: int, new: Sequence[NewClip]) -> dict[str, Standing]:
    """Make pending clips, by SHA-256. Bytes that a rival registered first are left out: look at `standing`."""
    if not new:
        return {}
    rows = []
    # One order for all: two processes that register the same files wait for each other once, not crosswise.
    for clip in sorted(new, key=lambda clip: clip.sha256):
        uid = new_uid("clip")
        rows.append(
            {
                **clip.metadata.columns(),
                **{name: getattr(clip, name) for name in FILE_FIELDS},
                "owner_id": owner_id,
                "uid": uid,
                # A random name of its own: what is stored there once is never replaced.
                "original_key": f"originals/{uid}/{new_uid('obj')}",
            }
        )
    made = await session.execute(
        upsert(Clip)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["owner_id", "sha256"], index_where=text(STANDING))
        .returning(Clip.sha256, Clip.id, Clip.uid)
    )
    created = {sha256: Standing(key, uid, "pending") for sha256, key, uid in made}
    await _label(
        session, owner_id, {created[clip.sha256].id: clip.metadata for clip in new if clip.sha256 in created}
    )
    return created


async def lock(session: AsyncSession, clip_ids: Collection[int]) -> None:
    """Lock the rows of clips against changes, by id as everybody does, and read them again."""
    await session.execute(
        select(Clip)
        .where(Clip.id.in_(clip_ids))
        .order_by(Clip.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


async def describe(session: AsyncSession, owner_id: int, metadata: Mapping[int, ClipMetadata]) -> None:
    """Replace the metadata of clips, by key. The caller has checked that they are the owner's."""
    if not metadata:
        return
    for clip_id, fields in sorted(metadata.items()):
        await session.execute(
            update(Clip).where(Clip.id == clip_id).values(**fields.columns(), version=Clip.version + 1)
        )
    await session.execute(delete(ClipTag).where(ClipTag.clip_id.in_(metadata)))
    await session.execute(delete(ClipCategory).where(ClipCategory.clip_id.in_(metadata)))
    await _label(session, owner_id, metadata)


async def _label(session: AsyncSession, owner_id: int, metadata: Mapping[int, ClipMetadata]) -> None:
    """Tie clips to their tags (made where unknown) and categories (known to exist)."""
    if not metadata:
        return
    tags = await taxonomy.tags_for_uploads(session, [clip.keywords for clip in metadata.values()], owner_id)
    slugs = {slug for clip in metadata.values() for slug in clip.categories}
    categories = await taxonomy.categories_by_slug(session, sorted(slugs))
    tag_rows = [
        {"clip_id": clip_id, "tag_id": tag_id, "position": position}
        for clip_id, tag_ids in zip(metadata, tags, strict=True)
        for position, tag_id in enumerate(dict.fromkeys(tag_ids))
    ]
    category_rows = [
        {"clip_id": clip_id, "category_id": category_id, "position": position}
        for clip_id, clip in metadata.items()
        # A former slug may lead to a category that is named beside it.
        for position, category_id in enumerate(
            dict.fromkeys(categories[slug] for slug in clip.categories if slug in categories)
        )
    ]
    if tag_rows:
        await session.execute(insert(ClipTag), tag_rows)
    if category_rows:
        await session.execute(insert(ClipCategory), category_rows)


async def keys_of(session: AsyncSession, uids: Sequence[str]) -> list[int]:
    """The keys of clips that are not deleted, by their whole ids. Raises `NotFound` for the first that is none."""
    rows = await session.execute(
        select(Clip.uid, Clip.id).where(Clip.uid.in_(uids), Clip.deleted_at.is_(None))
    )
    found: dict[str, int] = dict(rows.all())
    for uid in uids:
        if uid not in found:
            raise NotFound("clip", uid[:40], hint="give whole ids here")
    return list(found.values())


async def original_keys(session: AsyncSession, clip_ids: Sequence[int]) -> dict[int, str]:
    """Where the originals of clips are stored."""
    rows = await session.execute(select(Clip.id, Clip.original_key).where(Clip.id.in_(clip_ids)))
    return dict(rows.all())


async def set_processing(session: AsyncSession, clip_id: int, expected: Sequence[str], status: str) -> bool:
    """Move a clip that is not deleted along its processing axis; False when a rival moved it first."""
    moved = await session.scalar(
        update(Clip)
        .where(Clip.id == clip_id, Clip.processing.in_(expected), Clip.deleted_at.is_(None))
        .values(processing=status)
        .returning(Clip.id)
    )
    return moved is not None


async def failed(session: AsyncSession, clip_ids: Sequence[int]) -> set[int]:
    """Of these clips, the ones that could not be made and are not deleted."""
    return set(
        await session.scalars(
            select(Clip.id).where(
                Clip.id.in_(clip_ids), Clip.processing == "failed", Clip.deleted_at.is_(None)
            )
        )
    )


async def fail(session: AsyncSession, clip_id: int, *, reason: str, hint: str | None) -> None:
    """The clip cannot be made; `reason` is for its owner."""
    await session.execute(
        update(Clip)
        .where(Clip.id == clip_id, Clip.processing.in_(("pending", "processing")))
        .values(processing="failed", reason=reason, hint=hint)
    )


@dataclass(frozen=True)
class Made:
    """What ingest made of a clip: facts from the probe and the stored outputs (columns of `Rendition`)."""

    technical: dict[str, Any]
    duration: float
    width: int
    height: int
    fps: float
    codec: str
    warnings: Sequence[str]
    renditions: Sequence[Mapping[str, Any]]
    poster_number: int | None


async def publish(
    session: AsyncSession, clip_id: int, made: Made, *, review: str, reason: str | None = None
) -> str | None:
    """Switch a clip over to its outputs; where it stands in review then.

    `review` is that of a clip that nobody decided on yet: `approved`, or `submitted` for a `reason`. One that is made
    again keeps what was decided. None when the clip was deleted meanwhile. Objects of an earlier run are discarded by
    a job.
    """
    undecided = Clip.review == "draft"
    switched: str | None = await session.scalar(
        update(Clip)
        .where(Clip.id == clip_id, Clip.processing == "processing", Clip.deleted_at.is_(None))
        .values(
            processing="ready",
            review=case((undecided, review), else_=Clip.review),
            reason=case((undecided, reason), else_=Clip.reason),
            hint=None,
            technical=made.technical,
            duration=made.duration,
            width=made.width,
            height=made.height,
            fps=made.fps,
            codec=made.codec,
            warnings=list(made.warnings),
            poster_number=made.poster_number,
            listed_at=case((undecided, func.now() if review == "approved" else null()), else_=Clip.listed_at),
        )
        .returning(Clip.review)
    )
    if switched is None:
        return None
    old = list(
        await session.scalars(delete(Rendition).where(Rendition.clip_id == clip_id).returning(Rendition.key))
    )
    if old:
        await defer(session, "clips.discard", keys=old)
    await session.execute(insert(Rendition), [{"clip_id": clip_id, **row} for row in made.renditions])
    return switched


async def lose(session: AsyncSession, clip_id: int, *, reason: str, hint: str) -> bool:
    """A finished clip's original is gone or damaged: it cannot be sold, nor made again. False where it moved on."""
    lost = await session.scalar(
        update(Clip)
        .where(Clip.id == clip_id, Clip.processing == "ready", Clip.deleted_at.is_(None))
        .values(processing="failed", reason=reason, hint=hint)
        .returning(Clip.id)
    )
    return lost is not None


async def withdrawn(session: AsyncSession, *, reason: str, after: int, most: int) -> list[int]:
    """The keys of clips that were lost for `reason`, from the first behind `after` on."""
    query = select(Clip.id).where(
        Clip.id > after, Clip.processing == "failed", Clip.reason == reason, Clip.deleted_at.is_(None)
    )
    return list(await session.scalars(query.order_by(Clip.id).limit(most)))


async def find_again(session: AsyncSession, clip_id: int, *, reason: str) -> bool:
    """A clip that was lost for `reason` is finished as before. False where it moved on.

    Raises IntegrityError where its owner sent the same bytes again, and that clip stands for them.
    """
    found = await session.scalar(
        update(Clip)
        .where(
            Clip.id == clip_id, Clip.processing == "failed", Clip.reason == reason, Clip.deleted_at.is_(None)
        )
        .values(processing="ready", reason=None, hint=None)
        .returning(Clip.id)
    )
    return found is not None


async def owner_of(session: AsyncSession, clip_id: int) -> tuple[int, str, str]:
    """Whose clip it is, its id and its title: for a mail about it."""
    row = await session.execute(select(Clip.owner_id, Clip.uid, Clip.title).where(Clip.id == clip_id))
    owner_id, uid, title = row.one()
    return owner_id, uid, title


async def remove(session: AsyncSession, clip_ids: Sequence[int]) -> None:
    """Mark clips as deleted; their objects are discarded by a job."""
    if not clip_ids:
        return
    gone = await session.execute(
        update(Clip)
        .where(Clip.id.in_(clip_ids), Clip.deleted_at.is_(None))
        .values(deleted_at=func.now())
        .returning(Clip.id, Clip.original_key)
    )
    rows = gone.all()
    if not rows:
        return
    keys = [key for _, key in rows]
    keys += list(
        await session.scalars(
            select(Rendition.key).where(Rendition.clip_id.in_([clip_id for clip_id, _ in rows]))
        )
    )
    await defer(session, "clips.discard", keys=keys)


async def poster_wish(session: AsyncSession, clip_id: int) -> float | None:
    """At which second the contributor wants the poster, if they said."""
    return await session.scalar(select(Clip.poster_at).where(Clip.id == clip_id))


@dataclass(frozen=True)
class Told:
    """What tells a clip from another."""

    uid: str
    owner_id: int
    title: str
    stage: str
    """`processing`, `deleted`, `live`, `in_review`, `changes_requested`, `taken_down` or `rejected`."""
    taken_down: bool
    """Also where it was deleted since."""

    @property
    def listed(self) -> bool:
        """Whether strangers may see it."""
        return self.stage == STAGES["approved"]


async def told_apart(session: AsyncSession, clip_ids: Collection[int]) -> dict[int, Told]:
    """Of these clips, those that were made or are being made, also where they were deleted or taken down since."""
    rows = await session.execute(
        select(
            Clip.id, Clip.uid, Clip.owner_id, Clip.title, Clip.processing, Clip.review, Clip.deleted_at
        ).where(Clip.id.in_(clip_ids), Clip.processing.in_(("processing", "ready")))
    )
    return {
        key: Told(
            uid,
            owner_id,
            title,
            "deleted"
            if deleted_at is not None
            else STAGES.get(review, "rejected")
            if processing == "ready"
            else processing,
            review == "taken_down",
        )
        for key, uid, owner_id, title, processing, review, deleted_at in rows
    }


def keys_taken_down() -> Select[int]:
    """The keys of the clips that are taken down now, as a subquery."""
    return select(Clip.id).where(Clip.review == "taken_down")


async def count_by_review(session: AsyncSession, owner_ids: Collection[int]) -> dict[int, dict[str, int]]:
    """How many processed clips these people have in each state of review, without those they deleted."""
    counts: dict[int, dict[str, int]] = {owner: {} for owner in owner_ids}
    rows = await session.execute(
        select(Clip.owner_id, Clip.review, func.count())
        .where(Clip.owner_id.in_(owner_ids), Clip.processing == "ready", Clip.deleted_at.is_(None))
        .group_by(Clip.owner_id, Clip.review)
    )
    for owner, review, count in rows:
        counts[owner][review] = count
    return counts


@dataclass(frozen=True)
class Board:
    """Where a clip's storyboard is stored, and its cues."""

    clip_id: int
    picture: str
    cues: str


async def boards(session: AsyncSession, *, after: int, most: int) -> list[Board]:
    """The storyboards of the next clips that stand, by their keys above `after`."""
    picture, cues = aliased(Rendition), aliased(Rendition)
    rows = await session.execute(
        select(Clip.id, picture.key, cues.key)
        .join(picture, (picture.clip_id == Clip.id) & (picture.kind == "storyboard"))
        .join(cues, (cues.clip_id == Clip.id) & (cues.kind == "storyboard_vtt"))
        .where(Clip.id > after, Clip.processing == "ready", Clip.deleted_at.is_(None))
        .order_by(Clip.id)
        .limit(most)
    )
    return [Board(*row) for row in rows]


# -- what is stored, for whoever goes over all of it


def stored_originals() -> Select[*tuple[Any, ...]]:
    """The originals of clips that are made or being made, in the columns of `operations.inventory`."""
    return select(
        Clip.original_key,
        Clip.size,
        Clip.sha256,
        Clip.crc64nvme,
        Clip.processing == "ready",
        literal("original"),
        Clip.id,
    ).where(Clip.deleted_at.is_(None), Clip.processing != "failed")


def stored_renditions() -> Select[*tuple[Any, ...]]:
    """Previews, posters and sale renditions of clips, in the columns of `operations.inventory`."""
    return (
        select(
            Rendition.key,
            Rendition.size,
            Rendition.sha256,
            null(),
            Clip.processing == "ready",
            literal("rendition"),
            Clip.id,
        )
        .join(Clip, Clip.id == Rendition.clip_id)
        .where(Clip.deleted_at.is_(None))
    )
