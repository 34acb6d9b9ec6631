"""Writing to an index of OpenSearch, item by item, so that of two writers the one that knows more wins.

Every document has a version of ours (`external_gte`): a number that only grows, drawn before what is written was
read. A node that lost its lock without knowing writes with a lower one and is refused.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paletta_server.core.errors import Unavailable
from paletta_server.core.logging import mask
from paletta_server.search.document import Document
from paletta_server.search.opensearch_client import WRITE_SECONDS, Missing, asking
from paletta_server.search.opensearch_schema import body_of

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

BULK_BYTES, BULK_ITEMS = 4_000_000, 1_000
"""Of one request: Amazon's smaller domains take no more than 10 MB."""
TRIES, PAUSE_SECONDS = 3, 0.2
"""For items that a busy node put off. After that the follower comes again by itself."""
STATE = "state"
_BUSY = frozenset({429, 502, 503, 504})

log = logging.getLogger(__name__)


def writing(index: str) -> str:
    """The alias through which an index is written to."""
    return f"{index}-w"


class Overtaken(Exception):
    """Another node writes here, and knows more: what we remember of the index is old."""


class Writer:
    """Writes to an index through its alias for writing: OpenSearch would make an index that is gone anew by itself,
    with a mapping of its own invention, but never an alias."""

    def __init__(self, client: OpenSearch, name: str) -> None:
        self._client = client
        self._name = writing(name)

    def write(self, documents: Sequence[Document], gone: Collection[int], version: int) -> None:
        """Put and forget documents. Returns when every one is in, or is known to be newer there.

        One that OpenSearch refuses for good is logged and taken out, so that neither an old state of the clip goes
        on showing nor the rest waits for it. Raises `Unavailable`, after which any part may have been written.
        """
        lines = [_put(document, version) for document in documents]
        lines += [_delete(clip, version) for clip in gone]
        for batch in _batches(lines):
            self._send(batch, version)

    def _send(self, batch: list[str], version: int) -> None:
        for turn in range(TRIES):
            if turn:
                time.sleep(PAUSE_SECONDS * 2**turn)
            try:
                with asking():
                    answer = self._client.bulk(
                        body="".join(batch),
                        index=self._name,
                        params={"request_timeout": WRITE_SECONDS, "require_alias": "true"},
                    )
            except Missing as error:
                raise _gone() from error
            busy, refused = _sorted_out(batch, answer)
            if refused:
                self._send([_delete(clip, version) for clip in refused], version)
            if not busy:
                return
            batch = busy
        raise Unavailable("the search index is too busy to write to", code="index_unavailable")

    def show(self) -> None:
        """Let everybody find what was written."""
        try:
            with asking():
                self._client.indices.refresh(index=self._name, params={"request_timeout": WRITE_SECONDS})
        except Missing as error:
            raise _gone() from error

    def keep(self, state: Mapping[str, Any], version: int) -> None:
        """Raises `Overtaken`."""
        from opensearchpy.exceptions import ConflictError

        try:
            with asking():
                try:
                    self._client.index(
                        index=self._name,
                        id=STATE,
                        body={"kept": json.dumps(dict(state))},
                        params={
                            "version": version,
                            "version_type": "external_gte",
                            "require_alias": "true",
                            "request_timeout": WRITE_SECONDS,
                        },
                    )
                except ConflictError as error:
                    raise Overtaken(self._name) from error
        except Missing as error:
            raise Overtaken(self._name) from error

    def state(self) -> dict[str, Any]:
        """What was kept last, shown or not."""
        found = self._state()
        return {} if found is None else dict(json.loads(found["_source"]["kept"]))

    def version(self) -> int:
        """With which the state was kept; 0 where there is none."""
        found = self._state()
        return 0 if found is None else int(found["_version"])

    def _state(self) -> dict[str, Any] | None:
        try:
            with asking():
                found: dict[str, Any] = self._client.get(index=self._name, id=STATE)
                return found
        except Missing:
            return None


def _gone() -> Unavailable:
    return Unavailable("the search index is gone", code="index_unavailable")


def _put(document: Document, version: int) -> str:
    action = {"index": {"_id": str(document.id), "version": version, "version_type": "external_gte"}}
    body = json.dumps(body_of(document), ensure_ascii=False, separators=(",", ":"))
    return f"{json.dumps(action)}\n{body}\n"


def _delete(clip_id: int, version: int) -> str:
    action = {"delete": {"_id": str(clip_id), "version": version, "version_type": "external_gte"}}
    return f"{json.dumps(action)}\n"


def _batches(lines: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for line in lines:
        weight = len(line.encode())
        if batch and (size + weight > BULK_BYTES or len(batch) == BULK_ITEMS):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += weight
    if batch:
        yield batch


def _sorted_out(batch: list[str], answer: dict[str, Any]) -> tuple[list[str], list[int]]:
    """What a busy node put off, and the clips that OpenSearch refuses. Raises `Unavailable` for what is neither."""
    if len(answer["items"]) != len(batch):
        raise Unavailable("the search index answered for other items", code="index_unavailable")
    busy, refused = [], []
    for line, item in zip(batch, answer["items"], strict=True):
        ((action, one),) = item.items()
        status = one["status"]
        if status < 300 or status == 409 or (action == "delete" and status == 404):
            continue  # in; or there is something newer; or there was nothing
        reason = mask(str((one.get("error") or {}).get("type", "")))[:200]
        if status in _BUSY:
            busy.append(line)
        elif action == "index" and status == 400:
            log.error("a clip cannot be indexed", extra={"clip": one["_id"], "reason": reason})
            refused.append(int(one["_id"]))
        else:
            log.warning("OpenSearch failed", extra={"status": status, "reason": reason})
            raise Unavailable("the search index cannot be written to", code="index_unavailable")
    return busy, refused
