"""An original that lies in the store's archive is asked back and waited for: no attempt is made of that, and no clip
fails. The store is moto's, whose copies come back when a test says so."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.core import bucket
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore
from paletta_server.ingest import ending, service
from paletta_server.operations import backup, mending
from paletta_server.operations.backup_files import BackupError, Folder
from paletta_server.operations.storage_audit import Fault
from tests.conftest import MakeUser
from tests.support import aws, media
from tests.support.uploading import Uploader


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    with aws.server() as address:
        yield address


@dataclass
class Archived:
    """An upload whose original was archived before its clip was made. `runtime` is a worker's."""

    runtime: Runtime
    upload_id: int
    key: str

    @property
    def inside(self) -> Any:
        return aws.inside(self.runtime.store.bucket, self.key)

    async def one(self, query: str) -> Any:
        async with self.runtime.db.transaction() as session:
            return (await session.execute(text(query))).one()


@pytest.fixture
async def archived(
    client: httpx.AsyncClient,
    make_user: MakeUser,
    runtime: Runtime,
    amazon: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Archived]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, aws.KEY)
    async with runtime.db.transaction() as session:
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')"))
    film = media.clip(tmp_path / "tram.mp4", seconds=3.2, look="gradients").read_bytes()
    up = Uploader(client, (await make_user("contributor")).headers)
    await up.send(film)
    await up.store.aclose()
    async with runtime.db.transaction() as session:
        upload = (await session.execute(text("SELECT id, key FROM uploads"))).one()
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    changed = {"s3_endpoint": amazon, "s3_bucket": f"archive-{secrets.token_hex(6)}"}
    settings = runtime.settings.model_copy(update=changed)
    with aws.archive_by_hand():
        async with ObjectStore(settings) as store:
            await bucket.bootstrap(store, settings)
            await store.call(
                lambda s3: s3.put_object(
                    Bucket=store.bucket, Key=upload.key, Body=film, StorageClass="DEEP_ARCHIVE"
                )
            )
            made = Archived(replace(runtime, settings=settings, store=store), upload.id, upload.key)
            made.inside.status = "IN_PROGRESS"
            yield made


@pytest.mark.parametrize(("transcoder", "then"), [("ffmpeg", "live"), ("mediaconvert", "transcoding")])
async def test_it_is_asked_back_and_waited_for_and_that_is_no_attempt(
    archived: Archived, transcoder: str, then: str
) -> None:
    settings = archived.runtime.settings.model_copy(update={"transcoder": transcoder})
    runtime = replace(archived.runtime, settings=settings)
    for turn in range(settings.ingest_attempts + 1):
        await service.run(runtime, archived.upload_id, fetch_backs=turn)
        assert 'ongoing-request="true"' in archived.inside.response_dict["x-amz-restore"]
        assert (await archived.one("SELECT stage FROM uploads")).stage == "stored"
        assert (await archived.one("SELECT count(*) FROM ingest_runs")).count == 0
        job = await archived.one(
            "SELECT args, scheduled_at > now() + interval '50 minutes' AS later FROM procrastinate_jobs"
            " WHERE task_name = 'ingest.run' ORDER BY id DESC LIMIT 1"
        )
        wanted = {"upload_id": archived.upload_id, "waits": 0, "fetch_backs": turn + 1}
        assert (job.args, job.later) == (wanted, True)
    archived.inside.status = "RESTORED"
    await service.run(runtime, archived.upload_id, fetch_backs=4)
    assert (await archived.one("SELECT stage FROM uploads")).stage == then


async def test_one_that_does_not_come_back_is_not_waited_for_for_ever(archived: Archived) -> None:
    await service.run(archived.runtime, archived.upload_id, fetch_backs=ending.MOST_FETCH_BACKS)
    found = await archived.one("SELECT stage, reason FROM uploads")
    assert found.stage == "failed"
    assert "did not come back from the archive" in found.reason


async def test_a_backup_that_would_copy_it_says_what_to_do(archived: Archived, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"lies in the store's archive.*\nhint: use `--objects reference`"):
        await backup.back_up(archived.runtime, Folder(tmp_path / "backup"), "copy")
    assert not list((tmp_path / "backup").rglob("*.part"))


async def test_a_clip_that_is_to_be_made_again_stays_in_the_shop_until_its_original_is_back(
    archived: Archived,
) -> None:
    runtime = archived.runtime
    archived.inside.status = None
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET processing = 'ready', review = 'approved'"))
        await session.execute(text("UPDATE uploads SET state = 'verified', stage = 'live'"))
        clip_id = (await session.execute(text("SELECT id FROM clips"))).scalar_one()
    lost = Fault("missing", "media/a/film.mp4", "", kinds=("rendition",), clip_id=clip_id)
    await mending.mend(runtime, [lost])
    assert lost.outcome is None, "it remains"
    assert "asked back" in lost.detail
    assert (await archived.one("SELECT processing FROM clips")).processing == "ready"
    assert "x-amz-restore" in archived.inside.response_dict, "it was asked for"
