"""Saved lists of clips."""
