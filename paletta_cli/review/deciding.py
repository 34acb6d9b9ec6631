"""Decisions from the command line: on clips that are named, or on all that wait of a batch or a contributor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paletta_cli.clips.several import Several
from paletta_cli.errors import UsageError
from paletta_cli.output import Output
from paletta_cli.text import plural

if TYPE_CHECKING:
    from paletta_cli.api import Service

WORDS = {"approved": "approved", "rejected": "rejected", "changes_requested": "sent back for changes"}
_VERBS = {"approved": "approve", "rejected": "reject", "changes_requested": "ask for changes of"}
_OPTIONS = {"reason_code": "--reason-code", "reason": "--reason"}
_MOST_NOTED = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """Which clips: those named, or those that wait of a batch or of a contributor, or of both together."""

    clips: Sequence[str]
    batch: str | None
    contributor: str | None

    @property
    def by_name(self) -> bool:
        return bool(self.clips)

    def check(self) -> None:
        """Raises UsageError for nothing, or for names beside a whole batch."""
        if self.by_name and (self.batch or self.contributor):
            raise UsageError("name clips, or pass --batch or --contributor, not both")
        if not (self.by_name or self.batch or self.contributor):
            raise UsageError(
                "no clips named",
                hint="pass ids, --batch ID or --contributor USER; `paletta admin clips pending`",
            )


def waiting(service: "Service", batch: str | None, contributor: str | None) -> list[dict[str, Any]]:
    """The clips that wait for review, newest first."""
    which = {"batch": batch, "contributor": contributor}
    return list(service.pages("/v1/admin/clips", most=None, review="submitted", limit=200, **which))


def checked(reason: str, *, hint: str) -> str:
    """The reason, trimmed. Raises UsageError."""
    # The service's own limits; said here, a reason that is too short costs no half-done list.
    if not 3 <= len(reason.strip()) <= 1000:
        raise UsageError("the reason must have 3 to 1,000 characters", hint=hint)
    return reason.strip()


def decide(
    out: Output,
    choice: Choice,
    verdict: str,
    *,
    reason: str | None = None,
    reason_code: str | None = None,
    yes: bool,
) -> None:
    """Decide on the clips, and say what became of each; a whole batch or contributor is asked about first.

    Raises UsageError, and what went wrong at the end, as `Several` does.
    """
    from paletta_cli.api import connect
    from paletta_cli.wrong_values import told_of

    choice.check()
    wish: dict[str, Any] = {"verdict": verdict}
    if verdict != "approved":
        if reason is None and reason_code is None:
            raise UsageError(
                "the contributor needs a reason",
                hint="pass --reason, --reason-code or both; `paletta admin clips reasons` lists codes",
            )
        said = None if reason is None else checked(reason, hint="say what the contributor can mend")
        wish |= {"reason": said, "reason_code": reason_code}
    with connect() as service:
        # Of clips that were listed only what was listed is decided: one that is edited meanwhile waits again.
        seen = {} if choice.clips else _asked(service, out, choice, verdict, yes=yes)
        several = Several(out, choice.clips or list(seen))

        def decide_some(some: list[str]) -> Any:
            versions = {clip: seen[clip] for clip in some if clip in seen}
            body = {**wish, "clips": some, **({"versions": versions} if versions else {})}
            with told_of(_OPTIONS, {"--reason-code": reason_code, "--reason": reason}):
                return service.post("/v1/admin/clips/decide", body)

        several.together(decide_some, "decided")
    done = [{key: clip[key] for key in ("id", "title", "stage")} for clip in several.done]
    for clip in done:
        out.line(f"{clip['id']} {WORDS[verdict]}")
    out.data({verdict: done, "failed": several.failed})
    several.end(WORDS[verdict])


def _asked(service: "Service", out: Output, choice: Choice, verdict: str, *, yes: bool) -> dict[str, int]:
    """All that wait, by id with their versions, once the operator has seen them and agreed."""
    import typer

    found = waiting(service, choice.batch, choice.contributor)
    if not found:
        out.note("none of these clips waits for review")
        return {}
    for clip in found[:_MOST_NOTED]:
        out.note(f"{clip['id']}  {clip['title']}")
    if len(found) > _MOST_NOTED:
        out.note(f"and {len(found) - _MOST_NOTED:,} more")
    if not out.confirm(f"{_VERBS[verdict]} {plural(len(found), 'clip')}?", yes=yes):
        out.note("nothing was decided")
        raise typer.Exit(1)
    return {clip["id"]: clip["version"] for clip in found}
