"""The audit log: append-only, chained, and telling of whoever was above its triggers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from alembic import command
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from paletta_server.audit import chain, verification
from paletta_server.audit.models import AuditChain, AuditLog, AuditOrigin
from paletta_server.audit.service import record
from paletta_server.core.database import Database
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.migrations import config, migrate
from tests.conftest import MakeUser, Person
from tests.support.stack import Addresses, make_database

LOG = "/v1/admin/audit-log"


@pytest.fixture
async def admin(make_user: MakeUser) -> Person:
    return await make_user("admin")


@pytest.fixture
def superuser(stack: Addresses, worker_name: str, database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody for whom the triggers do not count."""
    with psycopg.connect(stack.admin_url, dbname=f"paletta_{worker_name}", autocommit=True) as made:
        made.execute("SET session_replication_role = replica")
        yield made


async def write(runtime: Runtime, count: int, action: str = "clip:approved") -> None:
    async with runtime.db.transaction() as session:
        for number in range(count):
            await record(session, None, action, f"clip_{number}", details={"n": number, "why": "é"})


async def get(client: httpx.AsyncClient, admin: Person, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params, headers=admin.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


Verify = Callable[..., Awaitable[Any]]


@pytest.fixture
def verify(client: httpx.AsyncClient, admin: Person) -> Verify:
    async def verified(**params: Any) -> Any:
        return await get(client, admin, f"{LOG}/verify", **params)

    return verified


def kinds(verdict: Any) -> list[tuple[str, int | None]]:
    return [(one["kind"], one["entry"]) for one in verdict["findings"]]


# ---- the triggers


@pytest.mark.parametrize("table", ["audit_logs", "audit_chain", "audit_head"])
@pytest.mark.parametrize("how", ["UPDATE", "DELETE", "TRUNCATE"])
async def test_nobody_below_a_superuser_changes_it(
    runtime: Runtime, verify: Verify, table: str, how: str
) -> None:
    await write(runtime, 1)
    await verify()
    column = {"audit_logs": "action = 'x:y'", "audit_chain": "log_id = 0", "audit_head": "entries = 0"}[table]
    statement = {
        "UPDATE": f"UPDATE {table} SET {column}",
        "DELETE": f"DELETE FROM {table}",
        "TRUNCATE": f"TRUNCATE {table}",
    }[how]
    with pytest.raises(DBAPIError, match=r"is append-only|only moves on"):
        async with runtime.db.transaction() as session:
            await session.execute(text(statement))


# ---- the chain


async def test_an_untouched_log_is_intact(runtime: Runtime, verify: Verify) -> None:
    await write(runtime, 7)
    first = await verify()
    assert first["intact"]
    assert (first["found"], first["findings"], first["unchained"]) == (0, [], 0)
    assert first["entries"] >= 7
    await write(runtime, 3)
    second = await verify(head=first["head"])
    assert second["intact"]
    assert second["entries"] == first["entries"] + 3
    assert (await verify(head=first["head"].partition(":")[2]))["intact"], "the hash alone is enough"


async def test_rows_are_chained_once_their_transactions_are_over(runtime: Runtime) -> None:
    """One that takes long holds up nobody, and comes later without being forgotten."""
    async with runtime.db.transaction() as slow:
        await record(slow, None, "slow:one", "x")
        await slow.flush()
        await write(runtime, 2)
        assert (await chain.extend(runtime.db)).entries == 2
    assert (await chain.extend(runtime.db)).entries == 3
    async with runtime.db.transaction() as session:
        rows = await session.scalars(
            select(AuditLog.action)
            .join(AuditChain, AuditChain.log_id == AuditLog.id)
            .order_by(AuditChain.seq)
        )
        assert list(rows) == ["clip:approved", "clip:approved", "slow:one"]


async def test_many_who_chain_at_once_make_one_chain(runtime: Runtime, verify: Verify) -> None:
    await asyncio.gather(
        *(write(runtime, 5) for _ in range(6)), *(chain.extend(runtime.db) for _ in range(6))
    )
    verdict = await verify()
    assert verdict["intact"]
    async with runtime.db.transaction() as session:
        places = list(await session.scalars(select(AuditChain.seq).order_by(AuditChain.seq)))
    assert places == list(range(1, verdict["entries"] + 1))
    assert len(places) >= 30


async def test_what_is_rolled_back_leaves_no_trace(runtime: Runtime, verify: Verify) -> None:
    async with runtime.db.transaction() as session:
        await record(session, None, "never:was", "x")
        await session.flush()
        await session.rollback()
    assert (await verify())["intact"]


# ---- a superuser who switched the triggers off

TAMPERED = {
    "action": ("UPDATE audit_logs SET action = 'clip:rejected' WHERE id = {row}", "changed"),
    "time": ("UPDATE audit_logs SET at = at + interval '1 microsecond' WHERE id = {row}", "changed"),
    "who": ("UPDATE audit_logs SET user_id = (SELECT min(id) FROM users) WHERE id = {row}", "changed"),
    "details": ("UPDATE audit_logs SET details = '{{}}' WHERE id = {row}", "changed"),
    "request": ("UPDATE audit_logs SET request_id = 'x' WHERE id = {row}", "changed"),
    "hash": ("UPDATE audit_chain SET hash = sha256('x') WHERE log_id = {row}", "changed"),
    "removed": ("DELETE FROM audit_logs WHERE id = {row}", "removed"),
    "unchained": ("DELETE FROM audit_chain WHERE log_id = {row}", "cut"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_tampered_row_is_found_and_named(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any], what: str
) -> None:
    await write(runtime, 6)
    await verify()
    place, row = superuser.execute(
        "SELECT seq, log_id FROM audit_chain ORDER BY seq OFFSET 2"
    ).fetchone() or (0, 0)
    statement, kind = TAMPERED[what]
    superuser.execute(statement.format(row=row))  # type: ignore[arg-type]
    verdict = await verify()
    assert not verdict["intact"]
    assert (kind, place) in kinds(verdict)
    found = next(one for one in verdict["findings"] if one["kind"] == kind)
    assert found["log_id"] == (None if kind == "cut" else row)
    expected = {
        "unchained": {("cut", place), ("inserted", None)},
        "hash": {("changed", place), ("changed", place + 1)},
    }
    assert set(kinds(verdict)) == expected.get(what, {(kind, place)}), "and nothing else is"


async def test_a_row_put_in_past_the_triggers_is_found(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any]
) -> None:
    await write(runtime, 2)
    await verify()
    (row,) = superuser.execute(
        "INSERT INTO audit_logs (action, object) VALUES ('order:refunded', 'order_x') RETURNING id"
    ).fetchone() or (0,)
    verdict = await verify()
    assert [(one["kind"], one["log_id"]) for one in verdict["findings"]] == [("inserted", row)]
    assert verdict["findings"][0]["about"]["action"] == "order:refunded"


async def test_an_address_that_was_changed_is_found(
    client: httpx.AsyncClient, verify: Verify, superuser: psycopg.Connection[Any]
) -> None:
    await verify()
    superuser.execute("UPDATE audit_origins SET ip = '198.51.100.1'")
    assert {one["kind"] for one in (await verify())["findings"]} == {"address_changed"}


async def test_a_cut_tail_is_found(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any]
) -> None:
    await write(runtime, 5)
    last = (await verify())["entries"]
    superuser.execute(
        "DELETE FROM audit_logs WHERE id IN (SELECT log_id FROM audit_chain WHERE seq > %s)", [last - 2]
    )
    superuser.execute("DELETE FROM audit_chain WHERE seq > %s", [last - 2])
    verdict = await verify()
    assert kinds(verdict) == [("cut", last - 1)]
    assert verdict["found"] == 2
    await write(runtime, 1)
    assert kinds(await verify()) == [("cut", last - 1)], "also once the log has gone on"


@pytest.mark.parametrize("tables", ["audit_logs", "audit_logs, audit_chain", "audit_chain"])
async def test_a_truncated_log_is_found(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any], tables: str
) -> None:
    await write(runtime, 4)
    before = await verify()
    superuser.execute(f"TRUNCATE {tables}")  # type: ignore[arg-type]
    verdict = await verify(head=before["head"])
    assert not verdict["intact"]
    found = {one["kind"] for one in verdict["findings"]}
    assert (
        found
        == {
            "audit_logs": {"removed"},
            "audit_logs, audit_chain": {"cut", "noted_head"},
            "audit_chain": {"cut", "inserted", "noted_head"},
        }[tables]
    )


async def test_who_makes_the_whole_chain_anew_is_found_by_a_noted_head(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any]
) -> None:
    await write(runtime, 4)
    noted = (await verify())["head"]
    superuser.execute("UPDATE audit_logs SET object = 'clip_x' WHERE object = 'clip_1'")
    superuser.execute("TRUNCATE audit_chain, audit_head")
    superuser.execute("INSERT INTO audit_pending SELECT id FROM audit_logs")
    assert (await verify())["intact"], "in itself it is"
    anew = await verify(head=noted)
    assert [one["kind"] for one in anew["findings"]] == ["noted_head"]
    alone = await verify(head=noted.partition(":")[2])
    assert [one["kind"] for one in alone["findings"]] == ["noted_head"]


@pytest.mark.parametrize("how", ["DELETE FROM audit_head", "UPDATE audit_head SET entries = 1"])
async def test_a_head_that_does_not_fit_stops_the_chain(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any], how: str
) -> None:  # fmt: skip
    await write(runtime, 3)
    await verify()
    superuser.execute(how)  # type: ignore[arg-type]
    await write(runtime, 2)
    verdict = await verify()
    assert [one["kind"] for one in verdict["findings"]] == ["head"]
    assert verdict["unchained"] == 2, "nothing is chained onto what nobody can prove"


async def test_a_row_that_vanishes_before_it_is_chained_is_missed(
    runtime: Runtime, verify: Verify, superuser: psycopg.Connection[Any]
) -> None:
    await verify()
    await write(runtime, 1)
    superuser.execute("DELETE FROM audit_logs WHERE object = 'clip_0'")
    assert [one["kind"] for one in (await verify())["findings"]] == ["removed"]


async def test_a_head_that_is_none_is_refused(client: httpx.AsyncClient, admin: Person) -> None:
    answer = await client.get(f"{LOG}/verify", params={"head": "12:beef"}, headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_head")


async def test_the_job_chains(runtime: Runtime, run_jobs: Callable[[], Awaitable[None]]) -> None:
    from paletta_server.audit.tasks import extend

    await write(runtime, 3)
    await extend(runtime)
    await extend(runtime)
    head = await chain.head(runtime.db)
    assert head is not None
    assert head.entries == 3


async def test_rows_of_before_are_chained_too(stack: Addresses, worker_name: str) -> None:
    """Also with a node of the version before still writing."""
    apart = Settings(_env_file=None, database_url=make_database(stack, f"paletta_{worker_name}_chain"))
    person = "INSERT INTO users (uid, email, password_hash, role) VALUES ('user_a', 'a@example.org', 'x', 'customer')"
    row = (
        "INSERT INTO audit_logs (user_id, action, object, ip)"
        " SELECT id, 'account:logged_in', uid, '203.0.113.7' FROM users"
    )
    await asyncio.to_thread(command.downgrade, config(apart), "0009")
    with psycopg.connect(apart.libpq_url, autocommit=True) as older:
        older.execute(person)
        older.execute(row)
        await asyncio.to_thread(migrate, apart)
        older.execute(row)
        assert older.execute("SELECT ip FROM audit_logs").fetchall() == [(None,), (None,)]
        assert older.execute("SELECT ip FROM audit_origins").fetchall() == [("203.0.113.7",)] * 2
    database = Database(apart)
    verdict = await verification.verify(database)
    await database.close()
    assert (verdict.head.entries, verdict.findings) == (2, [])
    await asyncio.to_thread(command.downgrade, config(apart), "0009")
    with psycopg.connect(apart.libpq_url) as older:
        assert older.execute("SELECT ip FROM audit_logs").fetchall() == [("203.0.113.7",)] * 2


# ---- reading


async def test_filters_and_pages(
    client: httpx.AsyncClient, admin: Person, make_user: MakeUser, runtime: Runtime
) -> None:
    ben = await make_user("customer", email="ben@example.org")
    await write(runtime, 3)
    await write(runtime, 2, "clip:rejected")
    every = (await get(client, admin, LOG))["items"]
    assert [one["action"] for one in every[:5]] == ["clip:rejected"] * 2 + ["clip:approved"] * 3
    assert every[0]["actor"] is None
    for params, count in (
        ({"action": "clip:"}, 5),
        ({"action": "clip:rej"}, 2),
        ({"object": "clip_1"}, 2),
        ({"action": "clip:", "until": every[4]["at"]}, 0),
        ({"action": "clip:", "since": every[0]["at"]}, 2),
        ({"action": "100%"}, 0),
    ):
        assert len((await get(client, admin, LOG, **params))["items"]) == count, params
    for user in (ben.email.upper(), ben.uid, ben.uid[:10]):
        [login] = (await get(client, admin, LOG, user=user))["items"]
        assert login["actor"] == {"id": ben.uid, "email": ben.email}
        assert login["action"] == "account:logged_in"
        assert login["ip"] == "127.0.0.1"
    assert (
        await client.get(LOG, params={"user": "nobody@example.org"}, headers=admin.headers)
    ).status_code == 404
    first = await get(client, admin, LOG, limit=2, action="clip:")
    rest = await get(client, admin, LOG, limit=9, action="clip:", cursor=first["next_cursor"])
    assert len(first["items"] + rest["items"]) == 5
    assert rest["next_cursor"] is None
    naive = await client.get(LOG, params={"since": "2026-05-01T00:00:00"}, headers=admin.headers)
    assert naive.status_code == 422, "a moment names its zone"


async def test_following_misses_nothing_and_tells_nothing_twice(
    client: httpx.AsyncClient, admin: Person, runtime: Runtime
) -> None:
    await write(runtime, 3)
    news = await get(client, admin, f"{LOG}/follow", last=2, action="clip:")
    assert [one["object"] for one in news["items"]] == ["clip_1", "clip_2"]
    async with runtime.db.transaction() as slow:
        await record(slow, None, "clip:slow", "early key, late commit")
        await slow.flush()
        await write(runtime, 1, "clip:quick")
        quick = await get(client, admin, f"{LOG}/follow", after=news["after"], action="clip:")
    late = await get(client, admin, f"{LOG}/follow", after=quick["after"], action="clip:")
    assert [one["action"] for one in quick["items"] + late["items"]] == ["clip:quick", "clip:slow"]
    nothing = await get(client, admin, f"{LOG}/follow", after=late["after"], action="clip:")
    assert nothing == {"items": [], "after": late["after"]}


async def test_following_waits_for_what_comes(
    client: httpx.AsyncClient, admin: Person, runtime: Runtime
) -> None:
    news = await get(client, admin, f"{LOG}/follow", last=0)
    waiting = asyncio.create_task(
        get(client, admin, f"{LOG}/follow", after=news["after"], action="clip:", wait=20)
    )
    await write(runtime, 1)
    assert [one["object"] for one in (await waiting)["items"]] == ["clip_0"]


async def test_addresses_are_kept_apart(client: httpx.AsyncClient, admin: Person, runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        rows = list(await session.scalars(select(AuditLog).where(AuditLog.action == "account:logged_in")))
        assert [row.ip for row in rows] == [None]
        assert rows[0].origin
        kept = await session.get_one(AuditOrigin, rows[0].id)
        assert kept.ip == "127.0.0.1"


# ---- mails and ingest


async def test_mails_without_their_bodies(
    client: httpx.AsyncClient, admin: Person, run_jobs: Callable[[], Awaitable[None]], mailbox: Any
) -> None:
    body = {"email": "ana@example.org", "password": "violet harbour kettle moss"}
    await client.post("/v1/auth/register", json=body)
    [waiting] = (await get(client, admin, "/v1/admin/mails", to="ANA@"))["items"]
    assert (waiting["status"], waiting["tries"]) == ("waiting", 0)
    await run_jobs()
    [sent] = (await get(client, admin, "/v1/admin/mails", to="ana@example.org"))["items"]
    assert (sent["status"], sent["tries"], sent["last_error"]) == ("sent", 1, None)
    assert set(sent) == {"to", "subject", "status", "created_at", "sent_at", "tries", "last_error"}
    assert (await get(client, admin, "/v1/admin/mails", to="ben@"))["items"] == []
    assert (await get(client, admin, "/v1/admin/mails", since="2100-01-01T00:00:00Z"))["items"] == []


async def test_a_mail_in_vain_says_so(
    client: httpx.AsyncClient, admin: Person, run_jobs: Callable[[], Awaitable[None]], mailbox: Any
) -> None:
    mailbox.refuse, mailbox.refusal = True, "550 5.1.1 no such user"
    body = {"email": "ana@example.org", "password": "violet harbour kettle moss"}
    await client.post("/v1/auth/register", json=body)
    await run_jobs()
    [mail] = (await get(client, admin, "/v1/admin/mails"))["items"]
    assert (mail["status"], mail["tries"]) == ("given_up", 1)
    assert "no such user" in mail["last_error"]


async def test_ingest_runs(client: httpx.AsyncClient, admin: Person, runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key, deleted_at)"
                " SELECT 'clip_' || n || '22222222222', id, 'A tram', 'a.mov', 1, n::text, 'y', 'z', now()"
                " FROM users, generate_series(2, 3) n;"
                "INSERT INTO uploads (uid, owner_id, clip_id, clip_uid, file_name, size, sha256, crc64nvme, part_size,"
                " part_count, key, expires_at) SELECT 'upl_' || id, owner_id, id, uid, 'a.mov', 1, 'x', 'y', 1, 1, 'z',"
                " now() FROM clips;"
                "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, worker, prefix, error)"
                " SELECT 'run_' || id, id, clip_id, 1, 'failed', 'vm:1', 'media/', 'is too short' FROM uploads"
            )
        )
    every = (await get(client, admin, "/v1/admin/ingest-runs"))["items"]
    assert [one["clip_id"] for one in every] == ["clip_322222222222", "clip_222222222222"]
    [one] = (await get(client, admin, "/v1/admin/ingest-runs", clip="clip_2222"))["items"]
    assert (one["title"], one["status"], one["error"], one["attempt"]) == (
        "A tram",
        "failed",
        "is too short",
        1,
    )
    unknown = await client.get("/v1/admin/ingest-runs", params={"clip": "clip_9999"}, headers=admin.headers)
    assert unknown.status_code == 404
