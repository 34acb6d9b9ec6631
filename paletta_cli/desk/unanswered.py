"""Requests that move money and whose answer never came: what was asked, so that it can be asked again and not anew.

A command that loses the service after it asked cannot know what became of it. The same command again sends the same
request with the same key, for which the service gives the answer that it gave, or would have given.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paletta_cli.errors import ApiProblem, Interrupted, PalettaError

_KEPT_SECONDS = 7 * 86_400
"""Longer than anybody takes to look; by then `refunds list` is the way to find out."""
_BEFORE_THE_KEY = (401, 403, 408, 425, 429)
"""Answers that come before anybody looks at the key: they say nothing of what was asked before with it."""
_OPEN = "it may have been done: the same command again asks what became of it, and does it once"


class Unanswered:
    """The request of one command at one service; `words` are what makes two commands the same."""

    def __init__(self, folder: Path, url: str, words: Sequence[object]) -> None:
        name = hashlib.sha256(json.dumps([url, *words], default=str).encode()).hexdigest()
        self._path = folder / "unanswered" / f"{name[:32]}.json"

    def before(self) -> dict[str, Any] | None:
        """The body that the same command sent before without getting an answer."""
        kept = self._kept()
        return None if kept is None else kept["body"]

    def asked_at(self) -> str:
        """When that was first sent, in ISO 8601, UTC; "" when nothing is kept."""
        with suppress(OSError):
            return datetime.fromtimestamp(self._path.stat().st_mtime, UTC).isoformat()
        return ""

    def ask(self, body: Mapping[str, Any], send: Callable[[Mapping[str, Any], str], Any]) -> Any:
        """Send a request with a key of its own, or the one of before once more, and remember it until it is answered.

        `send` must not stop in between to ask somebody for a password: while it runs, the request may be under way.
        Raises what `send` raises; where that leaves the outcome open, with a hint how to find out.
        """
        from paletta_cli.settings import write_private

        before = self._kept()
        kept = before or {"body": dict(body), "key": secrets.token_urlsafe(16)}
        if before is None:  # its time is the one of the first asking
            write_private(self._path, json.dumps(kept))
        try:
            answer = send(kept["body"], kept["key"])
        except ApiProblem as problem:
            if problem.unbegun and before is None:
                self._forget()
            elif problem.body.get("code") and problem.status < 500 and problem.status not in _BEFORE_THE_KEY:
                # The service refused it, for certain. What stands before it may answer so too, and knows nothing.
                self._forget()
            elif problem.status not in _BEFORE_THE_KEY or before is None:
                problem.hint = _OPEN
            raise
        except PalettaError as error:
            if error.unbegun and before is None:
                self._forget()
            else:
                error.hint = _OPEN
            raise
        except Interrupted as interrupted:
            interrupted.hint = _OPEN
            raise
        self._forget()
        return answer

    def _kept(self) -> dict[str, Any] | None:
        with suppress(OSError, ValueError):
            if time.time() - self._path.stat().st_mtime < _KEPT_SECONDS:
                found = json.loads(self._path.read_text())
                return found if isinstance(found, dict) else None
        return None

    def _forget(self) -> None:
        self._path.unlink(missing_ok=True)
