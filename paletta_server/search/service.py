"""Finding clips, and the shop window: the index says which, the database says what may be shown of them now."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.accounts.permissions import Permission
from paletta_server.accounts.security import Principal
from paletta_server.clips import searchable
from paletta_server.clips import views as clip_views
from paletta_server.clips.models import Clip
from paletta_server.clips.sale import for_sale
from paletta_server.core import money
from paletta_server.core.errors import Invalid, NotFound, Unavailable
from paletta_server.core.metrics import SEARCH_LAG
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectStore
from paletta_server.search import offers, views
from paletta_server.search.document import fold
from paletta_server.search.follower import Follower
from paletta_server.search.index import BadCursor, Found, Index, Query
from paletta_server.search.offers import Offers
from paletta_server.search.schemas import ClipCard, ClipPage, FacetValue, FromPrice, SaleTier, SearchPage
from paletta_server.search.views import ViewCounter
from paletta_server.taxonomy import service as taxonomy

if TYPE_CHECKING:
    from paletta_server.search.shared_follower import SharedFollower

RELATED = 6


class Search:
    """What an API process has of search: its part of the index, and the views that it counts."""

    def __init__(self, runtime: Runtime) -> None:
        self.follower = _follower(runtime)
        self.views = ViewCounter(runtime.db)

    @classmethod
    @asynccontextmanager
    async def open(cls, runtime: Runtime) -> AsyncIterator["Search"]:
        made = cls(runtime)
        SEARCH_LAG.set_function(lambda: time.monotonic() - made.follower.even_at)
        tasks = [asyncio.create_task(made.follower.run()), asyncio.create_task(made.views.run())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await made.follower.close()

    async def find(self, query: Query, *, limit: int, cursor: str | None, facets: bool) -> Found:
        """A page of clips' keys. Raises `Invalid` (`bad_cursor`)."""

        def question(index: Index) -> Found:
            return index.search(query, limit=limit, cursor=cursor, facets=facets)

        try:
            return await self.follower.ask(question)
        except BadCursor as error:
            raise Invalid(str(error), code="bad_cursor", hint="begin with the first page") from error

    async def suggest(self, text: str, *, limit: int) -> list[str]:
        return await self.follower.ask(lambda index: index.suggest(fold(text), limit=limit))

    async def related(self, clip_id: int, *, limit: int = RELATED) -> list[int]:
        """The nearest clips; none where there is no index, since a clip's page does without."""
        if not self.follower.ready:
            return []
        try:
            return await self.follower.ask(lambda index: index.related(clip_id, limit=limit))
        except Unavailable:
            return []


def _follower(runtime: Runtime) -> "Follower | SharedFollower":
    if runtime.settings.search_backend == "opensearch":
        from paletta_server.search import shared_follower

        return shared_follower.SharedFollower(runtime)
    return Follower(runtime)


async def _search(request: Request) -> Search:
    found: Search = request.app.state.search
    return found


SearchDep = Annotated[Search, Depends(_search)]


async def with_present_names(session: AsyncSession, query: Query) -> Query:
    """The query with former slugs and tags as what they are called now. Asks nothing where it names none."""
    if not (query.categories or query.tags or query.any_tags):
        return query
    return replace(
        query,
        categories=await taxonomy.current_names(session, "category", query.categories),
        tags=await taxonomy.current_names(session, "tag", query.tags),
        any_tags=await taxonomy.current_names(session, "tag", query.any_tags),
    )


async def cards(session: AsyncSession, store: ObjectStore, clip_ids: Sequence[int]) -> list[ClipCard]:
    """Clips as lists show them, in the order given; those that are not listed now are left out."""
    found = await searchable.cards(session, store, clip_ids)
    if not found:
        return []
    asked = await offers.in_force(session)
    return [
        ClipCard(
            id=card.uid,
            title=card.title,
            duration=card.duration,
            width=card.width,
            height=card.height,
            fps=card.fps,
            category=card.category,
            contributor=card.contributor,
            editorial=card.editorial,
            tiers=list(card.tiers),
            price=_from(asked, card),
            listed_at=card.listed_at,
            poster_url=card.poster_url,
        )
        for card in found
    ]


def _from(asked: Offers, card: searchable.Card) -> FromPrice | None:
    offer = asked.of(card.tiers, own=card.price, editorial=card.editorial)
    if offer.least is None or offer.currency is None:
        return None  # before there is a price book nothing is for sale
    return FromPrice(amount=money.text(offer.least, offer.currency), currency=offer.currency)


async def page(session: AsyncSession, store: ObjectStore, query: Query, found: Found) -> SearchPage:
    """A page as the API answers it."""
    facets = None
    if found.facets is not None:
        facets = {
            name: [FacetValue(value=value, clips=clips) for value, clips in values]
            for name, values in found.facets.values.items()
        }
    sort = query.sort if query.sort != "relevance" or query.text else "newest"
    return SearchPage(
        items=await cards(session, store, found.clip_ids),
        next_cursor=found.next_cursor,
        total=found.total.value,
        total_relation="exact" if found.total.exact else "about",
        sort=sort,
        showing=" ".join(found.instead) if found.instead else None,
        facets=facets,
        facets_relation=None if found.facets is None else "exact" if found.facets.exact else "about",
    )


async def clip_page(
    session: AsyncSession, store: ObjectStore, user: Principal | None, clip: Clip, related: Sequence[int]
) -> ClipPage:
    """A clip in full: what it is, what it costs, and what is like it."""
    insider = user is not None and (user.user_id == clip.owner_id or user.may(Permission.MODERATE))
    detail = await clip_views.detail(session, store, user, clip)
    asked = await offers.in_force(session)
    names = await accounts.public_names(session, {clip.owner_id})
    sold = (await for_sale(session, [clip.id])).get(clip.id)
    if sold is None:  # gone, since it was found
        raise NotFound("clip", clip.uid)
    tiers = [
        SaleTier(
            **tier.model_dump(),
            prices=asked.prices(tier.tier, own=sold.price, editorial=sold.editorial) if sold.listed else {},
        )
        for tier in detail.renditions
    ]
    return ClipPage(
        **detail.model_dump(),
        contributor=names.get(clip.owner_id),
        currency=asked.book.currency if asked.book is not None else None,
        tiers=tiers,
        views=await views.total(session, clip.id) if insider else None,
        related=await cards(session, store, related),
    )
