"""Kill switches: what each stops, what goes on, and how fast every API process follows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.app import create_app
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.flags import service
from paletta_server.flags.guard import READS, STAY_OPEN
from paletta_server.flags.service import Switch
from paletta_server.payments.sandbox.signing import HEADER, sign
from tests.api.test_permissions import entries
from tests.conftest import MakeUser, Person
from tests.support.shop import Customer
from tests.support.uploading import Uploader, item

SetFlag = Callable[..., Awaitable[None]]


async def followed(app: FastAPI, name: Switch, message: str | None) -> None:
    """Return once this process says `message`. Raises TimeoutError where it does not follow."""
    async with asyncio.timeout(60):
        while app.state.switches.message(name) != message:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def set_flag(client: httpx.AsyncClient, app: FastAPI, admin: Person) -> AsyncIterator[SetFlag]:
    """`await set_flag("no-uploads", "words")`, followed; all are cleared afterwards."""

    async def set_(name: str, message: str) -> None:
        answer = await client.put(f"/v1/admin/flags/{name}", json={"message": message}, headers=admin.headers)
        assert answer.status_code == 200, answer.text
        await followed(app, Switch(name), message)

    yield set_
    for name in Switch:
        assert (await client.delete(f"/v1/admin/flags/{name}", headers=admin.headers)).status_code == 200
        await followed(app, name, None)


def paused(answer: httpx.Response, message: str, switch: str) -> None:
    assert answer.status_code == 503, answer.text
    body = answer.json()
    assert (body["code"], body["detail"], body["switch"]) == ("service_paused", message, switch)
    assert int(answer.headers["retry-after"]) > 0


async def test_read_only_stops_every_route_that_is_no_question(
    app: FastAPI, client: httpx.AsyncClient, make_user: MakeUser, set_flag: SetFlag
) -> None:
    another = await make_user("admin")
    await set_flag("read-only", "moving house")
    everything = {entry.name: entry for entry in entries(app) if entry.method not in READS}
    assert everything.keys() >= STAY_OPEN, "the list names routes that are gone"
    wrong = []
    for name in sorted(everything, key=lambda name: name.endswith("/logout")):  # last: it ends the token
        entry = everything[name]
        answer = await client.request(entry.method, entry.address, json={}, headers=another.headers)
        is_paused = answer.status_code == 503 and "moving house" in answer.text
        if is_paused == (name in STAY_OPEN):
            wrong.append(f"{name}: {answer.status_code} {answer.text[:80]}")
    assert wrong == []
    body = {"email": another.email, "password": another.password}
    token = (await client.post("/v1/auth/login", json=body)).json()["token"]
    for path in ("/healthz", "/readyz", "/v1/categories", "/v1/me", "/v1/me/purchases"):
        answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, path


async def test_events_of_gateways_are_stored_while_nothing_else_is(
    client: httpx.AsyncClient, runtime: Runtime, set_flag: SetFlag
) -> None:
    await set_flag("read-only", "moving house")
    secret = runtime.settings.sandbox_secret
    assert secret is not None
    told = {"id": "evt_1", "type": "payment.succeeded", "checkout": "co", "payment": "pay"}
    body = json.dumps(told).encode()
    headers = {HEADER: sign(body, secret.get_secret_value())}
    answer = await client.post("/v1/webhooks/sandbox", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT external_id FROM external_events")) == "evt_1"


async def test_no_uploads_lets_what_has_arrived_be_completed(up: Uploader, set_flag: SetFlag) -> None:
    batch = await up.batch()
    data = b"the bytes of a clip"
    [registered] = await up.register(batch, item(data))
    await up.put(registered["put"], data)
    await set_flag("no-uploads", "the store is full")
    for path, body in (
        (f"/v1/upload-batches/{batch}/items", {"items": [item(b"more")]}),
        ("/v1/upload-batches", {"client_ref": "5e2b6f4e-7b06-4d5e-9b39-1d8e61a4f6a1", "name": "x"}),
        ("/v1/uploads/sign", {"uploads": []}),
    ):
        answer = await up.client.post(path, json=body, headers=up.headers)
        paused(answer, "the store is full", "no-uploads")
    [completed] = await up.complete(registered["upload_id"])
    assert completed["state"] == "stored"
    await up.call("POST", f"/upload-batches/{batch}/seal")


async def test_no_checkout_and_no_downloads_stop_what_they_say_alone(
    client: httpx.AsyncClient, customer: Customer, set_flag: SetFlag
) -> None:
    headers = customer.person.headers
    await set_flag("no-checkout", "the bank is shut")
    paused(await client.post("/v1/checkout", json={}, headers=headers), "the bank is shut", "no-checkout")
    paused(await client.post("/v1/orders/P-1/pay", headers=headers), "the bank is shut", "no-checkout")
    assert (await client.get("/v1/cart", headers=headers)).status_code == 200
    wanted = {"files": [{"item_id": "item_2222", "tier": "hd"}]}
    assert (await client.post("/v1/downloads", json=wanted, headers=headers)).status_code != 503
    await set_flag("no-downloads", "the line is cut")
    paused(
        await client.post("/v1/downloads", json=wanted, headers=headers), "the line is cut", "no-downloads"
    )
    page = await client.get("/orders/whatever/files/item_2222/hd")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "the line is cut" in page.text
    assert (await client.get("/v1/me/purchases", headers=headers)).status_code == 200


async def test_another_process_follows_as_soon_as_it_is_told(
    settings: Settings, set_flag: SetFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RECHECK_SECONDS", 600.0)  # it hears of it, or not at all
    other = create_app(settings)
    async with other.router.lifespan_context(other):
        await set_flag("no-uploads", "one")
        await followed(other, Switch.NO_UPLOADS, "one")
        await set_flag("no-uploads", "two")
        await followed(other, Switch.NO_UPLOADS, "two")


async def test_a_lost_notification_delays_a_switch_by_two_seconds(
    app: FastAPI, runtime: Runtime, set_flag: SetFlag
) -> None:
    assert service.RECHECK_SECONDS == 2
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO flags (name, message) VALUES ('no-uploads', 'quietly')"))
    await followed(app, Switch.NO_UPLOADS, "quietly")


async def test_switches_are_listed_audited_and_need_a_fresh_login(
    client: httpx.AsyncClient, runtime: Runtime, admin: Person, set_flag: SetFlag
) -> None:
    await set_flag("no-uploads", "one")
    await set_flag("no-uploads", "one")  # the same again is no news
    listed: Any = (await client.get("/v1/admin/flags", headers=admin.headers)).json()["items"]
    assert [(one["name"], one["on"]) for one in listed] == [
        ("read-only", False), ("no-uploads", True), ("no-checkout", False), ("no-downloads", False),
    ]  # fmt: skip
    assert listed[1]["set_by"] == admin.email
    await client.delete("/v1/admin/flags/no-uploads", headers=admin.headers)
    await client.delete("/v1/admin/flags/no-uploads", headers=admin.headers)
    async with runtime.db.transaction() as session:
        rows = await session.execute(
            text("SELECT action, object FROM audit_logs WHERE action LIKE 'flag:%' ORDER BY id")
        )
        assert [tuple(row) for row in rows] == [("flag:set", "no-uploads"), ("flag:cleared", "no-uploads")]
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now() - interval '1 day'"))
    stale = await client.put("/v1/admin/flags/no-uploads", json={}, headers=admin.headers)
    assert (stale.status_code, stale.json()["code"]) == (403, "login_not_fresh")
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now()"))
    unknown = await client.put("/v1/admin/flags/no-fun", json={}, headers=admin.headers)
    assert unknown.status_code == 404
    assert "read-only" in unknown.json()["hint"]
    odd = await client.put(
        "/v1/admin/flags/no-uploads", json={"message": "a\u001b[2Jb"}, headers=admin.headers
    )
    assert odd.status_code == 422


async def test_without_words_the_switch_has_its_own(
    client: httpx.AsyncClient, admin: Person, set_flag: SetFlag, make_user: MakeUser
) -> None:
    answer = await client.put("/v1/admin/flags/no-checkout", json={}, headers=admin.headers)
    assert answer.json()["message"] == "nothing can be bought for now"
