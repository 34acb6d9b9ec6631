"""Everything about one clip, for its owner and for others."""

from __future__ import annotations

import io
from typing import Any

from paletta_cli.clips.showing import show_clip
from paletta_cli.output import Output

CLIP: dict[str, Any] = {
    "id": "clip_tram22222222",
    "title": "Yellow tram climbs a steep street",
    "stage": "live",
    "created_at": "2026-05-01T10:00:00Z",
    "version": 1,
    "media": {},
}


def shown(**more: Any) -> str:
    stdout = io.StringIO()
    show_clip(Output(stdout=stdout), {**CLIP, **more}, addresses=False)
    return stdout.getvalue()


def test_the_file_is_shown_to_who_is_told_its_name() -> None:
    assert "file\ttram.mov, 21.7 MiB\n" in shown(file="tram.mov", size=22_750_000)
    stranger = shown(file=None, size=22_750_000)
    assert "file" not in stranger
    assert "None" not in stranger
