"""What people report about clips. Moderators alone see it; the clip's contributor never learns who it was."""

from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.clips import review, views
from paletta_server.clips import service as clips
from paletta_server.core.errors import Conflict, Invalid
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.settings import Settings
from paletta_server.moderation import reasons, takedowns
from paletta_server.moderation.models import ClipReport
from paletta_server.moderation.schemas import (
    Handled,
    HandleIn,
    ReportedClip,
    ReportIn,
    ReportOut,
    ReportReceipt,
    TakeDownIn,
)


async def file(session: AsyncSession, user: Principal, text: str, told: ReportIn) -> ReportReceipt:
    """Note what somebody says of a clip that they may see; the same person has one open report on a clip at most.

    Raises `NotFound`, `Invalid` (`unknown_reason`), `Conflict` (`reported_before`, `own_clip`).
    """
    if told.reason_code not in reasons.REPORTS:
        raise reasons.unknown(told.reason_code, reasons.REPORTS)
    if told.reason_code == "other" and not told.text:
        raise Invalid(
            "text: `other` says nothing by itself",
            code="reason_missing",
            hint="say what is wrong with the clip",
        )
    clip = await views.find(session, user, text)
    if clip.owner_id == user.user_id:
        raise Conflict(
            "this clip is your own", code="own_clip", hint=f"`paletta clips delete {clip.uid}` takes it out"
        )
    made = await session.scalar(
        insert(ClipReport)
        .values(
            uid=new_uid("report"),
            clip_id=clip.id,
            owner_id=clip.owner_id,
            reporter_id=user.user_id,
            reason_code=told.reason_code,
            text=told.text,
        )
        .on_conflict_do_nothing(
            index_elements=["reporter_id", "clip_id"], index_where=ClipReport.status == "open"
        )
        .returning(ClipReport)
    )
    if made is None:
        raise Conflict(
            "you have reported this clip before, and it is being looked at", code="reported_before"
        )
    await record(
        session,
        user,
        "clip:reported",
        clip.uid,
        details={"report": made.uid, "reason_code": told.reason_code},
    )
    return ReportReceipt(id=made.uid, clip=clip.uid, reason_code=made.reason_code, status=made.status)


async def listed(
    session: AsyncSession, page: PageParams, *, status: str | None, clip: str | None
) -> tuple[list[ReportOut], str | None]:
    """Reports, newest first."""
    query = select(ClipReport)
    if status is not None:
        query = query.where(ClipReport.status == status)
    if clip is not None:
        query = query.where(ClipReport.clip_id == (await review.find_any(session, clip)).id)
    rows, cursor = await newest_first(session, query, ClipReport.id, page)
    return await _views(session, [report for (report,) in rows]), cursor


async def show(session: AsyncSession, text: str) -> ReportOut:
    """One report. Raises `NotFound`."""
    return (await _views(session, [await _find(session, text)]))[0]


async def of_clip(session: AsyncSession, clip_id: int) -> list[ReportOut]:
    """The open reports on a clip, oldest first."""
    rows = await session.scalars(
        select(ClipReport)
        .where(ClipReport.clip_id == clip_id, ClipReport.status == "open")
        .order_by(ClipReport.id)
    )
    return await _views(session, list(rows))


async def count_open(session: AsyncSession, clip_ids: Collection[int]) -> dict[int, int]:
    """How many open reports there are on each of these clips; those without are left out."""
    rows = await session.execute(
        select(ClipReport.clip_id, func.count())
        .where(ClipReport.clip_id.in_(clip_ids), ClipReport.status == "open")
        .group_by(ClipReport.clip_id)
    )
    return dict(rows.all())


async def handle(
    session: AsyncSession, settings: Settings, user: Principal, text: str, status: str, wanted: HandleIn
) -> Handled:
    """Resolve or dismiss an open report; what is resolved may take the clip down in the same step.

    Raises `NotFound`, `Conflict` (`report_closed`), and what a take-down raises: then nothing is changed.
    """
    found = await _find(session, text)
    taken_down = None
    if wanted.take_down is not None:
        # Clips are locked before their reports.
        told = await clips.told_apart(session, [found.clip_id])
        terms = TakeDownIn(clips=[told[found.clip_id].uid], **wanted.take_down.model_dump())
        taken_down = (await takedowns.take_down(session, settings, user, terms)).taken_down[0]
    moved = await session.scalar(
        update(ClipReport)
        .where(ClipReport.id == found.id, ClipReport.status == "open")
        .values(status=status, handled_by=user.user_id, handled_at=func.now(), note=wanted.note or None)
        .returning(ClipReport.id)
    )
    await session.refresh(found)
    if moved is None:
        raise Conflict(f"this report was {found.status} before", code="report_closed")
    details = {"taken_down": taken_down is not None, "note": found.note}
    await record(session, user, f"report:{status}", found.uid, details=details)
    others = (await count_open(session, [found.clip_id])).get(found.clip_id, 0)
    return Handled(
        report=(await _views(session, [found]))[0], taken_down=taken_down, open_reports_of_clip=others
    )


async def _find(session: AsyncSession, text: str) -> ClipReport:
    return await resolve(session, ClipReport, text, kind="report")


async def _views(session: AsyncSession, found: list[ClipReport]) -> list[ReportOut]:
    told = await clips.told_apart(session, {report.clip_id for report in found})
    people = await directory.people(
        session, {user for report in found for user in (report.reporter_id, report.handled_by) if user}
    )
    return [
        ReportOut(
            id=report.uid,
            clip=ReportedClip(
                id=told[report.clip_id].uid,
                title=told[report.clip_id].title,
                stage=told[report.clip_id].stage,
            ),
            reporter=people[report.reporter_id].email,
            reason_code=report.reason_code,
            text=report.text,
            status=report.status,
            created_at=report.created_at,
            handled_by=people[report.handled_by].email if report.handled_by else None,
            handled_at=report.handled_at,
            note=report.note,
        )
        for report in found
    ]
