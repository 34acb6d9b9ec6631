"""Disputes over HTTP: evidence is read, changed and sent, or the dispute is given up."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.audit.service import record
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.payments import answering, dispute_views, evidence
from paletta_server.payments.admin_schemas import (
    AdminDispute,
    AdminDisputeSummary,
    EvidenceFileIn,
    EvidenceIn,
)

router = APIRouter(
    prefix="/v1/admin/disputes",
    tags=["operators"],
    responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid),
)
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS))]
FreshOperator = Annotated[Principal, Depends(require(Permission.MANAGE_ORDERS, fresh=True))]


@router.get("")
async def list_disputes(
    user: Operator,
    session: SessionDep,
    page: PageDep,
    open_: Annotated[
        bool | None, Query(alias="open", description="only open ones, or only closed ones")
    ] = None,
    order: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[AdminDisputeSummary]:
    """Everybody's disputes, newest first."""
    items, cursor = await dispute_views.listed(session, page, open_=open_, order=order)
    return Page(items=items, next_cursor=cursor)


@router.get("/{dispute}")
async def show_dispute(
    user: Operator, session: SessionDep, runtime: RuntimeDep, dispute: str
) -> AdminDispute:
    """One dispute, with the evidence as it would be sent now, or as it was."""
    return await dispute_views.show(session, runtime, await evidence.find(session, dispute))


@router.patch("/{dispute}/evidence")
async def write_evidence(
    user: Operator, session: SessionDep, runtime: RuntimeDep, dispute: str, wanted: EvidenceIn
) -> AdminDispute:
    """Put texts in the place of our draft's."""
    found = await evidence.write(session, dispute, wanted.fields, version=wanted.version)
    await record(
        session, user, "dispute:evidence_changed", found.uid, details={"fields": sorted(wanted.fields)}
    )
    return await dispute_views.show(session, runtime, found)


@router.put("/{dispute}/files/{field}")
async def add_evidence_file(
    user: Operator, session: SessionDep, runtime: RuntimeDep, dispute: str, field: str, wanted: EvidenceFileIn
) -> AdminDispute:
    """Add a file: PDF, JPEG or PNG."""
    data = dispute_views.decoded(wanted.data)
    found = await evidence.add_file(session, dispute, field, data=data)
    await record(session, user, "dispute:evidence_changed", found.uid, details={"file": field})
    return await dispute_views.show(session, runtime, found)


@router.delete("/{dispute}/files/{field}")
async def remove_evidence_file(
    user: Operator, session: SessionDep, runtime: RuntimeDep, dispute: str, field: str
) -> AdminDispute:
    """Take a file out again."""
    found = await evidence.remove_file(session, dispute, field)
    await record(session, user, "dispute:evidence_changed", found.uid, details={"file_removed": field})
    return await dispute_views.show(session, runtime, found)


@router.post("/{dispute}/submit")
async def submit_evidence(user: FreshOperator, runtime: RuntimeDep, dispute: str) -> AdminDispute:
    """Send the evidence to the bank. It takes it once."""
    found = await answering.submit(runtime, user, dispute)
    async with runtime.db.transaction() as session:
        return await dispute_views.show(session, runtime, found)


@router.post("/{dispute}/accept")
async def accept_dispute(user: FreshOperator, runtime: RuntimeDep, dispute: str) -> AdminDispute:
    """Leave the money to the customer, for good."""
    found = await answering.accept(runtime, user, dispute)
    async with runtime.db.transaction() as session:
        return await dispute_views.show(session, runtime, found)
