"""Searching the shop: what was typed as the service's parameters, and results as people read them."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paletta_cli.api import Service
from paletta_cli.clips.showing import cut, length, pixels, short_ids
from paletta_cli.errors import UsageError
from paletta_cli.output import Column, Output
from paletta_cli.text import clean, closest

PER_PAGE = 100
_LEAST_TITLE = 16
_LEAST_START = 2
_LONGEST_TAG = 100  # the service's limit of a question
_MOST_TAGS = 1000
_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")

SHOTS = {
    "shot_size": ("extreme-wide", "wide", "medium", "close-up", "macro"),
    "shot_angle": ("eye", "high", "low", "overhead", "aerial", "pov", "underwater"),
    "shot_move": ("static", "pan", "tilt", "zoom", "tracking", "handheld", "drone"),
    "shot_speed": ("normal", "slow", "timelapse", "hyperlapse"),
}
"""The words are the service's; no two kinds share one, so that a person need not say which kind is meant."""


def text(words: Iterable[str], without: Iterable[str]) -> str:
    """What the service parses: words as typed, and exclusions with their sign."""
    refused = (
        f'-"{word}"' if " " in word else f"-{word}" for word in (one.replace('"', " ") for one in without)
    )
    return " ".join((*words, *refused))


def shots(words: Iterable[str]) -> dict[str, list[str]]:
    """Each word under its kind. Raises UsageError for one that is of none."""
    found: dict[str, list[str]] = {}
    for word in words:
        kind = next((kind for kind, known in SHOTS.items() if word.lower() in known), None)
        if kind is None:
            known = ", ".join(one for names in SHOTS.values() for one in names)
            raise UsageError(f"`{word}` is no kind of shot", hint=f"there are {known}")
        found.setdefault(kind, []).append(word.lower())
    return found


def between(name: str, value: str | None, option: str, *, single: bool = False) -> dict[str, str]:
    """`5..20`, `5..`, `..20` as `min_…` and `max_…`; with `single` also `24`. Raises UsageError."""
    if value is None:
        return {}
    least, dots, most = (part.strip() for part in value.partition(".."))
    if not dots and single:
        most = least
    bad = any(part and not _NUMBER.match(part) for part in (least, most)) or not (least or most)
    if bad or (not dots and not single):
        wanted = "5..20, 5.. or ..20" + (", or a single number" if single else "")
        raise UsageError(f"{option}: `{value}` is not a range", hint=f"write {wanted}")
    if least and most and float(least) > float(most):
        raise UsageError(f"{option}: {least} is more than {most}")
    return {key: part for key, part in ((f"min_{name}", least), (f"max_{name}", most)) if part}


def days(name: str, value: str | None, option: str) -> dict[str, str]:
    """`2026-05-01..2026-05-31`, open or a single day, as `…_since` and `…_until`. Raises UsageError."""
    if value is None:
        return {}
    least, dots, most = (part.strip() for part in value.partition(".."))
    if not dots:
        most = least
    if not (least or most) or any(part and not _DAY.match(part) for part in (least, most)):
        raise UsageError(f"{option}: `{value}` is not a range of days", hint="write 2026-05-01..2026-05-31")
    if least and most and least > most:
        raise UsageError(f"{option}: `{value}` ends before it begins")
    return {key: part for key, part in ((f"{name}_since", least), (f"{name}_until", most)) if part}


def find(service: Service, params: Mapping[str, Any], limit: int, *, facets: bool) -> dict[str, Any]:
    """The first `limit` results, page by page; the answer's other members are the first page's."""
    first: dict[str, Any] | None = None
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        size = min(PER_PAGE, max(1, limit - len(items)))
        page = service.get(
            "/v1/clips",
            **params,
            limit=size,
            cursor=cursor,
            facets=True if facets and first is None else None,
        )
        first = first or page
        items += page["items"]
        cursor = page.get("next_cursor")
        if cursor is None or len(items) >= limit:
            return {**first, "items": items[:limit], "next_cursor": cursor}


def explain_nothing(service: Service, out: Output, categories: Sequence[str], tags: Sequence[str]) -> None:
    """Where nothing was found, whether a category or a tag is meant that is not there."""
    for name in tags:
        _explain_tag(service, out, name)
    if not categories:
        return
    there = {str(one["slug"]) for one in service.pages("/v1/categories")}
    for slug in categories:
        if slug.casefold() not in there:
            near = closest(slug, there)
            out.hint(f"there is no category `{slug}`" + (f"; did you mean `{near}`?" if near else ""))


def _explain_tag(service: Service, out: Output, name: str) -> None:
    """A hint where there is no such tag; synonyms count as theirs."""
    folded = _folded(name)
    # There may be more tags than anybody wants to fetch: those that have its beginning in them are enough.
    start = folded[: max(_LEAST_START, len(folded) // 2)]
    if not start or len(folded) > _LONGEST_TAG:
        return
    there: dict[str, str] = {}
    for count, one in enumerate(service.pages("/v1/tags", most=_MOST_TAGS, q=start, limit=200), 1):
        there |= {_folded(word): str(one["name"]) for word in (*one["synonyms"], one["name"])}
        if count >= _MOST_TAGS:
            return  # it may be behind those
    # Only where there is one to suggest: the service knows former names, which no list has.
    if folded not in there and (near := closest(folded, there)):
        out.hint(f"no tag is called `{name}` now; did you mean `{there[near]}`?")


def _folded(word: object) -> str:
    """As the search compares words: without case, accents and doubled spaces."""
    plain = unicodedata.normalize("NFKD", str(word).casefold())
    return " ".join("".join(one for one in plain if not unicodedata.combining(one)).split())


def show(out: Output, found: Mapping[str, Any], *, facets: bool) -> None:
    """Results on stdout; how many there are, corrections and facets beside them."""
    if out.mode == "json":
        out.data(dict(found))
        return
    if found["showing"]:
        out.note(f"showing results for `{found['showing']}`")
    show_cards(out, found["items"], empty="no clips found")
    if facets:
        _show_facets(out, found)
    if found["next_cursor"]:
        about = "about " if found["total_relation"] == "about" else ""
        out.note(f"{len(found['items']):,} of {about}{found['total']:,}")
        out.hint("--limit N shows more, --facets what there is")


def show_cards(out: Output, clips: Sequence[Mapping[str, Any]], *, empty: str = "") -> None:
    """Clips of the shop: on a terminal short ids and titles cut to fit; into a pipe goes everything."""
    if out.mode != "table" or not clips:
        out.table(clips, _whole(), empty=empty)
        return
    columns, rows = _fitting(clips, out.console(out.stdout).width)
    out.table(rows, columns)


def _whole() -> list[Column]:
    return [
        Column("id"),
        Column("title"),
        Column("duration"),
        Column("width"),
        Column("height"),
        Column("fps"),
        Column("price", show=lambda price: f"{price['amount']} {price['currency']}" if price else ""),
        Column("category"),
        Column("contributor"),
    ]


def _fitting(clips: Sequence[Mapping[str, Any]], width: int) -> tuple[list[Column], list[dict[str, Any]]]:
    from rich.cells import cell_len

    shorts = short_ids([clip["id"] for clip in clips])
    rows = [_row(clip, short) for clip, short in zip(clips, shorts, strict=True)]
    currencies = {clip["price"]["currency"] for clip in clips if clip.get("price")}
    columns = [
        Column("id", "clip"),
        Column("title", "title"),
        Column("length", "length", right=True),
        Column("pixels", "size", right=True),
        Column("fps", "fps", right=True),
        Column("price", f"from {next(iter(currencies))}" if len(currencies) == 1 else "from", right=True),
        Column("contributor", "by"),
    ]
    columns = [
        column for column in columns if column.key in ("id", "title") or any(row[column.key] for row in rows)
    ]

    def longest(column: Column) -> int:
        return max(cell_len(column.title), *(cell_len(row[column.key]) for row in rows))

    others = sum(longest(column) + 2 for column in columns if column.key != "title")
    room = max(_LEAST_TITLE, width - others)
    for row in rows:
        row["title"] = cut(row["title"], room)
    return columns, rows


_LONGEST_NAME = 14


def _row(clip: Mapping[str, Any], short: str) -> dict[str, Any]:
    price = clip.get("price")
    return {
        "id": short,
        "title": clean(clip["title"]),
        "length": length(clip.get("duration")),
        "pixels": pixels(clip),
        "fps": f"{clip['fps']:.5g}" if clip.get("fps") else "",
        "price": price["amount"] if price else "",
        "contributor": cut(clean(clip.get("contributor") or ""), _LONGEST_NAME),
    }


def _show_facets(out: Output, found: Mapping[str, Any]) -> None:
    about = "about " if found.get("facets_relation") == "about" else ""
    rows = [
        {
            "facet": name.replace("_", " "),
            "values": ", ".join(f"{clean(one['value'])} {about}{one['clips']:,}" for one in values[:8]),
        }
        for name, values in (found.get("facets") or {}).items()
        if values
    ]
    out.line("")
    out.table(rows, [Column("facet", style=lambda _: "bold"), Column("values", wrap=True)])
