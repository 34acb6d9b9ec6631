"""A report's table as CSV (amounts as decimals) or Parquet (amounts in whole minor units, as the service has them)."""

import csv
import io
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from paletta_cli.errors import PalettaError, cannot
from paletta_cli.stats.showing import Table, readable
from paletta_cli.text import cell

_WORDS = (
    "currency", "clip_id", "title", "contributor", "contributor_id", "query", "state", "step", "reason", "kind",
)  # fmt: skip
_SHARES = ("of_previous", "of_first", "p50", "p95")
"""Columns that are neither whole numbers nor the day that a period begins with."""


def csv_text(found: Mapping[str, Any], table: Table) -> str:
    """With a heading, which an empty table has too. No cell of words begins as a spreadsheet's formula does."""
    rows = [readable(row) for row in found[table.name]]
    names = list(rows[0]) if rows else [column.key for column in table.columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row, raw in zip(rows, found[table.name], strict=True):
        writer.writerow([cell(row[name]) if isinstance(raw[name], str) else row[name] for name in names])
    return text.getvalue()


def require_parquet() -> None:
    """Raises PalettaError where the library is not installed: before anything is asked."""
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise PalettaError(
            "writing Parquet needs a library that is not installed",
            hint="`pip install 'paletta[parquet]'` (170 MB on disk), or use `--csv`",
        )


def write_parquet(found: Mapping[str, Any], table: Table, path: Path) -> int:
    """Write a table; how many rows it has. The file is there whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [dict(row) for row in found[table.name]]
    names = list(rows[0]) if rows else [column.key for column in table.columns]
    for row in rows:
        if "period" in row:
            row["period"] = date.fromisoformat(row["period"])
    # Named types, so that a month without sales and one with them can be read as one table.
    types = {
        "period": pa.date32(),
        **dict.fromkeys(_WORDS, pa.string()),
        **dict.fromkeys(_SHARES, pa.float64()),
    }
    made = pa.Table.from_pylist(rows, pa.schema([(name, types.get(name, pa.int64())) for name in names]))
    units = {"amounts": "whole minor units of `currency`", "since": found["since"], "until": found["until"]}
    made = made.replace_schema_metadata(units)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(made, beside)
        beside.replace(path)
    except OSError as error:
        raise cannot("write", path, error) from error
    finally:
        beside.unlink(missing_ok=True)
    return len(rows)
