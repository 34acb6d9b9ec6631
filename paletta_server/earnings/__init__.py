"""What contributors earn: royalties in an append-only ledger, statements, and paying out."""
