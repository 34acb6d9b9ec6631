"""What a clip would cost a person now: the price book, the contributor's own price, what they own already."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.clips import sale
from paletta_server.clips.sale import ForSale
from paletta_server.delivery import service as delivery
from paletta_server.delivery.service import Owned
from paletta_server.orders import service as orders
from paletta_server.orders.models import LICENCES, TIERS, Order
from paletta_server.orders.price_book import PriceBook
from paletta_server.orders.schemas import CartProblem
from paletta_server.payments.under_way import being_refunded


@dataclass(frozen=True, slots=True)
class Choice:
    """A clip at a tier and licence."""

    clip_id: int
    tier: str
    licence: str


@dataclass(frozen=True, slots=True)
class Quote:
    """The answer for one choice. `price` is None where it is not for sale; `problem` says why, in a code and
    words."""

    clip: ForSale
    choice: Choice
    price: int | None = None
    credit: int = 0
    upgrade_of: int | None = None
    problem: CartProblem | None = None
    words: str | None = None

    @property
    def due(self) -> int | None:
        return None if self.price is None else self.price - self.credit


async def quote(
    session: AsyncSession, user_id: int, book: PriceBook, choices: Collection[Choice], *, lock: bool = False
) -> list[Quote]:
    """What each choice costs this person now. With `lock` the clips, and what they own of them, stay as they are
    until the transaction ends: an upgrade is not sold for the difference while its base is being given back."""
    ids = {choice.clip_id for choice in choices}
    if lock:
        for order_id in sorted(await delivery.orders_with(session, user_id, ids)):
            await orders.lock(session, order_id)
    clips = await sale.for_sale(session, ids, lock=lock)
    owned = await _owned(session, user_id, ids)
    waiting = await orders.waiting(session, user_id, ids)
    return [
        _quote(
            clips[choice.clip_id],
            choice,
            book,
            user_id,
            owned.get(choice.clip_id, ()),
            waiting.get(choice.clip_id),
        )
        for choice in choices
    ]


async def _owned(session: AsyncSession, user_id: int, clip_ids: Collection[int]) -> dict[int, list[Owned]]:
    """What they own; what is being given back does not count towards anything better."""
    found = await delivery.owned(session, user_id, clip_ids)
    leaving = await being_refunded(session, {have.item_id for mine in found.values() for have in mine})
    return {
        clip_id: [replace(have, extendable=False) if have.item_id in leaving else have for have in mine]
        for clip_id, mine in found.items()
    }


def _quote(
    clip: ForSale,
    choice: Choice,
    book: PriceBook,
    user_id: int,
    owned: Collection[Owned],
    waiting: Order | None,
) -> Quote:
    def no(problem: CartProblem, words: str) -> Quote:
        return Quote(clip, choice, problem=problem, words=words)

    if not clip.listed:
        return no("withdrawn", "is no longer for sale")
    if clip.owner_id == user_id:
        return no("own_clip", "is a clip of your own")
    if choice.tier not in clip.tiers:
        return no("tier_gone", f"has no tier `{choice.tier}`; there is " + ", ".join(clip.tiers))
    price = book.price(choice.tier, choice.licence, own=clip.price, editorial=clip.editorial)
    if price is None:
        what = "an editorial clip" if clip.editorial else f"tier `{choice.tier}`"
        return no("not_sold_so", f"is {what} and not sold under licence `{choice.licence}`")
    if any(_covers(have, choice) for have in owned):
        return no("owned", f"is yours already: `paletta orders download --clip {clip.uid}`")
    if waiting is not None:
        return no(
            "waiting_for_payment", f"waits in order {waiting.number}: `paletta orders pay {waiting.number}`"
        )
    best = max(
        (have for have in owned if _extends(choice, have, book)),
        key=lambda have: have.paid_minor,
        default=None,
    )
    credit = min(price, best.paid_minor) if best else 0
    return Quote(clip, choice, price, credit, best.item_id if best and credit else None)


def _covers(have: Owned, choice: Choice) -> bool:
    """Whether what somebody has includes what they choose."""
    return _rank(have) >= _rank(choice) and _level(have) >= _level(choice)


def _extends(choice: Choice, have: Owned, book: PriceBook) -> bool:
    """Whether the choice includes what they have, so that they pay the difference only."""
    counts = have.extendable and have.currency == book.currency
    return counts and _rank(choice) >= _rank(have) and _level(choice) >= _level(have)


def _rank(what: Owned | Choice) -> int:
    return TIERS.index(what.tier)


def _level(what: Owned | Choice) -> int:
    return LICENCES.index(what.licence)


def prices_of(clip: ForSale, book: PriceBook) -> Mapping[str, Mapping[str, int]]:
    """What a clip costs a stranger, by tier and licence, as far as it is sold."""
    table = {
        tier: {
            licence: price
            for licence in book.licences
            if (price := book.price(tier, licence, own=clip.price, editorial=clip.editorial)) is not None
        }
        for tier in clip.tiers
    }
    return {tier: row for tier, row in table.items() if row}
