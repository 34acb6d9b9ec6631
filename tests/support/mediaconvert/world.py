"""One clip on its way through the simulated MediaConvert, while all that can happen happens in a seeded order.

The state machine is the real one, on the real database and store, with the real client behind `wire`; only encoding is
a copy of outputs prepared once, and delays are over at once: time is what `pass_time` says. A seed and a number of
steps give the same schedule each time.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from paletta_server.accounts.security import Principal
from paletta_server.core.errors import Unavailable
from paletta_server.core.ids import new_uid
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore, StoreError
from paletta_server.ingest import service as ingest
from paletta_server.ingest import tasks as ingest_tasks
from paletta_server.ingest.errors import EngineFailed
from paletta_server.ingest.mediaconvert import cancel, completions, finish, jobs, reconcile, submit
from paletta_server.ingest.mediaconvert.api import Api, ApiError
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.mediaconvert.request import comp_key, rendition_key
from paletta_server.ingest.runs import Superseded
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.transcode import MadeRendition, TranscodeResult
from paletta_server.uploads import oversight
from paletta_server.uploads import service as uploads
from paletta_server.uploads.models import Upload
from paletta_server.uploads.progress import TERMINAL
from tests.support.mediaconvert.bus import Bus
from tests.support.mediaconvert.service import Job, Service
from tests.support.mediaconvert.wire import Wire, client

_NAMED = re.compile(r"(?<!:):(\w+)")
OURS = ("ingest.run", "ingest.finish", "mediaconvert.submit", "mediaconvert.cancel")
ERRORS = ((1999, "Unexpected"), (1432, "role"), (1076, "unexpected end of file"), (1010, "Failed probe/open"))
FILE_FAULTS = (1076, 1010)
ROUNDS = 60
"""Of quiet time after which a clip that is still under way is stuck."""


class Stuck(AssertionError):
    """Something that should have happened did not."""


class World:
    """`order` is what each attempt orders, `prepared` what a finished job is worth."""

    def __init__(
        self,
        runtime: Runtime,
        observer: psycopg.AsyncConnection[Any],
        s3: Any,
        order: Order,
        prepared: TranscodeResult,
        operator: Principal,
        seed: int,
    ) -> None:
        self.dice = random.Random(seed)
        self.runtime, self.s3, self.order, self.prepared, self.seed = runtime, s3, order, prepared, seed
        self.operator, self.observer = operator, observer
        self.bus = Bus(self.dice, drop=self.dice.choice((0, 0.3, 0.9)), repeat=self.dice.choice((0, 0.4)))
        self.service = Service(self.bus.on_change)
        self.wire = Wire(self.service)
        self.api = Api(client(self.wire))
        self.trace: list[str] = []
        self.file_faults = self.our_faults = self.cancelled = 0
        self.quiet = False
        self.upload_id = self.clip_id = 0
        self.name = new_uid("clip").removeprefix("clip_")

    # -- the schedule

    async def run(self, steps: int) -> None:
        """`steps` of turmoil, then quiet; raises AssertionError for whatever is not right in the end."""
        await self._make()
        for _ in range(steps):
            action = self._choose()
            self.trace.append(action.__name__)
            await action()
        await self._settle()
        await self._check()

    def _choose(self) -> Callable[[], Awaitable[object]]:
        likely: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self.work, 30),
            (self.deliver, 22),
            (self.encode, 14),
            (self.complete, 14),
            (self.reconcile, 7),
            (self.trouble, 5),
            (self.fail, 3),
            (self.sweep, 3),
            (self.twice, 3),
            (self.retry, 2),
            (self.stop_over_there, 1),
            (self.cancel, 1),
        ]
        actions, weights = zip(*likely, strict=True)
        return self.dice.choices(actions, weights)[0]

    async def work(self) -> bool:
        """A worker takes any of the jobs that wait; now and then two do, or one dies before it is noted."""
        rows = await self._rows(
            "SELECT id, task_name, args FROM procrastinate_jobs WHERE status = 'todo' AND task_name = ANY(:names)"
            " ORDER BY id",
            names=list(OURS),
        )
        if not rows:
            return False
        job = self.dice.choice(rows)
        luck = 1.0 if self.quiet else self.dice.random()
        self.trace.append(f"({job.task_name}{'*' if luck < 0.15 else ''})")
        if luck < 0.08:
            outcomes = await asyncio.gather(self._do(job), self._do(job))
            done = all(outcomes)
        else:
            done = await self._do(job)
        if done and not 0.08 <= luck < 0.15:
            await self._execute("DELETE FROM procrastinate_jobs WHERE id = :id", id=job.id)
        return True

    async def deliver(self) -> None:
        """The queue hands out an event, perhaps to two handlers at once."""
        body = self.bus.next()
        if body is None:
            return
        before = await self._progress()
        if not self.quiet and self.dice.random() < 0.1:
            await asyncio.gather(
                completions.handle(self.runtime, body), completions.handle(self.runtime, body)
            )
        else:
            await completions.handle(self.runtime, body)
        after = await self._progress()
        # Within one attempt, what its contributor is told never goes back.
        if before is not None and after is not None and before[0] == after[0]:
            assert after[1] >= before[1], "progress went back"

    async def encode(self) -> None:
        if job := self._running():
            status = self.dice.choice(("PROGRESSING", "STATUS_UPDATE", "INPUT_INFORMATION", "NEW_WARNING"))
            percent = (
                min(99, (job.percent or 0) + self.dice.randrange(30)) if status == "STATUS_UPDATE" else None
            )
            self.service.move(job, status, percent=percent)

    async def complete(self) -> None:
        if job := self._running():
            await self._complete(job)

    async def fail(self) -> None:
        if job := self._running():
            code, words = self.dice.choice(ERRORS)
            self.file_faults += code in FILE_FAULTS
            self.our_faults += code not in FILE_FAULTS
            self.service.fail(job, code, words)

    async def stop_over_there(self) -> None:
        """Somebody cancels a job in Amazon's console."""
        if job := self._running():
            self.our_faults += 1
            self.service.move(job, "CANCELED")

    async def reconcile(self) -> None:
        await self.pass_time(self.dice.choice((1, 4, 40)))
        await reconcile.turn(self.runtime, self.api)

    async def trouble(self) -> None:
        """The next requests go wrong."""
        self.wire.faults.extend(
            self.dice.choices(("throttle", "error", "denied", "lost", "unheard", "fine"), k=3)
        )

    async def sweep(self) -> None:
        await ingest_tasks.sweep(self.runtime)

    async def twice(self) -> None:
        """A job that was done long ago is handed out again: the queue promises at least once."""
        rows = await self._rows(
            "SELECT transcode_jobs.id FROM transcode_jobs JOIN ingest_runs ON run_id = ingest_runs.id"
            " WHERE upload_id = :upload",
            upload=self.upload_id,
        )
        which = self.dice.randrange(3)
        if which == 0:
            await self._ingest()
        elif which == 1 and rows:
            await self._finish(self.dice.choice(rows).id, 0)
        else:
            await submit.submit_waiting(self.runtime, self.api)

    async def cancel(self) -> None:
        """Its contributor has second thoughts."""
        async with self.runtime.db.transaction() as session:
            upload = await session.get(Upload, self.upload_id, with_for_update=True)
            assert upload is not None
            if upload.stage in TERMINAL:
                return
            await uploads.cancel(session, [upload])
            self.cancelled += 1

    async def retry(self) -> None:
        """An operator gives a failed upload another try."""
        async with self.runtime.db.transaction() as session:
            upload = await session.get(Upload, self.upload_id)
            assert upload is not None
        if upload.stage == "failed":
            await oversight.retry(self.runtime, self.operator, upload.uid)

    # -- what jobs do

    async def _do(self, job: Any) -> bool:
        """Whether it need not be tried again."""
        try:
            match job.task_name:
                case "ingest.run":
                    await self._ingest()
                case "ingest.finish":
                    await self._finish(job.args["row_id"], job.args.get("waits", 0))
                case "mediaconvert.submit":
                    await submit.submit_waiting(self.runtime, self.api)
                case _ if "row_id" in job.args:
                    await cancel.of_row(self.runtime, self.api, job.args["row_id"])
                case _:
                    await cancel.stray(self.api, job.args["job_id"])
        except ApiError:
            return False
        return True

    async def _ingest(self) -> None:
        """`ingest.run` as far as the hand-over, for a film that has been looked at already."""
        started = await ingest.begin(self.runtime, self.upload_id)
        if started is None:
            return
        source, attempt = started
        if not self.quiet and self.dice.random() < 0.05:
            self.our_faults += 1
            return  # the worker dies
        try:
            await jobs.hand_over(self.runtime, source, attempt, self.order)
            if not self.quiet and self.dice.random() < 0.1:
                await jobs.hand_over(self.runtime, source, attempt, self.order)  # its commit was not heard
        except Superseded:
            pass

    async def _finish(self, row_id: int, waits: int) -> None:
        if not self.quiet and self.dice.random() < 0.05:
            self.our_faults += 1
            await finish.begin(self.runtime, row_id)  # and the worker dies
            return
        await finish.run(self.runtime, row_id, waits=waits, collect=self._collect)

    async def _collect(
        self, store: ObjectStore, order: Order, folder: str, out_dir: Path, sandbox: Sandbox
    ) -> TranscodeResult:
        del order, out_dir, sandbox
        if await store.head(comp_key(folder)) is None:
            raise StoreError("404", "the outputs are not where they were ordered")
        luck = 1.0 if self.quiet else self.dice.random()
        if luck < 0.05:
            self.our_faults += 1
            raise EngineFailed("a disk is full")
        if luck < 0.1:
            raise Unavailable("the store is away")
        sold = MadeRendition(
            "hd", self.prepared.comp.path, 1280, 720, 3.0, "h264", 4, key=rendition_key(folder, "hd")
        )
        return replace(self.prepared, renditions=(sold,))

    async def _complete(self, job: Job) -> None:
        """Encoding is over: its outputs are there, then it says so."""
        for group in job.request["Settings"]["OutputGroups"]:
            base = group["OutputGroupSettings"]["FileGroupSettings"]["Destination"].split("/", 3)[3]
            for output in group["Outputs"]:
                if output["ContainerSettings"]["Container"] == "MP4":
                    key = f"{base}{output['NameModifier']}.mp4"
                    await asyncio.to_thread(
                        self.s3.put_object, Bucket=self.runtime.settings.s3_bucket, Key=key, Body=b"film"
                    )
        self.service.move(job, "COMPLETE")

    def _running(self) -> Job | None:
        running = self.service.running()
        return self.dice.choice(running) if running else None

    # -- time

    async def pass_time(self, minutes: int) -> None:
        """Let so much time go by for everything that waits for it."""
        self.service.later += timedelta(minutes=minutes)
        await self._execute(
            "UPDATE transcode_jobs SET heard_at = heard_at - :span, checked_at = checked_at - :span,"
            " submitted_at = submitted_at - :span, not_before = not_before - :span WHERE clip_id = :clip",
            span=timedelta(minutes=minutes),
            clip=self.clip_id,
        )

    async def _settle(self) -> None:
        """Quiet: everything works, and what runs over there comes to its end."""
        self.quiet = True
        self.wire.faults.clear()
        for _ in range(ROUNDS):
            for job in self.service.running():
                if self.dice.random() < 0.5:
                    await self._complete(job)
            while self.bus.under_way:
                await self.deliver()
                self.bus._repeat = 0
            self.trace.append("quiet")
            while await self.work():
                pass
            if await self._over():
                return
            await self.pass_time(40)
            await ingest_tasks.sweep(self.runtime)
            await reconcile.turn(self.runtime, self.api)
        raise Stuck(f"after {ROUNDS} rounds: {await self._state()}")

    async def _over(self) -> bool:
        state = await self._state()
        return state["stage"] in TERMINAL and not state["open"] and not self.service.running()

    # -- looking

    async def _progress(self) -> tuple[int, float] | None:
        """The attempt that transcodes now, and its progress."""
        rows = await self._rows(
            "SELECT max(ingest_runs.id), progress FROM uploads JOIN ingest_runs ON upload_id = uploads.id"
            " WHERE uploads.id = :id AND stage = 'transcoding' GROUP BY uploads.id",
            id=self.upload_id,
        )
        return (rows[0][0], rows[0][1] or 0.0) if rows else None

    async def _state(self) -> dict[str, Any]:
        (row,) = await self._rows(
            "SELECT uploads.stage, uploads.reason, clips.processing,"
            " ARRAY(SELECT status FROM ingest_runs WHERE upload_id = uploads.id ORDER BY attempt) AS runs,"
            " ARRAY(SELECT status FROM transcode_jobs WHERE clip_id = clips.id ORDER BY id) AS jobs,"
            " (SELECT count(*) FROM transcode_jobs WHERE clip_id = clips.id"
            "   AND status IN ('waiting', 'submitting', 'submitted', 'progressing')) AS open"
            " FROM uploads JOIN clips ON clips.id = clip_id WHERE uploads.id = :id",
            id=self.upload_id,
        )
        found: dict[str, Any] = row._asdict()
        return found

    async def _check(self) -> None:
        state = await self._state()
        assert not {"queued", "verifying", "probing", "transcoding", "publishing"} & set(state["runs"]), state
        assert state["runs"].count("done") == (state["stage"] == "live"), state
        match state["stage"]:
            case "live":
                assert state["processing"] == "ready", state
            case "rejected":
                assert self.file_faults, state
            case "failed":
                assert self.our_faults, state
            case stage:
                assert (stage, self.cancelled > 0) == ("cancelled", True), state
        kept = await self._rows("SELECT key FROM renditions WHERE clip_id = :id", id=self.clip_id)
        keys = {row.key for row in kept}
        # Discards wait for minutes, so that they come last.
        for row in await self._rows(
            "DELETE FROM procrastinate_jobs WHERE task_name = 'ingest.discard' RETURNING args"
        ):
            prefix = row.args["prefix"]
            assert not any(key.startswith(prefix) for key in keys), "what is live would be deleted"
            await self.runtime.store.delete_prefix(prefix)
        stored = {item.key async for item in self.runtime.store.every_object(f"media/clip_{self.name}/")}
        assert stored == keys, {"left": stored - keys, "missing": keys - stored}
        if state["stage"] == "live":
            assert len({key.split("/")[2] for key in keys}) == 1, "all outputs are one attempt's"
            assert any(key.endswith("-hd.mp4") for key in keys)

    # -- the database

    async def _make(self) -> None:
        await self._execute("DELETE FROM procrastinate_jobs")
        (clip,) = await self._rows(
            "INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key)"
            " SELECT 'clip_' || :name, min(id), 'A tram', 'a.mov', 1, :name, 'c', :key FROM users RETURNING id",
            name=self.name,
            key="originals/shared",
        )
        (upload,) = await self._rows(
            "INSERT INTO uploads (uid, owner_id, clip_id, clip_uid, file_name, size, sha256, crc64nvme, part_size,"
            " part_count, key, state, stage, expires_at, created_at)"
            " SELECT 'upl_' || :name, owner_id, id, uid, 'a.mov', 1, :name, 'c', 1, 1, 'originals/shared',"
            " 'stored', 'stored', now(), now() - interval '1 hour'"
            " FROM clips WHERE id = :clip RETURNING id",
            name=self.name,
            clip=clip.id,
        )
        self.clip_id, self.upload_id = clip.id, upload.id
        await ingest_tasks.sweep(self.runtime)

    async def _rows(self, query: str, **values: Any) -> list[Any]:
        """On a connection of the world's own: most of what a schedule asks is asked by its observer."""
        done = await self.observer.execute(_NAMED.sub(r"%(\1)s", query).encode(), values)
        return await done.fetchall()

    async def _execute(self, query: str, **values: Any) -> None:
        await self.observer.execute(_NAMED.sub(r"%(\1)s", query).encode(), values)
