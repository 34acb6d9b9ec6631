"""What erasing a person takes out of the sandbox, which plays their card and their bank."""

from sqlalchemy import Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.mail import NOBODY
from paletta_server.payments.sandbox.models import SandboxCheckout, SandboxDispute, SandboxEvent


async def forget(session: AsyncSession, references: Select[str | None]) -> None:
    """Take a person out of these checkouts: the address, what the shop told of them, and the events that say so."""
    theirs = select(SandboxCheckout.id).where(SandboxCheckout.reference.in_(references))
    await session.execute(
        update(SandboxDispute)
        .where(SandboxDispute.checkout_id.in_(theirs))
        .values(evidence={})
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        delete(SandboxEvent)
        .where(SandboxEvent.checkout_id.in_(theirs), SandboxEvent.delivered_at.is_not(None))
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(SandboxCheckout)
        .where(SandboxCheckout.id.in_(theirs), SandboxCheckout.request.has_key("email"))
        .values(request=SandboxCheckout.request.op("||")({"email": NOBODY}))
        .execution_options(synchronize_session=False)
    )
