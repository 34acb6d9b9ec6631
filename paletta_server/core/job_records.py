"""What became of jobs: the queue forgets those that succeeded, and does not say why others failed."""

import asyncio
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import BigInteger, Float, case, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from paletta_server.core.database import Base, Database
from paletta_server.core.logging import mask

log = logging.getLogger(__name__)

LONGEST_ERROR = 500
FLUSH_SECONDS = 10.0
"""How old a worker's figures are at most; what a killed one had not written yet is not counted."""


class JobTally(Base):
    """How the runs of a task ended within an hour, by start; `seconds` is what they took together."""

    __tablename__ = "job_tallies"

    task: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    queue: Mapped[str]
    done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Runs, not jobs: one that is tried again counts each time."""
    seconds: Mapped[float] = mapped_column(Float, server_default="0")
    last_at: Mapped[datetime]
    last_outcome: Mapped[str]


class JobFailure(Base):
    """Why a job's last run failed. Without a key to the queue's own table, which is the engine's."""

    __tablename__ = "job_failures"

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    task: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[str | None]
    told_at: Mapped[datetime | None]
    """When the operators were told that it is dead."""


@dataclass
class _Tally:
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    last_at: datetime | None = None
    last_outcome: str = ""


class Tallies:
    """A worker's figures until they are written."""

    def __init__(self) -> None:
        self._noted: dict[tuple[str, str, datetime], _Tally] = {}

    def note(self, task: str, queue: str, outcome: Literal["done", "failed"], seconds: float) -> None:
        """A run ended."""
        now = datetime.now(UTC)
        tally = self._noted.setdefault(
            (task, queue, now.replace(minute=0, second=0, microsecond=0)), _Tally()
        )
        setattr(tally, outcome, getattr(tally, outcome) + 1)
        tally.seconds += seconds
        tally.last_at, tally.last_outcome = now, outcome

    async def write(self, database: Database) -> None:
        """Add what was noted to the table. What cannot be written is lost: nothing is decided by it."""
        if not self._noted:
            return
        noted, self._noted = self._noted, {}
        rows = [
            {"task": task, "queue": queue, "hour": hour, **asdict(tally)}
            for (task, queue, hour), tally in sorted(noted.items(), key=lambda pair: pair[0])
        ]  # in one order, so that no two workers wait for each other crosswise
        statement = insert(JobTally).values(rows)
        new = statement.excluded
        summed = statement.on_conflict_do_update(
            index_elements=["task", "hour"],
            set_={
                "done": JobTally.done + new.done,
                "failed": JobTally.failed + new.failed,
                "seconds": JobTally.seconds + new.seconds,
                "last_at": func.greatest(JobTally.last_at, new.last_at),
                "last_outcome": case(
                    (new.last_at >= JobTally.last_at, new.last_outcome), else_=JobTally.last_outcome
                ),
            },
        )
        try:
            async with database.transaction() as session:
                await session.execute(summed)
        except Exception as error:  # figures are worth no worker
            log.warning("figures of jobs could not be written", extra={"error": str(error)})

    async def write_for_ever(self, database: Database) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.write(database)


async def note_failure(database: Database, job_id: int, task: str, error: BaseException) -> None:
    """Keep why a run failed. Where the database is away, the log alone has it."""
    words = f"{type(error).__name__}: {mask(' '.join(str(error).split()))}"[:LONGEST_ERROR]
    values = {"at": func.now(), "error": words.replace("\x00", "")}
    try:
        async with database.transaction() as session:
            await session.execute(
                insert(JobFailure)
                .values(job_id=job_id, task=task, **values)
                .on_conflict_do_update(index_elements=["job_id"], set_=values)
            )
    except Exception as trouble:  # the job's own error is the one to go on with
        log.warning("a failure could not be noted", extra={"job_id": job_id, "error": str(trouble)})
