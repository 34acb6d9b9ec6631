"""Accounts: making them, logging in and out, profiles, roles.

Whether an address has an account is nobody's business: registering, logging in and asking for a reset
answer the same for known and unknown addresses, and do the same work. That is also why an account cannot log
in before its address is confirmed: else registering and then logging in would tell a stranger whether the
account was there before.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import addresses, mails, passwords, throttle, tokens
from paletta_server.accounts.links import send_reset, send_verification
from paletta_server.accounts.models import ROLES, ApiToken, User
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.mail import send_mail
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)

PERSONAL_TOKENS = 100
"""How many of them an account may have at once."""


@dataclass(frozen=True)
class Acting:
    """Somebody who acts without a token: the person logging in, or opening a mailed link."""

    user_id: int


async def create_user(
    session: AsyncSession,
    *,
    email: str,
    password: str,
    role: str = "customer",
    verified: bool = False,
    display_name: str | None = None,
    shortest: int = 15,
) -> User:
    """Make an account on the operator's word. `shortest` is the setting for passwords.

    Raises `Invalid` for a bad address, a weak password or an unknown role, `Conflict` (`email_taken`).
    """
    if role not in ROLES:
        raise Invalid(f"`{role}` is not a role", hint="roles are " + ", ".join(ROLES))
    email = addresses.checked(email)
    passwords.check_strength(password, email=email, shortest=shortest)
    made = await insert_user(
        session,
        email=email,
        password_hash=await passwords.hashed(password),
        role=role,
        email_verified_at=func.now() if verified else None,
        display_name=display_name,
    )
    if made is None:
        raise Conflict(f"`{email}` has an account already", code="email_taken")
    await record(session, None, "account:created", made.uid, details={"role": role, "verified": verified})
    return made


async def register(
    session: AsyncSession,
    runtime: Runtime,
    *,
    email: str,
    password: str,
    display_name: str | None,
    institution: str | None,
    ip: str | None,
) -> None:
    """Make a customer's account and mail its owner a link, or tell the owner of an existing one by mail."""
    settings = runtime.settings
    await throttle.mail(runtime.db, email, ip)
    passwords.check_strength(password, email=email, shortest=settings.password_min_length)
    password_hash = await passwords.hashed(password)
    user = await insert_user(
        session, email=email, password_hash=password_hash, display_name=display_name, institution=institution
    )
    if user is None:
        await _tell_owner(session, settings, email)
        return
    await record(session, Acting(user.id), "account:registered", user.uid)
    await send_verification(session, settings, user)


async def _tell_owner(session: AsyncSession, settings: Settings, email: str) -> None:
    """Somebody registered an address that has an account: its owner hears of it, and gets on from there.

    Whoever made an account that was never confirmed may not have been the owner of the address, so the way on
    is a new password and not that account's own.
    """
    known = await session.scalar(select(User).where(User.email == email))
    if (
        known is not None
        and known.email_verified_at is None
        and known.status == "active"
        and known.deleted_at is None
    ):
        await send_reset(session, settings, known)
    else:
        key = f"already-registered:{new_uid('mail')}"
        await _send(session, email, mails.already_registered(settings), key)


async def insert_user(session: AsyncSession, **values: Any) -> User | None:
    """The new row, or None where the address is taken."""
    return await session.scalar(
        insert(User)
        .values(uid=new_uid("user"), **values)
        .on_conflict_do_nothing(index_elements=["email"])
        .returning(User)
    )


async def log_in(
    session: AsyncSession,
    runtime: Runtime,
    *,
    email: str,
    password: str,
    device: str | None,
    scopes: tuple[Permission, ...],
    days: int | None,
    ip: str | None,
) -> tuple[str, ApiToken, User]:
    """Exchange a password for a device's token. Raises `Unauthorized` (`bad_credentials`), `TooManyRequests`.

    No connection is held while the password is hashed, which is the slow part.
    """
    count = await throttle.attempt(runtime.db, email, ip)
    async with runtime.db.transaction() as reading:
        stored = await reading.scalar(
            select(User.password_hash).where(User.email == email, User.deleted_at.is_(None))
        )
    right, renewed = await passwords.verified(password, stored)
    user = None
    if right:
        # The row may have changed during the hashing: the hash that was proved must still be the one in
        # force.
        user = await session.scalar(
            select(User).where(User.email == email, User.password_hash == stored).with_for_update()
        )
    if user is None or user.deleted_at is not None or user.email_verified_at is None:
        log.info("login refused", extra={"account": throttle.account_key(email)[:24]})
        raise Unauthorized(
            "wrong e-mail address or password, or an address that was not confirmed yet",
            code="bad_credentials",
            hint="`paletta verify` confirms an address, `paletta reset-password` replaces a password",
        )
    if user.status != "active":
        raise Forbidden("this account is disabled", code="account_disabled", hint="ask the operator why")
    if renewed is not None:
        user.password_hash = renewed
    await throttle.succeeded(session, email, ip, count)
    limit = runtime.settings.token_absolute_days
    plain, token = await issue_token(
        session,
        user,
        name=device or "unnamed device",
        device=device,
        scopes=tuple(scope.value for scope in scopes),
        days=min(days or limit, limit),
    )
    await record(session, Acting(user.id), "account:logged_in", user.uid, details={"token": token.uid})
    return plain, token, user


async def confirm(
    session: AsyncSession, runtime: Runtime, principal: Principal, *, password: str, ip: str | None
) -> None:
    """Give the password once more with the token in use. Raises `Forbidden` (`bad_credentials`) and
    `TooManyRequests`."""
    count = await throttle.attempt(runtime.db, principal.email, ip)
    user = await session.get_one(User, principal.user_id, with_for_update=True)
    right, _ = await passwords.verified(password, user.password_hash)
    if not right:
        raise Forbidden("the password is wrong", code="bad_credentials", pointer="/password")
    await throttle.succeeded(session, principal.email, ip, count)
    await session.execute(
        update(ApiToken).where(ApiToken.id == principal.token_id).values(authenticated_at=func.now())
    )
    await record(session, principal, "account:confirmed", principal.uid)


async def issue_token(
    session: AsyncSession,
    user: User,
    *,
    kind: str = "device",
    name: str = "unnamed device",
    device: str | None = None,
    scopes: tuple[str, ...] = (),
    days: int = 90,
) -> tuple[str, ApiToken]:
    """A new token for `user`: the secret, to be shown once, and its row. `scopes` empty is all of the
    role's."""
    plain = tokens.mint(tokens.DEVICE if kind == "device" else tokens.PERSONAL)
    token = await session.scalar(
        insert(ApiToken)
        .values(
            uid=new_uid("tok"),
            user_id=user.id,
            kind=kind,
            name=name,
            device=device,
            digest=tokens.digest(plain),
            scopes=sorted(set(scopes)),
            expires_at=func.now() + timedelta(days=days),
            authenticated_at=func.now() if kind == "device" else None,
        )
        .returning(ApiToken)
    )
    assert token is not None
    return plain, token


async def make_personal_token(
    session: AsyncSession,
    runtime: Runtime,
    principal: Principal,
    *,
    name: str,
    scopes: tuple[Permission, ...],
    days: int,
) -> tuple[str, ApiToken]:
    """A token for scripts, never stronger than the one that asks for it.

    Made by a personal token or a restricted one, it also ends no later: what leaked must not renew itself.
    Raises `Forbidden` (`scope_escalation`), `TooManyRequests` and `Conflict` (`too_many`).
    """
    await throttle.token(runtime.db, principal.user_id)
    wanted = tuple(scope.value for scope in scopes) or principal.scopes
    if principal.scopes and not set(wanted) <= set(principal.scopes):
        beyond = sorted(set(wanted) - set(principal.scopes))
        raise Forbidden(
            f"this token cannot give what it does not have: {', '.join(beyond)}",
            code="scope_escalation",
            hint="log in with the password to make such a token",
        )
    user = await session.get_one(User, principal.user_id, with_for_update=True)
    living = select(func.count()).where(*_living(user.id), ApiToken.kind == "personal")
    if (await session.scalar(living) or 0) >= PERSONAL_TOKENS:
        raise Conflict(
            f"you have {PERSONAL_TOKENS} personal tokens already",
            code="too_many",
            hint="revoke one that is not used: `paletta tokens list`",
        )
    plain, token = await issue_token(session, user, kind="personal", name=name, scopes=wanted, days=days)
    asking = await session.get_one(ApiToken, principal.token_id)
    if asking.kind == "personal" or asking.scopes:
        token.expires_at = min(token.expires_at, asking.expires_at)
    await record(
        session, principal, "token:created", token.uid, details={"scopes": list(wanted), "days": days}
    )
    await _send(session, user.email, mails.token_made(runtime.settings, name), f"token:{token.uid}")
    return plain, token


def _living(user_id: int) -> tuple[ColumnElement[bool], ...]:
    return ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None), ApiToken.expires_at > func.now()


async def list_tokens(
    session: AsyncSession, user_id: int, page: PageParams
) -> tuple[list[ApiToken], str | None]:
    """An account's living tokens, newest first."""
    living = select(ApiToken).where(*_living(user_id))
    rows, cursor = await newest_first(session, living, ApiToken.id, page)
    return [token for (token,) in rows], cursor


async def log_out(session: AsyncSession, principal: Principal) -> None:
    await session.execute(
        update(ApiToken).where(ApiToken.id == principal.token_id).values(revoked_at=func.now())
    )
    await record(session, principal, "account:logged_out", principal.uid)


async def revoke_token(session: AsyncSession, actor: Principal, user_id: int, token: str) -> None:
    """End one of an account's tokens, at once. Raises `NotFound`."""
    row = await resolve(
        session,
        ApiToken,
        token,
        ApiToken.user_id == user_id,
        ApiToken.revoked_at.is_(None),
        kind="token",
        prefix="tok",
    )
    await session.execute(
        update(ApiToken)
        .where(ApiToken.id == row.id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )
    await record(session, actor, "token:revoked", row.uid)


async def revoke_tokens(session: AsyncSession, user_id: int, *, keep: int | None = None) -> int:
    """End all of an account's tokens, but the one with key `keep`; how many."""
    ended = await session.scalars(
        update(ApiToken)
        .where(ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None), ApiToken.id != (keep or 0))
        .values(revoked_at=func.now())
        .returning(ApiToken.id)
    )
    return len(ended.all())


async def revoke_other_tokens(session: AsyncSession, principal: Principal) -> None:
    """End all of the account's tokens but the one in use."""
    ended = await revoke_tokens(session, principal.user_id, keep=principal.token_id)
    await record(session, principal, "token:others_revoked", principal.uid, details={"tokens_ended": ended})


async def get_user(session: AsyncSession, user_id: int) -> User:
    return await session.get_one(User, user_id)


async def email_of(session: AsyncSession, user_id: int) -> str:
    """The address to write to, for other domains' mails."""
    return (await session.get_one(User, user_id)).email


async def public_names(session: AsyncSession, user_ids: Collection[int]) -> dict[int, str]:
    """What people are called before others: display name, user name, institution; never their address."""
    rows = await session.execute(
        select(User.id, User.uid, User.display_name, User.username, User.institution).where(
            User.id.in_(user_ids)
        )
    )
    return {
        key: display or username or institution or uid for key, uid, display, username, institution in rows
    }


def public_name(user_id: Any) -> ScalarSelect[str]:
    """For a list's own statement: what `public_names` says of one person."""
    named = func.coalesce(
        *(func.nullif(name, "") for name in (User.display_name, User.username, User.institution)), User.uid
    )
    return select(named).where(User.id == user_id).scalar_subquery()


async def licensee_of(session: AsyncSession, user_id: int) -> str:
    """To whom a licence is made out unless they say otherwise: institution, display name or address."""
    user = await get_user(session, user_id)
    return user.institution or user.display_name or user.email


async def find_user(session: AsyncSession, email: str) -> User:
    """The account of an address. Raises `NotFound`."""
    email = email.strip().lower()
    user = await session.scalar(select(User).where(User.email == email, User.deleted_at.is_(None)))
    if user is None:
        raise NotFound("account", email)
    return user


async def edit_profile(session: AsyncSession, principal: Principal, changes: dict[str, str | None]) -> User:
    """Change `display_name`, `username` or `institution`. Raises `Conflict` (`username_taken`)."""
    user = await session.get_one(User, principal.user_id, with_for_update=True)
    try:
        async with session.begin_nested():
            for field, value in changes.items():
                setattr(user, field, value)
    except IntegrityError as error:
        raise Conflict(
            f"the username `{changes.get('username')}` is taken", code="username_taken", pointer="/username"
        ) from error
    if changes:
        await record(session, principal, "account:edited", user.uid, details={"fields": sorted(changes)})
    return user


async def change_password(
    session: AsyncSession, runtime: Runtime, principal: Principal, *, current: str, new: str, ip: str | None
) -> None:
    """Replace the password and end every other token. Raises `Forbidden` (`bad_credentials`), `Invalid`."""
    settings = runtime.settings
    count = await throttle.attempt(runtime.db, principal.email, ip)
    user = await session.get_one(User, principal.user_id, with_for_update=True)
    right, _ = await passwords.verified(current, user.password_hash)
    if not right:
        raise Forbidden("the current password is wrong", code="bad_credentials", pointer="/current_password")
    await throttle.succeeded(session, principal.email, ip, count)
    await set_password(session, settings, user, new, keep=principal.token_id)


async def set_password(
    session: AsyncSession, settings: Settings, user: User, password: str, *, keep: int | None = None
) -> None:
    """Store a new password for a row that the caller has locked, end all tokens but `keep`, and tell the
    owner."""
    passwords.check_strength(password, email=user.email, shortest=settings.password_min_length)
    user.password_hash = await passwords.hashed(password)
    await session.flush()
    ended = await revoke_tokens(session, user.id, keep=keep)
    await record(
        session, Acting(user.id), "account:password_changed", user.uid, details={"tokens_ended": ended}
    )
    await _send(session, user.email, mails.password_changed(settings), f"password:{new_uid('mail')}")


async def set_role(session: AsyncSession, actor: Principal | None, user: User, role: str) -> None:
    """Give an account another role, from its next request on. Raises `Invalid` for an unknown role."""
    if role not in ROLES:
        raise Invalid(f"`{role}` is not a role", hint="roles are " + ", ".join(ROLES))
    before = user.role
    changed = await session.scalar(
        update(User).where(User.id == user.id, User.role != role).values(role=role).returning(User.id)
    )
    if changed is not None:
        await record(
            session, actor, "account:role_changed", user.uid, details={"before": before, "after": role}
        )


async def _send(session: AsyncSession, to: str, mail: mails.Mail, key: str) -> None:
    await send_mail(session, to=to, subject=mail.subject, text=mail.text, dedup_key=key)


async def find_any(session: AsyncSession, text: str) -> User:
    """The account of an address or an id, which may be abbreviated. Raises `NotFound`."""
    if "@" in text:
        return await find_user(session, text)
    return await resolve(session, User, text, kind="account", prefix="user")
