"""Handing a mail over: to an SMTP server, or to Amazon SES. Both take the same message and fail in the same ways."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import aiosmtplib
from anyio.to_thread import run_sync

from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

SMTP_SECONDS = 20
TAG = "paletta-mail"
"""The tag that SES's reports carry: the key of the mail in the outbox."""

_FOR_GOOD = {"MessageRejected", "BadRequestException", "InvalidParameterValue"}
_SANDBOXED = "not verified"
"""SES's words, under a code that means a mail's own fault, for an account or a sender that its operator has to mend."""


class NotTaken(Exception):
    """A mail was not handed over. `final`: nobody will ever take it; else it may be tried again."""

    def __init__(self, detail: str, *, final: bool) -> None:
        super().__init__(detail)
        self.final = final


class Mailer(Protocol):
    """Where mails go out."""

    async def hand_over(self, message: EmailMessage, *, mail_id: int) -> None:
        """Give a mail to one recipient (its To) away. Raises `NotTaken`."""


@lru_cache(maxsize=4)
def mailer(settings: Settings) -> Mailer:
    """The one that the settings name; kept, for a client of AWS takes longer to make than a mail to send."""
    return SesMailer(settings) if settings.mailer == "ses" else SmtpMailer(settings)


class SmtpMailer:
    """Any mail server, a connection for each mail."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def hand_over(self, message: EmailMessage, *, mail_id: int) -> None:
        settings = self._settings
        try:
            await aiosmtplib.send(
                message,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_username,
                password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
                use_tls=settings.smtp_tls == "tls",
                start_tls=settings.smtp_tls == "starttls",
                timeout=SMTP_SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotTaken(f"{type(error).__name__}: {error}", final=_is_final(error)) from error


def _is_final(error: Exception) -> bool:
    """Whether the server will never take this mail. A refused login or sender is for the operator to mend."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(one.code >= 500 for one in error.recipients)
    return isinstance(error, aiosmtplib.SMTPDataError) and error.code >= 500


class SesMailer:
    """Amazon SES (v2 of its API), which gets the whole message as it would go over SMTP.

    On its way out SES replaces Message-ID and Date by its own; the tag finds the mail again in its reports.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None

    async def hand_over(self, message: EmailMessage, *, mail_id: int) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            await run_sync(self._send, message, mail_id)
        except ClientError as error:
            raise _refusal(error) from error
        except (
            BotoCoreError
        ) as error:  # no credentials, no connection: for the operator, or for time, to mend
            raise NotTaken(f"{type(error).__name__}: {error}", final=False) from error

    def _send(self, message: EmailMessage, mail_id: int) -> None:
        from paletta_server.aws import clients

        if self._client is None:
            self._client = clients.client(self._settings, "sesv2")
        more: dict[str, Any] = {}
        if self._settings.ses_configuration_set:
            more["ConfigurationSetName"] = self._settings.ses_configuration_set
        self._client.send_email(
            FromEmailAddress=self._settings.mail_from,
            Destination={"ToAddresses": [_ascii_domain(str(message["To"]))]},
            # SES takes 7-bit messages only, by this way.
            Content={"Raw": {"Data": message.as_bytes(policy=SMTP.clone(cte_type="7bit"))}},
            EmailTags=[{"Name": TAG, "Value": str(mail_id)}],
            **more,
        )


def _refusal(error: ClientError) -> NotTaken:
    """SES's answer as SMTP's: what is about this mail for good, and what is about the account or the moment."""
    said = error.response.get("Error", {})
    code, words = str(said.get("Code", "Unknown")), str(said.get("Message", ""))
    return NotTaken(f"{code}: {words}", final=code in _FOR_GOOD and _SANDBOXED not in words)


def _ascii_domain(address: str) -> str:
    """`a@bücher.example` as SES takes it; what cannot be written so is left to SES to refuse."""
    bare = parseaddr(address)[1] or address
    local, at, domain = bare.rpartition("@")
    try:
        return f"{local}{at}{domain.encode('idna').decode()}"
    except UnicodeError:
        return bare
