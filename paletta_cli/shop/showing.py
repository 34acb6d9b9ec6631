"""Carts and orders on a terminal of 80 columns."""

from collections.abc import Mapping
from typing import Any

from paletta_cli.output import Column, Output
from paletta_cli.text import money

_TIERS = {"hd": "HD", "uhd4k": "4K", "original": "original"}


def tier(name: str) -> str:
    """A tier as people say it."""
    return _TIERS.get(name, name)


def show_cart(out: Output, cart: Mapping[str, Any]) -> None:
    """The cart's clips and its total; what changed since a clip was put in stands beside it."""
    if out.mode == "json":
        out.data(cart)
        return
    currency = str(cart["currency"])
    rows = [{**item, "shown": _amount(item, currency)} for item in cart["items"]]
    columns = [
        Column("clip_id", "clip"),
        Column("title", "title"),
        Column("tier", "tier", show=tier),
        Column("licence", "licence"),
        Column("shown", "price", right=True),
    ]
    out.table(rows, columns, empty="the cart is empty: `paletta cart add CLIP…` fills it")
    for item in cart["items"]:
        if item["problem"]:
            out.warn(f"`{item['clip_id']}` {item['problem_text']}")
        elif item["credit"]:
            out.note(
                f"`{item['clip_id']}` is an upgrade: {money(item['price'], currency)} less the"
                f" {money(item['credit'], currency)} that you paid before"
            )
    if cart["items"]:
        show_total(out, cart)
    if cart["items"] and not cart["acceptable"]:
        out.hint("`paletta cart accept` takes the new prices and drops what is not for sale any more")


def _amount(item: Mapping[str, Any], currency: str) -> str:
    return "–" if item["due"] is None else money(item["due"], currency)


def show_total(out: Output, order: Mapping[str, Any]) -> None:
    """Subtotal, tax and total, of a cart or an order."""
    currency = str(order["currency"])
    if order["tax"]:
        out.note(f"subtotal {money(order['subtotal'], currency)}")
        out.note(f"{order['tax_name']} {_percent(str(order['tax_rate']))} {money(order['tax'], currency)}")
    out.note(f"total {money(order['total'], currency)} {currency}")


def _percent(rate: str) -> str:
    from decimal import Decimal

    return f"{(Decimal(rate) * 100).normalize():f} %"
