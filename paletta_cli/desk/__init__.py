"""The operators' desk: everybody's orders, refunds and disputes as people see them."""
