"""A contributor's client in a few lines, for tests of the API: fingerprint, register, send, complete."""

from __future__ import annotations

import base64
import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
from awscrt.checksums import crc64nvme

METADATA: dict[str, Any] = {
    "title": "Yellow tram climbs a steep street",
    "keywords": ["tram", "lisbon", "street", "yellow", "hill"],
    "categories": ["transport"],
}


def checksum(data: bytes) -> str:
    """CRC64NVME as S3 writes it."""
    return base64.b64encode(crc64nvme(data).to_bytes(8, "big")).decode()


def item(data: bytes, ref: str = "clip.mp4", **metadata: Any) -> dict[str, Any]:
    """What registers these bytes."""
    facts = {
        "name": ref.rpartition("/")[2],
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "crc64nvme": checksum(data),
    }
    return {"ref": ref, "file": facts, "metadata": {**METADATA, **metadata}}


@dataclass
class Uploader:
    """Talks to the API as one person, and to the store as anybody."""

    client: httpx.AsyncClient
    headers: dict[str, str]
    # Without TLS, whose certificates take longer to load than most tests' uploads.
    store: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(trust_env=False, verify=False, timeout=60)
    )

    async def call(self, method: str, path: str, expect: int = 200, **kwargs: Any) -> Any:
        answer = await self.client.request(method, f"/v1{path}", headers=self.headers, **kwargs)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def batch(self, name: str = "lisbon") -> str:
        made = await self.call(
            "POST", "/upload-batches", 201, json={"client_ref": str(uuid.uuid4()), "name": name}
        )
        return str(made["id"])

    async def register(self, batch: str, *items: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.call("POST", f"/upload-batches/{batch}/items", json={"items": list(items)})
        found: list[dict[str, Any]] = answer["items"]
        return found

    async def put(self, address: dict[str, Any], data: bytes) -> httpx.Response:
        return await self.store.put(address["url"], headers=address["headers"], content=data)

    async def sign(self, upload_id: str, data: bytes, part_size: int, numbers: list[int]) -> dict[str, Any]:
        parts = [
            {"number": number, "crc64nvme": checksum(data[(number - 1) * part_size : number * part_size])}
            for number in numbers
        ]
        answer = await self.call(
            "POST", "/uploads/sign", json={"uploads": [{"upload_id": upload_id, "parts": parts}]}
        )
        signed: dict[str, Any] = answer["uploads"][0]
        return signed

    async def complete(self, *upload_ids: str) -> list[dict[str, Any]]:
        answer = await self.call(
            "POST", "/uploads/complete", json={"uploads": [{"upload_id": uid} for uid in upload_ids]}
        )
        found: list[dict[str, Any]] = answer["uploads"]
        return found

    async def send(self, data: bytes, batch: str | None = None, /, **metadata: Any) -> dict[str, Any]:
        """All of a small file's way into the store; the registration's answer."""
        (registered,) = await self.register(batch or await self.batch(), item(data, **metadata))
        assert registered["outcome"] == "created", registered
        assert (await self.put(registered["put"], data)).status_code == 200
        (completed,) = await self.complete(registered["upload_id"])
        assert completed["state"] == "stored", completed
        return registered
