"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from paletta_server.app import create_app
from paletta_server.core.logging import mask
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports


def sample(text: str, name: str) -> float:
    """The value of one line of Prometheus' text format; 0 when it is not there."""
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


async def test_alive_and_ready(client: httpx.AsyncClient) -> None:
    alive = await client.get("/healthz")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    for _ in range(600):  # the search index of a node that has just begun is there a moment later
        ready = await client.get("/readyz")
        if ready.status_code == 200:
            break
        await asyncio.sleep(0.1)
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "checks": {"database": "ok", "object_store": "ok", "search": "ok"},
    }


async def test_what_has_come_up_stays_up_without_its_database_until_it_stops(
    settings: Settings, runtime: Runtime
) -> None:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=settings.public_url) as client,
    ):
        mine: Runtime = app.state.runtime
        prepared, app.state.prepared = app.state.prepared, {"search": lambda: False}
        assert (await client.get("/startupz")).status_code == 503
        app.state.prepared = {**prepared, "search": lambda: True}
        assert (await client.get("/startupz")).status_code == 200
        app.state.prepared = {"search": lambda: False}
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/startupz")).json() == {"status": "started"}
        mine.notify.end()
        assert (await client.get("/startupz")).json()["status"] == "stopping"


async def test_alive_but_not_ready_without_database_and_store(settings: Settings) -> None:
    nobody, nothing = free_ports(2)
    broken = settings.model_copy(
        update={
            "database_url": type(settings.database_url)(
                f"postgresql://paletta:hunter22@127.0.0.1:{nobody}/paletta"
            ),
            "s3_endpoint": f"http://127.0.0.1:{nothing}",
        }
    )
    app = create_app(broken)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=settings.public_url) as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "checks": {
            "database": "does not answer",
            "object_store": "does not answer",
            "search": "not there yet",
        },
    }
    assert "hunter22" not in answer.text


async def test_requests_are_counted_by_route_and_not_by_id(client: httpx.AsyncClient) -> None:
    name = 'paletta_http_requests_total{method="GET",route="/v1/clips/{clip}",status="404"}'
    before = sample((await client.get("/metrics")).text, name)
    for number in range(3):
        assert (await client.get(f"/v1/clips/clip_{number}")).status_code == 404
    text = (await client.get("/metrics")).text
    assert sample(text, name) == before + 3
    assert "clip_1" not in text


async def test_unknown_paths_and_methods_share_one_label(client: httpx.AsyncClient) -> None:
    await client.get("/no/such/page/4711")
    await client.request("PROPFIND", "/no/such/page")
    text = (await client.get("/metrics")).text
    assert sample(text, 'paletta_http_requests_total{method="GET",route="unmatched",status="404"}') >= 1
    assert "/4711" not in text
    assert "PROPFIND" not in text


async def test_figures_that_take_too_long_silence_no_others(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    told = (await client.get("/metrics")).text
    assert "\npaletta_jobs{" in told, "no job is a figure too"
    assert "\npaletta_mails_unsent{" in told
    async with runtime.db.transaction() as session:
        await session.execute(text("LOCK TABLE outbox_emails IN ACCESS EXCLUSIVE MODE"))
        told = (await client.get("/metrics")).text
    assert "\npaletta_jobs{" in told
    assert "\npaletta_mails_unsent{" not in told, "better no figure than an old one"


async def test_metrics_are_for_this_machine(app: FastAPI, settings: Settings) -> None:
    for client_address, headers, status in (
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("203.0.113.7", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.7"}, 403),
    ):
        transport = httpx.ASGITransport(app, client=(client_address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url=settings.public_url) as client:
            answer = await client.get("/metrics", headers=headers)
            assert answer.status_code == status, (client_address, headers)


async def test_metrics_with_a_token_are_for_who_brings_it(settings: Settings) -> None:
    secret = type(settings.database_url)("scrape-me-not")
    app = create_app(settings.model_copy(update={"metrics_token": secret}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=("203.0.113.7", 1)), base_url=settings.public_url
        ) as client,
    ):
        assert (await client.get("/metrics")).status_code == 403
        assert (await client.get("/metrics", headers={"Authorization": "Bearer wrong"})).status_code == 403
        given = await client.get("/metrics", headers={"Authorization": "Bearer scrape-me-not"})
        assert given.status_code == 200
        assert given.headers["content-type"].startswith("text/plain")


async def test_a_node_that_is_stopped_as_it_starts_does_stop(settings: Settings) -> None:
    """What follows changes is woken by the notifier's first word at just that moment."""
    app = create_app(settings)
    async with asyncio.timeout(60), app.router.lifespan_context(app):
        pass


async def test_an_empty_token_opens_metrics_to_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALETTA_METRICS_TOKEN", "")
    token = Settings(_env_file=None).metrics_token
    app = create_app(settings.model_copy(update={"metrics_token": token}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=("203.0.113.7", 1)), base_url=settings.public_url
        ) as client,
    ):
        assert (await client.get("/metrics", headers={"Authorization": "Bearer "})).status_code == 403


async def test_an_error_of_the_database_tells_nobodys_data(runtime: Runtime) -> None:
    row = text("INSERT INTO users (uid, email, password_hash) VALUES (:uid, :email, :hash)")
    person = {"uid": "user_2", "email": "ana@example.org", "hash": "$argon2id$v=19$secret"}
    async with runtime.db.transaction() as session:
        await session.execute(row, person)
        with pytest.raises(IntegrityError) as caught:
            await session.execute(row, {**person, "uid": "user_3"})
        await session.rollback()
    words = mask(str(caught.value))
    assert "uq_users_email" in words
    assert "ana@example.org" not in words
    assert "argon2id" not in words


async def test_what_the_framework_refuses_is_a_problem_of_its_own_name(client: httpx.AsyncClient) -> None:
    wrong = (await client.delete("/v1/categories")).json()
    assert (wrong["status"], wrong["title"]) == (405, "Method Not Allowed")
    long = await client.post("/v1/auth/login", headers={"content-length": "99999999"})
    assert (long.status_code, long.json()["code"]) == (413, "body_too_large")


async def test_whatever_goes_wrong_the_reaper_goes_on() -> None:
    from paletta_server.core import jobs

    said = asyncio.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    listening = Listening()
    jobs.log.addHandler(listening)
    # An engine that is not connected raises something else than a lost connection does.
    reaper = asyncio.create_task(jobs._reap_for_ever(jobs._app, 30))
    try:
        await asyncio.wait_for(said.wait(), 60)
        await asyncio.wait({reaper}, timeout=0)
        assert not reaper.done()
    finally:
        jobs.log.removeHandler(listening)
        reaper.cancel()
