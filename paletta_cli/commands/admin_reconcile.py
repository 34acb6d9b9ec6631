"""`paletta admin reconcile`: whether our books and the gateways' agree."""

from typing import Annotated

import typer

from paletta_cli.commands import Json

_SOME_FAILED = 6


def reconcile(
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="payments of then or later (UTC), and what gateways list since then"
        ),
    ] = None,
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="this order alone")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="settle what differs")] = False,
    json: Json = False,
) -> None:
    """compare our books with the gateways': captured, refunded, disputed, missing here or there

    Prints every difference, and exits with 6 if some are left. With --since the gateways' own lists are read too, for
    money of which nothing is known here.
    """
    from paletta_cli.api import connect
    from paletta_cli.desk import reconciling
    from paletta_cli.desk.words import instant
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    if since is not None and order is not None:
        raise UsageError("--since and --order exclude each other")
    out = Output(json=json)
    with connect() as service:
        agree = reconciling.reconcile(
            service,
            out,
            since=instant(since, option="--since"),
            order=order,
            gateways=list(service.get("/v1/admin/reconcile")["gateways"]),
            fix=fix,
        )
    if not agree:
        raise typer.Exit(_SOME_FAILED)
