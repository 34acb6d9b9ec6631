"""Earnings as the rest of the shop sees them."""

from paletta_server.earnings.checking import Difference, Page, differences, page
from paletta_server.earnings.posting import catch_up, post, post_again, release_due

__all__ = ["Difference", "Page", "catch_up", "differences", "page", "post", "post_again", "release_due"]
