"""Licence certificates: who may use which clip, under which terms, and what anybody can check it against."""

from datetime import datetime

import segno

from paletta_server.core.errors import PalettaError
from paletta_server.delivery.paper import BAD, FIELD, INK, MARGIN, SOFT, WIDTH, Paper
from paletta_server.delivery.purchases import Bought
from paletta_server.delivery.schemas import CertificateView, CertifiedFile
from paletta_server.orders.price_book import Licence

TIER_NAMES = {"hd": "HD", "uhd4k": "UHD 4K", "original": "Original"}


def view(one: Bought) -> CertificateView:
    """What the certificate of a purchase says, and whether it is in force."""
    status = one.status
    return CertificateView(
        code=one.entitlement.certificate,
        status="valid" if status == "granted" else status,
        revoked_at=one.entitlement.ended_at,
        order_number=one.order.number,
        issued_at=one.entitlement.created_at,
        licensee=one.order.licensee,
        clip_id=one.item.clip_uid,
        title=one.item.title,
        contributor=one.item.contributor,
        tier=one.item.tier,
        licence=one.item.licence,
        editorial=one.item.editorial,
        files=[CertifiedFile(tier=file.tier, size=file.size, sha256=file.sha256) for file in one.files],
    )


def address(public_url: str, code: str) -> str:
    """Where anybody can check a certificate."""
    return f"{public_url}/v1/certificates/{code}"


def not_in_force(one: Bought, barred: PalettaError) -> str:
    """What stands above a certificate whose files are not given out. What is withheld is still licensed: whether it may
    be used is not for a certificate to say."""
    return f"{'Files withheld' if one.status == 'withheld' else 'Not in force'}: {barred.detail}."


def file_name(one: Bought) -> str:
    """`licence-clip_7h3k9m2qxw4t-P-2026-000042.pdf`."""
    return f"licence-{one.item.clip_uid}-{one.order.number}.pdf"


def pdf(one: Bought, licence: Licence, *, public_url: str, barred: PalettaError | None) -> bytes:
    """The certificate as a PDF. `barred` is why its files are not given out, if they are not: it is printed on it."""
    code, where = one.entitlement.certificate, address(public_url, one.entitlement.certificate)
    paper = Paper(
        f"Licence certificate {code}",
        made=one.entitlement.created_at,
        foot=f"Certificate {code} · order {one.order.number} · {one.item.clip_uid}",
    )
    paper.headline(
        "Licence certificate", "This certifies that the licensee named here may use the clip named here."
    )
    if barred is not None:
        paper.write_words(not_in_force(one, barred), size=11, bold=True, colour=BAD)
        paper.ln(3)
    seats = "any number of people" if licence.seats is None else _people(licence.seats)
    paper.facts(
        [
            ("Licensee", one.order.licensee),
            ("Clip", one.item.title),
            ("Clip number", one.item.clip_uid),
            ("Contributor", one.item.contributor),
            ("Licence", f"{licence.name} ({seats})"),
            ("Resolution", _tier(one)),
            ("Order", f"{one.order.number}, {day(one.order.paid_at or one.entitlement.created_at)}"),
        ]
    )
    paper.explain_transcription(where)
    paper.section("Terms")
    paper.write_words(licence.terms, size=10, colour=INK, height=5.2)
    if one.item.editorial:
        paper.ln(2)
        words = "Editorial use only: the clip shows news or public interest without releases, and may not advertise."
        paper.write_words(words, size=10, bold=True, height=5.2)
    paper.section("Files (SHA-256)")
    for file in reversed(one.files):
        paper.write_words(f"{TIER_NAMES[file.tier]}, {file.size:,} bytes", size=9, colour=SOFT, height=4.8)
        paper.write_words(file.sha256, size=8.6, mono=True, height=5)
        paper.ln(1.5)
    _verification(paper, code, where)
    return paper.printed()


def _verification(paper: Paper, code: str, where: str) -> None:
    """The code, large enough to type, beside a square to point a telephone at."""
    height = 34.0
    paper.keep_together(height + 5)
    paper.ln(5)
    top = paper.get_y()
    paper.set_fill_color(*FIELD)
    paper.rect(MARGIN, top, WIDTH, height, style="F", round_corners=True, corner_radius=2)
    side = height - 8
    _square(paper, where, MARGIN + WIDTH - side - 4, top + 4, side)
    paper.set_xy(MARGIN + 6, top + 5)
    paper.write_words("Check this certificate", size=9, colour=SOFT, width=WIDTH - side - 16)
    paper.set_xy(MARGIN + 6, top + 11)
    paper.write_words(code, size=14, bold=True, width=WIDTH - side - 16, height=7)
    paper.set_xy(MARGIN + 6, top + 20)
    paper.write_words(where, size=8.2, colour=SOFT, width=WIDTH - side - 16, height=4.2)
    paper.set_xy(MARGIN, top + height)


def _square(paper: Paper, text: str, left: float, top: float, side: float) -> None:
    """A QR code, drawn as rectangles."""
    matrix = [list(row) for row in segno.make(text, error="m", micro=False).matrix]
    step = side / len(matrix)
    paper.set_fill_color(*INK)
    for y, row in enumerate(matrix):
        x = 0
        while x < len(row):
            run = 0
            while x + run < len(row) and row[x + run]:
                run += 1
            if run:
                # A hair more than its place, so that no reader draws white lines between neighbours.
                paper.rect(left + x * step, top + y * step, run * step + 0.02, step + 0.02, style="F")
            x += max(run, 1)


def _tier(one: Bought) -> str:
    file = one.file(None)
    size = f", {file.width} × {file.height}" if file.width and file.height else ""
    return TIER_NAMES[one.item.tier] + size


def _people(count: int) -> str:
    return "one person" if count == 1 else f"up to {count:,} people"


def day(when: datetime) -> str:
    return f"{when.day} {when:%B %Y}"
