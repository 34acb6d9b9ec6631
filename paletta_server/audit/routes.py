"""The operator's logs over HTTP: the audit log and its proof, mails, attempts at ingest."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import administration as accounts
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.audit import chain, reading, verification
from paletta_server.audit.schemas import (
    ActorOut,
    AddressIn,
    EntryOut,
    FindingOut,
    MailOut,
    News,
    RunOut,
    SuppressedOut,
    VerdictOut,
)
from paletta_server.audit.service import record
from paletta_server.core import mail, suppression
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.ingest import history

router = APIRouter(
    prefix="/v1/admin",
    tags=["admin"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Reader = Annotated[Principal, Depends(require(Permission.SEE_LOGS))]
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_USERS))]
Beginning = Annotated[str | None, Query(max_length=200)]
Moment = Annotated[AwareDatetime | None, Query()]


async def _filter(
    session: SessionDep,
    user: Annotated[str | None, Query(max_length=254, description="id or e-mail of who acted")] = None,
    action: Beginning = None,
    object: Beginning = None,  # noqa: A002 (its name on the wire)
    since: Moment = None,
    until: Moment = None,
) -> reading.Filter:
    user_id = (await accounts.find(session, user)).id if user else None
    return reading.Filter(user_id, action, object, since, until)


Wanted = Annotated[reading.Filter, Depends(_filter)]


@router.get("/audit-log")
async def audit_log(reader: Reader, session: SessionDep, wanted: Wanted, page: PageDep) -> Page[EntryOut]:
    """Who did what to what, newest first. `action` and `object` are beginnings, such as `clip:`."""
    rows, cursor = await reading.listed(session, wanted, page)
    return Page(items=await _shown(session, rows), next_cursor=cursor)


@router.get("/audit-log/follow")
async def follow(
    reader: Reader,
    runtime: RuntimeDep,
    wanted: Wanted,
    after: Annotated[int | None, Query(ge=0)] = None,
    last: Annotated[int, Query(ge=0, le=200)] = 10,
    wait: Annotated[float, Query(ge=0, le=55)] = 0,
) -> News:
    """What was written behind entry `after`, within `wait` seconds; without it, the `last` rows up to now."""
    news = await reading.follow(runtime, wanted, after=after, last=last, wait_seconds=wait)
    async with runtime.db.transaction() as session:
        return News(items=await _shown(session, news.entries), after=news.after)


@router.get("/audit-log/verify")
async def verify(
    reader: Reader,
    runtime: RuntimeDep,
    head: Annotated[str | None, Query(max_length=100, description="a head that was noted before")] = None,
) -> VerdictOut:
    """Prove that nothing of the log was changed, removed or put in. Reads all of it: 1,000,000 rows take seconds."""
    verdict = await verification.verify(runtime.db, chain.parse_head(head) if head else None)
    return VerdictOut(
        intact=verdict.found == 0,
        head=str(verdict.head),
        entries=verdict.head.entries,
        unchained=verdict.unchained,
        found=verdict.found,
        findings=[
            FindingOut.model_validate(
                {
                    "kind": one.kind,
                    "words": one.words,
                    "entry": one.entry,
                    "log_id": one.log_id,
                    "about": one.about,
                }
            )
            for one in verdict.findings
        ],
    )


@router.get("/mails")
async def mails(
    reader: Reader,
    session: SessionDep,
    page: PageDep,
    to: Annotated[str | None, Query(max_length=254)] = None,
    since: Moment = None,
) -> Page[MailOut]:
    """What was mailed to whom, newest first; no bodies."""
    rows, cursor = await mail.listed(session, page, to=to, since=since)
    return Page(items=[MailOut(**row) for row in rows], next_cursor=cursor)


@router.get("/mails/suppressed")
async def suppressed(reader: Reader, session: SessionDep, page: PageDep) -> Page[SuppressedOut]:
    """Addresses that get no mail any more, newest first: they bounced for good, or their owners complained."""
    rows, cursor = await suppression.listed(session, page)
    return Page(items=[SuppressedOut(**row) for row in rows], next_cursor=cursor)


@router.post("/mails/suppressed/allow")
async def allow(operator: Operator, session: SessionDep, wanted: AddressIn) -> SuppressedOut:
    """Let an address get mail again."""
    row = await suppression.allow(session, wanted.address)
    # The address is somebody's: the log, which nobody can erase from, names its reason only.
    await record(
        session, operator, "mail:allowed", row["reason"], details={"since": str(row["suppressed_at"])}
    )
    return SuppressedOut(**row)


@router.get("/ingest-runs")
async def ingest_runs(
    reader: Reader,
    session: SessionDep,
    page: PageDep,
    clip: Annotated[str | None, Query(max_length=40, description="(the beginning of) its id")] = None,
    since: Moment = None,
) -> Page[RunOut]:
    """Attempts at making clips, newest first: how each ended, and why."""
    rows, cursor = await history.listed(session, page, clip=clip, since=since)
    return Page(items=[RunOut(**row) for row in rows], next_cursor=cursor)


async def _shown(session: AsyncSession, rows: Sequence[reading.Entry]) -> list[EntryOut]:
    """Rows with the names of who acted."""
    people = await accounts.named(session, {row.user_id for row, _, _ in rows if row.user_id is not None})
    return [
        EntryOut(
            log_id=row.id,
            entry=entry,
            at=row.at,
            actor=ActorOut(**people[row.user_id]) if row.user_id is not None else None,
            action=row.action,
            object=row.object,
            details=row.details,
            ip=ip,
            request_id=row.request_id,
        )
        for row, entry, ip in rows
    ]
