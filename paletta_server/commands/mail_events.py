"""`paletta-server mail-events`: bounces and complaints, from SES's queue into the list of suppressed addresses."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from functools import partial

from paletta_server.commands import terminal
from paletta_server.core.settings import Settings

log = logging.getLogger(__name__)


def mail_events() -> int:
    """Handle reports until told to stop."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    configure_logging(settings)
    if settings.mail_events_queue_url is None:
        terminal.error("there is no queue to read\nhint: set PALETTA_MAIL_EVENTS_QUEUE_URL")
        return 2
    asyncio.run(_consume(settings, settings.mail_events_queue_url))
    return 0


async def _consume(settings: Settings, url: str) -> None:
    from paletta_server.aws import mail_events
    from paletta_server.aws.queues import Queue, consume
    from paletta_server.core.runtime import Runtime

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":  # on Windows loops know no signals; there Ctrl-C cancels this task itself
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    async with Runtime.open(settings) as runtime:
        log.info("reading mail reports", extra={"queue": url})
        await consume(
            Queue(settings, url),
            partial(mail_events.handle, runtime),
            ready=runtime.db.answers,
            stop=stop,
        )
