"""Proving the audit log: every row against its hash, every hash against the one before, the end against the head."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit import chain
from paletta_server.audit.chain import CANONICAL, GENESIS, Head
from paletta_server.audit.models import AuditChain, AuditHead
from paletta_server.core.database import Database

SHOWN = 100
"""Findings that are named one by one; the rest is counted."""
PER_PAGE = 50_000

# The rows of a page with what is wrong with them, and the page's last row in any case.
_PAGE = text(
    f"""
    WITH entries AS (
      SELECT seq, log_id, hash FROM audit_chain WHERE seq > :after ORDER BY seq LIMIT :most
    ), facts AS (
      SELECT c.seq, c.log_id, c.hash, l.id IS NULL AS gone, l.at, l.action, l.object,
        coalesce(lag(c.seq) OVER by_seq, CAST(:seq AS bigint)) AS seq_before,
        coalesce(lag(c.hash) OVER by_seq, CAST(:hash AS bytea)) AS hash_before,
        convert_to({CANONICAL}, 'UTF8') AS canonical,
        l.id IS NOT NULL AND o.ip IS NOT NULL
          AND sha256(o.salt || convert_to(o.ip, 'UTF8')) IS DISTINCT FROM l.origin AS moved
      FROM entries c LEFT JOIN audit_logs l ON l.id = c.log_id LEFT JOIN audit_origins o ON o.log_id = c.log_id
      WINDOW by_seq AS (ORDER BY c.seq)
    ), judged AS (
      SELECT *, NOT gone AND seq = seq_before + 1 AND sha256(hash_before || canonical) <> hash AS changed FROM facts
    )
    SELECT seq, log_id, hash, seq_before, gone, changed, moved, at, action, object FROM judged
    WHERE gone OR changed OR moved OR seq <> seq_before + 1 OR seq = (SELECT max(seq) FROM entries) ORDER BY seq
    """  # noqa: S608 (a constant of ours)
)
_UNCHAINED = text(
    """
    SELECT l.id, l.at, l.action, l.object, count(*) OVER () FROM audit_logs l
    WHERE NOT EXISTS (SELECT FROM audit_chain c WHERE c.log_id = l.id)
      AND NOT EXISTS (SELECT FROM audit_pending p WHERE p.log_id = l.id)
    ORDER BY l.id LIMIT :most
    """
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `kind`: changed, removed, inserted, address_changed, cut, head, noted_head.

    `entry` is the place in the chain, `log_id` the key of the row, `about` what the row says now, if it is there.
    """

    kind: str
    words: str
    entry: int | None = None
    log_id: int | None = None
    about: dict[str, Any] | None = None


@dataclass
class Verdict:
    """What `verify` found. `unchained` rows have waited for the chain since it began."""

    head: Head
    unchained: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding, count: int = 1) -> None:
        self.found += count
        if len(self.findings) < SHOWN:
            self.findings.append(finding)


async def verify(database: Database, noted: tuple[int | None, bytes] | None = None) -> Verdict:
    """Chain what waits, then read the whole log and its chain in one snapshot. `noted` is a head from elsewhere."""
    trouble = None
    try:
        await chain.extend(database)
    except chain.Broken as broken:
        trouble = str(broken)
    async with database.transaction() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        row = await session.scalar(select(AuditHead))
        verdict = Verdict(Head(row.entries, row.hash) if row else Head(0, GENESIS))
        if trouble:
            verdict.add(Finding("head", f"{trouble}: rows are not chained any more"))
        last = await _check_entries(session, verdict)
        if trouble is None:
            _check_head(verdict, last)
        await _check_unchained(session, verdict)
        if noted is not None:
            await _check_noted(session, verdict, last, *noted)
    return verdict


async def _check_entries(session: AsyncSession, verdict: Verdict) -> Head:
    """Every entry, page by page; the last one that there is."""
    last = Head(0, GENESIS)
    while True:
        parameters = {"after": last.entries, "seq": last.entries, "hash": last.hash, "most": PER_PAGE}
        rows = (await session.execute(_PAGE, parameters)).all()
        if not rows:
            return last
        for row in rows:
            _judge(verdict, row)
        last = Head(rows[-1].seq, rows[-1].hash)


def _judge(verdict: Verdict, row: Any) -> None:
    about = {"at": row.at, "action": row.action, "object": row.object}
    if row.seq != row.seq_before + 1:
        _missing(verdict, row.seq_before + 1, row.seq - 1)
    if row.gone:
        words = f"row {row.log_id} of the log, entry {row.seq} of the chain, was removed"
        verdict.add(Finding("removed", words, row.seq, row.log_id))
    if row.changed:
        words = f"row {row.log_id} of the log, or entry {row.seq} of the chain, was changed"
        verdict.add(Finding("changed", words, row.seq, row.log_id, about))
    if row.moved:
        words = f"the address that row {row.log_id} came from was changed"
        verdict.add(Finding("address_changed", words, row.seq, row.log_id, about))


def _missing(verdict: Verdict, first: int, until: int) -> None:
    which = f"entry {first}" if first == until else f"entries {first} to {until}"
    verdict.add(Finding("cut", f"{which} of the chain: removed", first), until - first + 1)


def _check_head(verdict: Verdict, last: Head) -> None:
    """The chain ends where its head says, and in its hash."""
    if last.entries < verdict.head.entries:
        _missing(verdict, last.entries + 1, verdict.head.entries)
    elif last.hash != verdict.head.hash:
        words = f"the head's hash is not that of entry {last.entries}"
        verdict.add(Finding("head", words, last.entries))


async def _check_unchained(session: AsyncSession, verdict: Verdict) -> None:
    """A row that neither is in the chain nor waits for it came in past the triggers."""
    rows = (await session.execute(_UNCHAINED, {"most": SHOWN})).all()
    for log_id, at, action, obj, _ in rows:
        about = {"at": at, "action": action, "object": obj}
        words = f"row {log_id} was put into the log past the chain"
        verdict.add(Finding("inserted", words, None, log_id, about))
    if rows:
        verdict.found += rows[0][4] - len(rows)
    verdict.unchained = await session.scalar(text("SELECT count(*) FROM audit_pending")) or 0


async def _check_noted(
    session: AsyncSession, verdict: Verdict, last: Head, entries: int | None, noted: bytes
) -> None:
    """The chain that was noted is the beginning of this one."""
    if entries is None:
        query = select(AuditChain.seq).where(AuditChain.hash == noted)
        if noted != GENESIS and await session.scalar(query) is None:
            verdict.add(Finding("noted_head", "the noted head is not in the chain: it was cut, or made anew"))
        return
    there = (
        await session.scalar(select(AuditChain.hash).where(AuditChain.seq == entries)) if entries else GENESIS
    )
    if there is None:
        words = f"the chain ends at entry {last.entries}; the noted head was entry {entries}"
        verdict.add(Finding("noted_head", words, entries))
    elif there != noted:
        words = f"entry {entries} is not the one that was noted: the chain was made anew"
        verdict.add(Finding("noted_head", words, entries))
