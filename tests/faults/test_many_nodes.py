"""Contributors upload and customers buy at a service of two nodes behind nginx, three workers and two handlers of what
MediaConvert tells, while those are killed one after the other (SIGKILL) and come back: nothing is lost, nothing is
there twice, the ledger is exact. Transcoding is the simulator's, whose events come late, twice, out of order or never.

The witness is nginx's log: a request may fail only if it was in the hands of the node that was killed at that moment.
What only reads does not fail at all, unless a part of the answer had left already. Three requests are held until their
node is dead, at the worst moment there is: done, and nobody was told (`Held`). They fail once, are sent again by the
command that sent them, and then succeed.

Seeded; PALETTA_TEST_FLEET_SEEDS sets how many plans are run.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import psutil
import psycopg
import pytest

from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.earnings import service as earnings
from tests.faults.site import Server, StoreAddress, runs
from tests.support import media
from tests.support.fleet import Access, Fleet, meanwhile
from tests.support.mediaconvert.amazon import CREDENTIALS, amazon
from tests.support.payments import account
from tests.support.shop import BOOK

if TYPE_CHECKING:
    from tests.support.stack import Addresses

PASSWORD = "eleven lanterns over a quiet harbour"
SEEDS = range(1, 1 + runs("PALETTA_TEST_FLEET_SEEDS", 1))
GAVE_UP = 5
"""How `paletta` ends when it got no answer."""
FILMS, BUYERS = 3, 2
"""Films of each of the two contributors."""
KILLED_TOO_LATE = 0.15
"""Seconds that may pass between our note of a kill and the moment when nginx knows: its clock is as coarse."""


@pytest.fixture
def fleet(stack: Addresses, worker_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    from tests.support.stack import make_database

    with amazon(seed=1) as there:
        made = Fleet(
            tmp_path_factory.mktemp("fleet"),
            make_database(stack, f"paletta_fleet_{worker_name}"),
            StoreAddress(stack.endpoint, stack.access_key, stack.secret_key),
            f"fleet-{worker_name}",
            # Films as small as can be: it is not about transcoding.
            settings={"INGEST_MIN_LONG_EDGE": "320", "INGEST_MIN_SECONDS": "0.5", **there.settings},
            environment=CREDENTIALS,
            extras=[partial(Fleet.make_completions, number=number) for number in range(2)],
        )
        there.connect(made.s3)
        with made:
            yield made


def shoot(folder: Path, number: int) -> dict[str, bytes]:
    """A folder of films and its manifest; their bytes by name."""
    folder.mkdir(parents=True)
    lines = ["paletta: 1", "defaults:", "  keywords: [tram, lisbon, street, yellow, hill]"]
    lines += ["  categories: [transport]", "clips:"]
    for film in range(FILMS):
        seed = number * 100 + film
        media.clip(folder / f"tram{seed}.mp4", seconds=1.0, size=(640, 360), seed=seed, look="cells")
        lines += [f"- file: tram{seed}.mp4", f"  title: Tram number {seed} climbs a street"]
    (folder / "paletta.yaml").write_text("\n".join(lines) + "\n")
    return {path.name: path.read_bytes() for path in folder.glob("*.mp4")}


class Held:
    """One person's requests that wait at their commit while this has them: the node that sent it can be killed, and
    the database does it all the same. Use it as a context manager; it is about the first of each kind.
    """

    KINDS: ClassVar = {
        "register": ("/items", "INSERT ON uploads", "NEW.owner_id"),
        "complete": (
            "/v1/uploads/complete",
            "UPDATE OF state ON uploads",
            "NEW.state = 'stored' AND NEW.owner_id",
        ),
        "checkout": ("/v1/checkout", "INSERT ON orders", "NEW.user_id"),
    }
    CLASS = 7070
    """Of advisory locks; the service's own have one number, not two."""

    def __init__(self, fleet: Fleet, kind: str, email: str) -> None:
        self._fleet, self._kind, self._number = fleet, kind, list(self.KINDS).index(kind)
        self._path, event, whose = self.KINDS[kind]
        [(person,)] = fleet.sql("SELECT id FROM users WHERE email = %s", email)
        fleet.sql(
            "CREATE OR REPLACE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" PERFORM pg_advisory_xact_lock_shared({self.CLASS}, TG_ARGV[0]::int); RETURN NULL; END $$"
        )
        fleet.sql(
            f"CREATE CONSTRAINT TRIGGER held_{kind} AFTER {event} DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW WHEN ({whose} = {person}) EXECUTE FUNCTION held({self._number})"
        )

    def __enter__(self) -> Self:
        self._holder = psycopg.connect(self._fleet.database_url, autocommit=True)
        self._holder.execute("SELECT pg_advisory_lock(%s, %s)", (self.CLASS, self._number))
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.close()

    def kill_its_node(self, token: str) -> None:
        """Wait for the request, kill the node that has it, and see what became of it in the log."""
        node = self._node()
        outage = self._fleet.kill(node, when_dead=self._holder.close)
        mine = [
            one
            for one in self._fleet.balancer.accesses()
            if one.method == "POST" and one.path.endswith(self._path) and one.token == f"Bearer {token}"
        ]
        lost = [
            one
            for one in mine
            if outage.began - KILLED_TOO_LATE <= one.at <= outage.ended and one.status >= 500
        ]
        assert [(one.status, one.nodes) for one in lost] == [(502, f"127.0.0.1:{outage.port}")], (
            self._kind,
            mine,
        )
        self._lost = lost[0]

    def check(self) -> None:
        """The command that lost it has sent it once more, and was told that it is done."""
        later = [
            one
            for one in self._fleet.balancer.accesses()
            if (one.method, one.uri, one.token, one.agent)
            == (self._lost.method, self._lost.uri, self._lost.token, self._lost.agent)
            and one.at > self._lost.at
        ]
        assert "paletta/" in self._lost.agent
        assert any(one.status in (200, 201) for one in later), (self._kind, self._lost, later)

    def _node(self) -> Server:
        """Whose connection to the database waits for our lock."""
        waiting = (
            "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory'"
            " AND NOT granted AND datname = current_database() AND classid = %s AND objid = %s"
        )
        deadline = time.monotonic() + 60
        while not (rows := self._fleet.sql(waiting, self.CLASS, self._number)):
            assert time.monotonic() < deadline, f"nobody sent it: {self._kind}\n{self._fleet.told()}"
            time.sleep(0.01)
        [(name,)] = rows
        pid = int(name.split()[1])
        for node in self._fleet.api:
            assert node.process is not None
            own = psutil.Process(node.process.pid)
            if pid in (own.pid, *(child.pid for child in own.children(recursive=True))):
                return node
        raise AssertionError(f"{name} is none of the nodes")


class Chaos:
    """Kills one process after the other, drawn from a seed, never two at a time, until it is told to stop. Nobody is
    drawn twice before everybody was once, but for the nodes: those have `Held` as well."""

    def __init__(self, fleet: Fleet, seed: str) -> None:
        self._fleet, self._draw = fleet, random.Random(seed)
        behind = [*fleet.work, *fleet.others]
        self._turn = self._draw.sample(behind, len(behind))

    def reign(self, *until: Future[Any], least: int) -> None:
        """While any of these is not done, and over so many processes at least."""
        everybody = [*self._fleet.api, *self._fleet.work, *self._fleet.others]
        while least > 0 or not all(one.done() for one in until):
            victim = self._turn.pop() if self._turn else self._draw.choice(everybody)
            time.sleep(self._draw.uniform(0.0, 0.8))
            self._fleet.kill(victim, away=self._draw.uniform(0.0, 0.5))
            least -= 1
            if len(self._fleet.outages) > 60:
                raise AssertionError(f"it does not come to an end\n{self._fleet.told()}")


def well(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def send(fleet: Fleet, token: str, home: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return fleet.paletta("upload", str(folder), "--until", "live", token=token, home=home)


def buy(fleet: Fleet, token: str, home: Path, clips: list[str]) -> str:
    """Cart, checkout, payment and download as a person does it, who asks how things stand when pressing the button
    came to no answer; the order's number."""
    well(fleet.paletta("cart", "add", *clips, token=token, home=home))
    paying = ["checkout", "--yes"]
    for _ in range(20):
        pressed = fleet.paletta(*paying, "--pay-with", "sandbox:success", token=token, home=home)
        if pressed.returncode != 0:
            _check_button(fleet, token, pressed)
        [order] = json.loads(well(fleet.paletta("orders", "list", "--json", token=token, home=home)).stdout)
        if order["status"] != "pending":
            break
        assert pressed.returncode != 0, f"it said that the order is paid\n{pressed.stderr}"
        paying = ["orders", "pay", order["number"]]
    assert order["status"] == "paid", order
    well(fleet.paletta("orders", "download", order["number"], "--to", "bought", token=token, home=home))
    return str(order["number"])


def _check_button(fleet: Fleet, token: str, pressed: subprocess.CompletedProcess[str]) -> None:
    """A command that pays may fail for one reason: the node died that was told of the button, which nobody presses
    again before they have looked. Where it was pressed after all, the gateway may say so before the shop does."""
    lost = [
        one
        for one in fleet.balancer.accesses()
        if one.token == f"Bearer {token}" and one.status == 502 and one.path.endswith("/sandbox")
    ]
    assert lost, f"{pressed.args}: {pressed.returncode}\n{pressed.stderr}"
    assert pressed.returncode == GAVE_UP or "this checkout is over" in pressed.stderr, pressed.stderr


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_doubled(fleet: Fleet, tmp_path: Path, seed: int) -> None:
    fleet.sql("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport') ON CONFLICT DO NOTHING")
    admin = fleet.person("ada@example.org", "admin", PASSWORD)
    fleet.ask("POST", "/v1/admin/prices/apply", token=admin, body={"document": BOOK})
    sellers = [fleet.person(f"ana{n}@example.org", "contributor", PASSWORD) for n in range(2)]
    buyers = [fleet.person(f"ben{n}@example.org", "customer", PASSWORD) for n in range(BUYERS)]
    films = [shoot(tmp_path / f"shoot{n}", n) for n in range(2)]
    chaos = Chaos(fleet, f"fleet {seed}")
    begun = threading.Event()
    cut: list[float] = []

    def look() -> None:
        """A visitor, who never tries again."""
        try:
            fleet.ask("GET", "/v1/clips?q=tram&limit=50")
        except http.client.IncompleteRead:  # its head had left the node already, so that nginx had to go on
            cut.append(time.time())
        begun.set()
        time.sleep(0.05)  # no test of how much it bears

    with meanwhile(look), ThreadPoolExecutor(4) as pool:
        assert begun.wait(60)
        uploads, held = [], []
        for n, (token, kind) in enumerate(zip(sellers, ("register", "complete"), strict=True)):
            with Held(fleet, kind, f"ana{n}@example.org") as one:
                uploads.append(pool.submit(send, fleet, token, tmp_path / f"s{n}", tmp_path / f"shoot{n}"))
                one.kill_its_node(token)
            held.append(one)
        chaos.reign(*uploads, least=3)
        for upload in uploads:
            well(upload.result())
        clips = {
            str(uid): str(sha256)
            for uid, sha256 in fleet.sql("SELECT uid, sha256 FROM clips WHERE processing = 'ready'")
        }
        _until_found(fleet, set(clips))
        wanted = sorted(clips)
        with Held(fleet, "checkout", "ben0@example.org") as one:
            purchases = [
                pool.submit(buy, fleet, token, tmp_path / f"b{n}", wanted[n::2])
                for n, token in enumerate(buyers)
            ]
            one.kill_its_node(buyers[0])
        held.append(one)
        chaos.reign(*purchases, least=2)
        numbers = [purchase.result() for purchase in purchases]
    for one in held:
        one.check()
    _until_idle(fleet)
    told = f"seed {seed}\n" + "\n".join(map(str, fleet.outages))
    _check_films(fleet, films, told)
    _check_sales(fleet, numbers, told)
    _check_files(tmp_path, numbers, wanted, clips)
    _check_mails(fleet, told)
    _check_jobs(fleet, told)
    _check_accesses(fleet, told)
    for at in cut:
        died = [one for one in fleet.outages if one.port is not None and one.began <= at <= one.ended]
        assert died, f"an answer was cut off at {at}\n{told}"


def _until_found(fleet: Fleet, uids: set[str]) -> None:
    """Both replicas catch up, whatever happened to their nodes."""
    deadline = time.monotonic() + 60
    for port in fleet.balancer.nodes:
        while uids != (found := _found_at(port)):
            assert time.monotonic() < deadline, f"{port}: {uids ^ found}\n{fleet.told()}"
            time.sleep(0.1)


def _found_at(port: int) -> set[str]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/clips?q=tram&limit=50", timeout=30) as answer:
        return {item["id"] for item in json.load(answer)["items"]}


def _until_idle(fleet: Fleet) -> None:
    """What is due is done: also that of workers which were killed, once they have been silent for long enough, and what
    waits for another try: a job that never comes to its end waits longer each time."""
    due = (
        "SELECT id, task_name, status::text, attempts FROM procrastinate_jobs WHERE status = 'doing'"
        " OR (status = 'todo'"
        " AND (attempts > 0 OR coalesce(scheduled_at, now()) <= now() + interval '30 seconds'))"
    )
    deadline = time.monotonic() + 90
    while rows := fleet.sql(due):
        assert time.monotonic() < deadline, f"{rows}\n{fleet.told()}"
        time.sleep(0.2)


def _check_films(fleet: Fleet, films: list[dict[str, bytes]], told: str) -> None:
    sent = sorted(hashlib.sha256(data).hexdigest() for folder in films for data in folder.values())
    rows = fleet.sql("SELECT sha256, processing, review, original_key FROM clips ORDER BY sha256")
    assert [row[0] for row in rows] == sent, f"each film is one clip\n{told}"
    assert {row[1:3] for row in rows} == {("ready", "approved")}, told
    for sha256, _, _, key in rows:
        stored = fleet.s3.get_object(Bucket=fleet.bucket, Key=key)["Body"].read()
        assert hashlib.sha256(stored).hexdigest() == sha256, told
    assert fleet.sql("SELECT DISTINCT state, stage FROM uploads") == [("verified", "live")], told
    assert fleet.sql("SELECT count(*) FROM transcode_jobs WHERE status = 'complete'") == [(len(sent),)], told
    assert fleet.sql("SELECT count(*) FROM uploads") == [(len(sent),)], told
    made = fleet.sql("SELECT key, size FROM renditions")
    assert len(made) > len(sent), told
    for key, size in made:
        assert fleet.s3.head_object(Bucket=fleet.bucket, Key=key)["ContentLength"] == size, told


def _check_sales(fleet: Fleet, numbers: list[str], told: str) -> None:
    rows = fleet.sql("SELECT id, number, status FROM orders ORDER BY number")
    assert [(row[1], row[2]) for row in rows] == [(number, "paid") for number in sorted(numbers)], told
    [(items, rights, owners)] = fleet.sql(
        "SELECT (SELECT count(*) FROM order_items), (SELECT count(*) FROM entitlements WHERE status = 'granted'),"
        " (SELECT count(DISTINCT (user_id, clip_id)) FROM entitlements)"
    )
    assert items == rights == owners == 2 * FILMS, told

    async def books() -> None:
        settings = Settings(_env_file=None, database_url=fleet.database_url, s3_endpoint=fleet.store.endpoint)
        async with Runtime.open(settings) as runtime:
            for order_id, _, _ in rows:
                (await account(runtime, order_id)).check()
            async with runtime.db.transaction() as session:
                assert await earnings.differences(session) == [], told

    asyncio.run(books())
    assert fleet.sql("SELECT count(*) FROM royalties") == [(items,)], told


def _check_files(folder: Path, numbers: list[str], wanted: list[str], clips: dict[str, str]) -> None:
    for n, number in enumerate(numbers):
        found = sorted((folder / f"b{n}" / "bought" / number).glob("*.mp4"))
        sums = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in found)
        assert sums == sorted(clips[uid] for uid in wanted[n::2]), found


def _check_mails(fleet: Fleet, told: str) -> None:
    """Each mail arrived; one that was sent twice, because a worker died before it could note that, is the same mail."""
    written = fleet.sql("SELECT recipient, subject, sent_at IS NOT NULL FROM outbox_emails")
    assert all(sent for _, _, sent in written), f"{written}\n{told}"
    arrived = {
        str(mail["Message-ID"]): (str(mail["X-Envelope-To"]), str(mail["Subject"]))
        for mail in fleet.mail.messages
    }
    assert Counter(arrived.values()) == Counter((to, subject) for to, subject, _ in written), told
    paid = Counter(to for to, subject in arrived.values() if to.startswith("ben") and "P-20" in subject)
    assert paid == Counter({f"ben{n}@example.org": 1 for n in range(BUYERS)}), f"{arrived}\n{told}"


def _check_jobs(fleet: Fleet, told: str) -> None:
    """What is left was never begun: its time is to come."""
    left = "SELECT task_name, args, status::text, attempts FROM procrastinate_jobs"
    assert fleet.sql(f"{left} WHERE status <> 'todo' OR attempts > 0") == [], told


def _check_accesses(fleet: Fleet, told: str) -> None:
    accesses = fleet.balancer.accesses()
    kills = [(f"127.0.0.1:{one.port}", one.began) for one in fleet.outages if one.port is not None]
    assert len(kills) >= 2
    assert len(accesses) > 200
    for one in accesses:
        if one.status < 500:
            continue
        in_its_hands = any(
            node in one.nodes and one.began - KILLED_TOO_LATE <= killed <= one.at + KILLED_TOO_LATE
            for node, killed in kills
        )
        assert in_its_hands, f"{one}\n{told}\n{fleet.told()}"
        alone = one.method in ("GET", "HEAD") and not _others_were_there(fleet, one)
        assert alone or one.method not in ("GET", "HEAD"), f"another node would have answered: {one}\n{told}"


def _others_were_there(fleet: Fleet, one: Access) -> bool:
    """Whether nginx knew of another node when the request began; of one that came back later it does not ask."""
    others = [port for port in fleet.balancer.nodes if str(port) not in one.nodes]
    return any(
        not any(
            outage.port == port
            and outage.began - KILLED_TOO_LATE <= one.began <= outage.ended + KILLED_TOO_LATE
            for outage in fleet.outages
        )
        for port in others
    )
