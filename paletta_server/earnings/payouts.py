"""Paying contributors: the plan, a run of it, and what became of each payout.

Runs take one advisory lock, so that of two at once the second sees what the first took along. A refund at the same
moment is not in the way: it is an entry of its own, and what it makes of the balance is netted by the next run.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import errors
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import directory
from paletta_server.accounts.directory import Person
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict, Unavailable
from paletta_server.core.ids import new_uid, resolve
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.settings import Settings
from paletta_server.earnings import ledger, mails
from paletta_server.earnings.details import masked
from paletta_server.earnings.ledger import Entry, Posting
from paletta_server.earnings.models import (
    ARRIVED,
    IN_TRANSIT,
    PAID,
    PAYABLE,
    PAYOUT,
    PENDING,
    RETURNED,
    Payout,
    PayoutAccount,
    PayoutRun,
)
from paletta_server.earnings.schemas import Outcome, PayoutView, PlanLine, PlanView, RunSummary, RunView

LOCK = 0x7061796F757473  # "payouts" in ASCII: the advisory lock's number


@dataclass(frozen=True)
class Due:
    """What somebody has in a currency, and what a run would do about it."""

    person: Person
    currency: str
    payable: int
    entry: int
    """The last one of the ledger that made it so much: equal sums of another time are something else."""
    on_hold: int
    account: PayoutAccount | None
    outcome: Outcome


async def _due(session: AsyncSession, settings: Settings) -> list[Due]:
    """Everybody with something payable, or owing, by e-mail address."""
    balances = await ledger.balances(session)
    keys = {user_id for user_id, _ in balances}
    people = await directory.people(session, keys)
    rows = await session.scalars(select(PayoutAccount).where(PayoutAccount.user_id.in_(keys)))
    accounts = {row.user_id: row for row in rows}
    last = await ledger.newest(session, PAYABLE)
    found = []
    for (user_id, currency), stands in balances.items():
        if amount := stands[PAYABLE]:
            person, account = people[user_id], accounts.get(user_id)
            outcome = _outcome(settings, person, account, amount)
            entry = last[user_id, currency]
            found.append(Due(person, currency, amount, entry, stands[PENDING], account, outcome))
    return sorted(found, key=lambda one: (one.person.email, one.person.id, one.currency))


def _outcome(settings: Settings, person: Person, account: PayoutAccount | None, amount: int) -> Outcome:
    if person.erased:
        return "erased"
    if person.deleted:
        return "deleted"
    if not person.active:
        return "disabled"
    if amount < 0:
        return "owes"
    if amount < settings.payout_minimum:
        return "below_minimum"
    return "no_details" if account is None else "pay"


def _to_pay(due: Sequence[Due]) -> list[tuple[Due, PayoutAccount]]:
    return [(one, one.account) for one in due if one.outcome == "pay" and one.account is not None]


def _digest(due: Sequence[Due]) -> str:
    lines = [
        (one.person.uid, one.currency, one.payable, one.entry, account.holder, account.number, account.bic)
        for one, account in _to_pay(due)
    ]
    return hashlib.sha256(repr(lines).encode()).hexdigest()


async def plan(session: AsyncSession, settings: Settings) -> PlanView:
    """Who would get what now, and who would not and why."""
    due = await _due(session, settings)
    totals: Counter[str] = Counter()
    for one, _ in _to_pay(due):
        totals[one.currency] += one.payable
    lines = [
        PlanLine(
            user_id=one.person.uid,
            email=one.person.email,
            name=one.person.name,
            currency=one.currency,
            amount=one.payable,
            on_hold=one.on_hold,
            outcome=one.outcome,
            account=masked(one.account.number) if one.account else None,
        )
        for one in due
    ]
    return PlanView(lines=lines, totals=totals, minimum=settings.payout_minimum, digest=_digest(due))


async def run(
    session: AsyncSession, settings: Settings, user: Principal, *, digest: str, key: str | None
) -> RunView:
    """Make the payouts of a plan: their money leaves what is payable. With a `key` that was used before: that run.

    Raises `Conflict` (`key_reused` by another operator or for another plan, `nothing_due`, `plan_changed`) and
    `Unavailable` (`payouts_busy`).
    """
    await alone(session)
    if key is not None and (known := await session.scalar(select(PayoutRun).where(PayoutRun.key == key))):
        if known.made_by != user.user_id or known.digest not in (digest, None):
            raise Conflict("this Idempotency-Key was used for another payout run", code="key_reused")
        return await view(session, known)
    due = await _due(session, settings)
    paying = _to_pay(due)
    if not paying:
        raise Conflict(
            "nobody is to be paid now", code="nothing_due", hint="`paletta admin payouts plan` says why"
        )
    if digest != _digest(due):
        raise Conflict(
            "what is to be paid has changed since the plan was made",
            code="plan_changed",
            hint="look at `paletta admin payouts plan` again",
        )
    made = PayoutRun(uid=new_uid("run"), made_by=user.user_id, key=key, digest=digest)
    session.add(made)
    await session.flush()
    payouts = [
        Payout(
            uid=new_uid("payout"),
            run_id=made.id,
            user_id=one.person.id,
            currency=one.currency,
            amount=one.payable,
            holder=account.holder,
            number=account.number,
            bic=account.bic,
            country=account.country,
        )
        for one, account in paying
    ]
    session.add_all(payouts)
    await session.flush()
    await ledger.append(session, [_move(PAYOUT, one, PAYABLE, IN_TRANSIT) for one in payouts])
    for one in payouts:
        details = {"run": made.uid, "amount": one.amount, "currency": one.currency}
        await record(session, user, "payout:made", one.uid, details=details)
    await session.flush()
    await session.refresh(made)
    return await view(session, made)


async def alone(session: AsyncSession) -> None:
    """Keep other runs out until the transaction ends."""
    try:
        await session.execute(select(func.pg_advisory_xact_lock(LOCK)))
    except OperationalError as error:
        if isinstance(error.orig, errors.LockNotAvailable):
            raise Unavailable("another payout run is being made", code="payouts_busy") from error
        raise


def _move(kind: str, payout: Payout, source: str, target: str) -> Posting:
    entries = [
        Entry(source, payout.currency, -payout.amount, payout.user_id),
        Entry(target, payout.currency, payout.amount, payout.user_id),
    ]
    return Posting(kind, entries, payout_id=payout.id)


# ---- what became of them


async def confirm(
    session: AsyncSession, settings: Settings, user: Principal, text: str, wanted: Collection[str] | None
) -> RunView:
    """Payouts of a run arrived: those named, or all in transit. Each contributor is told; saying so again changes
    nothing. Raises `NotFound` and `Conflict` (`payout_failed`)."""
    made = await find(session, text)
    query = select(Payout).where(Payout.run_id == made.id)
    if wanted is not None:
        named = [
            await resolve(session, Payout, one, Payout.run_id == made.id, kind="payout") for one in wanted
        ]
        query = query.where(Payout.id.in_([one.id for one in named]))
    payouts = list(
        await session.scalars(
            query.order_by(Payout.id).with_for_update().execution_options(populate_existing=True)
        )
    )
    if wanted is not None and (gone := [one.uid for one in payouts if one.status == "failed"]):
        raise Conflict(f"payout `{gone[0]}` failed: its money went back", code="payout_failed")
    arrived = [one for one in payouts if one.status == "in_transit"]
    now = await session.scalar(select(func.now()))
    for one in arrived:
        one.status, one.decided_at = "paid", now
    await ledger.append(session, [_move(ARRIVED, one, IN_TRANSIT, PAID) for one in arrived])
    people = await directory.people(session, {one.user_id for one in arrived})
    for one in arrived:
        await record(session, user, "payout:paid", one.uid, details={"run": made.uid})
        if not people[one.user_id].erased:
            mail = mails.paid(settings, one, masked(one.number))
            await mails.send(session, people[one.user_id].email, mail, f"payout:{one.uid}:paid")
    return await view(session, made)


async def mark_failed(
    session: AsyncSession, settings: Settings, user: Principal, wanted: Sequence[str], reason: str
) -> list[PayoutView]:
    """Payouts did not arrive, or came back from the bank: their money is payable again, and the contributor is told.
    All or none; saying so again changes nothing. Raises `NotFound`."""
    payouts = {(one := await resolve(session, Payout, text, kind="payout")).id: one for text in wanted}
    postings = []
    people = await directory.people(session, {one.user_id for one in payouts.values()})
    for key in sorted(payouts):
        one = await session.get_one(Payout, key, with_for_update=True, populate_existing=True)
        if one.status == "failed":
            continue
        source = IN_TRANSIT if one.status == "in_transit" else PAID
        one.status, one.failure = "failed", reason
        one.decided_at = await session.scalar(select(func.now()))
        postings.append(_move(RETURNED, one, source, PAYABLE))
        await record(
            session, user, "payout:failed", one.uid, details={"reason": reason, "amount": one.amount}
        )
        if not people[one.user_id].erased:
            mail = mails.failed(settings, one, masked(one.number), reason)
            await mails.send(session, people[one.user_id].email, mail, f"payout:{one.uid}:failed")
    await ledger.append(session, postings)
    return [_payout(one, people[one.user_id]) for one in payouts.values()]


# ---- reading


async def find(session: AsyncSession, text: str) -> PayoutRun:
    """A run, by (the beginning of) its id. Raises `NotFound`."""
    return await resolve(session, PayoutRun, text, kind="payout run", prefix="run")


async def listed(session: AsyncSession, page: PageParams) -> tuple[list[RunSummary], str | None]:
    """Runs, newest first."""
    rows, cursor = await newest_first(session, select(PayoutRun), PayoutRun.id, page)
    runs = [run for (run,) in rows]
    parts = await payouts_of(session, [run.id for run in runs])
    return [_summary(run, parts[run.id]) for run in runs], cursor


async def view(session: AsyncSession, made: PayoutRun) -> RunView:
    """A run with its payouts, by e-mail address."""
    payouts = (await payouts_of(session, [made.id]))[made.id]
    people = await directory.people(session, {one.user_id for one in payouts})
    items = [_payout(one, people[one.user_id]) for one in payouts]
    items.sort(key=lambda one: (one.email, one.currency))
    return RunView(**_summary(made, payouts).model_dump(), items=items)


async def payouts_of(session: AsyncSession, run_ids: Sequence[int]) -> dict[int, list[Payout]]:
    """The payouts of runs, as they are now."""
    found: dict[int, list[Payout]] = {key: [] for key in run_ids}
    query = select(Payout).where(Payout.run_id.in_(run_ids)).order_by(Payout.id)
    for row in await session.scalars(query.execution_options(populate_existing=True)):
        found[row.run_id].append(row)
    return found


def _summary(made: PayoutRun, payouts: Sequence[Payout]) -> RunSummary:
    totals: Counter[str] = Counter()
    for one in payouts:
        if one.status != "failed":
            totals[one.currency] += one.amount
    status = Counter(one.status for one in payouts)
    return RunSummary(
        id=made.uid,
        created_at=made.created_at,
        payouts=len(payouts),
        in_transit=status["in_transit"],
        paid=status["paid"],
        failed=status["failed"],
        totals=totals,
    )


def _payout(row: Payout, person: Person) -> PayoutView:
    names = ("status", "currency", "amount", "holder", "failure", "decided_at")
    return PayoutView(
        id=row.uid,
        user_id=person.uid,
        email=person.email,
        account=masked(row.number),
        **{name: getattr(row, name) for name in names},
    )
