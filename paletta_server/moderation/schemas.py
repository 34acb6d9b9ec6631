"""Shapes of moderation: decisions on several clips at once."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from paletta_server.core.errors import Problem

MOST = 100
"""Clips in one request."""
ClipId = Annotated[str, Field(max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TakeDownIn(_Strict):
    """Clips to take out of the shop. Their contributors read `reason`, buyers do not.

    `withhold_sold`: their buyers cannot fetch them meanwhile. Only a `legal` take-down may do that, and it does
    unless told otherwise. With `dry_run` nothing is changed and the answer is what would be.
    """

    clips: Annotated[list[ClipId], Field(min_length=1, max_length=MOST)]
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000)]
    legal: bool = False
    withhold_sold: bool | None = None
    dry_run: bool = False


class RestoreIn(_Strict):
    clips: Annotated[list[ClipId], Field(min_length=1, max_length=MOST)]


class DecidedClip(BaseModel):
    """A clip and where it stands now. `withheld`: its buyers cannot fetch it.

    `paid_items` of `paid_orders` orders are paid and not refunded in full. Nothing is refunded by itself.
    """

    id: str
    title: str
    stage: str
    withheld: bool
    paid_items: int
    paid_orders: int


class Undecided(BaseModel):
    """A clip, as it was named, that stays as it is, and why."""

    clip: str
    problem: Problem


class TakenDown(BaseModel):
    taken_down: list[DecidedClip]
    failed: list[Undecided]
    dry_run: bool


class Restored(BaseModel):
    restored: list[DecidedClip]
    failed: list[Undecided]
