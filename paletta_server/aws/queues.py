"""Messages from SQS: at least once, in no order, until they were handled.

What is handled is deleted. What is not comes back when its visibility has run out, and after the queue's own number
of receipts (its redrive policy) goes to its dead-letter queue: the queue decides that, not we. So nothing is received
while it could not be handled anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from anyio.to_thread import run_sync
from botocore.exceptions import BotoCoreError, ClientError

from paletta_server.aws import clients
from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)


class Unhandleable(ValueError):
    """A message that nobody can do anything about, however often it comes. It is left to the queue all the same, which
    puts it aside in the end, where a person can read it."""


AT_ONCE = 10
"""The most that SQS gives in one answer."""
PAUSES_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Between asking a queue that does not answer; the last one for as long as it takes."""


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery. `receives` counts the deliveries of the same message, this one included."""

    id: str
    body: str
    receipt: str
    receives: int


class Queue:
    """One queue of ours. Raises botocore's errors."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        self._client = clients.client(settings, "sqs")

    async def receive(self, *, wait_seconds: int = 20, visible_after_seconds: int = 60) -> list[Message]:
        """The next messages, at most ten, waiting for the first. Others do not see them for a while."""

        def ask() -> list[Message]:
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visible_after_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
            return [
                Message(
                    id=one["MessageId"],
                    body=one["Body"],
                    receipt=one["ReceiptHandle"],
                    receives=int(one["Attributes"]["ApproximateReceiveCount"]),
                )
                for one in answer.get("Messages", [])
            ]

        return await run_sync(ask, abandon_on_cancel=True)

    async def delete(self, messages: Sequence[Message]) -> None:
        """Forget messages that were handled. One that stays all the same is delivered again."""

        def ask() -> None:
            self._client.delete_message_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one.receipt} for number, one in enumerate(messages)
                ],
            )

        if messages:
            await run_sync(ask)


async def consume(
    queue: Queue,
    handle: Callable[[Message], Awaitable[None]],
    *,
    ready: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Handle messages until `stop` is set; those in hand are finished first.

    `handle` raises for what should come back later. It is called for one message at a time: more of these loops, in
    this process or in others, take more. `ready` raises while nothing can be handled, the database being away: then
    nothing is received, since each receipt brings a message nearer to the dead letters.
    """
    failures = 0
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            try:
                await ready()
            except Exception as error:
                pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
                failures += 1
                log.warning("not ready for messages", extra={"queue": queue.url, "error": str(error)})
                await asyncio.wait({stopping}, timeout=pause)
                continue
            asking = asyncio.ensure_future(queue.receive())
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                asking.cancel()
                return
            try:
                messages = asking.result()
            except (BotoCoreError, ClientError) as error:
                pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
                failures += 1
                log.warning("the queue does not answer", extra={"queue": queue.url, "error": str(error)})
                await asyncio.wait({stopping}, timeout=pause)
                continue
            if await _handle(queue, messages, handle) or not messages:
                failures = 0
                continue
            # Nothing can be handled, the database being away: what is received meanwhile only gets nearer to the
            # dead letters.
            failures += 1
            await asyncio.wait({stopping}, timeout=PAUSES_SECONDS[min(failures - 1, len(PAUSES_SECONDS) - 1)])
    finally:
        stopping.cancel()


async def _handle(
    queue: Queue, messages: Sequence[Message], handle: Callable[[Message], Awaitable[None]]
) -> int:
    """How many were handled."""
    handled = []
    for message in messages:
        try:
            await handle(message)
        except Unhandleable as error:
            told = {"message_id": message.id, "receives": message.receives, "why": str(error)}
            log.warning("message not understood", extra=told)
        except Exception:
            log.exception(
                "message not handled", extra={"message_id": message.id, "receives": message.receives}
            )
        else:
            handled.append(message)
    try:
        await queue.delete(handled)
    except (BotoCoreError, ClientError) as error:
        log.warning("messages will come again", extra={"queue": queue.url, "error": str(error)})
    return len(handled)
