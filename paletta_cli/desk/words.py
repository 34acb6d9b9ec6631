"""What the desk's screens share: amounts in and out, moments, headings, sheets."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from paletta_cli.errors import UsageError
from paletta_cli.output import Column, Output
from paletta_cli.text import cell, clean, money

_LEAST = 8
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?")


def amount(minor: int | None, currency: str) -> str:
    """`12.50 USD`."""
    return "" if minor is None else f"{money(minor, currency)} {currency}"


def parse_amount(text: str, currency: str, *, option: str) -> int:
    """Minor units of an amount such as `12.50`. Raises UsageError."""
    digits = len(money(0, currency).partition(".")[2])
    whole, _, part = text.partition(".")
    if not _AMOUNT.fullmatch(text) or len(part) > digits:
        example = money(1250, currency)
        raise UsageError(
            f"{option}: `{clean(text)}` is no amount in {currency}", hint=f"write it as {example}"
        )
    return int(whole + part.ljust(digits, "0"))


def words(text: object) -> str:
    """`partially_refunded` for people."""
    return str(text or "").replace("_", " ")


def day(moment: object) -> str:
    return str(moment or "")[:10]


def moment(text: object) -> str:
    """`2026-11-26 18:20`, in UTC as the service tells it."""
    return str(text or "")[:16].replace("T", " ")


def left(text: str | None) -> str:
    """How long until then, for people who plan by it: `in 6 days 23 h`, `in 2 h 50 min`, `in 1 min`, `over`.

    What the smaller unit leaves out is left off: nobody is told of more time than there is.
    """
    if not text:
        return ""
    seconds = (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()
    if seconds <= 0:
        return "over"
    hours, minutes = divmod(int(seconds // 60), 60)
    if hours >= 48:
        days, hours = divmod(hours, 24)
        return f"in {days} days" + (f" {hours} h" if hours else "")
    if hours:
        return f"in {hours} h" + (f" {minutes} min" if minutes else "")
    return f"in {minutes} min" if minutes else "in less than a minute"


def instant(text: str | None, *, option: str) -> str | None:
    """A day or a moment as the service takes it; without a zone it is UTC. Raises UsageError."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: `{clean(text)}` is no date", hint="write 2026-11-26, or 2026-11-26T18:00"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def short(uid: str) -> str:
    """An id without its type and end: eight letters tell apart what one screen shows, and the service takes them."""
    return uid.partition("_")[2][:8]


def fitted(
    out: Output, rows: Sequence[dict[str, Any]], columns: Sequence[Column], elastic: str
) -> Sequence[dict[str, Any]]:
    """Rows whose `elastic` column is cut to what the others leave of a terminal's width."""
    if out.mode != "table" or not rows:
        return rows
    from rich.cells import cell_len

    from paletta_cli.clips.showing import cut

    others = sum(
        2 + max(cell_len(one.title), *(cell_len(one.text(row)) for row in rows))
        for one in columns
        if one.key != elastic
    )
    room = max(_LEAST, out.console(out.stdout).width - others)
    return [{**row, elastic: cut(clean(row[elastic]), room)} for row in rows]


def section(out: Output, title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    """A heading and a table, or nothing where there are no rows."""
    if rows:
        out.line("")
        out.line(title)
        out.table(rows, columns)


def sheet(out: Output, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as CSV with a heading."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)
    out.raw(stream.getvalue())
