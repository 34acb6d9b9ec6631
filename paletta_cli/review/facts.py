"""What a moderator reads of a clip: first what speaks against it, then what it is, then whose it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from paletta_cli.clips.showing import length, pixels, when
from paletta_cli.text import clean, plural, size

_BAD, _ASIDE, _LABEL = "bold red", "dim", "bold"


def described(item: Mapping[str, Any], outcome: str | None) -> Text:
    """Everything but the pictures."""
    text = Text()
    for label, words, style in _lines(item, outcome):
        if not words:
            continue
        if text:
            text.append("\n")
        if label:
            text.append(f"{label}: ", style or _LABEL)
        text.append(clean(words), style or "")
    return text


def _lines(item: Mapping[str, Any], outcome: str | None) -> Iterator[tuple[str, str, str]]:
    """(label, words, style)."""
    clip = item["clip"]
    yield "", clip["title"], _LABEL
    if outcome is not None:
        yield "done", outcome, "bold green"
    if item["claimed_by"]:
        yield "note", f"{item['claimed_by']} is looking at this clip, too", "yellow"
    yield from _against(item)
    yield "", clip["description"], ""
    yield "keywords", ", ".join(clip["keywords"]), ""
    yield "categories", ", ".join(clip["categories"]), ""
    yield from _claims(clip)
    yield "film", _film(clip), ""
    yield "file", f"{clip['file']}, {size(clip['size'])}" if clip["file"] else "", ""
    yield from _whose(item)
    yield "clip", clip["id"], _ASIDE


def _against(item: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for other in item["alike"]:
        whose = "the same contributor's" if other["own"] else f"of {other['contributor']}"
        stage = str(other["stage"]).replace("_", " ")
        words = f"{other['id']} {whose} ({stage}), {other['frames']} of {other['kept']} frames"
        yield "looks like", words, "yellow" if other["own"] else _BAD
    for report in item["reports"]:
        said = f": {report['text']}" if report["text"] else ""
        yield "reported", f"{report['reason_code']}{said}", _BAD
    for warning in item["clip"]["warnings"]:
        yield "warning", warning, "yellow"


def _claims(clip: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What the contributor says that a moderator has to believe or not."""
    releases = clip["releases"] or {}
    yield "releases", ", ".join(f"{kind} {_short(value)}" for kind, value in releases.items()), ""
    yield "editorial", _short(clip["editorial"]), ""
    yield "people", _short(clip["people"]), ""
    yield "location", _short(clip["location"]), ""
    flags = [
        name.replace("_", " ")
        for name in ("mature", "illustration", "ai_generated", "exclusive")
        if clip[name]
    ]
    yield "says", ", ".join(flags), ""


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {_short(part)}" for name, part in value.items() if part not in (None, "", [], {})
        )
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return "" if value is None else str(value)


def _film(clip: Mapping[str, Any]) -> str:
    video = (clip["technical"] or {}).get("video") or {}
    rate = f"{clip['fps']:.6g} fps" if clip["fps"] else ""
    depth = f"{video['bit_depth']} bit" if video.get("bit_depth") else ""
    facts = (
        pixels(clip),
        length(clip["duration"]),
        rate,
        clip["codec"],
        video.get("pix_fmt"),
        depth,
        video.get("scan"),
    )
    return ", ".join(str(fact) for fact in facts if fact)


def _whose(item: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    person, standing = item["contributor"], item["standing"]
    name = f" ({person['name']})" if person["name"] != person["email"] else ""
    yield "by", f"{person['email']}{name}, {standing['live']} live", ""
    for label, key in (("in all", "all_time"), ("in 90 days", "last_90_days")):
        yield label, tallied(standing[key]), ""
    for past in item["history"]:
        said = f": {past['reason']}" if past["reason"] else ""
        yield when(past["at"]), f"{str(past['verdict']).replace('_', ' ')}{said}", _ASIDE


def tallied(tally: Mapping[str, Any]) -> str:
    """`120 approved (94%), 8 rejected, 2 taken down, 1 report upheld`."""
    rate = tally["approval_rate"]
    words = [f"{tally['approved']} approved" + (f" ({rate:.0%})" if rate is not None else "")]
    words.append(f"{tally['rejected']} rejected")
    for key, name in (("changes_requested", "sent back"), ("taken_down", "taken down")):
        words += [f"{tally[key]} {name}"] if tally[key] else []
    if tally["reports_upheld"]:
        words.append(plural(tally["reports_upheld"], "report") + " upheld")
    return ", ".join(words)
