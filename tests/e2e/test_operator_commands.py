"""`paletta-server jobs`, `storage audit`, `backup` and `restore` as typed, on the tests' own service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.jobs import defer
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports
from tests.e2e.test_server_commands import environment, server
from tests.support.up import Up, clean_env


async def ran(settings: Settings, cwd: Path, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(server, *arguments, cwd=cwd, **environment(settings))
    return done.returncode, done.stdout, done.stderr


async def test_jobs(runtime: Runtime, settings: Settings, tmp_path: Path) -> None:
    async with runtime.db.transaction() as session:
        await defer(session, "mail.deliver", email_id=7)
        await defer(session, "mail.deliver", email_id=8)
        await session.execute(
            text("UPDATE procrastinate_jobs SET status = 'failed' WHERE args = '{\"email_id\": 7}'")
        )
        await session.execute(
            text(
                "INSERT INTO job_failures (job_id, task, error) SELECT id, task_name, 'OSError: away'"
                " FROM procrastinate_jobs WHERE status = 'failed'"
            )
        )
        dead = await session.scalar(text("SELECT id FROM procrastinate_jobs WHERE status = 'failed'"))
    code, out, _ = await ran(settings, tmp_path, "jobs", "list", "--status", "failed")
    assert (code, out.split("\t")[0], out.strip().split("\t")[-1]) == (0, str(dead), "OSError: away")
    code, out, err = await ran(settings, tmp_path, "jobs", "retry", str(dead), "999999999")
    assert (code, out) == (1, "")
    assert err == (
        f"{dead} (mail.deliver) runs again\nerror: no job `999999999`\nhint: those that succeeded are not kept\n"
    )
    code, out, _ = await ran(settings, tmp_path, "jobs", "stats", "--json")
    [load] = json.loads(out)
    assert (load["task"], load["waiting"], load["failed"]) == ("mail.deliver", 2, 0)
    code, _, err = await ran(settings, tmp_path, "jobs", "cancel", str(dead))
    assert (code, err) == (0, f"{dead} (mail.deliver) is cancelled\n")
    code, out, _ = await ran(settings, tmp_path, "jobs", "schedule", "--json")
    turns = {one["task"]: one for one in json.loads(out)}
    assert turns["uploads.reap"]["cron"] == "*/5 * * * *"
    assert turns["operations.report_jobs"]["next_at"] > turns["uploads.reap"]["next_at"]
    async with runtime.db.transaction() as session:
        rows = await session.execute(
            text("SELECT action, object, user_id FROM audit_logs WHERE action LIKE 'job:%' ORDER BY id")
        )
        assert [tuple(row) for row in rows] == [
            ("job:retried", str(dead), None), ("job:cancelled", str(dead), None),
        ]  # fmt: skip


async def test_storage_audit(runtime: Runtime, settings: Settings, tmp_path: Path) -> None:
    await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    code, out, err = await ran(settings, tmp_path, "storage", "audit", "--json")
    assert code == 0, err
    report: dict[str, Any] = json.loads(out)
    assert (report["objects"], report["remaining"], report["faults"]) == (0, 0, [])
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO users (uid, email, role, password_hash)"
                " VALUES ('user_a', 'a@example.org', 'contributor', '');"
                "INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key, processing)"
                " SELECT 'clip_a', id, 'A tram', 'a.mov', 1, 'x', 'y', 'originals/clip_a/obj_a', 'ready' FROM users"
            )
        )
    code, out, err = await ran(settings, tmp_path, "storage", "audit")
    assert code == 6
    assert out.startswith("missing\toriginals/clip_a/obj_a\tthe store does not have it")
    assert "1 missing; 1 remain" in err
    code, out, err = await ran(settings, tmp_path, "storage", "audit", "--fix")
    assert (code, out) == (6, "")
    assert "error: nothing more is mended: none of the 1 objects" in err
    assert "pass --no-brake" in err
    code, out, err = await ran(settings, tmp_path, "storage", "audit", "--fix", "--no-brake")
    assert (code, "its clip is withdrawn" in out) == (0, True), err


def test_a_stack_is_backed_up_lost_and_restored_into_another(tmp_path: Path) -> None:
    """With `--data`, both stacks running all the while."""
    folder = tmp_path / "backup"

    def command(stack: str, *arguments: str, stdin: str = "") -> Any:
        return server("--data", str(tmp_path / stack), *arguments, cwd=tmp_path, stdin=stdin)

    def up(stack: str, port: int) -> Up:
        arguments = ("--data", str(tmp_path / stack), "--port", str(port), "--workers", "0")
        return Up(*arguments, env=clean_env(HOME=str(tmp_path)), cwd=tmp_path)

    one, other = free_ports(2)
    with up("first", one) as first:
        first.ready()
        made = command(
            "first", "create-user", "a@example.org", "--password-stdin", stdin="nine brass otters hum\n"
        )
        assert made.returncode == 0, made.stderr
        done = command("first", "backup", str(folder), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["manifest"]["mode"] == "copy"
        assert "\r" not in done.stderr, "no bars in cron's mails"
        refused = command("first", "restore", str(folder))
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: the database is not empty: it has users"), (
            "and nothing was read"
        )
        first.end()
    with up("second", other) as second:
        second.ready()
        done = command("second", "restore", str(folder), "--json")
        assert done.returncode == 0, done.stderr
        again = command(
            "second", "create-user", "a@example.org", "--password-stdin", stdin="nine brass otters hum\n"
        )
        assert again.returncode == 1, "the account is there"

        body = {"email": "a@example.org", "password": "nine brass otters hum"}
        address = f"http://127.0.0.1:{other}/v1/auth/login"
        answer = httpx.post(address, json=body, trust_env=False, timeout=60)
        assert answer.status_code == 200, "the API that ran meanwhile serves what was restored"
        second.end()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert server("restore", str(empty), cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "nowhere"),
        ("restore", ".", "--objects-only", "--replace"),
        ("jobs", "retry"),
        ("storage", "audit", "--older-than", "0"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = server(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
