"""Tests of `froster_hf.processing`."""
