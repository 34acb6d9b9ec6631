"""kill -9 of workers in the midst of their work: another finishes it, and each clip goes live exactly once.

PALETTA_TEST_WORKER_KILLS sets how many workers die (the suite's 6 take about a minute).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.proxy import Exchange, FaultProxy, Step
from tests.faults.site import Server, Site, StoreAddress, runs
from tests.support import media

if TYPE_CHECKING:
    from tests.support.stack import Addresses

KILLS = runs("PALETTA_TEST_WORKER_KILLS", 6)
CLIPS = 4
AT_ONCE = 6  # workers that die per seed, one after the other
KINDS = ("fetch", "store", "work")


@dataclass(frozen=True)
class Moment:
    """When a worker dies: at the `nth` such request of it to the store, or `after` so many seconds from then."""

    method: str
    step: Step
    nth: int = 1
    after: float = 0.0


def moments_of(seed: int, count: int) -> list[Moment]:
    """At least one of each kind, as far as `count` goes, in any order."""
    draw = random.Random(seed)
    kinds = [*KINDS, *(draw.choice(KINDS) for _ in range(count - len(KINDS)))][:count]
    draw.shuffle(kinds)
    return [moment(draw, kind) for kind in kinds]


def moment(draw: random.Random, kind: str) -> Moment:
    """What a worker asks of the store tells how far it is: it fetches the original, then stores what it made."""
    if kind == "fetch":
        return Moment("GET", draw.choice(("head", "replied", "done")))
    if kind == "store":
        return Moment("PUT", draw.choice(("head", "body", "done")), nth=draw.randint(1, 6))
    # Verifying, probing and transcoding: nobody outside hears of them, so the clock decides.
    return Moment("GET", "done", after=round(draw.uniform(0.02, 1.5), 3))


@pytest.fixture
def site(stack: Addresses, worker_name: str, tmp_path: Path) -> Iterator[Site]:
    from tests.support.stack import make_database

    made = Site(
        tmp_path / "site",
        make_database(stack, f"paletta_workers_{worker_name}"),
        StoreAddress(stack.endpoint, stack.access_key, stack.secret_key),
        f"workers-{worker_name}",
        # A worker is missed after five seconds, and no clip runs out of attempts.
        settings={"STALLED_SECONDS": "5", "INGEST_ATTEMPTS": "50", "SMTP_PORT": "1"},
    )
    with made:
        yield made
        made.clear()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("real")
    files = [media.clip(folder / f"clip{n}.mp4", seconds=3.2, seed=n, look="gradients") for n in range(CLIPS)]
    lines = [
        "paletta: 1",
        "defaults: {keywords: [tram, lisbon, street, yellow, hill], categories: [transport]}",
    ]
    lines += ["clips:", *(f"- {{file: {one.name}, title: Tram number {one.stem} climbs}}" for one in files)]
    (folder / "paletta.yaml").write_text("\n".join(lines) + "\n")
    return files


@dataclass
class Crew:
    """Workers, each behind a proxy of its own, which tells how far it is and kills it there."""

    site: Site
    deaths: list[str] = field(default_factory=list)
    _died: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _workers: list[tuple[Server, FaultProxy]] = field(default_factory=list)
    _armed: Moment | None = None
    _left: int = 0

    def hire(self) -> None:
        """Start one more worker; from the main thread."""
        proxy = FaultProxy(self.site.store.endpoint).__enter__()
        server = self.site.make_worker(f"worker{len(self._workers)}", S3_ENDPOINT=proxy.url)
        self._workers.append((server, proxy))
        proxy.watch = self._watcher(server)
        server.start()

    def dismiss(self) -> None:
        for _, proxy in self._workers:
            proxy.__exit__()

    def arm(self, moment: Moment) -> None:
        """The worker that reaches this moment dies."""
        self._armed, self._left = moment, moment.nth

    def await_death(self) -> None:
        """Wait until the moment has come."""
        assert self._died.acquire(timeout=60), f"{self._armed} never came; died before: {self.deaths}"

    def _watcher(self, server: Server) -> Callable[[Exchange, Step], None]:
        alive = True

        def kill(why: str) -> None:
            server.kill()
            self.deaths.append(f"{server.name} at {why}")
            self._died.release()

        def watch(exchange: Exchange, step: Step) -> None:
            nonlocal alive
            moment = self._armed
            # What a dead worker asked for still goes through its proxy, when the next one's moment is set already.
            if not alive or moment is None or (exchange.method, step) != (moment.method, moment.step):
                return
            self._left -= 1
            if self._left > 0:
                return
            self._armed, alive = None, False
            if moment.after:
                threading.Timer(moment.after, kill, [f"{moment} of {exchange}"]).start()
            else:
                kill(f"{moment} of {exchange}")

        return watch


@pytest.mark.parametrize("seed", range(max(1, KILLS // AT_ONCE)))
def test_a_killed_workers_clips_are_finished_by_another(
    site: Site, clips: list[Path], tmp_path: Path, seed: int
) -> None:
    moments = moments_of(seed, min(KILLS, AT_ONCE))
    crew = Crew(site)
    try:
        running = site.upload(clips[0].parent, state=tmp_path / "state", until="live")
        for one in moments:
            crew.arm(one)
            crew.hire()
            crew.await_death()
        crew.hire()
        crew.hire()
        done = running.wait()
    finally:
        crew.dismiss()
    told = f"seed {seed}: {moments}\n{crew.deaths}\n{done}"
    assert done.code == 0, told
    site.check(clips)
    assert {item["stage"] for item in done.result["items"]} == {"live"}, told
    made = site.sql("SELECT upload_id FROM ingest_runs WHERE status = 'done'")
    assert len(made) == len(set(made)) == CLIPS, f"each clip is made once\n{told}"
    went_live = site.sql("SELECT upload_id FROM upload_events WHERE stage = 'live'")
    assert len(went_live) == len(set(went_live)) == CLIPS, f"each clip goes live once\n{told}"
    listed = site.sql("SELECT count(*) FROM clips WHERE processing = 'ready' AND review = 'approved'")
    assert listed == [(CLIPS,)], told
    left = site.sql("SELECT status, error FROM ingest_runs WHERE status NOT IN ('done', 'superseded')")
    assert left == [], told
