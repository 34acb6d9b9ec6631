"""Perceptual hashes of a film's frames, taken from the storyboard that ingest makes anyway.

A hash has 64 bits: the signs of the 64 lowest frequencies of the frame's brightness, but for its mean (the "pHash" of
Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, with a DCT of numpy's: the library
that has it, imagehash, brings SciPy and PyWavelets, 40 MB of wheels, for this one transform). Encoding, scaling and
brightness change few bits of it; another picture changes half of them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

VERSION = 1
"""Of the hashes: those of different versions cannot be compared, and a new one makes all of them anew."""
KEPT = 8
"""Frames of a clip that are kept, spread over it. It is compared by all its frames, so that a trimmed copy, whose
frames are of other moments, still has one near each that was kept."""
BITS = 64

_SIDE = 32  # pixels a frame is looked at: four per wave of the highest frequency that counts
_BAR_LUMA = 24  # a letterbox's black after encoding: 16 is video's, and then some ringing
_MOST_CROPPED = 0.6
_LEAST_CONTRAST = 6.0  # standard deviation in luma steps: below, encoders leave nothing of a picture
_LEAST_WAVES = (
    24  # of 64 frequencies that stand out of rounding: a plain gradient or a title on black has fewer
)
_WAVE = 24.0  # in the orthonormal transform of 32x32: 0.75 luma steps

_CUE = re.compile(
    r"(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d\.\d{3}) --> .*\n\S+#xywh=(?P<x>\d+),(?P<y>\d+),(?P<w>\d+),(?P<hh>\d+)"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's hash (unsigned) and where it is, in seconds."""

    at: float
    hash: int


def frames_of(storyboard: Path, vtt: str) -> list[Frame]:
    """Hashes of the storyboard's cells, in the film's order. Frames with too little in them have none.

    Raises `OSError` or `ValueError` for a storyboard that is none.
    """
    import numpy as np
    from PIL import Image

    with Image.open(storyboard, formats=["JPEG"]) as sprite:
        luma: Any = np.asarray(sprite.convert("L"), dtype=np.float32)
    cells = [(at, luma[y : y + h, x : x + w]) for at, x, y, w, h in _cells(vtt)]
    if not cells or any(cell.shape != cells[0][1].shape or 0 in cell.shape for _, cell in cells):
        raise ValueError("the storyboard is not the one of its cues")
    window = _picture([cell for _, cell in cells])
    hashed = ((at, _hash(cell[window])) for at, cell in cells)
    return [Frame(at, found) for at, found in hashed if found is not None]


def spread(frames: Sequence[Frame], most: int = KEPT) -> list[Frame]:
    """At most so many, evenly over the film, without two of one hash."""
    distinct = list({frame.hash: frame for frame in frames}.values())
    if len(distinct) <= most:
        return distinct
    return [distinct[round((number + 0.5) * len(distinct) / most - 0.5)] for number in range(most)]


def _cells(vtt: str) -> Iterator[tuple[float, int, int, int, int]]:
    for cue in _CUE.finditer(vtt):
        at = int(cue["h"]) * 3600 + int(cue["m"]) * 60 + float(cue["s"])
        yield at, int(cue["x"]), int(cue["y"]), int(cue["w"]), int(cue["hh"])


def _picture(cells: Sequence[Any]) -> tuple[slice, slice]:
    """The part of the frames that is not a black bar from the first to the last of them."""
    import numpy as np

    brightest = np.max(np.stack(cells), axis=0)
    return (
        _without_bars(np.percentile(brightest, 95, axis=1)),
        _without_bars(np.percentile(brightest, 95, axis=0)),
    )


def _without_bars(lines: Any) -> slice:
    (lit,) = (lines > _BAR_LUMA).nonzero()
    if not len(lit):
        return slice(None)
    first, last = int(lit[0]), int(lit[-1]) + 1
    if last - first < len(lines) * (1 - _MOST_CROPPED):
        return slice(None)  # that much black is the picture itself
    # The bar's edge is blurred into its neighbours.
    return slice(first + (first > 0), last - (last < len(lines)))


def _hash(cell: Any) -> int | None:
    """The frame's hash, or None for one that would be like any other of its kind: black, plain, a soft gradient."""
    import numpy as np
    from PIL import Image

    if min(cell.shape) < 2 or cell.std() < _LEAST_CONTRAST:
        return None
    small = np.asarray(Image.fromarray(cell).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32)
    transform = _transform()
    waves = (transform @ small @ transform.T)[_zigzag()]
    if (np.abs(waves) > _WAVE).sum() < _LEAST_WAVES:
        return None
    bits = waves > np.median(waves)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@cache
def _transform() -> Any:
    """DCT-II of `_SIDE` samples, orthonormal, as a matrix."""
    import numpy as np

    k, n = np.mgrid[:_SIDE, :_SIDE]
    matrix = np.sqrt(2 / _SIDE) * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


@cache
def _zigzag() -> tuple[list[int], list[int]]:
    """The 64 lowest frequencies but for the mean, as rows and columns."""
    order = sorted(((y, x) for y in range(_SIDE) for x in range(_SIDE)), key=lambda at: (sum(at), at))
    lowest = order[1 : BITS + 1]
    return [y for y, _ in lowest], [x for _, x in lowest]
