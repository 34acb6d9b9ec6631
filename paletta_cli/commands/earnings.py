"""`paletta earnings`: a contributor's statement."""

from typing import Annotated

import typer

from paletta_cli.commands import Json


def earnings(
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="which month, of UTC; else this one")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="print the month's lines as CSV")] = False,
    json: Json = False,
) -> None:
    """what your clips earned in a month, what is on hold, and what was paid out

    Net is what was paid before tax; your royalty is its part at the rate of the sale. It is on hold for some weeks,
    while most refunds come, and goes with the next payout after that. What is refunded later is netted then.
    """
    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.shop import earnings as showing
    from paletta_cli.wrong_values import told_of

    if csv and json:
        raise UsageError("one of --csv and --json")
    out = Output(json=json)
    with connect() as service, told_of({"month": "--month"}, {"--month": month}):
        found = showing.fetch(service, month)
    if csv:
        out.raw(showing.as_csv(found["lines"]))
        return
    showing.show(out, found)
    showing.hints(out, found)
