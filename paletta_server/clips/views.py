"""Reading clips: where one stands, lists and details with addresses of previews."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal
from paletta_server.clips.metadata import FIELDS
from paletta_server.clips.models import Clip, Rendition
from paletta_server.clips.schemas import ClipDetail, ClipSummary, Media, PosterCandidate, RenditionView
from paletta_server.clips.service import STAGES, listed
from paletta_server.core.ids import resolve
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.storage import ObjectStore
from paletta_server.taxonomy import service as taxonomy
from paletta_server.uploads import progress

PREVIEWS = ("comp", "loop", "storyboard", "storyboard_vtt")
SOLD = ("hd", "uhd4k")
PRIVATE = ("releases", "agencies", "batch", "price", "poster_at")
"""The contributor's own business."""


def stage_of(clip: Clip, upload_stage: str) -> str:
    """Where a clip stands, in the words that uploads use; its own three axes decide once ingest is over."""
    if clip.deleted_at is not None:
        return "deleted"
    if clip.processing != "ready":
        return upload_stage
    return STAGES.get(clip.review, "rejected")


def reason_of(clip: Clip) -> str | None:
    """Why a clip is where it is, for its owner."""
    return clip.taken_down_for if clip.review == "taken_down" else clip.reason


def _stage_filter(stage: str) -> ColumnElement[bool]:
    """Clips at a stage that a person would ask for."""
    ready = Clip.processing == "ready"
    known: dict[str, ColumnElement[bool]] = {
        "live": ready & (Clip.review == "approved"),
        "in_review": ready & (Clip.review == "submitted"),
        "rejected": (Clip.review == "rejected") | Clip.id.in_(progress.clips_at("rejected")),
        "failed": Clip.id.in_(progress.clips_at("failed")),
        "changes_requested": ready & (Clip.review == "changes_requested"),
        "taken_down": Clip.review == "taken_down",
        "processing": Clip.processing.in_(("pending", "processing")),
    }
    return known[stage]


async def find(session: AsyncSession, user: Principal | None, text: str) -> Clip:
    """A clip that the caller may see: a listed one, one of their own, or (a moderator) any that is not deleted.

    A token whose scopes do not include the owner's clips sees what a stranger sees.
    """
    visible: ColumnElement[bool] = listed()
    if user is not None and user.may(Permission.MANAGE_OWN_CLIPS):
        visible = or_(visible, (Clip.owner_id == user.user_id) & Clip.deleted_at.is_(None))
    if user is not None and user.may(Permission.MODERATE):
        visible = Clip.deleted_at.is_(None)
    return await resolve(session, Clip, text, visible, kind="clip")


async def find_own(session: AsyncSession, user: Principal, text: str, *, lock: bool = False) -> Clip:
    """A clip of the caller's own that is not deleted. Raises `NotFound` for anybody else's."""
    return await resolve(
        session, Clip, text, Clip.owner_id == user.user_id, Clip.deleted_at.is_(None), kind="clip", lock=lock
    )


async def list_own(
    session: AsyncSession,
    store: ObjectStore,
    user: Principal,
    page: PageParams,
    *,
    stage: str | None,
    text: str | None,
    batch: str | None,
) -> tuple[list[ClipSummary], str | None]:
    """The caller's clips, newest first; `text` is looked for in title and file name."""
    query = select(Clip).where(Clip.owner_id == user.user_id, Clip.deleted_at.is_(None))
    if stage:
        query = query.where(_stage_filter(stage))
    if text:
        query = query.where(
            or_(Clip.title.icontains(text, autoescape=True), Clip.file_name.icontains(text, autoescape=True))
        )
    if batch:
        query = query.where(Clip.batch == batch)
    rows, cursor = await newest_first(session, query, Clip.id, page)
    return await summaries(session, store, [clip for (clip,) in rows]), cursor


async def summaries(session: AsyncSession, store: ObjectStore, clips: Sequence[Clip]) -> list[ClipSummary]:
    ids = [clip.id for clip in clips]
    uploads = await progress.latest_of(session, ids)
    categories = await taxonomy.category_slugs(session, ids)
    posters = await _posters(session, clips)
    return [
        ClipSummary(
            id=clip.uid,
            title=clip.title,
            stage=stage_of(clip, uploads[clip.id].stage),
            reason=reason_of(clip),
            file=clip.file_name,
            size=clip.size,
            duration=clip.duration,
            width=clip.width,
            height=clip.height,
            fps=clip.fps,
            codec=clip.codec,
            category=next(iter(categories[clip.id]), None),
            created_at=clip.created_at,
            poster_url=_address(store, posters.get(clip.id)),
        )
        for clip in clips
    ]


async def _posters(session: AsyncSession, clips: Sequence[Clip]) -> dict[int, Rendition]:
    chosen = {clip.id: clip.poster_number for clip in clips}
    rows = await session.scalars(
        select(Rendition).where(Rendition.clip_id.in_(list(chosen)), Rendition.kind == "poster")
    )
    return {row.clip_id: row for row in rows if row.number == chosen[row.clip_id]}


def _address(store: ObjectStore, rendition: Rendition | None) -> str | None:
    if rendition is None:
        return None
    return store.delivery.preview(rendition.key, content_type=rendition.content_type)


async def detail(session: AsyncSession, store: ObjectStore, user: Principal | None, clip: Clip) -> ClipDetail:
    """A clip in full. What only its owner and moderators may know is left out for others."""
    insider = user is not None and (
        (user.user_id == clip.owner_id and user.may(Permission.MANAGE_OWN_CLIPS))
        or user.may(Permission.MODERATE)
    )
    fields = await described(session, clip)
    rows = (await session.scalars(select(Rendition).where(Rendition.clip_id == clip.id))).all()
    upload = (await progress.latest_of(session, [clip.id]))[clip.id]
    by_kind = {row.kind: row for row in rows if row.kind in PREVIEWS}
    chosen = [row for row in rows if row.kind == "poster" and row.number == clip.poster_number]
    if chosen:
        by_kind["poster"] = chosen[0]
    return ClipDetail(
        id=clip.uid,
        version=clip.version,
        stage=stage_of(clip, upload.stage),
        reason=reason_of(clip) if insider else None,
        hint=clip.hint if insider else None,
        warnings=clip.warnings if insider else [],
        file=clip.file_name if insider else None,
        size=clip.size,
        sha256=clip.sha256 if insider else None,
        duration=clip.duration,
        width=clip.width,
        height=clip.height,
        fps=clip.fps,
        codec=clip.codec,
        technical=clip.technical,
        created_at=clip.created_at,
        listed_at=clip.listed_at,
        media=Media(**{kind: _address(store, by_kind.get(kind)) for kind in Media.model_fields}),
        renditions=_tiers(clip, rows),
        **(fields if insider else _public(fields)),
    )


def _public(fields: dict[str, Any]) -> dict[str, Any]:
    """What a stranger may read: not who signed releases, where else the clip is offered, or exactly where it was."""
    place = {name: value for name, value in (fields["location"] or {}).items() if name not in ("lat", "lon")}
    return {**fields, **dict.fromkeys(PRIVATE), "location": place or None}


def _tiers(clip: Clip, rows: Sequence[Rendition]) -> list[RenditionView]:
    """What can be bought: the made renditions, and the original under its own tier."""
    if clip.processing != "ready":
        return []
    tiers = [
        RenditionView(tier=row.kind, width=row.width, height=row.height, size=row.size, codec=row.codec)
        for row in rows
        if row.kind in SOLD
    ]
    served = (clip.technical or {}).get("original_serves", [])
    tiers += [
        RenditionView(tier=tier, width=clip.width, height=clip.height, size=clip.size, codec=clip.codec)
        for tier in (*served, "original")
    ]
    return sorted(tiers, key=lambda tier: (*SOLD, "original").index(tier.tier))


async def described(session: AsyncSession, clip: Clip) -> dict[str, Any]:
    """The clip's metadata as the manifest's fields."""
    plain = {name: getattr(clip, name) for name in FIELDS if name not in ("keywords", "categories")}
    return {
        **plain,
        "keywords": (await taxonomy.tag_names(session, [clip.id]))[clip.id],
        "categories": (await taxonomy.category_slugs(session, [clip.id]))[clip.id],
    }


async def posters(session: AsyncSession, store: ObjectStore, clip: Clip) -> list[PosterCandidate]:
    """The candidates, in the order of their time."""
    rows = await session.scalars(
        select(Rendition)
        .where(Rendition.clip_id == clip.id, Rendition.kind == "poster")
        .order_by(Rendition.at_seconds)
    )
    return [
        PosterCandidate(
            number=row.number,
            at=row.at_seconds or 0.0,
            width=row.width or 0,
            height=row.height or 0,
            url=_address(store, row) or "",
            chosen=row.number == clip.poster_number,
        )
        for row in rows
    ]
