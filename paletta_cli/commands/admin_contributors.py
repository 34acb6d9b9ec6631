"""`paletta admin contributors standing`: what became of contributors' clips in review."""

from typing import Annotated, Any

import typer

from paletta_cli.commands import Json

app = typer.Typer(no_args_is_help=True, help="contributors before moderators: standing")


@app.callback()
def contributors() -> None:
    """One verb so far; without this, Typer would take it for the noun."""


@app.command()
def standing(
    user: Annotated[
        str | None, typer.Argument(metavar="[USER]", help="an address or an id; without it, everybody")
    ] = None,
    json: Json = False,
) -> None:
    """clips approved, rejected and taken down, and reports that were right: in all, and in the last 90 days"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Column, Output

    out = Output(json=json)
    with connect() as service:
        if user is not None:
            found = [service.get(f"/v1/admin/contributors/{segment(user)}/standing")]
        else:
            found = list(service.pages("/v1/admin/contributors/standing", limit=200))
    if out.mode == "json":
        out.data(found[0] if user is not None else found)
        return
    rows = [row for one in found for row in _rows(one)]
    columns = [
        Column("email", "contributor"),
        Column("period", "in"),
        *(
            Column(name, name, right=True)
            for name in ("approved", "rejected", "back", "down", "reports", "rate")
        ),
    ]
    out.table(rows, columns, empty="no contributors yet")


def _rows(one: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for all the time, and one for the last 90 days."""
    rows = []
    for period, key in (("all", "all_time"), ("90 days", "last_90_days")):
        tally = one["standing"][key]
        rate = tally["approval_rate"]
        rows.append(
            {
                "email": one["contributor"]["email"],
                "period": period,
                "approved": tally["approved"],
                "rejected": tally["rejected"],
                "back": tally["changes_requested"],
                "down": tally["taken_down"],
                "reports": tally["reports_upheld"],
                "rate": "" if rate is None else f"{rate:.0%}",
            }
        )
    return rows
