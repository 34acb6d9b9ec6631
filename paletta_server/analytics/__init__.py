"""What an operator wants to know of the shop: events and the books, added up by day."""
