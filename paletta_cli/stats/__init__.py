"""`paletta admin stats`: reports as tables, charts and files."""
