"""`paletta admin reports list | show | resolve | dismiss`: what people say is wrong with clips."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

if TYPE_CHECKING:
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="what people report about clips: list, show, resolve, dismiss")

Report = Annotated[str, typer.Argument(metavar="REPORT", help="from `paletta admin reports list`")]
Note = Annotated[str | None, typer.Option(help="for other moderators; nobody else reads it")]


class Status(StrEnum):
    OPEN = "open"
    RESOLVED = "resolved"
    DISMISSED = "dismissed"
    ALL = "all"


@app.command("list")
def list_(
    status: Annotated[Status, typer.Option(help="which ones")] = Status.OPEN,
    clip: Annotated[str | None, typer.Option(metavar="CLIP", help="only on this clip")] = None,
    json: Json = False,
) -> None:
    """reports, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    wanted = None if status is Status.ALL else status.value
    with connect() as service:
        found = list(service.pages("/v1/admin/reports", status=wanted, clip=clip, limit=200))
    columns = [
        Column("id"),
        Column("status"),
        Column("reason_code", "reason"),
        Column("clip", "clip", show=lambda clip: str(clip["id"])),
        Column("text", "text", wrap=True),
    ]
    out = Output(json=json)
    out.table(found, columns, empty="no reports" if wanted is None else f"no {wanted} reports")


@app.command()
def show(report: Report, json: Json = False) -> None:
    """everything about one report"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        _show(Output(json=json), service.get(f"/v1/admin/reports/{segment(report)}"))


def _show(out: "Output", report: dict[str, Any]) -> None:
    from paletta_cli.clips.showing import when
    from paletta_cli.output import Column

    if out.mode == "json":
        out.data(report)
        return
    clip = report["clip"]
    row = {
        **report,
        "clip": f"{clip['id']}  {clip['title']}  ({str(clip['stage']).replace('_', ' ')})",
        "created_at": when(report["created_at"]),
        "handled_at": when(report["handled_at"]) if report["handled_at"] else "",
    }
    columns = [
        Column("id", "report"), Column("status"), Column("clip"), Column("reason_code", "reason"), Column("text"),
        Column("reporter", "by"), Column("created_at", "at"), Column("handled_by", "handled by"),
        Column("handled_at", "handled at"), Column("note"),
    ]  # fmt: skip
    out.record(row, columns)


@app.command()
def resolve(
    report: Report,
    take_down: Annotated[
        bool, typer.Option("--take-down", help="and take the clip out of the shop, for --reason")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="why it is taken down: the contributor reads this, buyers do not")
    ] = None,
    legal: Annotated[
        bool,
        typer.Option("--legal", help="for a legal reason: what was sold is withheld too, unless --keep-sold"),
    ] = False,
    withhold_sold: Annotated[
        bool | None,
        typer.Option(
            "--withhold-sold/--keep-sold", help="whether buyers can fetch it meanwhile", show_default=False
        ),
    ] = None,
    note: Note = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """the report is right; --take-down takes the clip out of the shop in the same step"""
    from paletta_cli.api import connect, segment
    from paletta_cli.clips import takedowns
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.review.deciding import checked

    out = Output(json=json)
    body: dict[str, Any] = {"note": note}
    if take_down:
        if reason is None:
            raise UsageError("--take-down needs --reason", hint="the contributor reads it")
        said = checked(reason, hint="say what is wrong with it")
        body["take_down"] = takedowns.wish(said, legal=legal, withhold_sold=withhold_sold)
    elif reason or legal or withhold_sold is not None:
        raise UsageError("--reason, --legal and --withhold-sold go with --take-down")
    with connect() as service:
        path = f"/v1/admin/reports/{segment(report)}"
        if take_down:
            clip = service.get(path)["clip"]
            out.note(f"{clip['id']}  {clip['title']}  ({str(clip['stage']).replace('_', ' ')})")
            if not out.confirm("take it down?", yes=yes):
                out.note("nothing was changed")
                raise typer.Exit(1)
        _end(out, service.post(f"{path}/resolve", body), "resolved")


@app.command()
def dismiss(report: Report, note: Note = None, json: Json = False) -> None:
    """the report is wrong, or asks for nothing; the clip stays as it is"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        done = service.post(f"/v1/admin/reports/{segment(report)}/dismiss", {"note": note})
    _end(Output(json=json), done, "dismissed")


def _end(out: "Output", done: dict[str, Any], what: str) -> None:
    from paletta_cli.text import plural

    out.data(done)
    out.line(f"{done['report']['id']} {what}")
    if gone := done["taken_down"]:
        out.line(f"{gone['id']} taken down")
        if gone["paid_items"]:
            out.note(f"{plural(gone['paid_items'], 'paid item')} of it; nothing was refunded")
    if others := done["open_reports_of_clip"]:
        clip = done["report"]["clip"]["id"]
        out.hint(f"{plural(others, 'other report')} on the clip: `paletta admin reports list --clip {clip}`")
