"""`paletta admin logs`, run as programs against a served application."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from paletta_server.audit.service import record
from paletta_server.core.runtime import Runtime
from tests.cli.conftest import PROGRAM, Run
from tests.conftest import Person
from tests.support.stack import Addresses


async def write(runtime: Runtime, *objects: str) -> None:
    async with runtime.db.transaction() as session:
        for obj in objects:
            await record(session, None, "clip:rejected", obj, details={"reason": "shaky \x1b[31m"})


async def test_who_did_what(paletta: Run, people: dict[str, Person], runtime: Runtime) -> None:
    await write(runtime, "clip_a", "clip_b")
    shown = await paletta("admin", "logs", "--action", "clip:", as_="admin")
    assert (shown.code, shown.err) == (0, "")
    lines = [line.split("\t")[1:5] for line in shown.out.splitlines()]
    assert lines == [["service", "clip:rejected", obj, "reason shaky [31m"] for obj in ("clip_b", "clip_a")]
    mine = await paletta(
        "admin", "logs", "--user", people["admin"].email, "--since", "1h", "--json", as_="admin"
    )
    assert [one["action"] for one in json.loads(mine.out)] == ["account:logged_in"]
    one = await paletta("admin", "logs", "--object", "clip_a", "--limit", "1", as_="admin")
    assert len(one.out.splitlines()) == 1
    none = await paletta("admin", "logs", "--action", "order:", as_="admin")
    assert (none.out, none.err) == ("", "nothing of the kind was done\n")
    order = await paletta("admin", "logs", "--object", "p-2020-000001", as_="admin")
    assert (order.code, order.err.splitlines()[0]) == (1, "error: no order `p-2020-000001`"), order
    unknown = await paletta("admin", "logs", "--user", "nobody@example.org", as_="admin")
    assert (unknown.code, unknown.err) == (1, "error: no user `nobody@example.org`\n")
    assert (await paletta("admin", "logs")).code == 4, "not for a contributor"


async def test_the_log_as_a_sheet(paletta: Run, people: dict[str, Person], runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        await record(session, None, "clip:rejected", "clip_a", details={"=reason": "shaky, and dark"})
    written = await paletta("admin", "logs", "--csv", as_="admin")
    sheet = csv.DictReader(io.StringIO(written.out))
    rows = {(row["who"], row["action"]): row for row in sheet}
    assert rows["service", "clip:rejected"]["details"] == "'=reason shaky, and dark", "no cell is a formula"
    assert rows[people["admin"].email, "account:logged_in"]["ip"] == "127.0.0.1"
    for other in ("--json", "--follow"):
        assert (await paletta("admin", "logs", "--csv", other, as_="admin")).code == 2


async def test_follow_tells_what_comes_until_it_is_interrupted(
    paletta: Run, url: str, people: dict[str, Person], runtime: Runtime
) -> None:
    await write(runtime, "clip_a", "clip_b")
    environment = os.environ | {"PALETTA_URL": url, "PALETTA_TOKEN": people["admin"].token}
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "admin", "logs", "--follow", "--limit", "1", "--action", "clip:", "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None

    async def told() -> Any:
        assert process.stdout is not None
        return json.loads(await asyncio.wait_for(process.stdout.readline(), 30))

    assert (await told())["object"] == "clip_b"
    await write(runtime, "clip_c", "clip_d")
    assert [(await told())["object"] for _ in range(2)] == ["clip_c", "clip_d"]
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (130, "interrupted\n")


async def test_a_proof_and_its_failure(
    paletta: Run, runtime: Runtime, stack: Addresses, worker_name: str
) -> None:
    await write(runtime, "clip_a", "clip_b")
    proof = await paletta("admin", "logs", "verify", as_="admin")
    assert proof.code == 0, proof.err
    word, _, head = proof.out.strip().partition(" ")
    assert word == "head"
    assert proof.err.startswith("the audit log is intact: ")
    assert (await paletta("admin", "logs", "verify", "--head", head, as_="admin")).code == 0
    wrong = await paletta("admin", "logs", "verify", "--head", "latest", as_="admin")
    assert (wrong.code, wrong.err.splitlines()[0]) == (1, "error: this is no head of the audit log's chain")
    with psycopg.connect(stack.admin_url, dbname=f"paletta_{worker_name}", autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("UPDATE audit_logs SET object = 'clip_x' WHERE object = 'clip_a'")
    failed = await paletta("admin", "logs", "verify", as_="admin")
    assert failed.code == 1
    kind, _, words = failed.out.partition("\t") if "\t" in failed.out else failed.out.partition(" ")
    assert kind == "changed"
    assert "was changed: clip:rejected clip_x" in words
    assert failed.err.startswith("error: the audit log is not what was written: 1 finding\n")
    as_json = await paletta("admin", "logs", "verify", "--json", as_="admin")
    assert (as_json.code, json.loads(as_json.out)["intact"]) == (1, False)


async def test_mails_and_ingest(
    paletta: Run, people: dict[str, Person], run_jobs: Callable[[], Awaitable[None]], shelf: Any
) -> None:
    await paletta("admin", "users", "create", "eve@example.org", as_="admin")
    await run_jobs()
    mails = await paletta("admin", "logs", "mails", "--to", "eve@", "--since", "1d", as_="admin")
    assert mails.out.rstrip("\n").split("\t")[1:] == [
        "eve@example.org", "An account was made for you", "sent", "1", "",
    ]  # fmt: skip
    clip = await shelf.put("tram")
    runs = await paletta("admin", "logs", "ingest", "--clip", clip, as_="admin")
    assert (runs.code, runs.out, runs.err) == (0, "", "no such attempts\n")
    unknown = await paletta("admin", "logs", "ingest", "--clip", "clip_zzzz", as_="admin")
    assert (unknown.code, unknown.err.startswith("error: no clip `clip_zzzz`")) == (1, True)


async def test_tables_fit_a_terminal(
    on_a_terminal: Run, people: dict[str, Person], runtime: Runtime, paletta: Run
) -> None:
    await write(runtime, "clip_7h3k9m2qxw4t")
    await paletta(
        "admin", "users", "create", "a-rather-long-name@a-rather-long-domain.example.org", as_="admin"
    )
    for argv in ((), ("mails",), ("ingest",), ("verify",)):
        shown = await on_a_terminal("admin", "logs", *argv, PALETTA_TOKEN=people["admin"].token)
        assert shown.code == 0, shown.out
        assert argv == ("verify",) or max(map(len, shown.out.splitlines())) <= 80, shown.out
        assert "\x1b" not in shown.out
        if not argv:
            assert "clip_7h3k9m2qxw4t" in shown.out, "what filters take is whole"
            assert "account:logged_in" in shown.out
