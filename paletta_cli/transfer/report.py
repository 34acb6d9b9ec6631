"""How a run ended: the table for people, the document for scripts, the exit code."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paletta_cli.errors import NotLiveYet, SomeFailed
from paletta_cli.output import Column, Output
from paletta_cli.text import plural
from paletta_cli.transfer.items import PROCESSING, Item
from paletta_cli.transfer.plan import Plan
from paletta_cli.transfer.view import STAGE_NAMES

_BAD = frozenset(
    {"taken_down", "rejected", "failed", "cancelled", "expired", "deleted", "invalid", "changed"}
)
_MOST_GOOD = 40  # rows of what went well, on a terminal: what went wrong is what one looks for
_STYLES = {
    "live": "green", "in_review": "yellow", "changes_requested": "yellow",
    "taken_down": "red",
    "rejected": "red", "failed": "red", "changed": "yellow",
}  # fmt: skip


def exit_code(items: Sequence[Item], until: str) -> int:
    """0, 6 (some failed) or 8 (all arrived, not all live although that was asked for)."""
    if any(item.stage in _BAD for item in items):
        return SomeFailed.exit_code
    if until == "live" and any(item.stage != "live" for item in items):
        return NotLiveYet.exit_code
    if until == "ready" and any(
        item.stage not in ("live", "in_review", "changes_requested") for item in items
    ):
        return NotLiveYet.exit_code
    return 0


def show(out: Output, items: Sequence[Item], facts: Mapping[str, Any], code: int) -> None:
    """The result on stdout. `facts` are the run's own figures, for scripts."""
    if out.mode == "json":
        out.data(
            {
                **facts,
                "counts": dict(Counter(i.stage for i in items)),
                "exit_code": code,
                "items": _rows(items),
            }
        )
        return
    rows = sorted(_rows(items), key=lambda row: row["stage"] not in _BAD)
    hidden = 0
    if out.mode == "table":
        good = [row for row in rows if row["stage"] not in _BAD]
        hidden = max(0, len(good) - _MOST_GOOD)
        rows = [row for row in rows if row["stage"] in _BAD] + good[: len(good) - hidden]
    columns = [
        Column("file", "file"),
        Column("stage", "result", show=lambda stage: STAGE_NAMES.get(stage, stage), style=_style),
        Column("clip_id", "clip"),
        Column("why", "why", wrap=True),
    ]
    out.table(rows, columns)
    if hidden:
        out.note(f"… and {hidden:,} more that went well")


def summary(items: Sequence[Item]) -> str:
    """`7 live, 1 waiting for review, 1 rejected`."""
    found = Counter(item.stage for item in items)
    words = [f"{found[key]:,} {name}" for key, name in STAGE_NAMES.items() if found[key]]
    return ", ".join(words) or plural(0, "clip")


def to_try_again(items: Sequence[Item]) -> list[Item]:
    """Those that another try may help: not what was taken out of the shop again, by its owner or by an operator."""
    return [item for item in items if item.stage in _BAD - {"taken_down", "deleted"}]


def hint_differing(out: Output, plan: Plan, uncompared: int) -> None:
    """Say how clips that were there before get what the manifest now says: an upload leaves them as they are."""
    differing = [item for item in plan.items if item.differs]
    if not differing and not uncompared:
        return
    if differing:
        clips, verb = plural(len(differing), "clip"), "is" if len(differing) == 1 else "are"
        out.note(f"{clips} {verb} described otherwise than in the manifest, and {verb} left as before")
    if uncompared:
        out.note(f"{plural(uncompared, 'clip')} already yours: not compared with the manifest")
    # One command for each folder, in their order.
    those = differing or [item for item in plan.items if item.outcome == "already_yours"]
    folders = dict.fromkeys(str(plan.sources[item.ref][0].path) for item in those)
    commands = ", ".join(f"`paletta clips apply {shlex.quote(folder)}`" for folder in folders)
    out.hint(f"{commands} takes over what the manifest says")


def _rows(items: Sequence[Item]) -> list[dict[str, Any]]:
    return [
        {
            "file": item.ref,
            "stage": item.stage,
            "outcome": item.outcome,
            "same_bytes_as": item.twin or None,
            "differs": item.differs,
            "bytes_there": None if item.twin else item.there,
            "clip_id": item.clip_id,
            "upload_id": item.upload_id,
            "reason": item.reason or None,
            "hint": item.hint or None,
            "why": _why(item),
            "warnings": [*(str(doubt["message"]) for doubt in item.doubts), *item.warnings],
            "problems": item.problems,
        }
        for item in items
    ]


def _why(item: Item) -> str:
    words = [item.reason] if item.reason else []
    if item.hint and item.stage in _BAD:
        words.append(f"hint: {item.hint}")
    if not words and item.twin:
        words.append(f"the same bytes as `{item.twin}`")
    if not words and item.outcome == "already_yours":
        words.append("was already yours" + (", described otherwise" if item.differs else ""))
    if not words and item.stage in PROCESSING:
        words.append("arrived; being made ready")
    return "; ".join(words)


def _style(stage: str) -> str:
    return _STYLES.get(stage, "")
