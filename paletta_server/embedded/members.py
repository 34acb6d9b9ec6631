"""The members of the one-machine stack: how each starts and stops, and what the others must know of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paletta_server.embedded.mailsink import MailSink
from paletta_server.embedded.objectstore import EmbeddedStore, ObjectStoreError
from paletta_server.embedded.ports import free_ports
from paletta_server.embedded.postgres import HELD_SECONDS, EmbeddedPostgres, StillHeld
from paletta_server.embedded.process import Process, Spec
from paletta_server.embedded.secretfiles import kept_secret
from paletta_server.embedded.service import Launched, Service, log_tail
from paletta_server.embedded.stackdir import StackDir, StackError

START_SECONDS = 60.0
INDEX_SECONDS = 20.0
"""How long a member may take to become ready; a slow disk needs a while for its first database."""


@dataclass(frozen=True)
class Options:
    """What `paletta-server up` was asked for."""

    data: Path
    port: int
    workers: int
    ephemeral: bool = False


class Members:
    """Database, object store, mail sink, API and workers on one data directory.

    Child processes are launched from the event loop's own thread, the main one: on Linux they die with the
    thread that started them. What takes time is done in other threads.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.dir = StackDir(options.data)
        self.url = f"http://127.0.0.1:{options.port}"
        self.sandbox = ""
        self.sandbox_warnings: tuple[str, ...] = ()
        self._postgres = EmbeddedPostgres(self.dir.postgres, log=self.dir.logs / "postgres.log")
        self._store = EmbeddedStore(self.dir.store, log=self.dir.logs / "seaweedfs.log")
        self._sink = MailSink(self.dir.mail)
        self.database = Service("postgres", self._start_postgres, self._stop_postgres, self._postgres.log)
        self.objects = Service("seaweedfs", self._start_store, self._stop_store, self._store.log)
        self.mail = Service("mail", self._start_mail, self._sink.stop)
        self.programs = [self._api(), *(self._worker(number + 1) for number in range(options.workers))]

    @property
    def grounds(self) -> list[Service]:
        """What the programs stand on."""
        return [self.database, self.objects]

    @property
    def all(self) -> list[Service]:
        return [*self.grounds, self.mail, *self.programs]

    @property
    def mails_received(self) -> int:
        return self._sink.received

    # ---- steps of a start that are no members

    async def prepare_schema(self) -> None:
        """Migrate the database and set the bucket up, in a process of its own: it needs much that we do not."""
        process = Process(self._spec("migrate", ("migrate", "--bucket")))
        process.start()
        try:
            await asyncio.to_thread(process.wait)
        finally:
            process.stop(2)
        if process.returncode != 0:
            raise StackError(f"preparing database and bucket failed\n{log_tail(process.spec.log)}")

    async def find_sandbox(self) -> None:
        """Learn what the workers will run ffmpeg in; `sandbox_warnings` says what is not as it should be."""
        from paletta_server.core.settings import get_settings
        from paletta_server.ingest.sandbox import Sandbox, SandboxUnavailable

        try:
            found = await asyncio.to_thread(Sandbox.create, get_settings().sandbox_mode)
        except SandboxUnavailable as error:
            self.sandbox, self.sandbox_warnings = "none", (error.reason,)
        else:
            self.sandbox = "bubblewrap" if found.level == "bubblewrap" else "resource limits only"
            self.sandbox_warnings = found.warnings

    # ---- what others read

    def write_env(self) -> None:
        """Write the settings of whoever works on this stack: its own, what it was started with, and for the rest of the
        policy what suits one machine."""
        from paletta_server.core.settings import get_settings, given

        chosen = given()
        address = self._store.address()
        settings = {
            "database_url": self._postgres.url(),
            "s3_endpoint": address.endpoint,
            "s3_bucket": address.bucket,
            "s3_region": "us-east-1",
            "s3_access_key": address.access_key,
            "s3_secret_key": address.secret_key,
            "smtp_host": "127.0.0.1",
            "smtp_port": str(self._sink.port),
            "smtp_tls": "none",
        }
        policy = {
            "public_url": self.url,
            "review": "auto",
            "contributors": "auto",
            "scratch_dir": str(self.dir.scratch),
            "search_dir": str(self.dir.search),
            # The sandbox sells for nothing: a stack that is called production takes invoices until it is told more.
            "gateways": "invoice" if get_settings().env == "production" else "sandbox,invoice",
            "sandbox_secret": kept_secret(self.dir.secrets, "sandbox"),
        }
        settings = policy | chosen | settings
        self.dir.write_env({f"PALETTA_{name.upper()}": value for name, value in settings.items()})

    def note_children(self) -> None:
        marker = str(self.dir.root)
        found = (service.process.identity(marker) for service in self.all if service.process is not None)
        self.dir.note_children([identity for identity in found if identity is not None])

    def status(self, seconds: float) -> dict[str, Any]:
        """Return what a program needs to use the stack (`--json`, `--ready-file`, `run/stack.json`)."""
        address = self._store.address()
        return {
            "url": self.url,
            "pid": os.getpid(),
            "pids": {service.name: service.pid for service in self.all if service.pid is not None},
            "data": str(self.dir.root),
            "env_file": str(self.dir.env_file),
            "database_url": self._postgres.url(),
            "s3": {"endpoint": address.endpoint, "bucket": address.bucket},
            "maildir": str(self.dir.mail),
            "logs": str(self.dir.logs),
            "sandbox": self.sandbox,
            "ephemeral": self.options.ephemeral,
            "seconds": round(seconds, 2),
        }

    # ---- database, object store, mail

    async def _start_postgres(self, launched: Launched) -> None:
        await asyncio.to_thread(self._postgres.prepare)
        deadline = time.monotonic() + START_SECONDS
        while True:
            launched(self._postgres.launch())
            try:
                await asyncio.to_thread(self._postgres.wait_ready, deadline - time.monotonic())
                break
            except StillHeld:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(HELD_SECONDS)
        self.database.address = "unix socket"

    async def _stop_postgres(self) -> None:
        await asyncio.to_thread(self._postgres.stop)

    async def _start_store(self, launched: Launched) -> None:
        before = self.objects.address
        for attempt in (1, 2, 3):
            await asyncio.to_thread(self._store.prepare)
            launched(self._store.launch())
            try:
                await asyncio.to_thread(self._store.wait_ready, START_SECONDS)
                break
            except ObjectStoreError:
                # Between finding a port free and listening on it another program may take it.
                await asyncio.to_thread(self._store.stop)
                if attempt == 3:
                    raise
        self.objects.address = self._store.address().endpoint
        if before and before != self.objects.address:
            # The programs read the old address when they began; stopped, they are started again.
            self.write_env()
            for service in self.programs:
                if service.process is not None:
                    await asyncio.to_thread(service.process.stop)

    async def _stop_store(self) -> None:
        await asyncio.to_thread(self._store.stop)

    async def _start_mail(self, _launched: Launched) -> None:
        await self._sink.start(free_ports(1)[0])
        self.mail.address = f"smtp://127.0.0.1:{self._sink.port}"

    # ---- programs of our own

    def _api(self) -> Service:
        async def answers(process: Process) -> bool:
            # An index that is built anew takes minutes, and all but searching works meanwhile.
            known = process.identity("")
            patient = known is not None and time.time() - known.started < INDEX_SECONDS
            return await asyncio.to_thread(_is_ok, f"{self.url}/{'readyz' if patient else 'healthz'}")

        return self._program("api", ("api", "--port", str(self.options.port)), answers, address=self.url)

    def _worker(self, number: int) -> Service:
        name = f"worker-{number}"
        note = self.dir.run / f"{name}.ready"

        async def works(process: Process) -> bool:
            with contextlib.suppress(OSError):
                return note.read_text() == str(process.pid)
            return False

        return self._program(name, ("worker", "--name", name, "--ready-file", str(note)), works)

    def _program(
        self,
        name: str,
        arguments: tuple[str, ...],
        is_ready: Callable[[Process], Coroutine[Any, Any, bool]],
        *,
        address: str = "",
    ) -> Service:
        spec = self._spec(name, arguments)

        async def start(launched: Launched) -> None:
            process = Process(spec)
            process.start()
            launched(process)
            deadline = time.monotonic() + START_SECONDS
            while not await is_ready(process):
                if not process.running:
                    tail = log_tail(spec.log)
                    raise StackError(f"`{name}` ended on start\n{tail}\nhint: its log is `{spec.log}`")
                if time.monotonic() > deadline:
                    await asyncio.to_thread(process.stop)
                    raise StackError(f"`{name}` is not ready in time\nhint: its log is `{spec.log}`")
                await asyncio.sleep(0.05)

        async def stop() -> None:
            if service.process is not None:
                await asyncio.to_thread(service.process.stop)

        service = Service(name, start, stop, spec.log, address)
        return service

    def _spec(self, name: str, arguments: tuple[str, ...]) -> Spec:
        # -P: nothing is imported from the folder that somebody happened to start us in.
        python = (sys.executable, "-P", "-m", "paletta_server.cli")
        command = (*python, "--data", str(self.dir.root), *arguments)
        return Spec(name, command, self.dir.logs / f"{name}.log", dict(os.environ))


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own loopback address)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
