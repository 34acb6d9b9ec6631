"""What each film may cost in bits, and the H.264 level that this needs.

QVBR spends what the picture needs and no more, up to a ceiling. Amazon's own guide for streaming pairs quality 8 with
8.5 Mb/s at 1080p and 9 with 15 Mb/s at 2160p. A film for sale is cut and graded again, so its quality is 9 or more and
its ceiling is where x264 at CRF 18, our other transcoder's setting, stays below even on grain: nothing is spent on
films that do not need it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """`level` from 1 to 10 (QVBR), `max_kbps` up to 30 frames a second."""

    level: int
    max_kbps: int


FOR_SALE = {"hd": Quality(9, 24_000), "uhd4k": Quality(10, 60_000)}
"""`uhd4k` gets the best: who pays for 4K looks for what is wrong with it. 24 Mb/s is what fits into level 4 below 31
frames a second, which every hardware player takes."""
COMP_LEVEL = 6
"""A comp is looked at once or twice, under a mark; 6 at 540p is about CRF 26. Its ceiling is the plan's."""

# ITU-T H.264, table A-1: level, macroblocks a second, macroblocks in a frame, kb/s in High profile (1.25 times Main's).
_LEVELS = (
    ("LEVEL_3", 40_500, 1_620, 12_500),
    ("LEVEL_3_1", 108_000, 3_600, 17_500),
    ("LEVEL_3_2", 216_000, 5_120, 25_000),
    ("LEVEL_4", 245_760, 8_192, 25_000),
    ("LEVEL_4_1", 245_760, 8_192, 62_500),
    ("LEVEL_4_2", 522_240, 8_704, 62_500),
    ("LEVEL_5", 589_824, 22_080, 168_750),
    ("LEVEL_5_1", 983_040, 36_864, 300_000),
    ("LEVEL_5_2", 2_073_600, 36_864, 300_000),
)


def ceiling_kbps(quality: Quality, fps: float) -> int:
    """Twice the frames need about 1.5 times the bits: neighbours in time are more alike."""
    return quality.max_kbps if fps <= 31 else round(quality.max_kbps * 1.5)


def level_for(width: int, height: int, fps: float, kbps: int) -> str:
    """The lowest level that allows this; ``AUTO`` above them all, where the encoder has to say what it makes."""
    blocks = ((width + 15) // 16) * ((height + 15) // 16)
    for name, per_second, per_frame, most_kbps in _LEVELS:
        if blocks <= per_frame and blocks * fps <= per_second and kbps <= most_kbps:
            return name
    return "AUTO"
