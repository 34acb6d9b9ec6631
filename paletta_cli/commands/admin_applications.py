"""`paletta admin applications list | approve | reject`: who wants to contribute."""

from enum import StrEnum
from typing import Annotated

import typer

from paletta_cli.commands import Json

app = typer.Typer(no_args_is_help=True, help="who wants to contribute: list, approve, reject")


class Status(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    ALL = "all"


@app.command("list")
def list_(
    status: Annotated[Status, typer.Option(help="which ones")] = Status.PENDING, json: Json = False
) -> None:
    """Applications to contribute, newest first."""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    wanted = None if status is Status.ALL else status.value
    with connect() as service:
        rows = [
            {**row, "email": row["user"]["email"], "name": row["user"]["display_name"]}
            for row in service.pages("/v1/admin/contributor-applications", status=wanted)
        ]
    columns = [
        Column("id"),
        Column("status"),
        Column("email", "e-mail"),
        Column("name"),
        Column("created_at", "asked", show=lambda value: str(value)[:10]),
        Column("statement", wrap=True),
    ]
    empty = "no applications" if wanted is None else f"no {wanted} applications"
    Output(json=json).table(rows, columns, empty=empty)


@app.command()
def approve(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="from `paletta admin applications list`")],
) -> None:
    """Make the applicants contributors; each is told by mail."""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output()
    with connect() as service:
        for application in ids:
            done = service.post(f"/v1/admin/contributor-applications/{segment(application)}/approve")
            out.note(f"{done['user']['email']} is a contributor now")


@app.command()
def reject(
    id_: Annotated[str, typer.Argument(metavar="ID", help="from `paletta admin applications list`")],
    reason: Annotated[str, typer.Option(help="the applicant reads this")],
) -> None:
    """Decline an application; the applicant reads the reason in a mail."""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        path = f"/v1/admin/contributor-applications/{segment(id_)}/reject"
        done = service.post(path, {"reason": reason})
    Output().note(f"told {done['user']['email']} why not")
