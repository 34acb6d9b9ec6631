"""What a process refuses so that it can do the rest: too many requests, too many long polls, no connection free."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import fastapi.routing
import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from sqlalchemy import event, text

from paletta_server.app import create_app
from paletta_server.commands import connection
from paletta_server.core import admission, asking
from paletta_server.core.admission import LONG_POLLS
from paletta_server.core.logging import PROBES
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from tests.conftest import MakeUser
from tests.support.locks import blocked
from tests.support.serving import serving
from tests.support.uploading import Uploader, item


@dataclass
class Node:
    app: FastAPI
    client: httpx.AsyncClient

    @property
    def runtime(self) -> Runtime:
        found: Runtime = self.app.state.runtime
        return found


@asynccontextmanager
async def node(settings: Settings, **changes: Any) -> AsyncIterator[Node]:
    """An API with other limits, on the same database."""
    app = create_app(settings.model_copy(update=changes))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.public_url, timeout=30) as client,
    ):
        await ready(client)
        yield Node(app, client)


async def ready(client: httpx.AsyncClient) -> None:
    """Return once its node is: the search index of one that has just begun is there a moment later."""
    for _ in range(600):
        if (await client.get("/readyz")).status_code == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never got ready")


@asynccontextmanager
async def stuck(runtime: Runtime) -> AsyncIterator[None]:
    """Whoever asks for the categories waits until this ends."""
    async with runtime.db.transaction() as session:
        await session.execute(text("LOCK TABLE categories IN ACCESS EXCLUSIVE MODE"))
        yield


def is_refusal(answer: httpx.Response) -> bool:
    problem = answer.headers["content-type"] == "application/problem+json" and answer.json()
    return bool(
        answer.status_code == 503
        and problem
        and problem["code"] == "overloaded"
        and problem["request_id"] == answer.headers["x-request-id"]
        and int(answer.headers["retry-after"]) >= 1
    )


async def test_what_is_too_much_is_refused_at_once_and_probes_are_not(
    settings: Settings, runtime: Runtime
) -> None:
    async with node(settings, requests_at_once=2) as small:
        async with stuck(runtime):
            taken = [asyncio.create_task(small.client.get("/v1/categories")) for _ in range(2)]
            await blocked(runtime, 2)
            began = time.monotonic()
            refused = [await small.client.get("/v1/categories") for _ in range(5)]
            refused.append(await small.client.post("/v1/auth/login", json={}))
            assert all(map(is_refusal, refused))
            assert time.monotonic() - began < 5, "a refusal waits for nobody, least of all for the lock"
            for path in PROBES:
                assert (await small.client.get(path)).status_code == 200, path
            counted = (await small.client.get("/metrics")).text
        # On a slow day they meet the limit of their own wait for the lock, which is no refusal.
        assert not any([is_refusal(await task) for task in taken])
        assert (await small.client.get("/v1/categories")).status_code == 200, "room again"
    assert 'paletta_http_requests_shed_total{kind="request"}' in counted


async def test_long_polls_are_counted_apart(
    settings: Settings, runtime: Runtime, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    person = await make_user("contributor")
    batch = await Uploader(client, person.headers).batch()
    path = f"/v1/upload-batches/{batch}/progress?after=99&wait=55"
    async with node(settings, requests_at_once=1, long_polls_at_once=2) as small:
        polls = [asyncio.create_task(small.client.get(path, headers=person.headers)) for _ in range(2)]
        waiters = small.runtime.notify._waiters
        while sum(len(found) for topic, found in waiters.items() if topic.startswith("batch")) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert is_refusal(await small.client.get(path, headers=person.headers))
        assert (await small.client.get("/v1/categories")).status_code == 200, "polls are in nobody's way"
        began = time.monotonic()
        small.runtime.notify.end()
        assert [(await poll).status_code for poll in polls] == [200, 200]
        assert time.monotonic() - began < 40, "a node about to stop answers its polls"
        again = await small.client.get(path, headers=person.headers)
        assert (again.status_code, again.headers["connection"]) == (200, "close")
        ready = await small.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "stopping")


def test_every_route_that_waits_is_known_as_one(app: FastAPI) -> None:
    def waits(dependant: Dependant | None) -> bool:
        return dependant is not None and any(field.name == "wait" for field in dependant.query_params)

    # Newer releases of FastAPI keep included routers as they are and flatten them on request.
    flatten = getattr(fastapi.routing, "iter_route_contexts", iter)
    waiting = set()
    for route in flatten(app.routes):
        if waits(getattr(route, "dependant", None)):
            waiting.add(route.path)
        assert bool(LONG_POLLS.fullmatch(route.path)) == (route.path in waiting), route.path
    assert len(waiting) == 3


async def test_without_a_free_connection_the_answer_comes_soon(settings: Settings, runtime: Runtime) -> None:
    async with node(settings, database_pool_size=1, database_wait_seconds=0.3) as small:
        enough = asyncio.Event()

        async def take() -> int:
            """What the node does by itself may have a connection just now: then once more."""
            while True:
                answer = await small.client.get("/v1/categories")
                if answer.status_code != 503 or enough.is_set():
                    return answer.status_code

        async with stuck(runtime):
            taken = [asyncio.create_task(take()) for _ in range(6)]
            await blocked(runtime, 6)  # one that is kept, five for a rush
            enough.set()
            began = time.monotonic()
            refused = await small.client.get("/v1/categories")
            took = time.monotonic() - began
            probed = (await small.client.get("/readyz")).json()
        assert refused.status_code == 503
        assert refused.json()["code"] == "unavailable"
        assert probed["checks"]["database"] == "ok", "that answers, and another node is no better off"
        assert int(refused.headers["retry-after"]) >= 1
        assert 0.2 < took < 8, "sooner than the lock would have come, or its limit"
        assert {await task for task in taken} <= {200, 503}


async def test_a_schema_older_than_the_code_is_not_ready(client: httpx.AsyncClient, runtime: Runtime) -> None:
    async def revision(to: str) -> str:
        async with runtime.db.transaction() as session:
            old = await session.scalar(text("SELECT version_num FROM alembic_version"))
            await session.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": to})
        return str(old)

    await ready(client)
    ours = await revision("0001")
    try:
        assert (await client.get("/readyz")).json()["checks"]["database"] == "does not answer"
        await revision("9999")  # of a release to come: it suits this one too
        assert (await client.get("/readyz")).status_code == 200
    finally:
        await revision(ours)


async def test_a_body_that_does_not_come_holds_its_place_for_a_moment_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.3)

    async def half(port: int) -> bytes:
        """One byte of a thousand; the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/auth/login HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 1000\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    async with (
        node(settings, requests_at_once=2) as small,
        serving(small.app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        port = httpx.URL(url).port
        assert port is not None
        answers = await asyncio.gather(*(half(port) for _ in range(2)))
        assert [answer.split(b" ", 2)[1] for answer in answers] == [b"408", b"408"]
        assert all(b"too slowly" in answer for answer in answers)
        assert all(b"connection: close" in answer.lower() for answer in answers)
        assert (await client.get("/v1/categories")).status_code == 200


async def test_who_goes_away_in_the_middle_is_no_fault_of_ours(settings: Settings) -> None:
    async with (
        node(settings) as small,
        serving(small.app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):

        async def counted(status: int) -> float:
            """By all applications of this process, which share their counters."""
            found = (await client.get("/metrics")).text.splitlines()
            wanted = f'status="{status}"'
            return sum(
                float(line.split()[-1]) for line in found if "requests_total" in line and wanted in line
            )

        before = await counted(408), await counted(500)
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(b"POST /v1/auth/login HTTP/1.1\r\nHost: shop\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        writer.close()
        async with asyncio.timeout(20):
            while await counted(408) == before[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await counted(500) == before[1]


async def test_who_waits_to_be_read_leaves_its_place_to_others(settings: Settings) -> None:
    async with (
        node(settings, requests_at_once=3) as small,
        serving(small.app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        small.app.openapi()  # made once, which takes a while
        idle = [Pipeliner(url) for _ in range(6)]
        try:
            await asyncio.gather(*(one.ask() for one in idle))
            for _ in range(50):
                assert (await client.get("/v1/categories")).status_code == 200
            async with asyncio.timeout(60):
                found = await asyncio.gather(*(one.answers() for one in idle))
        finally:
            for one in idle:
                one.socket.close()  # the server would wait for them
        assert found == [Pipeliner.ASKED] * len(idle)


async def test_many_who_ask_whether_we_are_ready_get_one_look(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    looks: list[object] = []
    pool = app.state.runtime.db.probe.sync_engine.pool

    def look(*_: object) -> None:
        looks.append(1)

    event.listen(pool, "checkout", look)
    try:
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(300)))
    finally:
        event.remove(pool, "checkout", look)
    assert {one.json()["checks"]["database"] for one in answers} == {"ok"}
    assert 1 <= len(looks) < 30


def test_who_counts_as_one_address() -> None:
    assert admission._network("203.0.113.9") == admission._network("::ffff:203.0.113.9") == "203.0.113.9"
    assert admission._network("2001:db8:1:2::3") == admission._network("2001:db8:1:2:ffff::1")
    assert admission._network("2001:db8:1:2::3") != admission._network("2001:db8:1:3::3")
    assert admission._network("testclient") == "testclient"


async def test_half_sent_requests_keep_nobody_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are places, from one address: it gets no further, and everybody else is served."""
    monkeypatch.setattr(admission, "BODY_SECONDS", 600.0)  # none of them is over meanwhile
    login = {"email": "nobody@example.org", "password": "eleven lanterns"}
    async with (
        node(settings, requests_at_once=50) as small,
        serving(small.app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        contextlib.AsyncExitStack() as held,
    ):
        port = httpx.URL(url).port
        head = b"POST /v1/auth/login HTTP/1.1\r\nHost: shop\r\nContent-Length: 500\r\n\r\n{"
        readers = []
        for _ in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            held.callback(writer.close)
            writer.write(head)
            readers.append(reader)
        first = [asyncio.create_task(reader.readline()) for reader in readers]
        refused: set[asyncio.Task[bytes]] = set()
        while len(refused) < 40:
            refused, _ = await asyncio.wait(first, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert refused, "nobody was refused"
            await asyncio.sleep(0)
        assert {line.split()[1] for line in [task.result() for task in refused]} == {b"503"}
        assert (await client.get("/v1/categories")).status_code == 200
        transport = httpx.ASGITransport(small.app, client=("203.0.113.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url=url) as another:
            assert (await another.post("/v1/auth/login", json=login)).status_code == 401
        for task in first:
            task.cancel()
        shed = (await client.get("/metrics")).text
        assert 'paletta_http_requests_shed_total{kind="body"}' in shed


@pytest.mark.parametrize(
    "sent",
    [
        [b""],
        [b"\r\n"],
        [b"GET /v1/categories HTTP/1.1\r\nHost: shop\r\nX-Slow: "],
        [b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n", b"GET /v1/cat"],
        [b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n", b"\r\n"],
    ],
)
async def test_a_head_that_never_ends_is_hung_up_on(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, sent: list[bytes]
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        for bytes_ in sent[:-1]:
            writer.write(bytes_)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length
            await reader.readexactly(int(length[1]))
        writer.write(sent[-1])
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


async def test_a_database_that_hangs_with_its_connections_up_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between us and it, somebody stops passing anything on: on connections of the pool, which were good just now."""
    passing = asyncio.Event()
    passing.set()
    known = conninfo_to_dict(settings.libpq_url)
    host = str(known.get("host") or "127.0.0.1")
    number = int(known.get("port") or 5432)
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while block := await reader.read(65536):
                await passing.wait()
                writer.write(block)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host.startswith("/"):
            theirs, ours = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{number}")
        else:
            theirs, ours = await asyncio.open_connection(host, number)
        for way in (pump(reader, ours), pump(theirs, writer)):
            pumps.add(task := asyncio.create_task(way))
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = f"{known['user']}:{quote(str(known.get('password') or ''))}"
    through = f"postgresql://{login}@127.0.0.1:{port}/{known['dbname']}"
    async with node(settings, database_url=SecretStr(through)) as small:
        assert (await small.client.get("/v1/categories")).status_code == 200
        passing.clear()
        asyncio.get_running_loop().call_later(100, passing.set)  # for a test that fails to end too
        began = time.monotonic()
        with monkeypatch.context() as short:
            short.setattr(asking, "DATABASE_SECONDS", 0.5)
            answer = await small.client.get("/v1/categories")
        assert time.monotonic() - began < 60
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        passing.set()
        assert (await small.client.get("/v1/categories")).status_code == 200
    server.close()


@dataclass
class Mute:
    """A store that takes whatever it is sent and never says a word."""

    settings: Settings
    asked: asyncio.Semaphore
    """Released for each connection."""


@pytest.fixture
async def mute(settings: Settings) -> AsyncIterator[Mute]:
    asked = asyncio.Semaphore(0)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield Mute(settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{port}"}), asked)
    server.close()


async def test_a_store_that_says_nothing_keeps_no_others_waiting(
    settings: Settings, mute: Mute, up: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "REQUEST_SECONDS", 4.0)
    batch = await up.batch()
    items = [item(b"film %d" % number, f"{number}.mp4") for number in range(6)]
    uids = [found["upload_id"] for found in await up.register(batch, *items)]
    app = create_app(mute.settings.model_copy(update={"requests_at_once": 4}))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.public_url, timeout=30) as client,
    ):

        async def complete(uid: str) -> dict[str, Any]:
            body = {"uploads": [{"upload_id": uid}]}
            answer = await client.post("/v1/uploads/complete", json=body, headers=up.headers)
            assert answer.status_code == 200, answer.text
            (only,) = answer.json()["uploads"]
            problem: dict[str, Any] = only["problem"]
            return problem

        began = time.monotonic()
        taken = [asyncio.create_task(complete(uid)) for uid in uids[:2]]
        async with asyncio.timeout(20):
            for _ in taken:
                await mute.asked.acquire()
        problems = [await complete(uid) for uid in uids[2:]]
        for _ in range(10):
            assert (await client.get("/v1/categories")).status_code == 200
        problems += await asyncio.gather(*taken)
        assert time.monotonic() - began < 20, "one limit over all tries"
    assert {(one["code"], one["retryable"]) for one in problems} == {("store_unavailable", True)}


class Pipeliner:
    """Asks for the longest answer there is many times at once, and reads none of them before it is told to."""

    ASKED = 8

    def __init__(self, url: str) -> None:
        self._address = (httpx.URL(url).host, httpx.URL(url).port)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.socket.setblocking(False)

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, self._address)
        await loop.sock_sendall(self.socket, b"GET /openapi.json HTTP/1.1\r\nHost: shop\r\n\r\n" * self.ASKED)

    async def answers(self) -> int:
        """Read until the last answer or the end: how many whole ones there were."""
        reader, writer = await asyncio.open_connection(sock=self.socket)
        count = 0
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while count < self.ASKED:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert length
                await reader.readexactly(int(length[1]))
                count += 1
        writer.close()
        return count


async def full(client: httpx.AsyncClient, status: int) -> None:
    """Return once an ordinary request is answered so."""
    async with asyncio.timeout(60):
        while (await client.get("/v1/categories")).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("patient", [True, False])
async def test_a_client_that_takes_no_answers_is_hung_up_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, patient: bool
) -> None:
    """Unless it takes them after all: what is asked for in one go is answered to the end."""
    caplog.set_level(logging.INFO, connection.__name__)
    if not patient:
        monkeypatch.setattr(connection, "TAKING_SECONDS", 0.5)
        monkeypatch.setattr(connection, "TAKING_BYTES_PER_SECOND", 2**30)
    async with (
        node(settings, requests_at_once=3) as small,
        serving(small.app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        small.app.openapi()  # made once, which takes a while
        idle = [Pipeliner(url) for _ in range(3)]
        try:
            await asyncio.gather(*(one.ask() for one in idle))
            if not patient:
                async with asyncio.timeout(60):
                    while sum("did not take" in one.message for one in caplog.records) < 3:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            async with asyncio.timeout(60):
                found = await asyncio.gather(*(one.answers() for one in idle))
        finally:
            for one in idle:
                one.socket.close()  # the server would wait for them
        assert all((count == Pipeliner.ASKED) == patient for count in found), found
        await full(client, 200)
