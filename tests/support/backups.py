"""What tests of backups share: a service with something to lose, and looking at what came back."""

from __future__ import annotations

import hashlib
import json

import httpx
from sqlalchemy import text

from paletta_server.app import create_app
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations.backup_files import Folder
from tests.conftest import Person
from tests.support.orders import Sold

FILES = {"hd": b"an hd file" * 500, "original": b"the original file" * 5000}


async def put_originals(runtime: Runtime) -> None:
    """The clips that a till sells are listed, but have no original in the store: give them one."""
    async with runtime.db.transaction() as session:
        keys = list(await session.scalars(text("SELECT original_key FROM clips WHERE size = 1")))
        await session.execute(
            text("UPDATE clips SET sha256 = :digest WHERE size = 1"),
            {"digest": hashlib.sha256(b"x").hexdigest()},
        )
    for key in keys:
        runtime.store._client().put_object(Bucket=runtime.store.bucket, Key=str(key), Body=b"x")


async def fetch(settings: Settings, person: Person, sold: Sold) -> dict[tuple[str, str], bytes]:
    """Everything that was bought, from the service that `settings` describe."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=settings.public_url) as client,
        httpx.AsyncClient(trust_env=False, timeout=60) as store,
    ):
        wanted = [{"item_id": item, "tier": tier} for item, tier in sold.data]
        answer = await client.post("/v1/downloads", json={"files": wanted}, headers=person.headers)
        assert answer.status_code == 200, answer.text
        return {
            (one["item_id"], one["tier"]): (await store.get(one["url"])).content
            for one in answer.json()["files"]
        }


def rewrite(folder: Folder, **changes: object) -> None:
    path = folder.root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
