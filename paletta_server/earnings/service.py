"""Earnings as the rest of the shop sees them."""

from paletta_server.earnings.checking import Difference, differences
from paletta_server.earnings.posting import catch_up, post, post_again, release_due

__all__ = ["Difference", "catch_up", "differences", "post", "post_again", "release_due"]
