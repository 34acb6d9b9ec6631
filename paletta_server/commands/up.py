"""`paletta-server up`: the whole service on this machine."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.embedded.supervisor import Reporter


def up(
    *, data: Path | None, port: int, workers: int, ephemeral: bool, as_json: bool, ready_file: Path | None
) -> int:
    """Run the stack until it is stopped; the exit code."""
    from paletta_server.core.settings import get_settings
    from paletta_server.embedded.members import Members, Options
    from paletta_server.embedded.stackdir import EPHEMERAL, StackError, default_data_dir, sweep_ephemeral
    from paletta_server.embedded.supervisor import Supervisor

    get_settings()  # wrong ones are told before anything starts
    if ephemeral:
        sweep_ephemeral(Path(tempfile.gettempdir()))
        data = Path(tempfile.mkdtemp(prefix=EPHEMERAL))
    options = Options(data or default_data_dir(), port, workers, ephemeral)
    if not workers:
        terminal.say("warning: without workers no clip is processed and no mail is sent")
    reporter = _reporter(as_json=as_json, ready_file=ready_file)

    async def run() -> tuple[int, str | None]:
        supervisor = Supervisor(Members(options), reporter)
        return await supervisor.run(), supervisor.failure

    failure: str | None
    try:
        code, failure = asyncio.run(run())
    except StackError as error:
        code, failure = 1, str(error)
    finally:
        reporter.close()
        if ephemeral:
            shutil.rmtree(options.data, ignore_errors=True)
    if failure:
        terminal.error(failure)
    return code


def _reporter(*, as_json: bool, ready_file: Path | None) -> Reporter:
    from paletta_server.embedded.view import Announcer, LiveReporter, PlainReporter

    announcer = Announcer(as_json=as_json, ready_file=ready_file)
    if as_json or not sys.stderr.isatty():
        return PlainReporter(announcer)
    from rich.console import Console

    return LiveReporter(Console(stderr=True), announcer)
