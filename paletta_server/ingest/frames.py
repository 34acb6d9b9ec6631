"""Which candidate frames would make good posters: measured on the pictures, after the transcoding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from paletta_server.ingest.plan import Posters

_LOOK_AT = 320  # pixels of the long edge on which a frame is judged: focus shows, film grain does not
_BLACK_LUMA, _BLACK_SHARE = 32, 0.98  # what ffmpeg's blackframe calls black: 98 % of the pixels under 32
_FLAT_CONTRAST = 4.0  # standard deviation in luma steps; a fade, a lens cap, an empty sky
_BLURRED_SHARE = 0.35  # less than this part of the film's own usual sharpness
LEAST_POSTERS = 6


@dataclass(frozen=True, slots=True)
class Poster:
    """One candidate. `at` in seconds; `score` from 0 to 1, higher is better, comparable within one film only.

    `requested` marks the contributor's own choice; `chosen` the one to show until somebody picks another.
    """

    path: Path
    at: float
    width: int
    height: int
    score: float
    requested: bool = False
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    path: Path
    at: float
    width: int
    height: int
    luma: float
    contrast: float
    sharpness: float
    black: bool


def choose_posters(files: list[tuple[float, Path]], plan: Posters) -> list[Poster]:
    """The best frame of each segment of the film, in the film's order, at least `LEAST_POSTERS` where there
    are frames.

    `files` are (seconds, JPEG). A segment with nothing but black or blurred frames gives no poster while
    enough others do. Raises `ValueError` or `OSError` when a file is not the JPEG it should be.
    """
    looks = [_look(path, at, plan) for at, path in sorted(files)]
    usual = _middle([look.sharpness for look in looks if not look.black]) or 1.0
    scored = [(_score(look, usual), look) for look in looks]
    wished = _nearest(looks, plan.requested)
    best = _best_of_segments([pair for pair in scored if pair[1] is not wished], plan.segments)
    good = [pair for pair in best if pair[0] > 0]
    if len(good) < LEAST_POSTERS:
        spare = sorted(
            (pair for pair in scored if pair not in good and pair[1] is not wished), key=lambda pair: -pair[0]
        )
        good += spare[: LEAST_POSTERS - len(good)]
    if wished is not None:
        good.append(next(pair for pair in scored if pair[1] is wished))
    top = wished or max(good, key=lambda pair: pair[0])[1]
    return [
        Poster(look.path, look.at, look.width, look.height, round(score, 4), look is wished, look is top)
        for score, look in sorted(good, key=lambda pair: pair[1].at)
    ]


def _look(path: Path, at: float, plan: Posters) -> _Look:
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=["JPEG"]) as picture:
        if picture.size != (plan.width, plan.height):
            raise ValueError(f"a candidate frame of {picture.size[0]}x{picture.size[1]} was not asked for")
        scale = _LOOK_AT / max(picture.size)
        small = (max(8, round(picture.width * scale)), max(8, round(picture.height * scale)))
        picture.draft("L", small)  # the decoder itself drops what is not looked at: five times as fast
        luma: Any = np.asarray(picture.convert("L").resize(small), dtype=np.float32)
    # Laplacian: what a focused edge has and a smeared one lacks.
    edges = 4 * luma[1:-1, 1:-1] - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    return _Look(
        *(path, at, plan.width, plan.height, float(luma.mean()), float(luma.std())),
        sharpness=float(edges.std()),
        black=bool((luma < _BLACK_LUMA).mean() >= _BLACK_SHARE),
    )


def _score(look: _Look, usual: float) -> float:
    """0 for what nobody wants to see, else a mean of sharpness, contrast and exposure."""
    if look.black or look.contrast < _FLAT_CONTRAST or look.sharpness < _BLURRED_SHARE * usual:
        return 0.0
    sharp = min(1.0, look.sharpness / (2 * usual))
    contrast = min(1.0, look.contrast / 64)
    exposure = 1 - abs(look.luma - 118) / 137  # 118: middle grey
    return 0.4 * sharp + 0.3 * contrast + 0.3 * max(0.0, exposure)


def _best_of_segments(scored: list[tuple[float, _Look]], segments: int) -> list[tuple[float, _Look]]:
    count = len(scored)
    bounds = [round(number * count / segments) for number in range(segments + 1)]
    groups = [scored[start:end] for start, end in pairwise(bounds)]
    return [max(group, key=lambda pair: pair[0]) for group in groups if group]


def _nearest(looks: list[_Look], wish: float | None) -> _Look | None:
    """The frame that was extracted for the wish: the first at or after it."""
    if wish is None:
        return None
    return min(looks, key=lambda look: (look.at < wish - 0.001, abs(look.at - wish)), default=None)


def _middle(values: list[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
