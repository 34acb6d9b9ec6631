"""Shapes of reports. Money is whole minor units of the currency beside it, sizes are bytes, durations seconds.

`period` is the first day of a day, week (Monday) or month, UTC. Visitors are told apart within a day only, so over
several days they are visits of a visitor's day each.
"""

from datetime import date, datetime

from pydantic import BaseModel

from paletta_server.analytics.periods import By


class Report(BaseModel):
    """What every report says of itself. Both days are included."""

    since: date
    until: date
    by: By
    as_of: datetime
    """Everything before is in the figures; what came later may be."""


class Sales(BaseModel):
    """What was earned in one currency. Orders count when they are paid, refunds when they go through."""

    currency: str
    orders: int
    units: int
    revenue: int
    """With tax."""
    tax: int
    average: int
    """Revenue of an order."""
    refunds: int
    refunded: int
    disputed: int
    net: int
    """Revenue less refunds and disputes."""


class SalesPeriod(Sales):
    period: date


class TopClip(BaseModel):
    """A clip that was sold. `refunded` is what of this was given back since, whenever that was."""

    clip_id: str
    title: str
    contributor: str
    currency: str
    units: int
    revenue: int
    refunded: int


class TopContributor(BaseModel):
    contributor_id: str
    contributor: str
    currency: str
    clips: int
    units: int
    revenue: int
    refunded: int


class SalesReport(Report):
    periods: list[SalesPeriod]
    totals: list[Sales]
    clips: list[TopClip]


class ContributorsReport(Report):
    contributors: list[TopContributor]


class SearchPeriod(BaseModel):
    period: date
    searches: int
    empty: int
    """Searches that found nothing."""
    visitors: int


class Searched(BaseModel):
    """Words that were searched for. `hits` is the most that they found."""

    query: str
    searches: int
    empty: int
    hits: int


class SearchReport(Report):
    periods: list[SearchPeriod]
    top: list[Searched]
    unanswered: list[Searched]
    """What found nothing, by how often it did."""


class UploadPeriod(BaseModel):
    period: date
    uploads: int
    bytes: int
    verified: int
    rejected: int
    unfinished: int
    """Still on their way."""
    given_up: int
    """Cancelled or expired."""


class UploadState(BaseModel):
    state: str
    uploads: int
    bytes: int


class IngestTime(BaseModel):
    """How long runs took that ended well; quantiles within 2.5 per cent."""

    step: str
    runs: int
    p50: float
    p95: float


class IngestFailure(BaseModel):
    """Runs that came to nothing, by the day on which they ended."""

    reason: str
    runs: int


class UploadsReport(Report):
    periods: list[UploadPeriod]
    states: list[UploadState]
    times: list[IngestTime]
    failures: list[IngestFailure]


class Stored(BaseModel):
    kind: str
    objects: int
    bytes: int


class StoredPeriod(Stored):
    """As last counted in the period."""

    period: date


class StorageReport(Report):
    """`unfinished uploads` are as large as they may become. What workers have on their own disks is not in it."""

    periods: list[StoredPeriod]
    kinds: list[Stored]


class FunnelStep(BaseModel):
    """`paid` counts orders that were placed in the time and paid since, and their customers."""

    step: str
    times: int
    visitors: int
    of_previous: float | None
    """Visitors as a share of the step before; None where nobody was there."""
    of_first: float | None


class FunnelPeriod(BaseModel):
    """Visitors by step."""

    period: date
    search: int
    view: int
    cart: int
    checkout: int
    paid: int


class FunnelReport(Report):
    periods: list[FunnelPeriod]
    steps: list[FunnelStep]


class Overview(Report):
    """A screenful of everything."""

    sales: list[Sales]
    sales_before: list[Sales]
    """The same of as many days before."""
    funnel: list[FunnelStep]
    unanswered: list[Searched]
    clips: list[TopClip]
    states: list[UploadState]
    times: list[IngestTime]
    failures: list[IngestFailure]
    storage: list[Stored]
