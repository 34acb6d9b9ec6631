"""What accounts look like on the wire."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from paletta_server.accounts import addresses
from paletta_server.accounts.models import ApiToken, ContributorApplication, User
from paletta_server.accounts.passwords import LONGEST
from paletta_server.accounts.permissions import Permission


def _line(value: object) -> object:
    """Text on one line without controls; nothing but blanks is nothing."""
    if not isinstance(value, str):
        return value
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in value)
    kept = "".join(c for c in kept if unicodedata.category(c) not in ("Cf", "Cs"))
    return re.sub(r" +", " ", kept).strip() or None


Email = Annotated[str, Field(max_length=254, examples=["ana@example.org"]), AfterValidator(addresses.normal)]
Password = Annotated[str, Field(max_length=LONGEST, repr=False, examples=["violet harbour kettle moss"])]
Secret = Annotated[str, Field(max_length=100, repr=False)]
Scopes = Annotated[list[Permission], Field(max_length=len(Permission))]
_Line = BeforeValidator(_line)
DisplayName = Annotated[Annotated[str, Field(max_length=80)] | None, _Line]
Institution = Annotated[Annotated[str, Field(max_length=100)] | None, _Line]
Device = Annotated[Annotated[str, Field(max_length=100)] | None, _Line]
Reason = Annotated[str, Field(min_length=3, max_length=500), BeforeValidator(_line)]
Username = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{2,19}$", examples=["ana_films"])]


class Body(BaseModel):
    """A request's body: a misspelt member is an error and not silence."""

    model_config = ConfigDict(extra="forbid")


class Registration(Body):
    email: Email
    password: Password
    display_name: DisplayName = None
    institution: Institution = None


class Message(BaseModel):
    message: str


class Login(Body):
    email: Email
    password: Password
    device: Device = None
    scopes: Scopes = []
    expires_in_days: Annotated[int, Field(ge=1, le=365)] | None = None


class UserOut(BaseModel):
    """An account as its owner sees it."""

    id: str
    email: str
    email_verified: bool
    display_name: str | None
    username: str | None
    institution: str | None
    role: Literal["customer", "contributor", "admin"]
    status: Literal["active", "disabled"]
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        return cls.model_validate(
            {
                "id": user.uid,
                "email": user.email,
                "email_verified": user.email_verified_at is not None,
                "display_name": user.display_name,
                "username": user.username,
                "institution": user.institution,
                "role": user.role,
                "status": user.status,
                "created_at": user.created_at,
            }
        )


class LoginOut(BaseModel):
    token: str
    token_id: str
    expires_at: datetime
    user: UserOut


class ProfileChange(Body):
    """Only the members that are present are changed; null clears one."""

    display_name: DisplayName = None
    username: Username | None = None
    institution: Institution = None


class PasswordChange(Body):
    current_password: Password
    new_password: Password


class PasswordAgain(Body):
    password: Password


class MailRequest(Body):
    email: Email


class ResetConfirmation(Body):
    token: Secret
    new_password: Password


class LinkConfirmation(Body):
    token: Secret


class TokenRequest(Body):
    name: Annotated[str, Field(min_length=1, max_length=100), BeforeValidator(_line)]
    scopes: Scopes = []
    expires_in_days: Annotated[int, Field(ge=1, le=365)] = 90


class TokenOut(BaseModel):
    """A token as its owner sees it in the list; the secret itself is nowhere stored."""

    id: str
    name: str
    device: str | None
    kind: Literal["device", "personal"]
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool

    @classmethod
    def of(cls, token: ApiToken, *, current: int) -> Self:
        return cls.model_validate(
            {
                "id": token.uid,
                "name": token.name,
                "device": token.device,
                "kind": token.kind,
                "scopes": token.scopes,
                "created_at": token.created_at,
                "last_used_at": token.last_used_at,
                "expires_at": token.expires_at,
                "current": token.id == current,
            }
        )


class TokenMade(TokenOut):
    token: str
    """The secret, shown this once."""


class ApplicationRequest(Body):
    statement: Annotated[str, Field(max_length=2000)] | None = None


class ApplicationStatus(BaseModel):
    status: Literal["approved", "pending"]


class Rejection(Body):
    reason: Reason


class ApplicationOut(BaseModel):
    """An application as an admin sees it."""

    id: str
    status: Literal["pending", "approved", "rejected"]
    statement: str | None
    reason: str | None
    created_at: datetime
    decided_at: datetime | None
    user: UserOut

    @classmethod
    def of(cls, application: ContributorApplication, user: User) -> Self:
        return cls.model_validate(
            {
                "id": application.uid,
                "status": application.status,
                "statement": application.statement,
                "reason": application.reason,
                "created_at": application.created_at,
                "decided_at": application.decided_at,
                "user": UserOut.of(user),
            }
        )
