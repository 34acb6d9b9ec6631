"""The WebVTT file that tells a player which part of the sprite to show at which moment."""

from __future__ import annotations

from paletta_server.ingest.plan import Storyboard


def webvtt(board: Storyboard, duration: float) -> str:
    """Cues of ``sprite.jpg#xywh=x,y,w,h`` (spatial media fragments, the form that players agree on)."""
    lines = ["WEBVTT", ""]
    for cell in range(board.cells):
        end = duration if cell == board.cells - 1 else (cell + 1) * board.interval
        x, y = cell % board.columns * board.width, cell // board.columns * board.height
        lines.append(f"{_clock(cell * board.interval)} --> {_clock(end)}")
        lines.append(f"{board.name}#xywh={x},{y},{board.width},{board.height}")
        lines.append("")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
