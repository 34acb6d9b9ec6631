"""What is for sale at which price, carts, and orders with their state machine."""
