"""Earnings over HTTP: a contributor's statement and bank details, and the operators' payouts and royalty rates."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal, require
from paletta_server.audit.service import record
from paletta_server.core.database import SessionDep
from paletta_server.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, problems
from paletta_server.core.pagination import Page, PageDep
from paletta_server.core.runtime import RuntimeDep
from paletta_server.earnings import bankfile, details, payouts, rates, service, statements
from paletta_server.earnings.schemas import (
    CheckView,
    ConfirmIn,
    DifferenceView,
    EarningsView,
    FailedIn,
    PayoutAccountIn,
    PayoutAccountView,
    PayoutsView,
    PlanView,
    RateIn,
    RatesView,
    RateView,
    RunIn,
    RunSummary,
    RunView,
    StatementView,
)

router = APIRouter(
    prefix="/v1", tags=["earnings"], responses=problems(Unauthorized, Forbidden, NotFound, Conflict, Invalid)
)
Contributor = Annotated[Principal, Depends(require(Permission.SEE_EARNINGS))]
FreshContributor = Annotated[Principal, Depends(require(Permission.SEE_EARNINGS, fresh=True))]
Operator = Annotated[Principal, Depends(require(Permission.MANAGE_PAYOUTS))]
FreshOperator = Annotated[Principal, Depends(require(Permission.MANAGE_PAYOUTS, fresh=True))]
IdempotencyKey = Annotated[str | None, Header(max_length=100, pattern=r"^[\x21-\x7e]+$")]
Month = Annotated[str | None, Query(max_length=20, examples=["2026-05"])]


# ---- contributors


@router.get("/me/earnings")
async def show_earnings(user: Contributor, session: SessionDep, runtime: RuntimeDep) -> EarningsView:
    """What the caller has earned: on hold, payable, on its way, paid."""
    return await statements.earnings(session, runtime.settings, user)


@router.get("/me/earnings/statement")
async def show_statement(
    user: Contributor, session: SessionDep, page: PageDep, month: Month = None
) -> StatementView:
    """A month of the caller's, of UTC; without `month` the present one."""
    return await statements.statement(session, user, month, page)


@router.get("/me/payout-account")
async def show_account(user: Contributor, session: SessionDep) -> PayoutAccountView:
    """Where the caller is paid, masked."""
    return await details.show(session, user)


@router.put("/me/payout-account")
async def set_account(
    user: FreshContributor, session: SessionDep, runtime: RuntimeDep, wanted: PayoutAccountIn
) -> PayoutAccountView:
    """Pay the caller here from the next payout on; a mail says so."""
    return await details.store(session, runtime.settings, user, wanted)


@router.delete("/me/payout-account", status_code=204)
async def remove_account(user: FreshContributor, session: SessionDep, runtime: RuntimeDep) -> None:
    """Pay the caller nowhere; what is payable waits."""
    await details.remove(session, runtime.settings, user)


# ---- payouts


@router.get("/admin/payouts/plan")
async def plan_payouts(user: Operator, session: SessionDep, runtime: RuntimeDep) -> PlanView:
    """Who would be paid what now, and who would not and why."""
    return await payouts.plan(session, runtime.settings)


@router.get("/admin/payouts/check")
async def check_ledger(user: Operator, session: SessionDep) -> CheckView:
    """Where the ledger is not what payments, sold items and payouts say: nowhere, if all is well."""
    found = await service.differences(session)
    return CheckView(
        items=[
            DifferenceView(
                what=one.what,
                object=one.object,
                currency=one.currency,
                expected=one.expected,
                found=one.found,
            )
            for one in found
        ]
    )


@router.post("/admin/payouts", status_code=201)
async def run_payouts(
    user: FreshOperator,
    session: SessionDep,
    runtime: RuntimeDep,
    wanted: RunIn,
    idempotency_key: IdempotencyKey = None,
) -> RunView:
    """Make the payouts of a plan."""
    return await payouts.run(session, runtime.settings, user, digest=wanted.digest, key=idempotency_key)


@router.get("/admin/payouts")
async def list_runs(user: Operator, session: SessionDep, page: PageDep) -> Page[RunSummary]:
    """Payout runs, newest first."""
    items, cursor = await payouts.listed(session, page)
    return Page(items=items, next_cursor=cursor)


@router.post("/admin/payouts/mark-failed")
async def mark_failed(
    user: FreshOperator, session: SessionDep, runtime: RuntimeDep, wanted: FailedIn
) -> PayoutsView:
    """Payouts did not arrive, or came back: their money is payable again."""
    done = await payouts.mark_failed(session, runtime.settings, user, wanted.payouts, wanted.reason)
    return PayoutsView(items=done)


@router.get("/admin/payouts/{run}")
async def show_run(user: Operator, session: SessionDep, run: str) -> RunView:
    """A run and what became of its payouts."""
    return await payouts.view(session, await payouts.find(session, run))


@router.get("/admin/payouts/{run}/export")
async def export_run(user: FreshOperator, session: SessionDep, run: str) -> Response:
    """The payouts of a run that are in transit, as CSV for the bank, with whole account numbers."""
    found = await payouts.find(session, run)
    rows = (await payouts.payouts_of(session, [found.id]))[found.id]
    await record(session, user, "payouts:exported", found.uid)
    return Response(bankfile.document(rows), media_type="text/csv; charset=utf-8")


@router.post("/admin/payouts/{run}/confirm")
async def confirm_run(
    user: FreshOperator, session: SessionDep, runtime: RuntimeDep, run: str, wanted: ConfirmIn
) -> RunView:
    """Payouts arrived: those named, or all in transit; their contributors are told."""
    return await payouts.confirm(session, runtime.settings, user, run, wanted.payouts)


# ---- royalty rates


@router.get("/admin/royalties")
async def list_rates(user: Operator, session: SessionDep) -> RatesView:
    """The shop's royalty rates and those of single contributors."""
    return RatesView(items=await rates.listed(session))


@router.put("/admin/royalties/{whose}")
async def set_rate(user: FreshOperator, session: SessionDep, whose: str, wanted: RateIn) -> RateView:
    """A rate for what is sold from now on: `standard`, `exclusive`, or a contributor's by address or id."""
    return await rates.set_rate(session, user, whose, wanted.rate)


@router.delete("/admin/royalties/{whose}", status_code=204)
async def unset_rate(user: FreshOperator, session: SessionDep, whose: str) -> None:
    """Back to the shop's rate, for what is sold from now on."""
    await rates.unset(session, user, whose)
