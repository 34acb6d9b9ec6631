"""Reports over HTTP, for operators."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.analytics import books, periods, service
from paletta_server.analytics.periods import By, Span
from paletta_server.analytics.schemas import (
    ContributorsReport,
    FunnelReport,
    Overview,
    SalesReport,
    SearchReport,
    StorageReport,
    UploadsReport,
)
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Forbidden, Invalid, Unauthorized, problems
from paletta_server.core.runtime import RuntimeDep

router = APIRouter(
    prefix="/v1/admin/stats",
    tags=["analytics"],
    responses=problems(Unauthorized, Forbidden, Invalid),
)
Analyst = Annotated[Principal, Depends(require(Permission.SEE_ANALYTICS))]
Top = Annotated[int, Query(ge=1, le=1000, description="rows of each list of the best")]


async def _span(
    user: Analyst,
    runtime: RuntimeDep,
    since: Annotated[date | None, Query(alias="from", description="first day (UTC)")] = None,
    until: Annotated[date | None, Query(alias="to", description="last day, included")] = None,
    by: By = "day",
) -> Span:
    span = periods.span(since, until, by)
    # Orders and uploads of a moment ago count, whenever the job that sums them up runs next. What was noted since then
    # is a day or two; where it is more, the report says as of when it is.
    await books.sum_up(runtime.db, steps=1)
    return span


SpanDep = Annotated[Span, Depends(_span)]
"""The last 30 days by default."""


@router.get("/overview")
async def overview(user: Analyst, session: SessionDep, span: SpanDep) -> Overview:
    """A screenful: sales, the way to them, what is missing, uploads, storage."""
    return await service.overview(session, span)


@router.get("/sales")
async def sales(user: Analyst, session: SessionDep, span: SpanDep, top: Top = 10) -> SalesReport:
    """Revenue, refunds and the best clips, each currency by itself."""
    return await service.sales(session, span, top=top)


@router.get("/contributors")
async def contributors(
    user: Analyst, session: SessionDep, span: SpanDep, top: Top = 10
) -> ContributorsReport:
    """Whose clips sell."""
    return await service.contributors(session, span, top=top)


@router.get("/search")
async def search(user: Analyst, session: SessionDep, span: SpanDep, top: Top = 10) -> SearchReport:
    """What is searched for, and what of it found nothing: what to commission next."""
    return await service.search(session, span, top=top)


@router.get("/uploads")
async def uploads(user: Analyst, session: SessionDep, span: SpanDep, top: Top = 10) -> UploadsReport:
    """What comes in, how long ingest takes, and why it fails."""
    return await service.uploads(session, span, top=top)


@router.get("/storage")
async def storage(user: Analyst, session: SessionDep, span: SpanDep) -> StorageReport:
    """What the store holds, by class."""
    return await service.storage(session, span)


@router.get("/funnel")
async def funnel(user: Analyst, session: SessionDep, span: SpanDep) -> FunnelReport:
    """From search to view to cart to checkout to paid order."""
    return await service.funnel(session, span)
