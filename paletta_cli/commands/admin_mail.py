"""`paletta admin mail suppressed | allow`: addresses that get no mail any more."""

from typing import Annotated, Any

import typer

from paletta_cli.commands import Json

app = typer.Typer(no_args_is_help=True, help="addresses that bounced or complained: suppressed, allow")


@app.command()
def suppressed(
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    json: Json = False,
) -> None:
    """addresses that get no mail any more, and why"""
    from paletta_cli.api import connect

    with connect() as service:
        found = list(service.pages("/v1/admin/mails/suppressed", most=limit, limit=min(limit, 200)))
    _show(found, json=json)


@app.command()
def allow(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="an address from `suppressed`")],
    json: Json = False,
) -> None:
    """let an address get mail again

    Only after its owner said that it works: what bounces again costs everybody's mails. What was given up meanwhile
    is not sent any more.
    """
    from paletta_cli.api import connect

    with connect() as service:
        done = service.post("/v1/admin/mails/suppressed/allow", {"address": address})
    _show([done], json=json)


def _show(rows: list[dict[str, Any]], *, json: bool) -> None:
    from paletta_cli.moments import minute
    from paletta_cli.output import Column, Output

    columns = [
        Column("suppressed_at", "since", show=minute, wrap=True),
        Column("address", "address", wrap=True),
        Column("reason", "reason"),
        Column("detail", "what was said", wrap=True),
    ]
    Output(json=json).table(rows, columns, empty="every address gets its mail")
