"""Refunds on a terminal: what one would do, asking for it, and what became of it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paletta_cli.desk.orders import style
from paletta_cli.desk.words import amount, day, fitted, left, moment, parse_amount, sheet, short, words
from paletta_cli.errors import UsageError
from paletta_cli.output import Column, Output
from paletta_cli.text import money

if TYPE_CHECKING:
    from paletta_cli.api import Service

SHEET = (
    "id", "order", "status", "currency", "amount", "keep", "reason", "gateway", "reference", "failure", "requested_by",
    "created_at", "decided_by", "decided_at",
)  # fmt: skip
_RIGHTS = {
    "stays": "the licence goes on",
    "ends": "the licence ends",
    "goodwill": "the licence goes on, as goodwill",
    "has ended": "the licence has ended already",
}


def wish(
    order: Mapping[str, Any],
    *,
    items: Sequence[str],
    amount_: str | None,
    everything: bool,
    keep: bool,
    reason: str,
) -> dict[str, Any]:
    """The body that asks for a refund. Raises UsageError unless exactly one way of saying how much was used."""
    currency = str(order["currency"])
    ways = [bool(items), amount_ is not None, everything]
    if sum(ways) != 1:
        raise UsageError(
            "say how much: --all, --amount AMOUNT, or --item ITEM[=AMOUNT] once or more",
            hint=f"`paletta admin orders show {order['number']}` lists the items",
        )
    body: dict[str, Any] = {"reason": reason, "keep": keep}
    if amount_ is not None:
        body["amount"] = parse_amount(amount_, currency, option="--amount")
    if items:
        body["items"] = {}
        for text in items:
            item, named, sum_ = text.partition("=")
            if item in body["items"]:
                raise UsageError(f"--item: `{item}` is named twice")
            body["items"][item] = parse_amount(sum_, currency, option="--item") if named else None
    return body


def show_plan(out: Output, plan: Mapping[str, Any]) -> None:
    """What a refund would do, on stderr: it is not the result."""
    currency = str(plan["currency"])
    rows = [
        {
            "id": one["id"],
            "title": one["title"],
            "back": money(one["amount"], currency),
            "left": money(one["left"], currency),
            "right": _RIGHTS.get(one["right"], one["right"]),
        }
        for one in plan["items"]
    ]
    out.summary(
        rows,
        [
            Column("id", "item"),
            Column("title", "title", wrap=True),
            Column("back", "back", right=True),
            Column("left", "left", right=True),
            Column("right", "", wrap=True),
        ],
    )
    out.note(f"{amount(plan['amount'], currency)} of order {plan['order']} goes back")
    for one in plan["items"]:
        if one["downloads"] and one["right"] == "ends":
            out.note(
                f"`{one['clip_id']}` was fetched {one['downloads']} times: the copies stay where they are"
            )
    if plan["approval"]:
        out.note("the amount needs a second operator: it waits for them, reserved")


def show_unanswered(out: Output, order: Mapping[str, Any], asked: Mapping[str, Any], asked_at: str) -> None:
    """What was asked before and not answered, on stderr: this is asked again, whatever a plan would say today."""
    currency = str(order["currency"])
    titles = {item["id"]: item["title"] for item in order["items"]}
    rows = [
        {"id": item, "title": titles.get(item, ""), "back": money(part, currency)}
        for item, part in asked["items"].items()
    ]
    columns = [
        Column("id", "item"),
        Column("title", "title", wrap=True),
        Column("back", "back", right=True),
    ]
    out.summary(rows, columns)
    sum_ = amount(sum(asked["items"].values()), currency)
    out.note(f"{sum_} of order {order['number']} were asked for at {moment(asked_at)} UTC")
    out.note("what became of it is not known: it is asked again, and not done twice")


def show_list(out: Output, refunds: Sequence[Mapping[str, Any]], *, csv: bool) -> None:
    """Refunds, newest first."""
    if csv:
        return sheet(out, refunds, SHEET)
    if out.mode == "json":
        return out.data(list(refunds))
    rows = [{**one, "sum": amount(one["amount"], one["currency"])} for one in refunds]
    columns = [
        Column("id", "refund", show=short if out.mode == "table" else None),
        Column("order", "order"),
        Column("status", "status", show=words, style=style),
        Column("sum", "amount", right=True),
        Column("created_at", "date", show=day),
        Column("reason", "reason"),
    ]
    return out.table(fitted(out, rows, columns, "reason"), columns, empty="no refunds fit")


def show(out: Output, refund: Mapping[str, Any]) -> None:
    """One refund, and what can be done about it."""
    currency = str(refund["currency"])
    shown = {
        **refund,
        "sum": amount(refund["amount"], currency),
        "parts": ", ".join(f"{item} {money(part, currency)}" for item, part in refund["items"].items()),
        "rights": "what it gives back whole stays the customer's" if refund["keep"] else None,
    }
    columns = [
        Column("id", "refund"),
        Column("order", "order"),
        Column("status", "status", show=words),
        Column("sum", "amount"),
        Column("parts", "items"),
        Column("rights", "goodwill"),
        Column("reason", "reason"),
        Column("requested_by", "asked by"),
        Column("created_at", "asked", show=moment),
        Column("decided_by", "decided by"),
        Column("decided_at", "decided", show=moment),
        Column("reference", "at the gateway"),
        Column("failure", "failure"),
    ]
    out.record(refund if out.mode == "json" else shown, columns)
    if refund["status"] == "awaiting_approval":
        out.hint(
            f"`paletta admin refunds approve {refund['id']}` by another operator, "
            f"{left(refund['expires_at'])} at the latest"
        )
    elif refund["status"] == "pending" and refund["by_hand"]:
        out.hint(_send_it(refund))
    elif refund["status"] == "failed":
        out.hint(f"the money did not go back: `paletta admin refunds create {refund['order']}` tries again")


def tell(out: Output, refund: Mapping[str, Any]) -> None:
    """How a refund stands that was just asked for or decided about."""
    sum_ = amount(refund["amount"], str(refund["currency"]))
    said = {
        "awaiting_approval": f"{refund['id']} waits for a second operator: {sum_}",
        "requested": f"{refund['id']}: {sum_} is on its way; the gateway does not answer, it is asked again",
        "pending": f"{refund['id']}: {sum_} is on its way",
        "succeeded": f"{refund['id']}: {sum_} went back",
        "rejected": f"{refund['id']} is rejected; the {sum_} is free again",
        "failed": f"{refund['id']} failed: {refund['failure']}",
    }
    by_hand = refund["status"] == "pending" and refund["by_hand"]
    if by_hand:
        said["pending"] = f"{refund['id']}: {sum_} are to be sent by bank; the customer is told when you have"
    out.data(refund)
    out.line(said.get(refund["status"], f"{refund['id']}: {words(refund['status'])}"))
    if by_hand:
        out.hint(_send_it(refund))


def _send_it(refund: Mapping[str, Any]) -> str:
    return (
        f"`paletta admin refunds mark-sent {refund['id']} --reference TRANSFER` when you have sent it by bank"
    )


def find_order(service: "Service", order: str) -> Any:
    """An order as operators see it."""
    from paletta_cli.api import segment

    return service.get(f"/v1/admin/orders/{segment(order)}")
