"""From an order to its payment: the gateway's page, in a browser or by QR code, and the wait for it.

No card number ever comes near this program: people type it at the gateway. Interrupting the wait changes
nothing, the order stays payable.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import Interrupted, NotLiveYet, PalettaError, UsageError
from paletta_cli.output import Output
from paletta_cli.text import money

if TYPE_CHECKING:
    from paletta_cli.api import Service

_POLL = 25  # seconds that a long poll may take; proxies cut idle requests at 30 or 60
_PAUSE = 0.5
_PAID = ("paid", "partially_refunded", "refunded")


@dataclass(frozen=True)
class Ways:
    """How to go on. `pay_with` is a test gateway's outcome, such as `sandbox:success`."""

    browser: bool = True
    wait: bool = True
    pay_with: str | None = None


def settle(service: "Service", out: Output, pay: Mapping[str, Any], ways: Ways) -> Mapping[str, Any]:
    """Have an order paid and wait for it; the order as it is then.

    Raises PalettaError when the order ended unpaid, NotLiveYet when it still waits, Interrupted with the way on.
    """
    order: Mapping[str, Any] = pay["order"]
    number = str(order["number"])
    out.note(f"order {number}: {money(order['total'], order['currency'])} {order['currency']}")
    if pay["message"]:
        out.note(pay["message"])
    if ways.pay_with is not None:
        _pay_in_test(service, order, ways.pay_with)
    elif pay["url"] and order["status"] == "pending":
        _show_page(out, str(pay["url"]), browser=ways.browser)
    if order["gateway"] == "invoice" or not ways.wait:
        return order
    try:
        order = _wait(service, out, order)
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(f"the order stays payable: `paletta orders pay {number}`") from None
    return _judged(order)


def tell_paid(out: Output, order: Mapping[str, Any]) -> None:
    """How to go on with a paid order."""
    if order["status"] == "paid":
        out.note(f"paid: `paletta orders download {order['number']}` fetches the clips")


def _judged(order: Mapping[str, Any]) -> Mapping[str, Any]:
    number, status = order["number"], order["status"]
    if status in _PAID:
        return order
    if status == "pending":
        raise NotLiveYet(
            f"order {number} is not paid yet", hint=f"`paletta orders pay {number}` shows the page again"
        )
    raise PalettaError(
        f"order {number} was {status} before it was paid", hint="fill the cart again with `paletta cart add`"
    )


def _show_page(out: Output, url: str, *, browser: bool) -> None:
    """The page to pay at: opened where there is a browser, printed in any case, as a QR code on a terminal."""
    from paletta_cli.settings import checked_url

    checked_url(url)
    out.note("pay here:")
    out.note(url)
    if not sys.stderr.isatty():
        return
    import webbrowser

    if not (browser and webbrowser.open(url)):
        import segno

        # Half blocks: two modules per character, so that it fits 80 × 24 and scans in both colour schemes.
        lines = _qr_lines(segno.make(url, error="l"))
        out.note("\n".join(lines))
        out.hint(f"scan it with a phone, or open {url}")


def _qr_lines(code: Any) -> list[str]:
    """A QR code as lines of half blocks, dark on light whatever the terminal's colours."""
    import io

    drawn = io.StringIO()
    code.terminal(drawn, compact=True, border=2)
    return drawn.getvalue().splitlines()


def _pay_in_test(service: "Service", order: Mapping[str, Any], pay_with: str) -> None:
    """Press a button of the test gateway's page. Raises PalettaError when that does not pay the order."""
    gateway, colon, outcome = pay_with.partition(":")
    if not colon or gateway != "sandbox":
        raise UsageError(f"`--pay-with {pay_with}` names no test", hint="such as sandbox:success")
    answer = service.post(f"/v1/orders/{order['id']}/sandbox", {"action": outcome})
    if answer["status"] == "authenticating":
        raise PalettaError(
            "the bank asks whether it was you",
            hint="`--pay-with sandbox:authenticated` says yes, `--pay-with sandbox:decline` no",
        )
    if answer["status"] != "complete":
        raise PalettaError(
            answer["failure"] or f"the order is not paid: the checkout is {answer['status']}",
            hint=f"the order stays payable: `paletta orders pay {order['number']}`",
        )


def _wait(service: "Service", out: Output, order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow the order by long poll until it is not pending, or its time is over."""
    import time
    from datetime import UTC, datetime

    out.note("waiting for the payment …")
    path = f"/v1/orders/{order['id']}/wait"
    patience = (datetime.fromisoformat(str(order["expires_at"])) - datetime.now(UTC)).total_seconds() + 120
    deadline = time.monotonic() + max(patience, _POLL)
    found = order
    while found["status"] == "pending" and time.monotonic() < deadline:
        asked = time.monotonic()
        found = service.get(path, status="pending", wait=_POLL, timeout=_POLL + 30.0)
        if found["status"] == "pending" and time.monotonic() - asked < _PAUSE:
            time.sleep(_PAUSE)  # a service about to stop answers at once
    return found
