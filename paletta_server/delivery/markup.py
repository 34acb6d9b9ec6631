"""The HTML of the page behind a mailed download link."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

from fastapi.responses import HTMLResponse

from paletta_server.core.errors import PalettaError
from paletta_server.core.pages import page
from paletta_server.delivery import certificates, purchases, restoring
from paletta_server.delivery.purchases import Bought
from paletta_server.orders.models import Order, OrderItemFile

_STYLE = files(__package__).joinpath("pages.css").read_text("utf-8")


def order_page(
    order: Order, bought: Sequence[Bought], secret: str, *, until: str, coming: Mapping[str, datetime]
) -> HTMLResponse:
    """An order's files, each with its size, checksum and button, and the command that fetches them all. What is
    `coming` from the archive (by key) has its time in place of the button."""
    open_ = sum(purchases.barred(one) is None for one in bought)
    rows = "".join(_item(one, secret, coming) for one in bought)
    size = sum(one.file(None).size for one in bought if purchases.barred(one) is None)
    what = "1 clip" if open_ == 1 else f"{open_} clips"
    lead = (
        f"<p>{what}, {_size(size)} at the best resolution, licensed to <b>{escape(order.licensee)}</b>. "
        f"This page works until {escape(until)}; looking does not use it up.</p>"
        if open_
        else "<p>Nothing of this order can be fetched at present.</p>"
    )
    command = (
        "<p>All of it in a terminal, checked to the last bit, resumed where it was cut, with the licence "
        "certificates beside the files:</p>"
        f'<p class="command"><code>paletta orders download {escape(order.number)}</code></p>'
        "<p>After a download by button, <code>sha256sum FILE</code> shows the checksum above.</p>"
        if open_
        else ""
    )
    return page(f"Order {order.number}", f'{lead}<ul class="files">{rows}</ul>{command}', style=_STYLE)


def _item(one: Bought, secret: str, coming: Mapping[str, datetime]) -> str:
    about = f"{escape(one.item.clip_uid)} · by {escape(one.item.contributor)} · {escape(one.item.licence)} licence"
    problem = purchases.barred(one)
    if problem is not None:
        inside = f'<p class="state">{escape(_sentence(problem.detail))}</p>'
    else:
        best_first = list(reversed(one.files))
        inside = "".join(_file(one, file, secret, coming.get(file.key)) for file in best_first)
        code = escape(one.entitlement.certificate)
        inside += (
            f'<div class="file"><p><b>Licence certificate</b><br>PDF · {code}</p>'
            f'<a href="/orders/{escape(secret)}/certificates/{escape(one.item.uid)}">Licence PDF</a></div>'
        )
    return f'<li><h2>{escape(one.item.title)}</h2><p class="about">{about}</p>{inside}</li>'


def _file(one: Bought, file: OrderItemFile, secret: str, ready_at: datetime | None) -> str:
    facts = [_size(file.size)]
    facts += [f"{file.width} × {file.height}"] if file.width and file.height else []
    facts += [escape(file.codec)] if file.codec else []
    name = certificates.TIER_NAMES[file.tier]
    if ready_at is not None:
        words = f"On its way back from the archive: there {restoring.expected(ready_at)}. A mail tells you."
        return f'<div class="file"><p><b>{name}</b> · {" · ".join(facts)}<br>{escape(words)}</p></div>'
    address = f"/orders/{escape(secret)}/files/{escape(one.item.uid)}/{escape(file.tier)}"
    return (
        f'<div class="file"><p><b>{name}</b> · {" · ".join(facts)}'
        f'<span class="sum">SHA-256 {escape(file.sha256)}</span></p>'
        f'<a class="button" href="{address}" rel="nofollow" aria-label="Download {name} of {escape(one.item.title)}">'
        "Download</a></div>"
    )


def expired_page(order: Order, secret: str) -> HTMLResponse:
    """The link's time is over; its buyer gets a new one by mail, whoever presses the button."""
    return page(
        "This link has expired",
        f"""<p>The files of order <b>{escape(order.number)}</b> are still yours. A new link goes to the address
        that bought them:</p>
        <form method="post" action="/orders/{escape(secret)}/mail"><button>Mail a new link</button></form>
        <p></p><p>Or in a terminal: <code>paletta orders download {escape(order.number)}</code></p>""",
        status=410,
    )


def mailed_page(order: Order) -> HTMLResponse:
    return page(
        "A new link is on its way",
        f"<p>It goes to the address that bought order <b>{escape(order.number)}</b>. Look into your mail.</p>",
    )


def withdrawn_page(order: Order) -> HTMLResponse:
    return page(
        "These files are no longer available",
        f"<p>Order <b>{escape(order.number)}</b> was refunded or charged back, and its licences ended with it.</p>"
        f"<p>What happened is in <code>paletta orders show {escape(order.number)}</code></p>",
        status=410,
    )


def unknown_page() -> HTMLResponse:
    return page(
        "There is nothing here",
        "<p>This is not one of our links, or it was cut when it was copied: take it from the mail as a whole.</p>"
        "<p>Your files are also in the terminal: <code>paletta orders list</code></p>",
        status=404,
    )


def certificate_page(one: Bought) -> HTMLResponse:
    """What the certificate in somebody's hand says, to be compared with the paper, and whether it is in force."""
    barred = purchases.barred(one)
    if barred is None:
        state = "<p><b>In force.</b> Compare what follows with the paper.</p>"
    else:
        words = certificates.not_in_force(one, barred)
        state = f'<p class="problem" role="alert">{escape(words)}</p>'
    files = "".join(
        f'<div class="file"><p><b>{certificates.TIER_NAMES[file.tier]}</b> · {_size(file.size)}'
        f'<span class="sum">SHA-256 {escape(file.sha256)}</span></p></div>'
        for file in reversed(one.files)
    )
    editorial = " · editorial use only" if one.item.editorial else ""
    return page(
        f"Licence certificate {one.entitlement.certificate}",
        f"""{state}<p>Licensed to <b>{escape(one.order.licensee)}</b>, order {escape(one.order.number)},
        {certificates.day(one.entitlement.created_at)}</p>
        <ul class="files"><li><h2>{escape(one.item.title)}</h2><p class="about">{escape(one.item.clip_uid)}
        · by {escape(one.item.contributor)} · {escape(one.item.licence)} licence{editorial}</p>{files}</li></ul>
        <p>The sums are of the files that were sold: <code>sha256sum FILE</code> shows a file's own.</p>""",
        style=_STYLE,
    )


def no_certificate_page() -> HTMLResponse:
    return page(
        "There is no such certificate",
        "<p>No certificate of ours has this code. Compare it with the paper, letter by letter.</p>",
        status=404,
    )


def problem_page(error: PalettaError) -> HTMLResponse:
    words = " ".join(_sentence(text) for text in (error.detail, error.hint) if text)
    return page(
        "That did not work", f'<p class="problem" role="alert">{escape(words)}</p>', status=error.status
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _size(count: float) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"
