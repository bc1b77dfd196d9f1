"""Equality with the original implementations, on small random models whose outputs they computed."""
