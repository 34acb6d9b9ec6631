"""Accounts over HTTP: registration, login, the account itself, its tokens."""

from typing import Annotated

from fastapi import APIRouter, Depends

from paletta_server.accounts import applications, recovery, service, tasks
from paletta_server.accounts.admin_routes import router as admin
from paletta_server.accounts.dependencies import ClientIp, HashSlot
from paletta_server.accounts.pages import pages
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.schemas import (
    ApplicationRequest,
    ApplicationStatus,
    LinkConfirmation,
    Login,
    LoginOut,
    MailRequest,
    Message,
    PasswordAgain,
    PasswordChange,
    ProfileChange,
    Registration,
    ResetConfirmation,
    TokenMade,
    TokenOut,
    TokenRequest,
    UserOut,
)
from paletta_server.accounts.security import CurrentUser, Principal, require
from paletta_server.accounts.user_routes import router as users
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthorized,
    problems,
)
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep

__all__ = ["pages", "router", "tasks"]

auth = APIRouter(prefix="/v1/auth", tags=["accounts"])
me = APIRouter(prefix="/v1/me", tags=["accounts"])

Owner = Annotated[Principal, Depends(require(Permission.MANAGE_PROFILE))]


@auth.post("/register", status_code=202, responses=problems(Invalid, TooManyRequests))
async def register(body: Registration, session: SessionDep, runtime: RuntimeDep, ip: ClientIp) -> Message:
    """Make an account. The answer is the same for every address; the rest is told by mail."""
    await service.register(
        session,
        runtime,
        email=body.email,
        password=body.password,
        display_name=body.display_name,
        institution=body.institution,
        ip=ip,
    )
    return Message(message=f"a mail is on its way to {body.email}")


@auth.post("/login", responses=problems(Unauthorized, Forbidden, Invalid, TooManyRequests))
async def login(body: Login, session: SessionDep, runtime: RuntimeDep, ip: ClientIp) -> LoginOut:
    """Exchange address and password for a device's token."""
    plain, token, user = await service.log_in(
        session,
        runtime,
        email=body.email,
        password=body.password,
        device=body.device,
        scopes=tuple(body.scopes),
        days=body.expires_in_days,
        ip=ip,
    )
    return LoginOut(token=plain, token_id=token.uid, expires_at=token.expires_at, user=UserOut.of(user))


@auth.post("/logout", status_code=204, responses=problems(Unauthorized))
async def logout(user: CurrentUser, session: SessionDep) -> None:
    """Revoke the token that this request carries."""
    await service.log_out(session, user)


@auth.post("/confirm", status_code=204, responses=problems(Unauthorized, Forbidden, Invalid, TooManyRequests))
async def confirm(
    _: HashSlot,
    body: PasswordAgain,
    user: CurrentUser,
    session: SessionDep,
    runtime: RuntimeDep,
    ip: ClientIp,
) -> None:
    """Give the password once more, which money, roles and erasure ask for."""
    await service.confirm(session, runtime, user, password=body.password, ip=ip)


@auth.post("/password-reset", status_code=202, responses=problems(Invalid, TooManyRequests))
async def ask_reset(body: MailRequest, session: SessionDep, runtime: RuntimeDep, ip: ClientIp) -> Message:
    """Have a reset link mailed. The answer is the same for every address."""
    await recovery.ask_reset(session, runtime, body.email, ip)
    return Message(message=f"if {body.email} has an account, a mail is on its way")


@auth.post("/password-reset/confirm", status_code=204, responses=problems(Invalid))
async def confirm_reset(
    _: HashSlot, body: ResetConfirmation, session: SessionDep, runtime: RuntimeDep
) -> None:
    """Choose a new password by the secret of a mailed link. Ends every token."""
    await recovery.reset(session, runtime, body.token, body.new_password)


@auth.post("/verify-email", status_code=202, responses=problems(Invalid, TooManyRequests))
async def ask_verification(
    body: MailRequest, session: SessionDep, runtime: RuntimeDep, ip: ClientIp
) -> Message:
    """Have a fresh confirmation link mailed. The answer is the same for every address."""
    await recovery.ask_verification(session, runtime, body.email, ip)
    return Message(message=f"if {body.email} waits to be confirmed, a mail is on its way")


@auth.post("/verify-email/confirm", status_code=204, responses=problems(Invalid))
async def confirm_email(body: LinkConfirmation, session: SessionDep, runtime: RuntimeDep) -> None:
    """Confirm an address by the secret of a mailed link."""
    await recovery.verify(session, runtime.settings, body.token)


@me.get("", responses=problems(Unauthorized))
async def see_me(user: CurrentUser, session: SessionDep) -> UserOut:
    """The account behind the token. Every token may ask, whatever its scopes."""
    return UserOut.of(await service.get_user(session, user.user_id))


@me.patch("", responses=problems(Unauthorized, Forbidden, Conflict, Invalid))
async def edit_me(body: ProfileChange, user: Owner, session: SessionDep) -> UserOut:
    """Change the profile; members that are left out stay as they are."""
    changed = await service.edit_profile(session, user, body.model_dump(exclude_unset=True))
    return UserOut.of(changed)


@me.post("/password", status_code=204, responses=problems(Unauthorized, Forbidden, Invalid, TooManyRequests))
async def change_password(
    _: HashSlot, body: PasswordChange, user: Owner, session: SessionDep, runtime: RuntimeDep, ip: ClientIp
) -> None:
    """Change the password. Every other token ends."""
    await service.change_password(
        session, runtime, user, current=body.current_password, new=body.new_password, ip=ip
    )


@me.get("/tokens", responses=problems(Unauthorized, Forbidden))
async def list_tokens(user: Owner, session: SessionDep, page: PageDep) -> Page[TokenOut]:
    """The account's living tokens, newest first."""
    found, cursor = await service.list_tokens(session, user.user_id, page)
    return Page(items=[TokenOut.of(token, current=user.token_id) for token in found], next_cursor=cursor)


@me.post(
    "/tokens",
    status_code=201,
    responses=problems(Unauthorized, Forbidden, Conflict, Invalid, TooManyRequests),
)
async def make_token(body: TokenRequest, user: Owner, session: SessionDep, runtime: RuntimeDep) -> TokenMade:
    """Make a token for scripts, no stronger than the one that asks. The secret is shown this once."""
    plain, token = await service.make_personal_token(
        session,
        runtime,
        user,
        name=body.name,
        scopes=tuple(body.scopes),
        days=body.expires_in_days,
    )
    shown = TokenOut.of(token, current=user.token_id)
    return TokenMade(token=plain, **shown.model_dump())


@me.delete("/tokens/{token_id}", status_code=204, responses=problems(Unauthorized, Forbidden, NotFound))
async def revoke_token(token_id: str, user: Owner, session: SessionDep) -> None:
    """End one token, at once."""
    await service.revoke_token(session, user, user.user_id, token_id)


@me.delete("/tokens", status_code=204, responses=problems(Unauthorized, Forbidden))
async def revoke_other_tokens(user: Owner, session: SessionDep) -> None:
    """End every token but the one that this request carries."""
    await service.revoke_other_tokens(session, user)


@me.post("/contributor-application", responses=problems(Unauthorized, Forbidden))
async def ask_to_contribute(
    body: ApplicationRequest, user: Owner, session: SessionDep, runtime: RuntimeDep
) -> ApplicationStatus:
    """Ask to become a contributor; `approved` at once or `pending` an admin's decision, as the operator
    set it."""
    status = await applications.apply(session, runtime.settings, user, body.statement)
    return ApplicationStatus.model_validate({"status": status})


router = APIRouter()
for part in (auth, me, admin, users):
    router.include_router(part)
