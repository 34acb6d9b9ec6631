"""Bounces and complaints: an address that is no good gets no mail, for a reason that can be read and lifted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import boto3
import httpx
import pytest
from sqlalchemy import text

from paletta_server.aws import mail_events
from paletta_server.aws.mail_events import NotUnderstood
from paletta_server.aws.queues import Message, Queue, consume
from paletta_server.core import mail
from paletta_server.core.mailers import TAG
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from tests.conftest import Person
from tests.support import aws
from tests.support.stack import MailSink

RunJobs = Callable[[], Awaitable[None]]
ANA = "ana@example.org"
GONE = "smtp; 550 5.1.1 nobody of this name"


async def post(runtime: Runtime, key: str = "first", to: str = ANA) -> int:
    async with runtime.db.transaction() as session:
        await mail.send_mail(session, to=to, subject="Hello", text="The words.", dedup_key=key)
        return int(await session.scalar(text("SELECT max(id) FROM outbox_emails")) or 0)


async def rows(runtime: Runtime, statement: str) -> list[Any]:
    async with runtime.db.transaction() as session:
        return list((await session.execute(text(statement))).all())


def report(
    kind: str = "Bounce",
    *,
    to: str = ANA,
    mail_id: int | None = None,
    feedback: str = "f-1",
    bounce: str = "Permanent",
    complaint: str | None = "abuse",
) -> dict[str, Any]:
    """What SES publishes (shortened to what it always has, and a few things that it has besides)."""
    tags = {TAG: [str(mail_id)]} if mail_id is not None else {}
    body: dict[str, Any] = {
        "eventType": kind,
        "mail": {
            "timestamp": "2026-05-14T10:00:00.000Z",
            "messageId": "0102-ses",
            "source": "shop@paletta.example",
            "destination": [to],
            "tags": {"ses:configuration-set": ["paletta"], **tags},
        },
    }
    if kind == "Bounce":
        body["bounce"] = {
            "bounceType": bounce,
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": to, "status": "5.1.1", "diagnosticCode": GONE}],
            "feedbackId": feedback,
        }
    if kind == "Complaint":
        body["complaint"] = {
            "complainedRecipients": [{"emailAddress": to}],
            "complaintFeedbackType": complaint,
            "feedbackId": feedback,
        }
    return body


def message(body: dict[str, Any] | str, *, raw: bool = False) -> Message:
    inside = body if isinstance(body, str) else json.dumps(body)
    outside = {"Type": "Notification", "MessageId": "sns-1", "TopicArn": "arn:x", "Message": inside}
    return Message("m-1", inside if raw else json.dumps(outside), "receipt", 1)


@pytest.mark.parametrize(("kind", "words"), [("Bounce", "nobody of this name"), ("Complaint", "complained")])
@pytest.mark.parametrize("raw", [False, True])
async def test_whoever_bounced_or_complained_gets_no_more(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink, kind: str, words: str, raw: bool
) -> None:
    first = await post(runtime)
    await run_jobs()
    for _ in range(2):  # SQS delivers at least once
        await mail_events.handle(runtime, message(report(kind, mail_id=first), raw=raw))
    await post(runtime, "second")
    await post(runtime, "others", "ben@example.org")
    await run_jobs()
    assert len(mailbox.to(ANA)) == 1
    assert len(mailbox.to("ben@example.org")) == 1
    ((noted,),) = await rows(runtime, f"SELECT last_error FROM outbox_emails WHERE id = {first}")
    assert noted in (f"bounced: {GONE}", "complaint")
    ((body, error),) = await rows(
        runtime, "SELECT body, last_error FROM outbox_emails WHERE dedup_key = 'second'"
    )
    assert body == ""
    assert error.startswith("suppressed since ")
    assert words in error


async def test_a_letter_that_cannot_be_stored_hides_no_bounce(runtime: Runtime, run_jobs: RunJobs) -> None:
    first = await post(runtime)
    await run_jobs()
    said = report(mail_id=first, feedback="f\0-1")
    said["bounce"]["bouncedRecipients"][0]["diagnosticCode"] = "550 no\0body"
    said["bounce"]["bouncedRecipients"][0]["emailAddress"] = f"\0{ANA}"
    await mail_events.handle(runtime, message(said))
    assert await rows(runtime, "SELECT report_id FROM mail_reports") == [("f-1",)]
    assert (
        len(await rows(runtime, "SELECT 1 FROM suppressed_addresses WHERE detail LIKE '%550 nobody%'")) == 1
    )


async def test_a_full_mailbox_is_only_counted(runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink) -> None:
    first = await post(runtime)
    await run_jobs()
    for feedback in ("f-1", "f-2", "f-2"):
        body = report(mail_id=first, bounce="Transient", feedback=feedback)
        await mail_events.handle(runtime, message(body))
    await post(runtime, "second")
    await run_jobs()
    assert len(mailbox.to(ANA)) == 2
    assert await rows(runtime, "SELECT transient_bounces, suppressed_at FROM suppressed_addresses") == [
        (2, None)
    ]


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        report("Bounce", to="stranger@example.org"),
        {**report("Bounce"), "eventType": "Novelty"},
        {**report("Bounce"), "bounce": {"bounceType": "Permanent"}},
        report("Complaint", to="stranger@example.org", mail_id=1),
        report("Bounce", mail_id=999_999),
    ],
)
async def test_what_is_forged_or_unknown_is_left_to_the_queue(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink, body: Any
) -> None:
    await post(runtime)
    await run_jobs()
    with pytest.raises(NotUnderstood) as caught:
        await mail_events.handle(runtime, message(body))
    assert "example.org" not in str(caught.value), "the log is no place for addresses"
    assert await rows(runtime, "SELECT address FROM suppressed_addresses") == []
    assert await rows(runtime, "SELECT report_id FROM mail_reports") == [], "it may be understood later"


async def test_other_news_and_a_complaint_taken_back_change_nothing(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    first = await post(runtime)
    await run_jobs()
    for body in (
        report("Delivery"),
        report("Send"),
        report("Complaint", mail_id=first, complaint="not-spam"),
    ):
        await mail_events.handle(runtime, message(body))
    assert await rows(runtime, "SELECT address FROM suppressed_addresses") == []


@pytest.mark.parametrize("raw", [False, True])
async def test_the_greeting_to_a_new_topic_is_taken_and_no_other_plain_text(
    runtime: Runtime, raw: bool
) -> None:
    words = "Successfully validated SNS topic for Amazon SES event publishing."
    await mail_events.handle(runtime, message(f"{words}\n", raw=raw))
    for other in (words[:-1], f"{words} {words}", f'"{words}"'):
        with pytest.raises(NotUnderstood):
            await mail_events.handle(runtime, message(other, raw=raw))


async def test_it_is_listed_lifted_and_audited(
    runtime: Runtime,
    client: httpx.AsyncClient,
    admin: Person,
    run_jobs: RunJobs,
    mailbox: MailSink,
) -> None:
    first = await post(runtime)
    await run_jobs()
    await mail_events.handle(runtime, message(report(mail_id=first)))
    listed = (await client.get("/v1/admin/mails/suppressed", headers=admin.headers)).json()["items"]
    assert [(one["address"], one["reason"], one["detail"]) for one in listed] == [(ANA, "bounce", GONE)]
    path, body = "/v1/admin/mails/suppressed/allow", {"address": "Ana@Example.org"}
    assert (await client.post(path, json=body, headers=admin.headers)).status_code == 200
    assert (await client.post(path, json=body, headers=admin.headers)).status_code == 404
    await mail_events.handle(runtime, message(report(mail_id=first)))  # the old report, once more
    await post(runtime, "second")
    await run_jobs()
    assert len(mailbox.to(ANA)) == 2
    log = (await client.get("/v1/admin/audit-log?action=mail:", headers=admin.headers)).json()["items"]
    assert [(one["action"], one["actor"]["email"]) for one in log] == [("mail:allowed", admin.email)]
    assert ANA not in json.dumps(log)


async def test_whoever_is_erased_is_not_remembered_here(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    first = await post(runtime)
    await run_jobs()
    await mail_events.handle(runtime, message(report(mail_id=first)))
    async with runtime.db.transaction() as session:
        await mail.forget(session, 0, ANA)
    assert await rows(runtime, "SELECT address FROM suppressed_addresses") == []
    late = report("Complaint", mail_id=first, feedback="f-9")
    await mail_events.handle(runtime, message(late))
    assert await rows(runtime, "SELECT address FROM suppressed_addresses") == []


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Queue, Any, str]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, aws.KEY)
    with aws.server() as address:
        client = boto3.client("sqs", endpoint_url=address, region_name="eu-west-1")
        sns = boto3.client("sns", endpoint_url=address, region_name="eu-west-1")
        url = client.create_queue(QueueName="mail-events")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        topic = sns.create_topic(Name="ses")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        settings = Settings(_env_file=None, aws_region="eu-west-1", aws_endpoint=address)
        yield Queue(settings, url), sns, topic


async def test_from_the_topic_to_the_list(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink, queue: tuple[Queue, Any, str]
) -> None:
    reading, sns, topic = queue
    first = await post(runtime)
    await run_jobs()
    for body in ("not json", json.dumps(report(mail_id=first))):
        await asyncio.to_thread(sns.publish, TopicArn=topic, Message=body)
    stop, seen = asyncio.Event(), []

    async def handle(one: Message) -> None:
        seen.append(one)
        if len(seen) == 2:
            stop.set()
        await partial(mail_events.handle, runtime)(one)

    await asyncio.wait_for(consume(reading, handle, ready=runtime.db.answers, stop=stop), 60)
    assert await rows(runtime, "SELECT address, reason FROM suppressed_addresses") == [(ANA, "bounce")]
    left = await asyncio.to_thread(
        reading._client.get_queue_attributes,
        QueueUrl=reading.url,
        AttributeNames=["ApproximateNumberOfMessagesNotVisible"],
    )
    assert left["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "1", "what was not understood stays"
