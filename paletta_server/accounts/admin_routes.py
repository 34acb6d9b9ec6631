"""What admins do with accounts, over HTTP."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts import applications
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.schemas import ApplicationOut, Rejection
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep

router = APIRouter(prefix="/v1/admin/contributor-applications", tags=["admin"])

Admin = Annotated[Principal, Depends(require(Permission.MANAGE_USERS))]
FreshAdmin = Annotated[Principal, Depends(require(Permission.MANAGE_USERS, fresh=True))]
Status = Annotated[Literal["pending", "approved", "rejected"] | None, Query()]


@router.get("", responses=problems(Unauthorized, Forbidden))
async def list_applications(
    admin: Admin, session: SessionDep, page: PageDep, status: Status = None
) -> Page[ApplicationOut]:
    """Applications to contribute, newest first."""
    rows, cursor = await applications.listed(session, status, page)
    return Page(items=[ApplicationOut.of(*row) for row in rows], next_cursor=cursor)


@router.post("/{application_id}/approve", responses=problems(Unauthorized, Forbidden, NotFound, Conflict))
async def approve(
    application_id: str, admin: FreshAdmin, session: SessionDep, runtime: RuntimeDep
) -> ApplicationOut:
    """Make the applicant a contributor, and say so by mail."""
    return ApplicationOut.of(*await applications.approve(session, runtime.settings, admin, application_id))


@router.post(
    "/{application_id}/reject", responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
)
async def reject(
    application_id: str, body: Rejection, admin: Admin, session: SessionDep, runtime: RuntimeDep
) -> ApplicationOut:
    """Decline, with a reason that the applicant reads."""
    return ApplicationOut.of(
        *await applications.reject(session, runtime.settings, admin, application_id, body.reason)
    )
