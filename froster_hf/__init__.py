"""Open-vocabulary action recognition with CLIP towers that know time (FROSTER, ICLR 2024)."""

__version__ = "0.1.0"
