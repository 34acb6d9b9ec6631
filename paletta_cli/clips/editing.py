"""One clip changed by the words of a command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paletta_cli.clips import changes, fields
from paletta_cli.clips.fields import Trouble, Wish
from paletta_cli.errors import ApiProblem, PalettaError, UsageError

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.output import Output


@dataclass(frozen=True)
class Edited:
    """What changed, or would: `changes` are {field: [before, after]}. `version` is the clip's now.

    `stage` is [before, after] where the clip moves, as an approved one does that is reviewed again.
    """

    id: str
    file: str
    version: int
    changes: dict[str, list[Any]]
    applied: bool
    stage: list[str] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "version": self.version,
            "changes": self.changes,
            "applied": self.applied,
            "stage": self.stage,
        }


def edit(service: "Service", clip: str, wish: Wish, out: "Output", *, dry_run: bool) -> Edited:
    """Change a clip of one's own unless somebody else did meanwhile; doubts are told to `out`.

    Raises UsageError when a value cannot be taken: then nothing is changed.
    """
    from paletta_cli.api import clip_segment
    from paletta_cli.manifests.live import fetch_rules

    before = service.get(f"/v1/me/clips/{clip_segment(clip)}")
    rules = fetch_rules(service)
    body, troubles = fields.patch(wish, before, rules)
    if troubles:
        _refuse(out, troubles)
    for absent in fields.absent_keywords(wish, before):
        out.warn(absent.message)
        if absent.hint:
            out.hint(absent.hint)
    after = {**before, **body}
    body = {name: value for name, value in body.items() if value != before.get(name)}
    if body and not dry_run:
        try:
            after = service.patch(f"/v1/clips/{before['id']}", body, if_match=f'"{before["version"]}"')
        except ApiProblem as problem:
            if problem.status != 422:
                raise
            _refuse(out, fields.troubles_of(problem))
    names = [name for name in rules.clip_fields if name != "file"]
    changed = changes.between(before, after, names)
    applied = bool(changed) and not dry_run
    stage = [before["stage"], after["stage"]] if before["stage"] != after["stage"] else None
    if changed and dry_run:
        stage = _planned_stage(service, after, names)
    return Edited(before["id"], before["file"], after["version"], changed, applied, stage)


def _planned_stage(service: "Service", after: Mapping[str, Any], names: Sequence[str]) -> list[str] | None:
    """Where the clip would go, as the service says for a manifest with the same words; nothing is written.

    Whether a change is reviewed is the service's to know. One that is older than this answer says nothing.
    """
    metadata = {name: after[name] for name in names if after.get(name) is not None}
    body = {"items": [{"clip_id": after["id"], "metadata": metadata}], "dry_run": True}
    try:
        answer = service.post("/v1/clips/apply", body, idempotent=True)
    except PalettaError:  # such as a service that is read-only for now: the plan stands without it
        return None
    return next((change.get("stage") for change in answer["changes"]), None)


def _refuse(out: "Output", troubles: Sequence[Trouble]) -> None:
    """Raise the one trouble, or list several and raise their sum."""
    if len(troubles) == 1:
        raise UsageError(f"{troubles[0].message}; nothing was changed", hint=troubles[0].hint)
    for trouble in troubles:
        out.error(trouble.message, trouble.hint)
    raise UsageError(f"{len(troubles)} values cannot be taken; nothing was changed")
