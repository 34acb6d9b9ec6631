"""The words of the mails that tell contributors of take-downs: one for each decision, however many clips."""

from collections.abc import Sequence

from paletta_server.clips.models import Clip
from paletta_server.clips.review import Terms
from paletta_server.clips.views import stage_of

STAGES = {
    "live": "in the shop again",
    "in_review": "waiting for review",
    "rejected": "rejected as before",
    "changes_requested": "to be changed as before",
}


def taken_down(public_url: str, clips: Sequence[Clip], terms: Terms) -> tuple[str, str]:
    """Subject and text."""
    sold = (
        "They are not shown or sold any more, and for legal reasons their buyers cannot fetch them, either."
        if terms.withhold_sold
        else "They are not shown or sold any more. Who bought them keeps them."
    )
    lines = [
        "These clips of yours were taken out of the shop:",
        "",
        *(f"  {_line(clip.title)} ({clip.uid}, {_line(clip.file_name)})" for clip in clips),
        "",
        f"Why: {terms.reason}",
        "",
        sold,
        "To change them or to upload the same files again does not bring them back.",
        "If this is a mistake, write to the shop.",
        "",
        "Details: paletta clips list --stage taken_down",
        f"Service: {public_url}",
    ]
    return f"{_what(clips)} taken down", "\n".join(lines)


def restored(public_url: str, clips: Sequence[Clip]) -> tuple[str, str]:
    """Subject and text."""
    lines = [
        "The take-down of these clips of yours was lifted:",
        "",
        *(f"  {_line(clip.title)} ({clip.uid}): {_where(clip)}" for clip in clips),
        "",
        "Details: paletta clips list",
        f"Service: {public_url}",
    ]
    return f"{_what(clips)} restored", "\n".join(lines)


def _where(clip: Clip) -> str:
    stage = stage_of(clip, "")
    return STAGES.get(stage, stage)


def _what(clips: Sequence[Clip]) -> str:
    if len(clips) > 1:
        return f"{len(clips)} of your clips were"
    return f"Your clip {_line(clips[0].title)[:60]} was"


def _line(text: str) -> str:
    """Somebody else's words on one line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
