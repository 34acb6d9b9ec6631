"""Buying: carts, orders and payments as people see them."""
