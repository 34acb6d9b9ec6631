"""Messages from SQS, against a server that speaks it (moto)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from paletta_server.aws import queues
from paletta_server.aws.queues import Message, Queue, Unhandleable, consume
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

    await asyncio.wait_for(consume(queue, handle, ready=always, stop=stop), 20)
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
    await asyncio.wait_for(consume(queue, handle, ready=always, stop=stop), 20)
    assert sorted(seen) == [("fine", 1), ("poison", 1), ("poison", 2)]
    told = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert len(told) == 2
    # Where the fault is the message's, where in our code it was found says nothing to anybody.
    assert {record.exc_info is None for record in told} == {error is Unhandleable}


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
