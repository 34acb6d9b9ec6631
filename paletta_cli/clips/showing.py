"""Clips as people read them: a list that fits 80 columns, and everything about one."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paletta_cli.output import Column, Output
from paletta_cli.text import clean, duration, size

_SHORT = 8
"""Letters of an abbreviated id: 30^8 is 6e11, so that two among a million clips agree once in a million lists."""
_LEAST_TITLE = 12
_STYLES = {
    "live": "green",
    "in_review": "cyan",
    "changes_requested": "magenta",
    "rejected": "red",
    "failed": "red",
    "taken_down": "red",
}
_METADATA = (
    "description", "keywords", "categories", "editorial", "mature", "illustration", "location", "shot_date",
    "source", "releases", "copyright", "batch", "price", "people", "shot", "ai_generated", "exclusive", "poster_at",
    "agencies",
)  # fmt: skip


def show_list(out: Output, clips: Sequence[Mapping[str, Any]], *, stages: bool = True, empty: str) -> None:
    """A table of clip summaries; `stages` tells where each stands.

    On a terminal ids are abbreviated, titles cut to fit and reasons told below; into a pipe goes everything.
    """
    if out.mode != "table" or not clips:
        out.table(clips, _all_columns(stages=stages), empty=empty)
        return
    columns, rows = _fitting(clips, out.console(out.stdout).width, stages=stages)
    out.table(rows, columns)
    for clip, row in zip(clips, rows, strict=True):
        if stages and clip.get("reason"):
            width = max(40, out.console(out.stdout).width)
            text = f"{row['id']}  {clean(clip['reason'])}"
            for line in textwrap.wrap(text, width, subsequent_indent=" " * (_SHORT + 2)):
                out.line(line)


def _all_columns(*, stages: bool) -> list[Column]:
    columns = [
        Column("id"),
        Column("title"),
        Column("stage"),
        Column("duration"),
        Column("width"),
        Column("height"),
        Column("size"),
        Column("category"),
        Column("file"),
        Column("reason"),
    ]
    return [column for column in columns if stages or column.key not in ("stage", "reason")]


def _fitting(
    clips: Sequence[Mapping[str, Any]], width: int, *, stages: bool
) -> tuple[list[Column], list[dict[str, Any]]]:
    """Columns and rows for a terminal of `width` columns: the title takes what the others leave."""
    from rich.cells import cell_len

    rows = [_row(clip, short) for clip, short in zip(clips, short_ids([c["id"] for c in clips]), strict=True)]
    columns = [
        Column("id", "clip"),
        Column("title", "title"),
        Column("stage", "stage", style=lambda stage: _STYLES.get(str(stage).replace(" ", "_"), "yellow")),
        Column("length", "length", right=True),
        Column("pixels", "size", right=True),
        Column("category", "category"),
    ]
    columns = [column for column in columns if stages or column.key != "stage"]

    def longest(column: Column) -> int:
        return max(cell_len(column.title), *(cell_len(row[column.key]) for row in rows))

    others = sum(longest(column) + 2 for column in columns if column.key != "title")
    room = max(_LEAST_TITLE, width - others)
    for row in rows:
        row["title"] = cut(row["title"], room)
    return columns, rows


def _row(clip: Mapping[str, Any], short: str) -> dict[str, Any]:
    return {
        "id": short,
        "title": clean(clip["title"]),
        "stage": clean(clip["stage"]).replace("_", " "),
        "length": length(clip.get("duration")),
        "pixels": pixels(clip),
        "category": clean(clip.get("category") or ""),
    }


def cut(text: str, cells: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"


def short_ids(ids: Sequence[str]) -> list[str]:
    """Ids without their type and end, as long as it takes to tell them apart; the service accepts them."""
    bare = [clean(uid).removeprefix("clip_") for uid in ids]
    letters = _SHORT
    while letters < max(map(len, bare), default=0) and len({uid[:letters] for uid in bare}) < len(set(bare)):
        letters += 1
    return [uid[:letters] for uid in bare]


def length(seconds: float | None) -> str:
    """`0:08.5`, `1:07`: tenths where a short clip's matter."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds)


def pixels(clip: Mapping[str, Any]) -> str:
    return f"{clip['width']}×{clip['height']}" if clip.get("width") and clip.get("height") else ""


def show_clip(out: Output, clip: Mapping[str, Any], *, addresses: bool) -> None:
    """Everything about one clip: a label and a text per line, empty ones left out."""
    if out.mode == "json":
        out.data(clip)
        return
    rows = [{"label": label, "text": text} for label, text in _facts(clip) if text]
    media = {kind: address for kind, address in clip["media"].items() if address}
    if out.mode == "plain":
        rows += [{"label": kind, "text": address} for kind, address in media.items()]
    elif media and not addresses:
        rows.append({"label": "previews", "text": ", ".join(media).replace("_", " ")})
    out.table(rows, [Column("label", style=lambda _: "bold"), Column("text", wrap=True)])
    if addresses and out.mode == "table":  # outside the table, which would cut them into lines
        for kind, address in media.items():
            out.line(f"{kind}: {address}")
    elif media and out.mode == "table":
        out.hint("--open plays the preview, --preview FILE saves it, --addresses prints links")


def _facts(clip: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from paletta_cli.manifests.emit import flow

    yield "title", clip["title"]
    yield "clip", clip["id"]
    yield "stage", str(clip["stage"]).replace("_", " ")
    yield "reason", clip.get("reason") or ""
    yield "hint", clip.get("hint") or ""
    for warning in clip.get("warnings") or ():
        yield "warning", warning
    for name in _METADATA:
        value = clip.get(name)
        if value is None or value is False or value in ("", [], {}):
            continue
        if isinstance(value, list):
            yield name, ", ".join(map(str, value))
        else:
            yield name, flow(value) if isinstance(value, Mapping) else "yes" if value is True else str(value)
    yield "contributor", clip.get("contributor") or ""
    yield "file", f"{clip['file']}, {size(clip['size'])}" if clip.get("file") else ""
    yield "sha-256", clip.get("sha256") or ""
    yield from _technical(clip)
    for tier in clip.get("tiers") or clip.get("renditions") or ():
        parts = (tier["tier"], pixels(tier), tier.get("codec"), size(tier["size"]), _prices(clip, tier))
        yield "tier", ", ".join(part for part in parts if part)
    yield "uploaded", when(clip["created_at"])
    yield "live since", when(clip["listed_at"]) if clip.get("listed_at") and clip["stage"] == "live" else ""
    yield "views", str(clip["views"]) if clip.get("views") is not None else ""
    yield "version", str(clip["version"])
    for other in clip.get("related") or ():
        yield "like it", f"{other['id']}  {other['title']}"


def _prices(clip: Mapping[str, Any], tier: Mapping[str, Any]) -> str:
    """`individual 49.00, business 99.00 USD`."""
    prices = ", ".join(f"{licence} {amount}" for licence, amount in (tier.get("prices") or {}).items())
    return f"{prices} {clip['currency']}" if prices else ""


def _technical(clip: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the probe found. Every member may be missing: the service's probe grows by its own rules."""
    facts = clip.get("technical") or {}
    video = facts.get("video") or {}
    codec = " ".join(str(part) for part in (clip.get("codec"), video.get("profile")) if part)
    rate = f"{clip['fps']:.6g} fps" if clip.get("fps") else ""
    depth = f"{video['bit_depth']} bit" if video.get("bit_depth") else ""
    parts = (pixels(clip), rate, codec, video.get("pix_fmt"), depth, _rate(facts.get("bit_rate")))
    yield "picture", ", ".join(str(part) for part in parts if part)
    colours = (video.get(f"color_{part}") for part in ("primaries", "transfer", "space", "range"))
    yield "colour", ", ".join(str(part) for part in colours if part)
    yield "length", length(clip.get("duration"))
    for track in facts.get("audio") or ():
        hertz = f"{track['sample_rate'] / 1000:g} kHz" if track.get("sample_rate") else ""
        channels = (
            f"{track['channels']} channel{'s' * (track['channels'] != 1)}" if track.get("channels") else ""
        )
        yield "sound", ", ".join(str(part) for part in (track.get("codec"), channels, hertz) if part)
    yield "container", str(facts.get("container") or "")


def _rate(bits: float | None) -> str:
    return f"{bits / 1e6:.1f} Mbit/s" if bits else ""


def when(stamp: str) -> str:
    """The service's timestamp in this machine's time."""
    from datetime import datetime

    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
