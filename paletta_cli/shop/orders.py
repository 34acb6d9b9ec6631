"""Orders on a terminal of 80 columns, and their papers on the disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import PalettaError, UsageError
from paletta_cli.output import Column, Output
from paletta_cli.shop import names
from paletta_cli.shop.showing import show_total, tier
from paletta_cli.text import money, size
from paletta_cli.transfer.landing import Folder

if TYPE_CHECKING:
    from paletta_cli.api import Service

_STYLES = {"paid": "green", "pending": "yellow", "granted": "green", "suspended": "yellow", "revoked": "red"}
_RIGHTS = {"granted": "yours", "suspended": "held back", "withheld": "withheld", "revoked": "ended"}
_REFUNDS = {
    "requested": "on its way",
    "pending": "on its way",
    "succeeded": "done; banks take some days",
    "failed": "did not go through",
}
WITHHELD = "is withheld for legal reasons: the shop had to take the clip down"


def show_list(out: Output, orders: Sequence[Mapping[str, Any]]) -> None:
    """Number, status, date, how many clips, total."""
    if out.mode == "json":
        return out.data(list(orders))
    rows = [{**one, "amount": _with_currency(one["total"], one)} for one in orders]
    columns = [
        Column("number", "order"),
        Column("status", "status", show=_words, style=_style),
        Column("created_at", "date", show=_day),
        Column("item_count", "clips", right=True),
        Column("amount", "total", right=True),
    ]
    return out.table(rows, columns, empty="no orders yet: `paletta search` finds clips")


def show_order(out: Output, order: Mapping[str, Any]) -> None:
    """What was bought, what became of it, and what it came to."""
    if out.mode == "json":
        return out.data(order)
    facts = [
        Column("number", "order"),
        Column("id", "id"),
        Column("status", "status", show=_words),
        Column("created_at", "ordered", show=_moment),
        Column("paid_at", "paid", show=_moment),
        Column("expires_at", "to pay until", show=_moment) if order["status"] == "pending" else None,
        Column("gateway", "paid by"),
        Column("purchase_order", "your number"),
        Column("licensee", "licensee"),
    ]
    out.record(order, [column for column in facts if column is not None])
    out.line("")
    rows = [_row(item, order) for item in order["items"]]
    columns = [
        Column("clip_id", "clip"),
        Column("title", "title"),
        Column("tier", "tier", show=tier),
        Column("licence", "licence"),
        Column("right", "", style=lambda word: {"yours": "green", "ended": "red"}.get(word, "yellow")),
        Column("due", "price", right=True),
    ]
    out.table(rows, columns)
    show_total(out, order)
    for refund in order["refunds"]:
        amount, day = _with_currency(refund["amount"], order), _day(refund["created_at"])
        out.note(f"refund of {amount} on {day}: {_REFUNDS[refund['status']]}")
    if order["refunded"]:
        out.note(f"given back {_with_currency(order['refunded'], order)}")
    for item in order["items"]:
        if item["entitlement"] == "withheld":
            out.warn(f"`{item['clip_id']}` {WITHHELD}")
    if any(item["entitlement"] == "granted" for item in order["items"]):
        volume = size(
            sum(item["files"][-1]["size"] for item in order["items"] if item["entitlement"] == "granted")
        )
        out.hint(f"`paletta orders download {order['number']}` fetches them, {volume}")
    elif order["status"] == "pending":
        out.hint(f"`paletta orders pay {order['number']}`")
    return None


def _row(item: Mapping[str, Any], order: Mapping[str, Any]) -> dict[str, Any]:
    due = money(item["amount"], order["currency"])
    if item["refunded"]:
        due += f" (-{money(item['refunded'], order['currency'])})"
    return {**item, "right": _RIGHTS.get(item["entitlement"] or "", ""), "due": due}


def the_purchase(service: "Service", text: str) -> Mapping[str, Any]:
    """The one purchase that an item's or a clip's id (or its beginning) means. Raises PalettaError."""
    if text.startswith("item_"):
        found = [
            one for one in service.pages("/v1/me/purchases", limit=200) if one["item_id"].startswith(text)
        ]
    else:
        clip = text if text.startswith("clip_") else f"clip_{text}"
        found = list(service.pages("/v1/me/purchases", limit=200, clip=clip))
    if not found:
        raise PalettaError(f"no purchase `{text}`", hint="`paletta orders show ORDER` shows your clips")
    if len(found) > 1:
        ids = ", ".join(f"{one['item_id']} ({one['order_number']})" for one in found[:5])
        raise PalettaError(f"`{text}` fits more than one purchase", hint=f"name one of {ids}")
    return found[0]


def save(out: Output, data: bytes, to: Path | None, name: str, *, force: bool) -> None:
    """Write a paper; without `to` under its own name here. Raises UsageError where a file is in the way."""
    path = to if to is not None else Path(names.safe(name))
    if to is not None and to.is_dir():
        path = to / names.safe(name)
    with Folder.open(path.parent) as folder:
        if folder.regular(path.name) is not None and not force:
            raise UsageError(
                f"`{path}` exists", hint="name another file with --to, or overwrite it with --force"
            )
        folder.write(path.name, data, replace=force)
    out.data({"path": str(path), "size": len(data)})
    out.line(path)


def _with_currency(minor: int, order: Mapping[str, Any]) -> str:
    return f"{money(minor, order['currency'])} {order['currency']}"


def _words(status: str) -> str:
    return str(status).replace("_", " ")


def _style(status: str) -> str:
    return _STYLES.get(status, "")


def _day(moment: str | None) -> str:
    return (moment or "")[:10]


def _moment(moment: str | None) -> str:
    return (moment or "")[:16].replace("T", " ")
