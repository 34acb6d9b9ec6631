"""Words of any script on receipts and certificates."""

from __future__ import annotations

import pytest

from paletta_server.delivery.paper import fitted


@pytest.mark.parametrize(
    ("given", "printed", "foreign", "spelt"),
    [
        ("Zoë\n*Straw* *", "Zoë\n*Straw* *", False, False),
        ("東京 tram", "DongJing tram *", False, True),
        ("می\u200cخواهم", "می\u200cخواهم", True, False),
        ("Καλημέρα", "Καλημέρα", True, False),
        ("soft\u00adhyphen zero\u200bwidth \u202eturned", "softhyphen zerowidth turned", False, False),
        ("bell\x07", "bell ", False, False),
    ],
)
def test_what_is_printed(given: str, printed: str, foreign: bool, spelt: bool) -> None:
    assert fitted(given) == (printed, foreign, spelt)
