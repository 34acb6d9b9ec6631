"""The steps that logging in and its relatives share: asking, reading stdin, storing what comes back."""

import re
import sys
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import ApiProblem, GaveUp, UsageError

if TYPE_CHECKING:
    from paletta_cli.output import Output
    from paletta_cli.settings import Settings

_SECRET = re.compile(r"plt_[a-z]_[0-9A-Za-z]+")


def address(out: "Output", settings: "Settings", given: str | None) -> str:
    """The e-mail address: the option, else asked for, with the profile's as the answer that Enter gives."""
    if given:
        return given
    known = settings.profiles.get(settings.profile)
    default = known.email if known else None
    if default and not sys.stdin.isatty():
        return default
    return out.prompt("e-mail", option="--email", default=default)


def password(out: "Output", question: str, *, from_stdin: bool) -> str:
    """An existing password, from stdin or hidden from a terminal. Raises UsageError where there is
    neither."""
    if from_stdin:
        return first_line("a password")
    return out.prompt(question, option="--password-stdin", secret=True)


def new_password(out: "Output", *, from_stdin: bool) -> str:
    """A new password: asked for twice on a terminal, until both are the same."""
    if from_stdin:
        return first_line("a password")
    while True:
        first = out.prompt("new password", option="--password-stdin", secret=True)
        if out.prompt("the same again", option="--password-stdin", secret=True) == first:
            return first
        out.note("the two passwords are not the same")


def first_line(what: str) -> str:
    """The first line of stdin. Raises UsageError where it is empty."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError(f"there is no {what.removeprefix('a ')} on stdin")
    return line


def code_from_mail(out: "Output") -> str | None:
    """The code that was mailed, pasted into a terminal; None where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        return None
    return secret_of(out.prompt("code in the mail", option="the code"))


def secret_of(text: str) -> str:
    """The code itself, also out of a pasted link. Raises UsageError where there is none."""
    found = _SECRET.search(text)
    if found is None:
        raise UsageError(
            "that is not a code from a mail", hint="it begins with `plt_`; the whole link also does"
        )
    return found[0]


def log_in(
    out: "Output",
    settings: "Settings",
    email: str,
    secret: str,
    *,
    device: str | None = None,
    scopes: list[str] | None = None,
    days: int | None = None,
) -> None:
    """Exchange address and password for a token, and store it under the profile in force."""
    from paletta_cli.api import Service

    body: dict[str, Any] = {"email": email, "password": secret, "device": device or _this_machine()}
    if scopes:
        body["scopes"] = scopes
    if days is not None:
        body["expires_in_days"] = days
    # One try: a wait that the service asks for here is minutes long, and the person should know at once.
    with Service(settings.url, tries=1) as service:
        answer = service.post("/v1/auth/login", body)
    _store(out, settings, answer["token"], answer["user"])


def adopt(out: "Output", settings: "Settings", token: str) -> None:
    """Store a token that was made elsewhere, once the service knows it."""
    from paletta_cli.api import Service

    with Service(settings.url, token) as service:
        me = service.get("/v1/me")
    _store(out, settings, token, me)


def remember(settings: "Settings", email: str) -> None:
    """Write address and service into the profile, so that they need not be typed again."""
    from paletta_cli.settings import Profile, save_profile

    save_profile(settings, settings.profile, Profile(url=settings.url, email=email))


def _store(out: "Output", settings: "Settings", token: str, user: dict[str, Any]) -> None:
    import os

    from paletta_cli import credentials

    before = credentials.stored(settings)
    place = credentials.save_token(settings, token)
    remember(settings, user["email"])
    if before and before != token:
        _revoke(settings, before)
    out.note(f"logged in to {settings.url} as {user['email']} ({user['role']})")
    out.note(f"the token is in the {place}" if place == "keyring" else f"the token is in `{place}`")
    if os.environ.get("PALETTA_TOKEN", "").strip():
        out.warn("PALETTA_TOKEN is set and wins over the token that was just stored")


def _revoke(settings: "Settings", token: str) -> None:
    """End the token that a new one replaces. A failure leaves a token that ends by itself, and is no news."""
    from contextlib import suppress

    from paletta_cli.api import Service

    with suppress(ApiProblem, GaveUp), Service(settings.url, token, tries=1) as service:
        service.post("/v1/auth/logout")


def _this_machine() -> str:
    import getpass
    import platform

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = ""
    host = platform.node() or "this machine"
    return f"{user}@{host}"[:100] if user else host[:100]
