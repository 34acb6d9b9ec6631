"""What an upload would do, asked of the service before anything is sent.

All of it for `paletta upload --dry-run`, which reads the files and registers nothing; for a real upload only
of the files that this machine has read before, because reading the others first would hold up the transfer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from paletta_cli.output import Column, Output
from paletta_cli.text import plural, size
from paletta_cli.transfer import fingerprint
from paletta_cli.transfer.fingerprint import Changed, Stamp
from paletta_cli.transfer.items import Item
from paletta_cli.transfer.journal import Journal
from paletta_cli.transfer.plan import Plan
from paletta_cli.transfer.protocol import Protocol
from paletta_cli.transfer.view import OUTCOME_NAMES, counted


def rehearse(protocol: Protocol, journal: Journal, plan: Plan, out: Output) -> int:
    """Show per file what an upload would do; exit code 0, or 6 when the service would refuse some."""
    recall(journal, plan.items)
    readable = [item for item in plan.items if _read(item, protocol, journal)]
    for item, answer in _answers(protocol, readable):
        item.outcome = answer["outcome"]
        item.problems = answer["problems"]
    return _show(plan, out)


def recall(journal: Journal, items: Sequence[Item]) -> list[Item]:
    """Give items the fingerprints that the journal has of their files as they are now; those that got one."""
    known = journal.fingerprints(item.path for item in items)
    found = []
    for item in items:
        try:
            stamp = Stamp.of(item.path.stat())
        except OSError:
            continue  # whoever reads the file says so
        if (taken := known.get(item.path)) is not None and taken.stamp == stamp:
            item.print = taken
            found.append(item)
    return found


def foretell(protocol: Protocol, items: Sequence[Item], read: Sequence[Item], out: Output) -> str:
    """Say what will come of the files `read` before, and how much is still to be read; the words about the
    former.
    """
    if not read:
        return ""
    words = counted(answer["outcome"] for _, answer in _answers(protocol, read))
    unread = [item for item in items if item.print is None]
    if not unread:
        out.note(words)
        return words
    count, volume = plural(len(unread), "clip"), size(sum(item.size for item in unread))
    out.note(f"{plural(len(read), 'clip')} read before: {words}; {count}, {volume} still to read")
    return words


def _answers(protocol: Protocol, items: Sequence[Item]) -> Iterator[tuple[Item, dict[str, Any]]]:
    """The service's answers, page by page; it knows nothing of the pages before, so equal bytes are told here."""
    seen: dict[str, Item] = {}
    for start in range(0, len(items), protocol.limits.items_per_call):
        page = items[start : start + protocol.limits.items_per_call]
        answers = protocol.rehearse(page)
        for item in page:
            answer = answers[item.ref]
            assert item.print is not None
            if answer["outcome"] != "invalid" and seen.setdefault(item.print.sha256, item) is not item:
                answer["outcome"] = "already_yours"
            yield item, answer


def _read(item: Item, protocol: Protocol, journal: Journal) -> bool:
    """Fingerprint a file that is not known yet; whether that went well."""
    if item.print is not None:
        return True
    try:
        stamp = Stamp.of(item.path.stat())
        item.print = fingerprint.take(item.path, protocol.limits.parts.part_size(stamp.size))
    except (OSError, Changed) as error:
        item.outcome = "invalid"
        item.reason = (
            "changed while it was read" if isinstance(error, Changed) else f"cannot be read: {error}"
        )
        return False
    journal.remember([(item.path, item.print)])
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
        Column("outcome", "would be", show=lambda outcome: OUTCOME_NAMES.get(outcome, outcome)),
        Column("size", "size", show=size, right=True),
    ]
    out.table(rows, columns)
    out.note(f"nothing was sent: {counted(item.outcome for item in plan.items)}")
    return 6 if any(item.outcome == "invalid" for item in plan.items) else 0
