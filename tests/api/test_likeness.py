"""A copy of somebody else's clip waits for a moderator before anybody sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.likeness.tasks import hash_clips
from tests.conftest import MakeUser
from tests.support import media
from tests.support.looks import copied
from tests.support.uploading import Uploader

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.clip(tmp_path_factory.mktemp("film") / "tram.mp4", seconds=5.5, look="fractal")


@pytest.fixture(scope="module")
def copy(film: Path) -> bytes:
    """Trimmed, encoded anew, a little brighter and with bars."""
    graph = "scale=1120:630,eq=brightness=0.05,pad=1280:720:80:45"
    return copied(film, "copy.mp4", "-vf", graph, start=1.3).read_bytes()


@pytest.fixture
async def thief(client: httpx.AsyncClient, make_user: MakeUser) -> AsyncIterator[Uploader]:
    made = Uploader(client, (await make_user("contributor")).headers)
    yield made
    await made.store.aclose()


async def rows(runtime: Runtime, query: str) -> list[Any]:
    async with runtime.db.transaction() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def shown(person: Uploader, sent: dict[str, Any]) -> tuple[str, str | None, list[str]]:
    clip = await person.call("GET", f"/me/clips/{sent['clip_id']}")
    return clip["stage"], clip["reason"], [text for text in clip["warnings"] if "looks like" in text]


async def test_a_copy_of_anothers_clip_waits_and_of_ones_own_is_warned_about(
    up: Uploader, thief: Uploader, film: Path, copy: bytes, runtime: Runtime, run_jobs: RunJobs
) -> None:
    original = await up.send(film.read_bytes())
    await run_jobs()
    assert await shown(up, original) == ("live", None, [])
    stolen = await thief.send(copy)
    await run_jobs()
    why = f"looks like {original['clip_id']}: a moderator has a look at it first"
    assert await shown(thief, stolen) == ("in_review", why, [])
    upload = await thief.call("GET", f"/uploads/{stolen['upload_id']}")
    assert (upload["stage"], upload["reason"]) == ("in_review", why)
    assert (await shown(up, original))[0] == "live"
    assert (await up.client.get(f"/v1/clips/{stolen['clip_id']}")).status_code == 404
    found = await rows(
        runtime,
        "SELECT clips.uid, others.uid, frames >= 2 FROM likenesses JOIN clips ON clips.id = clip_id"
        " JOIN clips others ON others.id = other_id",
    )
    assert found == [(stolen["clip_id"], original["clip_id"], True)]

    again = await up.send(copy + b"\0")  # one byte more, so that it is another file
    await run_jobs()
    own = f"looks like {original['clip_id']}, which you sent before"
    assert await shown(up, again) == ("live", None, [own]), (
        "whose clip was first is not kept waiting by copies"
    )


async def test_a_second_take_of_ones_own_is_live_with_a_warning(
    up: Uploader, film: Path, copy: bytes, run_jobs: RunJobs
) -> None:
    original = await up.send(film.read_bytes())
    await run_jobs()
    second = await up.send(copy)
    await run_jobs()
    assert await shown(up, second) == (
        "live",
        None,
        [f"looks like {original['clip_id']}, which you sent before"],
    )


async def test_what_was_taken_down_does_not_come_back_with_a_byte_more(
    up: Uploader, film: Path, copy: bytes, run_jobs: RunJobs, make_user: MakeUser
) -> None:
    original = await up.send(film.read_bytes())
    await run_jobs()
    clip, admin = original["clip_id"], await make_user("admin")
    body = {"clips": [clip], "reason": "court order", "legal": True}
    done = await up.client.post("/v1/admin/clips/take-down", json=body, headers=admin.headers)
    assert done.status_code == 200, done.text
    why = f"looks like {clip}, which was taken down: a moderator has a look at it first"
    again = await up.send(film.read_bytes() + b"\0")
    await run_jobs()
    assert (await shown(up, again))[:2] == ("in_review", why)
    await up.call("DELETE", f"/clips/{clip}", 204)
    third = await up.send(copy)
    await run_jobs()
    assert (await shown(up, third))[:2] == ("in_review", why), "nor once it was deleted"


async def test_a_clip_that_is_gone_is_not_forgotten_nor_named(
    up: Uploader, thief: Uploader, film: Path, copy: bytes, run_jobs: RunJobs
) -> None:
    original = await up.send(film.read_bytes())
    await run_jobs()
    await up.call("DELETE", f"/clips/{original['clip_id']}", 204)
    stolen = await thief.send(copy)
    await run_jobs()
    stage, reason, _ = await shown(thief, stolen)
    assert (stage, reason) == (
        "in_review",
        "looks like a clip that somebody else sent before: a moderator has a look at it first",
    )


async def test_of_two_that_are_made_at_the_same_moment_one_at_least_waits(
    up: Uploader, thief: Uploader, film: Path, copy: bytes, run_jobs: RunJobs
) -> None:
    sent = await asyncio.gather(up.send(film.read_bytes()), thief.send(copy))
    await run_jobs()
    stages = [(await shown(who, what))[0] for who, what in zip((up, thief), sent, strict=True)]
    assert "in_review" in stages


async def test_clips_from_before_are_caught_up_with(
    up: Uploader, film: Path, runtime: Runtime, run_jobs: RunJobs
) -> None:
    sent = await up.send(film.read_bytes())
    await run_jobs()
    query = "SELECT number, hash FROM frame_hashes ORDER BY number"
    before = await rows(runtime, query)
    assert len(before) == 8
    async with runtime.db.transaction() as session:
        await session.execute(text("TRUNCATE frame_hashes, hashed_clips"))
    await hash_clips(runtime, after=0)
    await run_jobs()
    assert await rows(runtime, query) == before, "the store's picture gives what ingest's gave"
    await hash_clips(runtime, after=0)  # nothing is left to do
    async with runtime.db.transaction() as session:
        await session.execute(text("TRUNCATE frame_hashes, hashed_clips"))
        await session.execute(text("UPDATE renditions SET key = 'gone' WHERE kind = 'storyboard'"))
    await hash_clips(runtime, after=0)
    assert await rows(runtime, "SELECT * FROM hashed_clips") == [], sent["clip_id"]
