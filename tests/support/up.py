"""`paletta-server up` as a process under test: start it, read what it says, end it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
"""Patience on a busy machine; a test fails on the stack's end, not on its slowness."""


def clean_env(**extra: str) -> dict[str, str]:
    """The environment without any PALETTA_ setting of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PALETTA_")} | extra


class Up:
    """A running `paletta-server up`. Use as a context manager: it never outlives the block."""

    def __init__(
        self,
        *arguments: str,
        command: Sequence[str] = (sys.executable, "-m", "paletta_server.cli"),
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*command, "up", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env or clean_env(),
            cwd=cwd,
            start_new_session=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def ready(self) -> dict[str, Any]:
        """What it printed when everything was ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the stack ended:\n" + "\n".join(self.said)
        found: dict[str, Any] = json.loads(line)
        return found

    def wait_for(self, text: str) -> str:
        """The next line that contains `text`."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            line = self._lines.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"it ended without saying `{text}`:\n" + "\n".join(self.said)
            if text in line:
                return line

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(START_SECONDS)
        self._reader.join(10)
        return code

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
