"""What the operator's logs look like on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ActorOut(BaseModel):
    """Whose account did it."""

    id: str
    email: str


class EntryOut(BaseModel):
    """A row of the audit log. `entry` is its place in the chain, null until it is chained (within a minute)."""

    log_id: int
    entry: int | None
    at: datetime
    actor: ActorOut | None
    """Null for the service itself."""
    action: str
    object: str
    details: dict[str, Any]
    ip: str | None
    request_id: str | None


class News(BaseModel):
    """Rows in the order of the chain; ask again with `after`."""

    items: list[EntryOut]
    after: int


class FindingOut(BaseModel):
    kind: Literal["changed", "removed", "inserted", "address_changed", "cut", "head", "noted_head"]
    words: str
    entry: int | None
    log_id: int | None
    about: dict[str, Any] | None
    """When, action and object, as the row has them now."""


class VerdictOut(BaseModel):
    """Whether the log is what was written. `head` is what to note somewhere else and to compare with next time."""

    intact: bool
    head: str
    entries: int
    unchained: int
    """Rows that came while this looked."""
    found: int
    findings: list[FindingOut]
    """The first hundred of what was found."""


class MailOut(BaseModel):
    """A mail that was, or is to be, sent; never its body. `tries`: how often it was handed to the mail server."""

    to: str
    subject: str
    status: Literal["waiting", "sent", "given_up"]
    created_at: datetime
    sent_at: datetime | None
    tries: int
    last_error: str | None


class SuppressedOut(BaseModel):
    """An address that gets no mail. `detail` is what its mail server said; `transient_bounces` did not count."""

    address: str
    reason: Literal["bounce", "complaint"]
    detail: str | None
    suppressed_at: datetime
    transient_bounces: int


class AddressIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str = Field(max_length=254)


class RunOut(BaseModel):
    """An attempt at making a clip. `error` is the reason where it failed; `figures` are seconds per step."""

    id: str
    clip_id: str
    title: str
    attempt: int
    status: str
    worker: str | None
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    figures: dict[str, Any]
