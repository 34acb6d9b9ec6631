"""Kill switches over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page
from paletta_server.flags import service
from paletta_server.flags.schemas import FlagIn, FlagView

router = APIRouter(
    prefix="/v1/admin/flags", tags=["admin"], responses=problems(Unauthorized, Forbidden, NotFound, Invalid)
)
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_FLAGS))]
FreshOperator = Annotated[Principal, Depends(require(Permission.MANAGE_FLAGS, fresh=True))]


@router.get("")
async def list_flags(user: Operator, session: SessionDep) -> Page[FlagView]:
    """Every switch, and whether it is set."""
    return Page(items=[FlagView.of(state) for state in await service.listed(session)])


@router.put("/{name}")
async def set_flag(user: FreshOperator, session: SessionDep, name: str, wanted: FlagIn) -> FlagView:
    """Set a switch: every API process refuses within two seconds what it is about."""
    return FlagView.of(await service.set_(session, user, name, wanted.message))


@router.delete("/{name}")
async def clear_flag(user: FreshOperator, session: SessionDep, name: str) -> FlagView:
    """Take a switch back."""
    return FlagView.of(await service.clear(session, user, name))
