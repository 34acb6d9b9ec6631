"""Setting and clearing kill switches, and the copy of them that each API process asks.

A request costs no query: `Switches` holds what is set, reads again when another process announces a change, and
every two seconds besides, so that a lost notification delays a switch by no more than that.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import NotFound
from paletta_server.core.notify import announce
from paletta_server.core.runtime import Runtime
from paletta_server.flags.models import Flag

log = logging.getLogger(__name__)

TOPIC = "flags"
RECHECK_SECONDS = 2.0


class Switch(StrEnum):
    """What can be switched off."""

    READ_ONLY = "read-only"
    NO_UPLOADS = "no-uploads"
    NO_CHECKOUT = "no-checkout"
    NO_DOWNLOADS = "no-downloads"


DEFAULT_MESSAGES: Mapping[Switch, str] = MappingProxyType(
    {
        Switch.READ_ONLY: "the service is read-only for now: nothing can be changed",
        Switch.NO_UPLOADS: "no uploads are taken for now",
        Switch.NO_CHECKOUT: "nothing can be bought for now",
        Switch.NO_DOWNLOADS: "purchases cannot be downloaded for now; they stay yours",
    }
)


@dataclass(frozen=True)
class State:
    """A switch as operators see it; `message` is None while it is not set."""

    name: Switch
    message: str | None
    set_at: datetime | None
    set_by: str | None
    """E-mail address of whoever set it."""


class Switches:
    """What is set, as far as this process has heard. `message(…)` is all that a request needs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._messages: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, runtime: Runtime) -> AsyncIterator["Switches"]:
        """Read what is set, and follow it for as long as the block runs."""
        made = cls(runtime)
        # Subscribed before the first look, or a change could slip between the two.
        changed = runtime.notify.subscribe(TOPIC)
        await made._read()
        task = asyncio.create_task(made._follow(changed))
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            runtime.notify.unsubscribe(TOPIC, changed)

    def message(self, name: Switch) -> str | None:
        """What people are told while the switch is set, else None."""
        return self._messages.get(name)

    async def _follow(self, changed: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    RECHECK_SECONDS
                ):  # a stop is lost in `wait_for` when both come at once
                    await changed.wait()
            changed.clear()
            await self._read()

    async def _read(self) -> None:
        try:
            async with self._runtime.db.transaction() as session:
                rows = await session.execute(select(Flag.name, Flag.message))
                self._messages = dict(rows.all())
        except Exception as error:  # or no switch would reach this process any more
            # What was set stays set; requests find out about the database by themselves.
            log.warning("the switches could not be read", extra={"error": str(error)})


async def listed(session: AsyncSession) -> list[State]:
    """Every switch, set or not."""
    rows = {flag.name: flag for flag in await session.scalars(select(Flag))}
    setters = {flag.set_by for flag in rows.values() if flag.set_by is not None}
    emails = {user_id: await accounts.email_of(session, user_id) for user_id in setters}
    return [
        State(
            name,
            flag.message if flag else None,
            flag.set_at if flag else None,
            emails.get(flag.set_by) if flag and flag.set_by is not None else None,
        )
        for name in Switch
        for flag in [rows.get(name)]
    ]


async def set_(session: AsyncSession, user: Principal, text: str, message: str | None) -> State:
    """Set a switch, or change its message. Raises `NotFound` for a name that is none."""
    name = _known(text)
    said = message or DEFAULT_MESSAGES[name]
    before = await session.scalar(select(Flag.message).where(Flag.name == name).with_for_update())
    values = {"message": said, "set_at": func.now(), "set_by": user.user_id}
    await session.execute(
        insert(Flag)
        .values(name=name.value, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )
    if before != said:
        await record(session, user, "flag:set", name.value, details={"message": said})
    await announce(session, TOPIC)
    return await _one(session, name)


async def clear(session: AsyncSession, user: Principal, text: str) -> State:
    """Take a switch back; one that is not set stays so. Raises `NotFound` for a name that is none."""
    name = _known(text)
    gone = await session.scalar(delete(Flag).where(Flag.name == name).returning(Flag.name))
    if gone is not None:
        await record(session, user, "flag:cleared", name.value)
        await announce(session, TOPIC)
    return await _one(session, name)


def _known(text: str) -> Switch:
    try:
        return Switch(text)
    except ValueError:
        names = ", ".join(Switch)
        raise NotFound("switch", text[:40], hint=f"the switches are {names}") from None


async def _one(session: AsyncSession, name: Switch) -> State:
    return next(state for state in await listed(session) if state.name is name)
