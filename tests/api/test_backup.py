"""Backups: a pair of one moment, brought up to date, told from a half one; and everything lost and served again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from paletta_server.app import create_app
from paletta_server.clips import service as clips
from paletta_server.clips import tasks as clip_tasks
from paletta_server.core.bucket import bootstrap
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations import backup, pgtools
from paletta_server.operations.backup_files import BackupError, Folder
from paletta_server.operations.restore import restore, verify
from tests.conftest import MakeUser, Person
from tests.support.orders import Sold, Till, Wanted
from tests.support.stack import Addresses, make_database
from tests.support.uploading import Uploader

FILES = {"hd": b"an hd file" * 500, "original": b"the original file" * 5000}


@pytest.fixture
async def sold(runtime: Runtime, up: Uploader, make_user: MakeUser) -> tuple[Sold, Person]:
    """A purchase, beside an upload that is stored and one that never came."""
    await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    customer, contributor = await make_user("customer"), await make_user("contributor")
    till = await Till.of(runtime, customer.email, contributor.email)
    order = await till.sell(Wanted(files=FILES))
    await put_originals(runtime)
    await up.send(b"an upload that waits for its ingest")
    return order, customer


async def put_originals(runtime: Runtime) -> None:
    """The clips that a till sells are listed, but have no original in the store: give them one."""
    async with runtime.db.transaction() as session:
        keys = list(await session.scalars(text("SELECT original_key FROM clips WHERE size = 1")))
        await session.execute(
            text("UPDATE clips SET sha256 = :digest WHERE size = 1"),
            {"digest": hashlib.sha256(b"x").hexdigest()},
        )
    for key in keys:
        runtime.store._client().put_object(Bucket=runtime.store.bucket, Key=str(key), Body=b"x")


@pytest.fixture
async def fresh(stack: Addresses, worker_name: str, settings: Settings, tmp_path: Path) -> Settings:
    """Another service: a database with the schema alone, and a bucket of its own."""
    made = settings.model_copy(
        update={
            "database_url": type(settings.database_url)(make_database(stack, f"paletta_{worker_name}_fresh")),
            "s3_bucket": f"fresh-{worker_name}",
            "search_dir": tmp_path / "search",
        }
    )
    async with Runtime.open(made) as runtime:
        await bootstrap(runtime.store, made)
        await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    return made


async def fetch(settings: Settings, person: Person, sold: Sold) -> dict[tuple[str, str], bytes]:
    """Everything that was bought, from the service that `settings` describe."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=settings.public_url) as client,
        httpx.AsyncClient(trust_env=False) as store,
    ):
        wanted = [{"item_id": item, "tier": tier} for item, tier in sold.data]
        answer = await client.post("/v1/downloads", json={"files": wanted}, headers=person.headers)
        assert answer.status_code == 200, answer.text
        return {
            (one["item_id"], one["tier"]): (await store.get(one["url"])).content
            for one in answer.json()["files"]
        }


async def test_everything_is_lost_and_the_same_purchase_is_served_again(
    runtime: Runtime, sold: tuple[Sold, Person], fresh: Settings, tmp_path: Path
) -> None:
    order, customer = sold
    folder = Folder(tmp_path / "backup")
    done = await backup.back_up(runtime, folder, "copy")
    assert (done.missing, done.manifest.objects, done.copied) == (0, 4, 4)
    for path in (folder.root, *folder.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"
    # All is lost: what is served from here on is another database and another bucket.
    await runtime.store.delete([one.key async for one in runtime.store.every_object()])
    async with Runtime.open(fresh) as target:
        manifest = await asyncio.to_thread(verify, folder)
        restored = await restore(target, folder, manifest)
        assert (restored.stored, restored.there) == (4, 0)
    assert await fetch(fresh, customer, order) == order.data
    async with Runtime.open(fresh) as target:
        with pytest.raises(BackupError, match="not empty"):
            await restore(target, folder, manifest)
        again = await restore(target, folder, manifest, replace_all=True)
        assert (again.stored, again.there) == (0, 4)
    assert await fetch(fresh, customer, order) == order.data


async def test_a_second_run_copies_what_is_new_and_drops_what_is_gone(
    runtime: Runtime, sold: tuple[Sold, Person], up: Uploader, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "backup")
    first = await backup.back_up(runtime, folder, "copy")
    await up.send(b"one more upload")
    async with runtime.db.transaction() as session:
        keys = list(await session.scalars(text("SELECT original_key FROM clips WHERE size = 1")))
        await session.execute(text("UPDATE clips SET deleted_at = now() WHERE size = 1"))
    second = await backup.back_up(runtime, folder, "copy")
    assert (second.copied, second.kept, second.dropped) == (1, 3, 1)
    assert not folder.path_of(str(keys[0])).exists()
    assert not (folder.root / first.manifest.dump).exists()
    assert verify(folder) == second.manifest


async def test_a_backup_that_was_cut_off_is_none_and_goes_on(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "backup")
    real, calls = runtime.store.download, 0

    async def dying(key: str, target: Path, **more: Any) -> str:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ConnectionError
        return await real(key, target, **more)

    monkeypatch.setattr(runtime.store, "download", dying)
    monkeypatch.setattr(backup, "AT_ONCE", 1)
    with pytest.raises(ConnectionError):
        await backup.back_up(runtime, folder, "copy")
    with pytest.raises(BackupError, match="never finished"):
        verify(folder)
    async with runtime.db.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM storage_holds")) == 0
    monkeypatch.setattr(runtime.store, "download", real)
    done = await backup.back_up(runtime, folder, "copy")
    assert (done.copied, done.kept) == (2, 2)
    # One that fails leaves the last whole one as it is.
    monkeypatch.setattr(pgtools, "find", lambda name: Path("/nowhere") / name)
    with pytest.raises(OSError):
        await backup.back_up(runtime, folder, "copy")
    assert verify(folder) == done.manifest


async def test_what_is_deleted_meanwhile_is_in_the_backup(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip is deleted, and its objects would be, between the dump and the copying."""
    folder = Folder(tmp_path / "backup")
    real = runtime.store.download
    async with runtime.db.transaction() as session:
        clip_id, key = (
            await session.execute(text("SELECT id, original_key FROM clips WHERE size = 1"))
        ).one()
    deleted = asyncio.Event()

    async def interrupted(key_: str, target: Path, **more: Any) -> str:
        if not deleted.is_set():
            deleted.set()
            async with runtime.db.transaction() as session:
                await clips.remove(session, [clip_id])
            await clip_tasks.discard(runtime, keys=[key])
        return await real(key_, target, **more)

    monkeypatch.setattr(runtime.store, "download", interrupted)
    done = await backup.back_up(runtime, folder, "copy")
    assert deleted.is_set()
    assert done.missing == 0
    assert folder.path_of(key).read_bytes() == b"x"
    assert await runtime.store.head(key) is not None, "its deletion was put off"
    await clip_tasks.discard(runtime, keys=[key])
    assert await runtime.store.head(key) is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: next(folder.root.glob("database-*")).write_bytes(b"x"), "is damaged"),
        (lambda folder: next(folder.root.glob("objects-*")).unlink(), "is not whole"),
        (lambda folder: next(folder.objects.rglob("hd")).write_bytes(b"x"), "is damaged"),
        (lambda folder: next(folder.objects.rglob("hd")).unlink(), "is missing"),
        (lambda folder: rewrite(folder, revision="9999"), "newer than this version"),
        (lambda folder: rewrite(folder, format=2), "format 2"),
        (lambda folder: rewrite(folder, dump="../../etc/passwd"), "not whole"),
    ],
)
async def test_a_spoilt_backup_is_refused_before_anything_is_touched(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path, spoil: Callable[[Folder], object], words: str
) -> None:
    folder = Folder(tmp_path / "backup")
    await backup.back_up(runtime, folder, "copy")
    spoil(folder)
    with pytest.raises(BackupError, match=words):
        verify(folder)


def rewrite(folder: Folder, **changes: object) -> None:
    path = folder.root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


async def test_a_backup_by_reference_needs_the_bucket(
    runtime: Runtime, sold: tuple[Sold, Person], fresh: Settings, tmp_path: Path
) -> None:
    order, customer = sold
    folder = Folder(tmp_path / "backup")
    done = await backup.back_up(runtime, folder, "reference")
    assert (done.copied, done.manifest.objects) == (0, 4)
    async with Runtime.open(fresh) as target:
        with pytest.raises(BackupError, match="only refers to objects"):
            await restore(target, folder, verify(folder))
    same_bucket = fresh.model_copy(update={"s3_bucket": runtime.settings.s3_bucket})
    async with Runtime.open(same_bucket) as target:
        assert (await restore(target, folder, verify(folder))).there == 4
    assert await fetch(same_bucket, customer, order) == order.data


async def test_a_folder_open_to_others_is_not_written_to(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path
) -> None:
    place = tmp_path / "open"
    place.mkdir(mode=0o755)
    (place / "something").touch()
    with pytest.raises(BackupError, match="open to other users"):
        await backup.back_up(runtime, Folder(place), "copy")
