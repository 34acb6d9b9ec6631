"""One clip changed by the words of a command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paletta_cli.clips import changes, fields
from paletta_cli.clips.fields import Trouble, Wish
from paletta_cli.errors import ApiProblem, UsageError

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.output import Output


@dataclass(frozen=True)
class Edited:
    """What changed, or would: `changes` are {field: [before, after]}. `version` is the clip's now."""

    id: str
    file: str
    version: int
    changes: dict[str, list[Any]]
    applied: bool

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "version": self.version, "changes": self.changes, "applied": self.applied}


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
    changed = changes.between(before, after, (name for name in rules.clip_fields if name != "file"))
    applied = bool(changed) and not dry_run
    return Edited(before["id"], before["file"], after["version"], changed, applied)


def _refuse(out: "Output", troubles: Sequence[Trouble]) -> None:
    """Raise the one trouble, or list several and raise their sum."""
    if len(troubles) == 1:
        raise UsageError(f"{troubles[0].message}; nothing was changed", hint=troubles[0].hint)
    for trouble in troubles:
        out.error(trouble.message, trouble.hint)
    raise UsageError(f"{len(troubles)} values cannot be taken; nothing was changed")
