"""The chain that makes the audit log tell of tampering: each entry's hash covers the one before and its row.

Rows are chained after their transactions have committed, and not in them: a chain made at insert would let every
request wait for the one that wrote before it, in whatever order their other locks are. A row that is committed waits in
`audit_pending`, noted there by a trigger in its own transaction. So what is visible there is over for certain, nothing
can appear behind what was chained already, and the order of entries is the order in which they were taken up. A job
does it every minute, and so does whoever reads the chain. The lock on the head keeps two of them apart; no request
that writes the log ever waits for it.

What this proves: nobody changed, removed or inserted a chained row without making all that follows anew. Who may do
even that (a superuser of the database) changes the head with it, so an operator keeps the head somewhere else: it is
in the log of the worker each time it moves, and `paletta admin logs verify --head` compares.
"""

import hashlib
import logging
import re
from dataclasses import dataclass

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.audit.models import AuditChain, AuditHead
from paletta_server.core.database import Database
from paletta_server.core.errors import Invalid

log = logging.getLogger(__name__)

GENESIS = hashlib.sha256(b"paletta audit log").digest()
"""What the first entry's hash covers in place of one before it."""
PER_TURN = 5_000

CANONICAL = """jsonb_build_array(l.id, (extract(epoch FROM l.at) * 1000000)::bigint, l.user_id, l.action, l.object,
  l.details, l.ip, encode(l.origin, 'hex'), l.request_id)::text"""
"""A row as it is hashed: PostgreSQL writes equal jsonb equally, and time is in microseconds since 1970."""

_TAKE = text(
    f"""
    WITH taken AS (
      DELETE FROM audit_pending WHERE log_id IN (SELECT log_id FROM audit_pending ORDER BY log_id LIMIT :most)
      RETURNING log_id
    )
    SELECT taken.log_id, CASE WHEN l.id IS NOT NULL THEN {CANONICAL} END, c.seq
    FROM taken LEFT JOIN audit_logs l ON l.id = taken.log_id LEFT JOIN audit_chain c ON c.log_id = taken.log_id
    ORDER BY taken.log_id
    """  # noqa: S608 (a constant of ours)
)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: how many entries it has, and the hash of the last."""

    entries: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.entries}:{self.hash.hex()}"


class Broken(Exception):
    """Head and chain do not fit together: nothing is chained before somebody has looked."""


def parse_head(noted: str) -> tuple[int | None, bytes]:
    """A head as an operator noted it, `ENTRIES:HASH` or the hash alone. Raises `Invalid` (`bad_head`)."""
    found = re.fullmatch(r"(?:(\d{1,18}):)?([0-9a-f]{64})", noted.strip().lower())
    if found is None:
        raise Invalid(
            "this is no head of the audit log's chain",
            code="bad_head",
            hint="it is a number, a colon and 64 hexadecimal digits, as `paletta admin logs verify` prints it",
            pointer="/head",
        )
    return int(found[1]) if found[1] else None, bytes.fromhex(found[2])


async def extend(database: Database) -> Head:
    """Chain every row that waits, some thousand in a transaction; the head afterwards. Raises `Broken`."""
    while True:
        async with database.transaction() as session:
            head, taken = await _extend_once(session)
        if taken < PER_TURN:
            return head


async def _extend_once(session: AsyncSession) -> tuple[Head, int]:
    head = await _locked_head(session)
    rows = (await session.execute(_TAKE, {"most": PER_TURN})).all()
    entries, last = head.entries, head.hash
    made = []
    for log_id, canonical, known in rows:
        if known is not None:
            continue
        entries, last = entries + 1, linked(last, canonical or f"[{log_id}]")
        made.append({"seq": entries, "log_id": log_id, "hash": last})
    if made:
        await session.execute(insert(AuditChain), made)
        await session.execute(update(AuditHead).values(entries=entries, hash=last, at=func.now()))
    return Head(entries, last), len(rows)


def linked(before: bytes, canonical: str) -> bytes:
    """The hash of an entry. A row that vanished before it could be chained counts as `[its key]`."""
    return hashlib.sha256(before + canonical.encode()).digest()


async def _locked_head(session: AsyncSession) -> Head:
    """The head, ours until this transaction ends."""
    row = await session.scalar(select(AuditHead).with_for_update())
    last = await session.scalar(select(func.max(AuditChain.seq)))
    if row is None and last is None:
        await session.execute(
            upsert(AuditHead).values(id=1, entries=0, hash=GENESIS).on_conflict_do_nothing()
        )
        row = await session.scalar(select(AuditHead).with_for_update())
        last = await session.scalar(select(func.max(AuditChain.seq)))
    if row is None or (last or 0) > row.entries:
        raise Broken(f"the chain has entry {last}, its head {row.entries if row else 'is gone'}")
    return Head(row.entries, row.hash)


async def head(database: Database) -> Head | None:
    """Where the chain ends now, without chaining what waits."""
    async with database.transaction() as session:
        row = await session.scalar(select(AuditHead))
    return Head(row.entries, row.hash) if row else None
