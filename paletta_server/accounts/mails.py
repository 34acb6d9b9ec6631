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


def invited(settings: Settings, secret: str) -> Mail:
    return _mail(
        settings,
        "An account was made for you",
        "An operator of Paletta made an account for you with this address. To begin, choose its password:",
        f"{settings.public_url}/account/reset?token={secret}",
        "Or in a terminal:",
        f"    paletta reset-password --token {secret}",
        f"The link works once, for {settings.mail_link_minutes} minutes; later, `paletta reset-password` sends "
        "another. If you expected nothing of the kind, do nothing: nobody can use the account without it.",
    )


def change(settings: Settings, secret: str) -> Mail:
    return _mail(
        settings,
        "Confirm your new e-mail address",
        "A Paletta account is to have this address from now on. To confirm it, open this page and press the button:",
        f"{settings.public_url}/account/verify?token={secret}",
        "Or in a terminal:",
        f"    paletta verify {secret}",
        f"The link works once, for {settings.mail_link_minutes} minutes. If it is not your account, do nothing: "
        "it keeps the address that it has.",
    )


def change_asked(settings: Settings) -> Mail:
    return _mail(
        settings,
        "Your e-mail address is to be changed",
        "An operator of Paletta entered another e-mail address for your account. It takes the place of this one "
        "once it is confirmed by the mail that was sent there.",
        "If you did not ask for that, tell the operator at once.",
    )


def address_changed(settings: Settings) -> Mail:
    return _mail(
        settings,
        "Your e-mail address was changed",
        "Your Paletta account has another e-mail address now, which was confirmed there. This one has no account "
        "any more.",
        "If it was not you, tell the operator at once.",
    )


def disabled(settings: Settings, reason: str) -> Mail:
    return _mail(
        settings,
        "Your account is disabled",
        "Your Paletta account was disabled, and every device was logged out, for this reason:",
        f"    {reason}",
        "What you bought stays yours. If you think that this is a mistake, tell the operator.",
    )


def enabled(settings: Settings) -> Mail:
    return _mail(
        settings,
        "Your account is open again",
        "You can use your Paletta account again. Log in:",
        "    paletta login",
    )


def role_changed(settings: Settings, role: str) -> Mail:
    return _mail(
        settings,
        "Your account has another role",
        f"From now on your Paletta account is that of a{'n' if role == 'admin' else ''} {role}. You need not log "
        "in again.",
    )


def closed(settings: Settings) -> Mail:
    return _mail(
        settings,
        "Your account was closed",
        "Your Paletta account was closed, and every device was logged out. If you think that this is a mistake, "
        "tell the operator: it can be opened again.",
    )


def erased(settings: Settings) -> Mail:
    return _mail(
        settings,
        "Your data was erased",
        "Your Paletta account and what it told about you were erased, as you asked or as the law wants. What the "
        "law wants us to keep stays: your orders with the name that the licences were made out to, and the "
        "payments. Certificates that you gave to others can still be checked.",
        "This is the last mail that you get from us.",
    )
