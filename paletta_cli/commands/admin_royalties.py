"""`paletta admin royalties show | set | unset`: what part of a sale its contributor gets."""

from typing import Annotated

import typer

from paletta_cli.commands import Json

app = typer.Typer(no_args_is_help=True, help="contributors' part of a sale: show, set, unset")

Whose = Annotated[
    str,
    typer.Argument(
        metavar="USER", help="e-mail address or id; or `standard`, or `exclusive`, for the shop's own"
    ),
]


@app.command()
def show(json: Json = False) -> None:
    """the shop's rates, and those agreed with single contributors"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    with connect() as service:
        rows = service.get("/v1/admin/royalties")["items"]
    columns = [
        Column("scope", "of"),
        Column("email", "e-mail", wrap=True),
        Column("rate", "rate", show=lambda rate: f"{rate} %", right=True),
        Column("set_at", "since", show=lambda value: str(value)[:10] if value else ""),
    ]
    Output(json=json).table(rows, columns)


@app.command("set")
def set_(
    whose: Whose,
    rate: Annotated[str, typer.Argument(metavar="RATE", help="percent, such as 55 or 52.5")],
    json: Json = False,
) -> None:
    """agree on a rate, from now on: what is sold keeps the rate of its sale

    A contributor's own rate counts for all that they sell, exclusive or not.
    """
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        done = service.put(f"/v1/admin/royalties/{segment(whose)}", {"rate": rate})
    out.data(done)
    out.note(f"{done['email'] or done['scope']} gets {done['rate']} % of what is sold from now on")


@app.command()
def unset(whose: Whose) -> None:
    """go back to the shop's rate, or of the shop's own to the one that it began with; from now on"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        service.delete(f"/v1/admin/royalties/{segment(whose)}")
    Output().note(f"{whose} has no rate of its own any more")
