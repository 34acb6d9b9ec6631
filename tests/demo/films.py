"""The folder that is sold, and pictures of what became of it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.demo.shell import ROOT

MANIFEST = """\
# yaml-language-server: $schema=paletta.schema.json
paletta: 1
defaults:
  source: Sony FX3
  copyright: A. Rossi
  location: {city: Lisbon, country: PT}
  keywords: [lisbon, portugal, city, street, travel]
  categories: [transport]
clips:
- file: tram_28.mp4
  title: Yellow tram climbs a steep street
  keywords: [tram, lisbon, street, yellow, hill]
- file: harbour.mp4
  title: Harbour at dusk with cranes
  categories: [industry]
- file: fish_market.mov
  title: Fish market in the morning
  categories: [fodo]
- file: bridge_4k.mp4
  title: Red bridge over the river
  categories: [architecture, travel]
  shot: {size: wide, move: drone}
- file: square_music.mov
  title: Street musicians on the square
  categories: [culture]
- file: ferry.mp4
  title: Ferry leaves the terminal
- file: tram_28_copy.mp4
  title: Yellow tram climbs a steep street again
"""


def make_folder(folder: Path) -> None:
    """Seven small films and their manifest."""
    from tests.support import media

    folder.mkdir()
    full, short = media.FULL_HD, 3.2
    makers: list[Callable[[], Path]] = [
        lambda: media.clip(folder / "tram_28.mp4", seconds=5, size=full, look="gradients", fps="25", seed=1),
        lambda: media.clip(folder / "harbour.mp4", codec="hevc", seconds=short, look="fractal", seed=2),
        lambda: media.clip(folder / "fish_market.mov", codec="prores", seconds=short, look="cells", seed=3),
        lambda: media.clip(
            folder / "bridge_4k.mp4", seconds=short, size=media.UHD_4K, look="gradients", seed=4
        ),
        lambda: media.clip(folder / "square_music.mov", seconds=short, size=full, audio=True, seed=5),
        lambda: media.clip(folder / "whole.mp4", seconds=4, look="cells", seed=6),
    ]
    for make in makers:
        make()
    media.damaged(folder / "whole.mp4", folder / "ferry.mp4", "holes")
    (folder / "whole.mp4").unlink()
    shutil.copy(folder / "tram_28.mp4", folder / "tram_28_copy.mp4")
    shutil.copy(ROOT / "manifests" / "paletta.schema.json", folder / "paletta.schema.json")
    (folder / "paletta.yaml").write_text(MANIFEST, encoding="utf-8")


def contact_sheet(clips: list[dict[str, Any]], target: Path) -> None:
    """The posters of the live clips, side by side with their titles."""
    import httpx
    from PIL import Image, ImageDraw, ImageFont

    width, height, gap, line = 480, 270, 16, 44
    columns = 3
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + line + gap) + gap), "#14161a")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, clip in enumerate(clips):
        answer = httpx.get(clip["poster_url"], trust_env=False).raise_for_status()
        poster = Image.open(io.BytesIO(answer.content)).convert("RGB")
        poster.thumbnail((width, height))
        left = gap + (number % columns) * (width + gap)
        top = gap + (number // columns) * (height + line + gap)
        sheet.paste(poster, (left + (width - poster.width) // 2, top + (height - poster.height) // 2))
        label = f"{clip['title'][:40]} · {clip['duration']:.1f} s"
        draw.text((left, top + height + 10), label, fill="#d8dce2", font=font)
    sheet.save(target)
    print(f"\nwrote {target.relative_to(ROOT)}: the posters of {len(clips)} live clips", flush=True)
