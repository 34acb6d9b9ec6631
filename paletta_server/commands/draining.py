"""An API process that is told to stop leaves in good order.

SIGTERM: `/readyz` says so at once, long polls are answered with what there is, every answer closes its connection; new
requests are served all the same, for `PALETTA_DRAIN_SECONDS`, until the balancer has noticed. Then the port is closed,
and what is still at work has its time to finish. A second signal, or Ctrl-C, skips the waiting.
"""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from fastapi import FastAPI


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with a time between the signal and the end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, drain_seconds: float) -> None:
        super().__init__(config)
        self._api = app
        self._drain_seconds = drain_seconds
        self._told_at: float | None = None
        self._signal: int = signal.SIGTERM
        self._at_once = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """In a signal handler: only notes it, the next tick acts."""
        if self.should_exit:
            super().handle_exit(sig, frame)
            return
        if sig == signal.SIGINT or self._told_at is not None:
            self._at_once = True
        if self._told_at is None:
            self._told_at, self._signal = time.monotonic(), sig

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._told_at is not None and not self.should_exit:
            runtime = getattr(self._api.state, "runtime", None)
            if runtime is not None and not runtime.notify.ending:
                runtime.notify.end()
            if self._at_once or time.monotonic() - self._told_at >= self._drain_seconds:
                super().handle_exit(self._signal, None)
        return await super().on_tick(counter)
