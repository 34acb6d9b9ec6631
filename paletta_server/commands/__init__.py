"""What the subcommands of `paletta-server` do; `paletta_server/cli.py` declares them."""
