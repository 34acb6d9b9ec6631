"""The outbox: a mail reaches its server late rather than never, and nothing is tried for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core import mail
from paletta_server.core.runtime import Runtime
from tests.support.explained import listening, ways
from tests.support.stack import MailSink

RunJobs = Callable[[], Awaitable[None]]
ANA = "ana@example.org"


async def posted(runtime: Runtime, *, key: str = "hello", secret: bool = False) -> None:
    attachment = mail.Attachment("receipt.txt", "text/plain", b"paid")
    async with runtime.db.transaction() as session:
        await mail.send_mail(
            session,
            to=ANA,
            subject="Hello",
            text="The words.",
            dedup_key=key,
            secret=secret,
            attachments=[attachment],
        )


async def sql(runtime: Runtime, statement: str) -> list[Any]:
    async with runtime.db.transaction() as session:
        result = await session.execute(text(statement))
        return list(result.all()) if result.returns_rows else []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "encoding"),
    [("Open this:", "7bit"), ("Öffne dies:", "8bit"), ("a" * 999, "quoted-printable")],
)
async def test_a_link_can_be_copied_out_of_the_raw_mail(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink, words: str, encoding: str
) -> None:
    link = f"https://paletta.example/verify?token=plt_v_{'0' * 100}"
    async with runtime.db.transaction() as session:
        await mail.send_mail(
            session,
            to=ANA,
            subject="Hello",
            text=f"{words}\n{link}\n",
            html=f"<a href='{link}'>{words}</a>",
            dedup_key="k",
        )
    await run_jobs()
    (message,) = mailbox.to(ANA)
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        assert part is not None
        assert part["Content-Transfer-Encoding"] == encoding
        assert link in part.get_content()
        assert words in part.get_content()
    assert (message.as_bytes().count(link.encode()) == 2) == (encoding != "quoted-printable")


async def test_a_mail_whose_job_gave_up_gets_another(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    mailbox.refuse = True
    await posted(runtime)
    await run_jobs()
    await sql(runtime, "UPDATE procrastinate_jobs SET status = 'failed' WHERE task_name = 'mail.deliver'")
    mailbox.refuse = False
    await mail.sweep(runtime)
    await mail.sweep(runtime)
    await run_jobs()
    assert [message["Subject"] for message in mailbox.to(ANA)] == ["Hello"]
    await mail.sweep(runtime)
    await run_jobs()
    assert len(mailbox.to(ANA)) == 1


async def test_a_mail_that_is_refused_for_good_is_given_up(
    runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink, client: httpx.AsyncClient
) -> None:
    mailbox.refuse, mailbox.refusal = True, "550 5.1.1 nobody of this name"
    await posted(runtime)
    await run_jobs()
    assert await sql(runtime, "SELECT status FROM procrastinate_jobs WHERE task_name = 'mail.deliver'") == []
    ((body, error),) = await sql(runtime, "SELECT body, last_error FROM outbox_emails")
    assert body == ""
    assert "nobody of this name" in error
    assert await sql(runtime, "SELECT id FROM outbox_attachments") == []
    mailbox.refuse = False
    await mail.sweep(runtime)
    await run_jobs()
    assert mailbox.to(ANA) == []
    figures = (await client.get("/metrics")).text
    assert 'paletta_mails_unsent{state="given up"} 1.0' in figures
    assert 'paletta_mails_unsent{state="waiting"} 0.0' in figures


async def test_what_is_unsent_is_counted_without_what_is_sent(runtime: Runtime) -> None:
    """Sent mails are kept, and who asks for figures waits three seconds at most."""
    await sql(
        runtime,
        "INSERT INTO outbox_emails (dedup_key, recipient, subject, body, sent_at)"
        " SELECT n, 'ana@paletta.example', 'Hello', 'The words.', CASE WHEN n > 20 THEN now() END"
        " FROM generate_series(1, 5000) n",
    )
    await sql(runtime, "ANALYZE outbox_emails")
    async with runtime.db.transaction() as session:
        async with listening(session) as heard:
            assert await mail.unsent(await session.connection()) == (20, 0)
        assert await ways(session, heard) == {"all of ix_outbox_emails_unsent"}


@pytest.mark.parametrize(("secret", "age", "kept"), [(False, "2 days", True), (True, "2 days", False)])
async def test_a_secret_link_does_not_lie_around(
    runtime: Runtime, mailbox: MailSink, secret: bool, age: str, kept: bool
) -> None:
    await posted(runtime, secret=secret)
    await sql(runtime, f"UPDATE outbox_emails SET created_at = now() - interval '{age}'")
    await mail.sweep(runtime)
    assert await sql(runtime, "SELECT body FROM outbox_emails") == [("The words." if kept else "",)]


async def test_nothing_is_tried_for_ever(runtime: Runtime, run_jobs: RunJobs, mailbox: MailSink) -> None:
    await posted(runtime)
    await sql(runtime, "UPDATE outbox_emails SET created_at = now() - interval '4 days'")
    await mail.sweep(runtime)
    await run_jobs()
    assert mailbox.to(ANA) == []
