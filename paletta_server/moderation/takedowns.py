"""Take-downs: clips leave the shop, and come back; each in a call succeeds or fails by itself."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import previews, review, views
from paletta_server.clips.models import Clip
from paletta_server.clips.review import Terms
from paletta_server.clips.service import STAGES
from paletta_server.core.errors import Invalid
from paletta_server.core.mail import send_mail
from paletta_server.core.settings import Settings
from paletta_server.delivery import service as delivery
from paletta_server.moderation import mails, service
from paletta_server.moderation.schemas import DecidedClip, Restored, TakeDownIn, TakenDown
from paletta_server.moderation.several import Outcome, decide_each
from paletta_server.uploads import progress


def terms_of(wanted: TakeDownIn) -> Terms:
    """Raises `Invalid` (`not_legal`): what somebody paid for is withheld for a legal reason or not at all."""
    if wanted.withhold_sold and not wanted.legal:
        raise Invalid(
            "sold files are withheld for legal reasons only",
            code="not_legal",
            hint="a take-down for another reason leaves buyers what they paid for",
        )
    withhold = wanted.legal if wanted.withhold_sold is None else wanted.withhold_sold
    return Terms(wanted.reason, wanted.legal, withhold)


async def take_down(
    session: AsyncSession, settings: Settings, user: Principal, wanted: TakeDownIn
) -> TakenDown:
    """Take clips out of the shop. Raises `Invalid`, and what is wrong with the clip where only one is named."""
    terms = terms_of(wanted)
    if wanted.dry_run:
        outcome = await decide_each(
            session, wanted.clips, review.find_any, lambda _, clip: review.check_take_down(clip, terms)
        )
        return await _taken_down(session, outcome, dry_run=True)
    outcome = await decide_each(
        session, wanted.clips, review.find_any, lambda _, clip: review.take_down(clip, terms), hold=True
    )
    ids = [clip.id for clip in outcome.clips if clip.deleted_at is None]
    await progress.report_clips(session, ids, "taken_down", reason=terms.reason, told=True)
    service.note(session, user, outcome.clips, "taken_down", reason=terms.reason)
    details = {"reason": terms.reason, "legal": terms.legal, "sold_withheld": terms.withhold_sold}
    for clip in outcome.clips:
        await record(session, user, "clip:taken_down", clip.uid, details=details)
    await _previews(session, settings, outcome.clips)
    for theirs in _by_owner(outcome.clips):
        await _mail(session, theirs, "taken-down", mails.taken_down(settings.public_url, theirs, terms))
    return await _taken_down(session, outcome, dry_run=False)


async def restore(
    session: AsyncSession, settings: Settings, user: Principal, texts: Sequence[str]
) -> Restored:
    """Lift take-downs: each clip goes back to where it was. Raises what is wrong where only one is named."""
    outcome = await decide_each(
        session, texts, review.find_any, lambda _, clip: review.restore(clip), hold=True
    )
    service.note(session, user, outcome.clips, "restored")
    alike: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for clip in outcome.clips:
        stage = STAGES.get(clip.review, "rejected")
        if clip.deleted_at is None:
            alike[stage, clip.reason if stage in ("rejected", "changes_requested") else None].append(clip.id)
        await record(session, user, "clip:restored", clip.uid, details={"to": clip.review})
    for (stage, reason), ids in alike.items():
        await progress.report_clips(session, ids, stage, reason=reason, told=True)
    await _previews(session, settings, outcome.clips)
    for theirs in _by_owner(outcome.clips):
        await _mail(session, theirs, "restored", mails.restored(settings.public_url, theirs))
    return Restored(restored=await _views(session, outcome.clips), failed=outcome.failed)


async def _previews(session: AsyncSession, settings: Settings, clips: Collection[Clip]) -> None:
    if settings.cloudfront_domain is not None:
        for clip in clips:
            await previews.follow(session, clip.id)


def _by_owner(clips: Collection[Clip]) -> list[list[Clip]]:
    owners: dict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        owners[clip.owner_id].append(clip)
    return list(owners.values())


async def _mail(session: AsyncSession, clips: Sequence[Clip], event: str, mail: tuple[str, str]) -> None:
    """Once for each decision: a clip's version rises with each."""
    subject, text = mail
    await send_mail(
        session,
        to=await accounts.email_of(session, clips[0].owner_id),
        subject=subject,
        text=text,
        dedup_key=f"clips-{event}:{clips[0].uid}:{clips[0].version}",
    )


async def _taken_down(session: AsyncSession, outcome: Outcome, *, dry_run: bool) -> TakenDown:
    views_ = await _views(session, outcome.clips)
    return TakenDown(taken_down=views_, failed=outcome.failed, dry_run=dry_run)


async def _views(session: AsyncSession, clips: Sequence[Clip]) -> list[DecidedClip]:
    sold = await delivery.sold(session, [clip.id for clip in clips])
    return [
        DecidedClip(
            id=clip.uid,
            title=clip.title,
            stage=views.stage_of(clip, ""),
            withheld=clip.sold_withheld,
            paid_items=sold[clip.id].items,
            paid_orders=sold[clip.id].orders,
        )
        for clip in clips
    ]
