"""`paletta-server completions`: what MediaConvert has done, from the queue into the database."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)


def completions(*, ready_file: Path | None) -> int:
    """Handle messages until told to stop (SIGTERM, SIGINT); those in hand are finished first."""
    from paletta_server.commands.serve import find_database
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    configure_logging(settings)
    url = settings.completions_queue_url
    if url is None:
        terminal.error(
            "no queue is set\nhint: PALETTA_COMPLETIONS_QUEUE_URL names the SQS queue with MediaConvert's events"
        )
        return 2
    asyncio.run(find_database(settings))
    try:
        asyncio.run(_serve(settings, url, ready_file))
    except Exception:
        log.exception("completions end")
        return 1
    return 0


async def _serve(settings: Settings, url: str, ready_file: Path | None) -> None:
    from paletta_server.core import loading

    with loading.for_good():
        import paletta_server.tasks  # noqa: F401 (every job there is)
        from paletta_server.core.runtime import Runtime
        from paletta_server.ingest.mediaconvert.completions import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # On Windows loops know no signals; there Ctrl-C cancels this task itself.
    for number in () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Runtime.open(settings) as runtime:
        if ready_file is not None:
            ready_file.write_text(str(os.getpid()))
        log.info("completions start", extra={"queue": url})
        await serve(runtime, url, stop=stop)
        log.info("completions end")
