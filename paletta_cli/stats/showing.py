"""Reports for people: which tables each has, and how they look."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paletta_cli.errors import UsageError
from paletta_cli.output import Column, Output
from paletta_cli.text import closest, duration, money, size

Row = Mapping[str, Any]

AMOUNTS = frozenset({"revenue", "tax", "average", "refunded", "disputed", "net"})
"""Fields in whole minor units of the row's currency."""
WITH_TOP = frozenset({"sales", "contributors", "search", "uploads"})


@dataclass(frozen=True)
class Table:
    """A table of a report. `name` is its key in the answer; `columns` are what a terminal has room for."""

    name: str
    title: str
    columns: Sequence[Column]
    chart: str | None = None
    """The figure that a chart over the periods is drawn of."""
    by: str | None = None
    """What there is a chart of each of: the currency, the class of storage."""
    keep: Callable[[Row], bool] = field(default=lambda row: True)
    """Which rows are worth a line on a terminal."""


def _number(key: str, title: str = "") -> Column:
    return Column(key, title or key, lambda value: f"{value:,}", right=True)


def _amount(key: str, title: str = "") -> Column:
    return Column(key, title or key, str, right=True)  # the row was made readable by `readable`


def _bytes(key: str = "bytes", title: str = "size") -> Column:
    return Column(key, title, size, right=True)


def _seconds(key: str) -> Column:
    return Column(key, key, lambda value: f"{value:.1f} s" if value < 60 else duration(value), right=True)


def _share(key: str, title: str) -> Column:
    return Column(key, title, lambda value: "" if value is None else f"{value:.1%}", right=True)


_PERIOD, _CURRENCY = Column("period", "from"), Column("currency", "")
_MONEY = (
    _number("orders"), _number("units"), _amount("revenue"), _amount("refunded"), _amount("net"),
    _amount("average", "per order"), _CURRENCY,
)  # fmt: skip
_SOLD = (_number("units"), _amount("revenue"), _amount("refunded"), _CURRENCY)
_CLIPS = Table(
    "clips", "what sold best", (Column("clip_id", "clip"), Column("title", "title"), *_SOLD)
)  # fmt: skip
_SEARCHED = (
    Column("query", "words"), _number("searches"), _number("empty", "found nothing"),
    _number("hits", "most found"),
)  # fmt: skip
_UNANSWERED = Table("unanswered", "what found nothing: what to commission next", _SEARCHED)
_STATES = Table("states", "uploads", (Column("state", "state"), _number("uploads"), _bytes()))
_TIMES = Table(
    "times", "ingest took", (Column("step", "step"), _number("runs"), _seconds("p50"), _seconds("p95"))
)
_FAILURES = Table("failures", "ingest failed", (Column("reason", "reason"), _number("runs")))
_STEPS = (
    Column("step", "step"), _number("times"), _number("visitors"), _share("of_previous", "of those before"),
    _share("of_first", "of all"),
)  # fmt: skip
_STORED = (Column("kind", "class"), _number("objects"), _bytes())

REPORTS: Mapping[str, Sequence[Table]] = {
    "overview": (
        Table("sales", "sales", _MONEY),
        Table("sales_before", "as many days before", _MONEY),
        Table("funnel", "from a search to a paid order", _STEPS),
        _UNANSWERED,
        _CLIPS,
        _STATES,
        _TIMES,
        _FAILURES,
        Table("storage", "storage", _STORED),
    ),
    "sales": (
        Table("periods", "by {by}", (_PERIOD, *_MONEY), "revenue", "currency", lambda row: bool(_moved(row))),
        Table("totals", "in all", _MONEY),
        _CLIPS,
    ),
    "uploads": (
        Table(
            "periods", "by {by}",
            (_PERIOD, _number("uploads"), _bytes(), _number("verified"), _number("rejected"),
             _number("unfinished"), _number("given_up", "given up")),
            "uploads", None, lambda row: bool(row["uploads"]),
        ),
        _STATES, _TIMES, _FAILURES,
    ),
    "search": (
        Table(
            "periods", "by {by}",
            (_PERIOD, _number("searches"), _number("empty", "found nothing"), _number("visitors")),
            "searches", None, lambda row: bool(row["searches"]),
        ),
        Table("top", "what is searched for", _SEARCHED),
        _UNANSWERED,
    ),
    "storage": (
        Table("periods", "by {by}", (_PERIOD, *_STORED), "bytes", "kind"),
        Table("kinds", "as last counted", _STORED),
    ),
    "contributors": (
        Table(
            "contributors", "whose clips sold",
            (Column("contributor", "contributor"), _number("clips"), *_SOLD),
        ),
    ),
    "funnel": (
        Table("steps", "from a search to a paid order", _STEPS),
        Table(
            "periods", "visitors by {by}",
            (_PERIOD, *(_number(step) for step in ("search", "view", "cart", "checkout", "paid"))),
            "search", None, lambda row: any(row[step] for step in ("search", "view", "cart", "paid")),
        ),
    ),
}  # fmt: skip
"""The first table of a report is what `--csv` and `--parquet` write unless told otherwise."""


def _moved(row: Row) -> Any:
    return row["orders"] or row["refunds"] or row["disputed"]


def chosen(report: str, name: str | None) -> Table:
    """A table of a report by name, or its first. Raises UsageError for an unknown name."""
    tables = {table.name: table for table in REPORTS[report]}
    if name is None:
        return REPORTS[report][0]
    if name not in tables:
        near = closest(name, tables)
        hint = f"did you mean `{near}`?" if near else "there is " + ", ".join(f"`{one}`" for one in tables)
        raise UsageError(f"`{report}` has no table `{name}`", hint=hint)
    return tables[name]


def readable(row: Row) -> dict[str, Any]:
    """A row whose amounts are decimals of its currency."""
    if "currency" not in row:
        return dict(row)
    return {key: money(value, row["currency"]) if key in AMOUNTS else value for key, value in row.items()}


def _as_of(found: Mapping[str, Any]) -> str:
    return f"{found['since']} to {found['until']}, as of {found['as_of'][:16].replace('T', ' ')} UTC"


def show(out: Output, report: str, found: Mapping[str, Any], *, only: Table | None) -> None:
    """The report on stdout: tables and charts on a terminal, else lines that begin with their table's name."""
    if out.mode == "plain":
        out.note(_as_of(found))
        for table in [only] if only else REPORTS[report]:
            name = [] if only else [Column("table")]
            rows = [{"table": table.name, **readable(row)} for row in found[table.name]]
            out.table(rows, [*name, *map(_plain, table.columns)])
        if report == "storage" and not found["kinds"]:
            _tell_uncounted(out)
        return
    from paletta_cli.stats import charts

    told = False
    out.line(_as_of(found))
    for table in [only] if only else REPORTS[report]:
        rows = [row for row in found[table.name] if table.keep(row)]
        if not rows:
            continue
        out.line("")
        out.line(table.title.format(by=found["by"]))
        if table.chart:
            for drawn in charts.of(found[table.name], table.chart, table.by):
                out.drawing(drawn)
        out.table([readable(row) for row in rows], table.columns)
        told = True
    if report == "storage" and not told:
        _tell_uncounted(out)
    elif not told:
        out.note("nothing happened in these days")


def _tell_uncounted(out: Output) -> None:
    """No figures of what is stored: most likely they were not made yet."""
    out.note("no figures of these days: a worker counts once an hour what is stored")
    out.hint("`paletta-server jobs schedule` says when `analytics.storage` ran, and when it is due")


def _plain(column: Column) -> Column:
    """The same without what only helps eyes."""
    return Column(column.key)
