"""Shapes of the clip API. Sizes are bytes, times seconds."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from paletta_server.uploads.protocol import ITEMS_PER_CALL


class ClipSummary(BaseModel):
    id: str
    title: str
    stage: str
    reason: str | None
    file: str
    size: int
    duration: float | None
    width: int | None
    height: int | None
    fps: float | None
    codec: str | None
    category: str | None
    created_at: datetime
    poster_url: str | None


class RenditionView(BaseModel):
    """A tier that can be bought, or will be."""

    tier: str
    width: int | None
    height: int | None
    size: int
    codec: str | None


class Media(BaseModel):
    """Addresses of the previews, valid for a while; null where there is none yet."""

    comp: str | None = None
    loop: str | None = None
    poster: str | None = None
    storyboard: str | None = None
    storyboard_vtt: str | None = None


class ClipDetail(BaseModel):
    id: str
    version: int
    stage: str
    reason: str | None
    hint: str | None
    warnings: list[str]
    file: str | None
    """As the contributor named it. This, the checksum, releases, price, batch and agencies: for owner and admins."""
    size: int
    sha256: str | None
    duration: float | None
    width: int | None
    height: int | None
    fps: float | None
    codec: str | None
    technical: dict[str, Any] | None
    created_at: datetime
    listed_at: datetime | None

    title: str
    description: str
    keywords: list[str]
    categories: list[str]
    editorial: dict[str, Any] | None
    mature: bool
    illustration: bool
    location: dict[str, Any] | None
    shot_date: date | None
    source: str | None
    releases: dict[str, Any] | None
    copyright: str | None
    batch: str | None
    price: dict[str, Any] | None
    people: dict[str, Any] | None
    shot: dict[str, Any] | None
    ai_generated: bool
    exclusive: bool
    poster_at: float | None
    agencies: dict[str, Any] | None

    media: Media
    renditions: list[RenditionView]


class PosterCandidate(BaseModel):
    number: int
    at: float
    width: int
    height: int
    url: str
    chosen: bool


class Posters(BaseModel):
    items: list[PosterCandidate]


class PosterChoice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: Annotated[int, Field(ge=1)]


class ApplyItem(BaseModel):
    """One clip of a manifest: found by id, SHA-256 or file name, the first of them that is given."""

    model_config = ConfigDict(extra="forbid")

    ref: Annotated[str, Field(max_length=1024)] = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    clip_id: str | None = None
    file: str | None = None
    metadata: dict[str, Any]


class ApplyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[ApplyItem], Field(min_length=1, max_length=ITEMS_PER_CALL)]
    dry_run: bool = False


class AppliedChange(BaseModel):
    ref: str
    clip_id: str
    file: str
    changes: dict[str, tuple[Any, Any]]
    stage: tuple[str, str] | None = None
    """Before and after, where the change moves the clip: from `live` to `in_review` it is not for sale meanwhile."""


class Unmatched(BaseModel):
    ref: str
    reason: str


class ApplyProblem(BaseModel):
    ref: str
    pointer: str
    code: str
    message: str
    hint: str | None = None


class ApplyResponse(BaseModel):
    changes: list[AppliedChange]
    unmatched: list[Unmatched]
    problems: list[ApplyProblem]
    applied: bool


class Rejection(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=3, max_length=1000)]
