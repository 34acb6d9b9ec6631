"""A taxonomy plan as people read it: marks and words first, colour never needed, nothing wider than asked.

categories
  + transport  Transport
  ~ sea        renamed ocean; name: Sea → Ocean (12 clips)
  - old        its 3 clips move to new
  - odd        BLOCKED: 2 clips use it
tags
  + beach, sand, tram
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paletta_cli.text import clean, plural

MARKS = {"create": "+", "rename": "~", "change": "~", "move": "-", "delete": "-"}
ORDER = "*"
MOST_NEW_TAGS = 500
"""A first apply may bring thousands; `--json` has them all."""
_LONGEST = 60
_NOUNS = {"category": ("category", "categories"), "tag": ("tag", "tags")}


def render(plan: Mapping[str, Any], width: int = 80) -> list[str]:
    """The plan's lines; `plan` is the service's answer."""
    lines: list[str] = []
    for kind, (_, heading) in _NOUNS.items():
        changes = [change for change in plan["changes"] if change["kind"] == kind]
        if not changes:
            continue
        lines.append(heading)
        new = [change["key"] for change in changes if change["op"] == "create"]
        if kind == "tag" and new:
            lines += _paragraph(new, width)
            changes = [change for change in changes if change["op"] != "create"]
        column = min(24, max((len(_key(change)) for change in changes), default=0))
        for change in changes:
            head = f"  {MARKS.get(change['op'], '?')} {_key(change):<{column}}  "
            lines += textwrap.wrap(
                clean(_words(change)),
                width=max(width, 40),
                initial_indent=head,
                subsequent_indent=" " * (column + 6),
                break_long_words=False,
                break_on_hyphens=False,
                drop_whitespace=True,
            ) or [head.rstrip()]
    lines += [] if lines else ["nothing to change"]
    return lines


def summary(plan: Mapping[str, Any]) -> str:
    """How many of what, in a line: `26 categories and 187 tags to create, 1 tag to delete`."""
    counts = Counter((change["op"], change["kind"]) for change in plan["changes"] if change["key"] != ORDER)
    parts = []
    for op in MARKS:
        found = [plural(counts[op, kind], *nouns) for kind, nouns in _NOUNS.items() if counts[op, kind]]
        if found:
            parts.append(f"{' and '.join(found)} to {'merge' if op == 'move' else op}")
    if any(change["key"] == ORDER for change in plan["changes"]):
        parts.append("the categories' order to change")
    return ", ".join(parts) or "nothing to change"


def destroys(plan: Mapping[str, Any]) -> bool:
    """Whether something goes that another apply would not bring back as it was."""
    return any(change["op"] in ("delete", "move") for change in plan["changes"])


def _paragraph(names: Sequence[str], width: int) -> list[str]:
    shown = ", ".join(clean(name) for name in names[:MOST_NEW_TAGS])
    if len(names) > MOST_NEW_TAGS:
        shown += f", … and {len(names) - MOST_NEW_TAGS:,} more (--json lists them)"
    return textwrap.wrap(
        shown,
        width=max(width, 40),
        initial_indent="  + ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _key(change: Mapping[str, Any]) -> str:
    return "(order)" if change["key"] == ORDER else clean(change["key"])


def _words(change: Mapping[str, Any]) -> str:
    """What happens to one entry."""
    before, after = change["before"] or {}, change["after"] or {}
    clips = plural(change["clips"], "clip")
    match change["op"]:
        case "create":
            below = f" (below {after['parent']})" if after.get("parent") else ""
            return f"{after.get('name', '')}{below}"
        case "move":
            target = next(iter(after.values()), "")
            return f"merged into {target}" + (f": its {clips} move there" if change["clips"] else "")
        case "delete":
            return f"BLOCKED: {change['blocked']}" if change["blocked"] else str(before.get("name", ""))
    if change["key"] == ORDER:
        return ", ".join(after["order"])
    said = [_difference(name, before.get(name), after.get(name)) for name in after]
    touched = f" ({clips})" if change["clips"] else ""
    return "; ".join(said) + touched


def _difference(name: str, before: Any, after: Any) -> str:
    if name == "synonyms":
        added = [f"+{word}" for word in after if word not in before]
        gone = [f"-{word}" for word in before if word not in after]
        return "synonyms: " + (", ".join(added + gone) or "another order")
    if name == "agencies":
        pairs = [
            f"{agency} {_value(before.get(agency))} → {_value(after.get(agency))}"
            for agency in sorted({*before, *after})
            if before.get(agency) != after.get(agency)
        ]
        return "agencies: " + ", ".join(pairs)
    if name == "owner":
        return f"now {after}'s"
    return f"{name}: {_value(before)} → {_value(after)}"


def _value(value: Any) -> str:
    text = str(value) if value else "none"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
