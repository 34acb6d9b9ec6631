"""Shapes of search and of the shop window. Times are seconds, sizes bytes, money decimals of the currency."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from paletta_server.clips.schemas import ClipDetail, RenditionView


class FromPrice(BaseModel):
    amount: str
    currency: str


class ClipCard(BaseModel):
    """A clip in a list of the shop."""

    id: str
    title: str
    duration: float | None
    width: int | None
    height: int | None
    fps: float | None
    category: str | None
    contributor: str | None
    editorial: bool
    tiers: list[str]
    price: FromPrice | None
    """The lowest there is for the clip."""
    listed_at: datetime | None
    poster_url: str | None


class FacetValue(BaseModel):
    value: str
    clips: int


class SearchPage(BaseModel):
    """A page of results. Items that were withdrawn a moment ago are left out, so that a page may be short."""

    items: list[ClipCard]
    next_cursor: str | None
    total: int
    total_relation: Literal["exact", "about"]
    """`about`: counted from a sample, as large results are."""
    sort: str
    showing: str | None
    """What was looked for instead, where the words asked for are nowhere: "showing results for …"."""
    facets: dict[str, list[FacetValue]] | None = None
    facets_relation: Literal["exact", "about"] | None = None


class Suggestions(BaseModel):
    items: list[str]


class SaleTier(RenditionView):
    """A tier that can be bought, and its price by licence."""

    prices: dict[str, str]


class ClipPage(ClipDetail):
    """A clip in full, as a buyer wants to see it."""

    contributor: str | None
    currency: str | None
    tiers: list[SaleTier]
    views: int | None
    """How often it was looked at: for its owner and admins."""
    related: list[ClipCard]
