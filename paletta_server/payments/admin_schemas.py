"""What the operators' routes take and give. Amounts are minor units of `currency`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from paletta_server.orders.schemas import ItemView, OrderSummary
from paletta_server.payments.schemas import DisputeView, PaymentView, Reason, RefundView


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AdminOrderSummary(OrderSummary):
    """An order as operators list it: with its customer's address, and whether a dispute of it is open."""

    email: str
    disputed: bool


class AdminItem(ItemView):
    """An item with the right to its files. `right` is null until the order is paid; `goodwill_at`: since when it is
    left to the customer although its money went back."""

    right: str | None
    certificate: str | None
    ended_at: datetime | None
    goodwill_at: datetime | None
    upgrade_of: str | None
    """The order, by number, that it extends."""
    downloads: int


class DownloadView(BaseModel):
    item_id: str
    tier: str
    at: datetime
    via: str
    ip: str | None
    client: str | None


class MailView(BaseModel):
    subject: str
    to: str
    created_at: datetime
    sent_at: datetime | None
    error: str | None


class TrailEntry(BaseModel):
    """An entry of the audit log; `by` is an address, null for the service itself."""

    at: datetime
    action: str
    by: str | None
    object: str
    details: dict[str, Any]


class AdminOrder(AdminOrderSummary):
    """Everything about an order. Downloads, mails and the trail are the newest, in the order of time."""

    items: list[AdminItem]
    payments: list[PaymentView]
    refunds: list[RefundView]
    disputes: list[DisputeView]
    downloads: list[DownloadView]
    mails: list[MailView]
    trail: list[TrailEntry]


class Decision(_Strict):
    reason: Reason


class MarkSent(_Strict):
    """`reference`: the bank's own of the transfer."""

    reference: Reason


class AttentionItem(BaseModel):
    """Something that needs a person. `subject` names it for a note that takes it off the list."""

    subject: str
    kind: Literal[
        "refund_failed",
        "refund_waits",
        "refund_stuck",
        "refund_to_send",
        "surplus_kept",
        "amount_differs",
        "event_unhandled",
        "dispute_due",
        "dispute_response_failed",
    ]
    order: str | None
    since: datetime
    words: str
    hint: str


class AttentionList(BaseModel):
    items: list[AttentionItem]
    more: bool
    """Whether there is more of some kind than is listed."""


class AttentionDone(_Strict):
    subject: Annotated[
        str, StringConstraints(min_length=3, max_length=120, pattern=r"^[a-z_]+:[A-Za-z0-9_.:-]+$")
    ]
    note: Reason


class EvidenceField(BaseModel):
    """`source`: what we drafted, what an operator wrote, or what was sent."""

    text: str
    source: Literal["draft", "operator", "sent"]


class EvidenceFileView(BaseModel):
    field: str
    name: str
    content_type: str
    size: int
    source: Literal["draft", "operator", "sent"]


class EarlierAnswer(BaseModel):
    """What was answered when the bank asked before. `status`: how the dispute stood when it asked again."""

    round: int
    status: str
    response: str
    responded_by: str | None
    responded_at: datetime | None
    evidence: dict[str, str]
    files: list[EvidenceFileView]


class AdminDispute(DisputeView):
    """A dispute in full. `can_answer`: its bank waits for evidence, and none was sent since it asked. `round`: how
    often it has asked, such as once more for an appeal."""

    order: str
    """Its number."""
    order_id: str
    gateway: str
    email: str
    responded_by: str | None
    can_answer: bool
    takes_files: bool
    round: int
    fields: dict[str, str]
    """Fields of text that evidence may have, with what belongs into each."""
    file_fields: dict[str, str]
    version: int
    """Of the evidence; goes with a change of it."""
    evidence: dict[str, EvidenceField]
    files: list[EvidenceFileView]
    earlier: list[EarlierAnswer]
    """Oldest first."""


class AdminDisputeSummary(DisputeView):
    order: str
    gateway: str
    can_answer: bool


class EvidenceIn(_Strict):
    """Texts by field; null goes back to our draft, an empty text leaves the field out. `version`: of the evidence
    that was read, for a change that would undo nobody's."""

    fields: Annotated[
        dict[str, Annotated[str, Field(max_length=20_000)] | None], Field(min_length=1, max_length=30)
    ]
    version: int | None = None


class EvidenceFileIn(_Strict):
    """A file as base64."""

    data: Annotated[str, Field(max_length=8 * 1024 * 1024)]


class ReconcileIn(_Strict):
    """`order`: this one alone, by id or number. `fix` settles what differs."""

    order: Annotated[str, Field(max_length=100)] | None = None
    since: datetime | None = None
    fix: bool = False
    cursor: Annotated[str, Field(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 25


class Comparable(BaseModel):
    """What can be compared: the gateways whose lists can be read."""

    gateways: list[str]


class LedgersIn(_Strict):
    """`limit`: orders, or payouts, on a page."""

    since: datetime | None = None
    cursor: Annotated[str, Field(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=2000)] = 2000


class DifferenceView(BaseModel):
    """`what` is `ours` with us and `theirs` at the gateway (None: not there). `fixed`: not any more."""

    order: str | None
    payment: str | None
    gateway: str
    what: str
    ours: str | None
    theirs: str | None
    fixed: bool = False


class Reconciled(BaseModel):
    compared: int
    differences: list[DifferenceView]
    next_cursor: str | None = None


class ListedIn(_Strict):
    """What a gateway knows of a period and we do not: its list, page by page."""

    gateway: Annotated[str, Field(max_length=40)]
    since: datetime
    fix: bool = False
    cursor: Annotated[str, Field(max_length=200)] | None = None
