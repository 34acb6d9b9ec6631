"""What this account bought, and which file of each purchase is wanted where."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import PalettaError
from paletta_cli.shop import names
from paletta_cli.transfer.wanted import Wanted

if TYPE_CHECKING:
    from paletta_cli.api import Service

TIERS = ("hd", "uhd4k", "original")
CERTIFICATE = ".licence.pdf"


@dataclass(slots=True, eq=False)
class Chosen:
    """A purchase, the file of it that is wanted, and where it goes."""

    purchase: Mapping[str, Any]
    file: Mapping[str, Any]
    wanted: Wanted

    @property
    def certificate(self) -> PurePosixPath:
        """Where the licence certificate goes."""
        return certificate_beside(self.wanted.path)


def certificate_beside(path: PurePosixPath) -> PurePosixPath:
    """Where the licence certificate of a file goes: beside it, under its name."""
    return path.with_name(path.name.removesuffix(path.suffix) + CERTIFICATE)


def bought(
    service: "Service", orders: Collection[str] = (), clips: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Purchases of these clips, in any of these orders, or all of them, newest first; each once. Raises where there is
    nothing of a clip, or of an order of which everything is wanted."""
    seen: set[str] = set()
    missing = dict.fromkeys(clips or orders)
    for order in orders or ("",):
        for clip in clips or ("",):
            page: dict[str, Any] = {"limit": 200, "order": order or None, "clip": clip or None}
            for purchase in service.pages("/v1/me/purchases", **page):
                missing.pop(clip or order, None)
                if purchase["item_id"] not in seen:
                    seen.add(purchase["item_id"])
                    yield purchase
    for name in missing:
        raise _no_clip(name, within=orders) if clips else _nothing(service, name)


def _no_clip(name: str, *, within: Collection[str]) -> PalettaError:
    where = f"in order {' or '.join(within)}" if within else "among your purchases"
    return PalettaError(f"no clip `{name}` {where}", hint="see `paletta orders list`")


def _nothing(service: "Service", name: str) -> PalettaError:
    """Why there is nothing of an order: it is not paid."""
    from paletta_cli.api import segment

    order = service.get(f"/v1/orders/{segment(name)}")
    hint = f"`paletta orders pay {order['number']}`" if order["status"] == "pending" else None
    words = f"order {order['number']} is {order['status']}: there is nothing to download"
    return PalettaError(words, hint=hint)


def choose(
    purchases: Sequence[Mapping[str, Any]],
    layout: str,
    *,
    tier: str | None,
    kept: Mapping[str, PurePosixPath] | None = None,
    taken: Sequence[PurePosixPath] = (),
) -> list[Chosen]:
    """One file of each purchase: the best, or the best up to `tier`. No two share a place, or that of their licence.

    `kept` has places from before, by item id; `taken` those of files that are not to be touched.
    """
    found = []
    kept = _apart(kept or {})
    for purchase in purchases:
        file = _file(purchase, tier)
        place = kept.get(purchase["item_id"])
        values = {
            "order": purchase["order_number"],
            "clip": purchase["clip_id"],
            "title": purchase["title"],
            "ext": str(file["extension"]).lstrip("."),
            "tier": file["tier"],
            "licence": purchase["licence"],
            "contributor": purchase["contributor"],
            "item": purchase["item_id"],
        }
        wanted = Wanted(
            item_id=str(purchase["item_id"]),
            tier=str(file["tier"]),
            size=int(file["size"]),
            sha256=str(file["sha256"]),
            path=place or names.place(layout, values),
        )
        found.append(Chosen(purchase, file, wanted))
    places = [*(one.wanted.path for one in found), *taken]
    met = names.collisions(places) | names.collisions([certificate_beside(path) for path in places])
    for index in met:
        if index < len(found) and (one := found[index]).wanted.item_id not in kept:
            one.wanted.path = names.apart(one.wanted.path, one.wanted.item_id, one.wanted.tier)
    return found


def _apart(kept: Mapping[str, PurePosixPath]) -> dict[str, PurePosixPath]:
    """Those of the places whose licences do not meet: the first of each."""
    first: dict[str, str] = {}
    for item, path in kept.items():
        first.setdefault(names.same_name(certificate_beside(path)), item)
    return {item: kept[item] for item in first.values()}


def _file(purchase: Mapping[str, Any], tier: str | None) -> Mapping[str, Any]:
    files: Sequence[Mapping[str, Any]] = purchase["files"]
    if tier is not None:
        fitting = [file for file in files if TIERS.index(file["tier"]) <= TIERS.index(tier)]
        return fitting[-1] if fitting else files[0]
    return files[-1]
