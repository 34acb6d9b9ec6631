"""Clips on their way through MediaConvert while events are lost, late, doubled and out of order, requests are throttled
or unheard, workers die, and people change their minds: each clip ends right, none twice, none stuck.

PALETTA_TEST_SCHEDULES sets how many schedules there are (the suite's 200 take a minute; `make schedules` runs 1,000).
PALETTA_TEST_SEEDS=17,230 runs these alone, and PALETTA_TEST_STEPS=9 no more than so many steps of each: a schedule that
fails says the fewest steps with which it still does.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from PIL import Image
from psycopg.rows import namedtuple_row
from sqlalchemy import text

from paletta_server.accounts import service as accounts
from paletta_server.accounts.security import Principal
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports
from paletta_server.ingest.checkup import Decoded
from paletta_server.ingest.frames import Poster
from paletta_server.ingest.mediaconvert import completions, events, reconcile, submit
from paletta_server.ingest.mediaconvert.api import Api
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.plan import plan_outputs
from paletta_server.ingest.probe import Probe, Video
from paletta_server.ingest.transcode import MadeFilm, TranscodeResult
from tests.faults.site import runs
from tests.support.mediaconvert.bench import ROLE, s3_client
from tests.support.mediaconvert.bus import envelope
from tests.support.mediaconvert.service import REGION, Job
from tests.support.mediaconvert.wire import Answer
from tests.support.mediaconvert.world import World

SCHEDULES, CHUNKS = runs("PALETTA_TEST_SCHEDULES", 200), 20
STEPS = 30

Enter = Callable[[int], World]


@pytest.fixture
async def here(settings: Settings, tmp_path: Path) -> AsyncIterator[Runtime]:
    """A worker's connections; no API, whose search index would follow each clip."""
    import paletta_server.tasks  # noqa: F401 (every job that may be deferred)

    changed = {"transcoder": "mediaconvert", "mediaconvert_role": ROLE, "scratch_dir": tmp_path / "scratch"}
    async with Runtime.open(settings.model_copy(update=changed)) as runtime:
        yield runtime


@pytest.fixture
async def enter(here: Runtime, tmp_path: Path) -> AsyncIterator[Enter]:
    """`enter(seed)`: a world with a clip of its own."""
    settings = here.settings
    s3 = s3_client(settings)
    s3.put_object(Bucket=settings.s3_bucket, Key="originals/shared", Body=b"an original")
    order, prepared = an_order(), outputs_of(tmp_path)
    async with here.db.transaction() as session:
        user = await accounts.create_user(
            session, email="ana@example.org", password="seven umbrellas", role="admin", verified=True
        )
    operator = Principal(user.id, user.uid, user.email, True, "admin", (), 0)
    async with await psycopg.AsyncConnection.connect(
        settings.libpq_url, autocommit=True, row_factory=namedtuple_row
    ) as observer:
        yield lambda seed: World(here, observer, s3, order, prepared, operator, seed)


def an_order() -> Order:
    video = Video(
        *("h264", "High", 1280, 720, 1280, 720, "1:1", 0, "yuv420p", 8, 24.0, "24/1", 72, 3.0, "progressive"),
        *(False, "tv", "bt709", "bt709", "bt709", 1_000_000, 0.0, 0),
    )
    probe = Probe("mov", "mov", 1_000_000, 3.0, 1_000_000, video, (), 0)
    return Order(plan_outputs(probe), probe, Decoded(72, ()), ("short",), {"download": 0.1})


def outputs_of(folder: Path) -> TranscodeResult:
    """The smallest that can be published. All black, so that no clip is like another."""
    for name in ("comp.mp4", "loop.mp4"):
        (folder / name).write_bytes(b"film")
    for name in ("poster-1500.jpg", "storyboard.jpg"):
        Image.new("RGB", (16, 16)).save(folder / name)
    vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\nstoryboard.jpg#xywh=0,0,16,16\n"
    (folder / "storyboard.vtt").write_text(vtt)
    return TranscodeResult(
        comp=MadeFilm(folder / "comp.mp4", 960, 540, 3.0, "h264", 4),
        loop=MadeFilm(folder / "loop.mp4", 640, 360, 3.0, "h264", 4),
        storyboard=folder / "storyboard.jpg",
        storyboard_vtt=folder / "storyboard.vtt",
        posters=(Poster(folder / "poster-1500.jpg", 1.5, 16, 16, 0.5, chosen=True),),
        renditions=(),
        original_serves=(),
        frames_decoded=72,
        cuts=(),
        warnings=(),
        cpu_seconds=0.0,
    )


def seeds_of(chunk: int) -> list[int]:
    chosen = os.environ.get("PALETTA_TEST_SEEDS")
    if chosen:
        return [int(seed) for seed in chosen.split(",")] if chunk == 0 else []
    size = SCHEDULES // CHUNKS
    return list(range(chunk * size, (chunk + 1) * size))


async def wipe(runtime: Runtime) -> None:
    """End what a schedule left, so that the next one's clip is alone."""
    async with runtime.db.transaction() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
        await session.execute(text("UPDATE transcode_jobs SET status = 'dropped' WHERE status <> 'dropped'"))
        await session.execute(text("UPDATE ingest_runs SET status = 'superseded' WHERE finished_at IS NULL"))
        await session.execute(text("UPDATE uploads SET stage = 'failed'"))


async def fails(enter: Enter, runtime: Runtime, seed: int, steps: int) -> tuple[Exception, list[str]] | None:
    world = enter(seed)
    try:
        await world.run(steps)
    except Exception as error:
        return error, world.trace
    finally:
        await wipe(runtime)
    return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_every_clip_ends_right_whatever_the_schedule(chunk: int, enter: Enter, here: Runtime) -> None:
    steps = int(os.environ.get("PALETTA_TEST_STEPS", STEPS))
    for seed in seeds_of(chunk):
        found = await fails(enter, here, seed, steps)
        if found is None:
            continue
        for fewer in range(steps):
            if (shorter := await fails(enter, here, seed, fewer)) is not None:
                found, steps = shorter, fewer
                break
        error, trace = found
        raise AssertionError(f"seed {seed}, {steps} steps: {error}\n{' '.join(trace)}") from error


async def stage(world: World) -> str:
    return str((await world._state())["stage"])


TWINS = """
WITH runs AS (
  INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix)
  SELECT 'run_' || name, upload_id, clip_id, attempt + place, status, prefix || name || '/'
  FROM ingest_runs, unnest(CAST(:names AS text[])) WITH ORDINALITY AS more (name, place)
  RETURNING id, uid, attempt
)
INSERT INTO transcode_jobs (run_id, clip_id, plan_digest, attempt, "order", status, job_id, submissions, submission,
  submitted_at, created_at)
SELECT r.id, clip_id, plan_digest, r.attempt, "order", status, substr(r.uid, 5), 1, 1, submitted_at,
  created_at + interval '1 second' * r.attempt
FROM transcode_jobs, runs r
"""
"""More attempts at the one clip, as if each were under way at MediaConvert."""


async def more_attempts(world: World, names: list[str]) -> None:
    """`TWINS`, with their jobs there."""
    (job,) = world.service.running()
    await world._execute(TWINS, names=names)
    for name in names:
        metadata = {**job.metadata, "run": f"run_{name}"}
        world.service.jobs[name] = replace(job, id=name, request={**job.request, "UserMetadata": metadata})


async def begun(enter: Enter, seed: int) -> World:
    """A clip whose job runs at MediaConvert, and no surprises."""
    world = enter(seed)
    world.quiet = True
    world.bus._drop = world.bus._repeat = 0
    await world._make()
    while await world.work():
        pass
    assert [job.status for job in world.service.running()] == ["SUBMITTED"]
    return world


async def test_only_so_many_jobs_are_open_and_the_next_follows_when_one_ends(
    enter: Enter, here: Runtime
) -> None:
    first = enter(1)
    first.quiet = True
    changed = here.settings.model_copy(update={"mediaconvert_open_max": 2})
    worlds = [first, *(enter(seed) for seed in (2, 3))]
    for world in worlds:
        # All of them at one service.
        world.service, world.api, world.bus, world.quiet = first.service, first.api, first.bus, True
        world.runtime = replace(here, settings=changed)
    first.service.on_change = first.bus.on_change
    first.bus._drop = first.bus._repeat = 0
    for world in worlds:
        await world._make()
        while await world.work():
            pass
    assert first.service.created == 2
    await first._complete(first.service.running()[0])
    while first.bus.under_way:
        await first.deliver()
    while await first.work():
        pass
    assert first.service.created == 3
    stages = [await stage(world) for world in worlds]
    assert sorted(stages) == ["live", "transcoding", "transcoding"]


async def test_unknown_events_are_kept_and_nonsense_is_left_to_the_queue(enter: Enter, here: Runtime) -> None:
    world = await begun(enter, 1)
    (job,) = world.service.running()
    body = envelope(job, "SOMETHING_NEW", event_id="new")
    assert await completions.handle(here, body) == "unknown status"
    assert await completions.handle(here, body) == "repeated"
    foreign = Job("1-foreign", {"UserMetadata": {"run": "run_ofothers"}}, world.service.now())
    assert await completions.handle(here, envelope(foreign, "COMPLETE")) == "not ours"
    with pytest.raises(events.Malformed):
        await completions.handle(here, "{}")
    async with here.db.transaction() as session:
        found = await session.execute(text("SELECT outcome FROM transcode_events ORDER BY id"))
        assert [outcome for (outcome,) in found] == ["unknown status", "not ours"]
    assert await stage(world) == "transcoding"


async def test_another_accounts_word_of_our_job_is_not_believed(enter: Enter, here: Runtime) -> None:
    world = await begun(enter, 1)
    (job,) = world.service.running()
    told = json.loads(envelope(job, "COMPLETE"))
    for account in ("999999999999", None):
        forged = {**told, "id": f"forged-{account}", "account": account}
        assert await completions.handle(here, json.dumps(forged)) == "another account's"
    assert await stage(world) == "transcoding"
    assert (
        await completions.handle(
            here, json.dumps({**told, "detail": {**told["detail"], "status": "PROGRESSING"}})
        )
        == "handled"
    )


async def test_without_a_role_any_accounts_word_is_heard(enter: Enter, here: Runtime) -> None:
    """Jobs that are left when MediaConvert is no longer chosen still come to their ends."""
    world = await begun(enter, 1)
    (job,) = world.service.running()
    told = json.loads(envelope(job, "PROGRESSING")) | {"account": "999999999999"}
    bare = replace(here, settings=here.settings.model_copy(update={"mediaconvert_role": None}))
    assert await completions.handle(bare, json.dumps(told)) == "handled"


async def test_a_job_that_never_ends_is_an_attempt_that_failed(enter: Enter, here: Runtime) -> None:
    world = await begun(enter, 1)
    for attempt in range(here.settings.ingest_attempts):
        (job,) = world.service.running()
        await world._execute("UPDATE transcode_jobs SET submitted_at = submitted_at - interval '49 hours'")
        await reconcile.turn(here, world.api)
        while await world.work():
            pass
        assert job.status == "CANCELED", attempt
    state = await world._state()
    assert (state["stage"], state["reason"]) == (
        "failed",
        "processing failed 3 times: the transcoder did not finish within two days",
    )
    assert world.service.running() == []


async def test_an_order_of_another_version_is_ordered_anew_and_holds_nobody_up(
    enter: Enter, here: Runtime
) -> None:
    world = await begun(enter, 1)
    (job,) = world.service.running()
    await world._execute(
        "UPDATE transcode_jobs SET status = 'waiting', job_id = NULL, \"order\" = \"order\" #- '{plan,comp,max_kbps}'"
    )
    assert await submit.submit_waiting(here, world.api) == 0
    assert (await world._state())["jobs"] == ["dropped"]
    while await world.work():
        pass
    again = [one for one in world.service.running() if one is not job]
    assert [one.metadata["attempt"] for one in again] == ["2"]


async def test_a_twin_of_the_same_submission_takes_nothing_from_the_living(
    enter: Enter, here: Runtime
) -> None:
    """Two tries of one request, the second one when its token had run out: both jobs write to one place."""
    world = await begun(enter, 1)
    (ours,) = world.service.running()
    twin = Job("twin-1", ours.request, ours.created_at)
    await world._complete(ours)
    await world._settle()
    assert await stage(world) == "live"
    twin.status = "COMPLETE"
    await completions.handle(here, envelope(twin, "COMPLETE"))
    while await world.work():
        pass
    await world._check()


async def test_a_creation_that_was_not_heard_is_found_or_made_again(enter: Enter, here: Runtime) -> None:
    for fault, created in (("lost", 1), ("error", 1)):
        world = enter(1)
        world.quiet = True
        world.bus._drop = 1.0  # nor is any event
        world.wire.faults.append(fault)
        await world._make()
        while await world.work():
            pass
        assert (await world._state())["jobs"] == ["submitting"]
        await reconcile.turn(here, world.api)
        assert (await world._state())["jobs"] == ["submitting"], "it may still be on its way"
        await world.pass_time(3)
        await reconcile.turn(here, world.api)
        assert (await world._state())["jobs"] == ["submitted"]
        assert world.service.created == created
        for job in world.service.running():
            await world._complete(job)
        await world._settle()
        assert await stage(world) == "live"
        await wipe(here)


async def test_three_questions_in_a_row_that_come_to_nothing_end_a_turn(enter: Enter, here: Runtime) -> None:
    """Now and then one comes to nothing: then the others are asked about. Where none does any more, all can wait."""
    world = await begun(enter, 1)
    names = ["broken-1", "broken-2", "fine", "broken-3", "broken-4", "broken-5", "last"]
    await more_attempts(world, names)
    await world._execute("UPDATE transcode_jobs SET submitted_at = now() - interval '1 hour'")
    asked: list[str] = []
    answer = world.wire.answer

    def sometimes(method: str, url: str, body: bytes) -> Answer:
        name = url.rpartition("/")[2]
        if name in names:
            asked.append(name)
        if name.startswith("broken"):
            return 500, {"__type": "InternalServerErrorException", "message": "something broke"}
        return answer(method, url, body)

    world.wire.answer = sometimes  # type: ignore[method-assign]
    await reconcile.turn(here, world.api)
    assert asked == names[:6]
    asked.clear()
    await reconcile.turn(here, world.api)
    assert asked == ["broken-5", "last"], "those that were asked about have time, and the others their turn"


async def test_what_was_deleted_is_cancelled_there_and_leaves_nothing(enter: Enter) -> None:
    world = await begun(enter, 1)
    (job,) = world.service.running()
    await world.cancel()
    while await world.work():
        pass
    assert job.status == "CANCELED"
    await world._settle()
    await world._check()


async def test_what_runs_on_is_cancelled_whatever_one_of_them_answers(enter: Enter, here: Runtime) -> None:
    """Attempts that are over, and whose cancelling was lost."""
    world = await begun(enter, 1)
    (wanted,) = world.service.running()
    await more_attempts(world, ["stuck", "left"])
    await world._execute(
        "UPDATE ingest_runs SET status = 'superseded' WHERE uid IN ('run_stuck', 'run_left')"
    )
    answer = world.wire.answer

    def refused(method: str, url: str, body: bytes) -> Answer:
        if url.endswith("/stuck"):
            return 500, {"__type": "InternalServerErrorException", "message": "something broke"}
        return answer(method, url, body)

    world.wire.answer = refused  # type: ignore[method-assign]
    await reconcile.turn(here, world.api)
    states = {name: job.status for name, job in world.service.jobs.items()}
    assert (states["stuck"], states["left"], states[wanted.id]) == (wanted.status, "CANCELED", wanted.status)
    world.wire.answer = answer  # type: ignore[method-assign]
    await reconcile.turn(here, world.api)
    assert world.service.jobs["stuck"].status == "CANCELED"


async def test_no_second_attempt_is_begun_while_the_first_is_there(enter: Enter, here: Runtime) -> None:
    world = await begun(enter, 1)
    await world.sweep()
    assert await world.work() is False, "the sweep makes no job"
    await world._ingest()  # the queue promises at least once
    assert (await world._state())["runs"] == ["transcoding"]
    async with here.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM transcode_jobs")) == 1


async def test_a_refused_request_fails_with_words_and_is_not_repeated_for_ever(
    enter: Enter, here: Runtime
) -> None:
    world = enter(1)
    world.quiet = True
    world.wire.answer = lambda *_: (400, {"__type": "BadRequestException", "message": "no such codec"})  # type: ignore[method-assign]
    await world._make()
    while await world.work():
        pass
    state = await world._state()
    assert (state["stage"], state["runs"]) == ("failed", ["failed"] * here.settings.ingest_attempts)
    assert state["reason"] == "processing failed 3 times: the transcoder does not take our jobs"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "ExpiredTokenException"),
        (403, "ForbiddenException"),  # so it answers where iam:PassRole is missing: a stack's mend away
        (403, "RequestTimeTooSkewed"),
        (400, "UnrecognizedClientException"),
        (401, "Unauthorized"),
    ],
)
async def test_while_we_are_not_let_in_films_wait_and_operators_know(
    enter: Enter, here: Runtime, status: int, code: str
) -> None:
    world = enter(1)
    world.quiet = True
    changed = here.settings.model_copy(update={"operator_emails": ["ops@example.org"]})
    world.runtime = replace(here, settings=changed)
    answer = world.wire.answer
    world.wire.answer = lambda *_: (status, {"__type": code, "message": "not you"})  # type: ignore[method-assign]
    await world._make()
    for _ in range(here.settings.ingest_attempts + 1):
        while await world.work():
            pass
        await world.pass_time(40)
        await reconcile.turn(world.runtime, world.api)
    state = await world._state()
    assert (state["stage"], state["runs"], state["jobs"]) == ("transcoding", ["transcoding"], ["waiting"])
    mails = await world._rows(
        "SELECT body FROM outbox_emails WHERE starts_with(dedup_key, 'mediaconvert-denied:')"
    )
    assert 1 <= len(mails) <= 2, "once a day, and this may be midnight"
    assert f"{code}: not you" in mails[0].body
    world.wire.answer = answer  # type: ignore[method-assign]
    await world._settle()
    assert await stage(world) == "live"


async def test_without_credentials_films_wait_too(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    world = enter(1)
    world.quiet = True
    # A session of its own: boto3's default one keeps the credentials that another test gave it.
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    fresh: Any = boto3.session.Session()
    world.api = Api(fresh.client("mediaconvert", region_name=REGION, endpoint_url=nowhere))
    await world._make()
    while await world.work():
        pass
    assert (await world._state())["jobs"] == ["waiting"]


async def test_a_job_heard_of_after_its_attempt_was_refused_is_stopped(enter: Enter, here: Runtime) -> None:
    world = await begun(enter, 1)
    (job,) = world.service.running()
    await world._execute("UPDATE transcode_jobs SET status = 'error', job_id = NULL, submission = NULL")
    await world._execute("UPDATE ingest_runs SET status = 'failed', finished_at = now()")
    assert await completions.handle(here, envelope(job, "PROGRESSING", event_id="late")) == "stray"
    while await world.work():
        pass
    assert job.status == "CANCELED"
    (row,) = await world._rows("SELECT job_id, status FROM transcode_jobs ORDER BY id LIMIT 1")
    assert (row.job_id, row.status) == (None, "error")


async def test_a_second_job_for_one_attempt_is_stopped_and_leaves_nothing(
    enter: Enter, here: Runtime
) -> None:
    world = enter(1)
    world.quiet = True
    world.bus._drop = world.bus._repeat = 0
    world.wire.faults.append("unheard")
    await world._make()
    while await world.work():
        pass
    assert ((await world._state())["jobs"], world.service.created) == (["waiting"], 1)
    await world.pass_time(1)
    await reconcile.turn(here, world.api)
    stray, ours = world.service.running()
    await world._complete(ours)
    world.service.move(stray, "STATUS_UPDATE", percent=50)
    while world.bus.under_way:
        await world.deliver()
    while await world.work():
        pass
    assert (ours.status, stray.status) == ("COMPLETE", "CANCELED")
    await world._settle()
    await world._check()
    assert await stage(world) == "live"


async def together(enter: Enter, here: Runtime, number: int) -> list[World]:
    """So many clips at one service, whose events all get lost, with a job each."""
    worlds = [enter(seed) for seed in range(1, number + 1)]
    first = worlds[0]
    first.bus._drop = 1.0
    for world in worlds:
        world.service, world.wire, world.api, world.bus, world.quiet = (
            *(first.service, first.wire, first.api, first.bus),
            True,
        )
        await world._make()
        while await world.work():
            pass
    assert first.service.created == number
    return worlds


@pytest.mark.parametrize("by_event", [False, True])
async def test_a_letter_that_cannot_be_stored_keeps_no_job_from_its_end(
    enter: Enter, here: Runtime, by_event: bool
) -> None:
    world = await begun(enter, 1)
    (job,) = world.service.running()
    if by_event:
        world.service.fail(job, 1076, "the film\0 ends \ud800 early")
        (body,) = world.bus.under_way
        assert await completions.handle(here, body) == "handled"
    else:
        world.bus._drop = 1.0
        world.service.fail(job, 1076, "the film\0 ends early")
        await world.pass_time(40)
        await reconcile.turn(here, world.api)
    assert await stage(world) == "rejected"
    async with here.db.transaction() as session:
        (said,) = (await session.execute(text("SELECT error_message FROM transcode_jobs"))).one()
    assert said == ("the film ends  early" if by_event else "the film ends early")


async def test_a_row_that_cannot_be_written_keeps_no_other_from_its_turn(enter: Enter, here: Runtime) -> None:
    stuck, silent, unheard = await together(enter, here, 3)
    for job in stuck.service.running():
        await stuck._complete(job)
    # The third one's answer was not heard, and the fourth waits for a place.
    await unheard._execute(
        "UPDATE transcode_jobs SET status = 'submitting', job_id = NULL WHERE clip_id = :id",
        id=unheard.clip_id,
    )
    waiting = enter(4)
    waiting.service, waiting.wire, waiting.api, waiting.bus, waiting.quiet = (
        *(stuck.service, stuck.wire, stuck.api, stuck.bus),
        True,
    )
    await waiting._make()
    await waiting._ingest()
    for world in (stuck, silent, unheard):
        await world.pass_time(40)
    await refuse_writing(here, stuck.clip_id, unheard.clip_id)
    try:
        for _ in range(2):
            asked = len(stuck.wire.calls)
            await reconcile.turn(here, stuck.api)
            assert (await silent._state())["jobs"] == ["complete"]
            assert (await waiting._state())["jobs"] == ["submitted"]
            assert (await stuck._state())["jobs"] == ["submitted"]
            assert (await unheard._state())["jobs"] == ["submitting"]
        assert stuck.wire.calls[asked:] == [], "what was in vain is not asked again at once"
    finally:
        await refuse_writing(here)
    for world in (stuck, unheard):
        await world.pass_time(40)
    await reconcile.turn(here, stuck.api)
    assert [(await world._state())["jobs"] for world in (stuck, unheard)] == [["complete"]] * 2


async def refuse_writing(here: Runtime, *clips: int) -> None:
    """Have the database refuse what is heard of these clips' jobs; of none, to end it."""
    async with here.db.transaction() as session:
        await session.execute(text("DROP FUNCTION IF EXISTS refuse_hearing CASCADE"))
        if clips:
            numbers = ", ".join(map(str, clips))
            await session.execute(
                text(
                    "CREATE FUNCTION refuse_hearing() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
                )
            )
            await session.execute(
                text(
                    "CREATE TRIGGER refuse_hearing BEFORE UPDATE ON transcode_jobs FOR EACH ROW"
                    f" WHEN (NEW.clip_id IN ({numbers}) AND NEW.heard_at IS DISTINCT FROM OLD.heard_at)"
                    " EXECUTE FUNCTION refuse_hearing()"
                )
            )
