"""Pages as people see them: Debian's chromium without a window, on this machine only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def chromium() -> str:
    """The browser's program; skips the test where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium here (`apt-get install chromium`)")
    return found


def look(address: str, *, width: int, height: int, picture: Path | None = None, dark: bool = False) -> str:
    """The page's document after the browser is done with it; with `picture` also how it looks."""
    with tempfile.TemporaryDirectory() as profile:
        flags = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
            ),
            *(f"--user-data-dir={profile}", f"--window-size={width},{height}", "--virtual-time-budget=3000"),
        ]
        if dark:
            flags.append("--blink-settings=preferredColorScheme=0")
        program = chromium()
        environment = {**os.environ, "HOME": profile}
        if picture is not None:
            subprocess.run(
                [program, *flags, f"--screenshot={picture}", address],
                check=True, capture_output=True, timeout=120, env=environment,
            )  # fmt: skip
        seen = subprocess.run(
            [program, *flags, "--dump-dom", address],
            check=True, capture_output=True, timeout=120, text=True, env=environment,
        )  # fmt: skip
    return seen.stdout
