"""Leaving to customers what had ended: goodwill."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Conflict
from paletta_server.core.notify import announce
from paletta_server.core.runtime import Runtime
from paletta_server.delivery import log
from paletta_server.earnings import service as earnings
from paletta_server.orders import service as orders
from paletta_server.payments.operators import account, item_keys
from paletta_server.payments.refunds import not_disputed, nothing_extends, paying
from paletta_server.payments.schemas import AccountView, RestoreIn
from paletta_server.payments.settling import set_rights


async def restore(runtime: Runtime, user: Principal, text: str, wanted: RestoreIn) -> AccountView:
    """Leave items to their customer although their money went back: goodwill, until the money comes or a dispute is
    lost later. Items whose right never ended stay as they are.

    Raises `NotFound`, `Conflict`: `not_paid`, `nothing_to_restore`, `extended` where a paid upgrade counts on the
    money that is gone, `base_ended` where the item is such an upgrade, and `disputed` while a bank decides.
    """
    async with runtime.db.transaction() as session:
        order = await orders.lock(session, (await orders.find_any(session, text)).id)
        keys = set((await item_keys(session, order, wanted.items)).values()) if wanted.items else None
        books = await paying(session, order)
        not_disputed(books)
        rights = await log.rights(session, order.id)
        ended = {
            key
            for key, right in rights.items()
            if right.own_status == "revoked" and (keys is None or key in keys)
        }
        if not ended:
            raise Conflict(
                f"nothing of order {order.number} that you name has ended", code="nothing_to_restore"
            )
        await nothing_extends(session, ended)
        await _bases_stand(session, ended)
        await orders.set_goodwill(session, order.id, dict.fromkeys(ended, books.now))
        await set_rights(books)
        await earnings.post(session, order)
        uids = [item.uid for item in books.items if item.id in ended]
        details = {"items": uids, "reason": wanted.reason}
        await record(session, user, "order:restored", order.uid, details=details)
        await announce(session, orders.topic(order))
        return await account(session, order)


async def _bases_stand(session: AsyncSession, item_ids: Collection[int]) -> None:
    bases = {item.upgrade_of for item in (await orders.items_of(session, item_ids)).values()} - {None}
    for base in (await orders.items_of(session, {key for key in bases if key is not None})).values():
        right = (await log.rights(session, base.order_id)).get(base.id)
        if right is None or right.status == "revoked":
            order = (await orders.by_key(session, [base.order_id]))[base.order_id]
            raise Conflict(
                f"it extends what order {order.number} gave, and that has ended",
                code="base_ended",
                hint=f"restore order {order.number} first",
            )
