"""The upload calls of the API, with the answers as values.

Every call may be repeated: the service answers the same.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paletta_cli.api import Service
from paletta_cli.text import clean
from paletta_cli.transfer.fingerprint import PartRule
from paletta_cli.transfer.items import Item, Part, SignedPut
from paletta_cli.transfer.journal import Run

MOST_WAIT = 25
"""Seconds that a long-poll may take; proxies cut idle requests at 30 or 60."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The service's figures for uploads, from `GET /v1/manifest-schema`."""

    parts: PartRule = field(default_factory=PartRule)
    items_per_call: int = 100
    parts_per_call: int = 256
    url_seconds: float = 900.0

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Limits":
        """From the document's `upload` member; what is missing keeps its default."""
        upload = document.get("upload") or {}
        rule, plain = PartRule(), cls()
        return cls(
            parts=PartRule(
                least=int(upload.get("min_part", rule.least)),
                most=int(upload.get("max_part", rule.most)),
                target=int(upload.get("target_parts", rule.target)),
                limit=int(upload.get("max_parts", rule.limit)),
            ),
            items_per_call=int(upload.get("items_per_call", plain.items_per_call)),
            parts_per_call=int(upload.get("parts_per_call", plain.parts_per_call)),
            url_seconds=float(upload.get("url_seconds", plain.url_seconds)),
        )


class Protocol:
    """The calls of one run. `service` should have many tries: a transfer can wait."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service = service
        self.limits = limits

    def open_batch(self, run: Run) -> dict[str, Any]:
        """The batch of this run, made if need be."""
        body = {"client_ref": run.client_ref, "name": run.name}
        answer: dict[str, Any] = self.service.post("/v1/upload-batches", body, idempotent=True)
        return answer

    def register(self, batch_id: str, items: Sequence[Item], *, partly: bool) -> dict[str, dict[str, Any]]:
        """Announce files with their fingerprints and metadata: the service's answer by ref.

        While the service takes no new files this waits until it does, or with `partly` leaves those out."""
        body = {"items": [_registration(item) for item in items]}
        answer = self.service.request(
            "POST",
            f"/v1/upload-batches/{batch_id}/items",
            params={"partly": "true"} if partly else None,
            body=body,
            idempotent=True,
        )
        return {entry["ref"]: entry for entry in answer["items"]}

    def sign(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        """Signed requests by upload id: `{"parts": {number: SignedPut}}`, or `{"problem": {…}}`."""
        wanted: dict[str, list[dict[str, Any]]] = {}
        for part in parts:
            assert part.item.print is not None
            crc = part.item.print.part_crc64nvme(part.number)
            wanted.setdefault(part.item.upload_id, []).append({"number": part.number, "crc64nvme": crc})
        body = {"uploads": [{"upload_id": upload, "parts": asked} for upload, asked in wanted.items()]}
        answer = self.service.post("/v1/uploads/sign", body, idempotent=True)
        return {
            entry["upload_id"]: {
                "problem": entry.get("problem"),
                "parts": {
                    part["number"]: SignedPut(part["url"], part["headers"])
                    for part in entry.get("parts") or ()
                },
            }
            for entry in answer["uploads"]
        }

    def complete(self, items: Iterable[Item]) -> dict[str, dict[str, Any]]:
        """Ask that uploads be put together: the service's answer by upload id."""
        body = {"uploads": [{"upload_id": item.upload_id} for item in items]}
        answer = self.service.post("/v1/uploads/complete", body, idempotent=True)
        return {entry["upload_id"]: entry for entry in answer["uploads"]}

    def rehearse(self, items: Sequence[Item]) -> dict[str, dict[str, Any]]:
        """What `register` would answer in a new batch, by ref; nothing is registered."""
        body = {"items": [_registration(item) for item in items]}
        answer = self.service.post("/v1/uploads/rehearse", body, idempotent=True)
        return {entry["ref"]: entry for entry in answer["items"]}

    def differing(self, items: Sequence[Item]) -> set[str]:
        """The refs of those whose clips were described otherwise than their manifest does now. Changes nothing.

        An upload leaves such clips alone. A token for uploads alone may not ask: 403, as any other error, is raised.
        """
        found: set[str] = set()
        for start in range(0, len(items), self.limits.items_per_call):
            asked = [
                {"ref": item.ref, "sha256": item.print.sha256, "metadata": dict(item.metadata)}
                for item in items[start : start + self.limits.items_per_call]
                if item.print is not None
            ]
            body = {"items": asked, "dry_run": True}
            answer = self.service.post("/v1/clips/apply", body, idempotent=True)
            found.update(change["ref"] for change in answer["changes"])
        return found

    def cancel(self, item: Item) -> None:
        """Give an upload up; its parts are dropped."""
        self.service.post(f"/v1/uploads/{item.upload_id}/cancel", idempotent=True)

    def seal(self, batch_id: str) -> None:
        """No more files will come: when the last one has its verdict, the batch is settled."""
        self.service.post(f"/v1/upload-batches/{batch_id}/seal", idempotent=True)

    def progress(self, batch_id: str, after: int, wait: int) -> dict[str, Any]:
        """What changed in a batch since version `after`; waits up to `wait` seconds for something."""
        answer: dict[str, Any] = self.service.get(
            f"/v1/upload-batches/{batch_id}/progress", after=after, wait=wait, timeout=wait + 30.0
        )
        return answer


def batch_name(folder: str) -> str:
    """What a batch is called in lists and in the mail: the folder, and the machine it came from."""
    return f"{clean(folder)} ({socket.gethostname()})"[:200]


def _registration(item: Item) -> dict[str, Any]:
    assert item.print is not None
    return {
        "ref": item.ref,
        "file": {
            "name": item.path.name,
            "size": item.print.size,
            "sha256": item.print.sha256,
            "crc64nvme": item.print.crc64nvme,
        },
        "metadata": dict(item.metadata),
    }
