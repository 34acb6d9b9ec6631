"""Pages as people see them: Debian's chromium without a window, on this machine only."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        environment = {**os.environ, "HOME": profile, "TMPDIR": profile}
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


class Browser:
    """One tab that can be clicked in: chromium's DevTools protocol over a pair of pipes.

    Made for a test's thread: every call waits for the browser. `with Browser(width=…, height=…) as tab:`.
    """

    def __init__(self, *, width: int, height: int) -> None:
        self._size = width, height
        self._serial = 0

    def __enter__(self) -> Browser:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        width, height = self._size
        # The protocol is spoken on descriptors 3 and 4; which numbers ours have is chance.
        program = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", program, str(theirs), str(answers), chromium(), "--headless=new"),
                *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--hide-scrollbars", "--remote-debugging-pipe", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", f"--user-data-dir={self._profile.name}"),
                *(f"--window-size={width},{height}", "about:blank"),
            ],
            pass_fds=(theirs, answers),
            env={**os.environ, "HOME": self._profile.name, "TMPDIR": self._profile.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._answers = os.fdopen(self._from, "rb")
        self._watchdog = threading.Timer(120, self._process.kill)
        self._watchdog.start()
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        self._answers.close()
        self._profile.cleanup()

    _session: str | None = None
    _loader: str | None = None

    def open(self, address: str) -> None:
        """Go to an address and wait until it is there."""
        self._events.clear()
        # By its own name: the empty page of the beginning may say only now that it is there.
        loader = self._call("Page.navigate", url=address)["loaderId"]
        self._loaded(lambda one: one == loader)

    def press(self, words: str) -> None:
        """Click, as a mouse does, on the one button or link with these words, and wait for the page that follows."""
        place = self.run(
            "(words => { const found = [...document.querySelectorAll('button, a')]"
            ".filter(one => one.textContent.trim() === words); if (found.length !== 1) return found.length;"
            " found[0].scrollIntoView({block: 'center'}); const at = found[0].getBoundingClientRect();"
            " return [at.x + at.width / 2, at.y + at.height / 2] })" + f"({json.dumps(words)})"
        )
        assert isinstance(place, list), f"{place} buttons say “{words}” on\n{self.text}"

        self._events.clear()
        before = self._loader
        for kind in ("mousePressed", "mouseReleased"):
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )
        self._loaded(lambda one: one != before)

    @property
    def text(self) -> str:
        """What the page says, as it is read."""
        return str(self.run("document.body.innerText"))

    @property
    def address(self) -> str:
        return str(self.run("location.href"))

    def picture(self, path: Path) -> None:
        """A PNG of the whole page, however long."""
        taken = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def run(self, script: str) -> Any:
        """The value of an expression in the page, from outside of what its content security policy allows."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _loaded(self, which: Callable[[str], bool]) -> None:
        """Return when such a page is there; `which` is told the id of each that is."""
        while True:
            for event in self._events:
                params = event.get("params", {})
                if params.get("name") == "load" and which(params["loaderId"]):
                    self._loader = params["loaderId"]
                    return
            self._events.append(self._next())

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._serial += 1
        request: dict[str, Any] = {"id": self._serial, "method": method, "params": params}
        if self._session is not None:
            request["sessionId"] = self._session
        os.write(self._to, json.dumps(request).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._serial:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self._events.append(message)

    def _next(self) -> dict[str, Any]:
        """The next message. A browser that is stuck for two minutes is ended by its watchdog, and then this raises."""
        found = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise ConnectionError("the browser ended")
            found += byte
        message: dict[str, Any] = json.loads(found)
        return message
