"""Finding clips: an index behind an interface, kept in step from the database."""
