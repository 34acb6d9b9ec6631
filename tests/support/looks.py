"""Storyboards of films as ingest makes them, without the rest of ingest, and films changed as copies are."""

from __future__ import annotations

import math
from pathlib import Path

from paletta_server.ingest.plan import Storyboard, fit
from paletta_server.ingest.storyboard import webvtt
from paletta_server.likeness.frames import Frame, frames_of
from tests.support.media import ffmpeg

FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-an")


def looks(film: Path, seconds: float, size: tuple[int, int]) -> list[Frame]:
    """The hashes of a film's frames."""
    cells = min(60, max(10, math.floor(seconds)))
    width, height = fit(*size, (160, 160))
    plan = Storyboard(
        "board.jpg", "board.vtt", width, height, 10, math.ceil(cells / 10), cells, seconds / cells
    )
    every = (
        f"isnan(prev_pts)+gt(floor((t+0.0005)/{plan.interval}),floor((prev_pts*TB+0.0005)/{plan.interval}))"
    )
    picture = film.with_suffix(".jpg")
    graph = f"scale={width}:{height}:flags=area,select='{every}',format=yuvj420p,tile=10x{plan.rows}"
    ffmpeg("-i", film, "-vf", graph, "-frames:v", "1", "-update", "1", picture)
    return frames_of(picture, webvtt(plan, seconds))


def copied(film: Path, name: str, *options: str, start: float = 0.0, crf: int = 30) -> Path:
    """The film encoded anew as `name`, from `start` seconds on, through the filter in `options`."""
    copy = film.with_name(name)
    ffmpeg("-ss", str(start), "-i", film, *options, *FAST, "-crf", str(crf), copy)
    return copy
