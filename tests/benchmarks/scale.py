"""`make bench-scale`: what more workers and more nodes bring on this machine, and what stands in their way.

Ingest: the same films, waiting in the queue, for 1, 2 and 4 workers; from the first attempt's begin to the last one's
end by the database's clock. API: searches, clips' pages and carts, mixed, from kept-alive connections through nginx to
1 and to 2 nodes. Ratios are to the first row of each table. The rows take turns, there and back (1, 2, 4, 4, 2, 1), and
each is told by all of its turns together, so that a machine that grows slower or faster meanwhile does so for all.

Which limit was met is measured: the share of the machine that was busy, and whose processes those were (sampled ten
times a second; what others did meanwhile shows as the difference, and what a process did after the last look),
whether each API process had all of the one core that its event loop can have, and how many statements ran or waited
in the database. On two cores one worker's ffmpeg uses both already, so that ratios beyond 1 come from what a film
waits for: downloads, commits, single-threaded steps. What the same rows mean for more machines is in
`deploy/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from paletta_server.core.settings import Settings
from tests.benchmarks import api
from tests.benchmarks.search import fill, grounds, percentile
from tests.faults.site import StoreAddress
from tests.support import media
from tests.support.fleet import Fleet
from tests.support.stack import make_database

WORKERS, NODES = (1, 2, 4), (1, 2)
BUSY = 0.9
"""From this share of all cores on the CPU is the limit."""
ENOUGH = 2.0
"""Statements at work per core from which on the database is."""
A_CORE = 0.85
"""From this share of a core on an API process has no more to give: Python runs its event loop on one."""
WARM_SECONDS = 8.0
"""Until caches are warm: those of PostgreSQL, of the index, of compiled queries."""
PASSWORD = "eleven lanterns over a quiet harbour"


@dataclass
class Use:
    """What the machine did meanwhile: CPU seconds by role, the share that was busy, statements in the database."""

    seconds: float = 0.0
    cpu: Counter[str] = field(default_factory=Counter)
    busy: float = 0.0
    statements: list[int] = field(default_factory=list)
    connections: int = 0
    """To the database, at most; ours not counted."""
    writing: float = 0.0
    """Share of the time in which the disks were waited for."""
    nodes: list[float] = field(default_factory=list)
    """CPU of each API process that answered, in cores."""

    def add(self, other: Use) -> None:
        """Another turn of the same: shares are weighed by time."""
        whole = self.seconds + other.seconds
        for name in ("busy", "writing"):
            both = getattr(self, name) * self.seconds + getattr(other, name) * other.seconds
            setattr(self, name, both / whole)
        self.seconds = whole
        self.cpu.update(other.cpu)
        self.statements += other.statements
        self.connections = max(self.connections, other.connections)
        self.nodes += other.nodes

    @property
    def limit(self) -> str:
        cores = os.cpu_count() or 1
        ours = sum(self.cpu.values()) / (self.seconds * cores)
        if self.busy >= BUSY:
            role, most = self.cpu.most_common(1)[0]
            others = self.busy - ours
            told = f"CPU ({role} {most / (self.seconds * cores):.0%} of it"
            return told + (f", others' work {others:.0%})" if others > 0.05 else ")")
        if self.nodes and min(self.nodes) >= A_CORE:
            each = sum(self.nodes) / len(self.nodes)
            return f"the one core of an API process (each used {each:.2f}, its threads included)"
        if self.writing > 0.3:
            return f"disk (waited for {self.writing:.0%} of the time)"
        at_work = sum(self.statements) / max(1, len(self.statements))
        if at_work > ENOUGH * cores:
            return f"database ({at_work:.1f} statements at once)"
        return f"waiting: {1 - self.busy:.0%} of the CPU idle, a film's or a client's steps come one by one"


def _role(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    for name, role in (
        # "nginx: worker process" and PostgreSQL's "parallel worker" are none of ours.
        *(("nginx", "nginx"), ("postgres", "database"), ("weed", "store")),
        *((" worker", "worker"), (" api", "api")),
    ):
        if name in words:
            return role
    return "client"


def _spent(process: psutil.Process, roles: dict[int, str], under: str = "") -> Iterator[tuple[int, float]]:
    """CPU seconds of a process and of those below it; what a worker runs is the worker's. What a process spends after
    the last look at it is lost, and shows as others' work."""
    with contextlib.suppress(psutil.Error):
        if process.pid not in roles:
            roles[process.pid] = under or _role(process)
        times = process.cpu_times()
        yield process.pid, times.user + times.system
        under = "worker" if roles[process.pid] == "worker" else ""
        for child in process.children():
            yield from _spent(child, roles, under)


@contextlib.contextmanager
def watched(url: str, nodes: int = 0) -> Iterator[Use]:
    """`nodes` is how many API processes are asked."""
    use, stop = Use(), threading.Event()
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    roles: dict[int, str] = {}
    me = psutil.Process()

    def sample(*, beginning: bool = False) -> None:
        for pid, spent in _spent(me, roles):
            first.setdefault(pid, spent if beginning else 0.0)
            last[pid] = spent

    def look() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not stop.wait(0.1):
                sample()
                [(active, there)] = connection.execute(
                    "SELECT count(*) FILTER (WHERE state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'),"
                    " count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
                ).fetchall()
                use.statements.append(active)
                use.connections = max(use.connections, there)

    sample(beginning=True)
    before, began = psutil.cpu_times(), time.perf_counter()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield use
    finally:
        use.seconds = time.perf_counter() - began
        after = psutil.cpu_times()
        stop.set()
        thread.join(5)
        sample()
        spent = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
        whole = sum(spent[name] for name in after._fields if not name.startswith("guest"))
        use.writing = spent.get("iowait", 0.0) / whole
        use.busy = 1 - (spent["idle"] + spent.get("iowait", 0.0)) / whole
        for pid, seconds in last.items():
            use.cpu[roles[pid]] += seconds - first[pid]
        cores = [(last[pid] - first[pid]) / use.seconds for pid in last if roles[pid] == "api"]
        use.nodes = sorted(cores, reverse=True)[:nodes]


# ---- ingest


def ingest(stack: Any, folder: Path, films: int) -> None:
    source = folder / "films"
    source.mkdir()
    lines = ["paletta: 1", "defaults:", "  keywords: [tram, lisbon, street, yellow, hill]"]
    lines += ["  categories: [transport]", "clips:"]
    for film in range(films):
        media.clip(source / f"{film}.mp4", seconds=4.0, size=media.FULL_HD, seed=film, look="cells", fps="25")
        lines += [f"- file: {film}.mp4", f"  title: Tram number {film} climbs a street"]
    (source / "paletta.yaml").write_text("\n".join(lines) + "\n")
    print(f"\ningest: {films} films of 4 s, 1920×1080, H.264")
    print(f"{'workers':>8}{'films/min':>11}{'ratio':>7}{'CPU s/film':>12}{'conns':>7}{'busy':>7}  limit")
    uses = {workers: Use() for workers in WORKERS}
    seconds = Counter[int]()
    for turn, workers in enumerate((*WORKERS, *reversed(WORKERS))):
        took, use = _ingest(stack, folder / f"ingest-{turn}", source, films, workers)
        seconds[workers] += took
        uses[workers].add(use)
    for workers, use in uses.items():
        rate, base = (120 * films / seconds[one] for one in (workers, WORKERS[0]))
        a_film = (use.cpu["worker"] + use.cpu["database"] + use.cpu["store"]) / (2 * films)
        row = (
            f"{workers:>8}{rate:>11.1f}{rate / base:>7.2f}{a_film:>12.2f}{use.connections:>7}{use.busy:>7.0%}"
        )
        print(f"{row}  {use.limit}", flush=True)


def _ingest(stack: Any, folder: Path, source: Path, films: int, workers: int) -> tuple[float, Use]:
    """Seconds for all of them, and what the machine did meanwhile."""
    url = make_database(stack, "paletta_scale")
    store = StoreAddress(stack.endpoint, stack.access_key, stack.secret_key)
    with Fleet(folder, url, store, f"scale-{workers}", nodes=1, workers=0) as fleet:
        fleet.sql("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')")
        token = fleet.person("ana@example.org", "contributor", PASSWORD)
        sent = fleet.paletta("upload", str(source), "--until", "uploaded", token=token, home=folder / "home")
        if sent.returncode:
            raise SystemExit(sent.stderr)
        fleet.sql(
            "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE queue_name = 'ingest'"
        )
        hands = [fleet.make_worker(number).start() for number in range(workers)]
        try:
            with watched(url) as use:
                fleet.sql("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE queue_name = 'ingest'")
                while fleet.sql("SELECT 1 FROM clips WHERE processing NOT IN ('ready', 'failed') LIMIT 1"):
                    time.sleep(0.1)
        finally:
            for worker in hands:
                worker.kill()
        [(seconds, done)] = fleet.sql(
            "SELECT extract(epoch FROM max(finished_at) - min(created_at))::float, count(*) FROM ingest_runs"
            " WHERE status = 'done'"
        )
    if done != films:
        raise SystemExit(f"{films - done} films were not done")
    return seconds, use


# ---- API


def requests(stack: Any, folder: Path, clips: int, seconds: float) -> None:
    url = make_database(stack, "paletta_scale")
    catalogue = fill(stack, url, clips)
    tokens, operator = asyncio.run(api.people(Settings(_env_file=None, database_url=url)))
    asked = api.questions(catalogue)
    noise = random.Random(3)
    mix = [path for kind in ("browse", "detail", "cart") for path in noise.choices(asked[kind], k=200)]
    noise.shuffle(mix)
    print(
        f"\nAPI: {clips:,} clips, {api.CLIENTS} clients through nginx, a third each of searches, clips' pages, carts"
    )
    head = f"{'nodes':>8}{'requests/s':>12}{'ratio':>7}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'conns':>7}"
    print(f"{head}{'busy':>7}  limit")
    store = StoreAddress(stack.endpoint, stack.access_key, stack.secret_key)
    uses = {nodes: Use() for nodes in NODES}
    answers = {nodes: api.Answers() for nodes in NODES}
    with contextlib.ExitStack() as started:
        fleets = {
            nodes: started.enter_context(
                Fleet(
                    folder / f"api-{nodes}", url, store, "scale-api", nodes=nodes, workers=0,
                    # Patient, for a refusal is no throughput.
                    settings={
                        "LOG_LEVEL": "WARNING", "DATABASE_POOL_SIZE": "10", "DATABASE_WAIT_SECONDS": "60",
                        "DRAIN_SECONDS": "0"
                    },
                )
            )
            for nodes in NODES
        }  # fmt: skip
        api.furnish(fleets[NODES[0]].url, catalogue, tokens, operator)
        pid = os.getpid()
        for fleet in fleets.values():
            for port in fleet.balancer.nodes:
                api.wait_for(f"http://127.0.0.1:{port}", catalogue)
            asyncio.run(api.load(fleet.url, tokens, mix, WARM_SECONDS, pid))
        for nodes in (*NODES, *reversed(NODES)):
            with watched(url, nodes) as use:
                found = asyncio.run(api.load(fleets[nodes].url, tokens, mix, seconds / 2, pid))
            uses[nodes].add(use)
            answers[nodes].seconds += found.seconds
            answers[nodes].times += found.times
    for nodes, use in uses.items():
        times, rate = answers[nodes].times, answers[nodes].rate
        each = 1000 * (use.cpu["api"] + use.cpu["database"]) / len(times)
        print(
            f"{nodes:>8}{rate:>12.0f}{rate / answers[NODES[0]].rate:>7.2f}{percentile(times, 0.5):>9.1f}"
            f"{percentile(times, 0.99):>9.1f}{each:>9.2f}{use.connections:>7}{use.busy:>7.0%}  {use.limit}",
            flush=True,
        )
        print(
            " " * 8 + "CPU ms of a request: "
            + ", ".join(f"{role} {1000 * spent / len(times):.2f}" for role, spent in use.cpu.most_common())
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--clips", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="of requests, for each number of nodes")
    options = parser.parse_args()
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load before: {load}")
    with grounds() as (stack, folder):
        requests(stack, folder, options.clips, options.seconds)
        ingest(stack, folder, options.films)


if __name__ == "__main__":
    main()
