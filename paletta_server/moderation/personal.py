"""What moderation holds on one person: the export, and what erasing takes away.

That a clip was reported stays, for its contributor's standing; the words of whoever reported it go.
"""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.export import Sections
from paletta_server.moderation.models import ClipReport, ReviewDecision


def sections(user_id: int) -> Sections:
    reports = select(
        ClipReport.uid.label("id"),
        ClipReport.reason_code,
        ClipReport.text,
        ClipReport.status,
        ClipReport.created_at,
    ).where(ClipReport.reporter_id == user_id)
    decisions = select(
        ReviewDecision.verdict, ReviewDecision.reason_code, ReviewDecision.reason, ReviewDecision.created_at
    ).where(ReviewDecision.owner_id == user_id)
    return {
        "clip_reports": reports.order_by(ClipReport.id),
        "review_decisions": decisions.order_by(ReviewDecision.id),
    }


async def forget(session: AsyncSession, user_id: int) -> None:
    await session.execute(
        update(ClipReport)
        .where(ClipReport.reporter_id == user_id, ClipReport.text != "")
        .values(text="")
        .execution_options(synchronize_session=False)
    )
