"""Addresses of bought files, asked for in batches shortly before they are needed, and again when they expire."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import ApiProblem, PalettaError
from paletta_cli.settings import checked_url
from paletta_cli.transfer.wanted import Link, Wanted

if TYPE_CHECKING:
    from paletta_cli.api import Service

_PER_CALL = 100  # the service's limit
_AHEAD_BYTES = 4 * 1024**3  # of files to ask for in advance: addresses live for minutes only
_SHARE = 0.8  # of its life after which an address is not used any more
_ABOUT_A_FILE = frozenset({"suspended", "withheld", "revoked", "not_found", "file_missing", "restoring"})
_LEEWAY = 20.0  # seconds of a long life that are enough for a request to begin in


class Refused(PalettaError):
    """The service gives no address for a file; others may have one. `code` is its word for why."""

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Links:
    """The addresses of a run's files. Safe for many threads; one call to the service at a time."""

    def __init__(self, service: "Service", files: Sequence[Wanted]) -> None:
        self._service = service
        self._files = files
        self._place = {file: number for number, file in enumerate(files)}
        self._links: dict[Wanted, Link | Refused] = {}
        self._lock = threading.Lock()
        self.calls = 0

    def get(self, file: Wanted) -> Link:
        """An address that is good for now. Raises Refused, and the errors of `paletta_cli.errors`."""
        found = self._links.get(file)
        if not _good(found):
            with self._lock:
                found = self._links.get(file)  # another thread may have asked meanwhile
                if not _good(found):
                    self._ask(file)
                    found = self._links[file]
        if isinstance(found, Refused):
            raise found
        assert found is not None
        return found

    def expired(self, file: Wanted, link: Link) -> None:
        """The store does not take this address any more."""
        with self._lock:
            if self._links.get(file) is link:
                del self._links[file]

    def _ask(self, first: Wanted) -> None:
        batch, volume = [first], first.size
        for file in self._files[self._place[first] + 1 :]:
            if len(batch) == _PER_CALL or volume > _AHEAD_BYTES:
                break
            if not file.over and not _good(self._links.get(file)):
                batch.append(file)
                volume += file.size
        self._ask_for(batch)

    def _ask_for(self, batch: Sequence[Wanted]) -> None:
        asked = time.monotonic()
        body = {"files": [{"item_id": file.item_id, "tier": file.tier} for file in batch]}
        self.calls += 1
        try:
            answers = self._service.post("/v1/downloads", body, idempotent=True)["files"]
        except ApiProblem as error:
            if error.code not in _ABOUT_A_FILE:
                raise
            if len(batch) > 1:  # it may be about any of them: ask for the one that is needed by itself
                self._ask_for(batch[:1])
            else:
                self._links[batch[0]] = Refused(error.message, code=error.code, hint=error.hint)
            return
        for file, answer in zip(batch, answers, strict=True):
            self._links[file] = _read(file, answer, asked)


def _good(found: "Link | Refused | None") -> bool:
    return isinstance(found, Refused) or (found is not None and time.monotonic() < found.until)


def _read(file: Wanted, answer: dict[str, Any], asked: float) -> "Link | Refused":
    problem = answer.get("problem")
    if isinstance(problem, dict):
        hint = problem.get("hint")
        return Refused(
            str(problem.get("detail")), code=str(problem.get("code")), hint=str(hint) if hint else None
        )
    if (answer["size"], answer["sha256"]) != (file.size, file.sha256):
        return Refused("the service names another file than before", code="file_differs", hint="run it again")
    seconds = float(answer["expires_in"])
    checked_url(str(answer["url"]).split("?", 1)[0])
    life = max(seconds * _SHARE, seconds - _LEEWAY)
    return Link(str(answer["url"]), str(answer["etag"]), asked, asked + life)
