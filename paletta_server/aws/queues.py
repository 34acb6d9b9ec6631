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
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync
from botocore.exceptions import BotoCoreError, ClientError

from paletta_server.aws import clients
from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)


class Unhandleable(ValueError):
    """A message that nobody can do anything about, however often it comes. It is left to the queue all the same, which
    puts it aside in the end, where a person can read it."""


AT_ONCE = 10
"""The most that SQS gives in one answer."""
POLL_SECONDS = 5
"""How long a queue with nothing in it keeps a poll waiting. Who is told to stop waits for the poll to end, so it is
short; SQS allows 20 and takes 0.40 dollars for a million polls, which is 20 cents a month for a loop at 5."""
LAST_POLL_SECONDS = 20.0
"""For the poll under way when the loop is told to stop: longer than its sockets wait (`clients.polling`), and short
enough for giving back what it brought, before the process is killed (`STOP_SECONDS` of the template)."""
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
        self._polls = clients.polling(settings, POLL_SECONDS)
        self._client: SQSClient = clients.quick(settings, "sqs")

    async def receive(
        self, *, wait_seconds: int = POLL_SECONDS, visible_after_seconds: int = 60
    ) -> list[Message]:
        """The next messages, at most ten, waiting for the first. Others do not see them for a while."""

        def ask() -> list[Message]:
            answer = self._polls.receive_message(
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

    async def give_back(self, messages: Sequence[Message]) -> None:
        """Let others have messages at once that nobody here looked at. The receipt counts all the same."""

        def ask() -> None:
            self._client.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one.receipt, "VisibilityTimeout": 0}
                    for number, one in enumerate(messages)
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
    """Handle messages until `stop` is set; those in hand are finished first, those that a poll still brings are given
    back.

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
            if stop.is_set():
                await _give_back(queue, asking)
                return
            try:
                messages = asking.result()
            except (BotoCoreError, ClientError) as error:
                pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
                failures += 1
                log.warning("the queue does not answer", extra={"queue": queue.url, "error": str(error)})
                await asyncio.wait({stopping}, timeout=pause)
                continue
            if await _handle(queue, messages, handle):
                failures = 0
                continue
            # Nothing can be handled, the database being away: what is received meanwhile only gets nearer to the
            # dead letters.
            failures += 1
            await asyncio.wait({stopping}, timeout=PAUSES_SECONDS[min(failures - 1, len(PAUSES_SECONDS) - 1)])
    finally:
        stopping.cancel()


async def _give_back(queue: Queue, asking: asyncio.Future[list[Message]]) -> None:
    """A poll cannot be called off: what it brings to nobody would be hidden from the others for its whole time, and the
    thread that waits for it keeps the process."""
    try:
        await queue.give_back(await asyncio.wait_for(asking, LAST_POLL_SECONDS))
    except (TimeoutError, BotoCoreError, ClientError) as error:
        log.warning("the last poll came to nothing", extra={"queue": queue.url, "error": str(error)})


async def _handle(
    queue: Queue, messages: Sequence[Message], handle: Callable[[Message], Awaitable[None]]
) -> bool:
    """Whether to go on: something was handled, or nothing failed. What nobody could handle says nothing of whether
    others can be."""
    handled, failed = [], False
    for message in messages:
        try:
            await handle(message)
        except Unhandleable as error:
            told = {"message_id": message.id, "receives": message.receives, "why": str(error)}
            log.warning("message not understood", extra=told)
        except Exception:
            failed = True
            log.exception(
                "message not handled", extra={"message_id": message.id, "receives": message.receives}
            )
        else:
            handled.append(message)
    try:
        await queue.delete(handled)
    except (BotoCoreError, ClientError) as error:
        log.warning("messages will come again", extra={"queue": queue.url, "error": str(error)})
    return bool(handled) or not failed
