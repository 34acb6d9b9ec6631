"""What accounts look like to operators."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from paletta_server.accounts.administration import status_of
from paletta_server.accounts.models import User
from paletta_server.accounts.schemas import Body, DisplayName, Email, Institution, Reason, Username

Role = Literal["customer", "contributor", "admin"]
Status = Literal["active", "disabled", "deleted", "erased"]


class AccountOut(BaseModel):
    """An account as an operator sees it."""

    id: str
    email: str
    email_verified: bool
    display_name: str | None
    username: str | None
    institution: str | None
    role: Role
    status: Status
    created_at: datetime
    last_seen_at: datetime | None = None
    """When a token was last used, to the minute; in lists and details only."""

    @classmethod
    def of(cls, user: User, **more: Any) -> Self:
        names = ("email", "display_name", "username", "institution", "role", "created_at")
        return cls(
            id=user.uid,
            email_verified=user.email_verified_at is not None,
            status=status_of(user),
            **{name: getattr(user, name) for name in names},
            **more,
        )


class Spent(BaseModel):
    """Minor units of a currency."""

    currency: str
    total: int
    refunded: int


class Sold(BaseModel):
    """What was sold of somebody's clips: `amount` in minor units before tax, refunds not taken off."""

    currency: str
    items: int
    amount: int


class Uploaded(BaseModel):
    batches: int
    files: int
    under_way: int


class AccountDetail(AccountOut):
    """The same with everything that an operator wants on one screen."""

    status_reason: str | None
    deleted_at: datetime | None
    erased_at: datetime | None
    pending_email: str | None
    """An address that waits to be confirmed in place of the account's."""
    application: Literal["pending", "approved", "rejected"] | None
    """How the last application to contribute stands."""
    sessions: dict[str, int]
    """Living tokens by kind: device, personal."""
    orders: dict[str, int]
    """By status."""
    bought: list[Spent]
    sold: list[Sold]
    licences: int
    downloads: int
    clips: int
    live: int
    uploads: Uploaded
    collections: int


class NewAccount(Body):
    email: Email
    role: Role = "customer"
    display_name: DisplayName = None
    institution: Institution = None


class AccountChange(Body):
    """Only the members that are present are changed; null clears one, but not the address."""

    email: Email | None = None
    display_name: DisplayName = None
    username: Username | None = None
    institution: Institution = None


class _MaybeOwn(Body):
    own_account: bool = False
    """Says that the caller means their own account, should it be that."""


class RoleChange(_MaybeOwn):
    role: Role


class Disabling(_MaybeOwn):
    reason: Reason


class Erasure(_MaybeOwn):
    id: str
    """The whole id of the account once more."""
    waive_earnings: bool = False
    """They give up what they have earned and were not paid; without it that keeps them from being erased."""


class SessionsEnded(BaseModel):
    ended: int
