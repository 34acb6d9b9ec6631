"""Backups: a pair of one moment, brought up to date, told from a half one; and everything lost and served again."""

from __future__ import annotations

import asyncio
import errno
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from paletta_server.clips import service as clips
from paletta_server.clips import tasks as clip_tasks
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations import backup, pgtools
from paletta_server.operations.backup_files import LOCK, BackupError, Folder
from paletta_server.operations.backup_verifying import verify
from paletta_server.operations.restore import restore
from tests.conftest import Person
from tests.support.backups import fetch, rewrite
from tests.support.orders import Sold
from tests.support.uploading import Uploader


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
    assert (second.copied, second.kept, second.dropped) == (1, 3, 0)
    assert verify(folder) == second.manifest
    # The one before is whole for one more turn.
    assert folder.path_of(str(keys[0])).exists()
    assert verify(folder, previous=True) == first.manifest
    third = await backup.back_up(runtime, folder, "copy")
    assert (third.kept, third.dropped) == (4, 1)
    assert not folder.path_of(str(keys[0])).exists()
    assert not (folder.root / first.manifest.dump).exists()
    assert verify(folder) == third.manifest
    assert verify(folder, previous=True) == second.manifest


async def test_a_damaged_copy_is_copied_again(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it was noticed: by a restore, when asked to look, and within a month by itself."""
    folder = Folder(tmp_path / "backup")
    await backup.back_up(runtime, folder, "copy")
    copy = next(folder.objects.rglob("hd"))

    def spoil() -> None:
        copy.write_bytes(b"?" + copy.read_bytes()[1:])

    monkeypatch.setattr(backup, "REREAD_DAYS", 2**40)
    spoil()
    assert (await backup.back_up(runtime, folder, "copy")).damaged == 0, "not every copy is read each day"
    with pytest.raises(BackupError, match=r"is damaged\nhint: `paletta-server backup .* --verify`"):
        verify(folder)
    assert (await backup.back_up(runtime, folder, "copy")).copied == 1
    verify(folder)
    spoil()
    done = await backup.back_up(runtime, folder, "copy", verify=True)
    assert (done.damaged, done.copied, done.kept) == (1, 1, 3)
    verify(folder)
    spoil()
    monkeypatch.setattr(backup, "REREAD_DAYS", 1)
    assert (await backup.back_up(runtime, folder, "copy")).damaged == 1
    verify(folder)
    assert not list(folder.objects.rglob(".*")), "nothing is left of them"


async def test_another_service_does_not_get_into_the_folder(
    runtime: Runtime, sold: tuple[Sold, Person], fresh: Settings, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "backup")
    done = await backup.back_up(runtime, folder, "copy")
    files = sorted(folder.root.rglob("*"))
    async with Runtime.open(fresh) as other:
        with pytest.raises(BackupError, match="of another service"):
            await backup.back_up(other, folder, "copy", shrink=True)
        assert (verify(folder), sorted(folder.root.rglob("*"))) == (done.manifest, files)
        await restore(other, folder, done.manifest)
        # It is that service now.
        assert (await backup.back_up(other, folder, "copy")).kept == 4


async def test_a_service_that_lost_its_clips_is_not_backed_up_over_them(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "backup")
    done = await backup.back_up(runtime, folder, "copy")
    async with runtime.db.transaction() as session:
        await session.execute(
            text("SET LOCAL session_replication_role = replica")
        )  # above the append-only tables
        await session.execute(text("TRUNCATE clips, uploads, orders CASCADE"))
    with pytest.raises(BackupError, match="does not refer to 4 of the 4 objects"):
        await backup.back_up(runtime, folder, "copy")
    assert verify(folder) == done.manifest
    await backup.back_up(runtime, folder, "copy", shrink=True)
    assert verify(folder, previous=True) == done.manifest


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
    monkeypatch.setattr(pgtools, "find", lambda name, *_: Path("/nowhere") / name)
    with pytest.raises(OSError):
        await backup.back_up(runtime, folder, "copy")
    assert verify(folder) == done.manifest


async def test_two_at_once_into_one_folder(
    runtime: Runtime, sold: tuple[Sold, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nightly one that takes longer than a day: the next one is refused, and spoils nothing."""
    folder = Folder(tmp_path / "backup")
    real, refused = runtime.store.download, list[str]()

    async def meanwhile(*args: Any, **options: Any) -> str:
        with pytest.raises(BackupError, match="under way") as caught:
            await backup.back_up(runtime, Folder(folder.root), "copy")
        refused.append(str(caught.value))
        return await real(*args, **options)

    monkeypatch.setattr(runtime.store, "download", meanwhile)
    done = await backup.back_up(runtime, folder, "copy")
    assert len(refused) == done.copied == 4
    assert verify(folder) == done.manifest
    monkeypatch.setattr(runtime.store, "download", real)
    assert (await backup.back_up(runtime, folder, "copy")).kept == 4


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (OSError(errno.ENOLCK, "No locks available"), "cannot lock `{}`: No locks available"),
        (BlockingIOError(errno.EWOULDBLOCK, "Try again"), "another backup into `{}` is under way"),
    ],
)
def test_a_folder_that_cannot_be_locked_says_which_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: OSError, says: str
) -> None:
    """A share without locks is no backup that is under way: nobody should wait for one."""

    def flock(*_: object) -> None:
        raise trouble

    folder = Folder(tmp_path / "backup")
    folder.make()
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(BackupError) as caught, folder.alone():
        pass
    assert str(caught.value).splitlines()[0] == says.format(folder.root)


def test_a_folder_whose_lock_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "backup")
    folder.make()
    (folder.root / LOCK).mkdir()
    with pytest.raises(BackupError, match=r"^cannot write to `.*backup`: Is a directory$"), folder.alone():
        pass


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
