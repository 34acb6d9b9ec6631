"""A changed manifest against the clips that are there: plan everything first, then apply page by page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import ManifestInvalid, PalettaError, SomeFailed, UsageError
from paletta_cli.text import plural

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.manifests import Clip, Folder, Problem, Rules
    from paletta_cli.output import Output

PAGE = 100
"""Clips per call; the service applies a page as a whole or not at all."""
_ABOUT_FILES = frozenset({"missing_file", "ambiguous_file", "unmentioned"})
"""Problems of files: words can be changed where the films are not."""


@dataclass
class Plan:
    """What would change. `changes` are the service's: {ref, clip_id, file, changes: {field: [before, after]}, stage}.

    `stage` is [before, after] where a clip moves by it; an older service does not say.
    """

    folder: "Folder"
    clips: "dict[str, Clip]"
    """By file name, which is also how the service is told of each."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    unmatched: list[dict[str, Any]] = field(default_factory=list)
    problems: list["Problem"] = field(default_factory=list)
    warnings: list["Problem"] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        return bool(self.problems)

    @property
    def leaving(self) -> int:
        """Clips that leave the shop until they are reviewed again."""
        return sum(change.get("stage") == ["live", "in_review"] for change in self.changes)

    def as_json(self, *, applied: bool) -> dict[str, Any]:
        return {
            "changes": self.changes,
            "unmatched": self.unmatched,
            "problems": [problem.as_json() for problem in (*self.problems, *self.warnings)],
            "applied": applied,
        }


def load(path: Path, rules: "Rules") -> Plan:
    """The manifest, checked but for its films. Raises UsageError for a path that does not exist."""
    from paletta_cli.manifests import lint, load_folder

    try:
        folder = load_folder(path)
    except OSError as error:
        reason = str(error) if isinstance(error, FileNotFoundError) else f"`{path}`: {error.strerror}"
        raise UsageError(reason, hint="name a folder with a `paletta.yaml`") from error
    found = [problem for problem in lint(folder, rules) if problem.code not in _ABOUT_FILES]
    if folder.only is not None:
        found = [problem for problem in found if problem.clip in (None, folder.only)]
    plan = Plan(folder, {clip.file: clip for clip in folder})
    plan.problems = [problem for problem in found if problem.severity == "error"]
    plan.warnings = [problem for problem in found if problem.severity == "warning"]
    return plan


def ask(service: "Service", plan: Plan, journal_at: Path, out: "Output") -> None:
    """Fill the plan with what the service would change, over all pages, writing nothing."""
    prints = _known_sha256(list(plan.clips.values()), journal_at, out)
    first: dict[str, str] = {}
    items = []
    for clip in plan.clips.values():
        sha256 = prints.get(clip.file)
        if sha256 is not None and (twin := first.setdefault(sha256, clip.file)) != clip.file:
            _warn(plan, clip.file, "twin", f"the same bytes as `{twin}`, which comes first: left out")
            continue
        named = {"sha256": sha256} if sha256 else {"file": clip.file}
        items.append({"ref": clip.file, **named, "metadata": clip.metadata})
    for page in _pages(items):
        answer = service.post("/v1/clips/apply", {"items": page, "dry_run": True}, idempotent=True)
        plan.changes += answer["changes"]
        plan.unmatched += answer["unmatched"]
        _take_problems(plan, answer["problems"])
    _one_entry_per_clip(plan)
    for lost in plan.unmatched:
        _warn(plan, lost["ref"], "unmatched", str(lost["reason"]))


def apply(service: "Service", plan: Plan) -> None:
    """Write the planned changes. Raises ManifestInvalid when nothing, SomeFailed when not everything was written."""
    items = [
        {"ref": change["ref"], "clip_id": change["clip_id"], "metadata": plan.clips[change["ref"]].metadata}
        for change in plan.changes
    ]
    written, gone = 0, 0
    for page in _pages(items):
        try:
            answer = service.post("/v1/clips/apply", {"items": page}, idempotent=True)
        except PalettaError as error:
            if written:
                error.message = (
                    f"{error.message}; {plural(written, 'clip')} of {len(items)} were changed before"
                )
            raise
        _take_problems(plan, answer["problems"])
        for lost in answer["unmatched"]:
            _warn(plan, lost["ref"], "unmatched", str(lost["reason"]))
        if not answer["applied"]:
            if not written:
                return
            raise SomeFailed(f"{len(items) - written} of {plural(len(items), 'clip')} were not changed")
        gone += len(answer["unmatched"])
        written += len(page) - len(answer["unmatched"])
    if gone:
        raise SomeFailed(f"{gone} of {plural(len(items), 'clip')} are gone meanwhile")


def refuse(plan: Plan) -> None:
    """Raises ManifestInvalid for a plan with problems."""
    if plan.refused:
        raise ManifestInvalid(
            f"{plural(len(plan.problems), 'error')} in the manifest: nothing was changed",
            hint="mend them and run the same command again",
        )


def _pages(items: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]


def _known_sha256(clips: Sequence["Clip"], journal_at: Path, out: "Output") -> dict[str, str]:
    """File → SHA-256, for files that are unchanged since an upload from this machine read them."""
    if not journal_at.exists():
        return {}
    from paletta_cli.transfer.fingerprint import Stamp
    from paletta_cli.transfer.journal import Journal

    paths = {clip.file: clip.path.absolute() for clip in clips}
    with Journal(journal_at, out.warn) as journal:
        prints = journal.fingerprints(paths.values())
    known = {}
    for file, path in paths.items():
        try:
            if path in prints and prints[path].stamp == Stamp.of(path.stat()):
                known[file] = prints[path].sha256
        except OSError:
            continue  # the film is elsewhere: its name has to do
    return known


def _take_problems(plan: Plan, problems: Sequence[dict[str, Any]]) -> None:
    """The service's problems, placed where their cause was written."""
    for problem in problems:
        plan.problems.append(
            plan.folder.problem(
                plan.clips[problem["ref"]],
                str(problem["pointer"]),
                str(problem["message"]),
                code=str(problem["code"]),
                hint=problem.get("hint"),
            )
        )


def _one_entry_per_clip(plan: Plan) -> None:
    """Two entries for one clip would undo each other at every run: the first counts."""
    first: dict[str, str] = {}
    kept = []
    for change in plan.changes:
        other = first.setdefault(change["clip_id"], change["ref"])
        if other == change["ref"]:
            kept.append(change)
        else:
            _warn(
                plan, change["ref"], "twin", f"means the same clip as `{other}`, which comes first: left out"
            )
    plan.changes = kept


def _warn(plan: Plan, ref: str, code: str, message: str) -> None:
    plan.warnings.append(plan.folder.problem(plan.clips[ref], "", message, code=code, severity="warning"))
