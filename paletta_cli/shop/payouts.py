"""Payouts on an operator's terminal of 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from paletta_cli.output import Column, Output
from paletta_cli.text import money

_WHY = {
    "below_minimum": "below the minimum",
    "owes": "owes it after refunds",
    "no_details": "no payout account",
    "disabled": "account disabled",
    "deleted": "account deleted",
    "erased": "account erased",
}
_STATUS = {"in_transit": "on its way"}
_PLAN = [
    Column("does", ""),
    Column("email", "contributor", wrap=True),
    Column("shown", "payable", right=True),
    Column("held", "on hold", right=True),
    Column("why", "to, or why not"),
]
_PAYOUTS = [
    Column("id", "payout"),
    Column("status", "status", show=lambda status: _STATUS.get(status, str(status))),
    Column("email", "contributor", wrap=True),
    Column("shown", "amount", right=True),
    Column("why", "to, or why not", wrap=True),
]


def show_plan(out: Output, made: Mapping[str, Any]) -> None:
    """Who would be paid what, as the result."""
    if out.mode == "json":
        return out.data(made)
    out.table(_plan_rows(made), _PLAN, empty="nothing is payable to anybody")
    return _totals(out, made["totals"], "to be paid")


def note_plan(out: Output, made: Mapping[str, Any]) -> None:
    """The same beside the result, before it is agreed to."""
    out.summary(_plan_rows(made), _PLAN, heading=False)
    _totals(out, made["totals"], "to be paid")


def show_run(out: Output, found: Mapping[str, Any]) -> None:
    """A run's payouts and what they come to."""
    if out.mode == "json":
        return out.data(found)
    show_payouts(out, found["items"])
    return _totals(out, found["totals"], f"in run {found['id']}")


def show_payouts(out: Output, payouts: Sequence[Mapping[str, Any]]) -> None:
    """Payouts and what became of them."""
    if out.mode == "json":
        return out.data(list(payouts))
    rows = [{**one, "shown": _with_currency(one), "why": one["failure"] or one["account"]} for one in payouts]
    return out.table(rows, _PAYOUTS)


def amounts(totals: Mapping[str, int]) -> str:
    """`120.00 EUR, 80.00 USD`."""
    return ", ".join(f"{money(amount, currency)} {currency}" for currency, amount in sorted(totals.items()))


def units(minor: int | None) -> str:
    """Whole minor units as they are, for whoever looks for a difference."""
    return "nothing" if minor is None else str(minor)


def _plan_rows(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **line,
            "does": "pay" if line["outcome"] == "pay" else "skip",
            "shown": _with_currency(line),
            "held": money(line["on_hold"], line["currency"]),
            "why": line["account"]
            if line["outcome"] == "pay"
            else _WHY.get(line["outcome"], line["outcome"]),
        }
        for line in made["lines"]
    ]


def _with_currency(one: Mapping[str, Any]) -> str:
    return f"{money(one['amount'], one['currency'])} {one['currency']}"


def _totals(out: Output, totals: Mapping[str, int], words: str) -> None:
    if totals:
        out.note(f"{amounts(totals)} {words}")
