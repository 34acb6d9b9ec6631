"""`paletta checkout`: from the cart to a paid order."""

from typing import Annotated

import typer

from paletta_cli.commands import Json, Yes

NoBrowser = Annotated[bool, typer.Option("--no-browser", help="print the page's address and a QR code only")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="do not wait for the payment")]
PayWith = Annotated[
    str | None,
    typer.Option(metavar="sandbox:OUTCOME", help="test services only: success, decline, …", hidden=True),
]


def checkout(
    by: Annotated[
        str | None, typer.Option("--by", metavar="GATEWAY", help="stripe, invoice or sandbox")
    ] = None,
    purchase_order: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="your reference, for an invoice")
    ] = None,
    licensee: Annotated[
        str | None, typer.Option(metavar="NAME", help="to whom the licences are made out")
    ] = None,
    no_browser: NoBrowser = False,
    no_wait: NoWait = False,
    pay_with: PayWith = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """order what is in the cart, and pay for it at the payment gateway

    Prices are fixed when the order is made. Interrupting the wait leaves the order payable.
    """
    import uuid

    from paletta_cli.api import connect
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output
    from paletta_cli.shop import paying, showing
    from paletta_cli.text import money

    out = Output(json=json)
    with connect() as service:
        cart = service.get("/v1/cart")
        if cart["items"] and not json:
            showing.show_cart(out, cart)
        if cart["items"] and not cart["acceptable"]:
            raise PalettaError(
                "the cart changed since you filled it", hint="agree to that with `paletta cart accept` first"
            )
        total = f"{money(cart['total'], cart['currency'])} {cart['currency']}"
        if cart["items"] and not out.confirm(f"order this for {total}?", yes=yes):
            raise typer.Exit(1)
        wish = {
            "gateway": by or ("sandbox" if pay_with else "invoice" if purchase_order else None),
            "purchase_order": purchase_order,
            "licensee": licensee,
            "expected_total": cart["total"] if cart["items"] else None,
        }
        # The key makes a repeated request the same order, so a lost answer is no second purchase.
        pay = service.request(
            "POST", "/v1/checkout", body=wish, headers={"Idempotency-Key": str(uuid.uuid4())}, idempotent=True
        )
        order = paying.settle(service, out, pay, paying.Ways(not no_browser, not no_wait, pay_with))
    out.data(order)
    paying.tell_paid(out, order)
