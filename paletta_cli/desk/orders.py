"""Everybody's orders on a terminal of 80 columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paletta_cli.desk.words import amount, day, fitted, left, moment, section, sheet, short, words
from paletta_cli.output import Column, Output
from paletta_cli.shop.showing import show_total, tier
from paletta_cli.text import money, plural

SHEET = (
    "number", "id", "status", "email", "licensee", "gateway", "purchase_order", "currency", "subtotal", "tax",
    "total", "refunded", "disputed", "item_count", "created_at", "paid_at", "closed_at",
)  # fmt: skip
_STYLES = {
    "paid": "green", "granted": "green", "succeeded": "green", "won": "green", "goodwill": "cyan",
    "refunded": "cyan", "pending": "yellow", "held back": "yellow", "awaiting approval": "yellow", "ended": "red",
    "failed": "red", "lost": "red", "surplus": "red",
}  # fmt: skip
_RIGHTS = {"granted": "granted", "suspended": "held back", "revoked": "ended"}
_SHOWN = 10
"""Lines of the downloads, mails and the trail; --json has more."""


def style(word: object) -> str:
    return _STYLES.get(words(word), "")


def show_list(out: Output, orders: Sequence[Mapping[str, Any]], *, csv: bool) -> None:
    """Number, status, customer, day, total; into a pipe also the rest."""
    if csv:
        return sheet(out, orders, SHEET)
    rows = [
        {
            **one,
            "state": words(one["status"]) + (", disputed" if one["disputed"] else ""),
            "sum": amount(one["total"], one["currency"]),
        }
        for one in orders
    ]
    columns = [
        Column("number", "order"),
        Column("state", "status", style=lambda word: _STYLES.get(str(word), "")),
        Column("email", "customer"),
        Column("created_at", "date", show=day),
        Column("sum", "total", right=True),
    ]
    if out.mode == "json":
        return out.data(list(orders))
    if out.mode == "plain":
        columns.append(Column("gateway"))
    return out.table(fitted(out, rows, columns, "email"), columns, empty="no orders fit")


def show(out: Output, order: Mapping[str, Any]) -> None:
    """Everything about one order, on one screen where there is little."""
    if out.mode == "json":
        return out.data(order)
    currency = str(order["currency"])
    facts = [
        Column("number", "order"),
        Column("id", "id"),
        Column("status", "status", show=words),
        Column("email", "customer"),
        Column("licensee", "licensee"),
        Column("created_at", "ordered", show=moment),
        Column("paid_at", "paid", show=moment),
        Column("closed_at", "closed", show=moment),
        Column("gateway", "paid by"),
        Column("purchase_order", "their number"),
    ]
    out.record(order, facts)
    _items(out, order["items"], currency)
    show_total(out, order)
    _money(out, order, currency)
    _history(out, order)
    for line in _next(order):
        out.hint(line)
    return None


def _items(out: Output, items: Sequence[Mapping[str, Any]], currency: str) -> None:
    rows = [
        {
            **item,
            "title": item["title"] + (f" (extends {item['upgrade_of']})" if item["upgrade_of"] else ""),
            "what": f"{tier(item['tier'])}, {item['licence']}",
            "state": "goodwill" if item["goodwill_at"] else _RIGHTS.get(item["right"] or "", ""),
            "sum": money(item["amount"] + item["tax"], currency),
            "back": money(item["refunded"], currency) if item["refunded"] else "",
        }
        for item in items
    ]
    columns = [
        Column("id", "item", show=short if out.mode == "table" else None),
        Column("title", "title"),
        Column("what", ""),
        Column("state", "right", style=style),
        Column("downloads", "fetched", right=True) if any(item["downloads"] for item in items) else None,
        Column("sum", "paid", right=True),
        Column("back", "back", right=True) if any(item["refunded"] for item in items) else None,
    ]
    shown = [column for column in columns if column is not None]
    section(out, "items", fitted(out, rows, shown, "title"), shown)


def _money(out: Output, order: Mapping[str, Any], currency: str) -> None:
    payments = [
        {
            **one,
            "sums": ", ".join(
                f"{name} {money(one[key], currency)}"
                for key, name in (
                    ("captured", "captured"),
                    ("refunded", "back"),
                    ("pending_refunds", "reserved"),
                    ("disputed", "disputed"),
                )
                if one[key]
            ),
        }
        for one in order["payments"]
    ]
    where = Column("reference", "at the gateway", wrap=True)
    state = Column("status", "status", show=words, style=style)
    section(
        out,
        "payments",
        payments,
        [Column("id", "payment"), state, Column("sums", "sums", wrap=True), where],
    )
    for one in order["payments"]:
        if one["failure"] and not one["captured"]:  # an attempt before the one that paid is history
            out.warn(f"{one['id']}: {one['failure']}")
    refunds = [
        {**one, "sum": money(one["amount"], currency), "why": one["failure"] or one["reason"]}
        for one in order["refunds"]
    ]
    section(
        out,
        "refunds",
        refunds,
        [
            Column("id", "refund"),
            state,
            Column("sum", "amount", right=True),
            Column("created_at", "date", show=day),
            Column("why", "why", wrap=True),
        ],
    )
    disputes = [{**one, "sum": money(one["amount"], currency)} for one in order["disputes"]]
    section(
        out,
        "disputes",
        disputes,
        [
            Column("id", "dispute"),
            state,
            Column("sum", "amount", right=True),
            Column("due_by", "due", show=left),
            Column("response", "answer", show=words),
        ],
    )


def _history(out: Output, order: Mapping[str, Any]) -> None:
    titles = {item["id"]: item["clip_id"] for item in order["items"]}
    at = Column("at", "at", show=moment)
    downloads = [
        {**one, "clip": titles.get(one["item_id"], ""), "where": f"{one['ip'] or '?'} {one['client'] or ''}"}
        for one in order["downloads"]
    ]
    _last(
        out,
        "downloads",
        downloads,
        [at, Column("clip"), Column("tier", show=tier), Column("via"), Column("where", "from", wrap=True)],
    )
    mails = [
        {**one, "state": "sent" if one["sent_at"] else one["error"] or "waits"} for one in order["mails"]
    ]
    _last(
        out,
        "mails",
        mails,
        [Column("created_at", "at", show=moment), Column("subject", wrap=True), Column("state", "")],
    )
    trail = [{**one, "by": one["by"] or "the service", "what": _details(one)} for one in order["trail"]]
    _last(
        out,
        "trail",
        trail,
        [at, Column("action"), Column("by", wrap=True), Column("what", "", wrap=True)],
    )


def _last(out: Output, title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    shown = rows[-_SHOWN:] if out.mode == "table" else rows
    more = len(rows) - len(shown)
    section(out, f"{title}, the newest {_SHOWN}" if more else title, shown, columns)


def _details(entry: Mapping[str, Any]) -> str:
    left_out = ("payment", "refund", "dispute", "currency")
    details = entry["details"]
    if isinstance(details.get("amount"), int) and "currency" in details:
        details = {**details, "amount": amount(details["amount"], str(details["currency"]))}
    return ", ".join(
        f"{words(key)} {value}"
        for key, value in details.items()
        if key not in left_out and value not in (None, False, "")
    )


def _next(order: Mapping[str, Any]) -> Iterator[str]:
    """What an operator may want to do now."""
    number = order["number"]
    if order["status"] == "pending" and order["gateway"] == "invoice":
        yield f"`paletta admin orders mark-paid {number}` when the money has arrived"
    for one in order["refunds"]:
        if one["status"] == "awaiting_approval":
            yield f"`paletta admin refunds approve {one['id']}`: it waits for a second operator"
        elif one["status"] == "pending" and one["by_hand"]:
            yield f"`paletta admin refunds mark-sent {one['id']}` when you have sent it by bank"
    for one in order["disputes"]:
        if one["outcome"] is None and one["response"] == "none":
            yield f"`paletta admin disputes show {one['id']}`: an answer is due {left(one['due_by'])}"


def show_attention(out: Output, found: Mapping[str, Any]) -> None:
    """What needs a person: each in a line or two, with the command that helps."""
    if out.mode == "json":
        return out.data(found)
    if out.mode == "plain":
        columns = [
            Column("subject"),
            Column("kind"),
            Column("order"),
            Column("since"),
            Column("words"),
            Column("hint"),
        ]
        return out.table(found["items"], columns, empty="nothing needs you")
    for one in found["items"]:
        number = f"{one['order']}: " if one["order"] else ""
        out.line(f"{number}{one['words']}  ({day(one['since'])}, {one['subject']})")
        out.line(f"  {one['hint']}")
    if not found["items"]:
        out.note("nothing needs you")
        return None
    out.note(plural(len(found["items"]), "thing") + (", and more of a kind" if found["more"] else ""))
    out.hint('`paletta admin orders looked-at SUBJECT --note "…"` takes one off the list')
    return None
