"""Answering disputes: evidence is sent once each time that the bank asks, or the dispute is given up for good.

That an answer is to be given is committed before the gateway hears of it; the bank's word is taken from the gateway,
as everything is (`settle`). Whoever dies in between leaves a row that a job or the reconciler takes up with the same
idempotency keys.
"""

import logging
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict
from paletta_server.core.ids import new_uid
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.payments import evidence, gateways, rounds
from paletta_server.payments.disputes import wants_answer
from paletta_server.payments.gateway import Evidence, Failed, Gateway, GatewayDown, Refused
from paletta_server.payments.models import Dispute, DisputeFile
from paletta_server.payments.refunds import AGAIN_SECONDS
from paletta_server.payments.settling import settle

log = logging.getLogger(__name__)

UNDER_WAY = ("submitting", "accepting")
_UNDER_WAY = Dispute.response.in_(UNDER_WAY)
AT_ONCE = 100


async def submit(runtime: Runtime, user: Principal, text: str) -> Dispute:
    """Send the evidence as it stands. The answer may still be `submitting` where the gateway is away.

    Raises `NotFound`, `Conflict` (`answered`, `dispute_closed`, `not_waiting`, `too_late`), `Invalid` (`no_evidence`).
    """
    async with runtime.db.transaction() as session:
        dispute = await _claimable(session, text)
        if await session.scalar(select(Dispute.due_by <= func.now()).where(Dispute.id == dispute.id)):
            raise Conflict("the time for evidence is over", code="too_late")
        gateway = gateways.of(runtime, dispute.gateway)
        await evidence.freeze(session, runtime.settings, dispute, with_files=gateway.takes_files)
        await _claim(session, dispute, user, "submitting")
        details = {"dispute": dispute.uid, "fields": sorted(dispute.evidence)}
        await record(session, user, "dispute:answered", dispute.uid, details=details)
    return await _sent(runtime, dispute.id)


async def accept(runtime: Runtime, user: Principal, text: str) -> Dispute:
    """Leave the money to the customer, for good. Raises as `submit`, and `Conflict` (`inquiry`)."""
    async with runtime.db.transaction() as session:
        dispute = await _claimable(session, text)
        if dispute.status.startswith("warning_"):
            raise Conflict(
                "this is an inquiry: no money was taken yet",
                code="inquiry",
                hint="give the money back: `paletta admin refunds create ORDER --all`",
            )
        await _claim(session, dispute, user, "accepting")
        details = {"dispute": dispute.uid, "amount": dispute.amount, "currency": dispute.currency}
        await record(session, user, "dispute:accepted", dispute.uid, details=details)
    return await _sent(runtime, dispute.id)


async def _claimable(session: AsyncSession, text: str) -> Dispute:
    dispute = await evidence.find(session, text, lock=True)
    if dispute.response != "none":
        raise Conflict(f"dispute `{dispute.uid}` was answered already: {dispute.response}", code="answered")
    if dispute.outcome is not None:
        raise Conflict(f"dispute `{dispute.uid}` is over: {dispute.outcome}", code="dispute_closed")
    if not wants_answer(dispute.status):
        words = dispute.status.replace("_", " ")
        raise Conflict(f"dispute `{dispute.uid}` waits for nothing of ours: {words}", code="not_waiting")
    return dispute


async def _claim(session: AsyncSession, dispute: Dispute, user: Principal, response: str) -> None:
    dispute.response, dispute.response_key = response, new_uid("answer")
    dispute.responded_by, dispute.response_failure = user.user_id, None
    dispute.responded_at = await session.scalar(select(func.now()))
    await session.flush()
    await defer(session, "payments.send_answer", delay_seconds=AGAIN_SECONDS, dispute_id=dispute.id)


async def _sent(runtime: Runtime, dispute_id: int) -> Dispute:
    with suppress(GatewayDown):  # it stays claimed, and the job asks again
        await send(runtime, dispute_id)
    async with runtime.db.transaction() as session:
        return await session.get_one(Dispute, dispute_id)


async def send(runtime: Runtime, dispute_id: int) -> None:
    """Give the gateway the answer that was claimed, and settle. Asking again changes nothing.

    Raises `GatewayDown`; then it stays claimed.
    """
    async with runtime.db.transaction() as session:
        dispute = await session.get_one(Dispute, dispute_id)
    if dispute.response not in UNDER_WAY:
        return
    gateway = gateways.of(runtime, dispute.gateway)
    refusal = await _refusal(
        _submit(runtime, gateway, dispute) if dispute.response == "submitting" else _accept(gateway, dispute)
    )
    # Also after a refusal: an earlier call of which we never heard may have gone through.
    await settle(runtime, dispute.payment_id)
    if refusal is None:
        await _finish(runtime, dispute)
    else:
        await _give_up(runtime, dispute, refusal.detail)


async def _refusal(asking: Awaitable[None]) -> Refused | Failed | None:
    try:
        await asking
    except (Refused, Failed) as error:
        return error
    return None


async def _accept(gateway: Gateway, dispute: Dispute) -> None:
    await gateway.accept_dispute(dispute.reference, key=str(dispute.response_key))


async def _submit(runtime: Runtime, gateway: Gateway, dispute: Dispute) -> None:
    async with runtime.db.transaction() as session:
        added = await rounds.files(session, dispute)
    references: dict[str, str] = {}
    for one in added:
        references[one.field] = one.reference or await _upload(runtime, gateway, one)
    await gateway.submit_evidence(
        dispute.reference, key=str(dispute.response_key), evidence=Evidence(dispute.evidence, references)
    )


async def _upload(runtime: Runtime, gateway: Gateway, file: DisputeFile) -> str:
    reference = await gateway.upload_evidence(
        key=file.key, name=file.name, content_type=file.content_type, data=file.data
    )
    async with runtime.db.transaction() as session:
        await session.execute(
            update(DisputeFile).where(DisputeFile.id == file.id).values(reference=reference)
        )
    return reference


async def _finish(runtime: Runtime, dispute: Dispute) -> None:
    """The gateway took it; what it tells of the dispute may lag behind."""
    done = {"submitting": "submitted", "accepting": "accepted"}[dispute.response]
    async with runtime.db.transaction() as session:
        await session.execute(
            update(Dispute)
            .where(Dispute.id == dispute.id, Dispute.response_key == dispute.response_key, _UNDER_WAY)
            .values(response=done)
        )


async def _give_up(runtime: Runtime, dispute: Dispute, why: str) -> None:
    """The gateway will not take this answer: another may be given."""
    async with runtime.db.transaction() as session:
        again = await session.scalar(
            update(Dispute)
            .where(Dispute.id == dispute.id, Dispute.response_key == dispute.response_key, _UNDER_WAY)
            .values(response="none", response_failure=why, response_key=None)
            .returning(Dispute.id)
        )
        if again is None:
            return
        # Keys stand for one request, and a gateway may answer them with the same error for a day.
        for file in await rounds.files(session, dispute):
            if file.reference is None:
                file.key = new_uid("evidence")
        details = {"dispute": dispute.uid, "reason": why}
        log.error("an answer to a dispute was refused", extra=details)
        await record(session, None, "dispute:answer_failed", dispute.uid, details=details)


async def unsent(session: AsyncSession) -> list[tuple[int, str]]:
    """Answers that were claimed a while ago and not given, with their gateways."""
    patience = timedelta(seconds=2 * AGAIN_SECONDS)
    found = await session.execute(
        select(Dispute.id, Dispute.gateway)
        .where(
            _UNDER_WAY,
            or_(Dispute.responded_at.is_(None), Dispute.responded_at < func.now() - patience),
        )
        .order_by(Dispute.id)
        .limit(AT_ONCE)
    )
    return [(key, gateway) for key, gateway in found]
