"""Changing clips: fields, poster, deletion; one by one or from a changed manifest."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import review, service, views
from paletta_server.clips.metadata import FIELDS, ClipMetadata, problems_of
from paletta_server.clips.models import Clip, Rendition
from paletta_server.clips.schemas import (
    AppliedChange,
    ApplyItem,
    ApplyProblem,
    ApplyResponse,
    Unmatched,
)
from paletta_server.clips.service import STAGES
from paletta_server.core.errors import Conflict, Invalid, NotFound, PreconditionFailed
from paletta_server.core.settings import Settings
from paletta_server.taxonomy import service as taxonomy
from paletta_server.uploads import progress
from paletta_server.uploads import service as uploads

REVIEWED = frozenset({"title", "description", "keywords", "categories", "editorial", "releases"})
"""What a moderator judged: an approved clip in which one of these changes is judged again (by hand, not `auto`)."""


async def edit(
    session: AsyncSession,
    settings: Settings,
    user: Principal,
    text: str,
    changes: dict[str, Any],
    *,
    expected: int | None,
) -> Clip:
    """Change some fields of one clip; the others stay. Raises `PreconditionFailed` when `expected` is stale."""
    await taxonomy.hold(session)
    clip = await views.find_own(session, user, text)
    await review.hold(session, [clip.id])  # an edit may send it back to review: its upload hears of it
    if clip.deleted_at is not None:
        raise NotFound("clip", clip.uid)
    if expected is not None and clip.version != expected:
        raise PreconditionFailed(
            f"the clip is at version {clip.version}", hint="look at it again, then repeat the change"
        )
    metadata = await _merged(session, clip, changes)
    await _write(session, settings, user, clip, metadata)
    return clip


async def _merged(session: AsyncSession, clip: Clip, changes: dict[str, Any]) -> ClipMetadata:
    """The clip's metadata with these changes, checked. Raises `Invalid` with every problem."""
    unknown = sorted(set(changes) - set(FIELDS))
    if unknown:
        raise Invalid(f"there is no field `{unknown[0][:50]}`", code="invalid_metadata", problems=[])
    try:
        metadata = ClipMetadata.model_validate({**await views.described(session, clip), **changes})
    except ValidationError as error:
        found = problems_of(error)
        raise Invalid(
            f"{found[0]['pointer']}: {found[0]['message']}", code="invalid_metadata", problems=found
        ) from error
    known = await taxonomy.categories_by_slug(session, metadata.categories)
    for slug in metadata.categories:
        if slug not in known:
            near = await taxonomy.suggest_category(session, slug)
            raise Invalid(
                f"there is no category `{slug}`",
                code="unknown_category",
                hint=f"did you mean `{near}`?" if near else "list them with `paletta categories list`",
            )
    return metadata


async def _write(
    session: AsyncSession, settings: Settings, user: Principal, clip: Clip, metadata: ClipMetadata
) -> dict[str, Any]:
    before = await views.described(session, clip)
    await service.describe(session, clip.owner_id, {clip.id: metadata})
    await session.refresh(clip)
    changes = _difference(before, await views.described(session, clip))
    if "poster_at" in changes:
        await _move_poster(session, clip)
    if changes:
        await record(session, user, "clip:edited", clip.uid, details={"fields": sorted(changes)})
    if _judged_again(settings, clip, changes):
        await review.submit_again(session, clip)
    return changes


def _judged_again(settings: Settings, clip: Clip, changes: dict[str, Any]) -> bool:
    """Whether a moderator has to look at the clip again after these changes, if one had decided about it."""
    asked = "changes_requested" in (clip.review, clip.review_before)
    return bool((asked and changes) or (settings.review == "manual" and REVIEWED & changes.keys()))


def _move(settings: Settings, clip: Clip, changes: dict[str, Any]) -> tuple[str, str] | None:
    """The stages from which and to which these changes take a clip that was not written yet; None where it stays."""
    decided = clip.processing == "ready" and clip.review in review.JUDGED
    if not decided or not _judged_again(settings, clip, changes):
        return None
    return STAGES[clip.review], STAGES["submitted"]


async def _move_poster(session: AsyncSession, clip: Clip) -> None:
    """The candidate nearest to the wished second becomes the poster; without a wish or candidates nothing changes."""
    if clip.poster_at is None:
        return
    nearest = await session.scalar(
        select(Rendition.number)
        .where(Rendition.clip_id == clip.id, Rendition.kind == "poster")
        .order_by(func.abs(Rendition.at_seconds - clip.poster_at))
        .limit(1)
    )
    clip.poster_number = nearest or clip.poster_number


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before[name], after[name]) for name in FIELDS if before[name] != after[name]}


async def apply(
    session: AsyncSession, settings: Settings, user: Principal, items: Sequence[ApplyItem], *, dry_run: bool
) -> ApplyResponse:
    """Bring clips to what a changed manifest says. With a problem anywhere, or `dry_run`, nothing is written."""
    answer = ApplyResponse(changes=[], unmatched=[], problems=[], applied=False)
    to_write: list[tuple[Clip, ClipMetadata]] = []
    await taxonomy.hold(session)
    matches = [await _match(session, user, item) for item in items]
    if not dry_run:
        await review.hold(session, [clip.id for clip in matches if isinstance(clip, Clip)])
    for item, clip in zip(items, matches, strict=True):
        if isinstance(clip, str):
            answer.unmatched.append(Unmatched(ref=item.ref, reason=clip))
            continue
        if clip.deleted_at is not None:
            answer.unmatched.append(Unmatched(ref=item.ref, reason="the clip was deleted this moment"))
            continue
        try:
            # A manifest says everything about a clip: a field that it leaves out is empty.
            metadata = ClipMetadata.model_validate(item.metadata)
        except ValidationError as error:
            answer.problems += [ApplyProblem(ref=item.ref, **problem) for problem in problems_of(error)]
            continue
        try:
            metadata = await _merged(session, clip, metadata.model_dump())
            stored = await _stored(session, metadata)
        except Invalid as error:
            answer.problems.append(
                ApplyProblem(
                    ref=item.ref, pointer="/metadata", code=error.code, message=error.detail, hint=error.hint
                )
            )
            continue
        changes = _difference(await views.described(session, clip), stored)
        if changes:
            answer.changes.append(
                AppliedChange(
                    ref=item.ref,
                    clip_id=clip.uid,
                    file=clip.file_name,
                    changes=changes,
                    stage=_move(settings, clip, changes),
                )
            )
            to_write.append((clip, metadata))
    if not dry_run and not answer.problems:
        # All new tags in one step: two applies that make the same ones in several could wait for each other.
        await taxonomy.tags_for_uploads(
            session, [metadata.keywords for _, metadata in to_write], user.user_id
        )
        for clip, metadata in to_write:
            await _write(session, settings, user, clip, metadata)
        answer.applied = True
    return answer


async def _stored(session: AsyncSession, metadata: ClipMetadata) -> dict[str, Any]:
    """The metadata as it would read once stored. Raises `Invalid` for a keyword that cannot be a tag."""
    return {
        **metadata.columns(),
        "keywords": await taxonomy.stored_names(session, metadata.keywords),
        "categories": metadata.categories,
    }


async def _match(session: AsyncSession, user: Principal, item: ApplyItem) -> Clip | str:
    """The clip that a manifest's entry means, or why none could be told."""
    own = select(Clip).where(Clip.owner_id == user.user_id, Clip.deleted_at.is_(None))
    if item.clip_id:
        try:
            return await views.find_own(session, user, item.clip_id)
        except (NotFound, Conflict) as error:
            return error.detail
    if item.sha256:
        own = own.where(Clip.sha256 == item.sha256)
    elif item.file:
        own = own.where(Clip.file_name == item.file)
    else:
        return "names no clip"
    found = (await session.scalars(own.order_by(Clip.id.desc()).limit(5))).all()
    standing = [clip for clip in found if clip.processing != "failed" and clip.review != "rejected"] or list(
        found
    )
    if not standing:
        return "no clip of yours has this file: upload it first"
    if len(standing) > 1 and not item.sha256:
        return f"{len(standing)} of your clips are named like this: " + ", ".join(
            clip.uid for clip in standing
        )
    return standing[0]


async def choose_poster(session: AsyncSession, user: Principal, text: str, number: int) -> Clip:
    """Make another candidate the clip's poster. Raises `NotFound` where there is no such candidate."""
    clip = await views.find_own(session, user, text, lock=True)
    there = await session.scalar(
        select(Rendition.number).where(
            Rendition.clip_id == clip.id, Rendition.kind == "poster", Rendition.number == number
        )
    )
    if there is None:
        raise NotFound(
            "poster candidate", str(number), hint=f"see them with `paletta clips poster {clip.uid}`"
        )
    clip.poster_number = number
    clip.version += 1
    await record(session, user, "clip:poster_chosen", clip.uid, details={"number": number})
    return clip


async def delete(session: AsyncSession, user: Principal, text: str) -> None:
    """Take a clip out of the shop and stop running work on it; whoever watches its batch hears of it."""
    clip = await views.find_own(session, user, text)
    await progress.hold(session, [clip.id])
    await uploads.cancel_for_clip(session, clip.id)
    await service.remove(session, [clip.id])
    if await progress.is_made(session, clip.id):
        await progress.report_clips(session, [clip.id], "deleted", told=True)
    await record(session, user, "clip:deleted", clip.uid)
