"""The `paletta` command: talks HTTP to the service, and presigned URLs to the object store."""

__version__ = "0.1.0"
