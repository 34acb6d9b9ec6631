"""The mail sink of the one-machine stack."""

from __future__ import annotations

import mailbox
import os
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from paletta_server.embedded.mailsink import MailSink
from paletta_server.embedded.ports import free_ports


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "list@example.org", "Grüße"
    message.set_content("Your clips are live: ✓\n")
    return message


async def test_every_recipient_gets_a_mail_that_a_reader_understands(tmp_path: Path) -> None:
    sink = MailSink(tmp_path / "mail")
    await sink.start(free_ports(1)[0])
    try:
        await aiosmtplib.send(
            mail(), recipients=["ada@example.org", "kim@example.org"], hostname="127.0.0.1", port=sink.port
        )
    finally:
        await sink.stop()
    assert sink.received == 1
    kept = list(mailbox.Maildir(tmp_path / "mail"))
    assert {message["Delivered-To"] for message in kept} == {"ada@example.org", "kim@example.org"}
    assert all("Your clips are live" in str(message.get_payload(decode=True), "utf-8") for message in kept)


@pytest.mark.skipif(os.name != "posix", reason="needs a folder that cannot be written")
async def test_a_mail_that_cannot_be_kept_is_to_be_sent_again(tmp_path: Path) -> None:
    sink = MailSink(tmp_path / "mail")
    await sink.start(free_ports(1)[0])
    (tmp_path / "mail" / "tmp").rmdir()  # root may write anywhere, but not into what is not there
    try:
        with pytest.raises(aiosmtplib.SMTPDataError) as refused:
            await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port)
    finally:
        await sink.stop()
    assert refused.value.code == 452
    assert sink.received == 0
