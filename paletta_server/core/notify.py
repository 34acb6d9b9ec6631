"""Waking long polls: PostgreSQL's NOTIFY, sent in the transaction that changes something.

A notification is a hint. Who waits re-reads the database when woken, and also after a few seconds without one, so
a lost connection costs latency and never an answer.
"""

import asyncio
import logging
from collections import defaultdict

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core.dbconnect import connect_async
from paletta_server.core.settings import Settings

CHANNEL = "paletta_changes"
log = logging.getLogger(__name__)


async def announce(session: AsyncSession, topic: str) -> None:
    """Tell every API process that `topic` changed, when this transaction commits."""
    await session.execute(text("SELECT pg_notify(:channel, :topic)"), {"channel": CHANNEL, "topic": topic})


class Notifier:
    """Listens on one connection per process and wakes whoever waits for a topic."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self.ending = False
        """Whether this process is about to stop: who waits answers with what there is, and is asked again elsewhere."""

    def end(self) -> None:
        """Wake everybody for good."""
        self.ending = True
        self._wake_all()

    def start(self) -> None:
        self._task = asyncio.create_task(self._listen_for_ever())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def subscribe(self, topic: str) -> asyncio.Event:
        """An event that is set when `topic` changes. Subscribe before reading, or a change may slip between."""
        event = asyncio.Event()
        self._waiters[topic].add(event)
        return event

    def unsubscribe(self, topic: str, event: asyncio.Event) -> None:
        self._waiters[topic].discard(event)
        if not self._waiters[topic]:
            del self._waiters[topic]

    async def _listen_for_ever(self) -> None:
        pause = 0.5
        while True:
            try:
                async with await connect_async(self._settings, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    pause = 0.5
                    self._wake_all()  # what changed while nobody listened
                    async for notification in connection.notifies():
                        for event in self._waiters.get(notification.payload, ()):
                            event.set()
            except Exception as error:  # whatever it was: nobody would notice that nobody listens
                log.warning("listening for changes failed; trying again", extra={"error": str(error)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)

    def _wake_all(self) -> None:
        for events in self._waiters.values():
            for event in events:
                event.set()
