"""What `paletta admin` shows and asks, apart from its commands."""
