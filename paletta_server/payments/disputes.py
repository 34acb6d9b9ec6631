"""What a gateway's words for a dispute mean to us. The words are Stripe's; unknown ones are kept and mean "open".

Money moves when the bank takes it, which is not when a dispute is opened: an inquiry (`warning_…`) takes none.
"""

from typing import Final

OUTCOMES: Final = {
    "won": "won",
    "lost": "lost",
    "warning_closed": "withdrawn",
    "prevented": "withdrawn",
}
"""The words that close a dispute."""


def reopens(before: str, after: str) -> bool:
    """Whether a closed dispute is open again. Late news of how it once stood does not open it: only an appeal
    does, and a prevented one that went to the bank after all."""
    return after.startswith("appeal_") or (before == "prevented" and after != "prevented")


def holds_back(outcome: str | None, withdrawn: int) -> bool:
    """Whether the files of a disputed order wait for the end: the bank has the money, and nobody has won."""
    return outcome is None and withdrawn > 0


def takes_away(outcome: str | None, withdrawn: int) -> bool:
    """Whether the customer has the money back for good: a lost dispute, or one that was settled by paying."""
    return outcome == "lost" or (outcome == "withdrawn" and withdrawn > 0)


def wants_answer(status: str) -> bool:
    """Whether the bank waits for evidence of ours."""
    return status in ("needs_response", "warning_needs_response", "appeal_needs_response")


def blocks_refunds(status: str, outcome: str | None) -> bool:
    """While the bank decides, a refund would give the same money back twice. An inquiry may be settled by one."""
    return outcome is None and not status.startswith("warning_")
