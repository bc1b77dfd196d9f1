"""Tests of `froster_hf.conversion`."""
