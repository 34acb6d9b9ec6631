"""Finished clips whose objects a test may lose, and the audit that finds out."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.operations.mending import mend
from paletta_server.operations.storage_audit import Fault, Report, audit
from tests.support.uploading import Uploader

NOW = timedelta(seconds=-5)
"""An age that everything has, whoever's clock is ahead."""


class Stock:
    """Finished clips with an original and a preview in the store."""

    def __init__(self, up: Uploader, runtime: Runtime, folder: Path) -> None:
        self.up, self.runtime, self.folder = up, runtime, folder

    async def clip(self, name: str) -> tuple[str, str, str]:
        """A live clip; its id, and the keys of its original and of its preview."""
        sent = await self.up.send(f"the original of {name}".encode())
        uid = str(sent["clip_id"])
        preview = f"media/{uid}/run_2222/comp.mp4"
        body = f"the preview of {name}".encode()
        await self.put(preview, body)
        await self.sql(
            "UPDATE clips SET processing = 'ready', review = 'approved', technical = '{}', listed_at = now()"
            " WHERE uid = :uid",
            uid=uid,
        )
        await self.sql("UPDATE uploads SET state = 'verified', stage = 'live' WHERE clip_uid = :uid", uid=uid)
        await self.sql(
            "INSERT INTO renditions (clip_id, kind, key, content_type, size, sha256)"
            " SELECT id, 'comp', :key, 'video/mp4', :size, :sha256 FROM clips WHERE uid = :uid",
            uid=uid, key=preview, size=len(body), sha256=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        return uid, await self.one("SELECT original_key FROM clips WHERE uid = :uid", uid=uid), preview

    async def put(self, key: str, data: bytes) -> None:
        source = self.folder / "object"
        source.write_bytes(data)
        await self.runtime.store.upload(source, key, content_type="video/mp4", cache_seconds=60)

    async def sql(self, statement: str, **values: object) -> None:
        async with self.runtime.db.transaction() as session:
            await session.execute(text(statement), values)

    async def one(self, query: str, **values: object) -> str:
        async with self.runtime.db.transaction() as session:
            return str(await session.scalar(text(query), values))

    async def audit(self, *, fix: bool = False, deep: bool = False) -> tuple[Report, dict[str, Fault]]:
        found: dict[str, Fault] = {}
        report = await audit(
            self.runtime,
            min_age=NOW,
            deep=deep,
            mend=partial(mend, self.runtime) if fix else None,
            on_fault=lambda fault: found.__setitem__(fault.key, fault),
        )
        return report, found
