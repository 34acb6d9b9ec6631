"""Jobs of the sandbox: it delivers its events over HTTP, to the address where Stripe would."""

import httpx
from sqlalchemy import func, update

from paletta_server.core.jobs import job
from paletta_server.core.runtime import Runtime
from paletta_server.payments.sandbox import desk
from paletta_server.payments.sandbox.models import SandboxEvent
from paletta_server.payments.sandbox.signing import HEADER, sign

TIMEOUT_SECONDS = 10


@job("sandbox.deliver")
async def deliver(runtime: Runtime, *, event_id: int) -> None:
    """Deliver one event. What is not acknowledged is delivered again by the queue."""
    desk.refuse_in_production(runtime.settings)
    async with runtime.db.transaction() as session:
        event = await session.get_one(SandboxEvent, event_id)
    secret = runtime.settings.sandbox_secret
    body = event.body.encode()
    headers = {
        "Content-Type": "application/json",
        HEADER: sign(body, secret.get_secret_value() if secret else ""),
    }
    address = f"{runtime.settings.public_url}/v1/webhooks/sandbox"
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        answer = await client.post(address, content=body, headers=headers)
    answer.raise_for_status()
    async with runtime.db.transaction() as session:
        await session.execute(
            update(SandboxEvent)
            .where(SandboxEvent.id == event_id, SandboxEvent.delivered_at.is_(None))
            .values(delivered_at=func.now())
        )


@job("sandbox.open_dispute")
async def open_dispute(runtime: Runtime, *, reference: str, copies: int, delay: int, backwards: bool) -> None:
    """The customer of a paid checkout goes to the bank."""
    desk.refuse_in_production(runtime.settings)
    async with runtime.db.transaction() as session:
        checkout = await desk.find(session, reference, lock=True)
        how = desk.Telling(copies=copies, delay=delay, backwards=backwards)
        await desk.open_dispute(session, checkout, how)
