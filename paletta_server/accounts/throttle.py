"""Slowing down guesses and floods of mail, without locking anybody out for good.

Every attempt is counted *before* it is made and given back if it succeeds, each in one statement and a
transaction of its own: a thousand guesses sent at once are counted one after the other, and a refused
request, which rolls back, does not take its own trace with it. Call these before the request's session is
used, so that a request never waits for a second connection while it holds the first.

Per account: five failures are free, then the wait is one second and doubles up to fifteen minutes. An
address from which the owner has logged in before has a count of its own, so that a stranger's guesses do
not keep the owner out. Per network address: 30 failures a minute.
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.models import Throttle
from paletta_server.core.database import Database
from paletta_server.core.errors import TooManyRequests

FREE_FAILURES = 5
LONGEST_WAIT_SECONDS = 15 * 60
FORGET_AFTER = timedelta(days=1)
"""A failure this long ago no longer counts."""
KNOWN_FOR = timedelta(days=90)


@dataclass(frozen=True)
class Window:
    """At most `limit` in any `seconds`, counted from the first of them."""

    limit: int
    seconds: int


PER_ADDRESS = Window(30, 60)
"""Failed logins from one network address."""
MAILS_PER_ADDRESS = Window(30, 60)
"""Requests that cause mail, from one network address."""
MAILS_PER_ACCOUNT = Window(5, 15 * 60)
"""Mails that strangers can cause to one mailbox. The same for addresses that we do not know."""

TOKENS_PER_ACCOUNT = Window(30, 60 * 60)
"""Personal tokens, each of which mails its owner."""
REPORTS_PER_ACCOUNT = Window(20, 60 * 60)
"""Reports about clips, each of which a moderator reads."""


def account_key(email: str) -> str:
    """The throttle's name for an account: a digest, so that the table is no list of addresses."""
    return "account:" + hashlib.sha256(email.encode()).hexdigest()


async def attempt(database: Database, email: str, ip: str | None) -> str:
    """Count an attempt to log in; returns the key to clear when it succeeds. Raises `TooManyRequests`."""
    async with database.transaction() as session:
        key = account_key(email)
        wait = 0
        if ip is not None:
            wait = await _count_window(session, f"ip:{_network(ip)}", PER_ADDRESS)
            if await _known(session, email, ip):
                key = f"{key}:{_network(ip)}"
        if not wait:
            wait = await _count_doubling(session, key)
    _refuse(wait)
    return key


async def succeeded(session: AsyncSession, email: str, ip: str | None, key: str) -> None:
    """Clear the account's failures and give back what the network address was charged, in the caller's
    transaction.

    The network address is remembered as one of the owner's.
    """
    await session.execute(delete(Throttle).where(Throttle.key == key))
    if ip is not None:
        await _give_back(session, f"ip:{_network(ip)}")
        known = insert(Throttle).values(key=_known_key(email, ip), failures=0, window_start=func.now())
        await session.execute(
            known.on_conflict_do_update(index_elements=["key"], set_={"window_start": func.now()})
        )


async def forget(session: AsyncSession, email: str) -> None:
    """Clear every count of an account, when its owner has proved the mailbox."""
    await session.execute(
        delete(Throttle).where(Throttle.key.startswith(account_key(email), autoescape=True))
    )


async def erase(session: AsyncSession, email: str) -> None:
    """Drop every count that names an account, and the networks from which its owner came."""
    for kind in ("", "known:", "mail:"):
        mine = Throttle.key.startswith(kind + account_key(email), autoescape=True)
        await session.execute(delete(Throttle).where(mine))


async def mail(database: Database, email: str, ip: str | None) -> None:
    """Count a mail that somebody unproven asks us to send. Raises `TooManyRequests`."""
    async with database.transaction() as session:
        wait = 0
        if ip is not None:
            wait = await _count_window(session, f"mail-ip:{_network(ip)}", MAILS_PER_ADDRESS)
        if not wait:
            wait = await _count_window(session, f"mail:{account_key(email)}", MAILS_PER_ACCOUNT)
    _refuse(wait)


async def token(database: Database, user_id: int) -> None:
    """Count a personal token to be made. Raises `TooManyRequests`."""
    async with database.transaction() as session:
        wait = await _count_window(session, f"tokens:{user_id}", TOKENS_PER_ACCOUNT)
    _refuse(wait)


async def report(database: Database, user_id: int) -> None:
    """Count a report about a clip. Raises `TooManyRequests`."""
    async with database.transaction() as session:
        wait = await _count_window(session, f"reports:{user_id}", REPORTS_PER_ACCOUNT)
    _refuse(wait)


async def sweep(session: AsyncSession) -> int:
    """Drop counts that no longer mean anything; how many."""
    known = Throttle.key.startswith("known:")
    dead = case((known, func.now() - KNOWN_FOR), else_=func.now() - FORGET_AFTER)
    gone = await session.scalars(delete(Throttle).where(Throttle.window_start < dead).returning(Throttle.key))
    return len(gone.all())


async def _count_doubling(session: AsyncSession, key: str) -> int:
    """Count one failure under `key` unless it must still wait; the seconds to wait (0: go ahead)."""
    now = func.statement_timestamp()
    failures = case(
        (Throttle.window_start < now - FORGET_AFTER, literal(1)),
        else_=Throttle.failures + 1,
    )
    # 1 s after the fifth failure, then 2, 4, 8 … up to the longest.
    seconds = func.least(func.power(2, func.least(failures - FREE_FAILURES, 20)), LONGEST_WAIT_SECONDS)
    until = case((failures >= FREE_FAILURES, now + func.make_interval(0, 0, 0, 0, 0, 0, seconds)), else_=None)
    counted = insert(Throttle).values(key=key, failures=1, window_start=now)
    done = await session.scalar(
        counted.on_conflict_do_update(
            index_elements=["key"],
            set_={"failures": failures, "window_start": now, "blocked_until": until},
            where=Throttle.blocked_until.is_(None) | (Throttle.blocked_until <= now),
        ).returning(Throttle.failures)
    )
    if done is not None:
        return 0
    return await _seconds_left(session, key)


async def _count_window(session: AsyncSession, key: str, window: Window) -> int:
    """Count one under `key` unless the window is full; the seconds until it opens again (0: go ahead)."""
    now = func.statement_timestamp()
    over = Throttle.window_start < now - timedelta(seconds=window.seconds)
    counted = insert(Throttle).values(key=key, failures=1, window_start=now)
    done = await session.scalar(
        counted.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "failures": case((over, literal(1)), else_=Throttle.failures + 1),
                "window_start": case((over, now), else_=Throttle.window_start),
            },
            where=over | (Throttle.failures < window.limit),
        ).returning(Throttle.failures)
    )
    if done is not None:
        return 0
    opens = Throttle.window_start + timedelta(seconds=window.seconds)
    left = await session.scalar(
        select(func.ceil(func.extract("epoch", opens - now))).where(Throttle.key == key)
    )
    return max(1, int(left or 1))


async def _seconds_left(session: AsyncSession, key: str) -> int:
    left = await session.scalar(
        select(func.ceil(func.extract("epoch", Throttle.blocked_until - func.statement_timestamp()))).where(
            Throttle.key == key
        )
    )
    return max(1, int(left or 1))


async def _give_back(session: AsyncSession, key: str) -> None:
    await session.execute(
        update(Throttle)
        .where(Throttle.key == key, Throttle.failures > 0)
        .values(failures=Throttle.failures - 1)
    )


async def _known(session: AsyncSession, email: str, ip: str) -> bool:
    found = await session.scalar(
        select(Throttle.key).where(
            Throttle.key == _known_key(email, ip), Throttle.window_start > func.now() - KNOWN_FOR
        )
    )
    return found is not None


def _known_key(email: str, ip: str) -> str:
    return f"known:{account_key(email)}:{_network(ip)}"


def _network(ip: str) -> str:
    """The address; of IPv6 the /64, which is what one customer of a provider has."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def _refuse(seconds: int) -> None:
    if seconds:
        raise TooManyRequests(
            f"too many attempts; try again in {seconds} s"
            if seconds < 120
            else f"too many attempts; try again in {-(-seconds // 60)} min",  # earlier would be too early
            retry_after=seconds,
        )
