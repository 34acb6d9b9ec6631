"""`paletta tokens list | create | revoke`."""

from typing import TYPE_CHECKING, Annotated

import typer

from paletta_cli.commands import Json, Yes

if TYPE_CHECKING:
    from paletta_cli.errors import ApiProblem, UsageError

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """Your tokens: which machines and scripts can act for you."""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    with connect() as service:
        rows = list(service.pages("/v1/me/tokens"))
    out = Output(json=json)
    if out.mode == "table":
        # In 80 columns: the id is whole, for it is what `revoke` wants; the name and the scopes take more lines.
        fitting = [
            Column("id", "id"),
            Column("name", "name", wrap=True),
            Column("scopes", "scopes", show=_scopes, wrap=True),
            Column("last_used_at", "last used", show=_day),
            Column("expires_at", "expires", show=_day),
            Column("current", "this", show=lambda current: "yes" if current else ""),
        ]
        return out.table(rows, fitting)
    columns = [
        Column("id"),
        Column("name"),
        Column("kind"),
        Column("scopes", show=_scopes),
        Column("last_used_at", show=_minute),
        Column("expires_at", show=_minute),
        Column("current", show=lambda current: "yes" if current else ""),
    ]
    return out.table(rows, columns)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what it is for, such as `nightly upload`")],
    scope: Annotated[
        list[str] | None, typer.Option(help="what it may do, such as uploads; repeatable; else everything")
    ] = None,
    expires_in_days: Annotated[int, typer.Option(min=1, max=365, help="days until it ends")] = 90,
    json: Json = False,
) -> None:
    """Make a token for scripts (PALETTA_TOKEN). It is printed this once."""
    from paletta_cli.api import connect
    from paletta_cli.errors import ApiProblem
    from paletta_cli.output import Output

    out = Output(json=json)
    body = {"name": name, "scopes": scope or [], "expires_in_days": expires_in_days}
    with connect() as service:
        try:
            made = service.post("/v1/me/tokens", body)
        except ApiProblem as problem:
            raise _wrong_scope(scope or [], problem) or problem from problem
    out.data(made)
    out.line(made["token"])
    out.note(f"{made['id']} ends on {_minute(made['expires_at'])}; the token is not shown again")


@app.command()
def revoke(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="from `paletta tokens list`")] = None,
    others: Annotated[bool, typer.Option("--others", help="every token but the one in use")] = False,
    yes: Yes = False,
) -> None:
    """End tokens, at once."""
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import PalettaError, UsageError
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output()
    if bool(ids) == others:
        raise UsageError("name the tokens to revoke, or pass --others")
    with connect() as service:
        if others:
            if not out.confirm("revoke every other token?", yes=yes):
                raise PalettaError("nothing was revoked")
            service.delete("/v1/me/tokens")
            out.note("every other token is revoked")
            return
        for token in ids or []:
            service.delete(f"/v1/me/tokens/{segment(token)}")
        out.note(f"revoked {plural(len(ids or []), 'token')}")


def _wrong_scope(scopes: list[str], problem: "ApiProblem") -> "UsageError | None":
    """What the service says of a scope, in the words of the command line; None where it complains of something else.

    The service lists the scopes itself: it knows them, and may know more of them than this `paletta`.
    """
    import re

    from paletta_cli.errors import UsageError

    for one in problem.body.get("problems") or ():
        if found := re.fullmatch(r"/scopes/(\d+)", str(one.get("pointer"))):
            there = re.findall(r"'([^']+)'", str(one.get("message")))
            hint = f"there are {', '.join(there)}" if there else str(one.get("message"))
            return UsageError(f"--scope: there is no scope `{scopes[int(found[1])]}`", hint=hint)
    return None


def _scopes(scopes: list[str]) -> str:
    return ", ".join(scopes) or "everything"


def _day(moment: object) -> str:
    return _minute(moment)[:10]


def _minute(moment: object) -> str:
    """A time of the service (ISO 8601, UTC) in this machine's zone, to the minute."""
    from datetime import datetime

    return datetime.fromisoformat(str(moment)).astimezone().strftime("%Y-%m-%d %H:%M")
