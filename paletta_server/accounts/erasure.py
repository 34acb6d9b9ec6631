"""Erasing a person for good (GDPR, article 17): everything that tells who they were, but for what law wants kept.

What goes: address, names, institution, password, tokens, links, applications' words, counts of attempts, mails, the
addresses that they acted and downloaded from, carts and lists; their clips leave the shop. What stays, without a
person: the account's row and id, which orders, clips and the audit log point at. What stays as it was: orders, payments
and licences with the licensee that they were made out to. That name is part of a contract and of the books
(article 17(3)(b) and (e)); a certificate that named nobody would prove nothing to whoever was handed the film.

It is done in small transactions, one for each domain, so that no locks of theirs meet those of a request in any order
of their own. The account is closed before, so nothing new comes; a job does again whatever was cut short.
"""

from collections.abc import Mapping

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import mails, passwords, standing, throttle
from paletta_server.accounts.administration import status_of
from paletta_server.accounts.models import ApiToken, ContributorApplication, MailLink, User
from paletta_server.accounts.security import Principal
from paletta_server.accounts.service import revoke_tokens
from paletta_server.audit import personal as audit
from paletta_server.audit.service import record
from paletta_server.clips import personal as clips
from paletta_server.collections import personal as collections
from paletta_server.core import mail as outbox
from paletta_server.core import money
from paletta_server.core.errors import Conflict, Invalid
from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import personal as delivery
from paletta_server.earnings import personal as earnings
from paletta_server.moderation import personal as moderation
from paletta_server.orders import personal as orders
from paletta_server.payments import personal as payments
from paletta_server.uploads import personal as uploads

FAREWELL_SECONDS = 3600
"""When to look whether the last mail is out, so that its address can go too; mails are given up after days."""


async def erase(
    runtime: Runtime, admin: Principal, text: str, *, named: str, own: bool, waive: bool = False
) -> User:
    """Erase a person. `named` repeats the whole id, so that nobody is erased by an abbreviation; `waive` says that they
    give up what they have earned.

    Raises as `standing.hold`, `Invalid` (`id_differs`), `Conflict` (`unsettled`: money of theirs is on its way;
    `earnings_left`: they have not been paid what they earned).
    """
    async with runtime.db.transaction() as session:
        user = await standing.hold(session, admin, text, own=own)
        if named != user.uid:
            raise Invalid(
                f"`{named[:40]}` is not the id of this account, {user.uid}",
                code="id_differs",
                hint="repeat the whole id",
                pointer="/id",
            )
        if status_of(user) == "erased":
            return user
        # Earnings first: no payout is made from here on, and one that was, is then seen on its way.
        owed = await earnings.waive(session, user.id)
        await _refuse_unsettled(session, user)
        await _settle_earnings(session, admin, user, owed, waive=waive)
        if user.deleted_at is None:
            user.deleted_at = await session.scalar(select(func.now()))
        await session.flush()
        await revoke_tokens(session, user.id)
        await record(session, admin, "account:erasure_begun", user.uid)
        await defer(session, "accounts.erase", delay_seconds=60, user_id=user.id)
        await defer(session, "accounts.withdraw_clips", user_id=user.id)
    await finish(runtime, user.id)
    async with runtime.db.transaction() as session:
        return await session.get_one(User, user.id)


async def _refuse_unsettled(session: AsyncSession, user: User) -> None:
    waiting = await orders.pending(session, user.id)
    moving = await payments.unsettled(session, user.id) + await earnings.unsettled(session, user.id)
    if waiting or moving:
        what = (
            f"order {waiting[0]} waits for its payment"
            if waiting
            else "a refund, a dispute or a payout is on its way"
        )
        raise Conflict(
            f"{user.uid} has money on its way: {what}",
            code="unsettled",
            hint="settle or cancel it first; `paletta admin users delete` closes the account meanwhile",
        )


async def _settle_earnings(
    session: AsyncSession, admin: Principal, user: User, owed: Mapping[str, int], *, waive: bool
) -> None:
    if owed and not waive:
        sums = ", ".join(f"{money.text(amount, currency)} {currency}" for currency, amount in owed.items())
        raise Conflict(
            f"{user.uid} has earned {sums} that was not paid out",
            code="earnings_left",
            hint="pay it out first (`paletta admin payouts plan`); where they give it up, `--waive-earnings`",
        )
    if owed:
        await record(session, admin, "account:earnings_waived", user.uid, details={"amounts": owed})


async def finish(runtime: Runtime, user_id: int) -> None:
    """Everything but the clips; again, it changes nothing more."""
    async with runtime.db.transaction() as session:
        address = await session.scalar(
            select(User.email).where(
                User.id == user_id, User.deleted_at.is_not(None), User.erased_at.is_(None)
            )
        )
    if address is None:
        return
    for forget in (
        orders.forget, payments.forget, earnings.forget, delivery.forget, uploads.forget, collections.forget,
        moderation.forget, audit.forget, _forget,
    ):  # fmt: skip
        async with runtime.db.transaction() as session:
            await forget(session, user_id)
    async with runtime.db.transaction() as session:
        await outbox.forget(session, user_id, address)
        await throttle.erase(session, address)
    async with runtime.db.transaction() as session:
        await _anonymise(session, runtime, user_id, address)


async def _forget(session: AsyncSession, user_id: int) -> None:
    """What accounts hold besides the account itself."""
    await session.execute(delete(ApiToken).where(ApiToken.user_id == user_id))
    await session.execute(delete(MailLink).where(MailLink.user_id == user_id))
    await session.execute(
        update(ContributorApplication)
        .where(ContributorApplication.user_id == user_id)
        .values(statement=None, reason=None)
    )


async def _anonymise(session: AsyncSession, runtime: Runtime, user_id: int, address: str) -> None:
    """The account itself, last: from here on its address is free, and the row says nothing of anybody."""
    uid = await session.scalar(
        update(User)
        .where(User.id == user_id, User.erased_at.is_(None))
        .values(
            email=User.uid + "@" + outbox.NOBODY.rpartition("@")[2],
            email_verified_at=None,
            display_name=None,
            username=None,
            institution=None,
            password_hash=passwords.NOBODYS_HASH,
            status_reason=None,
            erased_at=func.now(),
        )
        .returning(User.uid)
        .execution_options(synchronize_session=False)
    )
    if uid is None:
        return
    await record(session, None, "account:erased", uid)
    mail = mails.erased(runtime.settings)
    key = f"erased:{uid}"
    await outbox.send_mail(session, to=address, subject=mail.subject, text=mail.text, dedup_key=key)
    await defer(session, "accounts.forget_farewell", delay_seconds=FAREWELL_SECONDS, dedup_key=key)


async def withdraw_clips(runtime: Runtime, user_id: int) -> None:
    """Take an erased person's clips out of the shop, each in a transaction of its own: nobody could be paid for them.
    Buyers keep what they bought. Then what they wrote about the clips goes."""
    while True:
        async with runtime.db.transaction() as session:
            keys = await clips.standing_of(session, user_id)
        if not keys:
            async with runtime.db.transaction() as session:
                await clips.forget(session, user_id)
            return
        for key in keys:
            async with runtime.db.transaction() as session:
                await clips.withdraw(session, key)


async def forget_farewell(runtime: Runtime, dedup_key: str) -> None:
    """Take the address out of the last mail once that is out or given up; else look again later."""
    async with runtime.db.transaction() as session:
        if not await outbox.forget_one(session, dedup_key):
            await defer(session, "accounts.forget_farewell", delay_seconds=6 * 3600, dedup_key=dedup_key)
