"""The file that goes to the bank."""

import csv
import io
from collections.abc import Sequence

from paletta_server.core import money
from paletta_server.earnings.models import Payout

COLUMNS = ("payout", "holder", "account", "bic", "country", "currency", "amount", "reference")


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP, CSV injection): an apostrophe before what begins like
    one."""
    return f"'{cell}" if cell.lstrip()[:1] in ("=", "+", "-", "@") or cell[:1] in ("\t", "\r", "\n") else cell


def document(payouts: Sequence[Payout]) -> str:
    """A line for each payout that is in transit: what arrived or failed must not be transferred again."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in payouts:
        if one.status == "in_transit":
            amount = money.text(one.amount, one.currency)
            cells = (one.uid, one.holder, one.number, one.bic or "", one.country, one.currency, amount)
            writer.writerow([harmless(cell) for cell in (*cells, f"Paletta {one.uid}")])
    return target.getvalue()
