"""`paletta upload --failed RUN`: what went wrong in a batch, as the service knows it, and where it is here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import ApiProblem, PalettaError, UsageError
from paletta_cli.output import Output
from paletta_cli.text import plural
from paletta_cli.transfer.items import ENDED, PROCESSING, Item
from paletta_cli.transfer.journal import Journal, Run
from paletta_cli.transfer.view import STAGE_NAMES

if TYPE_CHECKING:
    from paletta_cli.api import Service

WRONG = frozenset({"rejected", "failed", "expired", "cancelled"})
"""The service's verdicts that another try may change. What its owner deleted is not among them."""

_ARRIVED = frozenset({"live", "in_review", "changes_requested", "taken_down", "deleted", *PROCESSING})
_MOST_NAMES = 5


@dataclass(slots=True)
class Again:
    """The files of batch `batch_id` that are to be tried again, by ref.

    `known` leads from a path to its ref where this machine's journal has the run; `paths` is what to load.
    """

    batch_id: str
    paths: tuple[Path, ...]
    refs: set[str] = field(default_factory=set)
    known: dict[str, str] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)

    def nothing(self, out: Output) -> int:
        """Say that there is nothing to try again; the exit code."""
        counts = ", ".join(
            f"{self.stages[k]:,} {name}" for k, name in STAGE_NAMES.items() if k in self.stages
        )
        out.data({"batch_id": self.batch_id, "counts": self.stages, "exit_code": 0, "items": []})
        moving = any(stage not in ENDED for stage in self.stages)
        out.note(f"nothing failed in `{self.batch_id}`{' so far' if moving else ''}: {counts or 'no clips'}")
        return 0

    def keep(self, items: Sequence[Item], out: Output) -> list[Item]:
        """Those of `items` that are to be tried again: by path where the run is known, else by ref or name.

        Raises UsageError when none is among them.
        """
        chosen = {}
        names = Counter(item.path.name for item in items)
        for item in items:
            ref = self.known.get(str(item.path))
            if ref is None:
                ref = item.ref if item.ref in self.refs else self._by_name(item.path.name, names)
            if ref in self.refs:
                chosen[ref] = item
        missing = sorted(self.refs - chosen.keys())
        if missing:
            words = ", ".join(f"`{ref}`" for ref in missing[:_MOST_NAMES])
            more = f" and {len(missing) - _MOST_NAMES:,} more" if len(missing) > _MOST_NAMES else ""
            message = f"{words}{more} of `{self.batch_id}` not found here"
            hint = f"name their folders: `paletta upload --failed {self.batch_id} PATH…`"
            if not chosen:
                raise UsageError(message, hint=hint)
            out.warn(message)
            out.hint(hint)
        return list(chosen.values())

    def _by_name(self, name: str, names: Mapping[str, int]) -> str | None:
        """The one ref of that file name: refs begin with the folder's name when there were several."""
        if names[name] != 1:
            return None
        found = [ref for ref in self.refs if ref.rpartition("/")[2].partition("#")[0] == name]
        return found[0] if len(found) == 1 else None


def find(
    service: "Service", journal: Journal, identity: tuple[str, str], word: str, paths: Sequence[Path]
) -> Again:
    """Ask the service what became of the run that `word` names (`last`, or how its batch id begins).

    `identity` is the service's address and the account's id. Paths on the command line go before the
    journal's. Raises PalettaError when there is no such run, UsageError when nobody knows where its files are.
    """
    run = journal.find(word, *identity)
    if run is None and word == "last":
        raise PalettaError(
            "this account has no run on this machine yet",
            hint="`paletta uploads list` shows batches: `paletta upload --failed BATCH PATH…`",
        )
    batch, items = _batch(service, run.batch_id if run else word)
    theirs = run.paths if run else ()
    again = Again(str(batch["id"]), tuple(paths) or tuple(map(Path, theirs)))
    stages = {str(item["ref"]): str(item["stage"]) for item in items}
    again.refs = {ref for ref, stage in stages.items() if stage in WRONG}
    if run is not None:
        _add_ours(again, journal, run, stages)
    again.stages = dict(Counter(stages.values()))
    if again.refs and not again.paths:
        raise UsageError(
            f"`{again.batch_id}` was not sent from this machine: {plural(len(again.refs), 'clip')} to try again",
            hint=f"say where they are: `paletta upload --failed {again.batch_id} PATH…`",
        )
    return again


def _add_ours(again: Again, journal: Journal, run: Run, stages: dict[str, str]) -> None:
    """What the journal adds: the paths, and files that went wrong before the service had them."""
    for entry in journal.entries(run):
        again.known[entry.path] = entry.ref
        stage = stages.setdefault(entry.ref, entry.state)
        if stage not in _ARRIVED:
            again.refs.add(entry.ref)


def _batch(service: "Service", word: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from paletta_cli.api import segment

    where = f"/v1/upload-batches/{segment(word)}"
    try:
        batch = service.get(where, limit=1)
        # By the whole id: a beginning may fit another batch before the last page.
        items = list(service.pages(f"/v1/upload-batches/{segment(str(batch['id']))}", limit=100))
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        raise PalettaError(
            f"this account has no batch `{word}`",
            hint="`paletta uploads list` shows batches; `last` is the latest one from this machine",
        ) from problem
    return batch, items
