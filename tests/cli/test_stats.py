"""`paletta admin stats` as typed: on a terminal, in a pipe, and into files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.analytics import books
from paletta_server.core.runtime import Runtime
from tests.cli.conftest import Run
from tests.conftest import Person
from tests.support.analytics import add_up, rows, still, write
from tests.support.orders import Till, Wanted


@pytest.fixture
async def till(app: FastAPI, runtime: Runtime, people: dict[str, Person]) -> AsyncIterator[Till]:
    async with still(app):
        yield await Till.of(runtime, people["admin"].email, people["contributor"].email)


async def history(runtime: Runtime, till: Till) -> str:
    """Two orders in two currencies, searches of three days, something stored; today, as the reports name it."""
    await till.sell(
        Wanted("Yellow tram", price=4900, tax=98), Wanted("=Ferry\x1b[31m", price=100), store=False
    )
    await till.sell(Wanted("Fog", price=12_000), store=False, currency="JPY")
    async with runtime.db.transaction() as session:
        for days in range(3):
            await write(session, 10 + 10 * days, days_ago=days, query=f"zeppelin {days}")
        await write(session, 5, kind="view", query=None)
        await books.measure_storage(session)
    await add_up(runtime)
    ((today,),) = await rows(runtime, "SELECT CAST(current_date AS text)")
    return str(today)


async def test_a_screenful_in_a_terminal(
    runtime: Runtime, till: Till, on_a_terminal: Run, people: dict[str, Person]
) -> None:
    await history(runtime, till)
    ran = await on_a_terminal("admin", "stats", PALETTA_TOKEN=people["admin"].token)
    assert ran.code == 0, ran.out
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 45
    said = [" ".join(line.split()) for line in lines]
    assert "1 1 12000 0 12000 12000 JPY" in said
    assert "1 2 50.98 0.00 50.98 50.98 USD" in said
    assert "search 60 60" in said
    assert "view 5 5 8.3% 8.3%" in said
    assert "zeppelin 2 30 15 1" in said


async def test_charts_are_for_terminals(
    runtime: Runtime, till: Till, on_a_terminal: Run, paletta: Run, people: dict[str, Person]
) -> None:
    today = await history(runtime, till)
    ran = await on_a_terminal("admin", "stats", "sales", PALETTA_TOKEN=people["admin"].token)
    assert "revenue, USD\n50.98 ┤" in ran.out
    assert "revenue, JPY\n12000 ┤" in ran.out
    assert "\x1b" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    piped = await paletta("admin", "stats", "sales", "--from", today, as_="admin")
    assert piped.out.splitlines()[:3] == [
        f"periods\t{today}\t1\t1\t12000\t0\t12000\t12000\tJPY",
        f"periods\t{today}\t1\t2\t50.98\t0.00\t50.98\t50.98\tUSD",
        "totals\t1\t1\t12000\t0\t12000\t12000\tJPY",
    ]
    one = await paletta("admin", "stats", "sales", "--table", "totals", as_="admin")
    assert one.out.splitlines()[1] == "1\t2\t50.98\t0.00\t50.98\t50.98\tUSD"


async def stored(runtime: Runtime) -> None:
    """The worker has counted."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO analytics_storage (day, kind, objects, bytes) SELECT current_date, 'original', 2, 3000"
            )
        )


async def test_storage_that_nobody_has_counted_is_not_nothing(
    till: Till, on_a_terminal: Run, paletta: Run, people: dict[str, Person], runtime: Runtime
) -> None:
    says = (
        "no figures of these days: a worker counts once an hour what is stored\n"
        "hint: `paletta-server jobs schedule` says when `analytics.storage` ran, and when it is due\n"
    )
    for argv in ((), ("--table", "kinds")):
        piped = await paletta("admin", "stats", "storage", *argv, as_="admin")
        assert (piped.code, piped.out, piped.err.partition("\n")[2]) == (0, "", says)
    seen = await on_a_terminal("admin", "stats", "storage", PALETTA_TOKEN=people["admin"].token)
    assert seen.out.endswith("\n" + says.replace(" it is due", "\nit is due")), "no longer than 80 columns"
    await stored(runtime)
    for argv in ((), ("--table", "kinds")):
        counted = await paletta("admin", "stats", "storage", *argv, as_="admin")
        assert "original\t2\t3000\n" in counted.out
        assert says not in counted.err


@pytest.mark.parametrize(
    "report", ["overview", "sales", "uploads", "search", "storage", "contributors", "funnel"]
)
async def test_every_report_in_every_form(
    report: str, runtime: Runtime, till: Till, paletta: Run, tmp_path: Path
) -> None:
    await history(runtime, till)
    await stored(runtime)
    plain = await paletta("admin", "stats", report, "--by", "week", as_="admin")
    assert (plain.code, " as of " in plain.err, len(plain.err.splitlines())) == (0, True, 1)
    whole: Any = json.loads(
        (await paletta("admin", "stats", report, "--by", "week", "--json", as_="admin")).out
    )
    table = plain.out.split("\t")[0] if plain.out else "periods"
    written = await paletta("admin", "stats", report, "--by", "week", "--csv", as_="admin")
    read = list(csv.DictReader(io.StringIO(written.out)))
    assert len(read) == len(whole[table])
    kept = await paletta("admin", "stats", report, "--by", "week", "--parquet", "kept.parquet", as_="admin")
    assert (kept.code, kept.out) == (0, "")
    assert kept.err == f"wrote {len(read):,} rows of `{table}` to `kept.parquet`\n"
    import pyarrow.parquet as pq

    unsold = await paletta(
        "admin", "stats", report, "--to", "2001-01-01", "--parquet", "none.parquet", as_="admin"
    )
    assert unsold.code == 0, unsold.err
    types = {one.name: one.type for one in pq.read_schema(tmp_path / "kept.parquet")}
    assert all(types[one.name] == one.type for one in pq.read_schema(tmp_path / "none.parquet"))
    assert len(pq.read_schema(tmp_path / "none.parquet")) > 0
    for row in (found := pq.read_table(tmp_path / "kept.parquet").to_pylist()):
        if "period" in row:
            row["period"] = row["period"].isoformat()
    assert found == whole[table]
    assert [path.name for path in tmp_path.glob("kept*")] == ["kept.parquet"]


async def test_what_others_wrote_drives_neither_terminals_nor_spreadsheets(
    runtime: Runtime, till: Till, paletta: Run
) -> None:
    await history(runtime, till)
    ran = await paletta("admin", "stats", "sales", "--csv", "--table", "clips", as_="admin")
    (ferry,) = [row for row in csv.DictReader(io.StringIO(ran.out)) if "Ferry" in row["title"]]
    assert (ferry["title"], ferry["revenue"], ferry["currency"]) == ("'=Ferry[31m", "1.00", "USD")


async def test_mistakes(paletta: Run, till: Till, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def said(*argv: str, as_: str = "admin") -> tuple[int, str]:
        ran = await paletta("admin", "stats", *argv, as_=as_)
        assert ran.out == ""
        return ran.code, ran.err

    assert await said("sales", as_="contributor") == (4, "error: this account's role does not allow it\n")
    code, words = await said("sales", "--table", "clip")
    assert (code, words) == (2, "error: `sales` has no table `clip`\nhint: did you mean `clips`?\n")
    assert (await said("--csv", "--json"))[0] == 2
    code, words = await said("--from", "2026-02-02", "--to", "2026-02-01")
    assert code == 1
    assert "`from` (2026-02-02) must be a day before `to` (2026-02-01)" in words
    assert (await said("--from", "yesterday"))[0] == 2
    assert "no such file" in (await said("sales", "--parquet", "nowhere/kept.parquet"))[1]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, words = await said("sales", "--parquet", "kept.parquet")
    assert (code, "pip install 'paletta[parquet]'" in words) == (1, True)
    assert not list(tmp_path.glob("*.parquet"))
