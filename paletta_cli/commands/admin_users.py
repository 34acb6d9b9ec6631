"""`paletta admin users list | show | create | edit | disable | enable | role | sessions | delete | erase | export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(
    no_args_is_help=True,
    help="accounts: list, show, create, edit, disable, enable, role, sessions, delete, erase, export",
)
sessions_app = typer.Typer(no_args_is_help=True, help="where somebody is logged in: list, revoke")
app.add_typer(sessions_app, name="sessions")

User = Annotated[str, typer.Argument(metavar="USER", help="an id, its beginning, or an e-mail address")]
PATH = "/v1/admin/users"


class Role(StrEnum):
    CUSTOMER = "customer"
    CONTRIBUTOR = "contributor"
    ADMIN = "admin"


class Status(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"
    ERASED = "erased"


@app.command("list")
def list_(
    search: Annotated[str | None, typer.Argument(metavar="TEXT", help="part of an address or a name")] = None,
    role: Annotated[Role | None, typer.Option(help="only these")] = None,
    status: Annotated[Status | None, typer.Option(help="only those that stand there")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="registered since: 2026-05-01, 7d")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="registered before")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="print them as CSV")] = False,
    json: Json = False,
) -> None:
    """accounts, newest first"""
    from paletta_cli.admin.users import show_list
    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError
    from paletta_cli.moments import moment
    from paletta_cli.output import Output

    if csv and json:
        raise UsageError("--csv and --json exclude each other")
    params = {
        "q": search,
        "role": role.value if role else None,
        "status": status.value if status else None,
        "since": moment(since, "--since"),
        "until": moment(until, "--until"),
    }
    most = None if everything else limit + 1  # one more tells whether there are more
    with connect() as service:
        found = list(service.pages(PATH, most=most, limit=min(most or 200, 200), **params))
    more = not everything and len(found) > limit
    out = Output(json=json)
    show_list(out, found[:limit] if more else found, as_csv=csv)
    if more:
        out.note(f"the newest {limit}")
        out.hint("--all shows all of them, --limit N more")


@app.command()
def show(user: User, json: Json = False) -> None:
    """everything about an account on one screen"""
    from paletta_cli.admin.users import show_one
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        found = service.get(f"{PATH}/{segment(user)}")
    show_one(Output(json=json), found)


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="address of the account")],
    role: Annotated[Role, typer.Option(help="what it may do")] = Role.CUSTOMER,
    name: Annotated[str | None, typer.Option(help="display name")] = None,
    institution: Annotated[str | None, typer.Option(help="institution or company")] = None,
    json: Json = False,
) -> None:
    """make an account for somebody; a mailed link lets them choose its password"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    body = {"email": email, "role": role.value, "display_name": name, "institution": institution}
    with connect() as service:
        made = service.post(PATH, body)
    out.data(made)
    out.line(made["id"])
    out.note(
        f"{made['email']} is a {made['role']} once they have chosen a password; the link is in their mail"
    )


@app.command()
def edit(
    user: User,
    email: Annotated[str | None, typer.Option(help="another address; counts once it is confirmed")] = None,
    name: Annotated[str | None, typer.Option(help="display name; `` clears it")] = None,
    username: Annotated[str | None, typer.Option(help="user name; `` clears it")] = None,
    institution: Annotated[str | None, typer.Option(help="institution; `` clears it")] = None,
    json: Json = False,
) -> None:
    """change what an account says"""
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    given = {"display_name": name, "username": username, "institution": institution}
    body: dict[str, Any] = {key: value or None for key, value in given.items() if value is not None}
    if email is not None:
        body["email"] = email
    if not body:
        raise UsageError("nothing to change", hint="pass --email, --name, --username or --institution")
    out = Output(json=json)
    with connect() as service:
        found = service.patch(f"{PATH}/{segment(user)}", body)
    out.data(found)
    if set(body) - {"email"}:
        out.line(f"{found['id']} changed")
    if email is not None and email.strip().lower() != found["email"]:
        out.line(f"a mail is on its way to {email}: once it is confirmed there, it replaces {found['email']}")


@app.command()
def disable(
    user: User,
    reason: Annotated[str, typer.Option(help="the person reads this in a mail")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """shut somebody out, at once and everywhere; they are told why"""
    _change(user, "disable", {"reason": reason}, "disabled", yes=yes, json=json)


@app.command()
def enable(user: User, json: Json = False) -> None:
    """let somebody in again who was disabled or deleted"""
    _change(user, "enable", None, "open again", yes=False, json=json)


@app.command()
def role(
    user: User,
    role: Annotated[Role, typer.Argument(help="what they may do from their next request on")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """give somebody another role"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"{PATH}/{segment(user)}")
        asked = f"{found['email']} is {found['role']}: make them {role.value}?"
        if found["role"] != role.value and not out.confirm(asked, yes=yes):
            raise typer.Exit(1)
    _change(found["id"], "role", {"role": role.value}, f"{role.value} now", yes=yes, json=json)


@app.command()
def delete(user: User, yes: Yes = False, json: Json = False) -> None:
    """close an account; its orders and clips stay, and `enable` opens it again"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"{PATH}/{segment(user)}")
        if not out.confirm(f"close the account of {found['email']}?", yes=yes):
            raise typer.Exit(1)
        found = service.delete(f"{PATH}/{found['id']}", own_account=yes)
    out.data(found)
    out.line(f"{found['id']} deleted")
    out.hint("`paletta admin users erase` removes what it says of the person, for good")


@app.command()
def erase(
    user: User,
    waive_earnings: Annotated[
        bool, typer.Option("--waive-earnings", help="they give up what they have earned and were not paid")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """erase a person for good: everything but what law wants kept

    Orders, licences with their licensee, payments and the audit log stay. Their clips leave the shop; buyers keep what
    they bought. Nothing brings any of it back.
    """
    from paletta_cli.admin.users import really
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"{PATH}/{segment(user)}")
        if not yes:
            really(out, found)
        body = {"id": found["id"], "own_account": yes, "waive_earnings": waive_earnings}
        found = service.post(f"{PATH}/{found['id']}/erase", body)
    out.data(found)
    out.line(f"{found['id']} erased")


@app.command()
def export(
    user: User,
    to: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="a .json file; or a .zip or a folder, with a file per kind"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite what is there")] = False,
) -> None:
    """everything held on a person, as one JSON document; no passwords, no tokens"""
    from paletta_cli.admin.users import save_export
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        data = service.fetch(f"{PATH}/{segment(user)}/export")
    save_export(Output(), data, to, force=force)


@sessions_app.command("list")
def list_sessions(user: User, json: Json = False) -> None:
    """where somebody is logged in, and their tokens for scripts"""
    from paletta_cli.admin.users import show_sessions
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        found = list(service.pages(f"{PATH}/{segment(user)}/sessions"))
    show_sessions(Output(json=json), found)


@sessions_app.command()
def revoke(
    user: User,
    ids: Annotated[list[str] | None, typer.Argument(metavar="TOKEN…", help="from `sessions list`")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every one of them")] = False,
    json: Json = False,
) -> None:
    """end somebody's tokens, at once"""
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    if bool(ids) == everything:
        raise UsageError("name the tokens to revoke, or pass --all")
    out = Output(json=json)
    path = f"{PATH}/{segment(user)}/sessions"
    with connect() as service:
        if everything:
            ended = service.delete(path)["ended"]
        else:
            ended = sum(service.delete(f"{path}/{segment(token)}")["ended"] for token in ids or [])
    out.data({"ended": ended})
    out.line(f"revoked {plural(ended, 'token')}")


def _change(user: str, verb: str, body: dict[str, Any] | None, told: str, *, yes: bool, json: bool) -> None:
    """POST one change; --yes also means one's own account, should it be that."""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    if body is not None:
        body["own_account"] = yes
    with connect() as service:
        found = service.post(f"{PATH}/{segment(user)}/{verb}", body)
    out.data(found)
    out.line(f"{found['id']} is {told}")
