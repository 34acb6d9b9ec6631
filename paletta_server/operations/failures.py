"""Telling the operators about dead jobs: of the first of a kind at once, of all of them once a day."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import queue
from paletta_server.core.mail import send_mail
from paletta_server.core.queue import Dead
from paletta_server.core.settings import Settings

MAIL_LINES = 100
HELP = [
    "",
    "paletta-server jobs list --status failed",
    "paletta-server jobs retry ID      (once the cause is mended)",
    "paletta-server jobs cancel ID     (to hear no more of it)",
]


async def tell_first(session: AsyncSession, settings: Settings) -> int:
    """Mail about kinds of failure of which no other dead job was told before; how many mails."""
    if not settings.operator_emails:
        return 0
    kinds: dict[tuple[str, str], list[Dead]] = defaultdict(list)
    for one in await queue.dead(session):
        kinds[one.kind].append(one)
    new = [jobs for jobs in kinds.values() if not any(one.told for one in jobs)]
    for jobs in new:
        first = jobs[0]
        words = f"{first.task} failed"
        await _mail(
            session,
            settings,
            f"A job failed: {first.task}",
            words,
            jobs,
            f"job-failed:{first.id}:{first.at.isoformat()}",
        )
        await queue.mark_told(session, [one.id for one in jobs])
    return len(new)


async def report(session: AsyncSession, settings: Settings) -> int:
    """The day's mail about everything that is dead; how many jobs that are."""
    jobs = await queue.dead(session)
    if not jobs or not settings.operator_emails:
        return len(jobs)
    day = await session.scalar(select(func.to_char(func.now(), "YYYY-MM-DD")))
    many = "1 job failed" if len(jobs) == 1 else f"{len(jobs):,} jobs failed"
    words = f"{many} and will not be tried again by itself"
    await _mail(session, settings, many, words, jobs, f"jobs-report:{day}")
    await queue.mark_told(session, [one.id for one in jobs])
    return len(jobs)


async def _mail(
    session: AsyncSession, settings: Settings, subject: str, words: str, jobs: Sequence[Dead], key: str
) -> None:
    lines = [f"{words}:", ""]
    lines += [
        f"  {one.id}  {one.at:%Y-%m-%d %H:%M} UTC  {one.task}  {one.error or ''}" for one in jobs[:MAIL_LINES]
    ]
    if len(jobs) > MAIL_LINES:
        lines.append(f"  and {len(jobs) - MAIL_LINES:,} more")
    for address in settings.operator_emails:
        await send_mail(
            session,
            to=address,
            subject=f"{subject} ({settings.public_url})",
            text="\n".join([*lines, *HELP]),
            dedup_key=f"{key}:{address}",
        )
