"""Messages from SQS, against a server that speaks it (moto)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from moto.server import ThreadedMotoServer

from paletta_server.aws import clients, queues
from paletta_server.aws.queues import Message, Queue, Unhandleable, consume
from paletta_server.aws.template.compute import STOP_SECONDS
from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def queue(aws: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Queue:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-test")
    client = boto3.client("sqs", endpoint_url=aws, region_name="eu-west-1")
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)[:70]
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    made = client.create_queue(QueueName=name, Attributes={"RedrivePolicy": redrive})
    return Queue(Settings(aws_region="eu-west-1", aws_endpoint=aws), made["QueueUrl"])


async def send(queue: Queue, *bodies: str) -> None:
    for body in bodies:
        await asyncio.to_thread(queue._client.send_message, QueueUrl=queue.url, MessageBody=body)


async def always() -> None:
    """Ready."""


async def test_what_is_handled_is_gone_and_the_loop_stops_when_told(queue: Queue) -> None:
    await send(queue, *(str(number) for number in range(25)))
    stop, seen = asyncio.Event(), []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if len(seen) == 25:
            stop.set()

    await asyncio.wait_for(consume(queue, handle, ready=always, stop=stop), 60)
    assert sorted(seen, key=int) == [str(number) for number in range(25)]
    assert await queue.receive(wait_seconds=0) == []


@pytest.mark.parametrize("error", [ValueError, Unhandleable])
async def test_what_cannot_be_handled_comes_back_until_the_queue_gives_it_up(
    queue: Queue, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    await send(queue, "poison", "fine")
    stop, seen = asyncio.Event(), []

    async def handle(message: Message) -> None:
        seen.append((message.body, message.receives))
        if message.body == "poison":
            raise error("not understood")

    receive = queue.receive

    async def at_once(**_: int) -> list[Message]:
        found = await receive(wait_seconds=0, visible_after_seconds=0)
        if not found:
            stop.set()
        return found

    queue.receive = at_once  # type: ignore[method-assign]
    await asyncio.wait_for(consume(queue, handle, ready=always, stop=stop), 60)
    assert sorted(seen) == [("fine", 1), ("poison", 1), ("poison", 2)]
    told = [record for record in caplog.records if record.name == queues.log.name]
    assert len(told) == 2
    # Where the fault is the message's, where in our code it was found says nothing to anybody.
    assert {record.exc_info is None for record in told} == {error is Unhandleable}


async def test_junk_delays_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it lies before a message that means something."""
    monkeypatch.setattr(queues, "PAUSES_SECONDS", (600.0,))
    monkeypatch.setattr(queues, "AT_ONCE", 1)
    await send(queue, "junk", "junk", "junk", "fine")
    stop, junk = asyncio.Event(), 0

    async def handle(message: Message) -> None:
        nonlocal junk
        if message.body == "junk":
            junk += 1
            raise Unhandleable("not understood")
        stop.set()

    await asyncio.wait_for(consume(queue, handle, ready=always, stop=stop), 60)
    assert junk == 3


@pytest.mark.parametrize("found", ["before it asks", "while it handles"])
async def test_a_database_that_is_away_makes_it_pause(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    """Otherwise a short outage uses up all receipts; junk in between is no sign that it is over."""
    nowhere = Settings(_env_file=None, database_url=f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/none")
    away = Database(nowhere)
    monkeypatch.setattr(queues, "PAUSES_SECONDS", (1.0,))
    await send(queue, "junk", "precious")
    stop, clock = asyncio.Event(), asyncio.get_running_loop().time
    failed: list[float] = []
    tried: list[float] = []

    async def asks() -> None:
        tried.append(clock())
        if len(tried) == 2:
            stop.set()
        try:
            await away.answers()
        finally:
            failed.append(clock())

    async def handle(message: Message) -> None:
        if message.body == "junk":
            raise Unhandleable("not understood")
        await asks()

    receive = queue.receive

    async def at_once(**_: int) -> list[Message]:
        return await receive(wait_seconds=0, visible_after_seconds=0)

    queue.receive = at_once  # type: ignore[method-assign]
    ready = asks if found == "before it asks" else always
    try:
        await asyncio.wait_for(consume(queue, handle, ready=ready, stop=stop), 60)
    finally:
        await away.close()
    assert tried[1] - failed[0] > 0.9


async def test_what_the_last_poll_brings_is_given_back(queue: Queue) -> None:
    """A poll cannot be called off: SQS answers it, and hides the message from those who go on."""
    loop, stop, asking = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def asks(**_: object) -> None:
        loop.call_soon_threadsafe(asking.set)

    queue._polls.meta.events.register("before-send.sqs.ReceiveMessage", asks)
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    consuming = asyncio.create_task(consume(queue, handle, ready=always, stop=stop))
    await asyncio.wait_for(asking.wait(), 60)
    stop.set()
    await asyncio.sleep(0)  # it hears of it first
    await send(queue, "late")
    await asyncio.wait_for(consuming, 60)
    assert not seen
    assert [(one.body, one.receives) for one in await queue.receive(wait_seconds=0)] == [("late", 2)]


async def test_a_mute_queue_keeps_nobody_who_is_told_to_stop(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends with its threads, so the poll's thread ends first, and is not tried again."""
    loop, stop, asking = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(queues, "POLL_SECONDS", 0)
    monkeypatch.setattr(clients, "ANSWER_SECONDS", 1)

    def asks(**_: object) -> None:
        loop.call_soon_threadsafe(asking.set)

    with socket.create_server(("127.0.0.1", 0)) as listening:  # takes what comes, and says nothing
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        mute = Queue(
            Settings(_env_file=None, aws_region="eu-west-1", aws_endpoint=address), f"{address}/1/mute"
        )
        ended: list[Exception | None] = []
        events = mute._polls.meta.events
        events.register("before-send.sqs.ReceiveMessage", asks)
        events.register(
            "needs-retry.sqs.ReceiveMessage",
            lambda caught_exception, **_: ended.append(caught_exception),
        )

        async def handle(_: Message) -> None:
            raise AssertionError("it brought something")

        consuming = asyncio.create_task(consume(mute, handle, ready=always, stop=stop))
        await asyncio.wait_for(asking.wait(), 60)
        stop.set()
        await asyncio.wait_for(consuming, 60)
    assert [type(error) for error in ended] == [ReadTimeoutError]


def test_who_reads_a_queue_has_stopped_before_it_is_killed(queue: Queue) -> None:
    """The last poll, and giving back what it brought, at their slowest."""
    configs: list[Any] = [queue._polls.meta.config, queue._client.meta.config]
    most = [
        config.retries["total_max_attempts"] * (config.connect_timeout + config.read_timeout)
        for config in configs
    ]
    assert most[0] < queues.LAST_POLL_SECONDS
    pauses = 5  # between two tries; botocore's are 1 s and less at first
    assert queues.LAST_POLL_SECONDS + most[1] + pauses < min(
        STOP_SECONDS["completions"], STOP_SECONDS["mail-events"]
    )


async def test_while_nothing_can_be_handled_nothing_is_received(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of the database costs a message none of the receipts after which it is given up."""
    nowhere = Settings(_env_file=None, database_url=f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/none")
    away = Database(nowhere)
    monkeypatch.setattr(queues, "PAUSES_SECONDS", (0.0,))
    await send(queue, "precious")
    stop, seen, asked = asyncio.Event(), [], 0

    async def ready() -> None:
        nonlocal asked
        asked += 1
        if asked <= 5:
            await away.answers()

    async def handle(message: Message) -> None:
        seen.append((message.body, message.receives))
        stop.set()

    try:
        await asyncio.wait_for(consume(queue, handle, ready=ready, stop=stop), 60)
    finally:
        await away.close()
    assert (seen, asked) == ([("precious", 1)], 6)
