"""A contributor's statement on a terminal of 80 columns, and as CSV."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paletta_cli.output import Column, Output
from paletta_cli.shop.showing import tier
from paletta_cli.text import cell, clean, money

if TYPE_CHECKING:
    from paletta_cli.api import Service

_SUMS = {
    "opening": "opening balance",
    "sales": "sales",
    "refunds": "refunds",
    "disputes": "disputes",
    "payouts": "payouts",
    "closing": "closing balance",
    "on_hold": "  on hold",
    "payable": "  payable",
    "in_transit": "paid out, on its way",
    "paid": "paid out, arrived",
}
_KINDS = {"payout_returned": "returned"}
_WIDTH = 16
"""Of a title: with everything else it leaves the line at 80 columns."""


def fetch(service: "Service", month: str | None) -> dict[str, Any]:
    """The statement with all of its lines, and the balances of now."""
    now = service.get("/v1/me/earnings")
    lines: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = service.get("/v1/me/earnings/statement", month=month, cursor=cursor, limit=200)
        lines += page["items"]
        cursor = page.get("next_cursor")
        if not cursor:
            return {**now, "month": page["month"], "sums": page["sums"], "lines": lines}


def show(out: Output, found: Mapping[str, Any]) -> None:
    """The month's sums, a column for each currency; then its lines."""
    if out.mode == "json":
        return out.data(found)
    sums = {one["currency"]: one for one in found["sums"]}
    if not sums:
        out.note(f"nothing earned until the end of {found['month']}")
        return None
    plain = out.mode == "plain"  # without the heading, which names the currency
    rows = [
        {
            "what": words,
            **{code: money(one[key], code) + (f" {code}" if plain else "") for code, one in sums.items()},
        }
        for key, words in _SUMS.items()
    ]
    columns = [Column("what", f"{found['month']} (UTC)")]
    out.table(rows, columns + [Column(currency, currency, right=True) for currency in sums])
    if found["lines"]:
        out.line("")
        _show_lines(out, found["lines"], named=plain or len(sums) > 1)
    return None


def _show_lines(out: Output, lines: Sequence[Mapping[str, Any]], *, named: bool) -> None:
    plain = out.mode == "plain"
    rows = [
        {
            "day": one["at"][:10] if plain else one["at"][5:10],
            "kind": _KINDS.get(one["kind"], one["kind"]),
            "clip": _clip(one, plain),
            "tier": tier(one["tier"]) if one["tier"] else "",
            "licence": one["licence"],
            "net": "" if one["net"] is None else money(one["net"], one["currency"]),
            "rate": f"{one['rate']} %" if one["rate"] else "",
            "royalty": money(one["royalty"], one["currency"]) + (f" {one['currency']}" if named else ""),
        }
        for one in lines
    ]
    columns = [
        Column("day", "day"),
        Column("kind", "what"),
        Column("clip", "clip"),
        Column("tier", "tier"),
        Column("licence", "licence"),
        Column("net", "net", right=True),
        Column("rate", "rate", right=True),
        Column("royalty", "royalty", right=True),
    ]
    out.table(rows, columns)


def _clip(line: Mapping[str, Any], whole: bool) -> str:
    title = clean(line["title"] or line["payout_id"] or "")
    return title if whole or len(title) <= _WIDTH else title[: _WIDTH - 1] + "…"


def hints(out: Output, found: Mapping[str, Any]) -> None:
    """What keeps money from being paid out."""
    if not found["payout_account"]:
        out.hint("`paletta profile payout set` says where to pay you")
    for one in found["balances"]:
        least = found["payout_minimum"]
        if 0 < one["payable"] < least:
            currency = one["currency"]
            out.note(f"payouts begin at {money(least, currency)} {currency}; until then it adds up")


_CELLS = (
    "at", "kind", "currency", "net", "rate", "royalty", "clip_id", "title", "tier", "licence", "item_id", "payout_id",
)  # fmt: skip


def as_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines for a spreadsheet, amounts as decimals."""
    import csv
    import io

    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(_CELLS)
    for one in lines:
        amounts = {
            key: "" if one[key] is None else money(one[key], one["currency"]) for key in ("net", "royalty")
        }
        words = {key: cell(one[key]) for key in _CELLS if key in one}
        writer.writerow([{**words, **amounts}[key] for key in _CELLS])
    return target.getvalue()
