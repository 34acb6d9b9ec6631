"""Shapes of moderation: decisions, the review queue, reports and standing. Rates are from 0 to 1."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from paletta_server.accounts.directory import Person as Account
from paletta_server.clips.schemas import ClipDetail, ClipSummary
from paletta_server.core.errors import Problem

MOST = 100
"""Clips in one request."""
ClipId = Annotated[str, Field(max_length=100)]
Verdict = Literal["approved", "rejected", "changes_requested"]
Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TakeDownIn(_Strict):
    """Clips to take out of the shop. Their contributors read `reason`, buyers do not.

    `withhold_sold`: their buyers cannot fetch them meanwhile. Only a `legal` take-down may do that, and it does
    unless told otherwise. With `dry_run` nothing is changed and the answer is what would be.
    """

    clips: Annotated[list[ClipId], Field(min_length=1, max_length=MOST)]
    reason: Said
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


# ---- review


class DecisionIn(_Strict):
    """What to do with clips that wait for review. Contributors read the words of `reason_code`, then `reason`.

    `version`, of one clip alone, and `versions` by clip, as `clips` names it: decide only on what was looked at.
    """

    clips: Annotated[list[ClipId], Field(min_length=1, max_length=MOST)]
    verdict: Verdict
    reason: Said | None = None
    reason_code: Annotated[str, Field(max_length=40)] | None = None
    version: int | None = None
    versions: dict[ClipId, int] = {}


class ReviewedClip(BaseModel):
    id: str
    title: str
    stage: str
    reason: str | None


class Decided(BaseModel):
    decided: list[ReviewedClip]
    failed: list[Undecided]


class Contributor(BaseModel):
    """Whose clip it is, for operators."""

    id: str
    email: str
    name: str

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls(id=account.uid, email=account.email, name=account.called)


class Tally(BaseModel):
    """Clips by what was decided on them, and reports that were right. A rate is null where nothing was decided."""

    approved: int
    rejected: int
    changes_requested: int
    taken_down: int
    reports_upheld: int
    approval_rate: float | None
    """Approved of approved and rejected."""
    take_down_rate: float | None
    """Taken down of approved."""


class Standing(BaseModel):
    """`live` and `waiting` are clips as they are now; approved are those that a moderator let in."""

    live: int
    waiting: int
    all_time: Tally
    last_90_days: Tally


class ContributorStanding(BaseModel):
    contributor: Contributor
    standing: Standing


class QueuedClip(ClipSummary):
    """`version` goes with a decision on it. `alike` are ids of clips that it looks like, `alike_others` how many of
    them are other contributors'."""

    version: int
    contributor: Contributor
    standing: Standing
    alike: list[str]
    alike_others: int
    open_reports: int
    claimed_by: str | None


class AlikeClip(BaseModel):
    """An earlier clip that one looks like; `own`: the same contributor's.

    `frames` of the `kept` ones that are known of it have a like, the nearest `distance` bits of 64 away.
    """

    id: str
    title: str
    stage: str
    contributor: str
    own: bool
    frames: int
    kept: int
    distance: int


class PastDecision(BaseModel):
    at: datetime
    verdict: str
    reason: str | None


class NextIn(_Strict):
    """`after`: the clip that was offered last; left out, the queue begins anew. The others narrow it."""

    after: ClipId | None = None
    batch: Annotated[str, Field(max_length=100)] | None = None
    contributor: Annotated[str, Field(max_length=320)] | None = None


# ---- reports


class ReportIn(_Strict):
    """What is wrong with a clip: a code of `GET /v1/moderation/reasons`, and words. `other` needs words."""

    reason_code: Annotated[str, Field(max_length=40)]
    text: Note = ""


class ReportReceipt(BaseModel):
    id: str
    clip: str
    reason_code: str
    status: str


class ReportedClip(BaseModel):
    id: str
    title: str
    stage: str


class ReportOut(BaseModel):
    id: str
    clip: ReportedClip
    reporter: str
    reason_code: str
    text: str
    status: str
    created_at: datetime
    handled_by: str | None
    handled_at: datetime | None
    note: str | None


class TakeDownTerms(_Strict):
    """As in a take-down of its own."""

    reason: Said
    legal: bool = False
    withhold_sold: bool | None = None


class HandleIn(_Strict):
    """`note` is for moderators."""

    note: Note | None = None
    take_down: TakeDownTerms | None = None


class DismissIn(_Strict):
    note: Note | None = None


class Handled(BaseModel):
    """`open_reports_of_clip`: how many others there are on the same clip."""

    report: ReportOut
    taken_down: DecidedClip | None
    open_reports_of_clip: int


class ReviewItem(BaseModel):
    """Everything about a clip that waits. `claimed_by`: who else looks at it; null where the claim is the caller's."""

    clip: ClipDetail
    contributor: Contributor
    standing: Standing
    alike: list[AlikeClip]
    reports: list[ReportOut]
    history: list[PastDecision]
    claimed_by: str | None
    claimed_until: datetime | None


class NextOut(BaseModel):
    """`waiting` counts all clips that wait, whoever looks at them."""

    item: ReviewItem | None
    waiting: int


# ---- published lists


class ReviewReason(BaseModel):
    code: str
    label: str
    text: str


class ReportReason(BaseModel):
    code: str
    label: str


class Reasons(BaseModel):
    """`review`: why clips are turned down, with what their contributors read. `reports`: why clips are reported."""

    review: list[ReviewReason]
    reports: list[ReportReason]
