"""Receipts: what was bought, what was paid and what came back."""

from collections.abc import Sequence
from decimal import Decimal

from fpdf.enums import Align

from paletta_server.core import money
from paletta_server.delivery.certificates import TIER_NAMES, day
from paletta_server.delivery.paper import BAD, INK, LINE, MARGIN, SOFT, WIDTH, Colour, Paper
from paletta_server.orders.models import Order, OrderItem

_GATEWAYS = {
    "stripe": "card or another way through Stripe",
    "invoice": "invoice",
    "sandbox": "sandbox: no money moved",
}
_AMOUNT = 34.0


def file_name(order: Order) -> str:
    """`receipt-P-2026-000042.pdf`."""
    return f"receipt-{order.number}.pdf"


def pdf(order: Order, items: Sequence[OrderItem], *, email: str, public_url: str) -> bytes:
    """The receipt of a paid order."""
    paid = order.paid_at or order.created_at
    paper = Paper(
        f"Receipt {order.number}", made=paid, foot=f"Receipt for order {order.number} · {public_url}"
    )
    paper.headline("Receipt", f"Order {order.number}, paid on {day(paid)}")
    facts = [("Bought by", order.licensee), ("Account", email)]
    facts += [("Purchase order", order.purchase_order)] if order.purchase_order else []
    facts += [("Paid by", _GATEWAYS.get(order.gateway, order.gateway))]
    paper.facts(facts)
    paper.section("Licences")
    for item in items:
        _item(paper, order, item)
    paper.ln(3)
    _sum(paper, "Subtotal", _amount(order, order.subtotal))
    if order.tax_name is not None:
        percent = (Decimal(order.tax_rate) * 100).normalize()
        _sum(paper, f"{order.tax_name} {percent:f} %", _amount(order, order.tax))
    _sum(paper, "Total", f"{_amount(order, order.total)} {order.currency}", bold=True)
    if order.refunded:
        _sum(paper, "Given back", f"-{_amount(order, order.refunded)}", colour=BAD)
        left = order.total - order.refunded
        _sum(paper, "Paid in the end", f"{_amount(order, left)} {order.currency}", bold=True)
    paper.explain_transcription(f"paletta orders show {order.number}")
    return paper.printed()


def _item(paper: Paper, order: Order, item: OrderItem) -> None:
    paper.keep_together(16)
    top = paper.get_y()
    paper.set_xy(MARGIN, top + 2.2)
    paper.write_words(item.title, size=10.5, width=WIDTH - _AMOUNT - 4, height=5)
    words = f"{item.clip_uid} · {TIER_NAMES[item.tier]} · {item.licence} licence · by {item.contributor}"
    if item.credit:
        words += f" · {_amount(order, item.price)} less {_amount(order, item.credit)} paid before"
    paper.write_words(words, size=8.5, colour=SOFT, width=WIDTH - _AMOUNT - 4, height=4.4)
    bottom = paper.get_y() + 2.2
    paper.set_xy(MARGIN + WIDTH - _AMOUNT, top + 2.2)
    paper.write_words(_amount(order, item.amount), size=10.5, width=_AMOUNT, height=5, align=Align.R)
    if item.refunded:
        paper.set_x(MARGIN + WIDTH - _AMOUNT)
        back = f"-{_amount(order, item.refunded)} given back"
        paper.write_words(back, size=8.5, colour=BAD, width=_AMOUNT, height=4.4, align=Align.R)
    paper.set_draw_color(*LINE)
    paper.set_line_width(0.2)
    paper.line(MARGIN, bottom, MARGIN + WIDTH, bottom)
    paper.set_xy(MARGIN, bottom)


def _sum(paper: Paper, name: str, amount: str, *, bold: bool = False, colour: Colour = INK) -> None:
    paper.keep_together(8)
    top = paper.get_y()
    size = 11.5 if bold else 10
    paper.set_xy(MARGIN + WIDTH / 2, top)
    paper.write_words(
        name, size=size, bold=bold, colour=colour if bold else SOFT, width=WIDTH / 2 - 45, height=7
    )
    paper.set_xy(MARGIN + WIDTH - 45, top)
    paper.write_words(amount, size=size, bold=bold, colour=colour, width=45, height=7, align=Align.R)
    paper.set_x(MARGIN)


def _amount(order: Order, minor: int) -> str:
    return money.text(minor, order.currency)
