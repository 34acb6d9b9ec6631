"""The HTML of the sandbox's page. It looks like a checkout and says on every view that it is none."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from fastapi.responses import HTMLResponse

from paletta_server.core import money
from paletta_server.core.pages import page
from paletta_server.payments.sandbox.models import SandboxCheckout, SandboxDispute

_STYLE = files(__package__).joinpath("page.css").read_text("utf-8")
_BANNER = '<p class="test" role="note"><b>Test page.</b> No card is asked for and no money moves.</p>\n'


def unknown() -> HTMLResponse:
    return _page("No such checkout", "<p>This address is not one of ours, or was mistyped.</p>", status=404)


def checkout(found: SandboxCheckout) -> HTMLResponse:
    failed = (
        f'<p class="problem" role="alert">{escape(_sentence(found.failure))}</p>' if found.failure else ""
    )
    amount = _amount(found.amount, found.currency)
    return _page(
        "Pay",
        f"""{_bill(found)}{failed}
        <form method="post" action="/sandbox/checkout/{escape(found.reference)}">
          <button name="action" value="success">Pay {amount}</button>
          <button class="plain" name="action" value="authenticate">Pay, and let the bank ask first</button>
          <button class="plain" name="action" value="decline">Have the card declined</button>
          <button class="plain" name="action" value="dispute">Pay, and dispute it later</button>
          <button class="plain" name="action" value="abandon">Leave without paying</button>
          {_DELIVERY}
        </form>""",
    )


def authentication(found: SandboxCheckout) -> HTMLResponse:
    return _page(
        "Your bank asks",
        f"""{_bill(found)}
        <p>Was it you who wants to pay {_amount(found.amount, found.currency)}?</p>
        <form method="post" action="/sandbox/checkout/{escape(found.reference)}">
          <button name="action" value="authenticated">Yes, it was me</button>
          <button class="plain" name="action" value="decline">No</button>
          {_DELIVERY}
        </form>""",
    )


def over(found: SandboxCheckout, disputes: Sequence[SandboxDispute]) -> HTMLResponse:
    back = f'<p><a href="{escape(found.request["return_url"])}">Back to the shop</a></p>'
    if not found.captured:
        return _page(
            "This checkout is over", f"{_bill(found)}<p>It was closed, or waited for too long.</p>{back}"
        )
    return _page("Paid", f"{_bill(found)}{back}{_quarrel(found, disputes)}")


def _quarrel(found: SandboxCheckout, disputes: Sequence[SandboxDispute]) -> str:
    """What can still happen to a payment."""
    form = f'<form method="post" action="/sandbox/checkout/{escape(found.reference)}">'
    if not disputes:
        return f"""<h2>Later</h2>{form}
          <button class="plain" name="action" value="dispute">Dispute this payment at the bank</button>
          {_DELIVERY}
        </form>"""
    status = disputes[-1].status
    if status not in ("needs_response", "under_review"):
        winner = "The shop" if status == "won" else "The customer"
        return f"<h2>Disputed</h2><p>{winner} won the dispute.</p>"
    said = "The bank has taken the money back and waits for the shop's evidence."
    if status == "under_review":
        said = "The bank has the money and the shop's evidence, and decides."
    return f"""<h2>Disputed</h2><p>{said}</p>{form}
          <button class="plain" name="action" value="dispute-won">Let the shop win</button>
          <button class="plain" name="action" value="dispute-lost">Let the customer win</button>
          {_DELIVERY}
        </form>"""


_DELIVERY = """<details>
            <summary>How the shop hears of it</summary>
            <label for="copies">Each event is delivered</label>
            <select id="copies" name="copies">
              <option value="1">once</option><option value="2">twice</option><option value="3">three times</option>
              <option value="0">never</option>
            </select>
            <label for="delay">and comes</label>
            <select id="delay" name="delay">
              <option value="0">at once</option><option value="10">after 10 seconds</option>
              <option value="60">after a minute</option>
            </select>
            <label class="tick"><input type="checkbox" name="backwards" value="true"> the last one first</label>
          </details>"""


def _bill(found: SandboxCheckout) -> str:
    rows = "".join(
        f"<tr><td>{escape(line['title'])}</td><td>{_amount(line['amount'], found.currency)}</td></tr>"
        for line in found.request["lines"]
    )
    return f"""<table><caption>Order {escape(found.request["order"])}</caption>
        <tbody>{rows}</tbody>
        <tfoot><tr><th scope="row">Total</th><td>{_amount(found.amount, found.currency)}</td></tr></tfoot>
        </table>"""


def _amount(minor: int, currency: str) -> str:
    return f"{money.text(minor, currency)} {escape(currency)}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _page(title: str, content: str, *, status: int = 200) -> HTMLResponse:
    return page(title, content, status=status, style=_STYLE, banner=_BANNER)
