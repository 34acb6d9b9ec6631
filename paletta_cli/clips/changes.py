"""Differences of a clip's metadata as people read them.

title: "Yellow tram" → "Green tram"
keywords: + hill, - yellow
location.city: "Lisbon" → nothing
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from paletta_cli.text import clean

NOTHING = "nothing"
_LONGEST = 160
"""Characters of a value; a description has up to 2,000."""
_CONTEXT = 12
"""Characters kept before the first difference of two long texts."""

Changes = Mapping[str, Any]
"""Field → [before, after], as the service gives them."""


def between(
    before: Mapping[str, Any], after: Mapping[str, Any], fields: Iterable[str]
) -> dict[str, list[Any]]:
    """The changes from one state of a clip to another."""
    return {
        name: [before.get(name), after.get(name)]
        for name in fields
        if not _same(before.get(name), after.get(name))
    }


def lines(changes: Changes, width: int, indent: str = "    ") -> list[str]:
    """A line per difference; what does not fit into `width` columns goes on below the first value."""
    found = []
    for name, (before, after) in changes.items():
        for label, old, new in _parts(clean(name), before, after):
            whole = f"{indent}{label}: {old} → {new}" if new else f"{indent}{label}: {old}"
            if len(whole) <= width or not new:
                found.append(whole)
            else:
                found += [f"{indent}{label}: {old}", f"{indent}{' ' * len(label)}→ {new}"]
    return found


def moved(stage: Sequence[str] | None, *, done: bool, indent: str = "    ") -> list[str]:
    """What a change does to where a clip stands: [before, after] as the service gives it, None where it stays."""
    if not stage or stage[1] != "in_review" or stage[0] == "in_review":
        return []
    waits = "waits for review now" if done else "then waits for review"
    return [f"{indent}{waits}, and is not for sale meanwhile" if stage[0] == "live" else f"{indent}{waits}"]


def headed(mark: str, clip: str, file: str, changes: Changes, width: int) -> list[str]:
    """The lines of one clip in a plan: one line where everything fits into it."""
    head = f"{mark} {clean(clip)} {clean(file)}"
    below = lines(changes, width)
    if len(below) == 1 and len(head) + 2 + len(below[0].strip()) <= width:
        return [f"{head}  {below[0].strip()}"]
    return [head, *below]


def _parts(name: str, before: Any, after: Any) -> Iterator[tuple[str, str, str]]:
    """(label, before, after) for each difference; lists of words have one text for both."""
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old = before if isinstance(before, Mapping) else {}
        new = after if isinstance(after, Mapping) else {}
        for key in dict.fromkeys((*old, *new)):
            if not _same(old.get(key), new.get(key)):
                yield from _parts(f"{name}.{clean(key)}", old.get(key), new.get(key))
    elif isinstance(before, list | None) and isinstance(after, list | None):
        yield name, _words(before or [], after or []), ""
    else:
        yield name, *_values(before, after)


def _words(before: list[Any], after: list[Any]) -> str:
    added = ", ".join(clean(word) for word in after if word not in before)
    removed = ", ".join(clean(word) for word in before if word not in after)
    if not added and not removed:
        return "in another order"
    return ", ".join(part for part in (added and f"+ {added}", removed and f"- {removed}") if part)


def _values(before: Any, after: Any) -> tuple[str, str]:
    old, new = _plain(before), _plain(after)
    if len(old) > _LONGEST or len(new) > _LONGEST:
        same = next(
            (at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
        )
        cut = max(0, same - _CONTEXT)
        old, new = (_cut(text, cut) for text in (old, new))
    return _quoted(before, old), _quoted(after, new)


def _cut(text: str, start: int) -> str:
    part = text[start : start + _LONGEST]
    return ("…" if start else "") + part + ("…" if start + _LONGEST < len(text) else "")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else clean(value)


def _quoted(value: Any, text: str) -> str:
    if _empty(value):
        return NOTHING
    return f'"{text}"' if isinstance(value, str) else text


def _same(before: Any, after: Any) -> bool:
    """Also two ways of saying nothing: a field that is missing, and its default."""
    return before == after or ((_empty(before) or before is False) and (_empty(after) or after is False))


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}
