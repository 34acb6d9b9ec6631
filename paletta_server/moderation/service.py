"""Review: a moderator lets a clip into the shop, or says why not. Take-downs are in `takedowns.py`."""

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import review
from paletta_server.clips.models import Clip
from paletta_server.uploads import progress


async def approve(session: AsyncSession, user: Principal, text: str) -> Clip:
    """List a submitted clip. Raises `Conflict` (`not_in_review`) when it is not waiting for review."""
    clip = await review.decide(session, text, "approved", reason=None)
    await progress.report_clips(session, [clip.id], "live")
    await record(session, user, "clip:approved", clip.uid)
    return clip


async def reject(session: AsyncSession, user: Principal, text: str, *, reason: str) -> Clip:
    """Refuse a submitted clip; its contributor is told `reason`."""
    clip = await review.decide(session, text, "rejected", reason=reason)
    await progress.report_clips(session, [clip.id], "rejected", reason=reason)
    await record(session, user, "clip:rejected", clip.uid, details={"reason": reason})
    return clip
