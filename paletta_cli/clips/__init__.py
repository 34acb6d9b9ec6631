"""What the `paletta clips` commands are made of: fields from the command line, differences, previews, lists."""
