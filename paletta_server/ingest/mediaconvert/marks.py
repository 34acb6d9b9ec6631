"""The watermark as MediaConvert inserts it: a PNG in the bucket, stored once for each size of comp."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from anyio.to_thread import run_sync

from paletta_server.core.storage import ObjectStore
from paletta_server.ingest.plan import Preview
from paletta_server.ingest.scratch import scratch
from paletta_server.ingest.watermark import watermark

FOLDER = "_paletta/marks/"
_CACHE_SECONDS = 365 * 24 * 3600


async def ensure(store: ObjectStore, scratch_dir: Path, comp: Preview, run: str) -> str:
    """The key of the mark for this comp, stored if it was not. Raises `StoreError` and `Unavailable`."""
    png = await run_sync(_png, comp.width, comp.height)
    # By what it looks like: another mark gets another key, and jobs under way keep theirs.
    key = f"{FOLDER}{comp.width}x{comp.height}-{hashlib.sha256(png).hexdigest()[:12]}.png"
    if await store.head(key) is None:
        with scratch(scratch_dir, f"mark-{run}") as folder:
            (folder / "mark.png").write_bytes(png)
            await store.upload(
                folder / "mark.png", key, content_type="image/png", cache_seconds=_CACHE_SECONDS
            )
    return key


def _png(width: int, height: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.frombytes("RGBA", (width, height), watermark(width, height)).save(out, "PNG")
    return out.getvalue()
