"""`paletta-server create-user --invite`: the first admin where nobody can type, as in a one-off task of the stack."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from paletta_server.aws.options import Options
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from tests.conftest import MakeUser
from tests.e2e.test_server_commands import environment, server
from tests.support.accounts import OTHER, PASSWORD, RunJobs, bearer, link_in, login
from tests.support.stack import MailSink
from tests.unit.test_aws_template import containers, resolved

OLGA = "olga@example.org"
INVITE = ("--role", "admin", "--invite")


@pytest.fixture
def task(settings: Settings) -> dict[str, str]:
    """What the template tells the task that migrates, but for the way into the database."""
    told = {
        entry["Name"]: resolved(entry["Value"]) for entry in containers(Options())["migrate"]["Environment"]
    }
    for name in ("PALETTA_DATABASE_AUTH", "PALETTA_DATABASE_CA"):
        del told[name]
    return told | {"PALETTA_DATABASE_URL": settings.libpq_url}


async def invite(cwd: Path, told: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(server, "create-user", *arguments, cwd=cwd, **told)
    return done.returncode, done.stdout, done.stderr


async def everything_kept(runtime: Runtime) -> str:
    """What a reader of the database finds of accounts' links: audit log, queue, outbox."""
    async with runtime.db.transaction() as session:
        rows = [
            row
            for table in ("audit_logs", "procrastinate_jobs", "outbox_emails", "mail_links")
            for row in await session.scalars(text(f"SELECT t::text FROM {table} t"))
        ]
    return "\n".join(rows)


async def test_the_mailed_link_makes_the_first_admin_once(
    client: httpx.AsyncClient,
    runtime: Runtime,
    mailbox: MailSink,
    run_jobs: RunJobs,
    task: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    code, out, err = await invite(tmp_path, task, "Olga@Example.ORG", *INVITE)
    assert (code, out[:5]) == (0, "user_"), err
    assert "invited admin `Olga@Example.ORG`: a worker mails the link, good for 60 minutes" in err
    for guess in ("", PASSWORD):
        assert (await login(client, OLGA, guess)).status_code in (401, 422), "nobody has a password yet"

    caplog.set_level("INFO")  # the mail sink of the tests reads every line aloud below that
    await run_jobs()
    [mail] = mailbox.to(OLGA)
    _, secret = link_in(mail)
    assert f"https://shop.example.com/account/reset?token={secret}" in mail.get_content()
    for kept in (out, err, caplog.text, await everything_kept(runtime)):
        assert secret not in kept

    chosen = {"token": secret, "new_password": PASSWORD}
    assert (await client.post("/v1/auth/password-reset/confirm", json=chosen)).status_code == 204
    again = await client.post("/v1/auth/password-reset/confirm", json=chosen | {"new_password": OTHER})
    assert (again.status_code, again.json()["code"]) == (422, "bad_link")
    token = (await login(client, OLGA)).json()["token"]
    users = await client.get("/v1/admin/users", headers=bearer(token))
    assert [(one["email"], one["role"], one["email_verified"]) for one in users.json()["items"]] == [
        (OLGA, "admin", True)
    ]
    async with runtime.db.transaction() as session:
        made = await session.execute(
            text("SELECT user_id, object, details FROM audit_logs WHERE action = 'account:created'")
        )
        assert made.all() == [(None, out.strip(), {"role": "admin", "invited": True})]


async def test_whoever_has_an_account_keeps_it_as_it_is(
    runtime: Runtime, make_user: MakeUser, task: dict[str, str], tmp_path: Path
) -> None:
    person = await make_user("customer", email=OLGA)
    code, out, err = await invite(tmp_path, task, OLGA, *INVITE)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: `{OLGA}` has an account already\nhint: ")
    assert "`paletta reset-password`" in err
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT role FROM users")) == person.role
        assert await session.scalar(text("SELECT count(*) FROM outbox_emails")) == 0


async def test_no_account_is_made_where_its_owner_would_hear_nothing(
    runtime: Runtime, settings: Settings, tmp_path: Path
) -> None:
    told = environment(settings)
    del told["PALETTA_SMTP_PORT"]
    code, _, err = await invite(tmp_path, told, OLGA, *INVITE)
    assert (code, err.splitlines()[0]) == (2, "error: no mail server is set, so nobody would get the link")
    assert "PALETTA_SMTP_HOST" in err
    assert "PALETTA_MAILER=ses" in err
    code, _, err = await invite(tmp_path, environment(settings), OLGA, *INVITE, "--password-stdin")
    assert code == 2
    assert "there is none to read" in err
    code, _, err = await invite(tmp_path, environment(settings), "olga", *INVITE)
    assert (code, err[:15]) == (1, "error: `olga`: ")
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM users")) == 0
