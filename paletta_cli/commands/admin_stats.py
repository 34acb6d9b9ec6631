"""`paletta admin stats [REPORT]`: what the shop earns, what people look for, what comes in."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from paletta_cli.commands import Json


class Report(StrEnum):
    OVERVIEW = "overview"
    SALES = "sales"
    UPLOADS = "uploads"
    SEARCH = "search"
    STORAGE = "storage"
    CONTRIBUTORS = "contributors"
    FUNNEL = "funnel"


class By(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


Day = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first day (UTC)")]
LastDay = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last day, included")]


def stats(
    report: Annotated[Report, typer.Argument(help="which one")] = Report.OVERVIEW,
    since: Day = None,
    until: LastDay = None,
    by: Annotated[By, typer.Option(help="what the figures are added up by")] = By.DAY,
    top: Annotated[int, typer.Option(min=1, max=1000, help="rows of each list of the best")] = 10,
    table: Annotated[
        str | None, typer.Option(help="one table of the report alone, such as `periods` or `clips`")
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="one table as CSV on stdout")] = False,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="one table as a Parquet file")] = None,
) -> None:
    """what the shop earns, what people look for, what comes in

    The last 30 days, unless told otherwise; without a report a screenful of everything. Amounts are never added up
    over currencies. On a terminal there are charts; elsewhere each line begins with the name of its table.
    """
    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.stats import exports, showing

    if json + csv + (parquet is not None) > 1:
        raise UsageError("`--json`, `--csv` and `--parquet` exclude each other", hint="choose one of them")
    if parquet is not None:
        exports.require_parquet()
    chosen = showing.chosen(report.value, table)
    asked: dict[str, Any] = {"from": _day(since), "to": _day(until), "by": by.value}
    if report.value in showing.WITH_TOP:
        asked["top"] = top
    with connect() as service:
        found = service.get(f"/v1/admin/stats/{report.value}", **asked)
    out = Output(json=json)
    if parquet is not None:
        rows = exports.write_parquet(found, chosen, parquet)
        out.note(f"wrote {rows:,} rows of `{chosen.name}` to `{parquet}`")
    elif csv:
        out.raw(exports.csv_text(found, chosen))
    elif json:
        out.data(found if table is None else found[chosen.name])
    else:
        showing.show(out, report.value, found, only=chosen if table else None)


def _day(given: datetime | None) -> str | None:
    return given.date().isoformat() if given else None
