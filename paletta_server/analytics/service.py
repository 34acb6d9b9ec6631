"""Reports: what the figures by day say of a span of days."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.analytics import figures
from paletta_server.analytics.models import KINDS
from paletta_server.analytics.periods import Span
from paletta_server.analytics.schemas import (
    ContributorsReport,
    FunnelPeriod,
    FunnelReport,
    FunnelStep,
    IngestFailure,
    IngestTime,
    Overview,
    Sales,
    SalesPeriod,
    SalesReport,
    Searched,
    SearchPeriod,
    SearchReport,
    StorageReport,
    Stored,
    StoredPeriod,
    TopClip,
    TopContributor,
    UploadPeriod,
    UploadsReport,
    UploadState,
)

SHORT = 5
"""Rows of each list on an overview."""
STEPS = (*KINDS, "paid")

M = TypeVar("M", bound=BaseModel)


async def sales(session: AsyncSession, span: Span, *, top: int) -> SalesReport:
    """What was sold, by period and currency; never two currencies in one sum."""
    totals = await _totals(session, span)
    found = {(row["period"], row["currency"]): row for row in await figures.sales(session, span)}
    periods = [
        _sales(found.get((start, total.currency), {"currency": total.currency}), start)
        for start in span.starts()
        for total in totals
    ]
    clips = await _clips(session, span, top)
    return SalesReport(**await _head(session, span), periods=periods, totals=totals, clips=clips)


async def contributors(session: AsyncSession, span: Span, *, top: int) -> ContributorsReport:
    """Whose clips were sold, the best first in each currency."""
    rows = await figures.contributors(session, span, top)
    names = await accounts.public_names(session, {row["contributor"] for row in rows})
    found = [TopContributor(**{**row, "contributor": names.get(row["contributor"], "")}) for row in rows]
    return ContributorsReport(**await _head(session, span), contributors=found)


async def search(session: AsyncSession, span: Span, *, top: int) -> SearchReport:
    """What was searched for, and what of it the shop does not have."""
    found = {row["period"]: row for row in await figures.searches(session, span)}
    nothing = {"searches": 0, "empty": 0, "visitors": 0}
    return SearchReport(
        **await _head(session, span),
        periods=[SearchPeriod(**{**nothing, **found.get(day, {}), "period": day}) for day in span.starts()],
        top=_rows(Searched, await figures.queries(session, span, top)),
        unanswered=_rows(Searched, await figures.unanswered(session, span, top)),
    )


async def uploads(session: AsyncSession, span: Span, *, top: int) -> UploadsReport:
    """What came in, where it stands now, and how ingest did."""
    found = {row["period"]: row for row in await figures.uploads(session, span)}
    nothing = dict.fromkeys(("uploads", "bytes", "verified", "rejected", "unfinished", "given_up"), 0)
    return UploadsReport(
        **await _head(session, span),
        periods=[UploadPeriod(**{**nothing, **found.get(day, {}), "period": day}) for day in span.starts()],
        states=_rows(UploadState, await figures.upload_states(session, span)),
        times=_rows(IngestTime, await figures.ingest_times(session, span)),
        failures=_rows(IngestFailure, await figures.ingest_failures(session, span, top)),
    )


async def storage(session: AsyncSession, span: Span) -> StorageReport:
    """What the store holds by class, as last counted in each period and in all of them."""
    return StorageReport(
        **await _head(session, span),
        periods=_rows(StoredPeriod, await figures.stored_by_period(session, span)),
        kinds=_rows(Stored, await figures.stored(session, span)),
    )


async def funnel(session: AsyncSession, span: Span) -> FunnelReport:
    """How many came how far on the way from looking around to paying."""
    found = {row["period"]: row for row in await figures.visitors(session, span)}
    nothing = dict.fromkeys(STEPS, 0)
    return FunnelReport(
        **await _head(session, span),
        periods=[FunnelPeriod(**{**nothing, **found.get(day, {}), "period": day}) for day in span.starts()],
        steps=await _steps(session, span),
    )


async def overview(session: AsyncSession, span: Span) -> Overview:
    """The most important of every report."""
    return Overview(
        **await _head(session, span),
        sales=await _totals(session, span),
        sales_before=await _totals(session, span.before),
        funnel=await _steps(session, span),
        unanswered=_rows(Searched, await figures.unanswered(session, span, SHORT)),
        clips=await _clips(session, span, SHORT),
        states=_rows(UploadState, await figures.upload_states(session, span)),
        times=[
            row for row in _rows(IngestTime, await figures.ingest_times(session, span)) if row.step == "total"
        ],
        failures=_rows(IngestFailure, await figures.ingest_failures(session, span, SHORT)),
        storage=_rows(Stored, await figures.stored(session, span)),
    )


async def _head(session: AsyncSession, span: Span) -> dict[str, Any]:
    as_of: datetime = (await session.execute(text(figures.AS_OF))).scalar_one()
    return {"since": span.since, "until": span.until, "by": span.by, "as_of": as_of}


def _rows(shape: type[M], rows: Sequence[dict[str, Any]]) -> list[M]:
    return [shape(**row) for row in rows]


async def _totals(session: AsyncSession, span: Span) -> list[Sales]:
    return [Sales(**_derived(row)) for row in await figures.sales_totals(session, span)]


def _sales(row: dict[str, Any], period: date) -> SalesPeriod:
    return SalesPeriod(**_derived(row), period=period)


def _derived(row: dict[str, Any]) -> dict[str, Any]:
    """A row of sums with what follows from them; what a period has nothing of is 0."""
    names = ("orders", "units", "revenue", "tax", "refunds", "refunded", "disputed")
    sums: dict[str, int] = {name: int(row.get(name, 0)) for name in names}
    orders, revenue = sums["orders"], sums["revenue"]
    return {
        **sums,
        "currency": row["currency"],
        "average": (2 * revenue + orders) // (2 * orders) if orders else 0,
        "net": revenue - sums["refunded"] - sums["disputed"],
    }


async def _clips(session: AsyncSession, span: Span, top: int) -> list[TopClip]:
    rows = await figures.clips(session, span, top)
    names = await accounts.public_names(session, {row["contributor"] for row in rows})
    return [TopClip(**{**row, "contributor": names.get(row["contributor"], "")}) for row in rows]


async def _steps(session: AsyncSession, span: Span) -> list[FunnelStep]:
    found = {row["step"]: row for row in await figures.steps(session, span)}
    made: list[FunnelStep] = []
    for step in STEPS:
        row = found.get(step, {"times": 0, "visitors": 0})
        first, previous = (made[0].visitors, made[-1].visitors) if made else (0, 0)
        made.append(
            FunnelStep(
                step=step,
                times=row["times"],
                visitors=row["visitors"],
                of_previous=_share(row["visitors"], previous),
                of_first=_share(row["visitors"], first),
            )
        )
    return made


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
