"""The cart: one per person, whatever the device, and no clip in it twice.

An item remembers the price at which it was put in. Where a clip was withdrawn or priced anew since, the cart says
so, and nothing is charged before the customer has accepted it.
"""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.clips import sale
from paletta_server.clips import views as clips
from paletta_server.core import money
from paletta_server.core.errors import Conflict, Invalid, NotFound
from paletta_server.orders import prices
from paletta_server.orders.models import Cart, CartItem
from paletta_server.orders.price_book import PriceBook
from paletta_server.orders.quotes import Choice, Quote, quote
from paletta_server.orders.schemas import CartEntry, CartView, CartWish

MOST_ITEMS = 500


async def lock(session: AsyncSession, user_id: int) -> Cart:
    """The person's cart, made if need be, locked until this transaction ends."""
    await session.execute(insert(Cart).values(user_id=user_id).on_conflict_do_nothing())
    return (
        await session.scalars(
            select(Cart)
            .where(Cart.user_id == user_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    ).one()


async def contents(session: AsyncSession, user_id: int) -> list[CartItem]:
    """What is in the cart, in the order in which it was put in."""
    return list(
        await session.scalars(select(CartItem).where(CartItem.user_id == user_id).order_by(CartItem.id))
    )


async def quoted(
    session: AsyncSession, user_id: int, book: PriceBook, items: Sequence[CartItem], *, lock: bool = False
) -> list[Quote]:
    """What the cart's items cost now, in their order."""
    choices = [Choice(item.clip_id, item.tier, item.licence) for item in items]
    return await quote(session, user_id, book, choices, lock=lock)


def entry(item: CartItem, now: Quote, book: PriceBook) -> CartEntry:
    """An item beside what it would cost now."""
    problem, words = now.problem, now.words
    if now.price is not None and (now.price, now.credit, book.currency) != (
        item.amount,
        item.credit,
        item.currency,
    ):
        problem = "price_changed"
        words = (
            f"was {money.text(item.amount - item.credit, item.currency)} {item.currency}, "
            f"is {money.text(now.price - now.credit, book.currency)} {book.currency} now"
        )
    return CartEntry(
        clip_id=now.clip.uid,
        title=now.clip.title,
        tier=item.tier,
        licence=item.licence,
        amount=item.amount,
        price=now.price,
        credit=now.credit,
        due=now.due,
        problem=problem,
        problem_text=words,
    )


async def view(session: AsyncSession, user: Principal) -> CartView:
    """The cart with the prices of now."""
    book = (await prices.in_force(session)).book
    version = await session.scalar(select(Cart.version).where(Cart.user_id == user.user_id))
    items = await contents(session, user.user_id)
    quotes = await quoted(session, user.user_id, book, items)
    entries = [entry(item, now, book) for item, now in zip(items, quotes, strict=True)]
    subtotal = sum(one.due or 0 for one in entries)
    tax = book.tax(subtotal)
    return CartView(
        items=entries,
        currency=book.currency,
        subtotal=subtotal,
        tax_name=book.tax_name,
        tax_rate=book.tax_rate,
        tax=tax,
        total=subtotal + tax,
        acceptable=bool(entries) and all(one.problem is None for one in entries),
        version=version or 0,
    )


async def add(session: AsyncSession, user: Principal, wishes: Sequence[CartWish]) -> CartView:
    """Put clips into the cart; one that is there already changes what is given of tier and licence. All or nothing.

    Raises `NotFound` for clips that the caller cannot see, `Invalid` (`not_for_sale`) with every reason.
    """
    book = (await prices.in_force(session)).book
    await lock(session, user.user_id)
    choices = await _choices(session, user, wishes)
    quotes = await quote(session, user.user_id, book, choices)
    _refuse([one for one in quotes if one.price is None])
    for one in quotes:
        values = {
            "tier": one.choice.tier,
            "licence": one.choice.licence,
            "amount": one.price,
            "credit": one.credit,
            "currency": book.currency,
        }
        await session.execute(
            insert(CartItem)
            .values(user_id=user.user_id, clip_id=one.choice.clip_id, **values)
            .on_conflict_do_update(index_elements=["user_id", "clip_id"], set_=values)
        )
    if len(await contents(session, user.user_id)) > MOST_ITEMS:
        raise Conflict(f"a cart holds {MOST_ITEMS} clips", code="cart_full", hint="check out first")
    await _touch(session, user.user_id)
    return await view(session, user)


async def _choices(session: AsyncSession, user: Principal, wishes: Sequence[CartWish]) -> list[Choice]:
    found: dict[int, CartWish] = {}
    for wish in wishes:
        found[(await clips.find(session, user, wish.clip_id)).id] = wish
    known = await sale.for_sale(session, found)
    there = {item.clip_id: item for item in await contents(session, user.user_id)}
    chosen = []
    for clip_id, wish in found.items():
        tiers, item = known[clip_id].tiers, there.get(clip_id)
        tier = item.tier if item and item.tier in tiers else next(reversed(tiers), "original")
        licence = item.licence if item else "individual"
        chosen.append(Choice(clip_id, wish.tier or tier, wish.licence or licence))
    return chosen


def _refuse(bad: Sequence[Quote]) -> None:
    if bad:
        raise Invalid(
            "; ".join(f"`{one.clip.uid}` {one.words}" for one in bad),
            code=bad[0].problem if len(bad) == 1 and bad[0].problem else "not_for_sale",
            problems=[{"clip_id": one.clip.uid, "code": one.problem, "message": one.words} for one in bad],
        )


async def remove(session: AsyncSession, user: Principal, text: str) -> CartView:
    """Take a clip out; its id may be abbreviated. Raises `NotFound` when it is not in the cart."""
    await lock(session, user.user_id)
    items = await contents(session, user.user_id)
    known = await sale.for_sale(session, {item.clip_id for item in items})
    wanted = text if text.startswith("clip_") else f"clip_{text}"
    fitting = [item for item in items if known[item.clip_id].uid.startswith(wanted)]
    if len(fitting) > 1:
        raise Conflict(
            f"`{text[:40]}` fits more than one clip in the cart",
            code="ambiguous_id",
            hint="add a letter or two: " + ", ".join(known[item.clip_id].uid for item in fitting),
        )
    if not fitting:
        raise NotFound("clip in the cart", text[:40])
    await session.delete(fitting[0])
    await session.flush()
    await _touch(session, user.user_id)
    return await view(session, user)


async def clear(session: AsyncSession, user: Principal) -> None:
    """Take everything out."""
    await lock(session, user.user_id)
    await empty(session, user.user_id)


async def empty(session: AsyncSession, user_id: int) -> None:
    """Take everything out of a cart that is locked."""
    await session.execute(delete(CartItem).where(CartItem.user_id == user_id))
    await _touch(session, user_id)


async def accept(session: AsyncSession, user: Principal, *, version: int) -> CartView:
    """Agree to what changed: new prices are taken, what is not for sale any more goes.

    `version` is that of the cart that the customer was shown; raises `Conflict` (`cart_changed`) for another.
    """
    book = (await prices.in_force(session)).book
    cart = await lock(session, user.user_id)
    if cart.version != version:
        raise Conflict(
            "the cart changed meanwhile", code="cart_changed", hint="look at it again: `paletta cart`"
        )
    items = await contents(session, user.user_id)
    for item, now in zip(items, await quoted(session, user.user_id, book, items), strict=True):
        if now.price is None:
            await session.delete(item)
        else:
            item.amount, item.credit, item.currency = now.price, now.credit, book.currency
    await session.flush()
    await _touch(session, user.user_id)
    return await view(session, user)


async def _touch(session: AsyncSession, user_id: int) -> None:
    await session.execute(
        update(Cart)
        .where(Cart.user_id == user_id)
        .values(version=Cart.version + 1, updated_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def put_back(session: AsyncSession, user_id: int, choices: Sequence[Choice]) -> None:
    """Return what was ordered and not paid to the cart, at the prices of now; what is not sold any more stays out."""
    found = await prices.find(session)
    if found is None:
        return
    await lock(session, user_id)
    for one in await quote(session, user_id, found.book, choices):
        if one.price is None:
            continue
        await session.execute(
            insert(CartItem)
            .values(
                user_id=user_id,
                clip_id=one.choice.clip_id,
                tier=one.choice.tier,
                licence=one.choice.licence,
                amount=one.price,
                credit=one.credit,
                currency=found.book.currency,
            )
            .on_conflict_do_nothing()
        )
    await _touch(session, user_id)
