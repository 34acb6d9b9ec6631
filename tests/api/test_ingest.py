"""From stored bytes to a live clip, with real transcoding; and every way in which that can end otherwise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.ingest.scratch import scratch, sweep_scratch
from tests.conftest import MakeUser
from tests.support import media
from tests.support.stack import MailSink
from tests.support.uploading import Uploader, item

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = media.clip(tmp_path_factory.mktemp("film") / "tram.mp4", seconds=3.2, look="gradients", audio=True)
    return path.read_bytes()


@pytest.fixture
async def up(client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime) -> AsyncIterator[Uploader]:
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    made = Uploader(client, (await make_user("contributor")).headers)
    yield made
    await made.store.aclose()


async def one(runtime: Runtime, query: str) -> Any:
    async with runtime.db.transaction() as session:
        return (await session.execute(text(query))).one()


async def test_a_clip_goes_live_with_everything_made_of_it(
    up: Uploader, run_jobs: RunJobs, film: bytes, mailbox: MailSink
) -> None:
    batch = await up.batch("lisbon")
    sent = await up.send(film, batch, poster_at=1.5)
    await up.call("POST", f"/upload-batches/{batch}/seal")
    await run_jobs()
    clip = await up.call("GET", f"/clips/{sent['clip_id']}")
    assert (clip["stage"], clip["codec"], clip["width"], clip["height"]) == ("live", "h264", 1280, 720)
    assert clip["duration"] == pytest.approx(3.2, abs=0.1)
    assert clip["technical"]["video"]["fps"] == 24
    assert clip["keywords"] == ["tram", "lisbon", "street", "yellow", "hill"]
    assert [tier["tier"] for tier in clip["renditions"]][-1] == "original"
    for kind in ("comp", "loop", "poster", "storyboard", "storyboard_vtt"):
        answer = await up.store.get(clip["media"][kind])
        assert answer.status_code == 200, kind
    posters = (await up.call("GET", f"/clips/{sent['clip_id']}/posters"))["items"]
    assert len(posters) >= 6
    assert [poster["at"] for poster in posters if poster["chosen"]] == [pytest.approx(1.5, abs=0.1)]
    (mail,) = [mail for mail in mailbox.messages if "lisbon" in mail["Subject"]]
    assert mail["Subject"] == "Your upload lisbon: 1 live"
    history = (await up.call("GET", f"/uploads/{sent['upload_id']}"))["history"]
    assert [event["stage"] for event in history] == [
        *["uploading", "stored", "verifying", "probing", "transcoding", "publishing", "live"]
    ]


async def test_bytes_that_are_not_what_was_read_are_refused(
    up: Uploader, run_jobs: RunJobs, film: bytes, runtime: Runtime
) -> None:
    lie = item(film)
    lie["file"]["sha256"] = "0" * 64
    (registered,) = await up.register(await up.batch(), lie)
    await up.put(registered["put"], film)
    await up.complete(registered["upload_id"])
    await run_jobs()
    view = await up.call("GET", f"/uploads/{registered['upload_id']}")
    assert (view["state"], view["stage"], view["uploaded_parts"]) == ("rejected", "rejected", [])
    assert "not the ones that were read" in view["reason"]
    key = (await one(runtime, "SELECT key FROM uploads")).key
    assert await runtime.store.head(key) is None, "what was refused is not kept"


async def test_a_file_that_is_no_film_is_rejected_with_a_reason(up: Uploader, run_jobs: RunJobs) -> None:
    sent = await up.send(os.urandom(5000))
    await run_jobs()
    clip = await up.call("GET", f"/clips/{sent['clip_id']}")
    assert clip["stage"] == "rejected"
    assert clip["reason"]
    assert clip["media"]["comp"] is None


async def test_a_worker_that_dies_each_time_ends_in_failed_and_may_be_tried_again(
    up: Uploader, run_jobs: RunJobs, film: bytes, runtime: Runtime
) -> None:
    sent = await up.send(film)
    async with runtime.db.transaction() as session:
        for attempt in (1, 2, 3):
            await session.execute(
                text(
                    "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix)"
                    " SELECT 'run_dead' || :n, id, clip_id, :n, 'transcoding', 'media/x/' FROM uploads"
                ),
                {"n": attempt},
            )
    await run_jobs()
    view = await up.call("GET", f"/uploads/{sent['upload_id']}")
    assert (view["stage"], view["hint"] is not None) == ("failed", True)
    (again,) = await up.register(await up.batch(), item(film))
    assert (again["outcome"], again["stage"], again["put"]) == ("resumed", "stored", None)
    await run_jobs()
    assert (await up.call("GET", f"/clips/{sent['clip_id']}"))["stage"] == "live"


async def test_an_attempt_that_was_overtaken_changes_nothing(
    up: Uploader, film: bytes, runtime: Runtime
) -> None:
    """Two workers hold the same upload: the later attempt's outputs stand, the zombie's are gone."""
    from paletta_server.ingest import service

    sent = await up.send(film)
    upload_id = (await one(runtime, "SELECT id FROM uploads")).id
    await asyncio.gather(service.run(runtime, upload_id), service.run(runtime, upload_id))
    clip = await up.call("GET", f"/clips/{sent['clip_id']}")
    assert clip["stage"] == "live"
    statuses = []
    async with runtime.db.transaction() as session:
        statuses = list(await session.scalars(text("SELECT status FROM ingest_runs ORDER BY attempt")))
        keys = list(await session.scalars(text("SELECT key FROM renditions")))
    assert sorted(statuses) == ["done", "superseded"]
    assert len({key.split("/")[2] for key in keys}) == 1, "all outputs are one attempt's"


async def test_deleting_a_clip_stops_its_ingest(
    up: Uploader, film: bytes, runtime: Runtime, run_jobs: RunJobs
) -> None:
    sent = await up.send(film)
    await up.call("DELETE", f"/clips/{sent['clip_id']}", 204)
    await run_jobs()
    assert (await one(runtime, "SELECT count(*) AS n FROM ingest_runs")).n == 0
    assert (await one(runtime, "SELECT stage FROM uploads")).stage == "cancelled"
    assert (await up.call("GET", f"/clips/{sent['clip_id']}", 404))["code"] == "not_found"
    assert await runtime.store.head((await one(runtime, "SELECT key FROM uploads")).key) is None


async def test_the_sweep_gives_a_lost_job_back(up: Uploader, film: bytes, runtime: Runtime) -> None:
    from paletta_server.ingest.tasks import sweep

    await up.send(film)
    async with runtime.db.transaction() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
        await session.execute(text("UPDATE uploads SET created_at = now() - interval '10 minutes'"))
    await sweep(runtime)
    await sweep(runtime)
    assert (await one(runtime, "SELECT count(*) AS n FROM procrastinate_jobs")).n == 1


def test_scratch_of_dead_workers_is_swept_whatever_their_process_ids(tmp_path: Path) -> None:
    """In a container every worker has the same one, and of another container's nothing is known."""
    program = (
        "import pathlib, sys; from paletta_server.ingest.scratch import scratch\n"
        "with scratch(pathlib.Path(sys.argv[1]), sys.argv[2]) as folder:\n"
        "    (folder / 'source').write_bytes(b'film'); print('in work', flush=True); sys.stdin.read()"
    )
    workers = {}
    for uid in ("run_killed", "run_alive"):
        argv = [sys.executable, "-c", program, str(tmp_path), uid]
        workers[uid] = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stdout = workers[uid].stdout
        assert stdout is not None
        assert stdout.readline() == b"in work\n"
    # What an earlier version left in a container where we are number 1 now; in what it is at work beside us; and what
    # is none of ours.
    beside = f"{workers['run_alive'].pid}-run_beside"
    for name in (f"{os.getpid()}-run_earlier", beside, "something-else"):
        (tmp_path / name).mkdir()
    (tmp_path / "run_file").touch()
    with scratch(tmp_path, "run_own"):
        workers["run_killed"].kill()
        workers["run_killed"].communicate()
        assert sweep_scratch(tmp_path) == 2, "the killed one's, and the earlier version's"
        left = [beside, "run_alive", "run_file", "run_own", "something-else"]
        assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert (tmp_path / "run_alive" / "source").read_bytes() == b"film"
    workers["run_alive"].communicate()
    assert sweep_scratch(tmp_path) == 1, "its worker has ended"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run_file", "something-else"]


def test_a_scratch_folder_that_is_swept_while_it_is_made_is_made_again(tmp_path: Path) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            sweep_scratch(tmp_path)

    sweepers = [threading.Thread(target=sweep) for _ in range(3)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for turn in range(300):
            with scratch(tmp_path, f"run_{turn}") as folder:
                (folder / "source").write_bytes(b"film")
                assert (folder / "source").exists()
    finally:
        stop.set()
        for sweeper in sweepers:
            sweeper.join()


async def test_a_worker_stopped_after_the_switch_leaves_the_clip_whole(
    up: Uploader, film: bytes, runtime: Runtime, run_jobs: RunJobs
) -> None:
    """The stop may come while the last transaction commits: then the outputs are the clip's."""
    from paletta_server.ingest import ending
    from paletta_server.ingest.runs import Attempt
    from paletta_server.uploads import ingestion

    sent = await up.send(film)
    await run_jobs()
    row = await one(runtime, "SELECT id, upload_id, clip_id, uid, attempt, prefix FROM ingest_runs")
    source = ingestion.Source(row.upload_id, row.clip_id, sent["clip_id"], 1, "key", 1, "0" * 64, None)
    await ending.hand_back(runtime, source, Attempt(row.id, row.uid, row.prefix))
    assert (
        await one(runtime, "SELECT count(*) AS n FROM procrastinate_jobs WHERE task_name = 'ingest.discard'")
    ).n == 0
    clip = await up.call("GET", f"/clips/{sent['clip_id']}")
    assert (await up.store.get(clip["media"]["comp"])).status_code == 200


async def test_outputs_of_an_attempt_that_lost_its_worker_are_discarded(
    up: Uploader, film: bytes, runtime: Runtime, run_jobs: RunJobs
) -> None:
    await up.send(film)
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix)"
                " SELECT 'run_dead', id, clip_id, 1, 'publishing', 'media/clip_x/run_dead/' FROM uploads"
            )
        )
    await run_jobs()
    args = (await one(runtime, "SELECT args FROM procrastinate_jobs WHERE task_name = 'ingest.discard'")).args
    assert args == {"prefix": "media/clip_x/run_dead/"}


async def test_a_store_that_is_away_costs_no_attempt(
    up: Uploader, film: bytes, runtime: Runtime, run_jobs: RunJobs
) -> None:
    from paletta_server.core.storage import ObjectStore
    from paletta_server.embedded.ports import free_ports
    from paletta_server.ingest import ending, service

    sent = await up.send(film)
    upload_id = (await one(runtime, "SELECT id FROM uploads")).id
    nowhere = runtime.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"})
    async with ObjectStore(nowhere) as store:
        away = replace(runtime, store=store)
        for waits in (0, 3, ending.MOST_WAITS - 1):
            await service.run(away, upload_id, waits=waits)
        assert (await up.call("GET", f"/uploads/{sent['upload_id']}"))["stage"] == "stored"
        assert (await one(runtime, "SELECT count(*) AS n FROM ingest_runs")).n == 0
        async with runtime.db.transaction() as session:
            later = await session.execute(
                text(
                    "SELECT (args->>'waits')::int, round(extract(epoch FROM scheduled_at - now()))::int"
                    " FROM procrastinate_jobs WHERE task_name = 'ingest.run' AND args ? 'waits' ORDER BY id"
                )
            )
            found = [(waits, pytest.approx(seconds, abs=20)) for waits, seconds in later]
        assert found == [(1, 10), (4, 80), (ending.MOST_WAITS, ending.LONGEST_WAIT_SECONDS)]
        await run_jobs()
        assert (await up.call("GET", f"/clips/{sent['clip_id']}"))["stage"] == "live"


async def test_a_store_that_stays_away_for_a_day_ends_in_failed(
    up: Uploader, film: bytes, runtime: Runtime
) -> None:
    from paletta_server.core.storage import ObjectStore
    from paletta_server.embedded.ports import free_ports
    from paletta_server.ingest import ending, service

    sent = await up.send(film)
    upload_id = (await one(runtime, "SELECT id FROM uploads")).id
    nowhere = runtime.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"})
    async with ObjectStore(nowhere) as store:
        await service.run(replace(runtime, store=store), upload_id, waits=ending.MOST_WAITS)
    view = await up.call("GET", f"/uploads/{sent['upload_id']}")
    assert (view["stage"], view["reason"]) == (
        "failed",
        "the object store or the database was away for a day",
    )


async def test_a_clip_that_failed_says_what_failed(
    up: Uploader, film: bytes, runtime: Runtime, tmp_path: Path
) -> None:
    from paletta_server.ingest import service

    sent = await up.send(film)
    upload_id = (await one(runtime, "SELECT id FROM uploads")).id
    (tmp_path / "full").touch()
    settings = runtime.settings.model_copy(update={"scratch_dir": tmp_path / "full"})
    for _ in range(settings.ingest_attempts):
        await service.run(replace(runtime, settings=settings), upload_id)
    view = await up.call("GET", f"/uploads/{sent['upload_id']}")
    assert (view["stage"], view["reason"]) == (
        "failed",
        "processing failed 3 times: the worker's disk or system: Not a directory",
    )
