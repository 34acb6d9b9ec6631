"""Review by moderators: plain commands, and the full-screen queue."""
