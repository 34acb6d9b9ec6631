"""`make bench-api`: what one API process answers under 50 clients at once, beside FastAPI's own hello world.

One `paletta-server api` over the embedded PostgreSQL with a catalogue of `--clips` clips (words by Zipf's law, as in
`make bench-search`), ten customers with five clips in the cart and twenty orders each. Every client has a kept-alive
connection and asks its next question when it has read the answer: browsing (a search of one common word, 24 cards),
a clip's page, the cart, the list of orders. The peers, served by the same uvicorn and asked by the same clients in
the same run: a FastAPI route that returns a constant, and one that fetches a row by its key through SQLAlchemy and
the same pool, which is the least that any answer from a database costs with these libraries.

The clients run beside the service on the same cores, so requests per second mean nothing by themselves; the ratio
to the peers does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg

from paletta_server.accounts.service import create_user, issue_token
from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
from tests.benchmarks.measure import cpu_of
from tests.benchmarks.search import (
    PAGE,
    Catalogue,
    clip_uid,
    environment_of,
    fill,
    grounds,
    percentile,
    serving,
)
from tests.support.shop import BOOK
from tests.support.stack import make_database

CLIENTS = 50
CUSTOMERS, IN_CART, ORDERS = 10, 5, 20
PEERS = ("hello", "one row")

UPLOADS_SQL = """
INSERT INTO uploads (uid, owner_id, clip_id, clip_uid, file_name, size, sha256, crc64nvme, part_size, part_count, key,
    state, stage, warnings, expires_at)
  SELECT 'upl' || substr(uid, 5), owner_id, id, uid, file_name, size, sha256, '', 5242880, 1, original_key, 'verified',
    'live', '[]', now() FROM clips
"""
ORDERS_SQL = """
INSERT INTO orders (uid, number, user_id, status, gateway, licensee, currency, subtotal, tax, total, expires_at,
    paid_at, price_book_id)
  SELECT 'order_' || translate(lpad(row_number() OVER ()::text, 12, '0'), '0123456789', 'abcdefghjk'),
    'P-2026-' || lpad(nextval('order_numbers')::text, 6, '0'), users.id, 'paid', 'sandbox', 'Ana', 'USD', 14700, 0,
    14700, now(), now() - n * interval '1 day', (SELECT max(id) FROM price_book)
  FROM users, generate_series(1, %s) AS n WHERE role = 'customer';
INSERT INTO order_items (uid, order_id, clip_id, clip_uid, title, contributor_id, contributor, tier, licence, price,
    amount)
  SELECT 'item_' || translate(lpad(row_number() OVER ()::text, 12, '0'), '0123456789', 'abcdefghjk'), orders.id,
    clips.id, clips.uid, clips.title, clips.owner_id, 'Ana', 'original', 'individual', 4900, 4900
  FROM orders, generate_series(1, 3) AS n, clips WHERE clips.id = (orders.id * 3 + n) %% %s + 1;
"""

HELLO = """
import os
from fastapi import FastAPI
from sqlalchemy import select
from paletta_server.clips.models import Clip
from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
import paletta_server.migrations.tables

def make_app():
    app = FastAPI()
    database = Database(Settings())

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/row/{key}")
    async def row(key: int) -> dict[str, str]:
        async with database.transaction() as session:
            return {"title": await session.scalar(select(Clip.title).where(Clip.id == key))}

    return app
"""


@dataclass
class Answers:
    """What came back to one kind of question."""

    seconds: float = 0.0
    cpu: float = 0.0
    times: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds


class Client:
    """One kept-alive connection; asks and reads, and does nothing else, since it runs on the service's cores."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._address, self._head = (host, port), f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str) -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), (path, head)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length[15:]))


async def load(
    address: str, tokens: Sequence[str], paths: Sequence[str], seconds: float, pid: int
) -> Answers:
    """Fifty clients at once, each asking one path after the other."""
    host, _, port = address.removeprefix("http://").partition(":")
    found = Answers()
    began = time.perf_counter()
    end = began + seconds
    cpu = cpu_of(pid)

    async def one(number: int) -> None:
        # From different places in the list, else all would ask the same thing at the same time.
        mine = itertools.islice(itertools.cycle(paths), number * 7 % len(paths), None)
        async with Client(host, int(port), tokens[number % len(tokens)]) as client:
            for path in mine:
                started = time.perf_counter()
                if started > end:
                    return
                await client.get(path)
                found.times.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    found.seconds, found.cpu = time.perf_counter() - began, cpu_of(pid) - cpu
    return found


@contextlib.contextmanager
def peers(folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """FastAPI with nothing of ours but the database's pool."""
    (folder / "hello.py").write_text(HELLO)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "hello:make_app", "--factory", "--port", str(port)]
    paths = os.pathsep.join([str(folder), str(Path.cwd())])
    with (folder / "peers.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--no-access-log"],
            env={**os.environ, **environment, "PYTHONPATH": paths},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/hello", trust_env=False).status_code == 200:
                    break
            time.sleep(0.1)
        else:
            raise SystemExit(f"the peers did not start:\n{(folder / 'peers.log').read_text()[-2000:]}")
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def people(settings: Settings) -> tuple[list[str], str]:
    """Tokens of customers and of an operator."""
    database = Database(settings)
    tokens = []
    try:
        for number in range(CUSTOMERS + 1):
            role = "customer" if number < CUSTOMERS else "admin"
            async with database.transaction() as session:
                user = await create_user(
                    session, email=f"{role}{number}@example.org", password=secrets.token_urlsafe(18),
                    role=role, verified=True,
                )  # fmt: skip
                token, _ = await issue_token(session, user, name="bench")
                tokens.append(token)
    finally:
        await database.close()
    return tokens[:-1], tokens[-1]


def furnish(address: str, catalogue: Catalogue, tokens: Sequence[str], operator: str) -> None:
    """Prices, carts and orders."""
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        applied = client.post(
            "/v1/admin/prices/apply",
            json={"document": BOOK},
            headers={"Authorization": f"Bearer {operator}"},
        )
        assert applied.status_code == 200, applied.text
        for number, token in enumerate(tokens):
            wanted = [{"clip_id": clip_uid(1 + number * IN_CART + n)} for n in range(IN_CART)]
            put = client.post(
                "/v1/cart/items", json={"clips": wanted}, headers={"Authorization": f"Bearer {token}"}
            )
            assert put.status_code == 200, put.text
    with psycopg.connect(catalogue.url, autocommit=True) as db:
        db.execute(UPLOADS_SQL)
        for statement in ORDERS_SQL.strip().split(";\n"):
            values = [ORDERS] if "INTO orders" in statement else [catalogue.clips]
            db.execute(statement.rstrip(";"), values)  # type: ignore[arg-type]
        db.execute("ANALYZE")


def questions(catalogue: Catalogue) -> dict[str, list[str]]:
    noise = random.Random(5)
    common = [catalogue.words[rank] for rank in range(40)]
    clips = [clip_uid(noise.randrange(1, catalogue.clips + 1)) for _ in range(400)]
    return {
        "browse": [f"/v1/clips?{urlencode({'q': word, 'limit': PAGE})}" for word in common],
        "detail": [f"/v1/clips/{clip}" for clip in clips],
        "cart": ["/v1/cart"],
        "orders": ["/v1/orders"],
    }


def report(ours: dict[str, Answers], theirs: dict[str, Answers]) -> None:
    hello, row = (theirs[name].rate for name in PEERS)
    print(
        f"{'':<10}{'requests/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'of hello':>10}{'of one row':>12}"
    )
    for name, found in {**ours, **theirs}.items():
        print(
            f"{name:<10}{found.rate:>11.0f}{percentile(found.times, 0.5):>9.1f}{percentile(found.times, 0.99):>9.1f}"
            f"{found.cpu * 1000 / len(found.times):>9.2f}{found.rate / hello:>10.2f}{found.rate / row:>12.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of question")
    options = parser.parse_args()
    with grounds() as (stack, folder):
        run(stack, options, folder)


def run(stack: Any, options: argparse.Namespace, folder: Path) -> None:
    url = make_database(stack, "paletta_bench")
    catalogue = fill(stack, url, options.clips)
    environment = environment_of(stack, url, folder / "search")
    tokens, operator = asyncio.run(people(Settings(_env_file=None, database_url=url)))
    ours: dict[str, Answers] = {}
    with serving(Settings(_env_file=None), environment, folder / "api.log") as (address, pid):
        furnish(address, catalogue, tokens, operator)
        wait_for(address, catalogue)
        for name, paths in questions(catalogue).items():
            asyncio.run(load(address, tokens, paths, 1.0, pid))
            ours[name] = asyncio.run(load(address, tokens, paths, options.seconds, pid))
    theirs: dict[str, Answers] = {}
    rows = {"hello": ["/hello"], "one row": [f"/row/{n}" for n in range(1, 400)]}
    with peers(folder, environment) as (address, pid):
        for name in PEERS:
            asyncio.run(load(address, tokens, rows[name], 1.0, pid))
            theirs[name] = asyncio.run(load(address, tokens, rows[name], options.seconds, pid))
    print(f"{options.clips:,} clips, {CLIENTS} clients, one API process")
    report(ours, theirs)


def wait_for(address: str, catalogue: Catalogue) -> None:
    """Until the index has the new prices: else its work would be measured too."""
    asked = {"q": catalogue.words[0], "sort": "price", "limit": 1, "min_price": "1"}
    for _ in range(600):
        if httpx.get(f"{address}/v1/clips", params=asked, trust_env=False).json()["items"]:
            return
        time.sleep(0.5)
    raise SystemExit("the index did not take the prices up")


if __name__ == "__main__":
    main()
