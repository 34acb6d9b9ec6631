"""`paletta register | verify | reset-password | login | logout | whoami`: getting in and out."""

from typing import Annotated

import typer

from paletta_cli.commands import Json

Email = Annotated[str | None, typer.Option(help="the account's e-mail address")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="read the password from the first line of stdin")
]


def register(
    email: Email = None,
    name: Annotated[str | None, typer.Option(help="the name that others see")] = None,
    institution: Annotated[str | None, typer.Option(help="company, studio or school")] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Make an account. A mail then asks you to confirm the address."""
    from paletta_cli import login_flow
    from paletta_cli.api import Service
    from paletta_cli.output import Output
    from paletta_cli.settings import load

    out = Output()
    settings = load()
    address = email or out.prompt("e-mail", option="--email")
    password = login_flow.new_password(out, from_stdin=password_stdin)
    body = {"email": address, "password": password, "display_name": name, "institution": institution}
    with Service(settings.url, tries=1) as service:
        answer = service.post("/v1/auth/register", {key: value for key, value in body.items() if value})
        login_flow.remember(settings, address)
        out.note(answer["message"])
        code = login_flow.code_from_mail(out)
        if code is None:
            out.hint("open the link in the mail, or run `paletta verify CODE`; then `paletta login`")
            return
        service.post("/v1/auth/verify-email/confirm", {"token": code})
        login_flow.log_in(out, settings, address, password)


def verify(
    code: Annotated[
        str | None, typer.Argument(help="the code in the mail; without it, a mail is sent")
    ] = None,
    email: Email = None,
) -> None:
    """Confirm your e-mail address with the code that was mailed to you."""
    from paletta_cli import login_flow
    from paletta_cli.api import Service
    from paletta_cli.output import Output
    from paletta_cli.settings import load

    out = Output()
    settings = load()
    with Service(settings.url, tries=1) as service:
        if code is None:
            address = login_flow.address(out, settings, email)
            out.note(service.post("/v1/auth/verify-email", {"email": address})["message"])
            code = login_flow.code_from_mail(out)
            if code is None:
                out.hint("open the link in the mail, or run `paletta verify CODE`")
                return
        service.post("/v1/auth/verify-email/confirm", {"token": login_flow.secret_of(code)})
    out.note("the e-mail address is confirmed")
    out.hint("`paletta login` logs in")


def reset_password(
    email: Email = None,
    token: Annotated[
        str | None, typer.Option(help="the code in the mail; without it, a mail is sent")
    ] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Choose a new password with a code that is mailed to you. Every device is logged out."""
    from paletta_cli import login_flow
    from paletta_cli.api import Service
    from paletta_cli.output import Output
    from paletta_cli.settings import load

    out = Output()
    settings = load()
    with Service(settings.url, tries=1) as service:
        if token is None:
            address = login_flow.address(out, settings, email)
            out.note(service.post("/v1/auth/password-reset", {"email": address})["message"])
            token = login_flow.code_from_mail(out)
            if token is None:
                out.hint("open the link in the mail, or run `paletta reset-password --token CODE`")
                return
        password = login_flow.new_password(out, from_stdin=password_stdin)
        body = {"token": login_flow.secret_of(token), "new_password": password}
        service.post("/v1/auth/password-reset/confirm", body)
    out.note("the new password is in force, and every device is logged out")
    out.hint("`paletta login` logs in")


def login(
    email: Email = None,
    password_stdin: PasswordStdin = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="store the token on stdin instead of asking for a password")
    ] = False,
    device: Annotated[str | None, typer.Option(help="a name for this machine in the list of tokens")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="restrict the token; repeatable")] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=365, help="end the token sooner")] = None,
) -> None:
    """Log in on this machine. The token goes into the keyring, or into a file that only you can read."""
    from paletta_cli import login_flow
    from paletta_cli.output import Output
    from paletta_cli.settings import load

    out = Output()
    settings = load()
    if token_stdin:
        login_flow.adopt(out, settings, login_flow.first_line("a token"))
        return
    address = login_flow.address(out, settings, email)
    password = login_flow.password(out, "password", from_stdin=password_stdin)
    login_flow.log_in(
        out, settings, address, password, device=device, scopes=scope or [], days=expires_in_days
    )


def confirm(password_stdin: PasswordStdin = False) -> None:
    """Give your password again, which money, roles and erasure ask for; it counts for some minutes."""
    from paletta_cli import login_flow
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output()
    with connect() as service:
        password = login_flow.password(out, "password", from_stdin=password_stdin)
        service.post("/v1/auth/confirm", {"password": password})
    out.note("confirmed")


def logout() -> None:
    """Log out: revoke this machine's token and forget it."""
    import os

    from paletta_cli import credentials
    from paletta_cli.api import Service
    from paletta_cli.errors import ApiProblem, GaveUp
    from paletta_cli.output import Output
    from paletta_cli.settings import load

    out = Output()
    settings = load()
    # Only what a login here left: the environment's token is somebody else's to end.
    stored = credentials.stored(settings)
    from_outside = bool(os.environ.get("PALETTA_TOKEN", "").strip())
    if stored is None:
        out.note(f"not logged in to {settings.url}")
        if from_outside:
            out.hint("PALETTA_TOKEN is set: unset it, and end its token with `paletta tokens revoke`")
        return
    revoked = True
    try:
        with Service(settings.url, stored) as service:
            service.post("/v1/auth/logout", idempotent=True)
    except ApiProblem as problem:
        if problem.status != 401:  # it had ended already
            raise
    except GaveUp as error:
        out.warn(f"{error.message}; the token is forgotten here but not revoked there")
        revoked = False
    credentials.forget_token(settings)
    out.note(f"logged out of {settings.url}")
    if not revoked:
        out.hint("revoke it from another machine with `paletta tokens revoke`")
    if from_outside:
        out.warn("PALETTA_TOKEN is set and stays in force")


def whoami(json: Json = False) -> None:
    """Who is logged in, with which role, and where."""
    from paletta_cli import credentials
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output
    from paletta_cli.settings import load

    out = Output(json=json)
    settings = load()
    with connect(settings) as service:
        me = service.get("/v1/me")
    row = {**me, "service": settings.url, "profile": settings.profile, "token": credentials.where(settings)}
    out.record(
        row,
        [
            Column("email", "e-mail"),
            Column("display_name", "name"),
            Column("role"),
            Column("email_verified", "confirmed"),
            Column("id"),
            Column("service"),
            Column("profile"),
            Column("token", "token from"),
        ],
    )
