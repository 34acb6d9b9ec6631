"""What is to be uploaded: folders and files on the command line → checked items, before the first byte is
sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paletta_cli.errors import ManifestInvalid, UsageError
from paletta_cli.manifests import Clip, Folder, Problem, Rules, keywords, lint, load_folder
from paletta_cli.manifests.model import Severity
from paletta_cli.output import Output
from paletta_cli.text import clean, plural
from paletta_cli.transfer.items import Item

_MOST_WARNINGS = 10  # before the transfer; `paletta manifest check` shows them all


@dataclass(slots=True)
class Plan:
    """The items in the order of the command line, and where each came from."""

    items: list[Item] = field(default_factory=list)
    sources: dict[str, tuple[Folder, Clip]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    synonyms: Mapping[str, str] = field(default_factory=dict)

    def taken_as_tags(self) -> dict[str, str]:
        """The keywords that will be stored as the tag they stand for."""
        return keywords.taken_as_tags((item.metadata for item in self.items), self.synonyms)

    def place(self, item: Item) -> list[Problem]:
        """The service's problems with an item, placed where their cause was written."""
        return self._placed(item, item.problems, "error")

    def place_doubts(self, item: Item) -> list[Problem]:
        """The service's warnings about an item, placed likewise."""
        return self._placed(item, item.doubts, "warning")

    def _placed(self, item: Item, found: Iterable[Mapping[str, Any]], severity: Severity) -> list[Problem]:
        folder, clip = self.sources[item.ref]
        return [
            folder.problem(
                clip,
                str(problem.get("pointer") or ""),
                str(problem["message"]),
                code=str(problem.get("code") or "invalid"),
                hint=problem.get("hint"),
                severity=severity,
            )
            for problem in found
        ]


def make(
    paths: Sequence[Path],
    rules: Rules,
    *,
    check_media: bool,
    on_media: Callable[[int, int], None] | None = None,
) -> Plan:
    """Load and check everything. `on_media(done, total)` follows the media check, which takes a while.

    Raises UsageError for a path that does not exist. Problems are in the plan; the caller decides.
    """
    plan = Plan(synonyms=rules.synonyms)
    taken: set[Path] = set()
    folders = _folders(paths)
    for folder, chosen in folders:
        found = lint(folder, rules, media=(on_media or True) if check_media else False)
        if chosen is not None:
            # A sidecar's name, which names its clip here, may be encoded otherwise than the clip's.
            chosen = {folder.spelling(name) for name in chosen}
            found = [problem for problem in found if problem.clip is None or problem.clip in chosen]
        plan.problems += found
        for clip in folder:
            if (chosen is not None and clip.file not in chosen) or clip.path in taken:
                continue
            taken.add(clip.path)
            _add(plan, folder, clip, prefix=len(folders) > 1)
    return plan


def report(plan: Plan, out: Output) -> None:
    """Show the problems. Raises ManifestInvalid when one of them is an error."""
    errors = [problem for problem in plan.problems if problem.severity == "error"]
    warnings = [problem for problem in plan.problems if problem.severity == "warning"]
    for problem in errors:
        out.note(problem)
    if errors:
        out.data({"problems": [problem.as_json() for problem in plan.problems]})
        raise ManifestInvalid(
            f"{plural(len(errors), 'error')} in the manifest: nothing was sent",
            hint="mend them and run the same command again",
        )
    if warnings:
        out.note(shortened(warnings, "`paletta manifest check` shows them all"))


def shortened(warnings: Sequence[object], hint: str) -> str:
    """The first of many warnings, and how to see the others."""
    lines = [str(warning) for warning in warnings[:_MOST_WARNINGS]]
    if len(warnings) > _MOST_WARNINGS:
        lines += [f"… and {plural(len(warnings) - _MOST_WARNINGS, 'more warning')}", f"hint: {hint}"]
    return "\n".join(lines)


def _folders(paths: Iterable[Path]) -> list[tuple[Folder, set[str] | None]]:
    """Each folder once, with the names of the clips that were asked for, or None for all of them."""
    chosen: dict[Path, set[str] | None] = {}
    for path in paths:
        if path.is_dir() or path.name == "paletta.yaml":
            chosen[path if path.is_dir() else path.parent] = None
            continue
        if not path.exists():
            raise UsageError(f"`{path}` does not exist")
        names = chosen.setdefault(path.parent, set())
        if names is not None:
            names.add(path.name.removesuffix(".yaml"))
    loaded: list[tuple[Folder, set[str] | None]] = []
    for folder, names in chosen.items():
        if names is not None and len(names) == 1:
            loaded.append((load_folder(folder / next(iter(names))), names))
        else:
            loaded.append((load_folder(folder), names))
    return loaded


def _add(plan: Plan, folder: Folder, clip: Clip, *, prefix: bool) -> None:
    # A folder's name may be in any encoding, which the ref, as JSON, must not have.
    wish = f"{clean(folder.path.resolve().name)}/{clip.file}" if prefix else clip.file
    ref, count = wish, 1
    while ref in plan.sources:  # two folders of one name
        count += 1
        ref = f"{wish}#{count}"
    path = clip.path.absolute()
    size = folder.files.get(clip.file, 0)
    plan.items.append(Item(ref=ref, path=path, size=size, metadata=clip.metadata))
    plan.sources[ref] = (folder, clip)
