"""Clips as ingest leaves them, without transcoding, under ids that tests can print."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.support.uploading import Uploader, item

COMP = b"not a film, but what the test looks for" * 1000
POSTERS = 6
_MADE = "2026-05-14T10:00:00+00:00"


def jpeg(
    width: int = 64,
    height: int = 36,
    colour: tuple[int, int, int] = (200, 60, 40),
    noise: random.Random | None = None,
) -> bytes:
    """A JPEG of one colour, but for a darker right half; or of noise."""
    frame = av.VideoFrame(width, height, "rgb24")
    plane = frame.planes[0]
    left, right = bytes(colour), bytes(part // 2 for part in colour)
    row = (left * (width // 2) + right * (width - width // 2)).ljust(plane.line_size, b"\0")
    plane.update(noise.randbytes(plane.line_size * height) if noise else row * height)
    target = io.BytesIO()
    with av.open(target, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        container.mux(stream.encode(frame.reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    return target.getvalue()


@dataclass
class Shelf:
    """Clips of one contributor. `data` has the bytes that each was made from, by file name."""

    up: Uploader
    runtime: Runtime
    folder: Path
    data: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, client: httpx.AsyncClient, headers: dict[str, str], runtime: Runtime, folder: Path) -> Shelf:
        return cls(Uploader(client, headers), runtime, folder)

    async def put(self, name: str, *, stage: str = "live", media: bool = False, **metadata: Any) -> str:
        """A clip of the file `<name>.mov`; its id is `clip_<name>` filled up with 2s. `media`: objects in the store.

        `stage` is live, in_review, rejected, failed, taken_down or processing.
        """
        file, uid = f"{name}.mov", f"clip_{name:2<12}"
        data = self.data[file] = f"the bytes of {file}".encode()
        (registered,) = await self.up.register(await self.up.batch(), item(data, file, **metadata))
        assert registered["outcome"] == "created", registered
        await self._sql(
            "UPDATE clips SET uid = :uid, created_at = :made WHERE uid = :old",
            old=registered["clip_id"],
            uid=uid,
        )
        await self._sql(
            "UPDATE uploads SET clip_uid = :uid WHERE clip_uid = :old", old=registered["clip_id"], uid=uid
        )
        if stage == "processing":
            return uid
        processing = "failed" if stage == "failed" else "ready"
        review = {"live": "approved", "in_review": "submitted", "failed": "draft"}.get(stage, stage)
        await self._sql(
            "UPDATE clips SET processing = :processing, review = :review, technical = '{}', duration = 8.04,"
            " width = 1920, height = 1080, fps = 24, codec = 'h264', poster_number = 2, reason = :reason,"
            " listed_at = CASE WHEN :review = 'approved' THEN CAST(:made AS timestamptz) END WHERE uid = :uid",
            uid=uid,
            processing=processing,
            review=review,
            reason="is 2.1 s long, at least 3 wanted" if stage in ("rejected", "failed") else None,
        )
        await self._sql(
            "UPDATE uploads SET state = :state, stage = :stage WHERE clip_uid = :uid",
            uid=uid,
            state="rejected" if stage == "failed" else "verified",
            stage=stage,
        )
        if processing == "ready":
            await self._renditions(uid, media=media)
        return uid

    async def _renditions(self, uid: str, *, media: bool) -> None:
        for number in range(1, POSTERS + 1):
            key = f"media/{uid}/poster-{number}.jpg"
            await self._rendition(uid, "poster", number, key, "image/jpeg", at=number * 1.25)
            if media:
                await self._store(key, jpeg(colour=(30 * number, 60, 200)), "image/jpeg")
        await self._rendition(uid, "comp", 0, f"media/{uid}/comp.mp4", "video/mp4")
        await self._rendition(uid, "hd", 0, f"sale/{uid}/hd.mp4", "video/mp4", codec="h264")
        if media:
            await self._store(f"media/{uid}/comp.mp4", COMP, "video/mp4")

    async def _rendition(
        self, uid: str, kind: str, number: int, key: str, content_type: str, *, at: float | None = None,
        codec: str | None = None,
    ) -> None:  # fmt: skip
        await self._sql(
            "INSERT INTO renditions (clip_id, kind, number, key, content_type, size, sha256, width, height,"
            " at_seconds, codec) SELECT id, :kind, :number, :key, :type, 2048, repeat('0', 64), 640, 360,"
            " CAST(:at AS float), CAST(:codec AS text) FROM clips WHERE uid = :uid",
            uid=uid, kind=kind, number=number, key=key, type=content_type, at=at, codec=codec,
        )  # fmt: skip

    async def _store(self, key: str, data: bytes, content_type: str) -> None:
        source = self.folder / "object"
        source.write_bytes(data)
        await self.runtime.store.upload(source, key, content_type=content_type, cache_seconds=60)

    async def _sql(self, statement: str, **values: Any) -> None:
        query = text(statement)
        if ":made" in statement:
            from datetime import datetime

            values["made"] = datetime.fromisoformat(_MADE)
        async with self.runtime.db.transaction() as session:
            await session.execute(query, values)
