"""Who is asking, and may they? The dependencies that every route of ours names.

    user: Annotated[Principal, Depends(require(Permission.UPLOAD))]   # one permission of the table
    user: Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS, fresh=True))]   # and the password just now
    user: CurrentUser                                                 # any valid token
    user: OptionalUser                                                # public route; None for strangers

The account is read with every request, so a changed role, a revoked token and a closed account count from the
next request on. `permission_of` tells the tests which permission a route's dependency asks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import tokens
from paletta_server.accounts.models import ApiToken, User
from paletta_server.accounts.permissions import CONTRIBUTORS, PERMISSIONS, Permission, allowed
from paletta_server.core.database import Database
from paletta_server.core.errors import Forbidden, Unauthorized
from paletta_server.core.runtime import RuntimeDep

TOUCH_EVERY = timedelta(minutes=1)
"""How exact `last_used_at` is: one write a minute for a token in constant use."""

_bearer = HTTPBearer(auto_error=False, description="A token from `paletta login` or `paletta tokens create`.")


@dataclass(frozen=True)
class Principal:
    """The account and the token behind a request, as they are now."""

    user_id: int
    uid: str
    email: str
    email_verified: bool
    role: str
    scopes: tuple[str, ...]
    """What the token is restricted to; empty means everything that the role may do."""
    token_id: int
    fresh: bool = False
    """Whether the password was given with this token a short while ago."""

    def may(self, permission: Permission) -> bool:
        """Whether role and token together allow it, for rules that depend on more than the route."""
        return allowed(self.role, self.scopes, permission)


async def look_up(
    session: AsyncSession, secret: str, *, idle: timedelta, fresh: timedelta
) -> tuple[Principal, bool]:
    """The principal of a bearer token, and whether its last use should be noted.

    Raises `Unauthorized` (`invalid_token`, `token_expired`) and `Forbidden` (`account_disabled`). A
    device's token also ends when it was idle for too long; a personal one lives until its date.
    """
    if not tokens.well_formed(secret, tokens.DEVICE, tokens.PERSONAL):
        raise Unauthorized("the token is not one of ours, or was cut or mistyped", code="invalid_token")
    ended = or_(
        ApiToken.expires_at <= func.now(),
        and_(ApiToken.kind == "device", ApiToken.last_used_at <= func.now() - idle),
    )
    row = (
        await session.execute(
            select(
                User.id,
                User.uid,
                User.email,
                User.email_verified_at,
                User.role,
                User.status,
                User.deleted_at,
                ApiToken.id.label("token_id"),
                ApiToken.scopes,
                ApiToken.revoked_at,
                ended.label("ended"),
                func.coalesce(ApiToken.authenticated_at > func.now() - fresh, False).label("fresh"),
                (ApiToken.last_used_at < func.now() - TOUCH_EVERY).label("stale"),
            )
            .join(User, User.id == ApiToken.user_id)
            .where(ApiToken.digest == tokens.digest(secret))
        )
    ).one_or_none()
    if row is None or row.revoked_at is not None or row.deleted_at is not None:
        raise Unauthorized("the token is not valid, or was revoked", code="invalid_token")
    if row.ended:
        raise Unauthorized("the token has expired", code="token_expired")
    if row.status != "active":
        raise Forbidden("this account is disabled", code="account_disabled", hint="ask the operator why")
    principal = Principal(
        user_id=row.id,
        uid=row.uid,
        email=row.email,
        email_verified=row.email_verified_at is not None,
        role=row.role,
        scopes=tuple(row.scopes),
        token_id=row.token_id,
        fresh=row.fresh,
    )
    return principal, row.stale


async def _touch(database: Database, token_id: int) -> None:
    """Note the token's use. Conditional, so that of many requests at once one writes."""
    async with database.transaction() as session:
        await session.execute(
            update(ApiToken)
            .where(ApiToken.id == token_id, ApiToken.last_used_at < func.now() - TOUCH_EVERY)
            .values(last_used_at=func.now())
        )


async def _principal(
    runtime: RuntimeDep,
    background: BackgroundTasks,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    if credentials is None:
        raise Unauthorized
    idle = timedelta(days=runtime.settings.token_idle_days)
    fresh = timedelta(minutes=runtime.settings.fresh_login_minutes)
    # A short transaction of its own: a long poll must not hold a connection for as long as it waits.
    async with runtime.db.transaction() as session:
        principal, stale = await look_up(session, credentials.credentials, idle=idle, fresh=fresh)
    if stale:
        background.add_task(_touch, runtime.db, principal.token_id)
    return principal


async def optional_user(
    runtime: RuntimeDep,
    background: BackgroundTasks,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal | None:
    """Who is asking on a public route. A token that no longer works makes a stranger, not an error."""
    if credentials is None:
        return None
    try:
        return await _principal(runtime, background, credentials)
    except (Unauthorized, Forbidden):
        return None


class Gate:
    """A dependency that lets through whom `permission` allows (None: whoever has a valid token).

    With `fresh`, only where the password was given a short while ago.
    """

    def __init__(self, permission: Permission | None, *, fresh: bool = False) -> None:
        self.permission = permission
        self.fresh = fresh

    async def __call__(
        self, request: Request, principal: Annotated[Principal, Depends(_principal)]
    ) -> Principal:
        request.state.principal = principal
        if self.permission is not None:
            check(principal, self.permission)
        if self.fresh:
            check_fresh(principal)
        return principal

    def __repr__(self) -> str:
        return f"require({self.permission})"


def check(principal: Principal, permission: Permission) -> None:
    """Raise `Forbidden` where role or token do not allow it; the code says which, since the remedies
    differ."""
    roles = PERMISSIONS[permission]
    if principal.role not in roles:
        if roles == CONTRIBUTORS:
            raise Forbidden(
                "this is for contributors",
                code="not_a_contributor",
                hint="ask with `paletta profile become-contributor`",
            )
        raise Forbidden("this account's role does not allow it", code="forbidden")
    if not principal.may(permission):
        raise Forbidden(
            f"the token's scopes do not include `{permission.value}`",
            code="missing_scope",
            hint="use a token with that scope, or log in",
        )


def check_fresh(principal: Principal) -> None:
    """Raise `Forbidden` (`login_not_fresh`) unless the password was given a short while ago; for routes of which
    only some calls need it."""
    if not principal.fresh:
        raise Forbidden(
            "this needs your password once more",
            code="login_not_fresh",
            hint="`paletta confirm` asks for it, and it counts for some minutes",
        )


@cache
def require(permission: Permission, *, fresh: bool = False) -> Gate:
    """The dependency of a route that needs `permission`: `Annotated[Principal, Depends(require(…))]`.

    `fresh` is for money, roles and erasure: a terminal left unlocked, or a token that leaked, is not enough.
    """
    return Gate(permission, fresh=fresh)


_ANYONE_KNOWN = Gate(None)

CurrentUser = Annotated[Principal, Depends(_ANYONE_KNOWN)]
"""Any valid token, whatever its scopes: only for what every token may do (see itself, end itself)."""
OptionalUser = Annotated[Principal | None, Depends(optional_user)]


def permission_of(dependency: Callable[..., Any] | None) -> Permission | bool | None:
    """The permission that a dependency asks for; None for "any valid token"; False if it is not a gate."""
    return dependency.permission if isinstance(dependency, Gate) else False
