"""Review: a moderator lets clips into the shop, says why not, or asks for changes. Take-downs are in `takedowns.py`."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import review, views
from paletta_server.clips.models import Clip
from paletta_server.clips.service import STAGES
from paletta_server.core.errors import Invalid
from paletta_server.moderation import reasons
from paletta_server.moderation.models import ReviewClaim, ReviewDecision
from paletta_server.moderation.schemas import Decided, DecisionIn, ReviewedClip, Verdict
from paletta_server.moderation.several import decide_each
from paletta_server.uploads import progress


async def decide(session: AsyncSession, user: Principal, wanted: DecisionIn) -> Decided:
    """Decide on clips that wait for review. Raises `Invalid`, and what is wrong with the clip where one is named."""
    reason = _reason(wanted)
    if wanted.version is not None and len(wanted.clips) > 1:
        raise Invalid("version: it is one clip's", code="version_of_several", hint="say `versions`, by clip")
    if strange := wanted.versions.keys() - set(wanted.clips):
        raise Invalid(f"versions: `{min(strange)}` is not among the clips", code="version_of_another")
    now = await session.scalar(select(func.now()))
    assert now is not None
    outcome = await decide_each(
        session,
        wanted.clips,
        review.find_made,
        lambda text, clip: review.decide(
            clip, wanted.verdict, reason=reason, at=now, version=wanted.versions.get(text, wanted.version)
        ),
        hold=True,
    )
    clips = outcome.clips
    stage = STAGES.get(wanted.verdict, wanted.verdict)
    await progress.report_clips(session, [clip.id for clip in clips], stage, reason=reason)
    await session.execute(delete(ReviewClaim).where(ReviewClaim.clip_id.in_([clip.id for clip in clips])))
    note(session, user, clips, wanted.verdict, reason=reason, code=wanted.reason_code)
    details = {"reason": reason, "reason_code": wanted.reason_code}
    told = {name: value for name, value in details.items() if value is not None}
    for clip in clips:
        await record(session, user, f"clip:{wanted.verdict}", clip.uid, details=told)
    decided = [
        ReviewedClip(id=clip.uid, title=clip.title, stage=views.stage_of(clip, ""), reason=clip.reason)
        for clip in clips
    ]
    return Decided(decided=decided, failed=outcome.failed)


async def decide_one(
    session: AsyncSession, user: Principal, text: str, verdict: Verdict, *, reason: str | None = None
) -> Clip:
    """Decide on one clip that waits for review. Raises as `decide`."""
    done = await decide(session, user, DecisionIn(clips=[text], verdict=verdict, reason=reason))
    return await review.find_made(session, done.decided[0].id)


def note(
    session: AsyncSession,
    user: Principal,
    clips: Sequence[Clip],
    verdict: str,
    *,
    reason: str | None = None,
    code: str | None = None,
) -> None:
    """Add a decision to what the standing of the clips' contributors is counted from."""
    session.add_all(
        ReviewDecision(
            clip_id=clip.id,
            owner_id=clip.owner_id,
            moderator_id=user.user_id,
            verdict=verdict,
            reason_code=code,
            reason=reason,
        )
        for clip in clips
    )


def _reason(wanted: DecisionIn) -> str | None:
    reason = reasons.worded(wanted.reason_code, wanted.reason)
    if wanted.verdict == "approved":
        if reason is not None:
            raise Invalid("reason: nobody is told why a clip was approved", code="reason_unwanted")
        return None
    if reason is None:
        raise Invalid(
            "reason: the contributor needs to know why",
            code="reason_missing",
            hint="give `reason_code` (see GET /v1/moderation/reasons), `reason`, or both",
        )
    return reason
