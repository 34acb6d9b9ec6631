"""What every way out of mails must do: SMTP (aiosmtpd) and Amazon SES (moto's server; requests checked by botocore)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from paletta_server.core.mailers import TAG, NotTaken, SesMailer, SmtpMailer
from paletta_server.core.settings import Settings
from tests.support import aws
from tests.support.stack import MailSink

FROM = "Paletta <shop@paletta.example>"
ANA = "ana@example.org"


def message(to: str = ANA, words: str = "Grüße, Ana: https://paletta.example/x?y=1\n.\nend") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = FROM, to, "Ihre Bestellung — bezahlt"
    made["Message-ID"] = "<outbox-7@paletta.example>"
    made.set_content(words, cte="8bit" if not words.isascii() else None)
    made.add_attachment(bytes(range(256)), maintype="application", subtype="pdf", filename="receipt.pdf")
    return made


class Answering:
    """SES that answers everything with one error, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.code, self.words = 200, "", ""
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append(json.loads(body))
                answer = json.dumps(
                    {"message": outer.words} if outer.status != 200 else {"MessageId": "x"}
                ).encode()
                self.send_response(outer.status)
                self.send_header("x-amzn-errortype", outer.code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, aws.KEY)


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    with aws.server() as address:
        client = boto3.client(
            "sesv2",
            endpoint_url=address,
            region_name="eu-west-1",
            aws_access_key_id=aws.KEY,
            aws_secret_access_key=aws.KEY,
        )
        client.create_email_identity(EmailIdentity="shop@paletta.example")
        yield address


@pytest.fixture
def ses() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


def ses_settings(address: str, **more: Any) -> Settings:
    return Settings(
        _env_file=None, mailer="ses", aws_endpoint=address, aws_region="eu-west-1", mail_from=FROM, **more
    )


def sent_by_ses() -> list[EmailMessage]:
    from moto.ses.models import ses_backends

    found = [one for account in ses_backends.values() for one in account["eu-west-1"].sent_messages]
    return [
        BytesParser(EmailMessage, policy=modern).parsebytes(one.raw_data.encode("ascii")) for one in found
    ]


@pytest.fixture(params=["smtp", "ses"])
def way(
    request: pytest.FixtureRequest, amazon: str, mailbox: MailSink
) -> tuple[Any, Callable[[], list[EmailMessage]]]:
    """A mailer, and what arrived by it."""
    if request.param == "ses":
        return SesMailer(ses_settings(amazon)), sent_by_ses
    settings = Settings(_env_file=None, smtp_port=mailbox.port, mail_from=FROM)
    return SmtpMailer(settings), lambda: mailbox.messages


async def test_a_mail_arrives_as_it_was_written(way: tuple[Any, Callable[[], list[EmailMessage]]]) -> None:
    mailer, arrived = way
    sent = message()
    before = len(arrived())
    await mailer.hand_over(sent, mail_id=7)
    (got,) = arrived()[before:]
    assert (got["Message-ID"], got["To"], got["From"]) == ("<outbox-7@paletta.example>", ANA, FROM)
    assert got["Subject"] == sent["Subject"]
    body = got.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines() == ["Grüße, Ana: https://paletta.example/x?y=1", ".", "end"]
    (paper,) = got.iter_attachments()
    assert paper.get_content() == bytes(range(256))


TROUBLES = [  # SMTP's answer, SES's answer, whether it is for good
    ("451 4.3.0 try again later", (429, "TooManyRequestsException", "Maximum sending rate exceeded."), False),
    ("452 4.5.3 daily limit", (400, "LimitExceededException", "Daily message quota exceeded."), False),
    ("454 4.7.0 paused", (400, "SendingPausedException", "Sending is paused."), False),
    ("421 4.3.2 closing", (403, "AccountSuspendedException", "Suspended."), False),
    (
        "450 4.7.1 unknown sender",
        (400, "MailFromDomainNotVerifiedException", "The MAIL FROM domain is not verified."),
        False,
    ),
    (
        "450 4.7.1 sandbox",
        (400, "MessageRejected", "Email address is not verified. The following identities failed: x"),
        False,
    ),
    ("552 5.3.4 infected", (400, "MessageRejected", "Your message contains a virus."), True),
    ("550 5.1.1 nobody of this name", (400, "BadRequestException", "Missing final '@domain'"), True),
    ("451 4.0.0 broken", (500, "InternalFailure", ""), False),
]


@pytest.mark.parametrize(("smtp", "answer", "final"), TROUBLES)
async def test_trouble_is_told_from_a_refusal(
    smtp: str, answer: tuple[int, str, str], final: bool, mailbox: MailSink, ses: Answering
) -> None:
    mailbox.refuse, mailbox.refusal = True, smtp
    with pytest.raises(NotTaken) as over_smtp:
        await SmtpMailer(Settings(_env_file=None, smtp_port=mailbox.port)).hand_over(message(), mail_id=7)
    ses.status, ses.code, ses.words = answer
    with pytest.raises(NotTaken) as over_ses:
        await SesMailer(ses_settings(ses.address)).hand_over(message(), mail_id=7)
    assert (over_smtp.value.final, over_ses.value.final) == (final, final)
    assert answer[1] in str(over_ses.value)
    assert len(ses.asked) <= 3, "the queue has patience, not the client"


async def test_nobody_there_is_trouble(mailbox: MailSink) -> None:
    for nobody in (
        SmtpMailer(Settings(_env_file=None, smtp_port=1)),
        SesMailer(ses_settings("http://127.0.0.1:1")),
    ):
        with pytest.raises(NotTaken) as caught:
            await nobody.hand_over(message(), mail_id=7)
        assert not caught.value.final


async def test_what_ses_is_asked(ses: Answering) -> None:
    mailer = SesMailer(ses_settings(ses.address, ses_configuration_set="paletta"))
    await mailer.hand_over(message("ana@bücher.example"), mail_id=41)
    (asked,) = ses.asked
    assert asked["Destination"] == {"ToAddresses": ["ana@xn--bcher-kva.example"]}
    assert asked["ConfigurationSetName"] == "paletta"
    assert asked["EmailTags"] == [{"Name": TAG, "Value": "41"}]
    raw = base64.b64decode(asked["Content"]["Raw"]["Data"])
    assert raw.isascii(), "SES takes 7-bit messages only"
    assert b"\r\n" in raw
    assert b"\n" not in raw.replace(b"\r\n", b"")
