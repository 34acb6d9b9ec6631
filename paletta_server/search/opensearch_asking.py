"""Asking OpenSearch for callers who wait. One that accepts and never answers costs them search, and nothing else.

Questions wait in threads of their own, since asyncio's few are needed for new connections to the database; so many at
a time, since each holds a place among the requests of its process; each for so long; and after several in a row that
came to nothing the next ones are refused at once, but for one now and then that tries.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from paletta_server.core.errors import Unavailable
from paletta_server.search import opensearch_client
from paletta_server.search.opensearch_client import AT_ONCE, Silent, within

MOST = 2 * AT_ONCE
"""Questions asked or waiting for a thread; about half of the requests that a process takes on (`REQUESTS_AT_ONCE`)."""
IN_VAIN = 5
"""After so many questions in a row without an answer we stop asking: one may be a lost packet, five are not."""
PAUSE_SECONDS = 5.0
"""For so long; then one asks, and the others wait for how it goes."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Asking:
    """A process's questions to OpenSearch. Its methods are for the event loop, where nothing needs a lock."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="opensearch")
        self._places = threading.BoundedSemaphore(MOST)
        self._in_vain = 0
        self._again_at = 0.0

    async def ask(self, question: Callable[[], T]) -> T:
        """What `question` returns or raises. Raises `Unavailable` at once where it is not asked, and `Silent` after
        READ_SECONDS, the time for a thread included."""
        self._let_in()
        if not self._places.acquire(blocking=False):
            raise Unavailable("too many are searching at the moment", code="index_unavailable", retry_after=1)
        seconds = opensearch_client.READ_SECONDS
        deadline = time.monotonic() + seconds
        context = contextvars.copy_context()  # traces go on in it, as in `asyncio.to_thread`
        sent = threading.Event()
        work = self._threads.submit(context.run, _timely, question, deadline, sent)
        # A thread may be busy for a little longer than its caller waits.
        work.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(seconds):
                found = await asyncio.wrap_future(work)
        except (TimeoutError, Silent) as error:
            if sent.is_set():  # one request without an answer is one, however many waited for it
                self._without_answer()
            raise Silent from error
        except Exception:
            self._with_answer(sent.is_set())  # an error is one too
            raise
        self._with_answer(sent.is_set())
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _let_in(self) -> None:
        if self._in_vain < IN_VAIN:
            return
        now = time.monotonic()
        if now < self._again_at:
            raise Silent
        self._again_at = now + PAUSE_SECONDS

    def _with_answer(self, sent: bool) -> None:
        if sent:
            self._in_vain = 0
        elif self._in_vain >= IN_VAIN:
            # It needed no request (nothing to complete, a cursor that is none), and tried nothing: the next one may.
            self._again_at = time.monotonic()

    def _without_answer(self) -> None:
        self._in_vain += 1
        self._again_at = time.monotonic() + PAUSE_SECONDS
        if self._in_vain == IN_VAIN:
            log.warning("OpenSearch does not answer; it is asked now and then only")


def _timely(question: Callable[[], T], deadline: float, sent: threading.Event) -> T:
    with within(deadline, sent):
        return question()
