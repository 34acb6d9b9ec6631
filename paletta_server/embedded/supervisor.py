"""Runs the one-machine stack: starts its members in order, restarts those that die, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, Protocol

from paletta_server.embedded.members import Members
from paletta_server.embedded.objectstore import ObjectStoreError
from paletta_server.embedded.ports import free_ports, is_free
from paletta_server.embedded.postgres import PostgresError
from paletta_server.embedded.process import POSIX, Process
from paletta_server.embedded.service import Service, log_tail
from paletta_server.embedded.stackdir import StackError

_TROUBLE = (StackError, PostgresError, ObjectStoreError, OSError)


class Reporter(Protocol):
    """Where progress goes: a live view, or plain lines."""

    def attach(self, supervisor: Supervisor) -> None: ...
    def changed(self, service: Service) -> None: ...
    def say(self, text: str) -> None: ...
    def ready(self, status: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Supervisor:
    """One stack. `await run()` returns the exit code once everything has stopped."""

    def __init__(self, members: Members, reporter: Reporter) -> None:
        self.members = members
        self.began = time.monotonic()
        self.ready_after: float | None = None
        self.failure: str | None = None
        """Why the stack gave up, once it has."""
        self._reporter = reporter
        self._stop = asyncio.Event()
        self._grounds_ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """Whether nobody has asked for the end yet, and nothing has brought it about."""
        return not self._stop.is_set()

    # ---- life

    async def run(self) -> int:
        """Run until a signal, or until a member cannot be kept alive.

        Returns 0 after a requested stop and 1 otherwise. Raises StackError when the stack cannot even begin.
        """
        directory = self.members.dir
        directory.make()
        directory.lock()
        try:
            for name in await asyncio.to_thread(directory.end_orphans):
                self._reporter.say(f"ended `{name}`, left over from a stack that was killed")
            _require_free(self.members.options.port)
            self._reporter.attach(self)
            with self._signals():
                try:
                    await self._unless_stopped(self._start_all())
                    await self._stop.wait()
                except _TROUBLE as error:
                    self._fail(str(error))
                await self._stop_all()
        finally:
            directory.unlock()
        return 1 if self.failure else 0

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, but drop it when a stop is asked for."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _start_all(self) -> None:
        members = self.members
        self._spawn(self._watch())
        await _together(self._bring_up(service) for service in (*members.grounds, members.mail))
        members.write_env()
        await members.prepare_schema()
        await _together([members.find_sandbox(), *(self._bring_up(service) for service in members.programs)])
        for warning in members.sandbox_warnings:
            self._reporter.say(f"warning: {warning}")
        self.ready_after = time.monotonic() - self.began
        self._write_status()
        self._reporter.ready(members.status(self.ready_after))

    async def _stop_all(self) -> None:
        self._stop.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Those who write go first, then what they write to.
        await asyncio.gather(*(self._bring_down(service) for service in self.members.programs))
        await asyncio.gather(*(self._bring_down(s) for s in (self.members.mail, *self.members.grounds)))
        self.members.dir.forget()

    async def _bring_up(self, service: Service) -> None:
        service.state = "restarting" if service.restarts else "starting"
        self._reporter.changed(service)

        def launched(process: Process) -> None:
            service.process = process
            self.members.note_children()

        await service.start(launched)
        service.state = "ready"
        self._reporter.changed(service)
        if all(ground.state == "ready" for ground in self.members.grounds):
            self._grounds_ready.set()

    async def _bring_down(self, service: Service) -> None:
        if service.state == "waiting":
            return
        failed = service.state == "failed"
        service.state = "stopping"
        self._reporter.changed(service)
        await service.stop()
        service.state = "failed" if failed else "stopped"
        self._reporter.changed(service)

    # ---- keeping members alive

    async def _watch(self) -> None:
        while True:
            for service in self.members.all:
                process = service.process
                if service.state == "ready" and process is not None and not process.running:
                    service.state = "restarting"
                    if service in self.members.grounds:
                        self._grounds_ready.clear()
                    self._reporter.changed(service)
                    self._spawn(self._revive(service, process.returncode))
            await asyncio.sleep(0.1)

    async def _revive(self, service: Service, status: int | None) -> None:
        """Start a dead member again, later each time; give the stack up when it keeps dying."""
        how = f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
        on_start = False
        while (pause := service.note_death(on_start=on_start)) is not None:
            words = f"\n  {log_tail(service.log, 1)}" if on_start else ""
            self._reporter.say(f"`{service.name}` ended {how}; starting it again{words}")
            await asyncio.sleep(pause)
            if service in self.members.programs:
                await self._grounds_ready.wait()  # without database and store it could only die again
            service.restarts += 1
            try:
                await self._bring_up(service)
            except _TROUBLE:
                how, on_start = "on start", True
                continue
            self._write_status()
            return
        service.state = "failed"
        self._reporter.changed(service)
        self._fail(
            f"`{service.name}` {service.death_toll()}, last {how}\n"
            f"{log_tail(service.log)}\nhint: its log is `{service.log}`"
        )

    def _fail(self, message: str) -> None:
        self.failure = self.failure or message
        self._stop.set()

    def _write_status(self) -> None:
        if self.ready_after is not None:
            self.members.dir.write_status(self.members.status(self.ready_after))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.discard(finished)
            if not finished.cancelled() and (error := finished.exception()) is not None:
                self._fail(f"the supervisor failed: {type(error).__name__}: {error}")

        task.add_done_callback(done)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal stop the stack; a second one kills API and workers."""

        def asked() -> None:
            if self._stop.is_set():
                for service in self.members.programs:
                    if service.process is not None:
                        service.process.signal(signal.SIGKILL if POSIX else signal.SIGTERM)
            self._stop.set()

        loop = asyncio.get_running_loop()
        if not POSIX:  # no add_signal_handler on Windows
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(asked))
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, asked)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of `work` at once; when one fails, drop the others and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _require_free(port: int) -> None:
    if not is_free(port):
        raise StackError(
            f"port {port} is taken{_owner_of(port)}\n"
            f"hint: stop that, or choose another port: --port {free_ports(1)[0]}"
        )


def _owner_of(port: int) -> str:
    """Return ` by NAME (pid N)` for whoever listens on the port, as far as we may know."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            ours = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if ours and connection.pid is not None:
                return f" by `{psutil.Process(connection.pid).name()}` (pid {connection.pid})"
    return ""
