"""Take-downs by an operator: what is asked before, what is said after."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paletta_cli.clips.several import Several
from paletta_cli.errors import UsageError
from paletta_cli.output import Output
from paletta_cli.text import plural

if TYPE_CHECKING:
    from paletta_cli.api import Service

_PATH = "/v1/admin/clips"


def wish(reason: str, *, legal: bool, withhold_sold: bool | None) -> dict[str, Any]:
    """What the service is asked for, but for the clips. Raises UsageError for withholding without a legal reason."""
    if withhold_sold and not legal:
        raise UsageError(
            "--withhold-sold needs --legal: what somebody paid for is withheld for a legal reason or not at all",
            hint="without both, the clips leave the shop and buyers keep theirs",
        )
    return {"reason": reason, "legal": legal, "withhold_sold": legal and withhold_sold is not False}


def take_down(
    service: "Service", out: Output, clips: Sequence[str], wish: Mapping[str, Any], *, yes: bool
) -> bool:
    """Show what would be taken down, ask, and do it; False when the answer was no."""

    def ask(some: list[str], *, dry_run: bool) -> Any:
        return service.post(f"{_PATH}/take-down", {**wish, "clips": some, "dry_run": dry_run})

    found = Several(out, clips)
    found.together(lambda some: ask(some, dry_run=True), "taken_down")
    withheld = bool(wish["withhold_sold"])
    if found.done:
        for clip in found.done:
            out.note(f"{clip['id']}  {clip['title']}  ({_standing(clip)})")
        sold = " and withhold what was sold" if withheld else ""
        if not out.confirm(f"take down {plural(len(found.done), 'clip')}{sold}?", yes=yes):
            out.note("nothing was taken down")
            return False
    gone = Several(out, [clip["id"] for clip in found.done], found)
    gone.together(lambda some: ask(some, dry_run=False), "taken_down")
    for clip in gone.done:
        out.line(f"{clip['id']} taken down")
    out.data({"taken_down": gone.done, "failed": gone.failed})
    _say_sold(out, gone.done, withheld=withheld)
    gone.end("taken down")
    return True


def restore(service: "Service", out: Output, clips: Sequence[str]) -> None:
    """Lift take-downs, and say where each clip is now."""
    back = Several(out, clips)
    back.together(lambda some: service.post(f"{_PATH}/restore", {"clips": some}), "restored")
    for clip in back.done:
        out.line(f"{clip['id']} restored, {_stage(clip)}")
    out.data({"restored": back.done, "failed": back.failed})
    back.end("restored")


def _standing(clip: Mapping[str, Any]) -> str:
    """`live, 3 paid items`."""
    sold = f", {plural(clip['paid_items'], 'paid item')}" if clip["paid_items"] else ""
    return _stage(clip) + sold


def _stage(clip: Mapping[str, Any]) -> str:
    return str(clip["stage"]).replace("_", " ")


def _say_sold(out: Output, clips: Sequence[Mapping[str, Any]], *, withheld: bool) -> None:
    """What the operator has to decide now: no money goes back by itself."""
    items = sum(clip["paid_items"] for clip in clips)
    if not clips:
        return
    if not items:
        out.note("nothing of it was sold" if len(clips) == 1 else "nothing of them was sold")
        return
    one = items == 1
    whose = "its buyer" if one else "their buyers"
    rest = f"cannot be fetched by {whose} now" if withheld else f"{'stays' if one else 'stay'} with {whose}"
    out.note(f"{plural(items, 'paid item')} {rest}; nothing was refunded")
