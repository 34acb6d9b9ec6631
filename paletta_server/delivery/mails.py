"""The words of the mails that orders cause, as text and as a page. A link stands alone on its line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from html import escape

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.core import money
from paletta_server.core.mail import Attachment, send_mail
from paletta_server.core.settings import Settings
from paletta_server.orders.models import Order, OrderItem

_SIGNATURE = "Paletta, stock video"
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_BARS = ("#c8553d", "#e0a458", "#4f8a8b")
_MOST_ITEMS = 40
"""Lines of a mail's list; an order of hundreds is better read in the terminal."""


@dataclass(frozen=True)
class Button:
    """A link that is the point of the mail."""

    label: str
    address: str


@dataclass(frozen=True)
class Command:
    """What to type in a terminal."""

    text: str


@dataclass(frozen=True)
class Rows:
    """A list: what, details below it, and an amount."""

    rows: Sequence[tuple[str, str, str]]


Block = str | Button | Command | Rows


@dataclass(frozen=True)
class Mail:
    subject: str
    blocks: Sequence[Block]
    url: str
    attachments: Sequence[Attachment] = field(default=())
    secret: bool = False

    @property
    def text(self) -> str:
        parts = [_as_text(block) for block in self.blocks]
        return "\n\n".join(parts) + f"\n\n-- \n{_SIGNATURE}\n{self.url}\n"

    @property
    def html(self) -> str:
        bars = "".join(
            f'<td style="width:9px;height:22px;background:{colour};border-radius:2px;font-size:0">&nbsp;</td>'
            '<td style="width:4px;font-size:0">&nbsp;</td>'
            for colour in _BARS
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.subject)}</title></head>"
            f'<body style="margin:0;padding:24px 12px;background:#f6f4ef;color:#1b1a17;{_FONT};'
            'font-size:16px;line-height:1.55">'
            '<table role="presentation" cellpadding="0" cellspacing="0" style="width:100%;max-width:560px;'
            'margin:0 auto;background:#ffffff;border:1px solid #e2ded3;border-radius:14px"><tr>'
            '<td style="padding:28px 28px 24px">'
            f'<table role="presentation" cellpadding="0" cellspacing="0"><tr>{bars}'
            '<td style="padding-left:6px;font-weight:650">Paletta</td></tr></table>'
            f'<h1 style="margin:22px 0 14px;font-size:23px;line-height:1.25">{escape(self.subject)}</h1>'
            + "".join(_as_html(block) for block in self.blocks)
            + f'<p style="margin:26px 0 0;padding-top:14px;border-top:1px solid #e2ded3;color:#625e55;'
            f'font-size:13px">{_SIGNATURE} · <a href="{escape(self.url)}" style="color:#625e55">'
            f"{escape(self.url)}</a></p></td></tr></table></body></html>\n"
        )


async def send(session: AsyncSession, to: str, mail: Mail, key: str) -> None:
    """Send a mail with the transaction, once for each `key`."""
    await send_mail(
        session,
        to=to,
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        attachments=mail.attachments,
        dedup_key=key,
        secret=mail.secret,
    )


def _line(text: str) -> str:
    """Somebody else's words on one line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _as_text(block: Block) -> str:
    if isinstance(block, Button):
        return f"{block.label}:\n\n{block.address}"
    if isinstance(block, Command):
        return f"    {block.text}"
    if isinstance(block, Rows):
        return "\n".join(
            f"  * {_line(what)}\n    {_line(about)}" + (f"\n    {amount}" if amount else "")
            for what, about, amount in block.rows
        )
    return block


def _as_html(block: Block) -> str:
    if isinstance(block, Button):
        return (
            f'<p style="margin:20px 0"><a href="{escape(block.address)}" style="display:inline-block;'
            "padding:12px 20px;background:#1f4e5f;color:#ffffff;text-decoration:none;font-weight:600;"
            f'border-radius:8px">{escape(block.label)}</a></p>'
        )
    if isinstance(block, Command):
        return (
            '<p style="margin:0 0 16px;padding:10px 12px;background:#f6f4ef;border:1px solid #e2ded3;'
            'border-radius:8px;font:14px/1.5 ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere">'
            f"{escape(block.text)}</p>"
        )
    if isinstance(block, Rows):
        rows = "".join(
            '<tr><td style="padding:9px 10px 9px 0;border-bottom:1px solid #e2ded3">'
            f'{escape(_line(what))}<br><span style="color:#625e55;font-size:13.5px">{escape(_line(about))}</span></td>'
            '<td style="padding:9px 0;border-bottom:1px solid #e2ded3;text-align:right;white-space:nowrap;'
            f'vertical-align:top">{escape(amount)}</td></tr>'
            for what, about, amount in block.rows
        )
        return (
            '<table role="presentation" cellpadding="0" cellspacing="0" style="width:100%;margin:0 0 18px">'
            f"{rows}</table>"
        )
    return f'<p style="margin:0 0 14px">{escape(block)}</p>'


def _amount(minor: int, currency: str) -> str:
    return f"{money.text(minor, currency)} {currency}"


def _rows(items: Sequence[OrderItem], currency: str) -> Rows:
    rows = [
        (item.title, f"{item.clip_uid}, {item.tier}, {item.licence} licence", _amount(item.amount, currency))
        for item in items[:_MOST_ITEMS]
    ]
    if len(items) > _MOST_ITEMS:
        rows.append((f"and {len(items) - _MOST_ITEMS:,} more", "the receipt lists them all", ""))
    return Rows(rows)


def confirmation(
    settings: Settings, order: Order, items: Sequence[OrderItem], address: str, receipt: Attachment
) -> Mail:
    total = _amount(order.total, order.currency)
    tax = f", {order.tax_name} {_amount(order.tax, order.currency)} included" if order.tax_name else ""
    return Mail(
        f"Order {order.number}: your clips are ready",
        [
            f"Thank you: order {order.number} is paid, {total}{tax}. The receipt is attached.",
            _rows(items, order.currency),
            Button("Download your clips", address),
            (f"The link is good for {settings.delivery_link_hours} hours. Or fetch everything in a terminal, checked "
            "to the last bit and with the licence certificates beside the files:"),
            Command(f"paletta orders download {order.number}"),
            ("Your purchases stay yours: the command works as long as the licence does, and "
            f"`paletta orders email {order.number}` sends a new link."),
        ],
        settings.public_url,
        attachments=(receipt,),
        secret=True,
    )  # fmt: skip


def link(settings: Settings, order: Order, address: str) -> Mail:
    return Mail(
        f"Order {order.number}: a new download link",
        [
            "Here is the page of your files again:",
            Button("Download your clips", address),
            f"The link is good for {settings.delivery_link_hours} hours. In a terminal there is no need for one:",
            Command(f"paletta orders download {order.number}"),
        ],
        settings.public_url,
        secret=True,
    )


def restored(settings: Settings, order: Order, address: str) -> Mail:
    return Mail(
        f"Order {order.number}: your originals are there",
        [
            "What was in our archive has come back, and can be fetched at once for a week:",
            Button("Download your clips", address),
            f"The link is good for {settings.delivery_link_hours} hours. In a terminal there is no need for one:",
            Command(f"paletta orders download {order.number}"),
            "Later you can have it as well: it takes some hours again then.",
        ],
        settings.public_url,
        secret=True,
    )


def refund(settings: Settings, order: Order, items: Sequence[OrderItem], receipt: Attachment) -> Mail:
    back = [
        (
            item.title,
            f"{item.clip_uid}, " + ("the licence has ended" if over else "the licence goes on"),
            _amount(item.refunded, order.currency),
        )
        for item in items
        if item.refunded
        for over in [item.refunded >= item.amount + item.tax and item.goodwill_at is None]
    ]
    blocks: list[Block] = [
        (
            f"In all, {_amount(order.refunded, order.currency)} of the {_amount(order.total, order.currency)} of order "
            f"{order.number} has gone back to you by now. Your bank may need a few days to show it."
        ),
        Rows(back),
        "The receipt as it stands now is attached. Files of a licence that has ended must not be used any more.",
    ]
    return Mail(f"Order {order.number}: refund", blocks, settings.public_url, attachments=(receipt,))


def dispute(settings: Settings, order: Order) -> Mail:
    return Mail(
        f"Order {order.number}: the payment is disputed",
        [
            (
                f"Your bank told us that the payment of order {order.number} is disputed. Until that is settled "
                "its files cannot be fetched and its licences rest."
            ),
            "If it was a mistake, tell your bank that the payment was yours: everything comes back by itself then.",
            Command(f"paletta orders show {order.number}"),
        ],
        settings.public_url,
    )


def returned(settings: Settings, order: Order) -> Mail:
    return Mail(
        f"Order {order.number}: your clips are yours again",
        [
            (
                f"The payment of order {order.number} stands: a dispute was settled, or a refund did not go through. "
                "Its licences are in force and its files can be fetched."
            ),
            Command(f"paletta orders download {order.number}"),
        ],
        settings.public_url,
    )


def extension(settings: Settings, order: Order, base: Order, status: str) -> Mail:
    """`status` of what order `base` gave, which `order` extended: suspended or revoked."""
    if status == "suspended":
        subject = f"Order {order.number}: held back with order {base.number}"
        why = (
            f"The payment of order {base.number} is disputed, and order {order.number} extends what it gave."
        )
        then = "Its files cannot be fetched and its licences rest until that is settled."
    else:
        subject = f"Order {order.number}: ended with order {base.number}"
        why = f"Order {base.number} was refunded or charged back, and order {order.number} extends what it gave."
        then = "You had paid the difference only, so that its licences have ended too. Write to us about your money."
    return Mail(subject, [why, then, Command(f"paletta orders show {order.number}")], settings.public_url)


def sales(settings: Settings, day: date, items: Sequence[tuple[OrderItem, str]]) -> Mail:
    """`items` with their currencies."""
    count = "a clip" if len(items) == 1 else f"{len(items):,} clips"
    rows = [
        (item.title, f"{item.clip_uid}, {item.tier}, {item.licence} licence", _amount(item.amount, currency))
        for item, currency in items[:_MOST_ITEMS]
    ]
    if len(items) > _MOST_ITEMS:
        rows.append((f"and {len(items) - _MOST_ITEMS:,} more", "", ""))
    return Mail(
        f"You sold {count} on {day.day} {day:%B}",
        [
            "These clips of yours were licensed (what the customer paid, before tax and our share):",
            Rows(rows),
        ],
        settings.public_url,
    )
