"""The words of the mails that earnings cause."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import money
from paletta_server.core.mail import send_mail
from paletta_server.core.settings import Settings
from paletta_server.earnings.models import Payout


@dataclass(frozen=True)
class Mail:
    subject: str
    paragraphs: tuple[str, ...]
    url: str

    @property
    def text(self) -> str:
        return "\n\n".join(self.paragraphs) + f"\n\n-- \nPaletta, stock video\n{self.url}\n"


async def send(session: AsyncSession, to: str, mail: Mail, key: str) -> None:
    await send_mail(session, to=to, subject=mail.subject, text=mail.text, dedup_key=key)


def account_set(settings: Settings, number: str) -> Mail:
    return Mail(
        "Your payouts go to another account",
        (
            f"From the next payout on, your Paletta earnings are paid to the account {number}.",
            "If it was not you, change it back at once, and choose a new password:",
            "    paletta profile payout set\n    paletta profile password",
        ),
        settings.public_url,
    )


def account_removed(settings: Settings) -> Mail:
    return Mail(
        "Your payout account was removed",
        (
            "Your Paletta earnings are not paid out any more until you say where to:",
            "    paletta profile payout set",
            "If it was not you who removed the account, choose a new password: `paletta profile password`.",
        ),
        settings.public_url,
    )


def paid(settings: Settings, payout: Payout, number: str) -> Mail:
    return Mail(
        f"You were paid {_amount(payout)}",
        (
            f"{_amount(payout)} of earnings were paid to your account {number}. The transfer names {payout.uid}.",
            "What it is for:",
            "    paletta earnings",
        ),
        settings.public_url,
    )


def failed(settings: Settings, payout: Payout, number: str, reason: str) -> Mail:
    return Mail(
        "A payout did not reach you",
        (
            f"The transfer of {_amount(payout)} to your account {number} failed, for this reason:",
            f"    {reason}",
            "The money is yours still and goes with the next payout. Look whether your account's details are right:",
            "    paletta profile payout show",
        ),
        settings.public_url,
    )


def _amount(payout: Payout) -> str:
    return f"{money.text(payout.amount, payout.currency)} {payout.currency}"
