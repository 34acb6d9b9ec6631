"""What somebody bought, and addresses to fetch it from."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts.security import Principal
from paletta_server.clips import service as clips
from paletta_server.core.errors import Forbidden, NotFound, PalettaError, Unavailable
from paletta_server.core.pagination import PageParams, newest_first
from paletta_server.core.runtime import Runtime
from paletta_server.core.storage import ObjectInfo
from paletta_server.delivery import names, restoring
from paletta_server.delivery.models import DownloadGrant, Entitlement
from paletta_server.delivery.schemas import Download, DownloadWish, Purchase, PurchaseFile
from paletta_server.orders import service as orders
from paletta_server.orders.models import Order, OrderItem, OrderItemFile

log = logging.getLogger(__name__)

MOST_CLIENT = 200
"""Characters of a User-Agent that are kept."""


@dataclass(frozen=True, slots=True)
class Bought:
    """An entitlement with what it is for. `withheld`: the shop took the clip down with what was sold of it."""

    entitlement: Entitlement
    order: Order
    item: OrderItem
    files: list[OrderItemFile]
    withheld: bool

    @property
    def status(self) -> str:
        """The entitlement's, or `withheld`; a right that has ended stays ended."""
        ended = self.entitlement.status == "revoked"
        return "withheld" if self.withheld and not ended else self.entitlement.status

    def file(self, tier: str | None) -> OrderItemFile:
        """The file of a tier (None: the best). Raises `NotFound`."""
        for file in reversed(self.files):
            if tier is None or file.tier == tier:
                return file
        raise NotFound("tier", f"{tier} of {self.item.uid}", hint="there is " + ", ".join(self.tiers))

    @property
    def tiers(self) -> list[str]:
        return [file.tier for file in self.files]

    def name(self, file: OrderItemFile) -> str:
        return names.file_name(self.item.clip_uid, self.item.title, file.extension)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who fetches, for the record: by which way, from where, with what program."""

    via: str
    ip: str | None
    client: str | None


class Suspended(Forbidden):
    """The files are held back while the payment is disputed."""

    code = "suspended"


class Revoked(Forbidden):
    """The files were the caller's once."""

    code = "revoked"


class Withheld(PalettaError):
    """The shop may not give the files out: the clip was taken down for a legal reason."""

    status, code, title = 451, "withheld", "Unavailable for legal reasons"


class FileMissing(Unavailable):
    """The store has no such object, or another than was sold: an operator has to look."""

    code = "file_missing"


# ---- reading


async def listed(
    session: AsyncSession, user: Principal, page: PageParams, *, order: str | None, clip: str | None
) -> tuple[list[Purchase], str | None]:
    """Everything that the caller bought, newest first, narrowed to an order (`NotFound` for a foreign one) or to
    clips whose id begins so."""
    where: list[ColumnElement[bool]] = [Entitlement.user_id == user.user_id]
    if order is not None:
        where.append(Entitlement.order_id == (await orders.find(session, user, order)).id)
    if clip is not None:
        prefix = clip if clip.startswith("clip_") else f"clip_{clip}"
        ids = await orders.bought_clips(session, user.user_id, prefix)
        where.append(Entitlement.clip_id.in_(ids))
    rows, cursor = await newest_first(session, select(Entitlement).where(*where), Entitlement.id, page)
    bought = await _complete(session, [row for (row,) in rows])
    counts = await _counts(session, [one.entitlement.id for one in bought])
    return [_view(one, counts.get(one.entitlement.id, 0)) for one in bought], cursor


async def of_order(session: AsyncSession, order_id: int) -> list[Bought]:
    """What an order entitles to, in its own sequence."""
    rows = await session.scalars(
        select(Entitlement).where(Entitlement.order_id == order_id).order_by(Entitlement.order_item_id)
    )
    return await _complete(session, list(rows))


async def by_certificate(session: AsyncSession, code: str) -> Bought:
    """The purchase that a certificate's code stands for, whoever made it. Raises `NotFound`."""
    plain = "".join(code.upper().split("-")).strip()
    written = "-".join(plain[start : start + 4] for start in range(0, len(plain), 4))
    row = await session.scalar(select(Entitlement).where(Entitlement.certificate == written))
    if row is None:
        raise NotFound("certificate", code[:40])
    return (await _complete(session, [row]))[0]


async def own(session: AsyncSession, user: Principal, item_ids: Sequence[str]) -> dict[str, Bought]:
    """The caller's purchases by item id, as it was written. Raises `NotFound` if one is not theirs."""
    found = {}
    items = await orders.own_items(session, user.user_id, item_ids)
    rows = await session.scalars(
        select(Entitlement).where(
            Entitlement.user_id == user.user_id,
            Entitlement.order_item_id.in_([item.id for item in items.values()]),
        )
    )
    by_item = {one.item.id: one for one in await _complete(session, list(rows))}
    for asked in item_ids:
        item = items.get(asked)
        if item is None or item.id not in by_item:
            raise NotFound("purchase", asked[:40])
        found[asked] = by_item[item.id]
    return found


async def _complete(session: AsyncSession, rows: Sequence[Entitlement]) -> list[Bought]:
    """Entitlements with their orders, items and files, in the same sequence."""
    their_orders = await orders.by_key(session, {row.order_id for row in rows})
    item_ids = [row.order_item_id for row in rows]
    items, files = await orders.items_of(session, item_ids), await orders.files(session, item_ids)
    withheld = await clips.withheld(session, {row.clip_id for row in rows})
    return [
        Bought(
            row,
            their_orders[row.order_id],
            items[row.order_item_id],
            files[row.order_item_id],
            row.clip_id in withheld,
        )
        for row in rows
    ]


async def _counts(session: AsyncSession, entitlement_ids: Collection[int]) -> dict[int, int]:
    rows = await session.execute(
        select(DownloadGrant.entitlement_id, func.count())
        .where(DownloadGrant.entitlement_id.in_(entitlement_ids))
        .group_by(DownloadGrant.entitlement_id)
    )
    return {key: count for key, count in rows}  # noqa: C416 (rows are not tuples to the type checker)


def _view(one: Bought, downloads: int) -> Purchase:
    return Purchase(
        item_id=one.item.uid,
        order_id=one.order.uid,
        order_number=one.order.number,
        clip_id=one.item.clip_uid,
        title=one.item.title,
        contributor=one.item.contributor,
        tier=one.item.tier,
        licence=one.item.licence,
        licensee=one.order.licensee,
        status=one.status,
        certificate=one.entitlement.certificate,
        bought_at=one.entitlement.created_at,
        downloads=downloads,
        files=[
            PurchaseFile(
                tier=file.tier,
                name=one.name(file),
                size=file.size,
                sha256=file.sha256,
                content_type=file.content_type,
                extension=file.extension,
                width=file.width,
                height=file.height,
                codec=file.codec,
            )
            for file in one.files
        ],
    )


# ---- fetching


async def issue(
    runtime: Runtime, user: Principal, wanted: Sequence[DownloadWish], asking: Asking
) -> list[Download]:
    """An address for each file, all recorded.

    Raises `NotFound` for an item that is not the caller's or a tier it does not include; then nothing is given.
    Items whose files are held back get a problem in place of an address; if there is nothing else, it is raised.
    """
    async with runtime.db.transaction() as session:
        bought = await own(session, user, [one.item_id for one in wanted])
    seconds = lasting(runtime)
    pairs = [(bought[one.item_id], bought[one.item_id].file(one.tier)) for one in wanted]
    refused = [barred(one) for one, _ in pairs]
    if all(refused):
        raise next(problem for problem in refused if problem is not None)
    keys = {file.key for (_, file), problem in zip(pairs, refused, strict=True) if problem is None}
    found = await asyncio.gather(*(runtime.store.head(key) for key in keys))
    stored = dict(zip(keys, found, strict=True))
    coming = await restoring.begin(
        runtime,
        [
            restoring.Wanted(one.order.id, file.key, info)
            for one, file in pairs
            if (info := stored.get(file.key)) is not None and info.archive
        ],
    )
    given: list[Download] = []
    grants: list[DownloadGrant] = []
    for (one, file), problem in zip(pairs, refused, strict=True):
        info = stored.get(file.key)
        problem = problem or missing(one, file, info) or _coming(one, file, coming)
        answer = Download(
            item_id=one.item.uid, tier=file.tier, name=one.name(file), size=file.size, sha256=file.sha256
        )
        if problem is not None:
            answer.problem = problem.problem()
        else:
            assert info is not None
            answer.url, answer.expires_in = address(runtime, one, file), seconds
            answer.etag = info.etag
            grants.append(_grant(runtime, one, file, asking))
        given.append(answer)
    async with runtime.db.transaction() as session:
        session.add_all(grants)
    return given


async def issue_one(runtime: Runtime, one: Bought, tier: str, asking: Asking) -> str:
    """The address of one file, recorded. Raises `Forbidden`, `Withheld`, `NotFound`, `FileMissing`, `Restoring`."""
    if (problem := barred(one)) is not None:
        raise problem
    file = one.file(tier)
    info = await runtime.store.head(file.key)
    if (gone := missing(one, file, info)) is not None:
        raise gone
    if info is not None and info.archive:
        coming = await restoring.begin(runtime, [restoring.Wanted(one.order.id, file.key, info)])
        if (problem := _coming(one, file, coming)) is not None:
            raise problem
    async with runtime.db.transaction() as session:
        session.add(_grant(runtime, one, file, asking))
    return address(runtime, one, file)


def barred(one: Bought) -> PalettaError | None:
    """Why the files of a purchase are not given out, if they are not."""
    if one.status == "withheld":
        return Withheld(
            f"`{one.item.clip_uid}` of order {one.order.number} is withheld for legal reasons: the shop had to take "
            "the clip down",
            hint="nothing is lost: it can be fetched again if the shop restores it; for your money back ask the shop",
        )
    if one.status == "suspended":
        return Suspended(
            f"the files of order {one.order.number} are held back while its payment is disputed",
            hint="they come back when the dispute ends in the shop's favour",
        )
    if one.status == "revoked":
        return Revoked(
            f"`{one.item.clip_uid}` of order {one.order.number} was refunded or charged back",
            hint="the licence ended with it; the clip can be bought again",
        )
    return None


def missing(one: Bought, file: OrderItemFile, info: ObjectInfo | None) -> PalettaError | None:
    """The trouble where the store does not have what was sold."""
    if info is not None and info.size == file.size:
        return None
    log.error("a sold file is not in the store", extra={"item": one.item.uid, "key": file.key})
    return FileMissing(
        f"the {file.tier} file of `{one.item.clip_uid}` is missing from the store",
        retry_after=60,
        hint="the shop has to mend this; tell them the order's number",
    )


def _coming(one: Bought, file: OrderItemFile, coming: Mapping[str, datetime]) -> PalettaError | None:
    """The wait for what is archived."""
    if file.key not in coming:
        return None
    return restoring.Restoring(f"the {file.tier} file of `{one.item.clip_uid}`", coming[file.key])


def address(runtime: Runtime, one: Bought, file: OrderItemFile) -> str:
    """An address that was signed for this file, and saves it under a safe name."""
    return runtime.store.delivery.file(
        file.key,
        seconds=runtime.settings.download_url_seconds,
        content_type=file.content_type,
        disposition=names.disposition(one.name(file)),
    )


def lasting(runtime: Runtime) -> int:
    """For how many seconds an address works."""
    return runtime.store.delivery.lasting(runtime.settings.download_url_seconds)


def _grant(runtime: Runtime, one: Bought, file: OrderItemFile, asking: Asking) -> DownloadGrant:
    return DownloadGrant(
        entitlement_id=one.entitlement.id,
        tier=file.tier,
        user_id=one.entitlement.user_id,
        via=asking.via,
        ip=asking.ip,
        client=asking.client[:MOST_CLIENT] if asking.client else None,
        expires_at=func.now() + timedelta(seconds=lasting(runtime)),
    )
