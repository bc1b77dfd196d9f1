"""Offline, seeded and fast; they mirror the package."""
