"""Search and the shop window over HTTP. All of it is public: strangers see listed clips only."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from paletta_server.accounts.dependencies import ClientIp
from paletta_server.accounts.security import OptionalUser
from paletta_server.analytics.collector import NoteDep
from paletta_server.clips import views as clip_views
from paletta_server.clips.service import is_listed
from paletta_server.core import money
from paletta_server.core.errors import Conflict, Invalid, NotFound, Unavailable, problems
from paletta_server.core.runtime import RuntimeDep
from paletta_server.search import cursors, offers, parsing, service
from paletta_server.search.index import Query as Question
from paletta_server.search.index import Range, Sort
from paletta_server.search.schemas import ClipPage, SearchPage, Suggestions
from paletta_server.search.service import SearchDep
from paletta_server.search.views import viewer_of

router = APIRouter(
    prefix="/v1", tags=["search"], responses=problems(NotFound, Conflict, Invalid, Unavailable)
)

Text = Annotated[str, Query(max_length=200)]
Name = Annotated[str, Query(min_length=1, max_length=200)]
Names = Annotated[list[Name], Query(max_length=20)]
Seconds = Annotated[float | None, Query(ge=0, le=1_000_000, allow_inf_nan=False)]
Frames = Annotated[float | None, Query(ge=0, le=1_000, allow_inf_nan=False)]
Amount = Annotated[Decimal | None, Query(ge=0, le=1_000_000, max_digits=12, allow_inf_nan=False)]


async def _question(
    q: Text = "",
    category: Names = [],  # noqa: B006 (FastAPI copies defaults)
    tag: Names = [],  # noqa: B006
    any_tag: Names = [],  # noqa: B006
    tier: Annotated[list[Literal["hd", "uhd4k", "original"]], Query()] = [],  # noqa: B006
    licence: Annotated[list[Literal["individual", "business", "premium"]], Query()] = [],  # noqa: B006
    min_res: Annotated[str | None, Query(max_length=20)] = None,
    max_res: Annotated[str | None, Query(max_length=20)] = None,
    orientation: Annotated[list[Literal["landscape", "portrait", "square"]], Query()] = [],  # noqa: B006
    min_fps: Frames = None,
    max_fps: Frames = None,
    min_duration: Seconds = None,
    max_duration: Seconds = None,
    editorial: bool | None = None,
    people: Annotated[list[Literal["0", "1", "2", "3", "group", "crowd"]], Query()] = [],  # noqa: B006
    shot_size: Names = [],  # noqa: B006
    shot_angle: Names = [],  # noqa: B006
    shot_move: Names = [],  # noqa: B006
    shot_speed: Names = [],  # noqa: B006
    location: Names = [],  # noqa: B006
    country: Names = [],  # noqa: B006
    city: Names = [],  # noqa: B006
    contributor: Names = [],  # noqa: B006
    since: date | None = None,
    until: date | None = None,
    filmed_since: date | None = None,
    filmed_until: date | None = None,
    sort: Sort = "relevance",
) -> Question:
    """Everything but the price, whose currency is only known to the database."""
    words, phrases, without = parsing.text(q)
    return Question(
        words=words,
        phrases=phrases,
        without=without,
        categories=tuple(slug.casefold() for slug in category),
        tags=parsing.folded(tag),
        any_tags=parsing.folded(any_tag),
        tiers=tuple(tier),
        licences=tuple(licence),
        long_edge=parsing.long_edge(min_res, max_res),
        orientation=tuple(orientation),
        fps=Range(*(None if value is None else round(value) for value in (min_fps, max_fps))),
        duration=parsing.seconds(min_duration, max_duration),
        editorial=editorial,
        people=tuple(people),
        shot_size=tuple(shot_size),
        shot_angle=tuple(shot_angle),
        shot_move=tuple(shot_move),
        shot_speed=tuple(shot_speed),
        places=parsing.folded(location),
        countries=parsing.folded(country),
        cities=parsing.folded(city),
        contributors=parsing.folded(contributor),
        listed=parsing.listed(since, until),
        filmed=parsing.filmed(filmed_since, filmed_until),
        sort=sort,
    )


@router.get("/clips")
async def search(
    runtime: RuntimeDep,
    index: SearchDep,
    question: Annotated[Question, Depends(_question)],
    note: NoteDep,
    q: Text = "",
    min_price: Amount = None,
    max_price: Amount = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
    cursor: Annotated[str | None, Query(max_length=cursors.LONGEST)] = None,
    facets: bool = False,
) -> SearchPage:
    """Find clips.

    `q` takes words, "phrases" and -exclusions. Several values of one filter are alternatives (but `tag`: all must
    be there). `min_price` and `max_price` are in the price book's currency; `facets` counts the values among what
    was found. A change shows within two seconds.
    """
    # Two transactions: whoever waits for the index holds no connection, which others need.
    async with runtime.db.transaction() as session:
        if min_price is not None or max_price is not None:
            asked = await offers.in_force(session)
            digits = money.decimals(asked.book.currency) if asked.book else 2
            question = question.priced(parsing.money(min_price, max_price, digits))
        question = await service.with_present_names(session, question)
    found = await index.find(question, limit=limit, cursor=cursor, facets=facets)
    if cursor is None:
        note("search", query=q, hits=0 if found.instead else found.total.value)
    async with runtime.db.transaction() as session:
        return await service.page(session, runtime.store, question, found)


@router.get("/clips/suggest")
async def suggest(
    index: SearchDep,
    q: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=20)] = 8,
) -> Suggestions:
    """What somebody who typed `q` so far may be looking for: tags, categories, places, contributors, words."""
    return Suggestions(items=await index.suggest(q, limit=limit))


@router.get("/clips/{clip}")
async def show(
    user: OptionalUser,
    ip: ClientIp,
    runtime: RuntimeDep,
    index: SearchDep,
    note: NoteDep,
    clip: str,
    response: Response,
) -> ClipPage:
    """A listed clip, or one of the caller's own: what it is, what it costs, and clips like it."""
    async with runtime.db.transaction() as session:
        found = await clip_views.find(session, user, clip)
    response.headers["ETag"] = f'"{found.version}"'
    related = []
    if is_listed(found):  # between transactions, as above
        related = await index.related(found.id)
        if user is None or user.user_id != found.owner_id:
            index.views.note(found.id, viewer_of(user.user_id if user else None, ip))
            note("view", clip_id=found.id)
    async with runtime.db.transaction() as session:
        return await service.clip_page(session, runtime.store, user, found, related)
