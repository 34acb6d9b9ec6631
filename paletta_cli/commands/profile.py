"""`paletta profile show | edit | password | become-contributor | list | use`."""

from typing import Annotated, Any

import typer

from paletta_cli.commands import Json, profile_payout
from paletta_cli.commands.account import PasswordStdin

app = typer.Typer(no_args_is_help=True)
app.add_typer(profile_payout.app, name="payout")


@app.command()
def show(json: Json = False) -> None:
    """Your account as the service knows it."""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    with connect() as service:
        _print(Output(json=json), service.get("/v1/me"))


@app.command()
def edit(
    name: Annotated[str | None, typer.Option(help="the name that others see; empty clears it")] = None,
    username: Annotated[
        str | None, typer.Option(help="3 to 20 of a-z, 0-9, - and _; empty clears it")
    ] = None,
    institution: Annotated[
        str | None, typer.Option(help="company, studio or school; empty clears it")
    ] = None,
    json: Json = False,
) -> None:
    """Change your name, username or institution."""
    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    given = {"display_name": name, "username": username, "institution": institution}
    changes = {key: value or None for key, value in given.items() if value is not None}
    if not changes:
        raise UsageError("nothing to change", hint="pass --name, --username or --institution")
    with connect() as service:
        _print(Output(json=json), service.patch("/v1/me", changes))


@app.command()
def password(password_stdin: PasswordStdin = False) -> None:
    """Change your password; every other device is logged out. On stdin: the old one, then the new one."""
    from paletta_cli import login_flow
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output()
    with connect(tries=1) as service:
        current = login_flow.password(out, "current password", from_stdin=password_stdin)
        new = login_flow.new_password(out, from_stdin=password_stdin)
        service.post("/v1/me/password", {"current_password": current, "new_password": new})
    out.note("the password is changed, and every other device is logged out")


@app.command("become-contributor")
def become_contributor(
    statement: Annotated[str | None, typer.Option(help="a word about you and your footage")] = None,
    json: Json = False,
) -> None:
    """Ask to sell your clips here."""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        answer = service.post("/v1/me/contributor-application", {"statement": statement}, idempotent=True)
    out.data(answer)
    if answer["status"] == "approved":
        out.line("you are a contributor")
        out.hint("`paletta manifest init FOLDER`, then `paletta upload FOLDER`")
    else:
        out.line("your application waits for an answer, which comes by mail")


@app.command("list")
def list_(json: Json = False) -> None:
    """The profiles on this machine, and which have a token."""
    from paletta_cli import credentials
    from paletta_cli.output import Column, Output
    from paletta_cli.settings import load

    settings = load()
    logins = credentials.known_logins(settings)
    rows = [
        {
            "name": name,
            "url": profile.url,
            "email": profile.email,
            "logged_in": (name, profile.url) in logins,
            "default": name == settings.default_profile,
        }
        for name, profile in settings.profiles.items()
    ]
    columns = [
        Column("name", "profile"),
        Column("email", "e-mail"),
        Column("url", "service"),
        Column("logged_in", "logged in"),
        Column("default"),
    ]
    Output(json=json).table(rows, columns, empty="no profiles yet: `paletta login` makes one")


@app.command()
def use(name: Annotated[str, typer.Argument(help="a profile of `paletta profile list`")]) -> None:
    """Make a profile the one that is used when none is named."""
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.settings import load, save_profile
    from paletta_cli.text import closest

    settings = load()
    if name not in settings.profiles:
        near = closest(name, settings.profiles)
        hint = f"did you mean `{near}`?" if near else "`paletta profile list` names them"
        raise UsageError(f"there is no profile `{name}`", hint=hint)
    save_profile(settings, name, settings.profiles[name], make_default=True)
    Output().note(f"`{name}` is the default profile now")


def _print(out: Any, me: dict[str, Any]) -> None:
    from paletta_cli.output import Column

    out.record(
        me,
        [
            Column("email", "e-mail"),
            Column("email_verified", "confirmed"),
            Column("display_name", "name"),
            Column("username"),
            Column("institution"),
            Column("role"),
            Column("id"),
            Column("created_at", "since", show=lambda value: str(value)[:10]),
        ],
    )
