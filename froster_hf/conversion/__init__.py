"""Checkpoints in other layouts to and from this package's."""
