"""Storing what an attempt made, and describing it for the clip."""

import hashlib
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync

from paletta_server.clips.service import Made
from paletta_server.core.storage import ObjectStore
from paletta_server.ingest.probe import Probe
from paletta_server.ingest.transcode import MadeFilm, MadeRendition, TranscodeResult

PREVIEW_CACHE_SECONDS = 365 * 24 * 3600
"""Keys are never reused, so what they name never changes."""


async def store_outputs(store: ObjectStore, prefix: str, result: TranscodeResult) -> list[dict[str, Any]]:
    """Upload every output that is not stored yet below `prefix`; rows for the clip's renditions."""
    rows = []
    for facts in _outputs(result):
        path: Path = facts.pop("path")
        key = facts.pop("stored")
        if key is None:
            key = f"{prefix}{path.name}"
            await store.upload(
                path, key, content_type=facts["content_type"], cache_seconds=PREVIEW_CACHE_SECONDS
            )
        rows.append(
            {
                "number": 1,
                **facts,
                "key": key,
                "size": path.stat().st_size,
                "sha256": await run_sync(_sha256, path),
            }
        )
    return rows


def _outputs(result: TranscodeResult) -> list[dict[str, Any]]:
    """Every output with the columns that describe it; all of them have the same keys."""
    blank: dict[str, Any] = {"width": None, "height": None, "codec": None, "at_seconds": None, "number": 1}
    blank["stored"] = None
    films: list[tuple[str, MadeFilm | MadeRendition]] = [("comp", result.comp), ("loop", result.loop)]
    films += [(rendition.tier, rendition) for rendition in result.renditions]
    outputs = [
        {
            **blank,
            "kind": kind,
            "path": film.path,
            "content_type": "video/mp4",
            "width": film.width,
            "height": film.height,
            "codec": film.codec,
            "stored": film.key if isinstance(film, MadeRendition) else None,
        }
        for kind, film in films
    ]
    outputs += [
        {
            **blank,
            "kind": "poster",
            "number": number,
            "path": poster.path,
            "content_type": "image/jpeg",
            "width": poster.width,
            "height": poster.height,
            "at_seconds": poster.at,
        }
        for number, poster in enumerate(result.posters, start=1)
    ]
    outputs.append({**blank, "kind": "storyboard", "path": result.storyboard, "content_type": "image/jpeg"})
    outputs.append(
        {**blank, "kind": "storyboard_vtt", "path": result.storyboard_vtt, "content_type": "text/vtt"}
    )
    return outputs


def made(
    found: Probe, result: TranscodeResult, renditions: list[dict[str, Any]], warnings: list[str]
) -> Made:
    """What the clip is told: facts from the probe, the stored outputs, and the poster that was chosen."""
    return Made(
        technical={
            **found.to_dict(),
            "frames_decoded": result.frames_decoded,
            "cuts": list(result.cuts),
            "original_serves": list(result.original_serves),
        },
        duration=found.duration,
        width=found.video.width,
        height=found.video.height,
        fps=float(found.video.fps),
        codec=found.video.codec,
        warnings=warnings,
        renditions=renditions,
        poster_number=result.chosen + 1,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
