"""The moderators' desk over HTTP: the review queue, reports, and contributors' standing."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts import directory, throttle
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    problems,
)
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.moderation import queue, reasons, reports, standing
from paletta_server.moderation.schemas import (
    Contributor,
    ContributorStanding,
    DismissIn,
    Handled,
    HandleIn,
    NextIn,
    NextOut,
    Reasons,
    ReportIn,
    ReportOut,
    ReportReason,
    ReportReceipt,
    ReviewItem,
    ReviewReason,
)

router = APIRouter(
    prefix="/v1",
    tags=["moderation"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Moderator = Annotated[Principal, Depends(require(Permission.MODERATE))]
Status = Annotated[Literal["open", "resolved", "dismissed"] | None, Query()]


@router.get("/moderation/reasons")
async def list_reasons(user: Annotated[Principal, Depends(require(Permission.SEARCH))]) -> Reasons:
    """Why clips are turned down, in the words that contributors read, and why they are reported."""
    return Reasons(
        review=[
            ReviewReason(code=code, label=label, text=text) for code, (label, text) in reasons.REVIEW.items()
        ],
        reports=[ReportReason(code=code, label=label) for code, label in reasons.REPORTS.items()],
    )


# ---- the queue


@router.post("/admin/review/next")
async def offer_next(user: Moderator, session: SessionDep, runtime: RuntimeDep, wanted: NextIn) -> NextOut:
    """The next clip that waits for review and that nobody else looks at, claimed for ten minutes."""
    return await queue.offer(session, runtime.store, user, wanted)


@router.post("/admin/review/{clip}/claim")
async def claim(user: Moderator, session: SessionDep, runtime: RuntimeDep, clip: str) -> ReviewItem:
    """Claim a clip, or go on with a claim; somebody else's stays theirs, and the answer says whose."""
    return await queue.claim(session, runtime.store, user, clip)


@router.delete("/admin/review/claims", status_code=204)
async def release_all(user: Moderator, session: SessionDep) -> None:
    """Let go of every clip that the caller has claimed."""
    await queue.release(session, user)


@router.delete("/admin/review/{clip}/claim", status_code=204)
async def release(user: Moderator, session: SessionDep, clip: str) -> None:
    """Let go of a clip, for another moderator to be offered."""
    await queue.release(session, user, clip)


# ---- reports


@router.post("/clips/{clip}/reports", status_code=201, responses=problems(TooManyRequests))
async def report(
    user: Annotated[Principal, Depends(require(Permission.REPORT_CLIPS))],
    session: SessionDep,
    runtime: RuntimeDep,
    clip: str,
    told: ReportIn,
) -> ReportReceipt:
    """Tell the operators what is wrong with a clip. Its contributor never learns who did."""
    await throttle.report(runtime.db, user.user_id)
    return await reports.file(session, user, clip, told)


@router.get("/admin/reports")
async def list_reports(
    user: Moderator,
    session: SessionDep,
    page: PageDep,
    status: Status = None,
    clip: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[ReportOut]:
    """Reports, newest first."""
    items, cursor = await reports.listed(session, page, status=status, clip=clip)
    return Page(items=items, next_cursor=cursor)


@router.get("/admin/reports/{report}")
async def show_report(user: Moderator, session: SessionDep, report: str) -> ReportOut:
    """One report."""
    return await reports.show(session, report)


@router.post("/admin/reports/{report}/resolve")
async def resolve(
    user: Moderator, session: SessionDep, runtime: RuntimeDep, report: str, wanted: HandleIn
) -> Handled:
    """The report is right. With `take_down` the clip is taken down in the same step, as by a take-down of its own."""
    return await reports.handle(session, runtime.settings, user, report, "resolved", wanted)


@router.post("/admin/reports/{report}/dismiss")
async def dismiss(
    user: Moderator, session: SessionDep, runtime: RuntimeDep, report: str, wanted: DismissIn
) -> Handled:
    """The report is wrong, or asks for nothing; the clip stays as it is."""
    return await reports.handle(
        session, runtime.settings, user, report, "dismissed", HandleIn(note=wanted.note)
    )


# ---- standing


@router.get("/admin/contributors/standing")
async def list_standing(user: Moderator, session: SessionDep, page: PageDep) -> Page[ContributorStanding]:
    """What became of each contributor's clips in review; contributors newest first."""
    people, cursor = await directory.contributors(session, page)
    found = await standing.of(session, [person.id for person in people])
    items = [
        ContributorStanding(contributor=Contributor.of(person), standing=found[person.id])
        for person in people
    ]
    return Page(items=items, next_cursor=cursor)


@router.get("/admin/contributors/{contributor}/standing")
async def show_standing(user: Moderator, session: SessionDep, contributor: str) -> ContributorStanding:
    """What became of one contributor's clips in review; an address or an id."""
    person = await directory.person(session, contributor)
    found = (await standing.of(session, [person.id]))[person.id]
    return ContributorStanding(contributor=Contributor.of(person), standing=found)
