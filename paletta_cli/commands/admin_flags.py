"""`paletta admin flags list | set | clear`: switching parts of the service off for a while."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from paletta_cli.commands import Json

app = typer.Typer(
    no_args_is_help=True, help="switch uploads, checkout, downloads or all writing off: list, set, clear"
)


class Flag(StrEnum):
    READ_ONLY = "read-only"
    NO_UPLOADS = "no-uploads"
    NO_CHECKOUT = "no-checkout"
    NO_DOWNLOADS = "no-downloads"


Name = Annotated[
    Flag, typer.Argument(metavar="FLAG", help="read-only, no-uploads, no-checkout, no-downloads")
]


@app.command("list")
def list_(json: Json = False) -> None:
    """every switch, and who set it when"""
    from paletta_cli.api import connect

    with connect() as service:
        _show(service.get("/v1/admin/flags")["items"], json=json)


@app.command("set")
def set_(
    flag: Name,
    message: Annotated[str | None, typer.Option(help="what people read who run into it")] = None,
    json: Json = False,
) -> None:
    """switch something off: the whole service follows within two seconds, workers go on

    Logging in and out, these switches and the events of payment gateways go on whatever is set.
    """
    from paletta_cli.api import connect

    with connect() as service:
        done = service.put(f"/v1/admin/flags/{flag.value}", {"message": message})
    _show([done], json=json)


@app.command()
def clear(flag: Name, json: Json = False) -> None:
    """switch it on again"""
    from paletta_cli.api import connect

    with connect() as service:
        done = service.delete(f"/v1/admin/flags/{flag.value}")
    _show([done], json=json)


def _show(flags: list[dict[str, Any]], *, json: bool) -> None:
    from paletta_cli.output import Column, Output
    from paletta_cli.text import when

    columns = [
        Column("name", "flag"),
        Column("on", "", show=lambda on: "set" if on else "off", style=lambda on: "bold red" if on else ""),
        Column("set_at", "since", show=lambda stamp: when(stamp) if stamp else ""),
        Column("set_by", "by"),
        Column("message", "message", wrap=True),
    ]
    Output(json=json).table(flags, columns)
