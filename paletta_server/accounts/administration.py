"""What operators do with accounts: finding and making them, changing what they say, ending their sessions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import addresses, links, mails, passwords, service
from paletta_server.accounts.models import ApiToken, User
from paletta_server.accounts.permissions import CUSTOMER
from paletta_server.accounts.security import Principal, check_fresh
from paletta_server.audit.service import Actor, record
from paletta_server.core.errors import Conflict, NotFound
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.mail import send_mail
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.settings import Settings

STATUSES = ("active", "disabled", "deleted", "erased")
Listed = tuple[User, datetime | None]
"""An account, and when a token of it was last used."""


@dataclass(frozen=True)
class Filter:
    """Which accounts to list. `text` is looked for in address and names; `until` is not included."""

    role: str | None = None
    status: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def status_of(user: User) -> str:
    """Where an account stands: active, disabled, deleted or erased."""
    if user.erased_at is not None:
        return "erased"
    return "deleted" if user.deleted_at is not None else user.status


def _is(status: str) -> ColumnElement[bool]:
    known: dict[str, ColumnElement[bool]] = {
        "erased": User.erased_at.is_not(None),
        "deleted": User.deleted_at.is_not(None) & User.erased_at.is_(None),
        "disabled": (User.status == "disabled") & User.deleted_at.is_(None),
        "active": (User.status == "active") & User.deleted_at.is_(None),
    }
    return known[status]


async def find(session: AsyncSession, text: str, *, lock: bool = False) -> User:
    """Anybody's account, by (the beginning of) its id or by its address. Raises `NotFound`, `Conflict`
    (`ambiguous_id`)."""
    if "@" not in text:
        return await resolve(session, User, text, kind="user", lock=lock)
    query = select(User).where(User.email == _normal(text))
    user = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    if user is None:
        raise NotFound("user", text.strip()[:254])
    return user


def _normal(text: str) -> str:
    try:
        return addresses.normal(text)
    except ValueError:
        return text.strip().lower()


async def named(session: AsyncSession, user_ids: Collection[int]) -> dict[int, dict[str, str]]:
    """Ids and addresses of people, by key, for operators' lists."""
    rows = await session.execute(select(User.id, User.uid, User.email).where(User.id.in_(user_ids)))
    return {key: {"id": uid, "email": email} for key, uid, email in rows}


async def listed(
    session: AsyncSession, wanted: Filter, page: PageParams
) -> tuple[Sequence[Listed], str | None]:
    """Accounts that fit, newest first."""
    query = select(User, last_seen())
    if wanted.role:
        query = query.where(User.role == wanted.role)
    if wanted.status:
        query = query.where(_is(wanted.status))
    if wanted.text:
        columns = (User.email, User.display_name, User.username, User.institution)
        query = query.where(or_(*(column.icontains(wanted.text, autoescape=True) for column in columns)))
    if wanted.since:
        query = query.where(User.created_at >= wanted.since)
    if wanted.until:
        query = query.where(User.created_at < wanted.until)
    rows, cursor = await newest_first(session, query, User.id, page)
    return [(user, seen) for user, seen in rows], cursor


def last_seen() -> ScalarSelect[datetime]:
    """When a token of the account was last used, to the minute."""
    return select(func.max(ApiToken.last_used_at)).where(ApiToken.user_id == User.id).scalar_subquery()


async def create(
    session: AsyncSession,
    settings: Settings,
    admin: Principal,
    *,
    email: str,
    role: str,
    display_name: str | None,
    institution: str | None,
) -> User:
    """Make an account for somebody and mail them a link to choose its password; nobody else ever knows one.

    Raises `Conflict` (`email_taken`), and `Forbidden` (`login_not_fresh`) for anybody but a customer.
    """
    if role != CUSTOMER:
        check_fresh(admin)
    return await invite(
        session,
        settings,
        admin,
        email=email,
        role=role,
        display_name=display_name,
        institution=institution,
    )


async def invite(
    session: AsyncSession,
    settings: Settings,
    actor: Actor | None,
    *,
    email: str,
    role: str,
    display_name: str | None = None,
    institution: str | None = None,
) -> User:
    """Make an account that nobody can log in to before its owner has used the link that is mailed to them.

    `email` is one of `addresses`; `actor` None is whoever may run the service's own commands. Raises `Conflict`
    (`email_taken`).
    """
    made = await service.insert_user(
        session,
        email=email,
        password_hash=passwords.NOBODYS_HASH,
        role=role,
        display_name=display_name,
        institution=institution,
    )
    if made is None:
        raise await _taken(session, email)
    await record(session, actor, "account:created", made.uid, details={"role": role, "invited": True})
    await links.send_invitation(session, settings, made)
    return made


async def edit(
    session: AsyncSession, settings: Settings, admin: Principal, text: str, changes: dict[str, Any]
) -> User:
    """Change what an account says. Another `email` counts once it is confirmed by the mail that goes there.

    Raises `NotFound`, `Conflict` (`username_taken`, `email_taken`, `not_open`), and for an address `Forbidden`
    (`login_not_fresh`): who can change it can take the account.
    """
    address = changes.pop("email", None)
    if address is not None:
        check_fresh(admin)
    user = await find(session, text, lock=True)
    check_open(user)
    fields = {field: value for field, value in changes.items() if getattr(user, field) != value}
    try:
        async with session.begin_nested():
            for field, value in fields.items():
                setattr(user, field, value)
    except IntegrityError as error:
        raise Conflict(
            f"the username `{changes.get('username')}` is taken", code="username_taken", pointer="/username"
        ) from error
    if fields:
        await record(session, admin, "account:edited", user.uid, details={"fields": sorted(fields)})
    if address is not None and address != user.email:
        await _change_address(session, settings, admin, user, address)
    return user


async def _change_address(
    session: AsyncSession, settings: Settings, admin: Principal, user: User, address: str
) -> None:
    if await session.scalar(select(User.id).where(User.email == address)) is not None:
        raise await _taken(session, address)
    await links.send_change(session, settings, user, address)
    if user.email_verified_at is not None:
        await tell(session, user, mails.change_asked(settings), "address-asked")
    await record(session, admin, "account:email_change_asked", user.uid)


async def _taken(session: AsyncSession, address: str) -> Conflict:
    user = await session.scalar(select(User).where(User.email == address))
    hint = "`paletta admin users show` has it; `paletta reset-password` mails its owner a link for a new password"
    if user is not None and user.deleted_at is not None:
        hint = f"the account {user.uid} is deleted; erasing it makes the address free"
    return Conflict(f"`{address}` has an account already", code="email_taken", hint=hint, pointer="/email")


def check_open(user: User) -> None:
    """Raise `Conflict` (`not_open`) for an account that is deleted or erased."""
    if user.deleted_at is not None:
        raise Conflict(
            f"{user.uid} is {status_of(user)}",
            code="not_open",
            hint="`paletta admin users enable` opens it again" if user.erased_at is None else None,
        )


async def end_sessions(session: AsyncSession, admin: Principal, text: str, token: str | None) -> int:
    """End one token of an account (by id), or with None all of them; how many. Raises `NotFound`."""
    user = await find(session, text)
    if token is not None:
        await service.revoke_token(session, admin, user.id, token)
        return 1
    ended = await service.revoke_tokens(session, user.id)
    await record(session, admin, "token:all_revoked", user.uid, details={"tokens_ended": ended})
    return ended


async def tell(session: AsyncSession, user: User, mail: mails.Mail, what: str) -> None:
    """Mail the person at the address that the account has now."""
    key = f"{what}:{new_uid('mail')}"
    await send_mail(session, to=user.email, subject=mail.subject, text=mail.text, dedup_key=key)
