"""The mark on previews: a tiled, slanted word, drawn outside the jail so that the jail needs no fonts."""

from __future__ import annotations

from functools import lru_cache

WORD = "PALETTA"
OPACITY = 0.35
_SLANT_DEGREES = 24


@lru_cache(maxsize=16)  # sizes repeat: nearly every clip is 16:9
def watermark(width: int, height: int, word: str = WORD) -> bytes:
    """`width` x `height` RGBA pixels of four bytes, rows from the top: the word in white, rimmed dark."""
    from PIL import Image, ImageDraw, ImageFont

    letters = max(12, min(width, height) // 13)
    font = ImageFont.load_default(size=letters)
    alpha = round(255 * OPACITY)
    left, top, right, bottom = font.getbbox(word)
    step_x, step_y = round((right - left) * 1.7), round((bottom - top) * 3.4)
    # Large enough to fill the frame after it was turned.
    side = round((width**2 + height**2) ** 0.5) + 2 * step_x
    sheet = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    pen = ImageDraw.Draw(sheet)
    for row, y in enumerate(range(0, side, step_y)):
        for x in range(-step_x if row % 2 == 0 else -step_x // 2, side, step_x):
            pen.text(
                (x, y),
                word,
                font=font,
                fill=(255, 255, 255, alpha),
                stroke_width=max(1, letters // 22),
                stroke_fill=(0, 0, 0, alpha),
            )
    turned = sheet.rotate(_SLANT_DEGREES, resample=Image.Resampling.BILINEAR)
    x, y = (side - width) // 2, (side - height) // 2
    return turned.crop((x, y, x + width, y + height)).tobytes()
