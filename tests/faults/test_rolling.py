"""A service on two nodes behind nginx is restarted and migrated under load, and nobody notices.

Restart: a node that is told to stop says so first, and ends when what it had in hand is done. Migration: a column, a
table and an index are added while nodes read and write, though a transaction is in the way.

Of old and new side by side this shows the database's half: this code is the old one there, on the schema of a release
to come. Two releases of the code are not run beside each other, and no worker is: whether the jobs that one queues are
understood by the other is not shown.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from paletta_server import migrations
from paletta_server.core.settings import Settings
from tests.api.test_migrations_beside import coming
from tests.faults.site import StoreAddress
from tests.support.fleet import Fleet

if TYPE_CHECKING:
    from tests.support.stack import Addresses

__all__ = ["coming"]  # a fixture

PASSWORD = "eleven lanterns over a quiet harbour"
CLIENTS = 4
LONGEST = 8
"""Seconds of a long poll."""


@pytest.fixture(scope="module")
def fleet(stack: Addresses, worker_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    from tests.support.stack import make_database

    made = Fleet(
        tmp_path_factory.mktemp("rolling"),
        make_database(stack, f"paletta_rolling_{worker_name}"),
        StoreAddress(stack.endpoint, stack.access_key, stack.secret_key),
        f"rolling-{worker_name}",
        workers=0,
    )
    with made:
        yield made


@pytest.fixture(scope="module")
def token(fleet: Fleet) -> str:
    fleet.sql("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport') ON CONFLICT DO NOTHING")
    return fleet.person("ana@example.org", "contributor", PASSWORD)


@dataclass
class Met:
    """What clients met: statuses, and times in seconds by kind of request."""

    statuses: list[int] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class Load:
    """Clients that read and write without a pause and without ever trying again: what fails has failed."""

    def __init__(self, fleet: Fleet, token: str, batch: str) -> None:
        self.fleet, self.met = fleet, Met()
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._paths = {
            "search": ("GET", "/v1/clips?q=tram", None),
            "read": ("GET", "/v1/me", None),
            "write": ("PATCH", "/v1/me", {"institution": ""}),
            "poll": ("GET", f"/v1/upload-batches/{batch}/progress?after=999999&wait={LONGEST}", None),
        }
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Load:
        self._pool = ThreadPoolExecutor(CLIENTS + 2)
        kinds = [("search", "read", "write")] * CLIENTS + [("poll",)] * 2
        self._running = [self._pool.submit(self._one, number, mine) for number, mine in enumerate(kinds)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # A change of the batch would end the polls; they are left to end by themselves, in good order.
        self._pool.shutdown(wait=True)
        for done in self._running:
            done.result()

    def _one(self, number: int, kinds: tuple[str, ...]) -> None:
        turn = 0
        while not self._stop.is_set():
            kind = kinds[turn % len(kinds)]
            method, path, body = self._paths[kind]
            if body is not None:
                body = dict.fromkeys(body, str(uuid.uuid4()))
            began = time.monotonic()
            # A connection each: nginx, told of other nodes, closes those that idle, which is no matter of ours.
            connection = http.client.HTTPConnection("127.0.0.1", self.fleet.balancer.port, timeout=60)
            try:
                connection.request(method, path, json.dumps(body) if body else None, self._headers)
                answer = connection.getresponse()
                text = answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException) as error:
                status, text = 0, repr(error).encode()
            finally:
                connection.close()
            with self._lock:
                self.met.statuses.append(status)
                self.met.times.setdefault(kind, []).append(time.monotonic() - began)
                if status not in (200, 201):
                    self.met.wrong.append(f"{time.time():.3f} {method} {path} {status} {text[:200]!r}")
            if kind == "poll" and status == 200 and time.monotonic() - began < 0.5:
                time.sleep(0.3)  # as the command line does
            turn += 1

    def check(self) -> None:
        seen = [one for one in self.fleet.balancer.accesses() if one.status >= 500]
        assert self.met.wrong == [], f"{len(self.met.wrong)} of {len(self.met.statuses)}\n{self.fleet.told()}"
        assert seen == []
        assert len(self.met.statuses) > 100, "hardly anything was asked"


@pytest.fixture
def load(fleet: Fleet, token: str) -> Load:
    new = {"client_ref": "00000000-0000-4000-8000-000000000001", "name": "lisbon"}
    batch = fleet.ask("POST", "/v1/upload-batches", token=token, body=new)
    return Load(fleet, token, batch["id"])


def test_a_rolling_restart_fails_no_request(fleet: Fleet, load: Load) -> None:
    began = time.monotonic()
    with load:
        time.sleep(1)  # under load, and with long polls on both nodes
        ended = [fleet.restart(node) for node in fleet.api]
        time.sleep(1)
    load.check()
    assert all(status in (0, -15) for status in ended), ended
    polls = load.met.times["poll"]
    assert len(polls) > 2, "no poll was ended by a stop"
    assert max(polls) < LONGEST + 5
    assert {one.nodes for one in fleet.balancer.accesses()} >= {
        f"127.0.0.1:{port}" for port in fleet.balancer.nodes
    }
    for node in fleet.api:
        assert "Cancel" not in node.log.read_text(), "a request was cut off"
    assert time.monotonic() - began < 90


def test_a_node_that_is_told_to_stop_serves_until_it_is_noticed(fleet: Fleet, token: str) -> None:
    """Not ready at once, while requests are answered still, each as the last one of its connection."""
    import signal

    node = fleet.api[0]
    port, usual = fleet.port_of(node), node.env
    node.kill()
    node.env = {
        **usual,
        "PALETTA_DRAIN_SECONDS": "8",
    }  # which a machine that is busy elsewhere does not sleep through
    node.start()
    assert node.process is not None
    node.process.signal(signal.SIGTERM)
    until, refused = time.monotonic() + 6, None
    while refused is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        except urllib.error.HTTPError as error:
            refused = error.code, json.load(error)["status"]
    assert refused == (503, "stopping")
    connection = http.client.HTTPConnection("127.0.0.1", port or 0, timeout=5)
    connection.request("GET", "/v1/me", headers={"authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("connection")) == (200, "close")
    assert node.process.wait(30) is not None
    node.env = usual
    node.start()


def test_the_clients_own_address_arrives_whatever_it_claims(fleet: Fleet, token: str) -> None:
    connection = http.client.HTTPConnection(
        "127.0.0.1", fleet.balancer.port, source_address=("127.0.0.77", 0)
    )
    body = json.dumps({"email": "ana@example.org", "password": PASSWORD})
    claims = {"content-type": "application/json", "x-forwarded-for": "203.0.113.9"}
    connection.request("POST", "/v1/auth/login", body, claims)
    assert connection.getresponse().status == 200
    seen = {ip for (ip,) in fleet.sql("SELECT DISTINCT ip FROM audit_origins")}
    assert "127.0.0.77" in seen
    assert "203.0.113.9" not in seen


def test_a_migration_beside_nodes_that_serve(fleet: Fleet, load: Load, coming: Path) -> None:
    settings = Settings(_env_file=None, database_url=fleet.database_url)
    with psycopg.connect(fleet.database_url) as holder, load:
        holder.execute("SELECT count(*) FROM clips")
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(migrations.migrate, settings, beside=coming)
            time.sleep(8)  # longer than a try takes: requests have queued up behind it, and were let go
            assert not running.done()
            holder.rollback()
            running.result(60)
        time.sleep(1)
        assert _ready(fleet), "the schema of a release to come suits this one"
    load.check()
    quick = [took for kind, times in load.met.times.items() if kind != "poll" for took in times]
    assert max(quick) < 8, "nobody waits for as long as the lock is held, but for a try of two seconds"
    assert fleet.sql("SELECT count(*) FROM moods") == [(0,)]


def _ready(fleet: Fleet) -> bool:
    for port in fleet.balancer.nodes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            if answer.status != 200:
                return False
    return True
