"""`paletta upload --dry-run`: reads the files and asks the service what it knows of them; nothing is
registered.
"""

from collections import Counter
from collections.abc import Sequence

from paletta_cli.output import Column, Output
from paletta_cli.text import size
from paletta_cli.transfer import fingerprint
from paletta_cli.transfer.fingerprint import Changed, Stamp
from paletta_cli.transfer.items import Item
from paletta_cli.transfer.journal import Journal
from paletta_cli.transfer.plan import Plan
from paletta_cli.transfer.protocol import Protocol

_WORDS = {"created": "new", "resumed": "resumed", "already_yours": "already yours", "invalid": "invalid"}


def rehearse(protocol: Protocol, journal: Journal, plan: Plan, out: Output) -> int:
    """Show per file what an upload would do; exit code 0, or 6 when the service would refuse some."""
    begun = journal.begun()
    readable = [item for item in plan.items if _read(item, protocol, journal)]
    by_ref = {item.ref: item for item in readable}
    for start in range(0, len(readable), protocol.limits.items_per_call):
        page = readable[start : start + protocol.limits.items_per_call]
        answer = protocol.compare(page)
        unknown = {entry["ref"] for entry in answer["unmatched"]}
        for item in page:
            known = "resumed" if str(item.path) in begun else "already_yours"
            item.outcome = "created" if item.ref in unknown else known
        for problem in answer["problems"]:
            by_ref[problem["ref"]].outcome = "invalid"
            by_ref[problem["ref"]].problems.append(problem)
    return _show(plan, out)


def _read(item: Item, protocol: Protocol, journal: Journal) -> bool:
    """Fingerprint a file, from the journal where it has not changed; whether that went well."""
    try:
        stamp = Stamp.of(item.path.stat())
        known = journal.fingerprints([item.path]).get(item.path)
        if known is None or known.stamp != stamp:
            known = fingerprint.take(item.path, protocol.limits.parts.part_size(stamp.size))
            journal.remember([(item.path, known)])
    except (OSError, Changed) as error:
        item.outcome = "invalid"
        item.reason = (
            "changed while it was read" if isinstance(error, Changed) else f"cannot be read: {error}"
        )
        return False
    item.print = known
    return True


def _show(plan: Plan, out: Output) -> int:
    for item in plan.items:
        for problem in plan.place(item):
            out.note(problem)
        if item.reason:
            out.warn(f"`{item.ref}` {item.reason}")
    rows = [{"file": item.ref, "outcome": item.outcome, "size": item.size} for item in plan.items]
    columns = [
        Column("file", "file"),
        Column("outcome", "would be", show=lambda outcome: _WORDS.get(outcome, outcome)),
        Column("size", "size", show=size, right=True),
    ]
    out.table(rows, columns)
    out.note(f"nothing was sent: {_counts(plan.items)}")
    return 6 if any(item.outcome == "invalid" for item in plan.items) else 0


def _counts(items: Sequence[Item]) -> str:
    found = Counter(item.outcome for item in items)
    return ", ".join(f"{found[key]} {word}" for key, word in _WORDS.items() if found[key])
