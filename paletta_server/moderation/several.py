"""One decision on several clips in one transaction: each succeeds or fails by itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import review
from paletta_server.clips.models import Clip
from paletta_server.core.errors import Conflict, NotFound, PalettaError
from paletta_server.moderation.schemas import Undecided


@dataclass
class Outcome:
    """Clips that were decided on, in the order in which they were named, and the others."""

    clips: list[Clip] = field(default_factory=list)
    failed: list[Undecided] = field(default_factory=list)


async def decide_each(
    session: AsyncSession,
    texts: Sequence[str],
    find: Callable[[AsyncSession, str], Awaitable[Clip]],
    action: Callable[[str, Clip], None],
    *,
    hold: bool = False,
) -> Outcome:
    """Find the clips, lock them all in the one order (`hold`), and let `action` decide on each, as it was named, or
    raise.

    Raises what is wrong where only one is named.
    """
    outcome = Outcome()
    found: dict[int, tuple[str, Clip]] = {}

    def refuse(text: str, error: PalettaError) -> None:
        if len(texts) == 1:
            raise error
        outcome.failed.append(Undecided(clip=text, problem=error.problem()))

    for text in texts:
        try:
            clip = await find(session, text)
        except (NotFound, Conflict) as error:
            refuse(text, error)
        else:
            found.setdefault(clip.id, (text, clip))  # named twice, decided once
    if hold:
        await review.hold(session, found)
    for text, clip in found.values():
        try:
            action(text, clip)
        except (NotFound, Conflict) as error:
            refuse(text, error)
        else:
            outcome.clips.append(clip)
    outcome.failed.sort(key=lambda undecided: texts.index(undecided.clip))
    if hold:
        await session.flush()
    return outcome
