"""Orders as a checkout leaves them, written straight into the tables, with files in the store."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.models import User
from paletta_server.clips.models import Clip
from paletta_server.core.ids import new_uid
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import service as delivery
from paletta_server.delivery.models import Entitlement
from paletta_server.orders import service as orders
from paletta_server.orders.models import TIERS, Order, OrderItem, OrderItemFile, PriceBook

LICENCE_TERMS = "One person may use the clip in any number of their own productions, worldwide and for ever."
PRICES = {
    "currency": "USD", "tax_name": None, "tax_rate": "0", "prices": {}, "editorial": [], "contributor_bounds": None,
    "licences": {
        name: {"name": name.capitalize(), "seats": None, "terms": LICENCE_TERMS}
        for name in ("individual", "business", "premium")
    },
}  # fmt: skip


@dataclass
class Wanted:
    """An item to order. `files` are the bytes of each tier; those of tiers above `tier` are left out.

    `price` and `credit` in cents; `upgrade_of` is the key of another item.
    """

    title: str = "Yellow tram climbs a steep street"
    tier: str = "original"
    licence: str = "individual"
    price: int = 4900
    credit: int = 0
    tax: int = 0
    upgrade_of: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    extension: str = ".mov"
    clip_id: int | None = None


@dataclass(frozen=True)
class Sold:
    """What was ordered. `data` has the bytes by item and tier."""

    order: Order
    items: list[OrderItem]
    data: dict[tuple[str, str], bytes]

    @property
    def uid(self) -> str:
        return self.order.uid


@dataclass
class Till:
    """Sells to one customer, for one contributor."""

    runtime: Runtime
    customer: int
    contributor: int

    @classmethod
    async def of(cls, runtime: Runtime, customer: str, contributor: str) -> Till:
        """By e-mail addresses."""
        async with runtime.db.transaction() as session:
            found = await session.execute(
                select(User.email, User.id).where(User.email.in_([customer, contributor]))
            )
            rows: dict[str, int] = dict(found.all())  # type: ignore[arg-type]
        return cls(runtime, rows[customer], rows[contributor])

    async def sell(self, *wanted: Wanted, paid: bool = True, store: bool = True, **more: Any) -> Sold:
        """An order of these items; `paid` grants it, `store` puts the files' bytes into the store.

        Other arguments are the order's own columns.
        """
        wanted = wanted or (Wanted(files={"hd": b"an hd file", "original": b"the original file"}),)
        tax = sum(one.tax for one in wanted)
        subtotal = sum(one.price - one.credit for one in wanted)
        data: dict[tuple[str, str], bytes] = {}
        async with self.runtime.db.transaction() as session:
            book = await session.scalar(select(PriceBook.id).limit(1))
            if book is None:
                made = PriceBook(document=PRICES, digest=secrets.token_hex(8))
                session.add(made)
                await session.flush()
                book = made.id
            number = await session.scalar(text("SELECT nextval('order_numbers')"))
            values: dict[str, Any] = {
                "uid": new_uid("order"), "number": f"P-2026-{number:06d}", "user_id": self.customer,
                "gateway": "sandbox", "licensee": "Ada Lovelace Films", "currency": "USD", "subtotal": subtotal,
                "tax": tax, "total": subtotal + tax, "expires_at": func.now() + text("interval '1 hour'"),
                "price_book_id": book,
            }  # fmt: skip
            order = Order(**(values | more))
            session.add(order)
            await session.flush()
            items = []
            for one in wanted:
                items.append(item := await self._item(session, order, one))
                for tier, content in one.files.items():
                    if TIERS.index(tier) <= TIERS.index(one.tier):
                        data[item.uid, tier] = content
            if paid:
                assert await orders.mark_paid(session, order.id)
                await delivery.grant(session, order, items)
            await session.refresh(order)
        if store:
            await self.store(items, data)
        return Sold(order, items, data)

    async def _item(self, session: Any, order: Order, one: Wanted) -> OrderItem:
        clip_id = one.clip_id or await self.clip(session, one.title)
        clip = await session.get_one(Clip, clip_id)
        item = OrderItem(
            uid=new_uid("item"), order_id=order.id, clip_id=clip.id, clip_uid=clip.uid, title=one.title,
            contributor_id=self.contributor, contributor="Carla Contributor", tier=one.tier, licence=one.licence,
            price=one.price, credit=one.credit, amount=one.price - one.credit, tax=one.tax,
            upgrade_of=one.upgrade_of,
        )  # fmt: skip
        session.add(item)
        await session.flush()
        for tier, content in one.files.items():
            if TIERS.index(tier) <= TIERS.index(one.tier):
                session.add(
                    OrderItemFile(
                        order_item_id=item.id, tier=tier, key=f"sale/{item.uid}/{tier}", size=len(content),
                        sha256=hashlib.sha256(content).hexdigest(), content_type="video/quicktime",
                        extension=one.extension, width=1920, height=1080, codec="h264",
                    )
                )  # fmt: skip
        await session.flush()
        return item

    async def clip(self, session: Any, title: str) -> int:
        """A listed clip of the contributor."""
        uid = new_uid("clip")
        clip = Clip(
            uid=uid, owner_id=self.contributor, title=title, file_name="clip.mov", size=1,
            sha256=secrets.token_hex(32), crc64nvme="AAAAAAAAAAA=", original_key=f"original/{uid}",
            processing="ready", review="approved", technical={}, duration=8, width=1920, height=1080, fps=24,
            codec="h264", poster_number=1, listed_at=func.now(),
        )  # fmt: skip
        session.add(clip)
        await session.flush()
        return clip.id

    async def store(self, items: list[OrderItem], data: dict[tuple[str, str], bytes]) -> None:
        """Put files into the store."""
        with TemporaryDirectory() as folder:
            source = Path(folder) / "object"
            for (item_uid, tier), content in data.items():
                source.write_bytes(content)
                await self.runtime.store.upload(
                    source, f"sale/{item_uid}/{tier}", content_type="video/quicktime", cache_seconds=60
                )


async def revoke(session: AsyncSession, item_ids: Sequence[int]) -> None:
    """These items, of one order, were given back."""
    order_id = await session.scalar(select(OrderItem.order_id).where(OrderItem.id.in_(item_ids)))
    assert order_id is not None
    await delivery.set_rights(session, order_id, dict.fromkeys(item_ids, "revoked"))


async def suspend(session: AsyncSession, order_id: int) -> None:
    """The payment of an order is disputed."""
    await _change(session, order_id, "granted", "suspended")


async def restore(session: AsyncSession, order_id: int) -> None:
    """The dispute was won."""
    await _change(session, order_id, "suspended", "granted")


async def _change(session: AsyncSession, order_id: int, before: str, after: str) -> None:
    items = await session.scalars(
        select(Entitlement.order_item_id).where(
            Entitlement.order_id == order_id, Entitlement.own_status == before
        )
    )
    await delivery.set_rights(session, order_id, dict.fromkeys(items, after))
