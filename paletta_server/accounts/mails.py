"""The words of the mails that accounts cause. Plain text; a link stands alone on its line."""

from dataclasses import dataclass

from paletta_server.core.settings import Settings

_SIGNATURE = "\n\n-- \nPaletta, stock video\n{url}\n"


@dataclass(frozen=True)
class Mail:
    subject: str
    text: str


def _mail(settings: Settings, subject: str, *paragraphs: str) -> Mail:
    return Mail(subject, "\n\n".join(paragraphs) + _SIGNATURE.format(url=settings.public_url))


def verify(settings: Settings, secret: str) -> Mail:
    return _mail(
        settings,
        "Confirm your e-mail address",
        "Somebody, most likely you, made a Paletta account with this address. To confirm it, open this "
        "page and press the button:",
        f"{settings.public_url}/account/verify?token={secret}",
        "Or in a terminal:",
        f"    paletta verify {secret}",
        f"The link works once, for {settings.mail_link_minutes} minutes. If it was not you, do nothing: "
        "without your confirmation the account cannot sell anything.",
    )


def reset(settings: Settings, secret: str) -> Mail:
    return _mail(
        settings,
        "Choose a new password",
        "Somebody, most likely you, asked for a new password for your Paletta account. To choose it, open:",
        f"{settings.public_url}/account/reset?token={secret}",
        "Or in a terminal:",
        f"    paletta reset-password --token {secret}",
        f"The link works once, for {settings.mail_link_minutes} minutes. If it was not you, do nothing: your "
        "password stays as it is.",
    )


def already_registered(settings: Settings) -> Mail:
    return _mail(
        settings,
        "You already have an account",
        "Somebody, most likely you, tried to register with this address, which has a Paletta account "
        "already. Nothing was changed.",
        "If you forgot your password, ask for a new one in a terminal:",
        "    paletta reset-password",
    )


def password_changed(settings: Settings) -> Mail:
    return _mail(
        settings,
        "Your password was changed",
        "The password of your Paletta account was changed, and every other device was logged out.",
        "If it was not you, choose a new one at once:",
        "    paletta reset-password",
    )


def token_made(settings: Settings, name: str) -> Mail:
    return _mail(
        settings,
        "A personal token was made",
        f"A personal token named “{name}” was made for your Paletta account. Whoever has it acts in your "
        "name.",
        "If it was not you, revoke it and change your password:",
        "    paletta tokens list\n    paletta tokens revoke ID\n    paletta profile password",
    )


def application_approved(settings: Settings) -> Mail:
    return _mail(
        settings,
        "You are a contributor now",
        "Your application was approved. Send your first clips:",
        "    paletta manifest init FOLDER\n    paletta upload FOLDER",
    )


def application_rejected(settings: Settings, reason: str) -> Mail:
    return _mail(
        settings,
        "Your application to contribute",
        "Your application to become a contributor was not approved, for this reason:",
        f"    {reason}",
        "You can apply again when that has changed: `paletta profile become-contributor`.",
    )
