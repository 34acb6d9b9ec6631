"""What an upload would do, asked of the service before anything is sent.

All of it for `paletta upload --dry-run`, which reads the files and registers nothing; for a real upload only
of the files that this machine has read before, because reading the others first would hold up the transfer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from paletta_cli.errors import PalettaError
from paletta_cli.output import Column, Output
from paletta_cli.text import plural, size
from paletta_cli.transfer import fingerprint
from paletta_cli.transfer.fingerprint import Changed, Stamp
from paletta_cli.transfer.items import Item, mark_twins
from paletta_cli.transfer.journal import Journal
from paletta_cli.transfer.plan import Plan, shortened
from paletta_cli.transfer.protocol import Protocol
from paletta_cli.transfer.report import hint_differing
from paletta_cli.transfer.view import counted, outcomes, would_be

_MOST_COMPARED = 1000
"""Clips whose words are compared, 100 in a third of a second: a second upload of 10,000 would take half a minute."""


def rehearse(protocol: Protocol, journal: Journal, plan: Plan, out: Output) -> int:
    """Show per file what an upload would do; exit code 0, or 6 when the service would refuse some."""
    recall(journal, plan.items)
    readable = [item for item in plan.items if _read(item, protocol, journal)]
    for item, answer in _answers(protocol, readable):
        item.outcome = answer["outcome"]
        item.found(answer)
        item.problems = answer["problems"]
        item.doubts = list(answer.get("warnings") or ())
    mark_twins(plan.items)
    return _show(plan, out, uncompared=compare(protocol, plan.items))


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


def compare(protocol: Protocol, items: Sequence[Item]) -> int:
    """Find the clips that are there already and that their manifest now describes otherwise; how many were not
    looked at, because there are so many of them.

    A word beside the result: where the service cannot tell, nothing is said, and the upload is what it was.
    """
    there = [item for item in items if item.outcome == "already_yours"]
    asked, left = there[:_MOST_COMPARED], there[_MOST_COMPARED:]
    try:
        differing = protocol.differing(asked)
    except PalettaError:
        return 0
    # A clip that stands for several files is described by one of them, whichever it is.
    described = {item.twin or item.ref for item in asked if item.ref not in differing}
    for item in asked:
        item.differs = item.ref in differing and not item.twin and item.ref not in described
    return len(left)


def foretell(protocol: Protocol, items: Sequence[Item], read: Sequence[Item], out: Output) -> str:
    """Say what will come of the files `read` before, and how much is still to be read; the words about the
    former.
    """
    if not read:
        return ""
    mark_twins(read)
    answers = []
    for item, answer in _answers(protocol, read):
        item.found(answer)
        answers.append(("twin" if item.twin else str(answer["outcome"]), item))
    words = counted(answers)
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


def _show(plan: Plan, out: Output, *, uncompared: int) -> int:
    doubts = [doubt for item in plan.items for doubt in plan.place_doubts(item)]
    if doubts:
        # What stands in the defaults is one warning, not one of each clip.
        out.note(shortened(list(dict.fromkeys(map(str, doubts))), "`paletta manifest check` shows them all"))
    for item in plan.items:
        for problem in plan.place(item):
            out.note(problem)
        if item.reason:
            out.warn(f"`{item.ref}` {item.reason}")
    rows = [
        {
            "file": item.ref,
            "outcome": item.outcome,
            "same_bytes_as": item.twin or None,
            "differs": item.differs,
            "size": item.size,
            "bytes_there": None if item.twin else item.there,
            "words": would_be(item),
        }
        for item in plan.items
    ]
    columns = [
        Column("file", "file"),
        Column("words", "would be"),
        Column("size", "size", show=size, right=True),
    ]
    out.table(rows, columns)
    out.note(f"nothing was sent: {outcomes(plan.items)}")
    hint_differing(out, plan, uncompared)
    return 6 if any(item.outcome == "invalid" for item in plan.items) else 0
